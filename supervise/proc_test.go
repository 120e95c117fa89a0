//go:build linux

package supervise

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = "S 41 40 39 0 -1 4194560 9 8 7 6 11 12 13 14 20 0 3 0 555 8192 2 18446744073709551615 1 1"
	want := stat{state: 'S', pid: 42, parent: 41, user: 11, system: 12, childrenUser: 13, childrenSystem: 14, threads: 3, virtual: 8192, resident: 2}
	for _, tt := range []struct {
		in string
		ok bool
	}{
		{"42 (sh) " + tail, true},
		{"42 (a b) " + tail + "\n", true},
		{"42 (a) R 1 (b) " + tail, true},
		{"42 () " + tail, true},
		{"42 (()))(() " + tail, true},
		{"42 (a\nb) " + tail, true},
		{"", false},
		{"42", false},
		{"42 (sh", false},
		{"42 (sh)", false},
		{"x (sh) " + tail, false},
		{"-1 (sh) " + tail, false},
		{"(sh) " + tail, false},
		{"42 (sh) S 41 40", false},
		{"42 (sh) " + strings.Replace(tail, "S", "SS", 1), false},
		{"42 (sh) " + strings.Replace(tail, "11", "9223372036854775808", 1), false},
	} {
		got, ok := parseStat([]byte(tt.in))
		if ok != tt.ok || ok && got != want {
			t.Errorf("parseStat(%q) = %+v, %v, want %+v, %v", tt.in, got, ok, want, tt.ok)
		}
	}
}

// Whatever the program calls itself, the fields behind its name are read as they were written.
func FuzzParseStat(f *testing.F) {
	for _, comm := range []string{"sh", "", "a b", ") R 1 (", "\xff\n", "(((", ")))"} {
		f.Add(comm, int64(1), int64(2), int64(3), int64(4))
	}
	f.Fuzz(func(t *testing.T, comm string, pid, parent, user, pages int64) {
		if pid < 1 || parent < 0 || user < 0 || pages < 0 {
			return
		}
		line := fmt.Sprintf("%d (%s) S %d 1 1 0 -1 0 0 0 0 0 %d 5 6 7 20 0 8 0 1 9 %d 0\n", pid, comm, parent, user, pages)
		want := stat{state: 'S', pid: pid, parent: parent, user: user, system: 5, childrenUser: 6, childrenSystem: 7, threads: 8, virtual: 9, resident: pages}
		if got, ok := parseStat([]byte(line)); !ok || got != want {
			t.Errorf("parseStat(%q) = %+v, %v, want %+v", line, got, ok, want)
		}
	})
}

// roleUsage supervises a command, and prints what it uses for each line of its standard input.
func roleUsage(args []string) {
	if os.Getenv("SUPERVISE_MOUNT_PROC") == "1" {
		if err := mountProc(); err != nil {
			fmt.Println(err)
		}
	}
	in := os.NewFile(3, "in")
	signals := Listen()
	p, err := Command{Args: args}.Start(signals)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { // ends with the process
		for r := bufio.NewScanner(in); r.Scan(); {
			u, err := p.Usage()
			fmt.Printf("%+v %v %v %v\n", u, err, p.Up(), signals.Orphans())
		}
		os.Exit(0)
	}()
	p.Wait()
	select {}
}

// measured is what roleUsage prints.
type measured struct {
	Usage
	err     string
	up      bool
	orphans int
}

// usage starts roleUsage, and returns a function that asks it.
func usage(t *testing.T, cmd *exec.Cmd) (ask func() measured) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.Cleanup(func() { w.Close() })
	cmd.ExtraFiles = []*os.File{r}
	next := lines(t, cmd)
	return func() (m measured) {
		t.Helper()
		io.WriteString(w, "\n")
		line := next()
		u := &m.Usage
		head, tail, _ := strings.Cut(line, "} ")
		if _, err := fmt.Sscanf(head, "{Processes:%d Threads:%d OpenFDs:%d MaxFDs:%d ResidentBytes:%d VirtualBytes:%d UserSeconds:%g SystemSeconds:%g",
			&u.Processes, &u.Threads, &u.OpenFDs, &u.MaxFDs, &u.ResidentBytes, &u.VirtualBytes, &u.UserSeconds, &u.SystemSeconds); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		words := strings.Fields(tail)
		m.err = strings.Join(words[:len(words)-2], " ")
		m.up = words[len(words)-2] == "true"
		m.orphans, _ = strconv.Atoi(words[len(words)-1])
		return m
	}
}

// The command, its child and grandchild and an orphan are counted, and no other process.
func TestUsage(t *testing.T) {
	const script = `ulimit -n 100; exec 4<&0; echo ready
		(cat <&4 &)
		/bin/sh -c 'cat <&4; exit' &
		wait`
	bothWays(t, "", nil, func(t *testing.T, cmd *exec.Cmd) {
		cmd.Args = []string{self(), "@usage", "/bin/sh", "-c", script}
		ask := usage(t, cmd)
		var m measured
		until(t, "four processes, and as many descriptors as /proc lists", func() bool {
			m = ask()
			return m.Processes == 4 && m.OpenFDs == openDescriptors(t, children(cmd.Process.Pid))
		})
		page := int64(os.Getpagesize())
		if m.Threads != 4 || m.MaxFDs != 100 || m.ResidentBytes < 4*page || m.VirtualBytes <= m.ResidentBytes || m.err != "<nil>" || !m.up {
			t.Errorf("usage %+v", m)
		}
	})
}

// openDescriptors counts the descriptors that /proc lists for the processes and their descendants.
func openDescriptors(t *testing.T, pids []int) (n int64) {
	for _, pid := range pids {
		list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)) // fails if the process has ended
		n += int64(len(list)) + openDescriptors(t, children(pid))
	}
	return n
}

// CPU time never decreases. It includes the command itself, the children it has waited for, and the
// orphans that the init has reaped.
func TestCPUSeconds(t *testing.T) {
	const burn = `i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done`
	const script = `echo ready; for n in 1 2 3 4; do /bin/sh -c '` + burn + `'; (/bin/sh -c '` + burn + `' &); done; ` + burn + `; exec cat`
	cmd := initCommand("", "/bin/sh", "-c", script)
	cmd.Args[1] = "@usage"
	ask := usage(t, cmd)
	var last measured
	until(t, "four orphans reaped, the command alone, and the CPU time that /proc lists", func() bool {
		m := ask()
		if m.UserSeconds < last.UserSeconds || m.SystemSeconds < last.SystemSeconds {
			t.Fatalf("decreased from %+v to %+v", last, m)
		}
		last = m
		if m.orphans != 4 || m.Processes != 1 {
			return false
		}
		var command, init stat
		for pid, s := range map[int]*stat{children(cmd.Process.Pid)[0]: &command, cmd.Process.Pid: &init} {
			*s, _ = parseStat(readFile(fmt.Sprintf("/proc/%d/stat", pid), make([]byte, 4096)))
		}
		if min(command.user, command.childrenUser, init.childrenUser) <= 2 {
			t.Fatalf("too little CPU time to tell them apart: command %+v, init %+v", command, init)
		}
		near := func(seconds float64, ticks int64) bool { return math.Abs(seconds-float64(ticks)/ticksPerSecond) < 0.02 }
		return near(m.UserSeconds, command.user+command.childrenUser+init.childrenUser) &&
			near(m.SystemSeconds, command.system+command.childrenSystem+init.childrenSystem)
	})
}

// What an entrypoint script did before it became healthcheck is not the command's.
func TestCPUSecondsBefore(t *testing.T) {
	const burn = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	cmd := exec.Command("/bin/sh", "-c", `/bin/sh -c '`+burn+`'; exec "$0" @usage /bin/sh -c "echo ready; exec cat"`, self())
	ask := usage(t, cmd)
	if m := ask(); m.UserSeconds+m.SystemSeconds > 0.03 {
		t.Errorf("usage %+v, want next to no CPU time", m)
	}
}

// A descendant that nobody has waited for has no descriptors, and only root may look.
func TestUsageOfZombie(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "root to be another user")
	}
	// The test binary where that user can execute it.
	program := filepath.Join(t.TempDir(), "test")
	b, err := os.ReadFile(self())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(program); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "@usage", "perl", "-e", `$| = 1; $child = fork || exit; print "ready\n"; sleep 1000`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	ask := usage(t, cmd)
	until(t, "a zombie", func() bool {
		pids := children(children(cmd.Process.Pid)[0])
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
		s, ok := parseStat(b)
		return ok && s.state == 'Z'
	})
	want := openDescriptors(t, children(cmd.Process.Pid))
	if m := ask(); m.Processes != 2 || m.OpenFDs != want || want < 3 {
		t.Errorf("usage %+v, want two processes and the %d descriptors of one", m, want)
	}
}

func TestUsageWithoutProc(t *testing.T) {
	// A new PID namespace that still has the old one's /proc.
	cmd := asPID1(t, exec.Command(self(), "@usage", "/bin/sh", "-c", "echo ready; exec cat"))
	cmd.Env = append(os.Environ(), "SUPERVISE_MOUNT_PROC=0")
	ask := usage(t, cmd)
	if m := ask(); m.err != errForeignProc.Error() {
		t.Errorf("error %q, want %q", m.err, errForeignProc)
	}
}

// A nil Process is a command that has not been started.
func TestNilProcess(t *testing.T) {
	var p *Process
	if p.Up() || !p.Started().IsZero() {
		t.Errorf("up %v, started %v, want neither", p.Up(), p.Started())
	}
	for name, n := range p.Forwarded() {
		t.Errorf("%s was forwarded %d times, want no signal", name, n)
	}
	if u, err := p.Usage(); err != nil || u.MaxFDs != -1 {
		t.Errorf("usage %+v, %v, want no limit of descriptors", u, err)
	}
}

func TestSelf(t *testing.T) {
	u := Self()
	if since := time.Since(u.Started); since < 0 || since > time.Hour || u.CPUSeconds <= 0 || u.ResidentBytes < 1<<20 {
		t.Errorf("self %+v", u)
	}
}

func BenchmarkUsage(b *testing.B) {
	var p *Process
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Usage(); err != nil {
			b.Fatal(err)
		}
	}
}
