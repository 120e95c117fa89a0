// Spawn runs commands and measures each as the kernel accounts for it. It is small on purpose: a child begins its life
// with its parent's memory, and getrusage(2) never forgets that peak.
//
// Each line of stdin is a request: words with tabs between, MODE PATH ARGV0 ARG... The answer is a line
//
//	status wall cpu rss start
//
// of the exit status (128+N for a death by signal N), nanoseconds from before the fork until the end was known, nanoseconds of
// CPU (user and system), peak resident memory in KiB, and in modes clock and term the nanoseconds to the command's first
// instruction: it must write CLOCK_MONOTONIC as eight bytes to stdout. In mode term it then gets TERM, and wall counts
// from there. The line "peak" is answered with the peak of spawn itself, as rss: less than that it cannot see in others.
package main

import (
	"bufio"
	"encoding/binary"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// settle is how long a command runs before it gets TERM.
const settle = 50 * time.Millisecond

func main() {
	debug.SetGCPercent(5)
	null, err := syscall.Open("/dev/null", syscall.O_RDWR, 0)
	if err != nil {
		fail("open /dev/null", err)
	}
	env := os.Environ()
	requests := bufio.NewScanner(os.Stdin)
	for requests.Scan() {
		words := strings.Split(requests.Text(), "\t")
		if words[0] == "peak" {
			answer(0, 0, 0, peak(), 0)
			continue
		}
		run(words[0], words[1], words[2:], env, null)
	}
}

func run(mode, path string, argv, env []string, null int) {
	out := [2]int{-1, null}
	if mode != "run" {
		if err := syscall.Pipe2(out[:], syscall.O_CLOEXEC); err != nil {
			fail("pipe", err)
		}
	}
	var began int64
	before := now()
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: env, Files: []uintptr{uintptr(null), uintptr(out[1]), uintptr(null)}})
	if err != nil {
		fail(path, err)
	}
	if mode != "run" {
		syscall.Close(out[1])
		var stamp [8]byte
		if n, _ := syscall.Read(out[0], stamp[:]); n == len(stamp) {
			began = int64(binary.NativeEndian.Uint64(stamp[:])) - before
		}
		syscall.Close(out[0])
	}
	if mode == "term" {
		time.Sleep(settle)
		before = now()
		syscall.Kill(pid, syscall.SIGTERM)
	}
	var status syscall.WaitStatus
	var used syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &used); err != syscall.EINTR {
			break
		}
	}
	wall := now() - before
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	answer(int64(code), wall, used.Utime.Nano()+used.Stime.Nano(), int64(used.Maxrss), began)
}

// peak is VmHWM, in KiB. Spawn's own getrusage(2) is no use: it tells of what started spawn.
func peak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fail("peak", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		fail("peak", err)
	}
	return n
}

// now is CLOCK_MONOTONIC in nanoseconds, a clock that the command has in common.
func now() int64 {
	const CLOCK_MONOTONIC = 1
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

func answer(numbers ...int64) {
	var line []byte
	for _, n := range numbers {
		line = append(strconv.AppendInt(line, n, 10), ' ')
	}
	line[len(line)-1] = '\n'
	os.Stdout.Write(line)
}

func fail(what string, err error) {
	os.Stderr.WriteString("spawn: " + what + ": " + err.Error() + "\n")
	os.Exit(1)
}
