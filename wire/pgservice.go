package wire

import (
	"fmt"
	"slices"
	"strings"
)

// The connection service file, PostgreSQL documentation 34.17:
//
//	# comment
//	[service]
//	parameter=value
//
// As in libpq (fe-connect.c, parseServiceFile) blanks around a line are dropped and those around the = are not. The first
// section of a name counts, and within it the first line of a parameter. What follows the ] of a section's line is ignored.

// maxServiceLine is the longest line, in bytes with its newline: libpq refuses what fills its buffer of 1,024.
const maxServiceLine = 1022

// A PGServiceError says what is wrong with a line of a service file. Part, Reason and Hint are a *PGURIError's, so that it
// holds nothing of the file but the plain name of an unknown parameter.
type PGServiceError struct {
	Line int // counted from 1
	PGURIError
}

func (e *PGServiceError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.text()) }

func (e *PGServiceError) text() string {
	if e.Part == "" {
		return e.Reason
	}
	return e.PGURIError.Error()
}

// SetService gives the parameters of a service, from the text of a service file, to those that have no value yet, be it an
// empty one. It reports whether the file defines the service. Its error is a *PGServiceError; it does not judge lines behind
// the service's section.
func (u *PGURI) SetService(text, service string) (found bool, err error) {
	n := 0
	fail := func(part, reason, hint string) (bool, error) {
		return found, &PGServiceError{n, PGURIError{part, reason, hint}}
	}
	for line := range strings.Lines(text) {
		n++
		if len(line) > maxServiceLine {
			return fail("", fmt.Sprintf("longer than %d bytes", maxServiceLine), "shorten it; libpq refuses it too")
		}
		line = strings.Trim(line, " \t\n\v\f\r")
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			if found {
				return true, nil
			}
			found = strings.HasPrefix(line[1:], service+"]")
			continue
		case !found:
			continue
		case strings.HasPrefix(line, "ldap"):
			return fail("", "an LDAP lookup is not supported", "write the parameters into the service file")
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return fail("", "has no =", "write parameter=value")
		}
		if name == "service" {
			return fail("", "a service inside a service", "write the other service's parameters in its place")
		}
		i := slices.IndexFunc(pgParams, func(p pgParam) bool { return p.name == name })
		if i < 0 {
			e := errUnknownParam(name, false).(*PGURIError)
			return fail(e.Part, e.Reason, e.Hint)
		}
		if _, given := u.values[name]; given {
			continue
		}
		if value != "" {
			if err, ok := pgParams[i].validate(value).(*PGURIError); ok {
				return fail(err.Part, err.Reason, err.Hint)
			}
		}
		if u.values == nil {
			u.values = make(map[string]string)
		}
		u.values[name] = value
	}
	return found, nil
}
