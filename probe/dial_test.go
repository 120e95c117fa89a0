package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"alfred/healthcheck/test/testbed"
)

// A stubConn notes that it was closed.
type stubConn struct {
	net.Conn
	name   int
	closed *[]int
}

func (c stubConn) Close() error {
	*c.closed = append(*c.closed, c.name)
	return nil
}

// Attempts are staggered, the first connection wins, the others are closed, and the error is that which says most.
func TestRace(t *testing.T) {
	refused, silent, lacking := error(syscall.ECONNREFUSED), error(syscall.ETIMEDOUT), error(syscall.ENETUNREACH)
	type attempt struct {
		after time.Duration // from its own start; 0 at once
		err   error         // nil: connected
		deaf  bool          // does not hear of the cancellation
	}
	const ms = time.Millisecond
	for _, test := range []struct {
		name     string
		attempts []attempt
		started  []time.Duration
		winner   int
		err      error
		took     time.Duration
		closed   []int
	}{
		{"one", []attempt{{after: 10 * ms}}, []time.Duration{0}, 0, nil, 10 * ms, nil},
		{"first in time", []attempt{{after: 90 * ms}, {after: 90 * ms}}, []time.Duration{0}, 0, nil, 90 * ms, nil},
		{"second overtakes", []attempt{{after: 500 * ms}, {after: 10 * ms}}, []time.Duration{0, 100 * ms}, 1, nil, 110 * ms, nil},
		{"a failure starts the next", []attempt{{10 * ms, refused, false}, {after: 10 * ms}}, []time.Duration{0, 10 * ms}, 1, nil, 20 * ms, nil},
		{"a loser that connects is closed", []attempt{{150 * ms, nil, true}, {after: 10 * ms}, {}}, []time.Duration{0, 100 * ms}, 1, nil, 150 * ms, []int{0}},
		{"all refused", []attempt{{0, refused, false}, {0, refused, false}}, []time.Duration{0, 0}, -1, refused, 0, nil},
		{"an answer says more than silence", []attempt{{200 * ms, silent, false}, {10 * ms, refused, false}}, []time.Duration{0, 100 * ms}, -1, refused, 200 * ms, nil},
		{"silence says more than no route", []attempt{{0, lacking, false}, {10 * ms, silent, false}}, []time.Duration{0, 0}, -1, silent, 10 * ms, nil},
		{"silent all", []attempt{{time.Hour, nil, false}, {time.Hour, nil, false}, {time.Hour, nil, false}}, []time.Duration{0, 100 * ms, 200 * ms}, -1, context.DeadlineExceeded, time.Second, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			var mu sync.Mutex
			var started []time.Duration
			var closed []int
			conn, err := race(ctx, len(test.attempts), 100*ms, func(ctx context.Context, i int) (net.Conn, error) {
				mu.Lock()
				started = append(started, time.Since(start))
				mu.Unlock()
				a := test.attempts[i]
				if a.deaf {
					ctx = context.Background()
				}
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(a.after):
				}
				if a.err != nil {
					return nil, a.err
				}
				return stubConn{name: i, closed: &closed}, nil
			})
			winner := -1
			if conn != nil {
				winner = conn.(stubConn).name
			}
			if winner != test.winner || !errors.Is(err, test.err) {
				t.Errorf("%s: attempt %d, %v, want %d, %v", test.name, winner, err, test.winner, test.err)
			}
			if took := time.Since(start); took != test.took {
				t.Errorf("%s: took %v, want %v", test.name, took, test.took)
			}
			if !slices.Equal(started, test.started) {
				t.Errorf("%s: started at %v, want %v", test.name, started, test.started)
			}
			if !slices.Equal(closed, test.closed) {
				t.Errorf("%s: closed %v, want %v", test.name, closed, test.closed)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		host string
		want []string // each is among them
	}{
		{"127.0.0.1", []string{"127.0.0.1:80"}},
		{"::1", []string{"[::1]:80"}},
		{"fe80::1%lo", []string{"[fe80::1%lo]:80"}},
		{"localhost", []string{"127.0.0.1:80", "[::1]:80"}},
		{"LocalHost.", []string{"127.0.0.1:80", "[::1]:80"}},
	} {
		got, err := resolve(context.Background(), test.host, "80")
		for _, want := range test.want {
			if !slices.Contains(got, want) || err != nil {
				t.Errorf("resolve(%q) = %q, %v, want %q among them", test.host, got, err, want)
			}
		}
		slices.Sort(got)
		if len(slices.Compact(got)) != len(got) {
			t.Errorf("resolve(%q) = %q, want each once", test.host, got)
		}
	}
	if _, f := dial(context.Background(), &run{}, "tcp", "no..such:80"); f == nil || *f != (failure{phase: PhaseResolve, text: "no such host"}) {
		t.Errorf("dial of no name: %+v", f)
	}
	if _, f := dial(context.Background(), &run{Result: Result{Check: &Check{}}}, "tcp", "a]b:80"); f == nil || f.phase != PhaseConnect {
		t.Errorf("dial of no address: %+v", f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := resolve(ctx, "localhost", "80"); err != nil || !slices.Contains(got, "[::1]:80") {
		t.Errorf("resolve of localhost without a name server = %q, %v", got, err)
	}
}

// A server that listens on one loopback address is found by the name localhost.
func TestLocalhost(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Logf("%s: %v", at, err)
			continue
		}
		testbed.ServeOn(t, l, func(net.Conn) {})
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if r := tryOut(t, Options{}, "tcp", "localhost:"+port); r.Status != OK || r.Seen() != "connected" {
			t.Errorf("localhost, listening on %s: %s %q", at, r.Status, r.Seen())
		}
	}
}

// When the deadline has come the connection is closed under whatever is going on, and so it is when a check is done.
func TestDialBindsToContext(t *testing.T) {
	addr := testbed.Serve(t, silent)
	ctx, cancel := context.WithCancel(context.Background())
	conn, f := dial(ctx, &run{}, "tcp", addr)
	if f != nil {
		t.Fatal(f.text)
	}
	failed := make(chan error)
	go func() { // ends when the connection is closed
		_, err := conn.Read(make([]byte, 1))
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading, cancelled: %v", err)
	}
	conn = nil
	for timeout := 10 * time.Millisecond; conn == nil && timeout < time.Minute; timeout *= 2 { // a busy machine takes longer
		ctx, cancel = context.WithTimeout(context.Background(), timeout)
		defer cancel()
		conn, f = dial(ctx, &run{}, "tcp", addr)
	}
	if conn == nil {
		t.Fatal(f.text)
	}
	if _, err := io.ReadAll(conn); !isTimeout(err) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading, past the deadline: %v", err)
	}
}

// The certificates' options, against one server.
func TestTLSOptions(t *testing.T) {
	ca, stranger := testbed.NewCA(t), testbed.NewCA(t)
	pair := ca.Issue(t, testbed.Leaf{Names: []string{"db.example"}})
	config := &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}}
	addr := testbed.Serve(t, func(conn net.Conn) {
		s := tls.Server(conn, config)
		defer s.Close()
		for s.Handshake() == nil {
			if args, err := readCommand(s); err != nil || args == nil {
				return
			}
			io.WriteString(s, "+PONG\r\n")
		}
	})
	for _, test := range []struct {
		name string
		o    TLSOptions
		want string
	}{
		{"nothing", TLSOptions{ServerName: "db.example"}, "tls: certificate signed by unknown authority"},
		{"another CA", TLSOptions{CA: stranger.File, ServerName: "db.example"}, "tls: certificate signed by unknown authority"},
		{"the CA, another name", TLSOptions{CA: ca.File}, "tls: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"},
		{"the CA and the name", TLSOptions{CA: ca.File, ServerName: "db.example"}, "PONG"},
		{"insecure", TLSOptions{Insecure: true}, "PONG"},
		{"insecure, for all that is given", TLSOptions{Insecure: true, CA: stranger.File, ServerName: "x"}, "PONG"},
	} {
		r := tryOut(t, Options{TLS: test.o}, "redis", "rediss://"+addr)
		if !strings.HasPrefix(r.Seen(), test.want) {
			t.Errorf("%s: %q, want %q", test.name, r.Seen(), test.want)
		}
		if r.Status == OK && time.Until(r.CertExpiry) < time.Hour {
			t.Errorf("%s: the certificate ends at %v", test.name, r.CertExpiry)
		}
	}
}
