package supervise

import (
	"maps"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// AwaitStop reaps orphans until the first TERM, INT, QUIT or HUP arrives and returns it, or until
// the channel is closed and returns 0. A nil channel is never closed.
//
// Call it before Start, or if there is no command. It must not run concurrently with Process.Wait.
// If a command is started afterwards, the signal is forwarded to it as well.
func (s *Signals) AwaitStop(until <-chan struct{}) syscall.Signal {
	for {
		s.reap(nil)
		select {
		case sig := <-s.stop:
			return sig.(syscall.Signal)
		case <-s.chans[syscall.SIGCHLD]:
		case <-until:
			return 0
		}
	}
}

// Orphans counts the processes reaped so far, other than the command itself.
func (s *Signals) Orphans() uint64 { return s.orphans.Load() }

// Start starts the command and returns once it runs; the error is a *StartError. Signals received
// since Listen are forwarded as soon as Wait runs.
//
// The caller must call Wait: until then no signal is forwarded and no process is reaped.
func (c Command) Start(s *Signals) (*Process, error) {
	c.StopSignals, c.SuccessStatus = maps.Clone(c.StopSignals), slices.Clone(c.SuccessStatus)
	p := &Process{command: c, signals: s, ended: make(chan struct{})}

	// 1. Register CHLD before the first child starts, and the other signals before there is a
	// command to forward them to.
	s.registerAll()

	// 2. Adopt orphaned descendants. PID 1 always does. A kernel before 3.4 has no subreapers; there
	// the system's init reaps.
	if os.Getpid() != 1 {
		const PR_SET_CHILD_SUBREAPER = 36
		syscall.RawSyscall(syscall.SYS_PRCTL, PR_SET_CHILD_SUBREAPER, 1, 0)
	}

	// 3. Start the command, in the terminal's foreground if the program is.
	p.terminal = openTerminal()
	err := p.fork()
	if p.terminal.fd >= 0 {
		// The program can now write to the terminal, and take it back, while it is in the
		// background. If this came before the fork, the command would inherit it.
		signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU)
	}
	if err != nil {
		p.terminal.takeBack(0) // a child that failed to exec may have been in the foreground
		p.terminal.close()
		return nil, err
	}
	return p, nil
}

// fork starts the command from a thread that lives until the command has been reaped: the kernel
// sends the parent-death signal when the thread that forked ends (prctl(2)).
func (p *Process) fork() error {
	result := make(chan error)
	go func() { // ends when the command has been reaped, or could not be started
		runtime.LockOSThread()
		p.started = time.Now().Round(0) // wall clock only: uptime follows the clock that the start time shows
		pid, err := p.exec()
		p.pid.Store(int64(pid))
		result <- err
		if err == nil {
			<-p.ended
		}
	}()
	stopped := false
	for {
		select {
		case err := <-result:
			if stopped && err == nil {
				syscall.Kill(-p.id(), syscall.SIGTSTP)
			}
			return err
		case <-p.signals.chans[syscall.SIGCHLD]: // Wait reaps first of all, so this one may be dropped
			stopped = p.terminal.continueStopped() || stopped
		}
	}
}

// Wait forwards signals and reaps children until the command has ended. As PID 1 it then sends TERM
// to the remaining processes, and waits for them for up to KillAfter. It returns the exit status
// for the program. It must be called once.
func (p *Process) Wait() int {
	pid := p.id()

	// 1. Reap children that ended before CHLD was registered: those inherited through exec.
	p.signals.reap(p)

	// 2. Forward and reap until the command has ended.
	for p.Up() {
		switch sig := p.signals.next(p.deadline); sig {
		case 0:
			p.deadline = nil
			p.send(syscall.SIGKILL, p.command.SignalGroup)
		case syscall.SIGCHLD:
			p.signals.reap(p)
		default:
			p.forward(sig)
		}
	}
	p.stopping()
	if sig := p.signals.fatal; sig != 0 && p.terminal.isForeground(pid) && p.forwarded[sig].Load() == 0 {
		// Ctrl-C or Ctrl-\. The terminal sent the signal to the command's group only, so pass it to
		// the rest of the job.
		syscall.Kill(0, sig)
	}
	p.terminal.takeBack(pid)
	p.terminal.close()
	close(p.ended)

	// 3. As PID 1, stop the remaining processes.
	if os.Getpid() == 1 {
		p.evict()
	}
	return p.status
}

// reap waits for every child that has ended, since several may be merged into one CHLD. p is the
// command, or nil if there is none.
func (s *Signals) reap(p *Process) {
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED, nil); {
		case err == syscall.EINTR:
		case err != nil || pid == 0: // ECHILD, or no child has ended
			return
		case status.Stopped():
			if pid == p.id() {
				p.handleStop(status.StopSignal())
			}
		case pid == p.id():
			p.setEnded(status)
		default:
			s.orphans.Add(1)
		}
	}
}

// Exit ends the program with a status. If the command died of INT or QUIT at a controlling
// terminal, and status is 128 plus that signal, the program dies of the same signal. The shell then
// detects that its job was interrupted. PID 1 cannot die of a signal and always exits with the
// status. Exit may be called on a nil *Signals.
func (s *Signals) Exit(status int) {
	if s != nil && s.fatal != 0 && status == 128+int(s.fatal) {
		const PR_SET_DUMPABLE = 4
		syscall.RawSyscall(syscall.SYS_PRCTL, PR_SET_DUMPABLE, 0, 0) // the command dumps core, the program does not
		runtime.LockOSThread()
		disposition(s.fatal, &sigaction{handler: sigDfl})
		// A signal that a thread sends to itself takes effect before the call returns.
		syscall.Tgkill(os.Getpid(), syscall.Gettid(), s.fatal)
	}
	os.Exit(status)
}

// setEnded stores the command's exit status. From now on the kernel may reuse its process ID.
func (p *Process) setEnded(status syscall.WaitStatus) {
	p.pid.Store(0)
	p.status = status.ExitStatus()
	if status.Signaled() {
		p.status = 128 + int(status.Signal())
	}
	if slices.Contains(p.command.SuccessStatus, p.status) {
		p.status = 0
	}
	if sig := status.Signal(); p.terminal.fd >= 0 && (sig == syscall.SIGINT || sig == syscall.SIGQUIT) {
		p.signals.fatal = sig
	}
}

// forward sends a received signal to the command, or the signal that StopSignals maps it to.
func (p *Process) forward(received syscall.Signal) {
	sent, ok := p.command.StopSignals[received]
	if !ok {
		sent = received
	}
	if sent == 0 {
		return
	}
	if isStopSignal(received) || isStopSignal(sent) {
		p.stopping()
	}
	group := p.command.SignalGroup
	if received == syscall.SIGCONT && p.terminal.fd >= 0 { // fg or bg; the terminal stopped the whole group
		p.terminal.handOver(p.id())
		group = true
	}
	if p.send(sent, group) {
		p.forwarded[sent].Add(1)
	}
	if p.command.KillAfter > 0 && p.deadline == nil && (isStopSignal(received) || isStopSignal(sent)) {
		p.deadline = time.After(p.command.KillAfter)
	}
}

func (p *Process) stopping() {
	if p.command.Stopping != nil {
		p.command.Stopping()
	}
}

// send sends a signal to the command and reports whether the command received it. If group is set,
// the command's process group receives it too, even if the command has left that group.
func (p *Process) send(sig syscall.Signal, group bool) bool {
	pid := p.id()
	var err error
	if group {
		err = syscall.Kill(-pid, sig) // ESRCH: the group is empty
	}
	if now, failed := syscall.Getpgid(pid); !group || failed == nil && now != pid {
		err = syscall.Kill(pid, sig)
	}
	if err == syscall.EPERM && p.command.Log != nil && !p.denied {
		p.denied = true
		go p.command.Log("cannot send " + SignalName(sig) + // ends with Log, or the program
			" to CMD: operation not permitted (CMD runs as another user, and healthcheck has no CAP_KILL)")
	}
	return err == nil
}

func isStopSignal(sig syscall.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// handleStop handles a stop of the command by the terminal. Without a terminal the command stays
// stopped until CONT is forwarded.
func (p *Process) handleStop(by syscall.Signal) {
	if p.terminal.fd < 0 {
		return
	}
	pid := p.id()
	switch by {
	case syscall.SIGTSTP:
		// Ctrl-Z. The command continues after fg or bg, or at once if no shell can continue it.
		suspend(true)
		p.terminal.handOver(pid)
		syscall.Kill(-pid, syscall.SIGCONT)
	case syscall.SIGTTIN, syscall.SIGTTOU:
		if p.terminal.handOver(pid) { // fg resumed a job that was not stopped
			syscall.Kill(-pid, syscall.SIGCONT)
			return
		}
		fallthrough
	default:
		// Only CONT continues the command: otherwise a reader in the background would stop and
		// continue forever.
		suspend(false)
	}
}

// evict sends TERM to the remaining processes in the container and waits for them for at most
// KillAfter. When PID 1 ends, the kernel kills the rest (pid_namespaces(7)). If KillAfter is 0,
// that happens at once.
func (p *Process) evict() {
	if syscall.Kill(-1, syscall.SIGTERM) != nil { // ESRCH: no process is left
		return
	}
	syscall.Kill(-1, syscall.SIGCONT) // a stopped process would not handle TERM
	// CHLD reports children only, not processes that docker exec has started: poll for those.
	const pollInterval = 50 * time.Millisecond
	for deadline := time.Now().Add(p.command.KillAfter); time.Until(deadline) > 0; {
		p.signals.reap(p)
		if syscall.Kill(-1, 0) != nil {
			return
		}
		p.signals.next(time.After(min(pollInterval, time.Until(deadline))))
	}
}
