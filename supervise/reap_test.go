//go:build linux

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// vforker is a program for amd64 that makes 100 children and exits, and each child exits too. A shell takes 10 to 50 times as long.
//
//	bb 64 00 00 00   mov $100, %ebx
//	b8 3a 00 00 00   mov $58, %eax    vfork
//	0f 05            syscall
//	85 c0            test %eax, %eax
//	74 04            jz +4            the child exits
//	ff cb            dec %ebx
//	75 f1            jnz -15
//	31 ff            xor %edi, %edi
//	b8 3c 00 00 00   mov $60, %eax    exit
//	0f 05            syscall
const vforker = elf64 + "\xbb\x64\x00\x00\x00\xb8\x3a\x00\x00\x00\x0f\x05\x85\xc0\x74\x04\xff\xcb\x75\xf1\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05"

// elf64 is an ELF header and one program header that loads the file whole at 0x400000; the code follows and is entered at its start.
const elf64 = "\x7fELF\x02\x01\x01" + zero8 + "\x00" +
	"\x02\x00\x3e\x00\x01\x00\x00\x00" + "\x78\x00\x40\x00\x00\x00\x00\x00" + "\x40\x00\x00\x00\x00\x00\x00\x00" + zero8 +
	"\x00\x00\x00\x00\x40\x00\x38\x00\x01\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x00\x00\x00\x05\x00\x00\x00" + zero8 + "\x00\x00\x40\x00\x00\x00\x00\x00" + "\x00\x00\x40\x00\x00\x00\x00\x00" +
	"\x00\x01\x00\x00\x00\x00\x00\x00" + "\x00\x01\x00\x00\x00\x00\x00\x00" + "\x00\x10\x00\x00\x00\x00\x00\x00"

const zero8 = "\x00\x00\x00\x00\x00\x00\x00\x00"

// roleOrphans runs a command that leaves 100 orphans behind, until there were n, and exits with 3 once all have been reaped.
func roleOrphans(args []string) {
	n, _ := strconv.Atoi(args[0])
	for range n / 100 {
		if err := exec.Command(args[1], args[2:]...).Run(); err != nil {
			fmt.Println(err)
		}
	}
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
	hundred := []string{"/bin/sh", "-c", "i=0; while [ $i -lt 100 ]; do : & i=$((i+1)); done"}
	if runtime.GOARCH == "amd64" {
		hundred = []string{t.TempDir() + "/vforker"}
		if err := os.WriteFile(hundred[0], []byte(vforker), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bothWays(t, "REPORT=1", append([]string{self(), "@orphans", strconv.Itoa(n)}, hundred...), func(t *testing.T, cmd *exec.Cmd) {
		status, stdout, stderr := run(t, cmd)
		if status != 3 || stdout != fmt.Sprintf("orphans %d\nchildren false\n", n) {
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
		/bin/sh -c 'trap "%s" TERM; : >there; %s; while :; do sleep 0.01; done' &
		echo ready; until [ -e there ]; do sleep 0.01; done; exit 4`
	for _, tt := range []struct{ settings, onTERM, first, want string }{
		{"KILL_AFTER=1h", "echo bye; exit", ":", "bye"},
		{"KILL_AFTER=1h", "echo bye; exit", "kill -STOP $$", "bye"}, // continued, to hear of it
		{"KILL_AFTER=10ms", "", ":", ""},
		{"", "", ":", ""},
	} {
		cmd := asPID1(t, initCommand(tt.settings, "/bin/sh", "-c", fmt.Sprintf(script, tt.onTERM, tt.first), t.TempDir()))
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
