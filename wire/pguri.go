package wire

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A PostgreSQL connection URI, PostgreSQL documentation 34.1.1.2:
//
//	postgresql://[user[:password]@][host[:port]][,...][/dbname][?name=value[&...]]
//
// The parts are cut as libpq cuts them (fe-connect.c, conninfo_uri_parse_options), which is not
// how RFC 3986 and net/url do it:
//
//	user-info  up to the first @ that stands before any /; # and ? may stand in it
//	hosts      each up to : / ? or a comma; in [ ] everything up to the ]
//	port       up to / ? or a comma
//	dbname     from the / up to the ?
//	query      name=value joined by &, exactly one = in each; + is a plus sign
//
// After that every part is percent-decoded, so that an encoded comma still separates hosts.

const (
	// MaxPGURI is the longest URI ParsePGURI looks at, in bytes. The longest argument Linux
	// passes to a program is 128 KiB (MAX_ARG_STRLEN).
	MaxPGURI = 64 << 10

	// DefaultPGPort is the port where none is given (PostgreSQL documentation 34.1.2, port).
	DefaultPGPort = 5432

	// maxIdentifier is the longest name PostgreSQL gives anything (NAMEDATALEN - 1), in bytes.
	maxIdentifier = 63
)

// A PGURI holds the connection parameters of a PostgreSQL URI, under libpq's names (PostgreSQL
// documentation 34.1.2): those of its parts and those of its query, where the query wins.
//
// As in libpq a parameter may be given and empty, as in "?user=". It then counts as unset when
// connecting, but no default replaces it: PGUSER does not, the system's user name does.
// Empty parts, as in "postgres://@:/", are not given at all.
//
// Only Get and Lookup return a password.
type PGURI struct {
	values map[string]string
}

// A PGHost is one server to try, in the order of the list.
type PGHost struct {
	Host string // a name, an address, a socket directory (/dir), an abstract one (@name), or empty
	Addr string // hostaddr: the address to connect to in place of looking up Host, or empty
	Port uint16 // 0 where none is given
}

// A PGURIError says what is wrong with a URI or parameter. It never holds a part of the input,
// apart from the plain name of an unknown parameter.
type PGURIError struct {
	Part   string // which part: "port of host 2", "password", "parameter sslmode"
	Reason string // what is wrong with it
	Hint   string // what to write in its place
}

func (e *PGURIError) Error() string { return e.Part + ": " + e.Reason }

// ParsePGURI parses a connection URI. Its error is a *PGURIError.
//
// It accepts what libpq accepts, except:
//   - It refuses at once what libpq refuses only when it connects: a port that is not a number, an
//     unknown sslmode.
//   - It refuses parameters that it does not know.
//   - It refuses an @ in the host or the database name, which libpq accepts. Such an @ usually ends
//     a password that holds an unescaped @ or /.
//   - It refuses &name= and ;name= before the query.
//   - It keeps a space, as libpq does up to 17. libpq 18 drops it at the ends of a part and refuses
//     it within.
func ParsePGURI(s string) (*PGURI, error) {
	raw, err := cutPGURI(s)
	if err != nil {
		return nil, err
	}
	if err := raw.checkAmbiguous(); err != nil {
		return nil, err
	}
	values, err := raw.decode()
	if err != nil {
		return nil, err
	}
	u := &PGURI{values: values}
	for _, p := range pgParams {
		if v, ok := values[p.name]; ok {
			if err := p.validate(v); err != nil {
				return nil, err
			}
		}
	}
	// Without a host the number of hosts is still open: PGHOST may be a list.
	if u.Get("host") != "" || u.Get("hostaddr") != "" {
		if _, err := u.Hosts(); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// Get returns a parameter's value, "" where it is not given.
func (u *PGURI) Get(param string) string { return u.values[param] }

// Lookup returns a parameter's value and whether it is given, if only as empty.
func (u *PGURI) Lookup(param string) (value string, given bool) {
	value, given = u.values[param]
	return value, given
}

// SetDefault gives a parameter a value, unless it has one: calls for a better source come first.
// The value is validated like one of the query even where it is not needed. An empty value is no
// default. (libpq refuses an empty PGSSLMODE and takes an empty PGHOST for the default.)
func (u *PGURI) SetDefault(param, value string) error {
	if value == "" {
		return nil
	}
	i := slices.IndexFunc(pgParams, func(p pgParam) bool { return p.name == param })
	if i < 0 {
		return errUnknownParam(param, false)
	}
	if err := pgParams[i].validate(value); err != nil {
		return err
	}
	if _, given := u.values[param]; given {
		return nil
	}
	if u.values == nil {
		u.values = make(map[string]string)
	}
	u.values[param] = value
	return nil
}

// Check reports parameters that are at odds with each other. It is to be called once all defaults
// are set. Its error is a *PGURIError.
func (u *PGURI) Check() error {
	if _, err := u.Hosts(); err != nil {
		return err
	}
	mode := u.SSLMode()
	strong := mode == "require" || mode == "verify-ca" || mode == "verify-full"
	if u.Get("sslnegotiation") == "direct" && !strong {
		return &PGURIError{"parameter sslnegotiation", "direct is at odds with an sslmode that allows plain text",
			"add sslmode=require, verify-ca or verify-full"}
	}
	if u.Get("sslrootcert") == "system" && mode != "verify-full" {
		return &PGURIError{"parameter sslrootcert", "system is at odds with an sslmode other than verify-full",
			"write sslmode=verify-full or leave sslmode out"}
	}
	low, high := tlsVersion(u.Get("ssl_min_protocol_version")), tlsVersion(u.Get("ssl_max_protocol_version"))
	if low >= 0 && high >= 0 && low > high {
		return &PGURIError{"parameter ssl_min_protocol_version", "newer than ssl_max_protocol_version", "leave one of them out"}
	}
	return nil
}

// Hosts pairs the lists of hosts, hostaddrs and ports (PostgreSQL documentation 34.1.1.3). There is at
// least one host; its Host and Addr are empty where the default is meant. One port counts
// for every host. Its error, where the lists differ in length, is a *PGURIError.
func (u *PGURI) Hosts() ([]PGHost, error) {
	hosts := splitList(u.Get("host"))
	addrs := splitList(u.Get("hostaddr"))
	ports := splitList(u.Get("port"))
	n := max(len(hosts), len(addrs), 1)
	if hosts != nil && addrs != nil && len(hosts) != len(addrs) {
		return nil, &PGURIError{"hostaddr", fmt.Sprintf("%d addresses for %d hosts", len(addrs), len(hosts)),
			"give one address for each host, in the same order; one may be empty"}
	}
	if len(ports) > 1 && len(ports) != n {
		return nil, &PGURIError{"port", fmt.Sprintf("%d ports for %d hosts", len(ports), n),
			"give one port for all hosts, or one for each, in the same order"}
	}
	list := make([]PGHost, n)
	for i := range list {
		h := &list[i]
		if hosts != nil {
			h.Host = hosts[i]
		}
		if addrs != nil {
			h.Addr = addrs[i]
		}
		if len(ports) == 1 {
			h.Port, _ = parsePort(ports[0]) // validated when it was set
		} else if ports != nil {
			h.Port, _ = parsePort(ports[i])
		}
	}
	return list, nil
}

// Address returns what net.Dialer.Dial wants to reach the host: "tcp" and host:port, or "unix" and the
// socket's path. A host whose Host and Addr are empty is for the caller to decide: libpq takes
// the directory it was built with.
func (h PGHost) Address() (network, address string) {
	port := strconv.Itoa(int(h.Port))
	if h.Port == 0 {
		port = strconv.Itoa(DefaultPGPort)
	}
	switch {
	case h.Addr != "":
		return "tcp", net.JoinHostPort(h.Addr, port)
	case isSocketDir(h.Host):
		return "unix", h.Host + "/.s.PGSQL." + port
	}
	return "tcp", net.JoinHostPort(h.Host, port)
}

// SSLMode returns the sslmode in force: the one given, else verify-full where sslrootcert is system,
// else prefer (PostgreSQL documentation 34.1.2, sslmode and sslrootcert).
func (u *PGURI) SSLMode() string {
	if mode := u.Get("sslmode"); mode != "" {
		return mode
	}
	if u.Get("sslrootcert") == "system" {
		return "verify-full"
	}
	return "prefer"
}

// ConnectTimeout returns connect_timeout, 0 where there is none or it means none (zero, negative).
func (u *PGURI) ConnectTimeout() time.Duration {
	n, err := parseInt(u.Get("connect_timeout"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// AllowsAuth reports whether require_auth lets the server ask for a method: password, md5, gss, sspi,
// scram-sha-256, oauth, or none where it asks for nothing (PostgreSQL documentation 34.1.2).
func (u *PGURI) AllowsAuth(method string) bool {
	list := u.Get("require_auth")
	if list == "" {
		return true
	}
	if strings.HasPrefix(list, "!") {
		return !slices.Contains(splitList(list), "!"+method)
	}
	return slices.Contains(splitList(list), method)
}

// String returns the URI that parses to the same parameters, except for the passwords, which it
// never holds.
func (u PGURI) String() string {
	rest := maps.Clone(u.values)
	delete(rest, "password")
	delete(rest, "sslpassword")
	var b strings.Builder
	b.WriteString("postgres://")
	if user := rest["user"]; user != "" {
		b.WriteString(PercentEncode(user, "") + "@")
		delete(rest, "user")
	}
	if u.hostsFitAuthority() {
		b.WriteString(authority(splitList(rest["host"]), splitList(rest["port"])))
		delete(rest, "host")
		delete(rest, "port")
	}
	if db := rest["dbname"]; db != "" {
		b.WriteString("/" + PercentEncode(db, ""))
		delete(rest, "dbname")
	}
	sep := "?"
	for _, p := range pgParams {
		if v, ok := rest[p.name]; ok {
			b.WriteString(sep + p.name + "=" + PercentEncode(v, "/:,"))
			sep = "&"
		}
	}
	return b.String()
}

// GoString is String, so that %#v does not show the password either.
func (u PGURI) GoString() string { return u.String() }

// Target returns the short form for people: user, hosts with their ports, database. It never holds
// the password, and leaves out what the query holds besides.
func (u *PGURI) Target() string {
	list, err := u.Hosts()
	if err != nil {
		list = nil
	}
	hosts := make([]string, len(list))
	ports := make([]string, len(list))
	for i, h := range list {
		hosts[i] = h.Host
		if h.Host == "" {
			hosts[i] = h.Addr
		}
		if h.Port != 0 {
			ports[i] = strconv.Itoa(int(h.Port))
		}
	}
	s := "postgres://"
	if user := u.Get("user"); user != "" {
		s += PercentEncode(user, "") + "@"
	}
	s += authority(hosts, ports)
	if db := u.Get("dbname"); db != "" {
		s += "/" + PercentEncode(db, "")
	}
	return s
}

// hostsFitAuthority reports whether "host:port,..." parses to the same host and port: several hosts
// there always come with as many ports, if empty ones.
func (u *PGURI) hostsFitAuthority() bool {
	host, port := u.Get("host"), u.Get("port")
	hosts, ports := splitList(host), splitList(port)
	_, hostGiven := u.Lookup("host")
	_, portGiven := u.Lookup("port")
	if hostGiven && host == "" || portGiven && port == "" {
		return false
	}
	if len(hosts) <= 1 {
		return len(ports) <= 1
	}
	return len(hosts) == len(ports)
}

// authority joins hosts and ports, each list being as long as the other or empty.
func authority(hosts, ports []string) string {
	var b strings.Builder
	for i := range max(len(hosts), len(ports)) {
		if i > 0 {
			b.WriteByte(',')
		}
		if i < len(hosts) {
			if strings.Contains(hosts[i], ":") {
				b.WriteString("[" + PercentEncode(hosts[i], ":") + "]")
			} else {
				b.WriteString(PercentEncode(hosts[i], ""))
			}
		}
		if i < len(ports) && ports[i] != "" {
			b.WriteString(":" + PercentEncode(ports[i], ""))
		}
	}
	return b.String()
}

// splitList splits a comma-separated list. An empty string is no list, not a list of one.
func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// rawPGURI are the parts of a URI as cut, still percent-encoded.
type rawPGURI struct {
	hasUserInfo                        bool
	user, password, host, port, dbname string
	query                              string
}

// cutPGURI cuts a URI into its parts.
func cutPGURI(s string) (*rawPGURI, error) {
	if len(s) > MaxPGURI {
		return nil, &PGURIError{"the URI", fmt.Sprintf("longer than %d bytes", MaxPGURI), "shorten it"}
	}
	if strings.Contains(s, "\x00") {
		return nil, &PGURIError{"the URI", "holds a zero byte", "leave it out; PostgreSQL knows no zero bytes"}
	}
	rest, ok := strings.CutPrefix(s, "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "postgresql://")
	}
	if !ok {
		return nil, schemeError(s)
	}
	r := &rawPGURI{}
	if at := strings.IndexAny(rest, "@/"); at >= 0 && rest[at] == '@' {
		r.hasUserInfo = true
		r.user, r.password, _ = strings.Cut(rest[:at], ":")
		rest = rest[at+1:]
	}
	var hosts, ports []string
	for {
		host, after, err := cutHost(rest, len(hosts)+1)
		if err != nil {
			return nil, err
		}
		port := ""
		if after, ok := strings.CutPrefix(after, ":"); ok {
			port, rest = cutAny(after, "/?,")
		} else {
			rest = after
		}
		hosts = append(hosts, host)
		ports = append(ports, port)
		if !strings.HasPrefix(rest, ",") {
			break
		}
		rest = rest[1:]
	}
	r.host = strings.Join(hosts, ",")
	r.port = strings.Join(ports, ",")
	if after, ok := strings.CutPrefix(rest, "/"); ok {
		r.dbname, rest = cutAny(after, "?")
	}
	r.query = strings.TrimPrefix(rest, "?")
	return r, nil
}

// cutHost cuts host n, counted from 1, from the front of s. What is left begins with : / ? or a comma,
// or is empty.
func cutHost(s string, n int) (host, rest string, err error) {
	inBrackets, bracketed := strings.CutPrefix(s, "[")
	if !bracketed {
		host, rest = cutAny(s, ":/?,")
		return host, rest, nil
	}
	fail := func(reason string) (string, string, error) {
		return "", "", &PGURIError{fmt.Sprintf("host %d", n), reason, "write an IPv6 address as [::1] or [::1]:5432"}
	}
	host, rest, closed := strings.Cut(inBrackets, "]")
	switch {
	case !closed:
		return fail("[ without a ]")
	case host == "":
		return fail("nothing between [ and ]")
	case rest != "" && !strings.ContainsAny(rest[:1], ":/?,"):
		return fail("neither a port nor a / follows the ]")
	}
	return host, rest, nil
}

// cutAny cuts s before the first of the characters in chars.
func cutAny(s, chars string) (before, rest string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// checkAmbiguous refuses what libpq cuts otherwise than its writer can have meant: an @ or / in the password or
// an @ in the query that should have been encoded. Part of a secret would end up in the host,
// the user or the database, which are shown.
func (r *rawPGURI) checkAmbiguous() error {
	if strings.Contains(r.host+r.port+r.dbname, "@") {
		return &PGURIError{"the URI", "an @ stands where the host or the database is", "write %40 for an @ in a user, password, host or database name, and %2F for a /"}
	}
	inUserInfo := strings.Contains(r.user, "?")
	for _, p := range pgParams {
		inUserInfo = inUserInfo || strings.Contains(r.password, "?"+p.name+"=")
	}
	if inUserInfo {
		return &PGURIError{"the URI", "the query stands before an @", "write %40 for an @ in the query, %3F for a ? in a user name"}
	}
	for _, part := range []string{r.user, r.host, r.dbname} {
		if i := strings.IndexAny(part, "&;"); i >= 0 && strings.Contains(part[i:], "=") {
			return &PGURIError{"the URI", "a parameter stands before the query", "begin the query with a ?; in a name & is written %26, ; %3B, = %3D"}
		}
	}
	return nil
}

// decode decodes the parts and then the query, whose parameters replace them.
func (r *rawPGURI) decode() (map[string]string, error) {
	values := make(map[string]string)
	for _, part := range []struct{ name, raw string }{
		{"user", r.user}, {"password", r.password}, {"host", r.host}, {"port", r.port}, {"dbname", r.dbname},
	} {
		if part.raw == "" {
			continue
		}
		value, err := percentDecode(part.name, part.raw)
		if err != nil {
			return nil, err
		}
		values[part.name] = value
	}
	// A name behind a password may be the rest of it, after an & that should have been encoded; so may one
	// in a URI where an @ in the query hints that the user-info was cut short.
	mayBeSecret := !r.hasUserInfo && strings.Contains(r.query, "@")
	for n, rest := 1, r.query; rest != ""; n++ {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		rawName, rawValue, ok := strings.Cut(pair, "=")
		where := fmt.Sprintf("parameter %d of the query", n)
		if !ok {
			return nil, &PGURIError{where, "has no =", "write ?name=value&name=value; in a password & is written %26, / %2F, ? %3F"}
		}
		if strings.Contains(rawValue, "=") {
			return nil, &PGURIError{where, "has more than one =", "write %3D for a = in a value"}
		}
		name, err := percentDecode(where, rawName)
		if err != nil {
			return nil, err
		}
		value, err := percentDecode(where, rawValue)
		if err != nil {
			return nil, err
		}
		if name == "ssl" && value == "true" { // for JDBC's URIs
			name, value = "sslmode", "require"
		}
		if !slices.ContainsFunc(pgParams, func(p pgParam) bool { return p.name == name }) {
			return nil, errUnknownParam(name, mayBeSecret)
		}
		mayBeSecret = mayBeSecret || name == "password" || name == "sslpassword"
		values[name] = value
	}
	return values, nil
}

// percentDecode decodes %XX. It leaves everything else, such as +, unchanged.
func percentDecode(part, s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", &PGURIError{part, "a % without two hexadecimal digits after it", "write %25 for a %"}
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", &PGURIError{part, "a % without two hexadecimal digits after it", "write %25 for a %"}
		}
		if c == 0 {
			return "", &PGURIError{part, "%00 is not allowed", "leave it out; PostgreSQL knows no zero bytes"}
		}
		b = append(b, byte(c))
		i += 2
	}
	return string(b), nil
}

// schemeError says what to write in place of s, which does not begin as it should.
func schemeError(s string) error {
	const example = "postgres://user@host:5432/dbname"
	scheme, _, found := strings.Cut(s, "://")
	lower := strings.ToLower(scheme)
	postgres := strings.TrimPrefix(lower, "jdbc:")
	base, _, hasDriver := strings.Cut(postgres, "+")
	isPostgres := base == "postgres" || base == "postgresql"
	switch {
	case found && isPostgres && hasDriver:
		return &PGURIError{"scheme", "names a driver", "leave out the + and the driver's name: " + base + "://…"}
	case found && isPostgres && postgres != lower:
		return &PGURIError{"scheme", "jdbc: before it", "leave out jdbc: and write " + base + "://…"}
	case found && isPostgres:
		return &PGURIError{"scheme", "not in lower case", "write " + lower + "://…"}
	case found:
		return &PGURIError{"scheme", "not PostgreSQL's", "write " + example}
	case strings.Contains(s, "="):
		return &PGURIError{"the URI", "keyword=value pairs are not a URI", "write " + example}
	}
	return &PGURIError{"the URI", "no scheme", "write " + example}
}
