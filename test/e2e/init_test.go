//go:build linux

package e2e_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// TestEarlyRegistration reads Go's trace of package initialization. The package that registers TERM
// must be initialized directly after os/signal, before net, crypto/tls and other costly packages.
func TestEarlyRegistration(t *testing.T) {
	t.Parallel()
	got := run(t, []string{"GODEBUG=inittrace=1"}, "--version")
	var order []string
	for line := range strings.Lines(got.stderr) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "init" {
			order = append(order, f[1])
		}
	}
	at := slices.Index(order, "alfred/healthcheck/supervise/early")
	if at < 1 || order[at-1] != "os/signal" || !slices.Contains(order[at:], "net") {
		t.Errorf("initialized in the order %q, want supervise/early directly after os/signal", order)
	}
}

// TestCommandArgumentsHidden: errors show only CMD's program, even if its arguments are in the same
// word.
func TestCommandArgumentsHidden(t *testing.T) {
	t.Parallel()
	const where = ": not found in PATH (/nowhere)"
	for _, tt := range []struct {
		command []string
		want    string
	}{
		{[]string{"DB_PASSWORD=hunter22", "app"}, "DB_PASSWORD=…" + where + "; a variable goes behind env, as in: -- env NAME=value PROGRAM"},
		{[]string{"mysqld --password=hunter22"}, "mysqld" + where + "; program and arguments are separate words, as in: -- PROGRAM ARGUMENT"},
		{[]string{"\x1b[2Jmysqld", "--password=hunter22"}, "…" + where},
	} {
		got := run(t, []string{"PATH=/nowhere"}, append([]string{"--"}, tt.command...)...)
		if got.status != 127 || got.stderr != "healthcheck: "+tt.want+"\n" || got.stdout != "" {
			t.Errorf("-- %q: %+v, want 127 and %q", tt.command, got, tt.want)
		}
	}
}

// TestSignalNotPermitted: without CAP_KILL, healthcheck cannot signal a CMD of another user, and
// logs that once.
func TestSignalNotPermitted(t *testing.T) {
	t.Parallel()
	setpriv := testbed.Need(t, "setpriv")
	if os.Getuid() != 0 {
		testbed.Missing(t, "root", "root is needed to change the user")
	}
	cmd := exec.Command(setpriv, "--bounding-set=-kill", "--inh-caps=-kill", built, "--",
		setpriv, "--reuid=65534", "--clear-groups", "sh", "-c", "echo ready; exec sleep 600")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	s := launch(t, cmd)
	s.waitOutput(t, "stdout", "ready\n")
	const want = "healthcheck: cannot send HUP to CMD: operation not permitted (CMD runs as another user, and healthcheck has no CAP_KILL)\n"
	s.signal(t, syscall.SIGHUP)
	s.waitOutput(t, "stderr", want)
	s.signal(t, syscall.SIGUSR1)
	for _, pid := range children(s.pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if got := s.status(t); got != 137 || s.output(t, "stderr") != want {
		t.Errorf("status %d, stderr %q, want 137 and one line", got, s.output(t, "stderr"))
	}
}
