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

var pgParams = []pgParam{
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
	if isIdentifier(name) && !mayBeSecret {
		e.Part = "parameter " + name
		e.Reason = "unknown"
		e.Hint = "leave it out; known are " + strings.Join(names, ", ")
	}
	return e
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
