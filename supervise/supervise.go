// Package supervise is an init: it starts one command, passes signals on to it,
// reaps what is orphaned, and ends with the command's exit status.
//
// It works as PID 1 of a container, and as a subreaper where it is not PID 1.
// The command gets standard input, output and error, environment, working directory
// and the other inherited descriptors as they are; nothing is copied or piped.
// Usage adds up what /proc tells of the command and all its descendants.
//
// The specifications are wait(2), signal(7), prctl(2) (PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG),
// credentials(7) (process groups and sessions), tty_ioctl(4), pid_namespaces(7), proc(5)
// and execvp as in exec(3). Exit statuses follow the shell's: 128+N for death by signal N,
// 127 not found, 126 found but not executable.
//
// # Limits
//
// Linux only. No other part of the program may start or wait for processes: the reaping loop waits for all of them.
//
// Signals passed on are all but KILL and STOP, which cannot be caught, CHLD and PIPE, which are about healthcheck itself,
// 32 to 34, which belong to the C library, and PROF and URG, which Go's runtime keeps for itself.
// With a controlling terminal TTIN and TTOU stay out too: there they are the terminal's word to healthcheck.
// Several of one kind may arrive as one, real-time signals included; the last of a kind is never lost.
// What comes before Start has registered it, in the first milliseconds, may be lost, or end the program as Go's runtime has it,
// with status 2. None that comes later is lost.
//
// A signal ignored when healthcheck starts stays ignored for the command, and is not passed on, if it is HUP or INT (nohup)
// or one of TSTP, TTIN, TTOU and CONT. For any other Go's runtime has replaced the disposition before main runs,
// and it starts the command with the default one (which systemd's IgnoreSIGPIPE=yes asks to be otherwise).
// Likewise the command's signal mask is the inherited one, without the signals the runtime unblocks at its start:
// HUP, INT, QUIT, ABRT, TERM, CHLD, PROF and those of faults.
// A standard stream that was closed is /dev/null for the command.
//
// The command runs in a process group of its own, which is the terminal's foreground group if healthcheck's was.
// In a pipeline, a program beside healthcheck that reads the terminal is then in the background.
package supervise

import (
	"iter"
	"sync/atomic"
	"syscall"
	"time"
)

// Command is the command to run and how to treat it. The exported fields are read by Start and Wait and must not change after Start.
// Await, Start and Wait are called in this order from one goroutine; the other methods at any time from any.
type Command struct {
	Args    []string // the command and its arguments, as execvp takes them
	Signals *Signals // where signals come from; what came before Start is passed on first

	StopSignals   map[syscall.Signal]syscall.Signal // signal that came to the one sent in its place; 0 drops it
	KillAfter     time.Duration                     // from the first TERM, INT or QUIT passed on to KILL; 0 is never
	SuccessStatus []int                             // exit statuses that become 0
	SignalGroup   bool                              // signals go to the command's process group, not to it alone

	pid       atomic.Int64 // 0 unless it runs
	started   atomic.Int64 // Unix time in ns, 0 before Start
	orphans   atomic.Uint64
	forwarded [maxSignal + 1]atomic.Uint64 // by number, as sent

	process process // the system's part
}

// Up reports whether the command has been started and has not ended.
func (c *Command) Up() bool { return c.pid.Load() != 0 }

// Started is the time of the command's fork, and zero before it.
func (c *Command) Started() time.Time {
	if ns := c.started.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Orphans counts the processes reaped other than the command itself.
func (c *Command) Orphans() uint64 { return c.orphans.Load() }

// Forwarded yields the name of each signal sent to the command so far, as SignalName gives it, and how often.
func (c *Command) Forwarded() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for sig := range c.forwarded {
			if n := c.forwarded[sig].Load(); n > 0 && !yield(SignalName(syscall.Signal(sig)), n) {
				return
			}
		}
	}
}

// A StartError says why the command could not be started.
type StartError struct {
	Status  int    // exit status for it: 127 not found, 126 found but not executable
	Command string // as it was given
	Reason  string
	Err     error // the system's error
}

func (e *StartError) Error() string { return e.Command + ": " + e.Reason }

func (e *StartError) Unwrap() error { return e.Err }

// Usage is what a command and all its descendants, orphans among them, use at one moment.
// What /proc does not tell is -1.
type Usage struct {
	Processes     int64
	Threads       int64
	OpenFDs       int64 // of all of them
	MaxFDs        int64 // soft limit of the command itself
	ResidentBytes int64
	VirtualBytes  int64

	// CPU time with that of the descendants already reaped. It never goes down from one call of Command.Usage to the next.
	// A descendant whose parent ignores CHLD takes its time with it when it ends (wait(2)).
	UserSeconds, SystemSeconds float64
}

// SelfUsage is what healthcheck itself uses. ResidentBytes is -1 where /proc does not tell.
type SelfUsage struct {
	Started       time.Time
	CPUSeconds    float64 // user and system
	ResidentBytes int64
}

// started is as near to the process's start as its own clock gets: 1 ms. In /proc it is in ticks of 10 ms since boot.
var started = time.Now()
