package probe

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"alfred/healthcheck/wire"
)

const defaultRedisPort = "6379"

// A redisTarget is a Redis URL, taken apart.
type redisTarget struct {
	network, address string
	host             string // for TLS; empty without
	user, password   string
	auth             bool // there are credentials
	db               string
}

// parseRedis reads the value of --redis: redis://, rediss:// (TLS), valkey://, valkeys://, unix://.
func parseRedis(env *environment, c *Check, x expanded) error {
	scheme, _, ok := strings.Cut(x.text, "://")
	if !ok {
		return Usagef(hintURL("redis://", x, "--redis redis://localhost:6379"), "a URL begins with redis://, rediss:// or unix://")
	}
	scheme = strings.ToLower(scheme)
	switch scheme {
	case "redis", "rediss", "valkey", "valkeys", "unix":
	default:
		return wrongScheme("redis", scheme, "redis://, rediss://, valkey://, valkeys:// or unix://")
	}
	u, err := url.Parse(x.text)
	if err != nil { // never shown: it holds the URL
		if authority, _, _ := strings.Cut(x.text[len(scheme)+len("://"):], "/"); strings.Contains(authority[strings.LastIndexByte(authority, '@')+1:], ",") {
			return errSeveralHosts
		}
		return Usagef(badURL, "the URL is not valid")
	}
	if strings.Contains(u.Host, ",") {
		return errSeveralHosts
	}
	if err := checkHost(u.Host); err != nil {
		return err
	}
	if strings.Contains(u.EscapedPath()+u.RawQuery, "@") { // user-info ended before it was meant to
		return Usagef("as in redis://user:password@localhost:6379 or unix://user:password@/run/redis.sock; percent-encode what is special in the password, or insert it with ${VAR}",
			"an @ stands behind the host")
	}
	if err := checkPath(u.EscapedPath()); err != nil {
		return err
	}
	if u.Fragment != "" || strings.HasSuffix(x.text, "#") {
		return Usagef("percent-encode a # as %23, or insert the password with ${VAR}", "a URL of Redis has no # part")
	}
	t := redisTarget{network: "tcp"}
	path := strings.TrimPrefix(u.EscapedPath(), "/")
	if scheme == "unix" {
		if u.Path == "" || u.Host != "" {
			return Usagef("as in unix:///run/redis.sock?db=1", "the path of a socket is wanted")
		}
		t.network, t.address, path = "unix", u.Path, ""
	} else {
		if err := checkPort(u.Port(), u.Port() != ""); err != nil {
			return err
		}
		if strings.Contains(u.Hostname(), ":") && u.Host[0] != '[' {
			return Usagef("as in redis://[::1]:6379", "an IPv6 address stands between [ and ]")
		}
		host := cmp.Or(u.Hostname(), "localhost")
		t.address = net.JoinHostPort(host, cmp.Or(u.Port(), defaultRedisPort))
		if strings.HasSuffix(scheme, "s") && scheme != "redis" {
			t.host = host
		}
	}
	if err := t.parseQuery(u, path); err != nil {
		return err
	}
	if u.User != nil {
		name := u.User.Username()
		password, hasPassword := u.User.Password()
		switch {
		case hasPassword:
			t.user, t.password, t.auth = name, password, true
		case name != "":
			t.password, t.auth = name, true // a lone pass@ is the default user's password
		}
	}
	if password, given := one(u, "password"); given {
		if t.password != "" && t.password != password {
			return Usagef("write it once", "the password before @ and the one in ?password= differ")
		}
		t.password, t.auth = password, true
	}
	if t.password == "" {
		t.password = env.get("REDISCLI_AUTH")
		t.auth = t.user+t.password != "" // a user with nopass has an empty one
	}
	c.redact.add(t.password)
	switch {
	case t.host != "":
		c.plain = "use " + strings.TrimSuffix(scheme, "s") + "://"
	case t.network == "tcp":
		c.secure = "use " + scheme + "s://"
	}

	shown := &url.URL{Scheme: scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	if scheme == "unix" {
		if t.db != "0" {
			shown.RawQuery = "db=" + t.db
		}
	} else {
		shown.Host, shown.Path, shown.RawPath = t.address, "", ""
		if t.db != "0" {
			shown.Path = "/" + t.db
		}
	}
	c.redact.show(t.db, u.Hostname())
	if t.user != "" && !x.user {
		shown.User = url.User(t.user)
		c.redact.show(t.user)
	}
	c.Target = shown.String()
	for _, inserted := range x.inPath { // of a socket
		c.Target = strings.ReplaceAll(c.Target, wire.PercentEncode(inserted, "/"), mask)
		c.redact.add(inserted)
	}
	if t.user != "" && x.user { // it may be a password that was inserted in the wrong place
		c.Target = strings.Replace(c.Target, "://", "://"+mask+"@", 1)
		c.redact.add(t.user)
	}
	c.probe = func(ctx context.Context, r *run) *failure { return probeRedis(ctx, r, env, t) }
	return nil
}

var errSeveralHosts = Usagef("give each server a check of its own", "one host is wanted, not a list")

// parseQuery reads the database from the path or the query, and refuses what else stands in the query.
func (t *redisTarget) parseQuery(u *url.URL, path string) error {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Usagef("as in ?db=1", "the part behind ? is not valid")
	}
	for name, list := range values {
		if name != "db" && name != "password" {
			return Usagef("known are db and password", "an unknown parameter behind ?")
		}
		if len(list) > 1 && list[0] != list[1] {
			return Usagef("write it once", "%s stands twice behind ?", name)
		}
	}
	fromQuery, given := one(u, "db")
	if path != "" && given && path != fromQuery {
		return Usagef("write it once", "the database in the path and the one in ?db= differ")
	}
	if n, err := strconv.ParseUint(cmp.Or(path, fromQuery, "0"), 10, 31); err == nil {
		t.db = strconv.FormatUint(n, 10)
		return nil
	}
	return Usagef("as in redis://localhost:6379/1", "the database is not a number")
}

// one is a query parameter's value, and whether it is there.
func one(u *url.URL, name string) (value string, given bool) {
	list, given := u.Query()[name]
	if given {
		value = list[0]
	}
	return value, given
}

// probeRedis asks for a PONG: AUTH and SELECT before it only where the URL wants them.
func probeRedis(ctx context.Context, r *run, env *environment, t redisTarget) *failure {
	conn, f := dial(ctx, r, t.network, t.address)
	if f != nil {
		return f
	}
	defer func() { conn.Close() }()
	if t.host != "" {
		tlsConn, f := handshake(r, conn, env.tls.config(t.host))
		if f != nil {
			return f
		}
		conn = tlsConn
	}
	client := wire.NewRedis(conn)
	if t.auth {
		args := []string{"AUTH", t.password}
		if t.user != "" {
			args = []string{"AUTH", t.user, t.password}
		}
		if f := expect(r, client, PhaseAuth, "OK", args...); f != nil {
			return f
		}
	}
	if t.db != "0" {
		if f := expect(r, client, PhaseReply, "OK", "SELECT", t.db); f != nil {
			return f
		}
	}
	if f := expect(r, client, PhaseReply, "PONG", "PING"); f != nil {
		return f
	}
	r.Message = "PONG"
	return nil
}

// expect sends one command and fails unless the reply is want.
func expect(r *run, client *wire.Redis, phase Phase, want string, args ...string) *failure {
	got, err := client.Do(args...)
	var refused *wire.RedisError
	switch {
	case errors.As(err, &refused) && refused.Line == "":
		return fail(phase, "an error reply without words")
	case errors.As(err, &refused) && phase == PhaseAuth:
		return fail(redisErrorPhase(refused, phase), r.authReply(refused.Line))
	case errors.As(err, &refused):
		return r.failIO(redisErrorPhase(refused, phase), err)
	case err != nil:
		return r.failIO(phase, err)
	case got != want && phase == PhaseAuth:
		return fail(phase, args[0]+` was answered with "`+r.authReply(got)+`", want "`+want+`"`)
	case got != want:
		return fail(phase, args[0]+` was answered with "`+r.clean(got)+`", want "`+want+`"`)
	}
	return nil
}

// authReply is what is shown of a reply to AUTH, which may repeat a part of the password that is too short to be recognised: one of
// Redis' own texts, or else its first word, the code.
func (r *run) authReply(line string) string {
	if text, ok := r.Check.redact.knownText(line); ok {
		return cut(escapeUnprintable(text), maxMessage)
	}
	code, rest, _ := strings.Cut(line, " ")
	if strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || r.Check.redact.holds(code) {
		return "…"
	}
	if rest != "" {
		code += " …"
	}
	return code
}

// redisErrorPhase is the phase that the code of an error reply names, else that of the command.
func redisErrorPhase(e *wire.RedisError, command Phase) Phase {
	switch e.Code() {
	case "NOAUTH", "WRONGPASS", "NOPERM", "DENIED":
		return PhaseAuth
	case "LOADING", "MASTERDOWN", "BUSY":
		return PhaseReply
	}
	if strings.Contains(e.Line, "max number of clients") {
		return PhaseReply
	}
	return command
}
