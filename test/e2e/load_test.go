//go:build linux

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// limitRSS is what healthcheck may take under the loads below, in bytes: about twice what it does.
const limitRSS = 48 << 20

// wantSmall fails the test if healthcheck has ever had more resident memory than that.
func (s *service) wantSmall(t testing.TB) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	if kib, err := strconv.Atoi(string(m[1])); err != nil || kib > limitRSS>>10 {
		t.Errorf("it took %d KiB, want at most %d", kib, limitRSS>>10)
	}
}

// TestLoad: 200 clients scrape while 50 hold half a request each and CMD replaces its child all the time.
func TestLoad(t *testing.T) { // not parallel: it needs the processors for itself
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "50ms", "--tcp", accept(t), "--tcp", closedAddr(t), "--",
		"sh", "-c", "exec 2>/dev/null; while :; do sleep 60 & sleep .02; kill $!; wait $!; done")
	addr := s.addr(t)
	s.until(t, "healthcheck_command_processes", func(v float64) bool { return v >= 2 })

	for range 50 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() { // ends when healthcheck hangs up, or the cleanup does
			for _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "); err == nil; time.Sleep(100 * time.Millisecond) {
				_, err = io.WriteString(conn, "a")
			}
		}()
	}

	const clients, scrapes = 200, 5
	var clientsRunning sync.WaitGroup
	failed := make(chan error, clients)
	for range clients {
		clientsRunning.Go(func() {
			client := &http.Client{Timeout: patience, Transport: &http.Transport{}} // keeps its connection
			defer client.CloseIdleConnections()
			for range scrapes {
				resp, err := client.Get("http://" + addr + "/metrics")
				if err != nil {
					failed <- err
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || !strings.HasSuffix(string(body), "\n") || !strings.Contains(string(body), "\nhealthcheck_build_info{") {
					failed <- fmt.Errorf("%v, %v: %q", resp.Status, err, body)
					return
				}
			}
		})
	}
	clientsRunning.Wait()
	select {
	case err := <-failed:
		t.Errorf("%d clients of %d failed, one with: %v", len(failed)+1, clients, err)
	default:
	}
	s.wantSmall(t)
	start := time.Now()
	s.signal(t, syscall.SIGTERM)
	if got := s.status(t); got != 143 || time.Since(start) > 10*time.Second {
		t.Errorf("status %d %v after TERM, want 143 at once", got, time.Since(start))
	}
	if got := s.output(t, "stderr"); strings.Count(got, "\n") != 2 { // the start line, and the check that fails
		t.Errorf("stderr has more than two lines: %q", got)
	}
}

// TestConnections: more clients that hold on to idle connections than there may be do not keep a scraper out.
func TestConnections(t *testing.T) { // not parallel: it needs the processors for itself
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	addr := s.addr(t)
	const held, most = 700, 512
	var open atomic.Int32
	dial := func(text string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		open.Add(1)
		go func() { // ends when healthcheck hangs up, or the cleanup does
			io.Copy(io.Discard, conn)
			open.Add(-1)
		}()
	}
	// A client with a connection that it uses is not the one that loses it.
	scraperConn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer scraperConn.Close()
	answers := bufio.NewReader(scraperConn)
	scrape := func() {
		t.Helper()
		if _, err := io.WriteString(scraperConn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 || resp.StatusCode != 200 {
			t.Fatalf("%s, %d bytes, %v", resp.Status, n, err)
		}
	}
	for i := range held {
		dial([]string{"", "GET / HTTP/1.1\r\nX: "}[i%2]) // silent, and half a request
		if i%100 == 0 {
			scrape()
			s.scrape(t) // on a new connection
		}
	}
	scrape()
	s.scrape(t)
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(descriptors); n > most+20 {
		t.Errorf("it has %d descriptors with %d clients, want at most %d connections", n, held, most)
	}
	s.wantSmall(t)
}

// TestFewDescriptors: idle clients leave the checks their file descriptors.
func TestFewDescriptors(t *testing.T) { // not parallel: it needs the processors for itself
	const files = 64
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), built,
		"--export-prom", "127.0.0.1:0", "--interval", "20ms", "--tcp", accept(t), "--", "sleep", "600")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	s := launch(t, cmd)
	addr := s.addr(t)
	for range 2 * files {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	const success, failure = `healthcheck_check_runs_total{check="tcp",result="success",type="tcp"}`, `healthcheck_check_runs_total{check="tcp",result="failure",type="tcp"}`
	s.until(t, success, func(v float64) bool { return v > 10 })
	if body := s.scrape(t); value(body, failure) != 0 {
		t.Errorf("checks failed for want of descriptors:\n%s", s.output(t, "stderr"))
	}
}

// scrape requests /metrics on a new connection. It fails the test unless the response is complete.
func (s *service) scrape(t testing.TB) (body string) {
	t.Helper()
	status, _, body := s.get(t, "/metrics")
	if status != 200 || !strings.HasPrefix(body, "# TYPE service_up gauge\n") || !strings.Contains(body, "\nhealthcheck_build_info{") || !strings.HasSuffix(body, "\n") {
		t.Fatalf("/metrics = %d %q", status, body)
	}
	return body
}

// TestGreedyClients: a client that never stops sending receives a response and is then
// disconnected. Until then scrapers are answered as well, and the client's bytes are not kept in
// memory.
func TestGreedyClients(t *testing.T) { // not parallel: it needs the processors for itself
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	addr := s.addr(t)
	// flood sends start, and then repeats more until healthcheck closes the connection, with a
	// scrape in between. It returns the number of bytes sent, and the first line of the response.
	flood := func(t *testing.T, start, more string) (sent int, answer string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		first := make(chan string, 1)
		go func() { // ends with the connection
			line, _ := bufio.NewReader(conn).ReadString('\n')
			first <- strings.TrimSpace(line)
		}()
		n, err := io.WriteString(conn, start)
		sent += n
		if err == nil {
			n, err = io.WriteString(conn, more)
			sent += n
		}
		s.scrape(t)
		for err == nil {
			n, err = io.WriteString(conn, more)
			sent += n
		}
		return sent, <-first
	}
	for _, tt := range []struct{ name, start, more, answer string }{
		{"a header", "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", strings.Repeat("a", 4096), "HTTP/1.1 431 Request Header Fields Too Large"},
		{"headers", "GET /metrics HTTP/1.1\r\nHost: x\r\n", strings.Repeat("X: a\r\n", 700), "HTTP/1.1 431 Request Header Fields Too Large"},
		{"a path", "GET /", strings.Repeat("a", 4096), "HTTP/1.1 431 Request Header Fields Too Large"},
		{"a body", "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", strings.Repeat("a", 4096), "HTTP/1.1 405 Method Not Allowed"},
		{"a body with GET", "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", strings.Repeat("a", 4096), "HTTP/1.1 200 OK"},
		{"chunks", "GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1000\r\n" + strings.Repeat("a", 4096) + "\r\n", "HTTP/1.1 200 OK"},
		{"requests", "", strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 100), "HTTP/1.1 200 OK"}, // answers that nobody reads
		{"no HTTP", "\x16\x03\x01\x02\x00\x01", strings.Repeat("\x00", 4096), "HTTP/1.1 431 Request Header Fields Too Large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A reset can discard a response that the client has not read yet. The client then
			// floods again.
			answer := ""
			for try := 0; answer == "" && try < 10; try++ {
				var sent int
				if sent, answer = flood(t, tt.start, tt.more); sent > 32<<20 {
					t.Errorf("sent %d bytes before healthcheck closed the connection", sent)
				}
			}
			if answer != tt.answer {
				t.Errorf("answered %q, want %q", answer, tt.answer)
			}
			s.scrape(t)
			s.wantSmall(t)
		})
	}
}
