package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"alfred/healthcheck/wire"
)

// attemptDelay is how long one address may be silent before the next is tried beside it: the "Connection Attempt
// Delay" of RFC 8305 section 5. Under a short deadline it is less, so that every address is tried.
const attemptDelay = 250 * time.Millisecond

// maxAddresses bounds how many addresses of one name are tried.
const maxAddresses = 16

// dial connects to address and binds the connection to ctx: its deadline is set once, here, and when ctx is
// done the connection is closed, whatever is under way on it. For tcp every address of the name is tried.
func dial(ctx context.Context, r *run, network, address string) (net.Conn, error) {
	conn, err := connect(ctx, r, network, address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	return &boundConn{Conn: conn, stop: context.AfterFunc(ctx, func() { conn.Close() })}, nil
}

// A boundConn is a connection that is closed when its context is done.
type boundConn struct {
	net.Conn
	stop func() bool
}

func (c *boundConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

func connect(ctx context.Context, r *run, network, address string) (net.Conn, error) {
	var d net.Dialer
	d.KeepAlive = -1 // no connection of a probe lives long enough to want one
	if network == "unix" {
		r.enter(PhaseConnect)
		return d.DialContext(ctx, network, address)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := resolve(ctx, r, host)
	if err != nil {
		return nil, err
	}
	r.enter(PhaseConnect)
	if len(addrs) == 1 {
		return d.DialContext(ctx, network, net.JoinHostPort(addrs[0], port))
	}
	delay := attemptDelay
	if deadline, ok := ctx.Deadline(); ok {
		delay = min(delay, time.Until(deadline)/time.Duration(len(addrs)+1))
	}
	return race(ctx, len(addrs), delay, func(ctx context.Context, i int) (net.Conn, error) {
		return d.DialContext(ctx, network, net.JoinHostPort(addrs[i], port))
	})
}

// resolve returns the addresses of a host, those of the two families in turn. For localhost both loopback addresses
// are among them, whatever the resolver says (RFC 6761 section 6.3).
func resolve(ctx context.Context, r *run, host string) ([]string, error) {
	plain, _, _ := strings.Cut(host, "%")
	if _, err := netip.ParseAddr(plain); err == nil {
		return []string{host}, nil
	}
	r.enter(PhaseResolve)
	local := strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
	if local { // known without a name server, if there is one to wait for
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptDelay)
		defer cancel()
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if local {
		addrs = append(addrs, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	} else if err != nil {
		return nil, err
	}
	var families [2][]string // the first address's family, the other one
	for _, a := range addrs {
		a = a.Unmap()
		i := 0
		if a.Is4() != addrs[0].Unmap().Is4() {
			i = 1
		}
		if s := a.String(); !slices.Contains(families[i], s) {
			families[i] = append(families[i], s)
		}
	}
	var list []string
	for i := range addrs {
		for _, f := range families {
			if i < len(f) && len(list) < maxAddresses {
				list = append(list, f[i])
			}
		}
	}
	return list, nil
}

// race starts n attempts one after the other, the next when the last has failed or has been silent for delay, and
// returns the first connection. The others are closed. Its error is that of the attempt that says most.
func race(ctx context.Context, n int, delay time.Duration, attempt func(context.Context, int) (net.Conn, error)) (net.Conn, error) {
	type outcome struct {
		i    int
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, n) // so that no attempt waits for a reader: each ends with ctx
	errs := make([]error, n)
	started, pending := 0, 0
	start := func() {
		i := started
		started++
		pending++
		go func() {
			conn, err := attempt(ctx, i)
			outcomes <- outcome{i, conn, err}
		}()
	}
	start()
	for {
		var next <-chan time.Time
		if started < n {
			next = time.After(delay)
		}
		select {
		case <-next:
			start()
		case o := <-outcomes:
			pending--
			if o.err == nil {
				cancel()
				for range pending { // a cancelled attempt ends at once
					if late := <-outcomes; late.conn != nil {
						late.conn.Close()
					}
				}
				return o.conn, nil
			}
			errs[o.i] = o.err
			if started < n {
				start()
			} else if pending == 0 {
				return nil, slices.MinFunc(errs, func(a, b error) int { return cmp.Compare(weight(a), weight(b)) })
			}
		}
	}
}

// weight orders the errors of several addresses: an answer first, then silence, last what this machine lacks the
// address family for.
func weight(err error) int {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		return 2
	case isTimeout(err):
		return 1
	}
	return 0
}

// remoteAlert is the Op of the net.OpError with which crypto/tls reports an alert from the peer.
const remoteAlert = "remote error"

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// phaseOf is the phase to which an error belongs: its own where it says so, else the one that was under way.
func phaseOf(err error, under Phase) Phase {
	var dns *net.DNSError
	var op *net.OpError
	var phased *phaseError
	var foreign *wire.ForeignError
	switch {
	case errors.As(err, &phased):
		return phased.phase
	case errors.As(err, &dns):
		return PhaseResolve
	case errors.As(err, &op) && op.Op == remoteAlert: // with TLS 1.3 a refused client hears of it only when it reads
		return PhaseTLS
	case errors.As(err, &foreign):
		return PhaseReply
	}
	return under
}

// A phaseError is an error of a phase other than the one under way.
type phaseError struct {
	phase Phase
	err   error
}

func (e *phaseError) Error() string { return e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// describe puts an error into words for people, without what the line says anyway. Words that a peer chose are cleaned;
// ours are not, since a mask in a known text would tell what it covers. allowed is how long the check had, 0 where that is not
// to be told.
func (red *redactor) describe(err error, allowed time.Duration) (message string, timedOut bool) {
	var (
		clean      cleanError
		hosts      *hostsError
		iterations *wire.IterationsError
		dns        *net.DNSError
		certErr    *tls.CertificateVerificationError
		record     tls.RecordHeaderError
		op         *net.OpError
		errno      syscall.Errno
		protocol   *wire.ProtocolError
		foreign    *wire.ForeignError
		auth       *wire.AuthError
		notWanted  *errNotWanted
	)
	late := "timeout"
	if allowed > 0 {
		late += " after " + allowed.Round(time.Millisecond).String()
	}
	switch {
	case errors.As(err, &hosts):
		return hosts.text, hosts.timeout
	case errors.As(err, &iterations):
		return late + ", in the " + iterations.Error(), true
	case errors.Is(err, syscall.ETIMEDOUT):
		return syscall.ETIMEDOUT.Error(), true
	case errors.As(err, &dns) && dns.IsTimeout: // the resolver's own time may have run out before the deadline
		return "no answer from the name server", true
	case isTimeout(err), errors.Is(err, net.ErrClosed): // closed by nobody but its deadline
		return late, true
	case errors.As(err, &clean):
		return clean.Error(), false
	case errors.As(err, &dns):
		return dns.Err, false
	case errors.As(err, &certErr):
		return red.clean(strings.TrimPrefix(certErr.Err.Error(), "x509: ")), false
	case errors.As(err, &record):
		return "the server does not speak TLS", false
	case errors.As(err, &op) && op.Op == remoteAlert:
		return "the server refuses: " + strings.TrimPrefix(op.Err.Error(), "tls: "), false
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection in the middle of its answer", false
	case errors.Is(err, io.EOF):
		return "the server closed the connection", false
	case errors.As(err, &errno):
		return errno.Error(), false
	case errors.As(err, &protocol), errors.As(err, &foreign), errors.As(err, &auth), errors.As(err, &notWanted),
		errors.Is(err, wire.ErrNoPassword), errors.Is(err, wire.ErrClosed):
		return err.Error(), false
	case errors.As(err, &op):
		err = op.Err
	}
	return red.clean(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "x509: ")), false
}

// A cleanError is an error whose words are ours, or cleaned.
type cleanError string

func (e cleanError) Error() string { return string(e) }
