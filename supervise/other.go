//go:build !linux

package supervise

import (
	"errors"
	"os"
	"syscall"

	"alfred/healthcheck/supervise/early"
)

type terminal struct{}

// Signals receives the program's signals.
type Signals struct {
	stop <-chan os.Signal // receives the first TERM, INT, QUIT or HUP
}

// Listen registers the program's signals. main calls it once, before anything else.
func Listen() *Signals {
	first, _ := early.Register()
	return &Signals{stop: first}
}

// AwaitStop blocks until the first TERM, INT, QUIT or HUP arrives and returns it, or until the
// channel is closed and returns 0.
func (s *Signals) AwaitStop(until <-chan struct{}) syscall.Signal {
	select {
	case sig := <-s.stop:
		return sig.(syscall.Signal)
	case <-until:
		return 0
	}
}

// Orphans is always 0.
func (s *Signals) Orphans() uint64 { return 0 }

// Exit ends the program with a status.
func (s *Signals) Exit(status int) { os.Exit(status) }

var errLinuxOnly = errors.New("running a command is supported on linux only")

// Start always fails: running a command is supported on linux only.
func (c Command) Start(*Signals) (*Process, error) {
	return nil, &StartError{126, "command", errLinuxOnly.Error(), errLinuxOnly}
}

// Wait is never called, since Start always fails.
func (p *Process) Wait() int { return 126 }

// Usage always fails.
func (p *Process) Usage() (Usage, error) { return Usage{}, errLinuxOnly }

// Self returns only the time at which the program started.
func Self() SelfUsage { return SelfUsage{Started: started, ResidentBytes: -1} }

// ReserveThreads does nothing, since there is no command that could use up the threads.
func ReserveThreads() {}
