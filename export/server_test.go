package export

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"alfred/healthcheck/probe"
)

// A pipeListener accepts the far ends of pipes: with them a server runs on synctest's clock.
type pipeListener struct {
	failures int // to begin with
	conns    chan net.Conn
	closed   chan struct{}
	once     sync.Once // closes closed
}

func (l *pipeListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.ENOMEM}
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// onClock runs f as a client of an exporter without command, on synctest's clock.
func onClock(t *testing.T, f func(t *testing.T, client net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{failures: 3, conns: make(chan net.Conn), closed: make(chan struct{})}
		ended := make(chan error)
		e := New(Config{Monitor: probe.NewMonitor(nil, probe.MonitorOptions{Interval: time.Hour})})
		go func() { ended <- e.Serve(l) }()
		client, server := net.Pipe()
		l.conns <- server
		f(t, client)
		client.Close()
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve = %v, want net.ErrClosed", err)
		}
		synctest.Wait()
		if n := len(e.conns.list); n != 0 {
			t.Errorf("%d connections are counted once all have ended", n)
		}
	})
}

const request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

// TestSlowClients: when a client that does not get on is cut off.
func TestSlowClients(t *testing.T) {
	// write sends s, and reports an error only if the server has not hung up.
	forever := func(conn net.Conn, s string, pause time.Duration) {
		for _, err := conn.Write([]byte(s)); err == nil; _, err = conn.Write([]byte(s)) {
			time.Sleep(pause)
		}
	}
	for _, tt := range []struct {
		name   string
		client func(conn net.Conn) // sends
		answer string              // how what comes back begins
		after  time.Duration       // when the server hangs up
	}{
		{"silent", func(net.Conn) {}, "", readTimeout},
		{"half a request", func(c net.Conn) { io.WriteString(c, "GET /metr") }, "", readTimeout},
		{"a byte a second", func(c net.Conn) { io.WriteString(c, "GET /"); forever(c, "a", time.Second) }, "", readTimeout},
		{"a header a second", func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n"); forever(c, "X: y\r\n", time.Second) }, "", readTimeout},
		{"a body a byte a second", func(c net.Conn) {
			io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
			forever(c, "a", time.Second)
		}, "HTTP/1.1 200 OK\r\n", readTimeout},
		{"one request", func(c net.Conn) { io.WriteString(c, request) }, "HTTP/1.1 200 OK\r\n", idleTimeout},
		{"one request that asks for the end", func(c net.Conn) { io.WriteString(c, "GET /healthz HTTP/1.0\r\n\r\n") }, "HTTP/1.0 200 OK\r\n", 0},
		{"one request and half of the next", func(c net.Conn) { io.WriteString(c, request+"GET /") }, "HTTP/1.1 200 OK\r\n", readTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onClock(t, func(t *testing.T, conn net.Conn) {
				start := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { tt.client(conn) }) // ends once the server hangs up
				got, _ := io.ReadAll(conn)
				// net/http closes half a second after what it could not read to its end.
				if took := time.Since(start); took < tt.after || took > tt.after+time.Second {
					t.Errorf("the server hung up after %v, want %v", took, tt.after)
				}
				conn.Close()
				sending.Wait()
				if !strings.HasPrefix(string(got), tt.answer) || tt.answer == "" && len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 400") {
					t.Errorf("answer %q, want %q", got, tt.answer)
				}
			})
		})
	}
	t.Run("an answer that is not read", func(t *testing.T) {
		onClock(t, func(t *testing.T, conn net.Conn) {
			start := time.Now()
			io.WriteString(conn, request)
			time.Sleep(writeTimeout + time.Second)
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after %v there is still an answer: %v", time.Since(start), err)
			}
		})
	})
	t.Run("kept busy", func(t *testing.T) { // a scraper's connection lasts
		onClock(t, func(t *testing.T, conn net.Conn) {
			for range 20 {
				io.WriteString(conn, request)
				buf := make([]byte, 4096)
				var got []byte
				for !bytes.HasSuffix(got, []byte("}\n")) {
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, buf[:n]...)
				}
				time.Sleep(time.Minute)
			}
		})
	})
}

// TestLongHeaders: how much of a header is read.
func TestLongHeaders(t *testing.T) {
	onClock(t, func(t *testing.T, conn net.Conn) {
		sent := 0
		go func() { // ends once the server hangs up
			n, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: ")
			for sent += n; err == nil; sent += n {
				n, err = conn.Write(make([]byte, 1024))
			}
		}()
		got, _ := io.ReadAll(conn)
		synctest.Wait()
		if !strings.HasPrefix(string(got), "HTTP/1.1 4") || sent > 2*maxHeaderBytes+8192 {
			t.Errorf("%d bytes of a header were read, then %q", sent, got)
		}
	})
	onClock(t, func(t *testing.T, conn net.Conn) { // one as long as a browser's with cookies is fine
		go io.WriteString(conn, "GET /healthz HTTP/1.0\r\nCookie: "+strings.Repeat("a", maxHeaderBytes-100)+"\r\n\r\n")
		if got, _ := io.ReadAll(conn); !strings.HasPrefix(string(got), "HTTP/1.0 200 OK\r\n") {
			t.Errorf("a header of %d bytes: %q", maxHeaderBytes, got)
		}
	})
}

// TestOptions: OPTIONS of the server as a whole is no exception.
func TestOptions(t *testing.T) {
	onClock(t, func(t *testing.T, conn net.Conn) {
		go io.WriteString(conn, "OPTIONS * HTTP/1.0\r\n\r\n")
		if got, _ := io.ReadAll(conn); !strings.HasPrefix(string(got), "HTTP/1.0 405 Method Not Allowed\r\n") {
			t.Errorf("OPTIONS *: %q, want 405", got)
		}
	})
}

// TestHealthSameName: two checks' dependencies that come to one name in /health count as the worse.
func TestHealthSameName(t *testing.T) {
	server := func(body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	checks, err := probe.Parse([]probe.Spec{
		{Type: "http", Value: "first=" + server(`{"services":{"db":"ok","second/db":"ok"}}`)},
		{Type: "http", Value: "second=" + server(`{"services":{"db":"error"}}`)},
	}, probe.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{Monitor: probe.NewMonitor(checks, probe.MonitorOptions{Interval: time.Hour}), ServiceVersion: "1"})
	e.Monitor.Wait(t.Context(), probe.Limits{All: time.Minute}, func(r probe.Result) { t.Error(r.Seen()) })
	const want = `{"status":"ok","version":"1","services":{"first":"ok","second":"ok","db":"ok","second/db":"error"}}` + "\n"
	if got := e.health().body; string(got) != want {
		t.Errorf("/health %s, want %s", got, want)
	}
}

// TestConnectionsBound: one too many costs the client that has been silent longest its connection, never one that is being answered.
func TestConnectionsBound(t *testing.T) {
	c := connections{limit: maxConnections}
	add := func() *closeCounter {
		conn := &closeCounter{}
		c.track(conn, http.StateNew)
		return conn
	}
	busy, first, second := add(), add(), add()
	c.track(busy, http.StateActive)
	for range maxConnections - 3 {
		add()
	}
	c.track(first, http.StateActive)
	c.track(first, http.StateIdle) // it has had an answer: the youngest now
	if n := busy.closed + first.closed + second.closed; n != 0 {
		t.Fatalf("%d closed of %d connections, want none", n, maxConnections)
	}
	last := add()
	if busy.closed != 0 || first.closed != 0 || second.closed != 1 || last.closed != 0 {
		t.Errorf("closed: busy %d, first %d, second %d, last %d; want the second alone, once", busy.closed, first.closed, second.closed, last.closed)
	}
	c.track(second, http.StateClosed)
	add()
	if second.closed != 1 || busy.closed != 0 {
		t.Errorf("closed: second %d, busy %d; want the second once", second.closed, busy.closed)
	}
	if n := len(c.list); n > maxConnections+1 { // one is about to go
		t.Errorf("%d connections are counted, want at most %d", n, maxConnections+1)
	}
}

// A closeCounter is a connection that counts how often it is closed.
type closeCounter struct {
	net.Conn
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }
