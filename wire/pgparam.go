package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A pgParam is a parameter that ParsePGURI knows.
type pgParam struct {
	name  string
	words []string                 // its values, where they are few
	check func(value string) error // a further check; its error is a *PGURIError
}

// pgParams are the parameters of libpq 17 (PostgreSQL documentation 34.1.2), and libpq 18's
// min_protocol_version and max_protocol_version. The last group does not affect whether a
// connection succeeds, so it is accepted and ignored.
var pgParams = []pgParam{
	{name: "service"},
	{name: "host"},
	{name: "hostaddr", check: checkAddrs},
	{name: "port", check: checkPorts},
	{name: "dbname"},
	{name: "user"},
	{name: "password"},
	{name: "passfile"},
	{name: "connect_timeout", check: checkSeconds},
	{name: "sslmode", words: []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}},
	{name: "sslnegotiation", words: []string{"postgres", "direct"}},
	{name: "sslrootcert"},
	{name: "sslcert"},
	{name: "sslkey"},
	{name: "channel_binding", words: []string{"disable", "prefer", "require"}},
	{name: "require_auth", check: checkAuthList},
	{name: "target_session_attrs", words: []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}},
	{name: "application_name"},
	{name: "options"},

	{name: "fallback_application_name"},
	{name: "sslcertmode", words: []string{"disable", "allow", "require"}},
	{name: "sslpassword"},
	{name: "sslcrl"},
	{name: "sslcrldir"},
	{name: "sslsni", words: []string{"0", "1"}},
	{name: "ssl_min_protocol_version", check: checkTLSVersion("ssl_min_protocol_version")},
	{name: "ssl_max_protocol_version", check: checkTLSVersion("ssl_max_protocol_version")},
	{name: "requirepeer"},
	{name: "gssencmode", words: []string{"disable", "prefer", "require"}, check: refuseValue("gssencmode", "require",
		"encryption by GSSAPI is not supported", "write gssencmode=disable and sslmode=require, or check the port with --tcp")},
	{name: "min_protocol_version", words: []string{"3.0", "3.2", "latest"}, check: refuseMinVersion},

	{name: "max_protocol_version", words: []string{"3.0", "3.2", "latest"}},
	{name: "client_encoding"},
	{name: "keepalives"},
	{name: "keepalives_idle"},
	{name: "keepalives_interval"},
	{name: "keepalives_count"},
	{name: "tcp_user_timeout"},
	{name: "sslcompression"},
	{name: "krbsrvname"},
	{name: "gsslib"},
	{name: "gssdelegation"},
	{name: "replication"},
	{name: "load_balance_hosts"},
}

// TLSVersions are the values of ssl_min_protocol_version and ssl_max_protocol_version, oldest
// first. Case is ignored.
var TLSVersions = []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}

func checkTLSVersion(param string) func(string) error {
	return func(value string) error {
		if value != "" && tlsVersion(value) < 0 {
			return &PGURIError{"parameter " + param, "unknown value", "write one of " + strings.Join(TLSVersions, ", ")}
		}
		return nil
	}
}

// tlsVersion returns the index of a value in TLSVersions, or -1.
func tlsVersion(value string) int {
	return slices.IndexFunc(TLSVersions, func(v string) bool { return strings.EqualFold(v, value) })
}

// refuseValue returns a check that refuses one value of a parameter, because that value requires an
// unsupported feature.
func refuseValue(param, value, reason, hint string) func(string) error {
	return func(v string) error {
		if v == value {
			return &PGURIError{"parameter " + param, value + ": " + reason, hint}
		}
		return nil
	}
}

func refuseMinVersion(value string) error {
	if value != "3.0" {
		return &PGURIError{"parameter min_protocol_version", "only protocol 3.0 is spoken here", "write min_protocol_version=3.0 or leave it out"}
	}
	return nil
}

// validate returns a *PGURIError, or nil. As in libpq an empty value passes where there is
// nothing to choose from.
func (p pgParam) validate(value string) error {
	if strings.Contains(value, "\x00") {
		return &PGURIError{"parameter " + p.name, "holds a zero byte", "leave it out; PostgreSQL knows no zero bytes"}
	}
	if p.words != nil && !slices.Contains(p.words, value) {
		return &PGURIError{"parameter " + p.name, "unknown value", "write one of " + strings.Join(p.words, ", ")}
	}
	if p.check != nil {
		return p.check(value)
	}
	return nil
}

func checkAddrs(value string) error {
	for i, addr := range splitList(value) {
		if addr != "" && parseAddr(addr) != nil {
			return &PGURIError{fmt.Sprintf("hostaddr %d", i+1), "not an IP address", "write an address such as 10.0.0.5 or fd00::5, or use host for a name"}
		}
	}
	return nil
}

func checkPorts(value string) error {
	for i, port := range splitList(value) {
		if _, err := parsePort(port); err != nil {
			return &PGURIError{fmt.Sprintf("port of host %d", i+1), "not a number from 1 to 65535",
				"write host:5432; in a password / is written %2F, ? %3F, @ %40"}
		}
	}
	return nil
}

func checkSeconds(value string) error {
	if _, err := parseInt(value); err != nil {
		return &PGURIError{"parameter connect_timeout", "not a whole number of seconds", "write connect_timeout=5, say, or leave it out"}
	}
	return nil
}

// authMethods are the names that require_auth takes (PostgreSQL documentation 34.1.2).
var authMethods = []string{"password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"}

func checkAuthList(value string) error {
	fail := func(reason, hint string) error { return &PGURIError{"parameter require_auth", reason, hint} }
	list := splitList(value)
	for i, method := range list {
		name, negated := strings.CutPrefix(method, "!")
		if !slices.Contains(authMethods, name) {
			return fail("unknown method", "write one or more of "+strings.Join(authMethods, ", ")+", joined by commas, or each with a ! before it")
		}
		if negated != strings.HasPrefix(list[0], "!") {
			return fail("some methods have a !, others do not", "write a ! before all of them or before none")
		}
		if slices.Contains(list[:i], method) {
			return fail("a method stands in it twice", "write each method once")
		}
	}
	return nil
}

func errUnknownParam(name string, mayBeSecret bool) error {
	if name == "ssl" {
		return &PGURIError{"parameter ssl", "may only be true", "write sslmode=require, disable or another"}
	}
	names := make([]string, len(pgParams))
	for i, p := range pgParams {
		names[i] = p.name
	}
	e := &PGURIError{"parameter", "unknown, and its name not fit to show",
		"leave it out; in a password & is written %26; known are " + strings.Join(names, ", ")}
	if isPlainName(name) && !mayBeSecret {
		e.Part = "parameter " + name
		e.Reason = "unknown"
		e.Hint = "leave it out; known are " + strings.Join(names, ", ")
	}
	return e
}

// isPlainName reports whether an unknown parameter's name can be shown: those of PostgreSQL are of lower-case letters and _.
func isPlainName(s string) bool {
	return isIdentifier(s) && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

func isIdentifier(s string) bool { return ConsistsOf(s, "_") && len(s) <= maxIdentifier }

// parseInt parses an integer as libpq does (fe-connect.c, parse_int_param): 32 bits, a sign and
// white space around it allowed.
func parseInt(s string) (int, error) {
	n, err := strconv.ParseInt(strings.Trim(s, " \t\n\v\f\r"), 10, 32)
	if err != nil {
		return 0, errors.New("not an integer") // strconv's error holds the text
	}
	return int(n), nil
}

// parsePort parses a port; an empty one is 0.
func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, nil
	}
	n, err := parseInt(s)
	if err != nil || n < 1 || n > 65535 {
		return 0, errors.New("not a port")
	}
	return uint16(n), nil
}

func parseAddr(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return errors.New("not an IP address") // netip's error holds the text
	}
	return nil
}
