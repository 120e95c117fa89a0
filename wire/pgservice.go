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
// As in libpq (fe-connect.c, parseServiceFile), blanks around a line are dropped, and blanks around
// the = are kept. If a section or a parameter is repeated, the first one is used. Text after the ]
// of a section line is ignored.

// maxServiceLine is the longest line, in bytes with its newline. libpq refuses a line that fills
// its buffer of 1,024 bytes.
const maxServiceLine = 1022

// A PGServiceError reports an error in one line of a service file. Part, Reason and Hint are those
// of a *PGURIError. Of the file's text they hold at most the name of an unknown parameter, if it is
// a plain identifier.
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

// SetService sets the parameters of a service, read from the text of a service file. A parameter
// that is already given keeps its value, even an empty one. SetService reports whether the file
// defines the service. Its error is a *PGServiceError. Lines after the service's section are not
// checked.
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
