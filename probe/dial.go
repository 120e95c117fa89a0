package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// attemptDelay is how long one address may be silent before the next is tried beside it: the "Connection Attempt
// Delay" of RFC 8305 section 5. Under a short deadline it is less, so that every address is tried.
const attemptDelay = 250 * time.Millisecond

// maxAddresses bounds how many addresses of one name are tried.
const maxAddresses = 16

// maxSocketPath is the longest path of a Unix socket, in bytes: sun_path holds 108 with the zero byte that ends it (unix(7)).
const maxSocketPath = 107

// dial connects to address and binds the connection to ctx: its deadline is set once, here, and when ctx is
// done the connection is closed, whatever is under way on it. For tcp every address of the name is tried.
func dial(ctx context.Context, r *run, network, address string) (net.Conn, *failure) {
	addrs := []string{address}
	if network == "unix" && len(address) > maxSocketPath {
		return nil, fail(PhaseConnect, fmt.Sprintf("the socket's path is longer than %d bytes", maxSocketPath))
	}
	if network != "unix" {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, r.failIO(PhaseConnect, err)
		}
		if addrs, err = resolve(ctx, host, port); err != nil {
			return nil, r.failIO(PhaseResolve, err)
		}
	}
	conn, err := connect(ctx, network, addrs)
	if err != nil {
		return nil, r.failIO(PhaseConnect, err)
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

// resolve returns the addresses of a host, each with the port, those of the two families in turn.
// For localhost both loopback addresses are among them, whatever the resolver returns (RFC 6761
// section 6.3).
func resolve(ctx context.Context, host, port string) ([]string, error) {
	plain, _, _ := strings.Cut(host, "%")
	if _, err := netip.ParseAddr(plain); err == nil {
		return []string{net.JoinHostPort(host, port)}, nil
	}
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
		if s := net.JoinHostPort(a.String(), port); !slices.Contains(families[i], s) {
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

// connect dials the addresses, several in a race.
func connect(ctx context.Context, network string, addrs []string) (net.Conn, error) {
	var d net.Dialer
	d.KeepAlive = -1 // no connection of a probe lives long enough to want one
	if len(addrs) == 1 {
		return d.DialContext(ctx, network, addrs[0])
	}
	delay := attemptDelay
	if deadline, ok := ctx.Deadline(); ok {
		delay = min(delay, time.Until(deadline)/time.Duration(len(addrs)+1))
	}
	return race(ctx, len(addrs), delay, func(ctx context.Context, i int) (net.Conn, error) {
		return d.DialContext(ctx, network, addrs[i])
	})
}

// race starts n attempts one after the other, the next when the last has failed or has been silent
// for delay, and returns the first connection. The others are closed. Its error is the one with the
// highest rank.
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
				return nil, slices.MaxFunc(errs, func(a, b error) int { return cmp.Compare(dialErrorRank(a), dialErrorRank(b)) })
			}
		}
	}
}

// dialErrorRank orders the errors of several addresses: an answer before silence, and that before
// the lack of the address family on this machine.
func dialErrorRank(err error) int {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		return 0
	case isTimeout(err):
		return 1
	}
	return 2
}
