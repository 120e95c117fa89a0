package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"alfred/healthcheck/wire"
)

// A failure is why a check did not pass. It is built once, where it happens, with all that is known
// there.
type failure struct {
	phase    Phase
	text     string // printable, on one line, without a secret
	detail   string // likewise; Result.Detail
	remedy   string // Result.Remedy
	timedOut bool

	// What libpq does after it. Only the postgres check sets and reads these.
	fallBack bool // retry the host with TLS instead of without, or without instead of with
	nextHost bool // try the next host
	rank     int  // of the failures with and without TLS, the one with the higher rank is reported
}

// fail returns a failure in words of ours. A peer's words in the text have passed through
// run.clean.
func fail(phase Phase, text string) *failure { return &failure{phase: phase, text: text} }

// timedOut is fail for a peer that did not answer in time.
func timedOut(phase Phase, text string) *failure {
	return &failure{phase: phase, text: text, timedOut: true}
}

// failIO returns the failure of a look-up, a dial, a handshake or an exchange of messages. The
// phase is the one under way; an error that belongs to another phase by its kind, such as a late
// TLS alert, is reported there. A peer's words are cleaned. Ours are not, since a mask in a known
// text would give away what it covers.
func (r *run) failIO(phase Phase, err error) *failure {
	var (
		iterations  *wire.IterationsError
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		op          *net.OpError
		errno       syscall.Errno
		protocol    *wire.ProtocolError
		foreign     *wire.ForeignError
		auth        *wire.AuthError
		postgres    *wire.PGError
	)
	switch {
	case errors.As(err, &iterations):
		return timedOut(phase, r.timeoutText()+", in the "+iterations.Error())
	case errors.Is(err, syscall.ETIMEDOUT):
		return timedOut(phase, syscall.ETIMEDOUT.Error())
	case errors.As(err, &dns) && dns.IsTimeout: // the resolver's own time may have run out before the deadline
		return timedOut(PhaseResolve, "no answer from the name server")
	case isTimeout(err), errors.Is(err, net.ErrClosed): // nothing but the deadline closes it
		return timedOut(phase, r.timeoutText())
	case errors.As(err, &dns):
		return fail(PhaseResolve, resolverText(dns.Err))
	case errors.As(err, &certificate):
		err = certificate.Err
	case errors.As(err, &record):
		f := fail(phase, "the server does not speak TLS")
		f.remedy = r.Check.plain
		return f
	case errors.As(err, &op) && op.Op == remoteAlert: // with TLS 1.3 a refused client learns of it only when it reads
		return fail(PhaseTLS, "the server refuses: "+strings.TrimPrefix(op.Err.Error(), "tls: "))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fail(phase, "the server closed the connection in the middle of its answer")
	case errors.Is(err, io.EOF):
		return fail(phase, "the server closed the connection")
	case errors.As(err, &errno):
		return fail(phase, errno.Error())
	case errors.As(err, &foreign):
		f := fail(PhaseReply, err.Error())
		if foreign.Got == "TLS" {
			f.remedy = r.Check.secure
		}
		return f
	case errors.As(err, &protocol), errors.As(err, &auth), errors.Is(err, wire.ErrNoPassword), errors.Is(err, wire.ErrClosed):
		return fail(phase, err.Error())
	case errors.As(err, &postgres):
		head := strings.TrimSuffix(postgres.Error(), postgres.Message)
		return fail(phase, r.clean(head)+r.clean(postgres.Message))
	case errors.As(err, &op):
		err = op.Err
	}
	return fail(phase, r.clean(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "x509: ")))
}

// timeoutText is "timeout after" the time that was allowed, where that is known.
func (r *run) timeoutText() string {
	if r.allowed <= 0 {
		return "timeout"
	}
	return "timeout after " + r.allowed.Round(time.Millisecond).String()
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// resolverText is the resolver's text without the addresses of "read udp 10.0.0.9:41370->10.0.0.2:53: read: connection refused":
// the source port differs from try to try, and would make each a new reason to log.
func resolverText(s string) string {
	if i := strings.LastIndex(s, ": "); i >= 0 {
		return "name server: " + s[i+len(": "):]
	}
	return s
}

// remoteAlert is the Op of the net.OpError with which crypto/tls reports an alert from the peer.
const remoteAlert = "remote error"
