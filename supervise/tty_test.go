//go:build linux

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// pty is a terminal whose other end a test holds.
type pty struct {
	t      *testing.T
	master *os.File

	mu   sync.Mutex // guards what follows
	out  strings.Builder
	seen int // what expect has gone past
}

// startTerminal starts cmd as the leader of a new session on a new terminal.
func startTerminal(t *testing.T, cmd *exec.Cmd) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		skip(t, "/dev/ptmx")
	}
	t.Cleanup(func() { master.Close() })
	var number, unlock uint32
	ioctl(t, master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	ioctl(t, master, syscall.TIOCGPTN, unsafe.Pointer(&number))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()

	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	begin(t, cmd)

	p := &pty{t: t, master: master}
	go func() { // ends with the terminal
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.out.Write(buf[:n])
			p.mu.Unlock()
		}
	}()
	return p
}

func ioctl(t *testing.T, f *os.File, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	conn, err := f.SyscallConn() // Fd would make the file blocking, and a read from it would hold up Close
	if err != nil {
		t.Fatal(err)
	}
	conn.Control(func(fd uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg)); errno != 0 {
			t.Fatal(errno)
		}
	})
}

func (p *pty) typed(s string) {
	p.t.Helper()
	if _, err := p.master.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

// expect waits until the terminal shows text, behind what was expected before.
func (p *pty) expect(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		shown := p.out.String()
		at := strings.Index(shown[p.seen:], text)
		if at >= 0 {
			p.seen += at + len(text)
		}
		p.mu.Unlock()
		if at >= 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the terminal never showed %q; it shows\n%s", text, shown)
		}
	}
}

// foreground is the terminal's foreground group.
func (p *pty) foreground() (group int) {
	p.t.Helper()
	var id int32
	ioctl(p.t, p.master, syscall.TIOCGPGRP, unsafe.Pointer(&id))
	return int(id)
}

// untilFront waits until a command is in front and runs: before that no Ctrl-Z has an effect on it, whatever supervises it.
func (p *pty) untilFront(pid int) {
	p.t.Helper()
	until(p.t, "the command in front", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return p.foreground() == pid && !strings.Contains(string(b), ") T ")
	})
}

func (p *pty) shown() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

const (
	ctrlC         = "\x03"
	ctrlZ         = "\x1a"
	ctrlBackslash = "\x1c"
)

// Ctrl-C, Ctrl-Z, fg and bg under a shell with job control. What is typed shows too: a "" in it tells it from what a command prints.
func TestJobControl(t *testing.T) {
	const reader = `'echo rea""dy; read x; echo "read:$x"; exit 6'`
	for _, shell := range []string{"bash --norc -i", "dash -i"} {
		t.Run(shell, func(t *testing.T) {
			words := strings.Fields(shell)
			if _, err := exec.LookPath(words[0]); err != nil {
				skip(t, words[0])
			}
			cmd := exec.Command(words[0], words[1:]...)
			cmd.Env = append(os.Environ(), "INIT="+self()+" @init", "PS1=$ ", "TERM=dumb", "HISTFILE=/dev/null")
			p := startTerminal(t, cmd)

			// Ctrl-C is the command's alone, and once.
			p.typed(`$INIT sh -c 'trap "echo got-""INT; exit 9" INT; echo rea""dy; while :; do sleep 0.01; done'; echo sta""tus $?` + "\n")
			p.expect("ready")
			p.typed(ctrlC)
			p.expect("status 9")
			if n := strings.Count(p.shown(), "got-INT"); n != 1 {
				t.Errorf("Ctrl-C came %d times\n%s", n, p.shown())
			}

			// The same with standard input from elsewhere.
			p.typed(`$INIT sh -c 'trap "exit 8" INT; echo rea""dy; while :; do sleep 0.01; done' </dev/null; echo sta""tus $?` + "\n")
			p.expect("ready")
			p.typed(ctrlC)
			p.expect("status 8")

			// Ctrl-Z gives the terminal back to the shell, and fg to the command; more than once.
			p.typed(`$INIT sh -c ` + reader + "\n")
			p.expect("ready")
			command := p.foreground()
			for range 3 {
				p.typed(ctrlZ)
				p.expect("Stopped")
				p.expect("$ ")
				p.typed("fg\n")
				p.untilFront(command)
			}
			p.typed("hello\n")
			p.expect("read:hello")
			p.expect("$ ")
			p.typed("echo sta\"\"tus $?\n")
			p.expect("status 6")

			// In a pipeline the whole job stops.
			p.typed(`$INIT sh -c ` + reader + " | cat\n")
			p.expect("ready")
			command = p.foreground()
			p.typed(ctrlZ)
			p.expect("Stopped")
			p.expect("$ ")
			p.typed("fg\n")
			p.untilFront(command)
			p.typed("world\n")
			p.expect("read:world")
			p.expect("$ ")

			// Started in the background it stops for reading, and after fg reads.
			p.typed(`$INIT sh -c ` + reader + " &\n")
			p.expect("ready")
			p.typed("\n")
			for !strings.Contains(p.shown()[p.seen:], "Stopped") {
				p.typed("jobs\n")
				p.expect("$ ")
				time.Sleep(time.Millisecond)
			}
			p.typed("fg\n")
			p.expect("fg\r\n")
			p.expect("INIT")
			p.typed("again\n")
			p.expect("read:again")
			p.expect("$ ")
			p.typed("exit 5\n")
			if status := wait(t, cmd); status != 5 {
				t.Errorf("the shell's status is %d, want 5\n%s", status, p.shown())
			}
		})
	}
}

// Ctrl-C and Ctrl-\ that end the command end the whole job, as if the command were in its group.
func TestInterruptedPipeline(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		skip(t, "bash")
	}
	cmd := exec.Command("bash", "--norc", "-i")
	cmd.Env = append(os.Environ(), "INIT="+self()+" @init", "PS1=$ ", "TERM=dumb", "HISTFILE=/dev/null")
	p := startTerminal(t, cmd)
	p.typed("ulimit -c 0\n")
	for _, tt := range []struct {
		line, key string
		want      string // pipeline's exit statuses
	}{
		{`sleep 1000 | $INIT sh -c 'echo rea""dy; exec sleep 1000'`, ctrlC, "130 130"},
		{`sleep 1000 | $INIT sh -c 'echo rea""dy; exec sleep 1000'`, ctrlBackslash, "131 131"},
		{`$INIT sh -c 'echo rea""dy >&2; exec sleep 1000' | sleep 1000`, ctrlC, "130 130"},
		// A script that runs the init dies of it, too.
		{`sh -c '$INIT sh -c "echo rea\\dy; exec sleep 1000"; echo the script goes on'`, ctrlC, "130"},
		{`SUPERVISE_SUCCESS=130 $INIT sh -c 'echo rea""dy; exec sleep 1000'`, ctrlC, "0"},
	} {
		p.expect("$ ")
		p.typed(tt.line + "\n")
		p.expect("ready")
		until(t, "sleep in the foreground", func() bool {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.foreground()))
			return string(comm) == "sleep\n"
		})
		p.typed(tt.key)
		p.expect("$ ")
		p.typed("echo sta\"\"tus ${PIPESTATUS[*]}.\n")
		p.expect("status ")
		p.expect(tt.want + ".")
	}
	if strings.Contains(p.shown(), "\nthe script goes on") {
		t.Errorf("the script continued\n%s", p.shown())
	}
}

// Ctrl-Z may come between the command's coming to the front and its first instruction: then, too, the job stops.
func TestCtrlZAtOnce(t *testing.T) {
	cmd := exec.Command(self(), "@stopping")
	p := startTerminal(t, cmd)
	if status := wait(t, cmd); status != 0 {
		t.Errorf("status %d, want 0\n%s", status, p.shown())
	}
}

// roleStopping is a shell, leader of its session, that starts jobs and stops each as soon as another group than the job's own is in front.
func roleStopping([]string) {
	const jobs = 200
	signal.Ignore(syscall.SIGTTOU)
	for range jobs {
		cmd := exec.Command(self(), "@init", "sleep", "1000")
		cmd.Stdin = os.Stdin
		cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		job := cmd.Process.Pid
		for {
			if group, err := foreground(0); err == nil && group != job && group != syscall.Getpgrp() {
				syscall.Kill(-group, syscall.SIGTSTP)
				break
			}
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(job, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
			fmt.Println("not stopped:", status, err)
			os.Exit(1)
		}
		for _, child := range children(job) {
			syscall.Kill(child, syscall.SIGKILL)
		}
		syscall.Kill(job, syscall.SIGKILL)
		cmd.Wait()
		setForeground(0, syscall.Getpgrp())
	}
}

// Where no shell stands above, Ctrl-Z does not leave the command stopped for ever.
func TestNobodyToSayFg(t *testing.T) {
	bothWays(t, "", []string{"/bin/sh", "-c", `echo ready; read x; echo "read:$x"; exit 6`}, func(t *testing.T, cmd *exec.Cmd) {
		p := startTerminal(t, cmd)
		p.expect("ready")
		p.typed(ctrlZ + "hello\n")
		p.expect("read:hello")
		if status := wait(t, cmd); status != 6 {
			t.Errorf("status %d, want 6", status)
		}
	})
}

func TestWindowSize(t *testing.T) {
	const script = `trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.01; done`
	bothWays(t, "", []string{"/bin/sh", "-c", script}, func(t *testing.T, cmd *exec.Cmd) {
		p := startTerminal(t, cmd)
		p.expect("ready")
		size := [4]uint16{40, 100}
		ioctl(t, p.master, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
		p.expect("40 100")
		if status := wait(t, cmd); status != 3 {
			t.Errorf("status %d, want 3", status)
		}
	})
}

// The terminal that goes away takes the command along, as HUP.
func TestHangup(t *testing.T) {
	cmd := initCommand("", "/bin/sh", "-c", "echo ready; while :; do sleep 0.01; done")
	p := startTerminal(t, cmd)
	p.expect("ready")
	until(t, "TSTP registered, after HUP", func() bool { return caught(cmd.Process.Pid, syscall.SIGTSTP) })
	p.master.Close()
	if status := wait(t, cmd); status != 128+1 {
		t.Errorf("status %d, want 129", status)
	}
}

// The command is in front before its first instruction: setting the terminal never stops it. And at its end the terminal is given back.
func TestForegroundFromTheStart(t *testing.T) {
	const runs = 200
	cmd := exec.Command(self(), append([]string{"@each", "stty -echo"}, strings.Fields(strings.Repeat("x ", runs))...)...)
	p := startTerminal(t, cmd)
	if status := wait(t, cmd); status != 0 {
		t.Errorf("status %d, want 0", status)
	}
	until(t, "a line for each run", func() bool { return strings.Count(p.shown(), "\n") == runs })
	if got := p.shown(); strings.Count(got, "0\r\n") != runs {
		t.Errorf("not all of %d were 0: %q", runs, got)
	}

	cmd = exec.Command("/bin/sh", "-c", `"$0" @init true; "$0" @init no-such-command; read x; echo "got:$x"`, self())
	p = startTerminal(t, cmd)
	p.expect("no-such-command: not found")
	p.typed("hello\n")
	p.expect("got:hello")
}
