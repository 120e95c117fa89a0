//go:build !linux

package supervise

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

type process struct{}

// Signals receives the process's signals.
type Signals struct {
	stop <-chan os.Signal // receives the first TERM, INT, QUIT or HUP
}

// Listen registers the process's signals; main calls it first of all.
func Listen() *Signals {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP)
	return &Signals{stop: stop}
}

var errLinuxOnly = errors.New("running a command is supported on linux only")

// Await waits until the channel is closed, and returns 0 then, or the first TERM, INT, QUIT or HUP that came to healthcheck.
func (c *Command) Await(until <-chan struct{}) syscall.Signal {
	select {
	case sig := <-c.Signals.stop:
		return sig.(syscall.Signal)
	case <-until:
		return 0
	}
}

// Start always fails: running a command is supported on linux only.
func (c *Command) Start() error {
	return &StartError{126, "command", errLinuxOnly.Error(), errLinuxOnly}
}

// Wait is there for programs to build.
func (c *Command) Wait() int { return 126 }

// Usage always fails.
func (c *Command) Usage() (Usage, error) { return Usage{}, errLinuxOnly }

// Self tells what healthcheck itself uses; here, only since when.
func Self() SelfUsage { return SelfUsage{Started: started, ResidentBytes: -1} }
