package e2e_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// TestProcessLimit scrapes the exporter while the command uses up RLIMIT_NPROC. test/engine does
// the same with the pids limit of a container.
func TestProcessLimit(t *testing.T) {
	if os.Getuid() != 0 {
		testbed.Missing(t, "root", "root is needed to run as a user without other processes")
	}
	prlimit, gcc := testbed.Need(t, "prlimit"), testbed.Need(t, "gcc")
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) { // the user must reach it
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	filler := filepath.Join(dir, "filler")
	if out, err := exec.Command(gcc, "-Os", "-Wall", "-Werror", "-pthread", "-o", filler, filepath.Join(root, "test/engine/testdata/filler.c")).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	binary := filepath.Join(dir, "healthcheck")
	if err := os.Link(built, binary); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(prlimit, "--nproc=40", binary, "--export-prom", "127.0.0.1:0", "--", filler)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	const user = 54321 // a user without other processes, since the limit counts all processes of a user
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	s := launch(t, cmd)
	s.waitOutput(t, "stdout", "full\n")
	url := "http://" + s.addr(t) + "/metrics"
	var answered atomic.Int64
	var running sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for range 32 {
		running.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
			for time.Now().Before(end) {
				if response, err := client.Get(url); err == nil {
					response.Body.Close()
					answered.Add(1)
				}
			}
		})
	}
	running.Wait()
	select {
	case <-s.done:
		t.Errorf("healthcheck ended: %v\n%s", s.cmd.ProcessState, s.output(t, "stderr"))
	default:
	}
	if answered.Load() == 0 {
		t.Error("no scrape was answered")
	}
}
