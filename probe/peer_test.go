package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// patient is a deadline that no test comes near on a loaded machine.
const patient = 30 * time.Second

// An env is an environment for Options.LookupEnv.
type env map[string]string

func (e env) lookup(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}

// parseOne parses one check, with a long deadline unless o has one.
func parseOne(o Options, kind, value string) (*Check, error) {
	if o.Timeout == 0 {
		o.Timeout = patient
	}
	if o.LookupEnv == nil {
		o.LookupEnv = env{}.lookup
	}
	checks, err := Parse([]Spec{{Type: kind, Value: value, Source: "--" + kind}}, o)
	if err != nil {
		return nil, err
	}
	return checks[0], nil
}

// mustParse is parseOne for values that are right.
func mustParse(t testing.TB, o Options, kind, value string) *Check {
	t.Helper()
	c, err := parseOne(o, kind, value)
	if err != nil {
		t.Fatalf("Parse(--%s %q): %v", kind, value, err)
	}
	return c
}

// usageOf returns the two lines of a usage error, "" for nil.
func usageOf(t testing.TB, err error) string {
	t.Helper()
	var u *UsageError
	if err == nil {
		return ""
	}
	if !errors.As(err, &u) {
		t.Fatalf("%v (%T) is no *UsageError", err, err)
	}
	return u.What + "\n" + u.Hint
}

// tryOut runs one check against a peer once.
func tryOut(t testing.TB, o Options, kind, value string) Result {
	t.Helper()
	return mustParse(t, o, kind, value).Run(context.Background())
}

// says is a script that reads what came first, sends text, and closes.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, text)
	}
}

// silent is a script that reads for ever and says nothing.
func silent(conn net.Conn) { io.Copy(io.Discard, conn) }

// answers serves one HTTP answer, LF written as CR LF in its header.
func answers(t testing.TB, head, body string) string {
	return testbed.Serve(t, says(strings.ReplaceAll(head, "\n", "\r\n")+"\r\n"+body))
}

// fake is a check that does what probe does, with no peer.
func fake(name string, timeout time.Duration, probe prober) *Check {
	return &Check{Name: name, Type: "tcp", Target: name + ":1", timeout: timeout, probe: probe}
}
