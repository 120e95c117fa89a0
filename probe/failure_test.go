package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/wire"
)

// Errors in words for people. The secret is one that occurs in our own words, where a mask would give it away.
func TestFailIO(t *testing.T) {
	r := &run{Result: Result{Check: &Check{}}, allowed: 5 * time.Second}
	r.Check.redact.add("server", "timeout", "refused", "not", "standby")
	for _, test := range []struct {
		name string
		err  error
		want failure
	}{
		{"deadline", context.DeadlineExceeded, failure{phase: PhaseAuth, text: "timeout after 5s", timedOut: true}},
		{"closed by the deadline", &net.OpError{Op: "read", Err: net.ErrClosed}, failure{phase: PhaseAuth, text: "timeout after 5s", timedOut: true}},
		{"the system's timeout", &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}, failure{phase: PhaseAuth, text: "connection timed out", timedOut: true}},
		{"key derivation", &wire.IterationsError{Iterations: 5, Err: context.DeadlineExceeded}, failure{phase: PhaseAuth, text: "timeout after 5s, in the SCRAM key derivation of 5 iterations", timedOut: true}},
		{"errno", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, failure{phase: PhaseAuth, text: "connection refused"}},
		{"no such host", &net.DNSError{Err: "no such host", Name: "s3cr3t"}, failure{phase: PhaseResolve, text: "no such host"}},
		{"name server refuses", &net.DNSError{Err: "read udp 127.0.0.1:41370->127.0.0.53:53: read: connection refused", Name: "s3cr3t"},
			failure{phase: PhaseResolve, text: "name server: connection refused"}},
		{"no name server", &net.DNSError{Err: "i/o timeout", IsTimeout: true}, failure{phase: PhaseResolve, text: "no answer from the name server", timedOut: true}},
		{"no TLS", tls.RecordHeaderError{Msg: "x"}, failure{phase: PhaseAuth, text: "the server does not speak TLS"}},
		{"alert", &net.OpError{Op: remoteAlert, Err: errors.New("tls: bad certificate")}, failure{phase: PhaseTLS, text: "the server refuses: bad certificate"}},
		{"end", io.EOF, failure{phase: PhaseAuth, text: "the server closed the connection"}},
		{"end, from wire", wire.ErrClosed, failure{phase: PhaseAuth, text: "the server closed the connection"}},
		{"end within", io.ErrUnexpectedEOF, failure{phase: PhaseAuth, text: "the server closed the connection in the middle of its answer"}},
		{"wire's", &wire.ForeignError{Want: "Redis", Got: "server"}, failure{phase: PhaseReply, text: "not Redis: it speaks server"}},
		{"a peer's", &wire.PGError{Severity: "FATAL", Code: "X", Message: "no server\n"}, failure{phase: PhaseAuth, text: `FATAL X: no ***\n`}},
		{"anything", errors.New("tls: not\x00"), failure{phase: PhaseAuth, text: `***\x00`}},
	} {
		if got := *r.failIO(PhaseAuth, test.err); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	r.allowed = 0
	if got := r.failIO(PhaseAuth, context.DeadlineExceeded).text; got != "timeout" {
		t.Errorf("without a time to report: %q", got)
	}
}

// What libpq does after a login that failed: fall back to the other way of connecting, or go on to
// the next host.
func TestFailLogin(t *testing.T) {
	refused := func(code string) error { return &wire.PGError{Severity: "FATAL", Code: code, Message: "no"} }
	alert := &net.OpError{Op: remoteAlert, Err: errors.New("tls: certificate required")}
	for _, test := range []struct {
		err                    error
		greeted, authenticated bool
		want                   failure
	}{
		{refused("28000"), true, false, failure{phase: PhaseAuth, text: "FATAL 28000: no", fallBack: true, rank: 1}},
		{refused("28P01"), true, false, failure{phase: PhaseAuth, text: "FATAL 28P01: no", fallBack: true, rank: 2}},
		{refused("08P01"), true, false, failure{phase: PhaseReply, text: "FATAL 08P01: no", fallBack: true, rank: 2}},
		{refused("08P01"), true, true, failure{phase: PhaseReply, text: "FATAL 08P01: no", rank: 2}},
		{refused("3D000"), true, false, failure{phase: PhaseReply, text: "FATAL 3D000: no", fallBack: true, rank: 2}},
		{refused("3D000"), true, true, failure{phase: PhaseReply, text: "FATAL 3D000: no", rank: 2}},
		{refused("53300"), true, false, failure{phase: PhaseReply, text: "FATAL 53300: no", rank: 2}},
		{refused("57P01"), true, false, failure{phase: PhaseReply, text: "FATAL 57P01: no", rank: 2}},
		{refused("57P03"), true, false, failure{phase: PhaseReply, text: "FATAL 57P03: no", nextHost: true, rank: 2}},
		{refused(""), false, false, failure{phase: PhaseReply, text: "FATAL: no", fallBack: true, rank: 2}},
		{alert, false, false, failure{phase: PhaseTLS, text: "the server refuses: certificate required", fallBack: true}},
		{&wire.AuthError{What: "require_auth"}, true, false, failure{phase: PhaseAuth, text: "require_auth"}},
		{wire.ErrNoPassword, true, false, failure{phase: PhaseAuth, text: "the server wants a password, and none is given"}},
		{wire.ErrClosed, false, false, failure{phase: PhaseReply, text: "the server closed the connection"}},
		{wire.ErrClosed, true, false, failure{phase: PhaseAuth, text: "the server closed the connection"}},
		{wire.ErrClosed, true, true, failure{phase: PhaseReply, text: "the server closed the connection"}},
		{&wire.ForeignError{Want: "PostgreSQL", Got: "HTTP"}, false, false, failure{phase: PhaseReply, text: "not PostgreSQL: it speaks HTTP"}},
		{context.DeadlineExceeded, true, false, failure{phase: PhaseAuth, text: "timeout", timedOut: true}},
	} {
		r := &run{Result: Result{Check: &Check{}}}
		if got := *r.failLogin(test.err, test.greeted, test.authenticated); got != test.want {
			t.Errorf("%v, greeted %v, authenticated %v: %+v, want %+v", test.err, test.greeted, test.authenticated, got, test.want)
		}
	}
}

// pgbouncer's words before a login, as its source has them (src/client.c, src/server.c).
func TestAboutAuth(t *testing.T) {
	for message, want := range map[string]bool{
		"password authentication failed":    true,
		"SASL authentication failed":        true,
		"no such user: app":                 true,
		"empty password returned by client": true,
		"certificate authentication failed": true,
		"login failed: db=app user=app":     true,
		"SSL required":                      true,
		"server login failed: FATAL password authentication failed for user \"app\"": true,
		"server login failed: FATAL database \"none\" does not exist":                false,
		"server login has been failing, try again later (server_login_retry)":        false,
		"no such database: app":                         false,
		"bouncer config error":                          false,
		"unsupported startup parameter: options":        false,
		"no more connections allowed (max_client_conn)": false,
		"client_login_timeout (server down)":            false,
		"pgbouncer cannot connect to server":            false,
		"server conn crashed?":                          false,
		"the database system is shutting down, authority of which is with the operator": false,
	} {
		if got := aboutAuth(message); got != want {
			t.Errorf("aboutAuth(%q) = %t, want %t", message, got, want)
		}
	}
}
