package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

const (
	earlyStep  = 250 * time.Microsecond
	earlySteps = 20 // 0 to 4.75 ms after the exec
	// earlyLost is how long a program may take to end. One that takes longer has lost the TERM.
	earlyLost = 500 * time.Millisecond
)

// An earlyInit is a program that runs a command as PID 1, and how often it ended in which way.
type earlyInit struct {
	name                   string
	argv                   []string // the command follows
	ended, two, lost, runs int
}

// benchEarly is the table of what becomes of a TERM in the first milliseconds of PID 1.
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
	end := heading("Init: one TERM to PID 1, 0 to %v after its exec in steps of %v; %d rounds of %d",
		(earlySteps-1)*earlyStep, earlyStep, *rounds, earlySteps)
	for range *rounds {
		for step := range earlySteps {
			for _, p := range inits {
				p.run(b, time.Duration(step)*earlyStep)
			}
		}
	}
	fmt.Printf("%-28s %8s %14s %14s %14s\n", "", "runs", "CMD ended", "status 2", "TERM lost")
	for _, p := range inits {
		share := func(n int) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(p.runs)) }
		fmt.Printf("%-28s %8d %14s %14s %14s\n", p.name, p.runs, share(p.ended), share(p.two), share(p.lost))
	}
	fmt.Println("   the kernel drops a TERM to PID 1 that comes before there is a handler or a mask")
	end()
}

// run starts the program once as PID 1, sends TERM that long after the exec, and counts how it ends.
func (p *earlyInit) run(b *bed, delay time.Duration) {
	argv := append(slices.Clone(p.argv), "sleep", "1000")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil { // returns once the child has called exec
		b.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < delay; { // a sleep is too coarse
	}
	cmd.Process.Signal(syscall.SIGTERM)
	lost := time.AfterFunc(earlyLost, func() { cmd.Process.Kill() })
	cmd.Wait()
	lost.Stop()
	p.runs++
	switch status := cmd.ProcessState.ExitCode(); {
	case status == 2:
		p.two++
	case status == 128+int(syscall.SIGTERM):
		p.ended++
	case status == -1: // killed
		p.lost++
	default:
		b.Fatalf("%s: status %d", p.name, status)
	}
}
