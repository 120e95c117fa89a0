package supervise

import (
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// process is the command once started. Await, Start and Wait use it; accounts has its own lock.
type process struct {
	terminal terminal
	deadline <-chan time.Time // nil until a signal asked the command to stop
	status   int
	ended    chan struct{}
	accounts accounts
}

// Await reaps orphans until the channel is closed, and returns 0 then, or the first TERM, INT, QUIT or HUP that came to healthcheck.
// It is for the time before Start, and for a program without a command. The command gets the signal all the same if it is started.
func (c *Command) Await(until <-chan struct{}) syscall.Signal {
	for {
		c.reap()
		select {
		case sig := <-c.Signals.stop:
			return sig.(syscall.Signal)
		case <-c.Signals.chans[syscall.SIGCHLD]:
		case <-until:
			return 0
		}
	}
}

// Start starts the command and returns once it runs, or with a *StartError.
// Wait must follow: until it runs no signal is passed on and nothing is reaped.
func (c *Command) Start() error {
	p := &c.process
	p.ended = make(chan struct{})

	// 1. Have every signal registered: CHLD before there is a child, and the others before there is a command that they can be meant for.
	c.Signals.takeAll()

	// 2. Adopt what descendants leave behind. PID 1 does so anyway; a kernel before 3.4 cannot, and then init reaps.
	if os.Getpid() != 1 {
		const PR_SET_CHILD_SUBREAPER = 36
		syscall.RawSyscall(syscall.SYS_PRCTL, PR_SET_CHILD_SUBREAPER, 1, 0)
	}

	// 3. Start the command, in front at the terminal if healthcheck is.
	p.terminal = openTerminal()
	err := c.fork()
	if p.terminal.fd >= 0 {
		// So that healthcheck can write to the terminal and take it back from the background. Before the fork, the command would inherit it.
		signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU)
	}
	if err != nil {
		p.terminal.takeBack(0) // a child that did not get as far as the command may have been in front
		p.terminal.close()
		return err
	}
	return nil
}

// fork starts the command from a thread that lives until the command has ended:
// the parent-death signal is sent when the thread that forked ends (prctl(2)).
func (c *Command) fork() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		start := time.Now()
		pid, err := c.exec()
		if err == nil {
			c.started.Store(start.UnixNano())
			c.pid.Store(int64(pid))
		}
		result <- err
		if err == nil {
			<-c.process.ended
		}
	}()
	stopped := false
	for {
		select {
		case err := <-result:
			if stopped && err == nil {
				syscall.Kill(-c.id(), syscall.SIGTSTP)
			}
			return err
		case <-c.Signals.chans[syscall.SIGCHLD]: // Wait looks for itself
			stopped = c.process.terminal.goOn() || stopped
		}
	}
}

// Wait passes signals on and reaps until the command has ended, and returns the status to exit with.
// As PID 1 it also asks the processes left over to go, with TERM, and waits for them for up to KillAfter.
func (c *Command) Wait() int {
	p, pid := &c.process, c.id()

	// 1. Reap what ended before CHLD was registered: children inherited through exec.
	c.reap()

	// 2. Serve until the command has ended.
	for c.Up() {
		switch sig := c.Signals.next(p.deadline); sig {
		case 0:
			p.deadline = nil
			syscall.Kill(c.target(), syscall.SIGKILL)
		case syscall.SIGCHLD:
			c.reap()
		default:
			c.forward(sig)
		}
	}
	p.terminal.takeBack(pid)
	p.terminal.close()
	close(p.ended)

	// 3. As PID 1, empty the container.
	if os.Getpid() == 1 {
		c.evict()
	}
	return p.status
}

// reap waits for every process that has ended: CHLD tells of one, and there may be more.
func (c *Command) reap() {
	for {
		var status syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED, nil); {
		case err == syscall.EINTR:
		case err != nil || pid == 0: // ECHILD, or none has ended
			return
		case status.Stopped():
			if pid == c.id() {
				c.stopped(status.StopSignal())
			}
		case pid == c.id():
			c.end(status)
		default:
			c.orphans.Add(1)
		}
	}
}

// id is the command's process ID, or 0 unless it runs.
func (c *Command) id() int { return int(c.pid.Load()) }

// end notes the command's status. Its number may from now on be another process's.
func (c *Command) end(status syscall.WaitStatus) {
	p := &c.process
	c.pid.Store(0)
	p.status = status.ExitStatus()
	if status.Signaled() {
		p.status = 128 + int(status.Signal())
	}
	if slices.Contains(c.SuccessStatus, p.status) {
		p.status = 0
	}
}

// forward passes a signal on, as StopSignals has it.
func (c *Command) forward(came syscall.Signal) {
	p := &c.process
	sent, ok := c.StopSignals[came]
	if !ok {
		sent = came
	}
	if sent == 0 {
		return
	}
	target := c.target()
	if came == syscall.SIGCONT && p.terminal.fd >= 0 { // fg or bg; the terminal stopped the whole group
		p.terminal.handOver(c.id())
		target = -c.id()
	}
	if syscall.Kill(target, sent) == nil {
		c.forwarded[sent].Add(1)
	}
	if c.KillAfter > 0 && p.deadline == nil && (asksToStop(came) || asksToStop(sent)) {
		p.deadline = time.After(c.KillAfter)
	}
}

// target is where kill(2) sends: the command, or its process group.
func (c *Command) target() int {
	if c.SignalGroup {
		return -c.id()
	}
	return c.id()
}

func asksToStop(sig syscall.Signal) bool {
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
}

// stopped deals with a command that stopped at a terminal. Without one it just stays so until CONT is passed on.
func (c *Command) stopped(by syscall.Signal) {
	p := &c.process
	if p.terminal.fd < 0 {
		return
	}
	pid := c.id()
	switch by {
	case syscall.SIGTSTP:
		// Ctrl-Z. It goes on after fg and bg alike, and at once where nobody stands above who could say so.
		suspend(true)
		p.terminal.handOver(pid)
		syscall.Kill(-pid, syscall.SIGCONT)
	case syscall.SIGTTIN, syscall.SIGTTOU:
		if p.terminal.handOver(pid) { // fg brought back a job that was not stopped
			syscall.Kill(-pid, syscall.SIGCONT)
			return
		}
		fallthrough
	default:
		// Only CONT lets it go on: else a reader in the background would stop and go on for ever.
		suspend(false)
	}
}

// evict ends what is left in the container, for at most KillAfter. What is still there then, the kernel kills
// when PID 1 ends (pid_namespaces(7)); so it does at once with a KillAfter of 0.
func (c *Command) evict() {
	if syscall.Kill(-1, syscall.SIGTERM) != nil { // ESRCH: nobody is left
		return
	}
	syscall.Kill(-1, syscall.SIGCONT) // what is stopped would not notice
	// CHLD tells of children alone, not of the end of what docker exec has started.
	const look = 50 * time.Millisecond
	for deadline := time.Now().Add(c.KillAfter); time.Until(deadline) > 0; {
		c.reap()
		if syscall.Kill(-1, 0) != nil {
			return
		}
		c.Signals.next(time.After(min(look, time.Until(deadline))))
	}
}
