package supervise

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// terminal is the controlling terminal, or fd -1.
type terminal struct {
	fd    int
	owned bool // fd is ours to close
	front bool // the program's group was the foreground group at the start
}

// openTerminal finds the controlling terminal: a standard stream, otherwise /dev/tty. A stream that
// is another terminal, or no terminal, fails with ENOTTY.
func openTerminal() terminal {
	for fd := range 3 {
		if group, err := foreground(fd); err == nil {
			return terminal{fd: fd, front: group == syscall.Getpgrp()}
		}
	}
	fd, err := syscall.Open("/dev/tty", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil { // ENXIO
		return terminal{fd: -1}
	}
	group, err := foreground(fd)
	return terminal{fd: fd, owned: true, front: err == nil && group == syscall.Getpgrp()}
}

// handOver makes the command's group the foreground group if the program's is, and reports whether
// it did.
func (t terminal) handOver(pid int) bool {
	group, err := foreground(t.fd)
	return err == nil && group == syscall.Getpgrp() && setForeground(t.fd, pid) == nil
}

// continueStopped continues a child that Ctrl-Z has stopped after it became the foreground group
// but before its exec, and reports whether it did. Otherwise the fork would never return: the
// thread that forks waits for the exec.
func (t terminal) continueStopped() bool {
	group, err := foreground(t.fd)
	if !t.front || err != nil || group == syscall.Getpgrp() {
		return false
	}
	s, ok := parseStat(readFile("/proc/"+strconv.Itoa(group)+"/stat", make([]byte, 1024)))
	return ok && s.state == 'T' && syscall.Kill(-group, syscall.SIGCONT) == nil
}

// isForeground reports whether the command's group is the foreground group, even if it has no
// process left.
func (t terminal) isForeground(pid int) bool {
	group, err := foreground(t.fd)
	return err == nil && group == pid
}

// takeBack makes the program's group the foreground group again if the command's group or an empty
// group is in the foreground. Any other group has taken the terminal since and keeps it.
func (t terminal) takeBack(pid int) {
	if group, err := foreground(t.fd); err == nil && (group == pid || syscall.Kill(-group, 0) == syscall.ESRCH) {
		setForeground(t.fd, syscall.Getpgrp())
	}
}

func (t terminal) close() {
	if t.owned {
		syscall.Close(t.fd)
	}
}

// foreground is tcgetpgrp(3).
func foreground(fd int) (group int, err error) {
	var id int32
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&id))); errno != 0 {
		return 0, errno
	}
	return int(id), nil
}

// setForeground is tcsetpgrp(3). In the background it needs TTOU ignored or blocked.
func setForeground(fd, group int) error {
	id := int32(group)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&id))); errno != 0 {
		return errno
	}
	return nil
}

// suspend stops the program and its process group, as Ctrl-Z would if the command were in that
// group. The shell then sees the whole job stopped, a pipeline's other programs too, and takes the
// terminal.
//
// suspend returns when the program is continued. It returns at once if the kernel does not stop the
// program: as PID 1, or in an orphaned process group, which has no shell to continue it
// (setpgid(2)). If quiet is set, the CONT that continues the program is not received.
func suspend(quiet bool) {
	runtime.LockOSThread() // gettid and tgkill are about the thread
	defer runtime.UnlockOSThread()

	tstp := disposition(syscall.SIGTSTP, &sigaction{handler: sigIgn})
	defer disposition(syscall.SIGTSTP, &tstp)
	if tstp.handler == sigIgn {
		return
	}
	if quiet {
		cont := disposition(syscall.SIGCONT, &sigaction{handler: sigDfl})
		defer disposition(syscall.SIGCONT, &cont)
	}
	syscall.Kill(0, syscall.SIGTSTP) // the rest of the group: the program ignores it at the moment
	disposition(syscall.SIGTSTP, &sigaction{handler: sigDfl})
	// A signal that a thread sends to itself takes effect before the call returns.
	syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGTSTP)
}
