package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	// earlyStep is CPU time of the program. On an idle machine it equals the time since the exec;
	// on a busy one the program may be waiting for a processor.
	earlyStep = 250 * time.Microsecond
	// earlyLost is how long a program may take to end. One that takes longer has lost the TERM.
	earlyLost = time.Second
)

// An earlyInit is a program that runs a command as PID 1, with counts of how it ended.
type earlyInit struct {
	name                    string
	argv                    []string // the command follows
	runs                    int
	left                    sync.WaitGroup // the runs that have not ended
	ended, two, lost, other atomic.Int64
}

// benchEarly prints how each program reacts to a TERM in its first milliseconds as PID 1.
func benchEarly(b *bed) {
	inits := []*earlyInit{}
	for _, peer := range []string{"tini", "dumb-init"} {
		if path, ok := find(peer); ok {
			inits = append(inits, &earlyInit{name: peer, argv: []string{path, "--"}})
		}
	}
	inits = append(inits, &earlyInit{name: "healthcheck", argv: []string{own("healthcheck"), "--"}})
	if len(container()) == 0 {
		fmt.Println("left out: early needs root for a PID namespace")
		return
	}
	end := heading("Init: one TERM to PID 1, 0 to %v of its CPU time after its exec in steps of %v; %d rounds", *early, earlyStep, *rounds)
	for range *rounds {
		for delay := time.Duration(0); delay <= *early; delay += earlyStep {
			for _, p := range inits {
				p.run(b, delay)
			}
		}
	}
	fmt.Printf("%-28s %8s %14s %14s %14s %14s %14s\n", "", "runs", "CMD ended", "status 2", "TERM lost", "other", "status 2 for")
	for _, p := range inits {
		p.left.Wait()
		share := func(n *atomic.Int64) string { return fmt.Sprintf("%.1f %%", 100*float64(n.Load())/float64(p.runs)) }
		fmt.Printf("%-28s %8d %14s %14s %14s %14s %11.2f ms\n", p.name, p.runs, share(&p.ended), share(&p.two), share(&p.lost), share(&p.other),
			float64(p.two.Load())/float64(*rounds)*earlyStep.Seconds()*1000)
	}
	fmt.Println("   the kernel drops a TERM to PID 1 that comes before there is a handler or a mask")
	end()
}

// run starts the program once as PID 1, sends TERM delay after the exec, and counts how it ends.
func (p *earlyInit) run(b *bed, delay time.Duration) {
	argv := append(slices.Clone(p.argv), "sleep", "1000")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil { // returns once the child has called exec
		b.Fatal(err)
	}
	begun := cpuClock(cmd.Process.Pid)
	for start := time.Now(); ; { // busy: a sleep is too coarse
		if cpuClock(cmd.Process.Pid)-begun >= delay || time.Since(start) > 50*delay { // it may be waiting
			break
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	lost := time.AfterFunc(earlyLost, func() { cmd.Process.Kill() })
	done := make(chan struct{})
	p.runs++
	p.left.Go(func() {
		cmd.Wait()
		lost.Stop()
		switch status := cmd.ProcessState.ExitCode(); status {
		case 2:
			p.two.Add(1)
		case 128 + int(syscall.SIGTERM):
			p.ended.Add(1)
		case -1: // killed
			p.lost.Add(1)
		default:
			p.other.Add(1)
		}
		close(done)
	})
	select { // a program that lost TERM is idle by then, and waits while the next run begins
	case <-done:
	case <-time.After(50 * time.Millisecond):
	}
}

// cpuClock returns the CPU time that a process has used: clock_getcpuclockid(3).
func cpuClock(pid int) time.Duration {
	const CPUCLOCK_SCHED = 2
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|CPUCLOCK_SCHED), uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}
