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
	c := &supervise.Command{
		Args:          []string{"/bin/sh", "-c", "exit 3"},
		Signals:       listen(),
		StopSignals:   map[syscall.Signal]syscall.Signal{syscall.SIGTERM: syscall.SIGINT},
		KillAfter:     8 * time.Second,
		SuccessStatus: []int{143},
	}
	if err := c.Start(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Wait())
	// Output: 3
}

func ExampleStartError() {
	c := &supervise.Command{Args: []string{"/no/such/command"}, Signals: listen()}
	err := c.Start()
	var start *supervise.StartError
	if errors.As(err, &start) {
		fmt.Println(start.Status, err)
	}
	// Output: 127 /no/such/command: not found
}

// Before Start, for as long as the program waits for something, a signal ends it.
func ExampleSignals() {
	c := &supervise.Command{Args: []string{"sleep", "0.1"}, Signals: listen()}
	ready := make(chan struct{})
	close(ready)
	if sig := c.Await(ready); sig != 0 {
		fmt.Println("status", 128+int(sig))
		return
	}
	fmt.Println("the command may start")
	// Output: the command may start
}

func ExampleUsage() {
	c := &supervise.Command{Args: []string{"sleep", "0.1"}, Signals: listen()}
	if err := c.Start(); err != nil {
		fmt.Println(err)
		return
	}
	u, err := c.Usage()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.Processes >= 1, u.ResidentBytes > 0)
	c.Wait()
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
