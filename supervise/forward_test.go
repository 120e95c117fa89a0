//go:build linux

package supervise

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/supervise/early"
)

// roleSignals prints "ready", then the name of each signal it receives. It exits with status 7 on
// the signal args[0], by default TERM.
func roleSignals(args []string) {
	last := SignalName(syscall.SIGTERM)
	if len(args) > 0 {
		last = args[0]
	}
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if !isForwarded(sig) {
			continue
		}
		c := make(chan os.Signal, 1)
		signal.Notify(c, sig)
		go func() { // ends with the process
			for range c {
				fmt.Println(SignalName(sig))
				if SignalName(sig) == last {
					os.Exit(7)
				}
			}
		}()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}

// lines starts cmd and returns its output line by line, once it has said "ready".
// Its standard input ends with the test.
func lines(t *testing.T, cmd *exec.Cmd) (next func() string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	begin(t, cmd)
	watchdog := time.AfterFunc(patience, func() {
		cmd.Process.Kill()
		out.Close() // what it has left behind may have the other end
	})
	t.Cleanup(func() { watchdog.Stop() })
	r := bufio.NewReader(out)
	next = func() string {
		line, err := r.ReadString('\n')
		if err != nil && err != io.EOF {
			t.Fatalf("the command's output: %v", err)
		}
		return strings.TrimSuffix(line, "\n")
	}
	if got := next(); got != "ready" {
		t.Fatalf("first line %q, want ready", got)
	}
	return next
}

func TestEverySignal(t *testing.T) {
	bothWays(t, "REPORT=1", []string{self(), "@signals"}, func(t *testing.T, cmd *exec.Cmd) {
		next := lines(t, cmd)
		untilRegistered(t, cmd)
		want := map[syscall.Signal]int{}
		for _, sig := range append(others(syscall.SIGTERM), syscall.SIGTERM) {
			cmd.Process.Signal(sig)
			if got := next(); got != SignalName(sig) {
				t.Fatalf("sent %s, the command received %q", SignalName(sig), got)
			}
			want[sig] = 1
		}
		if got := readReport(next); got != report(want) {
			t.Errorf("report\n%swant\n%s", got, report(want))
		}
		if status := wait(t, cmd); status != 7 {
			t.Errorf("status %d, want 7", status)
		}
	})
}

// report returns what roleInit prints once its command has ended, if it forwarded each signal this
// many times and there were no orphans and no children.
func report(forwarded map[syscall.Signal]int) string {
	var b strings.Builder
	b.WriteString("orphans 0\n")
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if n := forwarded[sig]; n > 0 {
			fmt.Fprintln(&b, "forwarded", SignalName(sig), n)
		}
	}
	b.WriteString("children false\n")
	return b.String()
}

// readReport reads all lines until the end of the output.
func readReport(next func() string) (text string) {
	for line := next(); line != ""; line = next() {
		text += line + "\n"
	}
	return text
}

// others returns every forwarded signal except those in but.
func others(but ...syscall.Signal) (sigs []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if isForwarded(sig) && !slices.Contains(but, sig) {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// untilRegistered waits until an init without a terminal has registered all signals: TTOU is the last.
func untilRegistered(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	until(t, "TTOU registered", func() bool { return caught(cmd.Process.Pid, syscall.SIGTTOU) })
}

// caught reports whether a process has a handler for the signal.
func caught(pid int, sig syscall.Signal) bool { return inStatus(pid, "SigCgt", sig) }

func inStatus(pid int, set string, sig syscall.Signal) bool {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, line, _ := strings.Cut(string(b), set+":\t")
	line, _, _ = strings.Cut(line, "\n")
	mask, _ := strconv.ParseUint(line, 16, 64)
	return mask>>(sig-1)&1 == 1
}

// A storm of some signals must not push out others: each of those sent once in its midst comes through.
func TestSignalStorm(t *testing.T) {
	const storm = 100_000
	bothWays(t, "", []string{self(), "@signals"}, func(t *testing.T, cmd *exec.Cmd) {
		next := lines(t, cmd)
		untilRegistered(t, cmd)
		kinds := []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGWINCH, 35, 64}
		// A stop signal takes away a CONT that is still pending (signal(7)).
		once := others(append(kinds, syscall.SIGTERM, syscall.SIGCONT)...)
		go func() { // ends by itself, or with the init
			for i := range storm {
				cmd.Process.Signal(kinds[i%len(kinds)])
				if every := storm / len(once); i%every == every/2 && i/every < len(once) {
					cmd.Process.Signal(once[i/every])
				}
			}
		}()
		seen := map[string]int{}
		for kinds := 0; kinds < len(once); {
			line := next()
			if line == "" {
				t.Fatalf("the command has ended; seen so far: %v", seen)
			}
			if seen[line]++; seen[line] == 1 && slices.ContainsFunc(once, func(sig syscall.Signal) bool { return SignalName(sig) == line }) {
				kinds++
			}
		}
		for _, sig := range once {
			if n := seen[SignalName(sig)]; n != 1 {
				t.Errorf("%s was sent once and came %d times", SignalName(sig), n)
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		for next() != "" {
		}
		if status := wait(t, cmd); status != 7 {
			t.Errorf("status %d, want 7", status)
		}
	})
}

func TestStopSignal(t *testing.T) {
	for _, tt := range []struct {
		rewrite  string
		received syscall.Signal
		sent     syscall.Signal // 0: none
	}{
		{"TERM:INT", syscall.SIGTERM, syscall.SIGINT},
		{"TERM:RTMIN+3", syscall.SIGTERM, rtMin + 3},
		{"HUP:QUIT", syscall.SIGHUP, syscall.SIGQUIT},
		{"HUP:QUIT", syscall.SIGINT, syscall.SIGINT},
		{"TERM:0", syscall.SIGTERM, 0},
	} {
		cmd := initCommand("REPORT=1 STOP="+tt.rewrite, self(), "@signals", "USR2")
		next := lines(t, cmd)
		sent := map[syscall.Signal]int{syscall.SIGUSR1: 1, syscall.SIGUSR2: 1}
		cmd.Process.Signal(tt.received)
		if tt.sent != 0 {
			sent[tt.sent] = 1
			if got := next(); got != SignalName(tt.sent) {
				t.Errorf("%s: after %v the command received %q, want %s", tt.rewrite, tt.received, got, SignalName(tt.sent))
			}
		}
		for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
			cmd.Process.Signal(sig)
			if got := next(); got != SignalName(sig) {
				t.Errorf("%s: after %v and %v the command received %q", tt.rewrite, tt.received, sig, got)
			}
		}
		if got := readReport(next); got != report(sent) {
			t.Errorf("%s, %v: report\n%swant\n%s", tt.rewrite, tt.received, got, report(sent))
		}
		if status := wait(t, cmd); status != 7 {
			t.Errorf("%s, %v: status %d, want 7", tt.rewrite, tt.received, status)
		}
	}
}

func TestKillAfter(t *testing.T) {
	const ends, killed = 7, 128 + 9
	for _, tt := range []struct {
		settings string
		sent     syscall.Signal
		want     int
	}{
		{"KILL_AFTER=10ms", syscall.SIGTERM, killed},
		{"KILL_AFTER=10ms", syscall.SIGINT, killed},
		{"KILL_AFTER=10ms", syscall.SIGQUIT, killed},
		{"KILL_AFTER=10ms GROUP=1", syscall.SIGTERM, killed},
		{"KILL_AFTER=10ms STOP=TERM:USR1", syscall.SIGTERM, killed},
		{"KILL_AFTER=10ms STOP=HUP:TERM", syscall.SIGHUP, killed},
		{"STOP=TERM:KILL", syscall.SIGTERM, killed},
		{"", syscall.SIGTERM, ends},
		{"KILL_AFTER=1h", syscall.SIGTERM, ends},
		{"KILL_AFTER=1ns", syscall.SIGHUP, ends}, // no stop signal
	} {
		cmd := initCommand(tt.settings, self(), "@signals", "USR2")
		next := lines(t, cmd)
		cmd.Process.Signal(tt.sent)
		if tt.want == ends { // the command outlives the signal and ends itself
			next()
			for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
				cmd.Process.Signal(sig)
				if got := next(); got != SignalName(sig) {
					t.Errorf("%s: after %v and %v the command received %q", tt.settings, tt.sent, sig, got)
				}
			}
		}
		if status := wait(t, cmd); status != tt.want {
			t.Errorf("%s, %v: status %d, want %d", tt.settings, tt.sent, status, tt.want)
		}
	}
}

// With SignalGroup a signal reaches the command's children, and without it only the command.
func TestSignalGroup(t *testing.T) {
	const script = `
		/bin/sh -c 'trap "echo child; exit" USR1; trap "echo spared; exit" USR2; echo ready; while :; do sleep 0.01; done' &
		child=$!
		trap "$0" USR1
		while :; do sleep 0.01; done # wait would sleep through a USR1 that comes just before it`
	for _, tt := range []struct{ settings, onUSR1, want string }{
		{"GROUP=1", ":", "child"},
		{"", "kill -USR2 $child", "spared"},
	} {
		cmd := initCommand(tt.settings, "/bin/sh", "-c", "trap : USR1\n"+script, tt.onUSR1)
		next := lines(t, cmd)
		cmd.Process.Signal(syscall.SIGUSR1)
		if got := next(); got != tt.want {
			t.Errorf("with %q the child says %q, want %q", tt.settings, got, tt.want)
		}
		cmd.Process.Kill() // the command gets TERM, and its child
		cmd.Wait()
	}
}

// With SignalGroup, a signal reaches both the process group and a command that has left it.
func TestSignalGroupLeft(t *testing.T) {
	for _, settings := range []string{"GROUP=1 REPORT=1", "GROUP=1 REPORT=1 STAY=1"} {
		cmd := initCommand(settings, self(), "@leaver")
		next := lines(t, cmd)
		cmd.Process.Signal(syscall.SIGUSR1)
		want := []string{"command USR1"}
		if strings.Contains(settings, "STAY") {
			want = append(want, "child USR1")
		}
		got := []string{}
		for range want {
			got = append(got, next())
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("with %q: %q, want %q", settings, got, want)
		}
		cmd.Process.Signal(syscall.SIGTERM)
		text := readReport(next)
		if !strings.Contains(text, "forwarded USR1 1\n") {
			t.Errorf("with %q: report\n%swant USR1 forwarded once", settings, text)
		}
		if status := wait(t, cmd); status != 128+int(syscall.SIGTERM) {
			t.Errorf("with %q: status %d, want 143", settings, status)
		}
	}
}

// roleLeaver moves to its parent's process group and prints the first USR1. If SUPERVISE_STAY is
// set, a child stays in the old group and also prints its first USR1.
func roleLeaver(args []string) {
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	if len(args) > 0 {
		fmt.Println("child is there")
		<-usr1
		fmt.Println("child USR1")
		return
	}
	if os.Getenv("SUPERVISE_STAY") != "" {
		child := exec.Command(self(), "@leaver", "child")
		out, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return
		}
		r := bufio.NewReader(out)
		r.ReadString('\n')
		go io.Copy(os.Stdout, r) // ends with the child
	}
	parents, err := syscall.Getpgid(os.Getppid())
	if err == nil {
		err = syscall.Setpgid(0, parents)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready")
	<-usr1
	fmt.Println("command USR1")
	io.Copy(io.Discard, os.Stdin) // until TERM
}

// Only the first signal that the kernel does not permit to send is logged.
func TestNotPermitted(t *testing.T) {
	if os.Getuid() != 0 {
		skip(t, "root to change the user")
	}
	const want = "log: cannot send HUP to CMD: operation not permitted (CMD runs as another user, and healthcheck has no CAP_KILL)\n"
	for _, settings := range []string{"LOG=1", "LOG=1 GROUP=1"} {
		cmd := initCommand(settings, self(), "@foreign")
		cmd.Args = append([]string{cmd.Args[0], "@nokill"}, cmd.Args[1:]...)
		log, err := os.Create(t.TempDir() + "/log")
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stderr = log
		logged := func() string {
			b, _ := os.ReadFile(log.Name())
			return string(b)
		}
		next := lines(t, cmd)
		pid, _ := strconv.Atoi(next())
		cmd.Process.Signal(syscall.SIGHUP)
		until(t, "a line in the log", func() bool { return strings.HasSuffix(logged(), "\n") })
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2} {
			cmd.Process.Signal(sig)
		}
		syscall.Kill(pid, syscall.SIGTERM)
		if status := wait(t, cmd); status != 143 || logged() != want {
			t.Errorf("with %q: status %d, log %q, want 143 and %q", settings, status, logged(), want)
		}
	}
}

// roleNoKill executes the test binary with args and without CAP_KILL.
func roleNoKill(args []string) {
	const PR_CAPBSET_DROP, CAP_KILL = 24, 5
	runtime.LockOSThread() // capabilities belong to a thread, and this one calls exec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, PR_CAPBSET_DROP, CAP_KILL, 0); errno != 0 {
		fmt.Println(errno)
		return
	}
	fmt.Println(syscall.Exec(self(), append([]string{self()}, args...), os.Environ()))
}

// roleForeign becomes another user, prints its process ID, and waits.
func roleForeign([]string) {
	if err := syscall.Setuid(65534); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready")
	fmt.Println(os.Getpid())
	io.Copy(io.Discard, os.Stdin)
}

// A signal ignored under nohup stays ignored, and is not forwarded to a command that handles it.
func TestNohup(t *testing.T) {
	cmd := initCommand("REPORT=1", self(), "@signals")
	cmd.Args = append([]string{"nohup"}, cmd.Args...)
	cmd.Path, _ = exec.LookPath("nohup")
	if cmd.Path == "" {
		skip(t, "nohup")
	}
	next := lines(t, cmd)
	cmd.Process.Signal(syscall.SIGHUP)
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		cmd.Process.Signal(sig)
		if got := next(); got != SignalName(sig) {
			t.Errorf("after HUP and %v under nohup the command received %q", sig, got)
		}
	}
	want := report(map[syscall.Signal]int{syscall.SIGUSR1: 1, syscall.SIGTERM: 1})
	if got := readReport(next); got != want {
		t.Errorf("report\n%swant\n%s", got, want)
	}
	if status := wait(t, cmd); status != 7 {
		t.Errorf("status %d, want 7", status)
	}

	// Ignored signals the runtime leaves alone are inherited as such.
	for _, tt := range []struct{ ignore, want string }{
		{"HUP", "0000000000000001"}, {"INT", "0000000000000002"}, {"TSTP TTIN TTOU", "0000000000380000"}, {"", "0000000000000000"},
	} {
		cmd := exec.Command("/bin/sh", "-c", `[ -z "$0" ] || trap '' $0; exec "$@"`, tt.ignore, self(), "@init", "grep", "SigIgn", "/proc/self/status")
		if _, got, stderr := run(t, cmd); got != "SigIgn:\t"+tt.want+"\n" {
			t.Errorf("with %q ignored the command has %q, want %s\n%s", tt.ignore, got, tt.want, stderr)
		}
	}
}

// A write to a broken stderr does not end the init. The command starts with the default action for
// SIGPIPE.
func TestBrokenStderr(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := initCommand("NOISE=1", "/bin/sh", "-c", "yes 2>/dev/null | true; grep SigIgn /proc/self/status; exit 5")
	cmd.Stderr = w
	out, err := cmd.Output()
	if status := cmd.ProcessState.ExitCode(); status != 5 || string(out) != "SigIgn:\t0000000000000000\n" {
		t.Errorf("status %d, %v, %q, want 5 and no signal ignored", status, err, out)
	}
}

// A command's first act may be a signal to its parent: all are registered before there is a command.
func TestSignalFromTheFirstInstruction(t *testing.T) {
	const script = `trap "exit 7" $0; kill -$0 $PPID; n=0; while [ $n -lt 3000000 ]; do n=$((n + 1)); done; exit 1`
	for _, sig := range []string{"HUP", "QUIT", "USR1", "TSTP", "CONT", "64"} {
		for range 10 {
			if status, _, stderr := run(t, initCommand("", "/bin/sh", "-c", script, sig)); status != 7 {
				t.Errorf("%s, sent at once, did not come back: status %d, want 7\n%s", sig, status, stderr)
				break
			}
		}
	}
}

// AwaitStop returns a signal that arrives before Start; the signal is still forwarded to the
// command. AwaitStop also reaps and counts orphans.
func TestBeforeStart(t *testing.T) {
	// The process that the shell leaves in the background becomes a child of the role.
	cmd := exec.Command("/bin/sh", "-c", `read x <&3 & exec "$0" @early`, self())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{r}
	next := lines(t, cmd)
	if n := len(children(cmd.Process.Pid)); n != 1 {
		t.Fatalf("%d children, want the shell's", n)
	}
	w.Close()
	until(t, "the child reaped", func() bool { return len(children(cmd.Process.Pid)) == 0 })
	cmd.Process.Signal(syscall.SIGUSR1)
	cmd.Process.Signal(syscall.SIGINT)
	for _, want := range []string{"stop INT, orphans 1", "status 0, orphans 1"} {
		if got := next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	wait(t, cmd)
}

// roleEarly starts its command once AwaitStop has returned a signal. INT is dropped, and USR1 ends
// the command with status 138, which becomes 0.
func roleEarly([]string) {
	signals := Listen()
	<-signals.registered
	c := Command{
		Args:          []string{"sleep", "1000"},
		StopSignals:   map[syscall.Signal]syscall.Signal{syscall.SIGINT: 0},
		SuccessStatus: []int{128 + int(syscall.SIGUSR1)},
	}
	fmt.Println("ready")
	fmt.Printf("stop %s, orphans %d\n", SignalName(signals.AwaitStop(nil)), signals.Orphans())
	p, err := c.Start(signals)
	if err != nil {
		fmt.Println(err)
		return
	}
	c.SuccessStatus[0] = 1 // no effect: Start copies
	clear(c.StopSignals)
	fmt.Printf("status %d, orphans %d\n", p.Wait(), signals.Orphans())
}

// A signal that arrives before Listen is kept: AwaitStop returns it, and the command receives it.
func TestBeforeListen(t *testing.T) {
	for _, name := range []string{"TERM", "INT", "QUIT", "HUP"} {
		sig, _ := ParseSignal(name)
		want := fmt.Sprintf("stop %s\nstatus %d\n", name, 128+sig)
		for _, asked := range []string{"await", ""} {
			if _, got, stderr := run(t, exec.Command(self(), "@kept", name, asked)); !strings.HasSuffix(want, got) || (asked != "") != (got == want) {
				t.Errorf("%s before Listen, %q: %q, want %q\n%s", name, asked, got, want, stderr)
			}
		}
	}
}

// roleKept sends a signal to itself before Listen, then starts a command.
func roleKept(args []string) {
	first, _ := early.Register()
	sig, _ := ParseSignal(args[0])
	syscall.Kill(os.Getpid(), sig)
	for len(first) == 0 { // os/signal delivers it from its own goroutine
		time.Sleep(time.Millisecond)
	}
	signals := Listen()
	if args[1] != "" {
		fmt.Println("stop", SignalName(signals.AwaitStop(nil)))
	}
	p, err := Command{Args: []string{"sh", "-c", "ulimit -c 0; exec sleep 1000"}}.Start(signals)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("status", p.Wait())
}
