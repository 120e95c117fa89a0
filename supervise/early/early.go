// Package early registers TERM, INT, QUIT and HUP before main runs.
//
// If a signal arrives before it is registered, Go's runtime restores its default action and raises
// it again. PID 1 does not die of that, because the kernel drops such a signal, and the runtime
// exits with status 2.
//
// Go initializes packages in the order of their import paths, each as soon as its imports are
// initialized. This package imports only os, os/signal and syscall, so it is initialized before
// net, crypto/tls and the other packages of the program.
//
// The signals are registered during initialization only if Needed reports true. A probe therefore
// starts without that delay.
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

// Needed reports whether a signal that arrives before main runs must be kept. That is so if the
// program is PID 1, or if it starts a command, that is, if "--" is among its arguments.
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

// Register registers the signals of Stop; a second call only returns the same channels. firstOfAll
// receives the first signal of any kind, and ofEach[i] receives Stop[i]. A signal that was ignored
// when the program started (nohup) stays ignored. Register must not be called concurrently.
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
