//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// serveAsPID1 is serve in a PID namespace of its own.
func serveAsPID1(t testing.TB, env []string, args ...string) *service {
	t.Helper()
	s := launch(t, unshare(t, asInit, env, args...))
	testbed.Poll(t, func() error {
		list := children(s.cmd.Process.Pid)
		if len(list) != 1 {
			return fmt.Errorf("unshare has children %v", list)
		}
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", list[0])); string(name) != "healthcheck\n" {
			return fmt.Errorf("the child is %q, %v", name, err)
		}
		s.pid = list[0]
		return nil
	})
	return s
}

// within is a shell in the service's PID namespace whose parent is outside, as docker exec makes one.
func within(t testing.TB, s *service, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(testbed.Need(t, "nsenter"), "-t", fmt.Sprint(s.pid), "-p", "-m", "sh", "-c", script)
	cmd.Stderr = os.Stderr
	return cmd
}

// leave starts perl in the background, which prints what it is and gets, and does with a TERM what then says; then CMD itself ends with 7.
func leave(then string) []string {
	return []string{"sh", "-c", `perl -e '$| = 1; $SIG{TERM} = sub { print "TERM\n"; ` + then + ` }; alarm 120; print "left\n"; select undef, undef, undef, .1 while 1' &
		while ! grep -q left stdout; do sleep .01; done; exit 7`}
}

func TestPID1(t *testing.T) {
	t.Parallel()
	unshare(t, asInit, nil)
	t.Run("status", func(t *testing.T) {
		t.Parallel()
		for script, want := range map[string]int{"exit 0": 0, "exit 9": 9, "kill -KILL $$": 137, "kill -TERM $$": 143, "exec /none": 127} {
			if got := serveAsPID1Quick(t, "--", "sh", "-c", script); got.status != want {
				t.Errorf("%s: %+v, want status %d", script, got, want)
			}
		}
		for args, want := range map[string]int{"-- /none": 127, "-- /": 126, "--kill-after 5": 125, "--tcp 127.0.0.1:" + testbed.FreePort(t): 1} {
			if got := serveAsPID1Quick(t, strings.Fields(args)...); got.status != want {
				t.Errorf("%s: %+v, want status %d", args, got, want)
			}
		}
	})
	t.Run("signals", func(t *testing.T) {
		t.Parallel()
		s := serveAsPID1(t, nil, append([]string{"--kill-after", "300ms", "--"}, catcher...)...)
		s.waitOutput(t, "stdout", "ready\n")
		for _, name := range []string{"HUP", "USR1", "NUM40", "TERM"} {
			s.signal(t, map[string]syscall.Signal{"HUP": syscall.SIGHUP, "USR1": syscall.SIGUSR1, "NUM40": 40, "TERM": syscall.SIGTERM}[name])
			s.waitOutput(t, "stdout", "\n"+name+"\n")
		}
		if got := s.status(t); got != 137 {
			t.Errorf("status %d, want 137", got)
		}
	})
	t.Run("left over, goes on TERM", func(t *testing.T) {
		t.Parallel()
		start := time.Now()
		s := serveAsPID1(t, nil, append([]string{"--kill-after", "10m", "--"}, leave("exit")...)...)
		if got := s.status(t); got != 7 || s.output(t, "stdout") != "left\nTERM\n" {
			t.Errorf("status %d, stdout %q, want 7 and one TERM", got, s.output(t, "stdout"))
		}
		if took := time.Since(start); took > patience {
			t.Errorf("it stayed for %v once all were gone", took)
		}
	})
	t.Run("left over, stays", func(t *testing.T) {
		t.Parallel()
		s := serveAsPID1(t, nil, append([]string{"--export-prom", "127.0.0.1:0", "--kill-after", "2s", "--"}, leave("")...)...)
		s.waitOutput(t, "stdout", "left\nTERM\n")
		got := time.Now()
		// CMD has ended, what is left has not: neither alive nor healthy, and still there to say so.
		if status, _, body := s.get(t, "/healthz"); status != 503 || body != `{"status":"error"}`+"\n" {
			t.Errorf("/healthz after CMD: %d %q, want 503", status, body)
		}
		if status, _, body := s.get(t, "/health"); status != 503 || body != `{"status":"error","services":{}}`+"\n" {
			t.Errorf("/health after CMD: %d %q, want 503", status, body)
		}
		if status, _, body := s.get(t, "/metrics"); status != 200 || value(body, "service_up") != 0 || value(body, "healthcheck_command_up") != 0 || value(body, "service_health") != 0 {
			t.Errorf("/metrics after CMD: %d\n%s", status, body)
		}
		if status, _, body := s.get(t, "/"); status != 200 || !strings.Contains(body, "<b>ended</b></h2>") {
			t.Errorf("/ after CMD: %d\n%s", status, body)
		}
		if status := s.status(t); status != 7 {
			t.Errorf("status %d, want 7", status)
		}
		if took := time.Since(got); took < time.Second || took > patience {
			t.Errorf("it left after %v, want 2s", took)
		}
	})
	t.Run("left over, killed at once", func(t *testing.T) {
		t.Parallel()
		start := time.Now()
		s := serveAsPID1(t, nil, append([]string{"--"}, leave("")...)...)
		if got := s.status(t); got != 7 || time.Since(start) > patience {
			t.Errorf("status %d after %v, want 7", got, time.Since(start))
		}
	})
	t.Run("left over of docker exec", func(t *testing.T) {
		t.Parallel()
		s := serveAsPID1(t, nil, "--kill-after", "10m", "--", "sh", "-c", "echo ready; exec sleep 600")
		s.waitOutput(t, "stdout", "ready\n")
		other := within(t, s, `trap 'sleep .2; echo bye; exit 3' TERM; echo there; kill -TERM 1; while :; do sleep .01; done`)
		if out, err := other.Output(); string(out) != "there\nbye\n" || other.ProcessState.ExitCode() != 3 {
			t.Errorf("what docker exec started said %q, %v, want its own end", out, err)
		}
		if got := s.status(t); got != 143 {
			t.Errorf("status %d, want 143", got)
		}
	})
	for _, tt := range []struct {
		name   string
		args   []string
		status int // after TERM
	}{
		{"orphans while a wrapper waits", []string{"--wait", "10m", "--tcp", closedAddr(t), "--", "true"}, 143},
		{"orphans while a probe waits", []string{"--wait", "10m", "--tcp", closedAddr(t)}, 143},
		{"orphans of a sidecar", []string{"--export-prom", "127.0.0.1:0", "--tcp", closedAddr(t)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serveAsPID1(t, nil, tt.args...)
			s.waitOutput(t, "stderr", "healthcheck")
			if out, err := within(t, s, "(sleep .05 & echo $!)").Output(); err != nil || len(out) == 0 {
				t.Fatal(out, err)
			}
			testbed.Poll(t, func() error {
				if left := children(s.pid); len(left) > 0 {
					return fmt.Errorf("children %v", left)
				}
				return nil
			})
			s.signal(t, syscall.SIGTERM)
			if got := s.status(t); got != tt.status {
				t.Errorf("status %d after TERM, want %d", got, tt.status)
			}
		})
	}
	t.Run("sidecar", func(t *testing.T) {
		t.Parallel()
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
			s := serveAsPID1(t, nil, "--export-prom", "127.0.0.1:0", "--tcp", closedAddr(t))
			s.addr(t)
			s.signal(t, sig)
			if got := s.status(t); got != 0 {
				t.Errorf("status %d after %v, want 0", got, sig)
			}
		}
	})
	t.Run("probe", func(t *testing.T) {
		t.Parallel()
		s := serveAsPID1(t, nil, "--wait", "10m", "--tcp", closedAddr(t))
		s.waitOutput(t, "stderr", "waiting for tcp")
		s.signal(t, syscall.SIGTERM)
		if got := s.status(t); got != 143 {
			t.Errorf("status %d after TERM, want 143", got)
		}
	})
}

// serveAsPID1Quick is run as PID 1.
func serveAsPID1Quick(t testing.TB, args ...string) outcome {
	t.Helper()
	return finish(t, unshare(t, asInit, nil, args...))
}

// TestEarlyTerm sends TERM as soon as the start line is there, while CMD is about to be started: it always ends CMD, and is never lost.
// In the moment before main, which nothing can tell from outside, Go's runtime has its own way with TERM (see package supervise).
func TestEarlyTerm(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string]uintptr{"PID 1": syscall.CLONE_NEWPID, "subreaper": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if flags != 0 {
				unshare(t, asInit, nil)
			}
			statuses := map[int]int{}
			const tries = 40
			for range tries {
				cmd := command([]string{"PATH=" + os.Getenv("PATH")}, "--export-prom", "127.0.0.1:0", "--", "sleep", "60")
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
				stderr, err := cmd.StderrPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lost := time.AfterFunc(patience/2, func() { killTree(cmd.Process.Pid) }) // CMD ends after a minute
				stderr.Read(make([]byte, 1))
				cmd.Process.Signal(syscall.SIGTERM)
				cmd.Wait()
				lost.Stop()
				statuses[cmd.ProcessState.ExitCode()]++
			}
			if statuses[143] != tries {
				t.Errorf("statuses %v of %d tries, want 143 alone", statuses, tries)
			}
		})
	}
}
