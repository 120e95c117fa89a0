//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// TestWrapperUsage: what is wrong with the wrapper's options, and where they do not belong.
func TestWrapperUsage(t *testing.T) {
	t.Parallel()
	check(t, nil, []row{
		{"--", 125, "no command behind --\nname it, as in: healthcheck --export-prom :9091 -- uvicorn app:app"},
		{"--tcp localhost:80 --", 125, "no command behind --"},
		{"--export-prom :0 sleep 1", 125,
			"unexpected positional argument, word 3 of the command line\n" +
				"quote a value that has spaces, and put a command behind --, as in: healthcheck --export-prom :9091 -- CMD"},
		{"--export-prom :0 sleep -- true", 125, "unexpected positional argument, word 3 of the command line"},

		// Where they do not belong: on the command line an error that says where they do.
		{"--stop-signal TERM:INT --tcp localhost:80", 125, "--stop-signal goes with a command behind --"},
		{"--success-status 1 --tcp localhost:80", 125, "--success-status goes with a command behind --"},
		{"--signal-group --tcp localhost:80", 125, "--signal-group goes with a command behind --"},
		{"--signal-group --export-prom :0 --tcp localhost:80", 125, "--signal-group goes with a command behind --"},
		{"--json --export-prom :0 --tcp localhost:80", 125, "--json goes with a probe, not with a command or --export-prom"},
		{"--wait 5s --export-prom :0 --tcp localhost:80", 125, "--wait goes with a probe or with a command behind --"},

		{"--export-prom 65536 -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom :-1 -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom 127.0.0.1 -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom 127.0.0.1: -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom ::1:9091 -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom http://localhost:9091 -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom :http -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom '' -- true", 125, "--export-prom: not an address to listen on"},
		{"--export-prom 192.0.2.1:9091 -- true", 125,
			"--export-prom: cannot listen on 192.0.2.1:9091: cannot assign requested address\n" +
				"choose another address, or port 0 for any that is free"},

		{"--interval 0 -- true", 125, "--interval: a duration of at least 10ms is wanted"},
		{"--interval 9ms -- true", 125, "--interval: a duration of at least 10ms is wanted"},
		{"--kill-after -1s -- true", 125, "--kill-after: a duration of at least 0s is wanted"},
		{"--stop-signal TERM -- true", 125,
			"--stop-signal: \"TERM\" is not two signals with a colon between, as in TERM:INT\n" +
				"write TERM:INT, or TERM:0 to drop it"},
		{"--stop-signal TERM: -- true", 125, `--stop-signal: unknown signal ""`},
		{"--stop-signal :INT -- true", 125, `--stop-signal: unknown signal ""`},
		{"--stop-signal TERM:STOPP -- true", 125, `--stop-signal: unknown signal "STOPP"`},
		{"--stop-signal FOO:INT -- true", 125, `--stop-signal: unknown signal "FOO"`},
		{"--stop-signal 0:INT -- true", 125, `--stop-signal: unknown signal "0"`},
		{"--stop-signal TERM:65 -- true", 125, `--stop-signal: unknown signal "65"`},
		{"--stop-signal KILL:TERM -- true", 125, "--stop-signal: signal KILL is never passed on"},
		{"--stop-signal CHLD:TERM -- true", 125, "--stop-signal: signal CHLD is never passed on"},
		{"--stop-signal TERM:INT:HUP -- true", 125, `--stop-signal: unknown signal "INT:HUP"`},
		{"--success-status -1 -- true", 125, "--success-status: a status is a number from 0 to 255"},
		{"--success-status TERM -- true", 125, "--success-status: a status is a number from 0 to 255"},
		{"--tcp localhost -- true", 125, "--tcp: HOST:PORT is wanted"},
		{"--redis redis://:${NO_SUCH}@localhost -- true", 125, "--redis: ${NO_SUCH}: the variable is not set"},

		// In the environment.
		{"HEALTHCHECK_KILL_AFTER=soon -- true", 125, "HEALTHCHECK_KILL_AFTER: not a duration"},
		{"HEALTHCHECK_STOP_SIGNAL=TERM:INT\nTERM -- true", 125,
			`HEALTHCHECK_STOP_SIGNAL: "TERM" is not two signals with a colon between, as in TERM:INT`},
		{"HEALTHCHECK_SUCCESS_STATUS=143,0 -- true", 125,
			"HEALTHCHECK_SUCCESS_STATUS: a status is a number from 0 to 255"},
		{"HEALTHCHECK_SIGNAL_GROUP=si -- true", 125, "HEALTHCHECK_SIGNAL_GROUP: it is true or false"},
		{"HEALTHCHECK_EXPORT_PROM=nowhere -- true", 125, "HEALTHCHECK_EXPORT_PROM: not an address to listen on"},
		{"HEALTHCHECK_TCP=localhost -- true", 125, "HEALTHCHECK_TCP: HOST:PORT is wanted"},
		{"HEALTHCHECK_INTERVAL=1 --export-prom :0 --tcp localhost:80", 125, "HEALTHCHECK_INTERVAL: a duration has a unit"},
	})
}

// TestExportAddress: the forms of --export-prom, each with port 0, and the start line that says which it is.
func TestExportAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args, env string
		local     string // an address of this machine where it then answers
		six       bool
	}{
		{args: "--export-prom :0", local: "127.0.0.1"},
		{args: "--export-prom 0", local: "127.0.0.1"},
		{args: "--export-prom 127.0.0.1:0", local: "127.0.0.1"},
		{args: "--export-prom localhost:0", local: "localhost"},
		{args: "--export-prom [::1]:0", local: "::1", six: true},
		{args: "--export-prom :0", local: "::1", six: true},
		{env: "HEALTHCHECK_EXPORT_PROM=:0", local: "127.0.0.1"},
		{args: "--export-prom 127.0.0.1:0", env: "HEALTHCHECK_EXPORT_PROM=nowhere", local: "127.0.0.1"},
	} {
		t.Run(tt.args+" "+tt.env+" "+tt.local, func(t *testing.T) {
			t.Parallel()
			if tt.six && !testbed.HasIPv6() {
				testbed.Missing(t, "ipv6", "no IPv6 here")
			}
			s := serve(t, []string{tt.env}, append(words(tt.args), "--", "sleep", "60")...)
			_, port, err := net.SplitHostPort(s.addr(t))
			if n, _ := strconv.Atoi(port); err != nil || n < 1 {
				t.Fatalf("the start line has no port: %q", s.output(t, "stderr"))
			}
			testbed.Poll(t, func() error { // 503 for the moment before CMD runs
				if status, _, body := get(t, "GET", "http://"+net.JoinHostPort(tt.local, port)+"/healthz", nil); status != 200 {
					return fmt.Errorf("/healthz at %s: %d %q", tt.local, status, body)
				}
				return nil
			})
			if got := s.output(t, "stderr"); !strings.HasSuffix(got, "/, no check configured: set HEALTHCHECK_HTTP=http://localhost:PORT/health\n") || strings.Count(got, "\n") != 1 {
				t.Errorf("stderr %q, want one line", got)
			}
		})
	}
	// A port of the user's choice, in its three forms.
	for _, form := range []string{"%s", ":%s", "127.0.0.1:%s"} {
		port := testbed.FreePort(t)
		s := serve(t, nil, "--export-prom", fmt.Sprintf(form, port), "--", "sleep", "60")
		if got := s.addr(t); !strings.HasSuffix(got, ":"+port) {
			t.Errorf("--export-prom "+form+" serves at %s", port, got)
		}
	}
}

// TestProbeStaysProbe: a probe in a wrapper's container has its environment, and neither serves nor waits.
func TestProbeStaysProbe(t *testing.T) {
	t.Parallel()
	open, closed := accept(t), closedAddr(t)
	v := vars{"open": open, "closed": closed}
	env := []string{"HEALTHCHECK_EXPORT_PROM=" + open, "HEALTHCHECK_WAIT=1h", "HEALTHCHECK_INTERVAL=never", "HEALTHCHECK_KILL_AFTER=never",
		"HEALTHCHECK_STOP_SIGNAL=none", "HEALTHCHECK_SUCCESS_STATUS=none", "HEALTHCHECK_SIGNAL_GROUP=maybe"}
	checks := append(env, "HEALTHCHECK_TCP=up="+open+"\r\n\ndb="+closed, "HEALTHCHECK_REDIS=cache=redis://"+closed)
	check(t, v, []row{
		{"--tcp $open", 0, "ok    tcp  $open  connected"},
		{"--tcp $closed", 1, "FAIL  tcp  $closed  connect: connection refused"},
		{"", 125, "no check is named"},
	}, env...)
	check(t, v, []row{
		{"", 1,
			"ok    up  $open  connected\n" +
				"FAIL  db  $closed  connect: connection refused\n" +
				"FAIL  cache  redis://$closed  connect: connection refused"},
		{"--tcp mine=$open", 0, "ok    mine  $open  connected"}, // replaces the checks of the environment
		{"--timeout 1s --tcp $open", 0, "ok    tcp  $open  connected"},
	}, checks...)
	// The wrapper itself runs them, and so does the probe inside it.
	s := serve(t, []string{"HEALTHCHECK_EXPORT_PROM=127.0.0.1:0", "HEALTHCHECK_INTERVAL=1h", checks[len(checks)-2], checks[len(checks)-1]},
		"--", "sh", "-c", built+"; echo status $?; exec sleep 600")
	s.waitOutput(t, "stdout", "ok    up  "+open+"  connected…\nFAIL  db  "+closed+"  connect: connection refused…\nFAIL  cache  redis://"+closed+"  connect: connection refused…\nstatus 1\n")
	s.until(t, `probe_success{check="cache",type="redis"}`, func(v float64) bool { return v == 0 })
	s.until(t, `probe_success{check="db",type="tcp"}`, func(v float64) bool { return v == 0 })
	s.until(t, `probe_success{check="up",type="tcp"}`, func(v float64) bool { return v == 1 })
}

// TestSidecar: without a command it exports until a signal, and ends with status 0.
func TestSidecar(t *testing.T) {
	t.Parallel()
	open := accept(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--tcp", open)
			s.addr(t)
			s.signal(t, sig) // at once: whoever sees the start line may send it
			if got := s.status(t); got != 0 {
				t.Errorf("status %d after %v, want 0", got, sig)
			}
			if got := s.output(t, "stderr"); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, ", 1 check every 15s\n") {
				t.Errorf("stderr %q, want one line", got)
			}
		})
	}
	t.Run("address taken", func(t *testing.T) {
		t.Parallel()
		got := run(t, nil, "--export-prom", open, "--tcp", open)
		if want := usage("--export-prom: cannot listen on " + open + ": address already in use"); got.status != 125 || !want.MatchString(got.stderr) {
			t.Errorf("status %d, stderr %q, want 125 and %v", got.status, got.stderr, want)
		}
	})
	t.Run("stderr closed", func(t *testing.T) {
		t.Parallel()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		addr := "127.0.0.1:" + testbed.FreePort(t)
		cmd := command(nil, "--export-prom", addr, "--interval", "20ms", "--tcp", closedAddr(t))
		cmd.Stderr = w
		r.Close()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		answering(t, addr) // nobody reads what it logs; it goes on all the same
		testbed.Poll(t, func() error {
			if _, _, body := get(t, "GET", "http://"+addr+"/metrics", nil); !(value(body, `healthcheck_check_runs_total{check="tcp",result="failure",type="tcp"}`) >= 3) {
				return fmt.Errorf("it has not checked three times: %s", body)
			}
			return nil
		})
	})
}

// TestParentDeath: when healthcheck is killed, CMD gets TERM.
func TestParentDeath(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "end")
	s := serve(t, nil, "--", "perl", "-e", `$| = 1; $SIG{TERM} = sub { open F, ">", $ARGV[0]; print F "TERM"; close F; exit }; alarm 120; print "ready\n"; select undef, undef, undef, .1 while 1`, file)
	s.waitOutput(t, "stdout", "ready\n")
	s.signal(t, syscall.SIGKILL)
	testbed.Poll(t, func() error {
		if content, err := os.ReadFile(file); string(content) != "TERM" {
			return fmt.Errorf("CMD has not had TERM: %q, %v", content, err)
		}
		return nil
	})
}

// TestSlowChecks: checks that take 30 s, or fail all the time, delay no scrape, no reaping and no signal.
func TestSlowChecks(t *testing.T) {
	t.Parallel()
	const far = 15 * time.Second // well under the timeout
	silent := accept(t)
	args := []string{"--export-prom", "127.0.0.1:0", "--timeout", "30s", "--interval", "10ms", "--tcp", "closed=" + closedAddr(t)}
	for _, kind := range []string{"redis", "postgres", "http"} {
		args = append(args, "--"+kind, kind+"_silent="+kind+"://"+silent)
	}
	s := serve(t, nil, append(args, "--", "sh", "-c", "while kill -0 $$; do (true & true); sleep .01; done 2>/dev/null & exec sleep 600")...)
	s.until(t, `healthcheck_check_runs_total{check="closed",result="failure",type="tcp"}`, func(v float64) bool { return v >= 10 })
	start := time.Now()
	s.until(t, "healthcheck_orphans_reaped_total", func(v float64) bool { return v >= 10 })
	for range 20 {
		for _, path := range []string{"/metrics", "/health", "/healthz", "/"} {
			s.get(t, path)
		}
	}
	if took := time.Since(start); took > far {
		t.Errorf("80 requests took %v", took)
	}
	_, _, body := s.get(t, "/metrics")
	if v := value(body, `healthcheck_check_runs_total{check="redis_silent",result="timeout",type="redis"}`); v != 0 {
		t.Errorf("the silent server has timed out %v times, want none so far", v)
	}
	start = time.Now()
	s.signal(t, syscall.SIGTERM)
	if got := s.status(t); got != 143 {
		t.Errorf("status %d, want 143", got)
	}
	if took := time.Since(start); took > far {
		t.Errorf("TERM took %v", took)
	}
}

// fullPipe is a pipe of one page with room for so many bytes, and nobody who reads it.
func fullPipe(t *testing.T, room int) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	const F_SETPIPE_SZ, page = 1031, 4096 // fcntl(2)
	if size, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), F_SETPIPE_SZ, page); size != page {
		t.Fatalf("a pipe of one page is not to be had: %d, %v", size, errno)
	}
	if _, err := w.Write(make([]byte, page-room)); err != nil {
		t.Fatal(err)
	}
	return w
}

// answering waits until something listens at addr.
func answering(t *testing.T, addr string) {
	t.Helper()
	testbed.Poll(t, func() error {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// TestLogFull: where the log takes nothing at all, CMD still starts, a wait still runs out, and a signal still ends it.
func TestLogFull(t *testing.T) {
	t.Parallel()
	addr := "127.0.0.1:" + testbed.FreePort(t)
	v := vars{"addr": addr, "closed": closedAddr(t)}
	for _, tt := range []struct {
		args string
		sig  syscall.Signal
		want int
	}{
		{"--export-prom 127.0.0.1:0 -- false", 0, 1},
		{"--wait 300ms --tcp $closed", 0, 1},
		{"--wait 300ms --tcp $closed -- true", 0, 1},
		{"-- /none", 0, 127},
		{"--none", 0, 125},
		{"--export-prom $addr --wait 10m --tcp $closed -- true", syscall.SIGTERM, 143},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			cmd := command([]string{"PATH=" + os.Getenv("PATH")}, strings.Fields(v.expand(t, tt.args))...)
			cmd.Stderr = fullPipe(t, 0)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
			defer late.Stop()
			if tt.sig != 0 {
				answering(t, addr)
				cmd.Process.Signal(tt.sig)
			}
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
		})
	}
}

// TestQuit: a probe ends on QUIT as other programs do, not with the 2 of a Go program and its stacks.
func TestQuit(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, "--wait", "10m", "--tcp", closedAddr(t))
	s.waitOutput(t, "stderr", "waiting for tcp")
	s.signal(t, syscall.SIGQUIT)
	if got := s.status(t); got != 131 || strings.Count(s.output(t, "stderr"), "\n") != 1 {
		t.Errorf("status %d, stderr %q, want 131 and one line", got, s.output(t, "stderr"))
	}
}

// TestLogBlocked: a reader of the log that has stopped reading delays neither a scrape nor a signal.
func TestLogBlocked(t *testing.T) {
	t.Parallel()
	addr := "127.0.0.1:" + testbed.FreePort(t)
	cmd := command([]string{"PATH=" + os.Getenv("PATH")}, "--export-prom", addr, "--interval", "10ms", "--tcp", "a="+closedAddr(t), "--tcp", "b="+closedAddr(t),
		"--", "sh", "-c", "exec 2>/dev/null; sleep 600")
	cmd.Stderr = fullPipe(t, 120) // room for the start line, and not for what follows
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killTree(cmd.Process.Pid); cmd.Wait() })
	answering(t, addr)
	for _, check := range []string{"a", "b"} { // both go on, though one at least of their lines found no room
		testbed.Poll(t, func() error {
			_, _, body := get(t, "GET", "http://"+addr+"/metrics", nil) // fails after a minute
			if v := value(body, `healthcheck_check_runs_total{check="`+check+`",result="failure",type="tcp"}`); !(v >= 10) {
				return fmt.Errorf("%s has run %v times", check, v)
			}
			return nil
		})
	}
	cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the cleanup at the latest
	select {
	case err := <-ended:
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 143 {
			t.Errorf("ended with %v, want status 143", err)
		}
	case <-time.After(patience):
		t.Error("TERM has not ended it")
	}
}
