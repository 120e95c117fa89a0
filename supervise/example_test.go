//go:build linux

package supervise_test

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"alfred/healthcheck/supervise"
)

// main calls Listen first, and once.
var listen = sync.OnceValue(supervise.Listen)

func ExampleCommand() {
	c := supervise.Command{
		Args:          []string{"/bin/sh", "-c", "exit 3"},
		StopSignals:   map[syscall.Signal]syscall.Signal{syscall.SIGTERM: syscall.SIGINT},
		KillAfter:     8 * time.Second,
		SuccessStatus: []int{143},
	}
	p, err := c.Start(listen())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Wait())
	// Output: 3
}

func ExampleProcess() {
	p, err := supervise.Command{Args: []string{"sleep", "1000"}}.Start(listen())
	if err != nil {
		fmt.Println(err)
		return
	}
	syscall.Kill(syscall.Getpid(), syscall.SIGUSR1) // forwarded by Wait
	fmt.Println("status", p.Wait())
	for name, n := range p.Forwarded() {
		fmt.Println(name, n)
	}
	// Output:
	// status 138
	// USR1 1
}

func ExampleStartError() {
	_, err := supervise.Command{Args: []string{"/no/such/command"}}.Start(listen())
	var start *supervise.StartError
	if errors.As(err, &start) {
		fmt.Println(start.Status, err)
	}
	// Output: 127 /no/such/command: not found
}

// While the program waits for something before Start, a stop signal ends it.
func ExampleSignals() {
	signals := listen()
	ready := make(chan struct{})
	close(ready)
	if sig := signals.AwaitStop(ready); sig != 0 {
		fmt.Println("status", 128+int(sig))
		return
	}
	fmt.Println("the command may start")
	// Output: the command may start
}

func ExampleUsage() {
	p, err := supervise.Command{Args: []string{"sleep", "1000"}}.Start(listen())
	if err != nil {
		fmt.Println(err)
		return
	}
	u, err := p.Usage()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.Processes > 0, u.VirtualBytes > 0)
	syscall.Kill(syscall.Getpid(), syscall.SIGUSR1) // ends the command
	p.Wait()
	// Output: true true
}

func ExampleSelfUsage() {
	u := supervise.Self()
	fmt.Println(u.Started.Before(time.Now()), u.CPUSeconds > 0)
	// Output: true true
}

func ExampleParseStopSignal() {
	came, sent, err := supervise.ParseStopSignal("SIGTERM:rtmin+3")
	fmt.Println(supervise.SignalName(came), supervise.SignalName(sent), err)
	// Output: TERM RTMIN+3 <nil>
}

func ExampleProgramName() {
	fmt.Println(supervise.ProgramName("/usr/sbin/mysqld --password=x"))
	fmt.Println(supervise.ProgramName("DB_PASSWORD=x"))
	// Output:
	// /usr/sbin/mysqld
	// DB_PASSWORD=…
}
