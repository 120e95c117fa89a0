// Package early registers the signals that stop a program before main runs.
//
// Until a signal is registered, Go's runtime handles it. As PID 1 it then exits with status 2, since
// the kernel does not let PID 1 die of the default action. The package imports only os, os/signal and
// syscall: Go initializes a package as soon as its imports are initialized, in the order of import
// paths, so this one comes before net, crypto/tls and the other packages of the program.
//
// Signals are registered during initialization only if Needed reports true, so that a probe does not
// spend the time.
package early

import (
	"os"
	"os/signal"
	"syscall"
)

// Stop lists the signals that this package registers.
var Stop = [...]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP}

var (
	first      = make(chan os.Signal, 1)
	each       [len(Stop)]chan os.Signal // a buffer of one each, in the order of Stop
	registered bool
)

func init() {
	if Needed() {
		Register()
	}
}

// Needed reports whether a signal may arrive before main runs that must not get lost: the program is
// PID 1, or "--" is among its arguments, so it starts a command.
func Needed() bool {
	if os.Getpid() == 1 {
		return true
	}
	for _, arg := range os.Args[min(1, len(os.Args)):] {
		if arg == "--" {
			return true
		}
	}
	return false
}

// Register registers the signals of Stop, unless that has been done, and returns the channel that
// receives the first signal of all, and one for each signal in the order of Stop. A signal that was
// ignored when the program started stays ignored (nohup). It must not run concurrently.
func Register() (firstOfAll chan os.Signal, ofEach []chan os.Signal) {
	if !registered {
		registered = true
		for i, sig := range Stop {
			each[i] = make(chan os.Signal, 1)
			if !signal.Ignored(sig) {
				signal.Notify(first, sig)
				signal.Notify(each[i], sig)
			}
		}
	}
	return first, each[:]
}
