package supervise

import (
	"os"
	"os/signal"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"alfred/healthcheck/supervise/early"
)

// Signals receives the program's signals, buffers them until they are forwarded, and reaps.
type Signals struct {
	stop chan os.Signal // receives the first TERM, INT, QUIT or HUP, for AwaitStop

	// One channel per signal, with a buffer of one. os/signal drops a signal only if the buffer is
	// full, that is, if the same signal is already pending. In a channel for all signals, a storm
	// of one signal could displace another.
	chans [maxSignal + 1]chan os.Signal

	// The cases that next selects from, indexed by signal number. Case 0 is the deadline.
	cases [maxSignal + 1]reflect.SelectCase

	registered chan struct{} // closed once Listen's goroutine has registered its signals
	orphans    atomic.Uint64

	fatal syscall.Signal // INT or QUIT if the command died of it and there is a terminal; for Wait and Exit
}

// Listen registers the program's signals. main calls it once, before anything else. When it
// returns, TERM, INT, QUIT and HUP are registered, by Listen or before main by package early.
// Signals that package early has received are kept. Until they are registered, each of these
// signals ends a PID 1 with status 2.
//
// Registering takes up to 50 µs per signal, so a goroutine registers the others and then ends. A
// write to a broken pipe no longer ends the program; it returns EPIPE.
func Listen() *Signals {
	s := &Signals{registered: make(chan struct{})}
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		s.cases[sig].Dir = reflect.SelectRecv
		if isForwarded(sig) || sig == syscall.SIGCHLD {
			s.chans[sig] = make(chan os.Signal, 1)
			s.cases[sig].Chan = reflect.ValueOf(s.chans[sig])
		}
	}
	s.cases[0].Dir = reflect.SelectRecv

	first, each := early.Register()
	s.stop = first
	for i, sig := range early.Stop {
		s.chans[sig] = each[i]
		s.cases[sig].Chan = reflect.ValueOf(each[i])
	}
	// Nothing receives from this channel. Notify only replaces the default action with a handler,
	// which the command does not inherit; it would inherit SIG_IGN.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	go func() { // ends when its signals are registered
		defer close(s.registered)
		for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
			switch sig {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
			case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT:
				// Until there is a command, Ctrl-Z stops the program itself.
			default:
				s.register(sig)
			}
		}
	}()
	return s
}

// register registers a signal unless it is ignored. The command inherits an ignored signal as
// ignored.
func (s *Signals) register(sig syscall.Signal) {
	if s.chans[sig] != nil && disposition(sig, nil).handler != sigIgn {
		signal.Notify(s.chans[sig], sig)
	}
}

// registerAll waits until Listen's signals are registered, and registers the job control signals,
// which from now on are forwarded to the command.
func (s *Signals) registerAll() {
	<-s.registered
	for _, sig := range []syscall.Signal{syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		s.register(sig)
	}
}

// next blocks until a signal arrives and returns it, or until the deadline and returns 0. A nil
// deadline never passes.
func (s *Signals) next(deadline <-chan time.Time) syscall.Signal {
	s.cases[0].Chan = reflect.ValueOf(deadline)
	chosen, _, _ := reflect.Select(s.cases[:])
	return syscall.Signal(chosen)
}

const (
	sigDfl = 0
	sigIgn = 1
)

// sigaction is the kernel's struct on all architectures but MIPS.
type sigaction struct {
	handler  uintptr
	flags    uintptr
	restorer uintptr
	mask     uint64
}

// disposition returns a signal's disposition and, with act not nil, sets it to act behind the back of os/signal.
// On an architecture with another struct or mask size the call fails and changes nothing.
func disposition(sig syscall.Signal, act *sigaction) (old sigaction) {
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(&old)), unsafe.Sizeof(old.mask), 0, 0)
	return old
}
