//go:build linux

package supervise

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleSignals prints "ready", then the name of each signal that comes, and exits with 7 on TERM.
// Given "stubborn" it does not, but only with its standard input.
func roleSignals(args []string) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if !passedOn(sig) {
			continue
		}
		c := make(chan os.Signal, 1)
		signal.Notify(c, sig)
		go func() { // ends with the process
			for range c {
				fmt.Println(SignalName(sig))
				if sig == syscall.SIGTERM && len(args) == 0 {
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
			return err.Error()
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
		want := map[string]bool{}
		for _, sig := range append(others(syscall.SIGTERM), syscall.SIGTERM) {
			cmd.Process.Signal(sig)
			if got := next(); got != SignalName(sig) {
				t.Fatalf("sent %s, the command got %q", SignalName(sig), got)
			}
			want["forwarded "+SignalName(sig)+" true"] = true
		}
		for line := next(); line != ""; line = next() {
			delete(want, line)
		}
		if len(want) > 0 {
			t.Errorf("missing in what Forwarded yields: %v", want)
		}
		if status := wait(t, cmd); status != 7 {
			t.Errorf("status %d, want 7", status)
		}
	})
}

// others are the signals passed on, without those given.
func others(but ...syscall.Signal) (sigs []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if passedOn(sig) && !slices.Contains(but, sig) {
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
		rewrite string
		sent    syscall.Signal
		want    string
	}{
		{"TERM:INT", syscall.SIGTERM, "INT"},
		{"TERM:RTMIN+3", syscall.SIGTERM, "RTMIN+3"},
		{"HUP:QUIT", syscall.SIGHUP, "QUIT"},
		{"HUP:QUIT", syscall.SIGUSR1, "USR1"},
		{"TERM:0", syscall.SIGTERM, ""},
	} {
		cmd := initCommand("STOP="+tt.rewrite, self(), "@signals", "stubborn")
		next := lines(t, cmd)
		cmd.Process.Signal(tt.sent)
		if tt.want != "" {
			if got := next(); got != tt.want {
				t.Errorf("%s: sent %v, the command got %q, want %q", tt.rewrite, tt.sent, got, tt.want)
			}
		}
		cmd.Process.Signal(syscall.SIGUSR2)
		if got := next(); got != "USR2" {
			t.Errorf("%s: after %v and USR2 the command got %q, want USR2", tt.rewrite, tt.sent, got)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func TestKillAfter(t *testing.T) {
	for _, tt := range []struct {
		settings string
		sent     syscall.Signal
	}{
		{"KILL_AFTER=10ms", syscall.SIGTERM},
		{"KILL_AFTER=10ms", syscall.SIGINT},
		{"KILL_AFTER=10ms", syscall.SIGQUIT},
		{"KILL_AFTER=10ms GROUP=1", syscall.SIGTERM},
		{"KILL_AFTER=10ms STOP=TERM:USR1", syscall.SIGTERM},
		{"KILL_AFTER=10ms STOP=HUP:TERM", syscall.SIGHUP},
		{"STOP=TERM:KILL", syscall.SIGTERM},
	} {
		cmd := initCommand(tt.settings, self(), "@signals", "stubborn")
		lines(t, cmd)
		cmd.Process.Signal(tt.sent)
		if status := wait(t, cmd); status != 128+9 {
			t.Errorf("%s, %v: status %d, want 137", tt.settings, tt.sent, status)
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

// What is ignored under nohup stays ignored, and is not passed on to a command that has its own idea of it.
func TestNohup(t *testing.T) {
	cmd := initCommand("", self(), "@signals")
	cmd.Args = append([]string{"nohup"}, cmd.Args...)
	cmd.Path, _ = exec.LookPath("nohup")
	if cmd.Path == "" {
		skip(t, "nohup")
	}
	next := lines(t, cmd)
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGUSR1)
	if got := next(); got != "USR1" {
		t.Errorf("after HUP and USR1 under nohup the command got %q, want USR1", got)
	}
	cmd.Process.Signal(syscall.SIGTERM)
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

// A write to a stderr nobody reads is an error for the writer, not the end of the init; and the command's SIGPIPE is as ever.
func TestBrokenStderr(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := initCommand("NOISE=1", "/bin/sh", "-c", "yes 2>/dev/null | true; grep Sig[BI] /proc/self/status; exit 5")
	cmd.Stderr = w
	out, err := cmd.Output()
	if status := cmd.ProcessState.ExitCode(); status != 5 || !strings.Contains(string(out), "SigIgn:\t0000000000000000\n") {
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

// A signal that comes before the command is there is kept for it. Await returns it too, for who does not want to start any more.
func TestSignalBeforeStart(t *testing.T) {
	cmd := exec.Command(self(), "@early")
	next := lines(t, cmd)
	cmd.Process.Signal(syscall.SIGUSR1)
	cmd.Process.Signal(syscall.SIGINT)
	for _, want := range []string{"stop INT", "status 138"} {
		if got := next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	wait(t, cmd)
}

// roleEarly starts its command only once Await has returned INT, and USR1 must then be there too.
func roleEarly([]string) {
	signals := Listen()
	<-signals.taken
	c := &Command{
		Args: []string{"sleep", "1000"}, Signals: signals,
		StopSignals: map[syscall.Signal]syscall.Signal{syscall.SIGINT: 0},
	}
	fmt.Println("ready")
	fmt.Println("stop", SignalName(c.Await(nil)))
	if err := c.Start(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("status", c.Wait())
}
