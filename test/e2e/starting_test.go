package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// TestStart starts a service that listens only after /health has answered starting. Nothing is
// logged, no failure is counted, and /health is ok within 1.5 s of the service's first response.
func TestStart(t *testing.T) {
	addr := closedAddr(t)
	s := serve(t, []string{"HEALTHCHECK_START_PERIOD=5m"}, "--export-prom", "127.0.0.1:0", "--interval", "1h", "--tcp", addr, "--", "sleep", "600")
	s.until(t, "healthcheck_command_up", func(v float64) bool { return v == 1 })
	if status, _, body := s.get(t, "/health"); status != 503 || body != `{"status":"starting","services":{"tcp":"starting"}}`+"\n" {
		t.Errorf("/health = %d %q, want 503 and starting", status, body)
	}
	_, _, metrics := s.get(t, "/metrics")
	for _, family := range []string{"\nservice_health ", "\nprobe_success{", "\nprobe_duration_seconds{", "\nprobe_failure_info{"} {
		if strings.Contains(metrics, family) {
			t.Errorf("%s is exported while the check is starting:\n%s", strings.TrimSpace(family), metrics)
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	up := time.Now()
	testbed.ServeOn(t, l, func(net.Conn) {})
	s.until(t, "service_health", func(v float64) bool { return v == 1 })
	took := time.Since(up)
	t.Logf("from the service's first answer to /health 200: %v", took.Round(time.Millisecond))
	if took > 1500*time.Millisecond {
		t.Errorf("/health turned ok %v after the service's first answer, want at most 1.5s", took)
	}
	s.until(t, `healthcheck_check_runs_total{check="tcp",result="failure",type="tcp"}`, func(v float64) bool { return v == 0 })
	if got := strings.Count(s.output(t, "stderr"), "\n"); got != 1 {
		t.Errorf("stderr has %d lines, want the start line alone: %q", got, s.output(t, "stderr"))
	}
}

// TestStartPeriodOver: a service that never listens counts as failed once the start period is over.
func TestStartPeriodOver(t *testing.T) {
	t.Parallel()
	v := vars{"closed": closedAddr(t)}
	s := serve(t, []string{"HEALTHCHECK_START_PERIOD=300ms"}, append(words(v.expand(t, "--export-prom 127.0.0.1:0 --interval 1h --retries 3 --tcp $closed")), "--", "sleep", "600")...)
	s.waitOutput(t, "stderr", v.expand(t, "\nhealthcheck: FAIL tcp  $closed  connect: connection refused\n"))
	s.until(t, "service_health", func(v float64) bool { return v == 0 })
	s.until(t, `healthcheck_check_runs_total{check="tcp",result="failure",type="tcp"}`, func(v float64) bool { return v == 1 })
	s.until(t, `probe_failure_info{check="tcp",phase="connect",type="tcp"}`, func(v float64) bool { return v == 1 })
}

// TestQuietWhileStopping runs a command that closes its port when TERM arrives, and ends only after
// the check has failed.
func TestQuietWhileStopping(t *testing.T) {
	t.Parallel()
	addr := closedAddr(t)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when the listener is closed
		for {
			if conn, err := l.Accept(); err != nil {
				return
			} else {
				conn.Close()
			}
		}
	}()
	t.Cleanup(func() { l.Close() })
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "20ms", "--tcp", addr, "--", "sh", "-c", `trap "touch stopping" TERM; while :; do sleep .02; done`)
	s.until(t, "service_health", func(v float64) bool { return v == 1 })
	s.signal(t, syscall.SIGTERM)
	testbed.Poll(t, func() error { _, err := os.Stat(filepath.Join(s.cmd.Dir, "stopping")); return err })
	l.Close()
	s.until(t, "service_health", func(v float64) bool { return v == 0 })
	if got := strings.Count(s.output(t, "stderr"), "\n"); got != 1 {
		t.Errorf("stderr has %d lines, want the start line alone: %q", got, s.output(t, "stderr"))
	}
}

// TestWaitNamed has the command open the port of its own check. A wait for all checks would never end.
func TestWaitNamed(t *testing.T) {
	t.Parallel()
	v := vars{"db": accept(t), "own": closedAddr(t)}
	s := serve(t, []string{"HEALTHCHECK_START_PERIOD=5m"}, append(words(v.expand(t,
		"--export-prom 127.0.0.1:0 --interval 1h --tcp db=$db --tcp own=$own --wait db=1m")), "--", "sleep", "600")...)
	s.until(t, "healthcheck_command_up", func(v float64) bool { return v == 1 })
	l, err := net.Listen("tcp", v["own"])
	if err != nil {
		t.Fatal(err)
	}
	testbed.ServeOn(t, l, func(net.Conn) {})
	s.until(t, "service_health", func(v float64) bool { return v == 1 })
}

// TestWaitOutput has a server whose every answer is another reason to log. Docker keeps 4,096 bytes of a probe's output, and the
// result must be among them.
func TestWaitOutput(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	addr := testbed.Serve(t, func(conn net.Conn) {
		conn.Read(make([]byte, 512))
		fmt.Fprintf(conn, "-ERR %d %s\r\n", n.Add(1), strings.Repeat("x", 350))
	})
	var args []string
	for i := range 8 {
		args = append(args, "--redis", fmt.Sprintf("r%d=redis://%s", i, addr))
	}
	got := run(t, nil, append(args, "--wait", "1500ms")...)
	if size := len(got.stdout) + len(got.stderr); got.status != 1 || size > 4096 || strings.Count(got.stdout, "FAIL") != 8 || got.stderr == "" {
		t.Errorf("status %d, %d bytes, want status 1 and at most 4096 bytes:\n%s%s", got.status, size, got.stderr, got.stdout)
	}
}

func TestOwnAddress(t *testing.T) {
	t.Parallel()
	port := testbed.FreePort(t)
	for _, check := range []string{"--http http://localhost:$port/health", "--tcp 127.0.0.1:$port", "--http http://[::1]:$port/"} {
		s := serve(t, nil, append(words(vars{"port": port}.expand(t, "--export-prom :$port "+check)), "--", "touch", "started")...)
		want := usage("check …: its target is the address of --export-prom, so a failing verdict would never recover")
		if got := s.output(t, "stderr"); s.status(t) != 125 || !want.MatchString(s.output(t, "stderr")) {
			t.Errorf("%s: stderr %q, want %v", check, got, want)
		}
		s.wantNotStarted(t)
	}
}
