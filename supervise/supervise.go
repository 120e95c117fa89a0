// Package supervise is a container init: it starts one command, forwards signals to it, reaps
// orphaned processes and returns the command's exit status.
//
// The program runs as PID 1, or as a child subreaper if it is not PID 1. The command inherits
// standard input, output and error, the environment, the working directory and all other
// inheritable descriptors; nothing is copied or piped. Usage sums the resources of the command and
// all its descendants from /proc.
//
// The specifications are wait(2), signal(7), prctl(2) (PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG),
// credentials(7) (process groups and sessions), tty_ioctl(4), pid_namespaces(7), proc(5) and execvp
// in exec(3). Exit statuses follow the shell: 128+N if signal N killed the command, 127 if it was
// not found, 126 if it was found but is not executable.
//
// # Limits
//
// Linux only. The reaping loop waits for every child, so no other part of the program may start
// processes or wait for them.
//
// Every signal is forwarded except:
//   - KILL and STOP, which cannot be caught;
//   - CHLD and PIPE, which concern the program itself;
//   - 32 to 34, which the C library reserves;
//   - PROF and URG, which Go's runtime uses;
//   - TTIN and TTOU if there is a controlling terminal, which then sends them to the program
//     itself.
//
// Several signals of one kind may be merged into one, real-time signals included; the last one is
// always forwarded. A signal that arrives before it is registered, in the first milliseconds, may
// be lost, or Go's runtime may end the program with status 2. No later signal is lost.
//
// HUP, INT, TSTP, TTIN, TTOU and CONT stay ignored for the command, and are not forwarded, if they
// were ignored when the program started (nohup). Go's runtime replaces the disposition of every
// other ignored signal before main runs, so the command starts with the default one. systemd's
// IgnoreSIGPIPE=yes therefore does not reach the command. The command inherits the signal mask,
// except for the signals that Go's runtime unblocks: HUP, INT, QUIT, ABRT, TERM, CHLD, PROF and
// those of faults. If a standard stream was closed, the command gets /dev/null instead.
//
// The command runs in its own process group. That group becomes the terminal's foreground group if
// the program's group was. In a pipeline, the other programs of the job are then in the background
// and cannot read the terminal. Ctrl-C and Ctrl-\ reach them only if the command dies of the
// signal. Wait then sends the signal to the job's group, and Exit ends the program with it.
//
// If the program is killed while it is not PID 1, the command gets TERM, its parent-death signal.
// The kernel clears that signal when the command executes a set-user-ID or set-group-ID program or
// one with file capabilities, or changes its effective user or group ID (prctl(2)). Such a command,
// for example one started by su-exec, gosu or setpriv, outlives the program.
//
// A program that is neither root nor has CAP_KILL cannot signal a command that runs as another
// user. The first signal that fails for this reason is logged.
package supervise

import (
	"iter"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"alfred/healthcheck/supervise/early"
)

// IsInit reports whether the program is PID 1 or has "--" among its arguments. Such a program must
// not lose a signal, so main must call Listen before anything else. Package early keeps the signals
// that arrive until then.
func IsInit() bool { return early.Needed() }

// Command configures the command to run. Start copies it.
type Command struct {
	Args []string // the program, searched in PATH as by execvp, and its arguments

	// The signal to send in place of a received one; 0 drops it.
	StopSignals map[syscall.Signal]syscall.Signal

	// Time from forwarding TERM, INT or QUIT, or the signal that replaces it, to sending KILL. If
	// it is 0, KILL is never sent.
	KillAfter time.Duration

	SuccessStatus []int // exit statuses that become 0
	SignalGroup   bool  // send signals to the command's process group, not only to the command

	// Log, if not nil, is called once, in its own goroutine, when the kernel first refuses to send
	// a signal (EPERM). The line has no newline.
	Log func(line string)

	// Stopping, if not nil, is called before TERM, INT or QUIT, or the signal that replaces it, is
	// forwarded, and when the command has ended. It may be called several times and must not block.
	Stopping func()
}

// Process is a command that Command.Start has started. All methods except Wait may be called from
// any goroutine at any time. On a nil *Process they describe a command that has not been started.
type Process struct {
	command Command
	signals *Signals
	started time.Time

	pid       atomic.Int64                 // 0 once the command has been reaped
	forwarded [maxSignal + 1]atomic.Uint64 // by the number of the signal sent

	// Only Start and Wait use the fields below.
	terminal terminal
	denied   bool             // a signal that was not permitted has been logged
	deadline <-chan time.Time // receives when KILL is due; nil until a stop signal has been forwarded
	status   int              // exit status, valid once the command has been reaped
	ended    chan struct{}    // closed once the command has been reaped
}

// Up reports whether the command is running: started and not yet reaped.
func (p *Process) Up() bool { return p.id() != 0 }

// id is the command's process ID, or 0 if it is not running.
func (p *Process) id() int {
	if p == nil {
		return 0
	}
	return int(p.pid.Load())
}

// Started returns the time of the command's fork, or the zero time if p is nil.
func (p *Process) Started() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.started
}

// Forwarded yields the name, as returned by SignalName, of each signal sent to the command so far,
// and how often it was sent.
func (p *Process) Forwarded() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		if p == nil {
			return
		}
		for sig := range p.forwarded {
			if n := p.forwarded[sig].Load(); n > 0 && !yield(SignalName(syscall.Signal(sig)), n) {
				return
			}
		}
	}
}

// StartError is returned if the command could not be started.
type StartError struct {
	Status  int    // exit status: 127 if the command was not found, 126 if it is not executable
	Command string // the program, as ProgramName shows it, with the file found in PATH if there was one
	Reason  string
	Err     error // the system's error
}

func (e *StartError) Error() string { return e.Command + ": " + e.Reason }

func (e *StartError) Unwrap() error { return e.Err }

// maxProgramName is the length at which ProgramName cuts a name, in bytes before escaping. Paths in
// the Nix store, the longest in common use, fit.
const maxProgramName = 256

// ProgramName returns the printable name of the program in a command's first word. The word may
// hold arguments, a variable or a URL by mistake, and these may be secrets. So the name ends at the
// first character that the names of programs do not have, or at the "-" of a short option, and "…"
// replaces the rest, unless that begins with a blank. A long name is cut.
func ProgramName(arg string) string {
	fields := strings.Fields(arg)
	if len(fields) == 0 {
		return `""`
	}
	name, more := fields[0], ""
	end := strings.IndexFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._+-", r)
	})
	if option, _, _ := strings.Cut(name, "="); name[0] == '-' && (!strings.HasPrefix(name, "--") || strings.Trim(option, "-abcdefghijklmnopqrstuvwxyz") != "") {
		end = 1 // -pSECRET, but not --version
	}
	if end >= 0 {
		if name[end] == '=' { // of a variable, whose name is shown
			end++
		}
		name, more = name[:end], "…"
	}
	if len(name) > maxProgramName {
		cut := maxProgramName
		for cut > 0 && !utf8.RuneStart(name[cut]) {
			cut--
		}
		name, more = name[:cut], "…"
	}
	return name + more
}

// Usage is the resource usage of a command and all its descendants, orphans included, at one
// moment. A value is -1 if /proc does not provide it.
type Usage struct {
	Processes     int64
	Threads       int64
	OpenFDs       int64 // of all processes together
	MaxFDs        int64 // soft limit of the command itself
	ResidentBytes int64
	VirtualBytes  int64

	// CPU time, including descendants already reaped. It never decreases between calls of
	// Process.Usage. If a parent ignores CHLD, the CPU time of its children is lost when they end
	// (wait(2)).
	UserSeconds, SystemSeconds float64
}

// SelfUsage is the resource usage of the program itself. ResidentBytes is -1 if /proc does not
// provide it.
type SelfUsage struct {
	Started       time.Time
	CPUSeconds    float64 // user and system
	ResidentBytes int64
}

// started is within about 1 ms of the program's start. /proc has it in ticks of 10 ms since boot.
var started = time.Now()
