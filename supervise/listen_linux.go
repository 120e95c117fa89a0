package supervise

import (
	"os"
	"os/signal"
	"reflect"
	"syscall"
	"time"
	"unsafe"
)

// Signals receives the process's signals and keeps them until a command is there to take them.
type Signals struct {
	stop chan os.Signal // receives the first TERM, INT, QUIT or HUP, for Await

	// A channel of one for each signal: os/signal drops what does not fit, and what does not fit here is pending already.
	// In one channel for all, a storm of one signal could push out another.
	chans [maxSignal + 1]chan os.Signal

	// What next selects from: a case's index is its signal's number, and 0 is the deadline.
	cases [maxSignal + 1]reflect.SelectCase

	taken chan struct{} // closed once all are registered that Listen registers
}

// Listen registers the process's signals; main calls it first of all, and once.
// TERM, INT, QUIT and HUP are registered when it returns: as PID 1 each would otherwise end the program with status 2.
// Registering takes up to 50 µs a signal, so a goroutine of Listen's does the others; it ends when they are done.
// A write to a broken pipe ends the program no more.
func Listen() *Signals {
	s := &Signals{stop: make(chan os.Signal, 1), taken: make(chan struct{})}
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		s.cases[sig].Dir = reflect.SelectRecv
		if passedOn(sig) || sig == syscall.SIGCHLD {
			s.chans[sig] = make(chan os.Signal, 1)
			s.cases[sig].Chan = reflect.ValueOf(s.chans[sig])
		}
	}
	s.cases[0].Dir = reflect.SelectRecv

	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
		s.take(sig, s.stop)
	}
	// Nobody receives: that a handler stands in place of the default action is enough, and unlike SIG_IGN the command does not inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	go func() {
		defer close(s.taken)
		for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
			switch sig {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
			case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT:
				// Until there is a command, Ctrl-Z stops healthcheck as any program.
			default:
				s.take(sig)
			}
		}
	}()
	return s
}

// take registers a signal that is not ignored. An ignored one stays so, for the command to inherit.
func (s *Signals) take(sig syscall.Signal, also ...chan os.Signal) {
	if s.chans[sig] == nil || disposition(sig, nil).handler == sigIgn {
		return
	}
	signal.Notify(s.chans[sig], sig)
	for _, c := range also {
		signal.Notify(c, sig)
	}
}

// takeAll returns once every signal is registered, the command's from now on.
func (s *Signals) takeAll() {
	<-s.taken
	for _, sig := range []syscall.Signal{syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		s.take(sig)
	}
}

// next blocks until a signal has come and returns it, or 0 once the deadline has passed. A nil deadline never does.
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
