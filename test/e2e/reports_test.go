//go:build linux

package e2e_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// relayed encodes a report as package probe does: one result of a check of type tcp.
func relayed(version byte, check, target string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{version, 2}, uint64(time.Millisecond)) // 2 is ok
	for _, s := range []string{"tcp", check, target} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// relayAddr returns the address of the socket on which the wrapper s receives reports.
func relayAddr(t testing.TB, s *service) *net.UnixAddr {
	t.Helper()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	return &net.UnixAddr{Name: "@healthcheck/" + namespace, Net: "unixpacket"}
}

// senders is a prelude of Python for processes that connect to the wrapper of their own namespace.
const senders = `
import os, socket, struct, sys
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.setblocking(False)
    s.connect("\0healthcheck/" + os.readlink("/proc/self/ns/pid"))
    return s
def message(check, target):
    b = struct.pack(">BBQ", 1, 2, 1000000)
    for text in (b"tcp", check, target):
        b += bytes([len(text)]) + text
    return b
`

// pythonWithin returns a command that runs Python in the service's PID namespace.
func pythonWithin(t testing.TB, s *service, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(testbed.Need(t, "nsenter"), "-t", fmt.Sprint(s.pid), "-p", "-m", pythonWith(t, "socket"), "-c", senders+script)
	cmd.Stderr = os.Stderr
	return cmd
}

// probeWithin runs a probe in the service's PID namespace, as docker exec and HEALTHCHECK do.
func probeWithin(t testing.TB, s *service, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(testbed.Need(t, "nsenter"), append([]string{"-t", fmt.Sprint(s.pid), "-p", "-m", built}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return finish(t, cmd)
}

// reportSeries returns the series of a report of a check of type tcp.
func reportSeries(family, check, target string) string {
	return fmt.Sprintf(`healthcheck_report_%s{check="%s",target="%s",type="tcp"}`, family, check, target)
}

// anyProbe returns the arguments of a probe that passes, and its series.
func anyProbe(t testing.TB, name string) (args []string, series string) {
	t.Helper()
	addr := accept(t)
	return []string{"--timeout", "60s", "--tcp", name + "=" + addr}, reportSeries("success", name, addr)
}

// TestReports: the wrapper exports the results of probes in its container, whether they pass or
// fail. They change no verdict.
func TestReports(t *testing.T) {
	t.Parallel()
	s := serveAsPID1(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	if _, _, body := s.get(t, "/metrics"); strings.Contains(body, "report") {
		t.Errorf("families of reports without a report:\n%s", body)
	}
	if _, _, page := s.get(t, "/"); strings.Contains(page, "Probes of this container") {
		t.Error("the page has a section of reports without a report")
	}
	var down atomic.Bool
	target := "http://" + httpServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(503)
		}
		io.WriteString(w, "<secret words>")
	}) + "/health"
	series := fmt.Sprintf(`{check="http",target="%s",type="http"}`, target)
	for i, want := range []int{0, 1, 0, 1, 0} { // the probe's status
		down.Store(want == 1)
		before := float64(time.Now().UnixMilli()) / 1000
		if got := probeWithin(t, s, "--timeout", "60s", "--http", target); got.status != want || got.stderr != "" {
			t.Fatalf("run %d: %+v, want status %d", i, got, want)
		}
		s.until(t, "healthcheck_report_timestamp_seconds"+series, func(v float64) bool { return v >= before })
		_, _, body := s.get(t, "/metrics")
		if v := value(body, "healthcheck_report_success"+series); v != float64(1-want) {
			t.Errorf("run %d: healthcheck_report_success is %v after status %d", i, v, want)
		}
		if v := value(body, "healthcheck_report_duration_seconds"+series); !(v > 0 && v < 60) {
			t.Errorf("run %d: healthcheck_report_duration_seconds is %v", i, v)
		}
		if !math.IsNaN(value(body, "service_health")) || strings.Contains(body, "probe_success") || strings.Contains(body, "secret") {
			t.Errorf("run %d: a report changed other families:\n%s", i, body)
		}
		if status, _, body := s.get(t, "/health"); status != 200 || !strings.HasPrefix(body, `{"status":"unknown",`) || !strings.HasSuffix(body, `"services":{}}`+"\n") {
			t.Errorf("run %d: /health %d %s", i, status, body)
		}
		_, _, page := s.get(t, "/")
		if want := []string{"ok", "FAIL"}[want]; !strings.Contains(page, "Probes of this container") || !strings.Contains(page, "It does not change the verdict above.") ||
			!strings.Contains(page, target) || !strings.Contains(page, "<b>"+want+"</b></h2>") || strings.Contains(page, "secret") {
			t.Errorf("run %d: page %s", i, page)
		}
	}
	var got, want []string // rows as in README's table of metrics
	_, _, body := s.get(t, "/metrics")
	for _, f := range parse(t, body) {
		if strings.HasPrefix(f.name, "healthcheck_report_") {
			got = append(got, fmt.Sprint(f.name, f.kind, f.labels))
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(healthcheck_report_[a-z_]+)` \\| (gauge|counter) \\| ([a-z, ]*) \\| \\S").FindAllStringSubmatch(readme(t), -1) {
		want = append(want, fmt.Sprint(m[1], m[2], slices.Sorted(strings.SplitSeq(m[3], ", "))))
	}
	if len(want) != 3 || !slices.Equal(got, want) {
		t.Errorf("families %q, README has %q", got, want)
	}
	if stderr := s.output(t, "stderr"); strings.Count(stderr, "\n") != 1 {
		t.Errorf("stderr is more than the start line: %s", stderr)
	}
}

// TestReportsTouchNoCheck: a probe that fails leaves the wrapper's own check of the same name
// alone.
func TestReportsTouchNoCheck(t *testing.T) {
	t.Parallel()
	s := serveAsPID1(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "1h", "--tcp", "api="+accept(t), "--", "sleep", "600")
	s.until(t, "service_health", func(v float64) bool { return v == 1 })
	closed := closedAddr(t)
	if got := probeWithin(t, s, "--tcp", "api="+closed); got.status != 1 {
		t.Fatalf("%+v", got)
	}
	s.until(t, reportSeries("success", "api", closed), func(v float64) bool { return v == 0 })
	_, _, body := s.get(t, "/metrics")
	if value(body, "service_health") != 1 || value(body, `probe_success{check="api",type="tcp"}`) != 1 ||
		value(body, `healthcheck_check_runs_total{check="api",result="failure",type="tcp"}`) != 0 {
		t.Errorf("a report changed the verdict:\n%s", body)
	}
	if status, _, body := s.get(t, "/health"); status != 200 || !strings.Contains(body, `"status":"ok"`) {
		t.Errorf("/health %d %s", status, body)
	}
}

// TestReportsFromOutside: a report from another PID namespace is dropped, although its sender can
// connect to the abstract socket.
func TestReportsFromOutside(t *testing.T) {
	t.Parallel()
	s := serveAsPID1(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	s.addr(t)
	conn, err := net.DialUnix("unixpacket", nil, relayAddr(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(relayed(1, "outside", "a:1")) // fails if the wrapper has already closed the connection
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the wrapper answered")
	}
	args, series := anyProbe(t, "inside")
	probeWithin(t, s, args...)
	s.until(t, series, func(v float64) bool { return v == 1 })
	if body := s.scrape(t); strings.Contains(body, "outside") {
		t.Errorf("a report from another PID namespace was exported:\n%s", body)
	}
}

// TestReportsHostile: malformed messages, another version, thousands of targets and silent senders,
// all from within.
func TestReportsHostile(t *testing.T) {
	t.Parallel()
	s := serveAsPID1(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	s.addr(t)
	hostile := pythonWithin(t, s, `
import random
good = message(b"good", b"a:1")
bad = [b"", b"\1", b"\2" + good[1:], good + b"\0", good[:-1], good * 20, b"{}", b"\xff" * 4096, b"\1" * 100000]
held, random = [], random.Random(1)
def send(b):
    for _ in range(100000):
        try:
            s = connect()
            break
        except BlockingIOError:  # the backlog is full
            pass
    try:
        s.send(b)
    except OSError:
        pass
    s.close()
for b in bad:
    send(b)
for i in range(3000):
    b = bytearray(good)
    for _ in range(3):
        b[random.randrange(len(b))] = random.randrange(256)
    b[0] = 9 if i % 2 else 1
    send(bytes(b))
for i in range(5000):
    send(message(b"flood", b"h%d:1" % i))
send(message(b"odd", b'a"\\\n\x1b[2J<b>\xe2\x80\xae'))
while len(held) < 500:
    try:
        held.append(connect())
    except BlockingIOError:
        pass
print("done", flush=True)
sys.stdin.read()
`)
	stdin, err1 := hostile.StdinPipe()
	stdout, err2 := hostile.StdoutPipe()
	if err := hostile.Start(); err != nil || err1 != nil || err2 != nil {
		t.Fatal(err, err1, err2)
	}
	defer hostile.Wait()
	defer stdin.Close()
	if line := make([]byte, 5); func() bool { _, err := io.ReadFull(stdout, line); return err != nil }() {
		t.Fatal("the sender failed")
	}
	args, series := anyProbe(t, "honest") // 500 senders keep connections open and send nothing
	if got := probeWithin(t, s, args...); got.status != 0 {
		t.Errorf("%+v", got)
	}
	s.until(t, series, func(v float64) bool { return v == 1 })
	body := s.scrape(t)
	for _, f := range parse(t, body) { // parse fails the test if a line is malformed
		if strings.HasPrefix(f.name, "healthcheck_report_") && len(f.series) > 16 {
			t.Errorf("%d series of %s", len(f.series), f.name)
		}
	}
	if want := reportSeries("success", "odd", `a\"\\\\n\\x1b[2J<b>\\u202e`); value(body, want) != 1 {
		t.Errorf("no %s in\n%s", want, body)
	}
	if _, _, page := s.get(t, "/"); strings.Contains(page, "<b>\\u") || strings.ContainsAny(page, "\x1b\u202e") {
		t.Errorf("the page is not escaped:\n%s", page)
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil || len(descriptors) > 48 {
		t.Errorf("the wrapper has %d descriptors, %v", len(descriptors), err)
	}
	s.wantSmall(t)
	if stderr := s.output(t, "stderr"); strings.Count(stderr, "\n") != 1 {
		t.Errorf("stderr is more than the start line: %s", stderr)
	}
}

// TestReportsNameTaken: if another process binds the socket's name first, the wrapper runs without
// reports, and no probe sends to that process.
func TestReportsNameTaken(t *testing.T) {
	t.Parallel()
	python := pythonWith(t, "socket")
	cmd := unshare(t, asInit, nil)
	// The shell is process 1 until it becomes healthcheck.
	cmd.Args = append(cmd.Args[:len(cmd.Args)-1], "sh", "-c", `"$0" -c "$1" & until grep -q bound stdout; do sleep .01; done; shift; exec "$@"`, python, senders+`
l = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
l.bind("\0healthcheck/" + os.readlink("/proc/self/ns/pid"))
l.listen()
print("bound", flush=True)
while True:
    print("received", l.accept()[0].recv(4096), flush=True)
`, built, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	s := launch(t, cmd)
	s.waitOutput(t, "stderr", "healthcheck: cannot receive results of probes: address already in use\n")
	s.pid = children(s.cmd.Process.Pid)[0]
	args, _ := anyProbe(t, "api")
	if got := probeWithin(t, s, args...); got.status != 0 || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	s.waitOutput(t, "stdout", "received")
	if out := s.output(t, "stdout"); out != "bound\nreceived b''\n" {
		t.Errorf("the process that holds the name wrote %q, want no report received", out)
	}
	if status, _, _ := s.get(t, "/healthz"); status != 200 {
		t.Errorf("/healthz %d", status)
	}
	if body := s.scrape(t); strings.Contains(body, "report") {
		t.Errorf("reports:\n%s", body)
	}
	if stderr := s.output(t, "stderr"); strings.Count(stderr, "\n") != 2 {
		t.Errorf("stderr is more than two lines: %s", stderr)
	}
}

// TestReportsStopped: a probe ends as usual while the wrapper is stopped, even if its backlog is
// full.
func TestReportsStopped(t *testing.T) {
	t.Parallel()
	s := serveAsPID1(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600")
	s.addr(t)
	s.signal(t, syscall.SIGSTOP)
	args, early := anyProbe(t, "early")
	if got := probeWithin(t, s, args...); got.status != 0 {
		t.Errorf("while the wrapper is stopped: %+v", got)
	}
	fill := pythonWithin(t, s, `
n = 0
while True:
    try:
        connect().close()
        n += 1
    except BlockingIOError:
        break
print(n)
`)
	if out, err := fill.Output(); err != nil || string(out) == "0\n" {
		t.Errorf("the backlog held %s, %v", out, err)
	}
	full, dropped := anyProbe(t, "dropped")
	if got := probeWithin(t, s, full...); got.status != 0 || got.stderr != "" {
		t.Errorf("with a full backlog: %+v", got)
	}
	s.signal(t, syscall.SIGCONT)
	s.until(t, early, func(v float64) bool { return v == 1 })
	args, late := anyProbe(t, "late")
	testbed.Poll(t, func() error { // the wrapper may still be reading its backlog
		probeWithin(t, s, args...)
		if v := value(s.scrape(t), late); v != 1 {
			return fmt.Errorf("%s is %v", late, v)
		}
		return nil
	})
	if v := value(s.scrape(t), dropped); !math.IsNaN(v) {
		t.Errorf("%s is %v, although the backlog was full", dropped, v)
	}
}

// TestReportsNotSent: a wrapper listens for reports only if it is PID 1 and exports metrics.
func TestReportsNotSent(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--", "sleep", "600"},
		{"--export-prom", "127.0.0.1:0", "--tcp", closedAddr(t)},
	} {
		s := serveAsPID1(t, nil, args...)
		if len(args) > 3 {
			s.addr(t)
		} else {
			testbed.Poll(t, func() error {
				if len(children(s.pid)) == 0 {
					return fmt.Errorf("CMD is not started")
				}
				return nil
			})
		}
		if conn, err := net.DialUnix("unixpacket", nil, relayAddr(t, s)); err == nil {
			conn.Close()
			t.Errorf("healthcheck %s listens for probes", strings.Join(args, " "))
		}
	}
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "600") // not process 1
	s.addr(t)
	if conn, err := net.DialUnix("unixpacket", nil, relayAddr(t, s)); err == nil {
		conn.Close()
		t.Error("a wrapper that is not process 1 listens for probes")
	}
}
