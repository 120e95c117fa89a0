package e2e_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
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
