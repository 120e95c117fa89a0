//go:build linux

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleOrphans makes n orphans, each of which has ended or soon will, and exits with 3.
func roleOrphans(args []string) {
	n, _ := strconv.Atoi(args[0])
	for made := 0; made < n; made += 100 {
		// The shell forks a hundred and leaves them behind.
		sh := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 100 ]; do : & i=$((i+1)); done")
		if err := sh.Run(); err != nil {
			fmt.Println(err)
		}
	}
	// It sees them all reaped before it goes itself.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if slices.Equal(children(os.Getppid()), []int{os.Getpid()}) {
			os.Exit(3)
		}
	}
	fmt.Println("orphans are left:", children(os.Getppid()))
}

// children are a process's children, which /proc lists by the thread that has them.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, s := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(s)
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestTenThousandOrphans(t *testing.T) {
	const n = 10_000
	bothWays(t, "REPORT=1", []string{self(), "@orphans", strconv.Itoa(n)}, func(t *testing.T, cmd *exec.Cmd) {
		status, stdout, stderr := run(t, cmd)
		if status != 3 || !strings.HasPrefix(stdout, fmt.Sprintf("orphans %d\n", n)) || !strings.HasSuffix(stdout, "children false\n") {
			t.Errorf("status %d, %q, want 3, %d orphans and no children\n%s", status, stdout, n, stderr)
		}
	})
}

// tree is a command three deep that ignores TERM, each level with a process that does not. It says "ready" when all are there.
const tree = `trap '' TERM
/bin/sh -c 'trap "" TERM
	/bin/sh -c "trap \"\" TERM; echo ready; while :; do sleep 1000; done" &
	while :; do wait; done' &
while :; do wait; done`

// The command of a tree that ignores TERM is killed; as PID 1 the rest goes with it.
func TestStubbornTree(t *testing.T) {
	bothWays(t, "KILL_AFTER=20ms", []string{"/bin/sh", "-c", tree}, func(t *testing.T, cmd *exec.Cmd) {
		next := lines(t, cmd)
		group := children(cmd.Process.Pid)
		cmd.Process.Signal(syscall.SIGTERM)
		state, err := cmd.Process.Wait()
		if err != nil || state.ExitCode() != 128+9 {
			t.Errorf("ended with %v, %v, want status 137", state, err)
		}
		if cmd.SysProcAttr == nil { // what is left is the next reaper's
			if err := syscall.Kill(-group[0], syscall.SIGKILL); err != nil {
				t.Error("nothing is left:", err)
			}
		}
		if got := next(); got != "" { // end of file once nobody holds the pipe
			t.Errorf("the tree says %q", got)
		}
	})
}

// What the command leaves behind in a container gets TERM and up to KillAfter to go, but no longer than it needs.
func TestLeftOver(t *testing.T) {
	// The command ends once its child has said it is there, through a file.
	const script = `cd "$0"; rm -f there
		/bin/sh -c 'trap "%s" TERM; : >there; while :; do sleep 0.01; done' &
		echo ready; until [ -e there ]; do sleep 0.01; done; exit 4`
	for _, tt := range []struct{ settings, onTERM, want string }{
		{"KILL_AFTER=1h", "echo bye; exit", "bye"},
		{"KILL_AFTER=10ms", "", ""},
		{"", "", ""},
	} {
		cmd := asPID1(t, initCommand(tt.settings, "/bin/sh", "-c", fmt.Sprintf(script, tt.onTERM), t.TempDir()))
		next := lines(t, cmd)
		if got := next(); got != tt.want {
			t.Errorf("%s: the process left over says %q, want %q", tt.settings, got, tt.want)
		}
		if status := wait(t, cmd); status != 4 {
			t.Errorf("%s: status %d, want 4", tt.settings, status)
		}
	}
}

// If the init is killed its command gets TERM, whatever thread forked it.
func TestParentDeath(t *testing.T) {
	cmd := initCommand("", self(), "@signals")
	next := lines(t, cmd)
	cmd.Process.Kill()
	if got := next(); got != "TERM" {
		t.Errorf("its init killed, the command got %q, want TERM", got)
	}
}

// The thread that forked the command lives as long as it does: no TERM comes while the init is busy.
func TestNoTermFromThread(t *testing.T) {
	cmd := initCommand("", self(), "@signals")
	next := lines(t, cmd)
	for range 1000 {
		cmd.Process.Signal(syscall.SIGUSR1)
		if got := next(); got != "USR1" {
			t.Fatalf("got %q, want USR1", got)
		}
	}
}
