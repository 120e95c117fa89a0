package supervise

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

const (
	maxSignal = 64 // _NSIG on all but MIPS
	rtMin     = 34 // SIGRTMIN as glibc, bash and Docker have it; the kernel's is 32
	rtMax     = 64
)

// signalNames are signal(7)'s, by the numbers of all architectures but Alpha, SPARC, MIPS and PA-RISC.
// They are not package syscall's constants, which differ on a developer's macOS.
var signalNames = [...]string{
	1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE",
	9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 16: "STKFLT",
	17: "CHLD", 18: "CONT", 19: "STOP", 20: "TSTP", 21: "TTIN", 22: "TTOU", 23: "URG", 24: "XCPU",
	25: "XFSZ", 26: "VTALRM", 27: "PROF", 28: "WINCH", 29: "IO", 30: "PWR", 31: "SYS",
}

// SignalName returns the signal's name without SIG, as bash's kill -l prints it: TERM, RTMIN+3,
// RTMAX-1. If the signal has no name, it returns the number.
func SignalName(sig syscall.Signal) string {
	n := int(sig)
	switch {
	case n > 0 && n < len(signalNames):
		return signalNames[n]
	case n == rtMin:
		return "RTMIN"
	case n == rtMax:
		return "RTMAX"
	case n > rtMin && n <= rtMin+15:
		return "RTMIN+" + strconv.Itoa(n-rtMin)
	case n > rtMin+15 && n < rtMax:
		return "RTMAX-" + strconv.Itoa(rtMax-n)
	}
	return strconv.Itoa(n)
}

// ParseSignal parses a signal's name in any case, with or without SIG, or its number, 1 to 64.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= maxSignal {
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	switch name {
	case "IOT":
		name = "ABRT"
	case "CLD":
		name = "CHLD"
	case "POLL":
		name = "IO"
	}
	for n, known := range signalNames {
		if name == known && n > 0 {
			return syscall.Signal(n), nil
		}
	}
	for _, rt := range []struct {
		name string
		base int
	}{{"RTMIN", rtMin}, {"RTMAX", rtMax}} {
		offset, ok := strings.CutPrefix(name, rt.name)
		if !ok {
			continue
		}
		if offset == "" {
			return syscall.Signal(rt.base), nil
		}
		// Atoi takes the sign along: RTMIN+3, RTMAX-1.
		if n, err := strconv.Atoi(offset); err == nil && (offset[0] == '+' || offset[0] == '-') {
			if n += rt.base; n >= rtMin && n <= rtMax {
				return syscall.Signal(n), nil
			}
		}
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}

// ParseStopSignal parses RECEIVED:SENT, for example TERM:INT. A SENT of 0 drops the signal. RECEIVED
// must be a signal that is forwarded, and SENT must not be one that the C library reserves.
func ParseStopSignal(s string) (received, sent syscall.Signal, err error) {
	from, to, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, fmt.Errorf("%q is not two signals with a colon between, as in TERM:INT", s)
	}
	if received, err = ParseSignal(from); err != nil {
		return 0, 0, err
	}
	if !isForwarded(received) {
		return 0, 0, errors.New("signal " + SignalName(received) + " is never passed on")
	}
	if to == "0" {
		return received, 0, nil
	}
	if sent, err = ParseSignal(to); err != nil {
		return 0, 0, err
	}
	if isReserved(sent) {
		return 0, 0, errors.New("signal " + SignalName(sent) + " is reserved for the C library (32 to 34)")
	}
	return received, sent, nil
}

// isForwarded reports whether a received signal is forwarded. The package doc lists the exceptions.
func isForwarded(sig syscall.Signal) bool {
	if sig < 1 || sig > maxSignal || isReserved(sig) {
		return false
	}
	switch SignalName(sig) {
	case "KILL", "STOP", "CHLD", "PIPE", "PROF", "URG":
		return false
	}
	return true
}

// isReserved reports whether the C library uses a signal for threads and timers: glibc 32 and 33, musl
// 34 as well. Sent from outside, it can end the process.
func isReserved(sig syscall.Signal) bool { return sig >= 32 && sig <= 34 }
