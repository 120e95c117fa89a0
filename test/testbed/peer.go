package testbed

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Serve listens on a free port of 127.0.0.1 and runs script for each client,
// in a goroutine of its own. It returns host:port. Every connection is closed
// when its script returns, and when the test ends, which is what ends a script
// that reads or writes for ever.
func Serve(t testing.TB, script func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ServeOn(t, l, script)
	return l.Addr().String()
}

// ServeOn is Serve on a listener the caller made, such as a unix socket's.
func ServeOn(t testing.TB, l net.Listener, script func(net.Conn)) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() { // ends when the cleanup below closes l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			closed := context.AfterFunc(t.Context(), func() { conn.Close() })
			running.Go(func() { // ends with its script
				script(conn)
				closed()
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
}
