package probe

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// drip sends text one byte at a time, for as long as the client listens.
func drip(text string) func(net.Conn) {
	return func(conn net.Conn) {
		for i := 0; ; i = (i + 1) % len(text) {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// flood sends head, and then text again and again.
func flood(head, text string) func(net.Conn) {
	return func(conn net.Conn) {
		go io.Copy(io.Discard, conn) // ends with the connection
		io.WriteString(conn, head)
		for block := []byte(strings.Repeat(text, 1+4096/len(text))); ; {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}
}

// hostile are peers that never let a check end well.
var hostile = map[string]func(net.Conn){
	"silent":         silent,
	"closed":         func(net.Conn) {},
	"never reads":    func(conn net.Conn) { time.Sleep(50 * time.Millisecond) },
	"drip":           drip("HTTP/1.1 200 OK\r\n"),
	"drip +":         drip("+"),
	"drip R":         drip("R\x00\x00\x00\x08\x00\x00\x00"),
	"endless line":   flood("", "x"),
	"endless reply":  flood("+", "x"),
	"endless header": flood("HTTP/1.1 200 OK\r\n", "A: b\r\n"),
	"endless body":   flood("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{", `"a":1,`),
	"spaces":         flood("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", " "),
	"chunks":         flood("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", "1\r\n \r\n"),
	"1xx flood":      flood("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
	"stuck body": func(conn net.Conn) {
		says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")(conn)
		silent(conn)
	},
	"redirect, then silence": func(conn net.Conn) {
		says("HTTP/1.1 302 Found\r\nLocation: /\r\nTransfer-Encoding: chunked\r\n\r\n")(conn)
		silent(conn)
	},
	"notices":   flood("R\x00\x00\x00\x08\x00\x00\x00\x00", "N\x00\x00\x00\x05\x00"),
	"SSL stuck": func(conn net.Conn) { says("S")(conn); silent(conn) },
	"SSL bytes": flood("S", "S"),
	"SSL no":    func(conn net.Conn) { says("N")(conn); silent(conn) },
}

// values are checks of every kind against one address.
func values(addr string) [][2]string {
	return [][2]string{
		{"http", "http://" + addr}, {"http", "https://" + addr}, {"http", "http://u:p@" + addr + "/x"}, {"tcp", addr},
		{"redis", "redis://:secret@" + addr}, {"redis", "rediss://" + addr + "/1"},
		{"postgres", "postgres://u:p@" + addr}, {"postgres", "postgres://u:p@" + addr + "?sslmode=require"},
		{"postgres", "postgres://u:p@" + addr + "," + addr + "?target_session_attrs=prefer-standby"},
	}
}

// Whatever the peer does a check ends at its deadline, and nothing of it is left: no goroutine, no descriptor.
func TestNothingLeft(t *testing.T) {
	var checks []*Check
	for name, script := range hostile {
		for _, v := range values(testbed.Serve(t, script)) {
			c := mustParse(t, Options{Timeout: 60 * time.Millisecond}, v[0], v[1])
			c.Name = v[1] + ": " + name
			checks = append(checks, c)
		}
	}
	const rounds = 2
	RunAll(context.Background(), checks[:1])
	goroutines, files := resources(t)
	for range rounds {
		for _, r := range RunAll(context.Background(), checks) {
			if r.Status == Failed && r.Message == "" || r.Status != Failed && r.Check.Type != "tcp" && r.HTTPStatus != 200 {
				t.Errorf("%s: %s %q", r.Check.Name, r.Status, r.Seen())
			}
			if r.Duration > patient/2 { // under load many run at once; what is stuck takes for ever
				t.Errorf("%s: took %v of 60ms", r.Check.Name, r.Duration)
			}
		}
	}
	for until := time.Now().Add(patient); ; { // the peers end when they see the client gone
		g, f := resources(t)
		if g <= goroutines && f <= files {
			return
		}
		if time.Now().After(until) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d files, want %d and %d:\n%s", g, f, goroutines, files, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(time.Millisecond)
	}
}

func resources(t *testing.T) (goroutines, files int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		testbed.Missing(t, "proc", "no /proc/self/fd")
	}
	return runtime.NumGoroutine(), len(entries)
}

// Run does all its work in the goroutine that calls it, but for addresses tried beside each other: what outlived it could
// write to a Result that is in use.
func TestRunEndsWhatItStarts(t *testing.T) {
	for name, script := range hostile {
		for _, v := range values(testbed.Serve(t, script))[:3] {
			c := mustParse(t, Options{Timeout: 30 * time.Millisecond}, v[0], v[1])
			c.Run(context.Background())
			buf := make([]byte, 1<<20)
			for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				if strings.Contains(g, "created by net/http.") || strings.Contains(g, "probe.(*Check).Run") {
					t.Fatalf("%s against %q: left\n%s", v[1], name, g)
				}
			}
		}
	}
}
