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
	"strings"
	"time"

	"alfred/healthcheck/wire"
)

// A pgTarget is a PostgreSQL URI with every default in place.
type pgTarget struct {
	uri       *wire.PGURI
	hosts     []wire.PGHost
	show      func(string) string // makes a path or a name fit to be shown
	source    map[string]string   // which option or variable gave a parameter that the URI does not
	passwords []string            // one for each host, "" where there is none
	login     wire.Login
	tls       tlsSetup
	verify    bool // that the server's certificate is of a known CA

	passfileProblem string // why the password file is ignored, if it was needed
}

// pgEnvironment are the variables of libpq (PostgreSQL documentation 34.15) that stand for parameters. Those that cannot
// change the verdict are left out.
var pgEnvironment = []struct{ variable, param string }{
	{"PGHOST", "host"}, {"PGHOSTADDR", "hostaddr"}, {"PGPORT", "port"}, {"PGUSER", "user"}, {"PGDATABASE", "dbname"},
	{"PGPASSWORD", "password"}, {"PGPASSFILE", "passfile"}, {"PGCONNECT_TIMEOUT", "connect_timeout"}, {"PGSSLMODE", "sslmode"},
	{"PGSSLROOTCERT", "sslrootcert"}, {"PGSSLCERT", "sslcert"}, {"PGSSLKEY", "sslkey"}, {"PGSSLNEGOTIATION", "sslnegotiation"},
	{"PGCHANNELBINDING", "channel_binding"}, {"PGREQUIREAUTH", "require_auth"}, {"PGTARGETSESSIONATTRS", "target_session_attrs"},
	{"PGAPPNAME", "application_name"}, {"PGOPTIONS", "options"}, {"PGSSLCERTMODE", "sslcertmode"}, {"PGSSLCRL", "sslcrl"},
	{"PGSSLCRLDIR", "sslcrldir"}, {"PGSSLSNI", "sslsni"}, {"PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"},
	{"PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"}, {"PGREQUIREPEER", "requirepeer"}, {"PGGSSENCMODE", "gssencmode"},
	{"PGMINPROTOCOLVERSION", "min_protocol_version"},
}

// parsePostgres reads the value of --postgres. What the URI leaves out comes from --tls-*, then from a service, then from
// libpq's environment variables and files, then from libpq's defaults.
func parsePostgres(env *environment, c *Check, x expanded) error {
	u, err := wire.ParsePGURI(x.text)
	if err != nil {
		return pgUsage("", err)
	}
	if strings.Contains(u.Get("user"), ":") && u.Get("password") == "" {
		return errColonInUser
	}
	t := &pgTarget{uri: u, source: make(map[string]string), show: c.redact.clean}
	home := env.get("HOME")
	for _, d := range []struct{ option, param, value string }{
		{"--tls-ca", "sslrootcert", env.opts.CA}, {"--tls-cert", "sslcert", env.opts.Cert}, {"--tls-key", "sslkey", env.opts.Key},
	} {
		if err := t.setDefault(d.option, d.param, d.value); err != nil {
			return err
		}
	}
	if err := t.setService(env, home); err != nil {
		return err
	}
	for _, v := range pgEnvironment {
		if err := t.setDefault(v.variable, v.param, env.get(v.variable)); err != nil {
			return err
		}
	}
	if strings.HasPrefix(env.get("PGREQUIRESSL"), "1") {
		u.SetDefault("sslmode", "require")
	}
	if err := u.Check(); err != nil {
		return pgUsage("", err)
	}
	if t.hosts, err = u.Hosts(); err != nil {
		return pgUsage("", err)
	}
	if err := t.setLogin(); err != nil {
		return err
	}
	t.setPasswords(home)
	c.redact.add(t.passwords...)
	c.redact.add(u.Get("sslpassword"))
	if err := t.setTLS(env, home); err != nil {
		return err
	}
	c.Target = u.Target()
	if x.user || x.whole && u.Get("password") == "" { // it may be a password that was inserted in the wrong place; the name of the database may be the user's
		name := wire.PercentEncode(t.login.User, "")
		c.Target = strings.Replace(c.Target, "//"+name+"@", "//"+mask+"@", 1)
		if t.login.Database == t.login.User {
			c.Target = strings.TrimSuffix(c.Target, name) + mask
		}
		c.redact.add(t.login.User)
	} else {
		c.redact.show(t.login.User, t.login.Database)
	}
	for _, h := range t.hosts {
		c.redact.show(h.Host, h.Addr)
	}
	c.plain = "use sslmode=disable"
	c.probe = t.probe
	return nil
}

// setDefault gives a parameter the value of an option or a variable, unless it has one.
func (t *pgTarget) setDefault(source, param, value string) error {
	_, given := t.uri.Lookup(param)
	if err := t.uri.SetDefault(param, value); err != nil {
		return pgUsage(source+": ", err)
	}
	if !given && value != "" {
		t.source[param] = source
	}
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
	for _, o := range [][2]string{
		{"application_name", cmp.Or(t.uri.Get("application_name"), t.uri.Get("fallback_application_name"))}, {"options", t.uri.Get("options")},
	} {
		if o[1] != "" {
			t.login.Options = append(t.login.Options, o)
		}
	}
	return nil
}

// probe connects until one attempt succeeds. As in libpq it goes on to the next host if one is
// unreachable, silent, starting up or not of the wanted kind; any other failure ends it. Each host
// has its share of the time.
func (t *pgTarget) probe(ctx context.Context, r *run) *failure {
	var (
		whole    = r.allowed
		until    time.Time // the end of this host's share
		byURI    bool      // the share is connect_timeout
		withheld *failure  // of the first attempt at this host, until the second one has ended
		failures []*failure
		texts    []string
	)
	for _, a := range t.attempts() {
		switch {
		case a.first:
			var share time.Duration
			share, byURI = t.share(ctx, a.hostsLeft)
			until = time.Now().Add(share)
			switch {
			case byURI:
				r.allowed = share
			case len(t.hosts) == 1:
				r.allowed = whole
			default:
				r.allowed = 0 // it varies, and Wait would take each new value for a new reason
			}
		case withheld == nil:
			continue
		}
		f := t.try(ctx, r, a, until)
		if f == nil {
			return nil
		}
		if f.fallBack && !a.last && time.Now().Before(until) {
			withheld = f
			continue
		}
		if withheld != nil && withheld.rank >= f.rank {
			f = withheld
		}
		withheld = nil
		if !f.timedOut && !f.nextHost {
			return f
		}
		if f.timedOut && byURI {
			f.text += ", the connect_timeout"
		}
		failures = append(failures, f)
		texts = append(texts, a.address+": "+f.text)
	}
	lastPass := len(failures) - len(t.hosts)
	f := failures[lastPass]
	if len(t.hosts) > 1 {
		f.text = strings.Join(texts[lastPass:], "; ")
	}
	return f
}

// A pgAttempt is one connection to one host.
type pgAttempt struct {
	host             int // its index
	network, address string
	session          string // the target_session_attrs that the host must meet
	withTLS          bool
	first, last      bool // of the one or two attempts at the host, with TLS and without
	hostsLeft        int  // how many hosts share the time that is left, this one included
}

// attempts lists the connections that libpq would try, in its order (PostgreSQL documentation
// 34.1.1.3): every host, for prefer-standby first as a standby and then as any; each with TLS,
// without, or both, by sslmode.
func (t *pgTarget) attempts() (list []pgAttempt) {
	sessions := []string{cmp.Or(t.uri.Get("target_session_attrs"), "any")}
	if sessions[0] == "prefer-standby" {
		sessions = []string{"standby", "any"}
	}
	hostsLeft := len(sessions) * len(t.hosts)
	for _, session := range sessions {
		for host, h := range t.hosts {
			network, address := t.address(h)
			order := t.tlsOrder(network)
			for i, withTLS := range order {
				list = append(list, pgAttempt{host, network, address, session, withTLS, i == 0, i == len(order)-1, hostsLeft})
			}
			hostsLeft--
		}
	}
	return list
}

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

// pgSocketDirs is where a server on this machine listens: as Debian and the official images build it, as PostgreSQL
// itself does.
var pgSocketDirs = []string{"/var/run/postgresql", "/tmp"}

// tlsOrder is whether to use TLS, in the one or two attempts that sslmode has for a host.
func (t *pgTarget) tlsOrder(network string) []bool {
	switch mode := t.uri.SSLMode(); {
	case network == "unix" || mode == "disable":
		return []bool{false}
	case mode == "allow":
		return []bool{false, true}
	case mode == "prefer":
		return []bool{true, false}
	}
	return []bool{true}
}

// share is the time that the next of the hosts left has, and whether that is connect_timeout.
func (t *pgTarget) share(ctx context.Context, hostsLeft int) (share time.Duration, byURI bool) {
	share = t.uri.ConnectTimeout()
	deadline, _ := ctx.Deadline()
	if left := time.Until(deadline) / time.Duration(hostsLeft); share == 0 || share > left {
		return left, false
	}
	return share, true
}

// try makes one connection: TLS or not, login, one query, goodbye.
func (t *pgTarget) try(ctx context.Context, r *run, a pgAttempt, until time.Time) *failure {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	conn, f := dial(ctx, r, a.network, a.address)
	if f != nil {
		f.nextHost = true
		return f
	}
	defer func() { conn.Close() }()
	if f := t.checkPeer(r, conn); f != nil {
		return f
	}
	login := t.login
	login.Password = func() (string, bool) { return t.passwords[a.host], t.passwords[a.host] != "" }
	certificateSent := false
	if a.withTLS {
		config := t.tlsConfig(t.hosts[a.host])
		if give := config.GetClientCertificate; give != nil {
			config.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
				certificateSent = true
				return give(asked)
			}
		}
		tlsConn, f := t.startTLS(r, conn, config)
		if f != nil {
			return f
		}
		if tlsConn != nil {
			conn = tlsConn
			login.Encrypted = true
			login.EndpointHash, _ = wire.EndpointHash(tlsConn.ConnectionState().PeerCertificates[0])
		}
	}
	if t.uri.Get("sslcertmode") == "require" && !certificateSent {
		return fail(PhaseTLS, "sslcertmode=require, and the server did not ask for a client certificate, or none is given")
	}
	pg := wire.NewPG(conn, conn)
	if authenticated, err := pg.Login(ctx, login); err != nil {
		f := r.failLogin(err, pg.Greeted(), authenticated)
		if errors.Is(err, wire.ErrNoPassword) && t.passfileProblem != "" {
			f.text += "; " + t.passfileProblem
		}
		var refused *wire.PGError
		if f.phase == PhaseAuth && errors.As(err, &refused) && pg.Unnormalised() {
			f.text += "; the password may need Unicode normalisation, which healthcheck does not do"
		}
		if a.withTLS && !login.Encrypted { // the server has declined TLS: this was the attempt without
			f.fallBack = false
		}
		return f
	}
	defer pg.Terminate()
	if f := r.checkSession(pg, a.session); f != nil {
		return f
	}
	value, err := pg.Query("SELECT 1")
	if err != nil {
		return r.failPG(PhaseReply, err)
	}
	if value != "1" {
		return fail(PhaseReply, `SELECT 1 was answered with "`+r.clean(value)+`"`)
	}
	r.Message = "SELECT 1 answered"
	if version, _, _ := strings.Cut(pg.Params["server_version"], " "); version != "" {
		r.Message = "PostgreSQL " + r.clean(version) + ", " + r.Message
	}
	return nil
}

// startTLS asks for TLS and puts it on conn. It returns nil where the server has none and sslmode allows for that.
func (t *pgTarget) startTLS(r *run, conn net.Conn, config *tls.Config) (*tls.Conn, *failure) {
	mode := t.uri.SSLMode()
	optional := mode == "prefer" || mode == "allow"
	direct := t.uri.Get("sslnegotiation") == "direct"
	if direct {
		config.NextProtos = []string{"postgresql"}
	} else {
		answer, err := wire.ReadSSLAnswer(conn)
		switch {
		case answer == 'E' && !optional: // what the error says is not authenticated
			return nil, fail(PhaseTLS, "the server answers the request for TLS with an error")
		case err != nil:
			return nil, r.failPG(PhaseReply, err)
		case answer == 'N' && optional:
			return nil, nil
		case answer == 'N':
			f := fail(PhaseTLS, "the server has no TLS, and sslmode="+mode+" wants it")
			if mode == "require" { // else the user wants more than a secret connection
				f.remedy = r.Check.plain
			}
			return nil, f
		}
	}
	guarded := &guardedConn{Conn: conn, checked: direct}
	tlsConn, f := handshake(r, guarded, config)
	if f != nil {
		f.fallBack = !guarded.refused // that is an attack, or no PostgreSQL at all; a lack of TLS is neither
		return nil, f
	}
	if direct && tlsConn.ConnectionState().NegotiatedProtocol != config.NextProtos[0] {
		return nil, fail(PhaseTLS, "direct TLS without the ALPN protocol postgresql")
	}
	return tlsConn, nil
}

// A guardedConn refuses to read anything but TLS behind the answer to SSLRequest.
type guardedConn struct {
	net.Conn
	checked bool // the first bytes have come
	refused bool // and they were not TLS
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.checked && n > 0 {
		c.checked = true
		if err := wire.TLSRecord(p[:n]); err != nil {
			c.refused = true
			return 0, err
		}
	}
	return n, err
}

// tlsConfig is the client's configuration for a host. sslmode decides whether the chain is verified, and the name.
func (t *pgTarget) tlsConfig(h wire.PGHost) *tls.Config {
	config := t.tls.config(cmp.Or(h.Host, h.Addr, "localhost"))
	name := config.ServerName
	if t.uri.Get("sslsni") == "0" {
		config.ServerName = ""
	}
	versions := []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} // of wire.TLSVersions
	for i, word := range wire.TLSVersions {
		if strings.EqualFold(word, t.uri.Get("ssl_min_protocol_version")) {
			config.MinVersion = versions[i]
		}
		if strings.EqualFold(word, t.uri.Get("ssl_max_protocol_version")) {
			config.MaxVersion = versions[i]
		}
	}
	config.InsecureSkipVerify = true // and verify as libpq does, or not at all
	if t.verify {
		config.VerifyConnection = func(s tls.ConnectionState) error {
			if err := verifyChain(s.PeerCertificates, t.tls.roots); err != nil || t.uri.SSLMode() != "verify-full" {
				return err
			}
			return wire.MatchPGHost(s.PeerCertificates[0], name)
		}
	}
	return config
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

// failLogin is failPG for a login. libpq falls back only if the server refuses it, in its own words
// or by a TLS alert, and never if it is we who refuse what the server does.
func (r *run) failLogin(err error, greeted, authenticated bool) *failure {
	phase := PhaseReply
	if greeted && !authenticated {
		phase = PhaseAuth
	}
	var refused *wire.PGError
	if errors.As(err, &refused) {
		phase = PhaseReply
		if strings.HasPrefix(refused.Code, "28") || refused.Code == "08P01" && !authenticated && aboutAuth(refused.Message) {
			phase = PhaseAuth
		}
	}
	f := r.failPG(phase, err)
	switch {
	case authenticated:
	case refused != nil: // without resources (53) or an operator's act (57) the answer would be the same
		f.fallBack = !strings.HasPrefix(refused.Code, "53") && !strings.HasPrefix(refused.Code, "57")
	default:
		f.fallBack = f.phase == PhaseTLS
	}
	return f
}

// failPG is failIO for an exchange with PostgreSQL, whose SQLSTATE tells what libpq does next.
func (r *run) failPG(phase Phase, err error) *failure {
	f := r.failIO(phase, err)
	var refused *wire.PGError
	if errors.As(err, &refused) {
		f.nextHost = refused.Code == "57P03"
		f.rank = 2
		if refused.Code == "28000" { // perhaps no more than the lack of a pg_hba.conf line for this way of connecting
			f.rank = 1
		}
	}
	return f
}

// aboutAuth reports whether a message of pgbouncer is about authentication: before a login its
// errors all have one SQLSTATE, those of its limits, its databases and the server behind it included.
func aboutAuth(message string) bool {
	message = strings.ToLower(strings.TrimPrefix(message, "server login failed: "))
	for _, word := range []string{"password", "authentication", "sasl", "scram", "no such user", "not allowed", "login failed", "login rejected", "ssl required"} {
		if strings.Contains(message, word) {
			return true
		}
	}
	return false
}

// checkPeer is requirepeer: the server behind a Unix socket must run as that user.
func (t *pgTarget) checkPeer(r *run, conn net.Conn) *failure {
	want := t.uri.Get("requirepeer")
	socket, isSocket := conn.(*boundConn).Conn.(*net.UnixConn)
	if want == "" || !isSocket {
		return nil
	}
	owner, err := socketOwner(socket)
	switch {
	case err != nil:
		return fail(PhaseAuth, r.clean("requirepeer="+want+": "+err.Error()))
	case owner != want:
		return fail(PhaseAuth, r.clean("requirepeer="+want+": the server runs as "+owner))
	}
	return nil
}

// checkSession fails if the server is of another kind than target_session_attrs wants (PostgreSQL
// documentation 34.1.2). Servers since 14 report it in parameters, others are asked.
func (r *run) checkSession(pg *wire.PG, want string) *failure {
	if want == "any" {
		return nil
	}
	ask := func(param, query, yes string) (bool, error) {
		if value, ok := pg.Params[param]; ok {
			return value == "on", nil
		}
		value, err := pg.Query(query)
		return value == yes, err
	}
	standby, err := ask("in_hot_standby", "SELECT pg_catalog.pg_is_in_recovery()", "t")
	readOnly := standby
	if err == nil && !standby && (want == "read-write" || want == "read-only") {
		readOnly, err = ask("default_transaction_read_only", "SHOW transaction_read_only", "on")
	}
	if err != nil {
		return r.failPG(PhaseReply, err)
	}
	is, accepted := map[bool]string{false: "a primary", true: "a standby"}[standby], "a "+want
	if want == "read-write" || want == "read-only" {
		is, accepted = map[bool]string{false: "read-write", true: "read-only"}[readOnly], want
	}
	if is == accepted {
		return nil
	}
	f := fail(PhaseReply, "target_session_attrs="+want+": the server is "+is)
	f.nextHost = true
	return f
}
