package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"alfred/healthcheck/wire"
)

// A pgTarget is a PostgreSQL URI with every default in place.
type pgTarget struct {
	uri       *wire.PGURI
	hosts     []wire.PGHost
	passwords []string // one for each host, "" where there is none
	login     wire.Login
	tls       tlsSetup
	verify    bool // that the server's certificate is of a known CA
}

// pgEnvironment are the variables of libpq (PostgreSQL documentation 34.15) that stand for parameters.
var pgEnvironment = []struct{ variable, param string }{
	{"PGHOST", "host"}, {"PGHOSTADDR", "hostaddr"}, {"PGPORT", "port"}, {"PGUSER", "user"}, {"PGDATABASE", "dbname"},
	{"PGPASSWORD", "password"}, {"PGPASSFILE", "passfile"}, {"PGCONNECT_TIMEOUT", "connect_timeout"}, {"PGSSLMODE", "sslmode"},
	{"PGSSLROOTCERT", "sslrootcert"}, {"PGSSLCERT", "sslcert"}, {"PGSSLKEY", "sslkey"}, {"PGSSLNEGOTIATION", "sslnegotiation"},
	{"PGCHANNELBINDING", "channel_binding"}, {"PGREQUIREAUTH", "require_auth"}, {"PGTARGETSESSIONATTRS", "target_session_attrs"},
	{"PGAPPNAME", "application_name"}, {"PGOPTIONS", "options"},
}

// parsePostgres reads the value of --postgres. What the URI leaves out comes from --tls-*, then from libpq's environment
// variables and files, then from libpq's defaults.
func parsePostgres(env *environment, c *Check, x expanded) error {
	u, err := wire.ParsePGURI(x.text)
	if err != nil {
		return pgUsage("", err)
	}
	home := env.get("HOME")
	defaults := []struct{ where, param, value string }{
		{"--tls-ca", "sslrootcert", env.opts.CA}, {"--tls-cert", "sslcert", env.opts.Cert}, {"--tls-key", "sslkey", env.opts.Key},
	}
	for _, v := range pgEnvironment {
		defaults = append(defaults, struct{ where, param, value string }{v.variable, v.param, env.get(v.variable)})
	}
	if home != "" {
		for _, f := range []struct{ param, name string }{{"sslrootcert", "root.crt"}, {"sslcert", "postgresql.crt"}, {"sslkey", "postgresql.key"}} {
			if path := filepath.Join(home, ".postgresql", f.name); exists(path) {
				defaults = append(defaults, struct{ where, param, value string }{path, f.param, path})
			}
		}
		defaults = append(defaults, struct{ where, param, value string }{"~/.pgpass", "passfile", filepath.Join(home, ".pgpass")})
	}
	for _, d := range defaults {
		if err := u.SetDefault(d.param, d.value); err != nil {
			return pgUsage(d.where+": ", err)
		}
	}
	if err := u.Check(); err != nil {
		return pgUsage("", err)
	}
	t := &pgTarget{uri: u}
	if t.hosts, err = u.Hosts(); err != nil {
		return pgUsage("", err)
	}
	if err := t.setLogin(); err != nil {
		return err
	}
	if err := t.setTLS(env); err != nil {
		return err
	}
	for _, h := range t.hosts {
		password := u.Get("password")
		if password == "" {
			password = fromPassfile(u.Get("passfile"), h, t.login.Database, t.login.User)
		}
		t.passwords = append(t.passwords, password)
		c.redact.add(password)
	}
	c.redact.allow(t.login.User, t.login.Database)
	c.Target = u.Target()
	c.probe = t.probe
	return nil
}

func pgUsage(where string, err error) error {
	var e *wire.PGURIError
	if errors.As(err, &e) {
		return Usagef(e.Hint, "%s%s", where, e.Error())
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// setLogin fills in user and database, which default to the name of the system's user and to the user.
func (t *pgTarget) setLogin() error {
	name := t.uri.Get("user")
	if name == "" {
		u, err := user.Current()
		if err != nil || u.Username == "" {
			return Usagef("as in postgres://USER@localhost/DATABASE", "the URL has no user, and the system has no name for the user that runs healthcheck")
		}
		name = u.Username
	}
	database := cmp.Or(t.uri.Get("dbname"), name)
	t.uri.SetDefault("user", name)
	t.uri.SetDefault("dbname", database)
	t.login = wire.Login{User: name, Database: database, RequireAuth: t.uri.AllowsAuth, Binding: t.uri.Get("channel_binding")}
	if t.uri.Get("require_auth") == "" {
		t.login.RequireAuth = nil
	}
	for _, param := range []string{"application_name", "options"} {
		if value := t.uri.Get(param); value != "" {
			t.login.Options = append(t.login.Options, [2]string{param, value})
		}
	}
	return nil
}

// setTLS reads the certificates that the parameters name. As in libpq a CA that is there is used under every sslmode.
func (t *pgTarget) setTLS(env *environment) (err error) {
	mode := t.uri.SSLMode()
	if mode == "disable" {
		return nil
	}
	files := TLSOptions{CA: t.uri.Get("sslrootcert"), Cert: t.uri.Get("sslcert"), Key: t.uri.Get("sslkey"), ServerName: env.opts.ServerName}
	verifying := mode == "verify-ca" || mode == "verify-full"
	system := files.CA == "system"
	if files.CA == "" && verifying {
		return Usagef("add sslrootcert=FILE or --tls-ca FILE, or sslrootcert=system for the CAs of this system", "sslmode=%s needs a CA to verify with", mode)
	}
	if system {
		files.CA = ""
	}
	if t.tls, err = files.load("sslrootcert", "sslcert", "sslkey"); err != nil {
		return err
	}
	t.verify = verifying || t.tls.roots != nil && !env.opts.Insecure
	return nil
}

// fromPassfile looks a host's password up. As in libpq a file that others may read is ignored, and one that cannot be read
// is no error.
func fromPassfile(path string, h wire.PGHost, database, userName string) string {
	if path == "" {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	port := strconv.Itoa(int(cmp.Or(h.Port, wire.DefaultPGPort)))
	password, err := wire.LookupPassword(f, wire.PassfileKey{Host: cmp.Or(h.Host, h.Addr), Port: port, Database: database, User: userName, SocketDir: pgSocketDirs[0]})
	if err != nil {
		return ""
	}
	return password
}

// pgSocketDirs is where a server on this machine listens: as Debian and the official images build it, as PostgreSQL
// itself does.
var pgSocketDirs = []string{"/var/run/postgresql", "/tmp"}

// address is where to reach a host; one that is not named is the local server, by its socket or localhost.
func (t *pgTarget) address(h wire.PGHost) (network, address string) {
	if h.Host == "" && h.Addr == "" {
		for _, dir := range pgSocketDirs {
			h.Host = dir
			if network, address = h.Address(); exists(address) {
				return network, address
			}
		}
		h.Host = "localhost"
	}
	return h.Address()
}

// errNotWanted says that a server is alive and not of the kind that target_session_attrs wants.
type errNotWanted struct{ attrs, is string }

func (e *errNotWanted) Error() string {
	return "target_session_attrs=" + e.attrs + ": the server is " + e.is
}

// probe tries the hosts in their order until one serves, as libpq does (PostgreSQL documentation 34.1.1.3): a host that cannot
// be reached, is starting up, or is not of the wanted kind, is passed over; one that refuses the login ends it. Each has
// its share of the time.
func (t *pgTarget) probe(ctx context.Context, r *run) error {
	attrs := []string{cmp.Or(t.uri.Get("target_session_attrs"), "any")}
	if attrs[0] == "prefer-standby" {
		attrs = []string{"standby", "any"}
	}
	var failures []string
	var first error
	var firstLate bool
	for pass, attr := range attrs {
		failures = nil
		for i, h := range t.hosts {
			share, own := t.share(ctx, len(t.hosts)*(len(attrs)-pass)-i)
			hostCtx, cancel := context.WithTimeout(ctx, share)
			err := t.tryHost(hostCtx, r, i, attr)
			cancel()
			if err == nil {
				return nil
			}
			phase := phaseOf(err, r.phase)
			if !own {
				share = 0 // it varies, and with it what Wait would take for another reason
			}
			text, late := r.Check.redact.describe(err, share)
			if late && own {
				text += ", the connect_timeout"
				err = &hostsError{text, true}
			}
			if failures == nil {
				first, firstLate = &phaseError{phase, err}, late
			}
			_, address := t.address(h)
			failures = append(failures, address+": "+text)
			if !late && !triesNext(err, phase) {
				return err
			}
		}
	}
	if len(t.hosts) == 1 {
		return first
	}
	return &phaseError{phaseOf(first, PhaseConnect), &hostsError{strings.Join(failures, "; "), firstLate}}
}

// share is the time that one of several hosts has, and whether that is connect_timeout.
func (t *pgTarget) share(ctx context.Context, hostsLeft int) (share time.Duration, own bool) {
	share = t.uri.ConnectTimeout()
	deadline, _ := ctx.Deadline()
	if left := time.Until(deadline) / time.Duration(hostsLeft); share == 0 || share > left {
		return left, false
	}
	return share, true
}

// A hostsError tells what every one of several hosts said.
type hostsError struct {
	text    string
	timeout bool
}

func (e *hostsError) Error() string { return e.text }

// triesNext reports whether libpq would go on to the next host after err, as it does after silence.
func triesNext(err error, phase Phase) bool {
	var refused *wire.PGError
	var notWanted *errNotWanted
	switch {
	case errors.As(err, &refused):
		return refused.Code == "57P03"
	case errors.As(err, &notWanted):
		return true
	}
	return phase == PhaseResolve || phase == PhaseConnect
}

// tryHost tries one host: with the sslmodes allow and prefer in two ways.
func (t *pgTarget) tryHost(ctx context.Context, r *run, i int, attr string) error {
	network, _ := t.address(t.hosts[i])
	var ways []bool // with TLS?
	switch mode := t.uri.SSLMode(); {
	case network == "unix" || mode == "disable":
		ways = []bool{false}
	case mode == "allow":
		ways = []bool{false, true}
	case mode == "prefer":
		ways = []bool{true, false}
	default:
		ways = []bool{true}
	}
	err := t.tryOnce(ctx, r, i, attr, ways[0])
	if len(ways) == 1 || err == nil || ctx.Err() != nil || !otherWay(err) {
		return plainReason(err)
	}
	phase := phaseOf(err, r.phase)
	err2 := t.tryOnce(ctx, r, i, attr, ways[1])
	if err2 == nil || tells(err2) > tells(err) {
		return plainReason(err2)
	}
	return &phaseError{phase, plainReason(err)}
}

// tells ranks the two errors of allow and prefer: a refusal that is not merely the lack of a pg_hba.conf line for this
// way of connecting says most.
func tells(err error) int {
	var refused *wire.PGError
	switch {
	case !errors.As(err, &refused):
		return 0
	case refused.Code == "28000":
		return 1
	}
	return 2
}

// A wayError is one that the other way of connecting may not meet: TLS could not be begun, or the server refused the login in
// its own words. libpq goes on after no other, least of all where we do not accept what the server does.
type wayError struct{ err error }

func (e *wayError) Error() string { return e.err.Error() }
func (e *wayError) Unwrap() error { return e.err }

// otherWay reports whether allow or prefer goes on after err.
func otherWay(err error) bool {
	var w *wayError
	var refused *wire.PGError
	if errors.As(err, &refused) && (strings.HasPrefix(refused.Code, "57") || strings.HasPrefix(refused.Code, "53")) {
		return false // it would say the same again
	}
	return errors.As(err, &w)
}

// plainReason takes the mark off.
func plainReason(err error) error {
	var w *wayError
	if errors.As(err, &w) {
		return w.err
	}
	return err
}

// tryOnce goes the whole way on one connection: TLS or not, login, one query, goodbye.
func (t *pgTarget) tryOnce(ctx context.Context, r *run, i int, attr string, withTLS bool) error {
	network, address := t.address(t.hosts[i])
	conn, err := dial(ctx, r, network, address)
	if err != nil {
		return err
	}
	defer func() { conn.Close() }()
	login := t.login
	login.Password = func() (string, bool) { return t.passwords[i], t.passwords[i] != "" }
	r.enter(PhaseReply)
	if withTLS {
		tlsConn, err := t.startTLS(r, conn, t.hosts[i])
		if err != nil {
			return err
		}
		if tlsConn != nil {
			conn = tlsConn
			login.Encrypted = true
			login.EndpointHash, _ = wire.EndpointHash(tlsConn.ConnectionState().PeerCertificates[0])
		}
	}
	pg := wire.NewPG(conn, conn)
	r.enter(PhaseAuth)
	authenticated, err := pg.Login(ctx, login)
	if err != nil {
		phase := loginPhase(err, pg.Greeted(), authenticated)
		var refused *wire.PGError
		err = &phaseError{phase, err}
		if !authenticated && withTLS == login.Encrypted && // not where the server declined TLS: it was plain text already
			(phase == PhaseTLS || errors.As(err, &refused)) {
			err = &wayError{err}
		}
		return err
	}
	defer pg.Terminate()
	r.enter(PhaseReply)
	if err := wanted(pg, attr); err != nil {
		return err
	}
	value, err := pg.Query("SELECT 1")
	if err != nil {
		return err
	}
	if value != "1" {
		return cleanError(`SELECT 1 was answered with "` + r.clean(value) + `"`)
	}
	r.Message = "SELECT 1 answered"
	if version, _, _ := strings.Cut(pg.Params["server_version"], " "); version != "" {
		r.Message = "PostgreSQL " + r.clean(version) + ", " + r.Message
	}
	return nil
}

// loginPhase is the phase of an error of Login.
func loginPhase(err error, greeted, authenticated bool) Phase {
	var refused *wire.PGError
	var foreign *wire.ForeignError
	var op *net.OpError
	switch {
	case errors.As(err, &refused):
		if strings.HasPrefix(refused.Code, "28") || refused.Code == "08P01" && !authenticated { // pgbouncer's
			return PhaseAuth
		}
		return PhaseReply
	case errors.As(err, &op) && op.Op == remoteAlert: // with TLS 1.3 a refused client hears of it only here
		return PhaseTLS
	case errors.As(err, &foreign), authenticated, !greeted:
		return PhaseReply
	}
	return PhaseAuth
}

// startTLS asks for TLS and puts it on conn. It returns nil where the server has none and sslmode allows for that.
func (t *pgTarget) startTLS(r *run, conn net.Conn, h wire.PGHost) (*tls.Conn, error) {
	mode := t.uri.SSLMode()
	optional := mode == "prefer" || mode == "allow"
	config := t.tls.config(cmp.Or(h.Host, h.Addr, "localhost"))
	if t.uri.Get("sslnegotiation") == "direct" {
		config.NextProtos = []string{"postgresql"}
	} else {
		answer, err := wire.ReadSSLAnswer(conn)
		switch {
		case answer == 'E' && !optional:
			return nil, &phaseError{PhaseTLS, cleanError("the server answers the request for TLS with an error")} // which is not authenticated
		case err != nil:
			return nil, err
		case answer == 'N' && optional:
			return nil, nil
		case answer == 'N':
			return nil, &phaseError{PhaseTLS, cleanError("the server has no TLS, and sslmode=" + mode + " wants it")}
		}
		conn = &guardedConn{Conn: conn}
	}
	if mode != "verify-full" { // the chain without the name, or nothing
		config.InsecureSkipVerify = true
		if t.verify {
			config.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s.PeerCertificates, t.tls.roots) }
		}
	}
	tlsConn, err := handshake(r, conn, config)
	var stuffed *wire.ProtocolError
	var foreign *wire.ForeignError
	switch {
	case errors.As(err, &stuffed), errors.As(err, &foreign): // an attack, not a lack; or no PostgreSQL at all
		return nil, err
	case err != nil:
		return nil, &wayError{err}
	}
	if config.NextProtos != nil && tlsConn.ConnectionState().NegotiatedProtocol != config.NextProtos[0] {
		return nil, &phaseError{PhaseTLS, cleanError("direct TLS without the ALPN protocol postgresql")}
	}
	return tlsConn, nil
}

// verifyChain is sslmode=verify-ca.
func verifyChain(chain []*x509.Certificate, roots *x509.CertPool) error {
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(options)
	return err
}

// A guardedConn looks at what comes first behind the answer to SSLRequest.
type guardedConn struct {
	net.Conn
	seen bool
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.seen && n > 0 {
		c.seen = true
		if err := wire.TLSRecord(p[:n]); err != nil {
			return 0, err
		}
	}
	return n, err
}

// wanted reports, as an *errNotWanted, a server of another kind than attr (PostgreSQL documentation 34.1.2,
// target_session_attrs). Servers since 14 tell in parameters, others are asked.
func wanted(pg *wire.PG, attr string) error {
	if attr == "any" {
		return nil
	}
	ask := func(param, query string, yes string) (bool, error) {
		value, ok := pg.Params[param]
		if ok {
			return value == "on", nil
		}
		value, err := pg.Query(query)
		return value == yes, err
	}
	standby, err := ask("in_hot_standby", "SELECT pg_catalog.pg_is_in_recovery()", "t")
	if err != nil {
		return err
	}
	readOnly := standby
	if !standby && (attr == "read-write" || attr == "read-only") {
		if readOnly, err = ask("default_transaction_read_only", "SHOW transaction_read_only", "on"); err != nil {
			return err
		}
	}
	state := []string{"a primary", "a standby"}
	is, want := standby, attr == "standby"
	if attr == "read-write" || attr == "read-only" {
		state = []string{"read-write", "read-only"}
		is, want = readOnly, attr == "read-only"
	}
	if is != want {
		if is {
			return &errNotWanted{attr, state[1]}
		}
		return &errNotWanted{attr, state[0]}
	}
	return nil
}
