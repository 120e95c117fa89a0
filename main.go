// Healthcheck tells the truth about a service's health. It is the probe of a compose file and the init of the container
// that runs the service:
//
//	healthcheck CHECK... [OPTION...]                                     probe once, print, exit
//	healthcheck [--export-prom ADDR] [CHECK...] [OPTION...] -- CMD...    run CMD as its init, export metrics
//	healthcheck --export-prom ADDR CHECK... [OPTION...]                  export metrics, without a command
//
// README.md is the manual. The exit status is 0 where every check passed, 1 where one failed, 125 where healthcheck itself
// could not do its work, 126 and 127 where CMD could not be executed or found, otherwise CMD's own.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/supervise"
)

// Version is the release, as it stands in the image's tag, the User-Agent and build_info.
const Version = "0.4.0"

// Exit statuses of healthcheck's own.
const (
	exitOK     = 0
	exitFailed = 1   // a check failed
	exitOwn    = 125 // healthcheck itself could not do it
)

const usageText = `healthcheck ` + Version + `: tell the truth about a service's health, or be its init

  healthcheck CHECK... [OPTION...]                      probe once, print, exit
  healthcheck [--export-prom ADDR] [CHECK...] [OPTION...] -- CMD...   run CMD
  healthcheck --export-prom ADDR CHECK... [OPTION...]   export, until a signal

  --http URL           http://localhost:8080/health; also https, http+unix
  --tcp HOST:PORT      something listens there. Checks repeat, and have names:
  --redis URL          cache=redis://:${REDIS_PASSWORD}@cache:6379; also rediss
  --postgres URL       database=postgres://app:${file:/run/secrets/db}@db/app
  --timeout 5s         deadline of one whole check
  --wait 0             try again until every check passes, at most this long
  --interval 15s       between background checks
  --json               print the results as one JSON document
  --http-method GET    --http-header 'K: V' (repeatable)   --http-body REGEXP
  --http-status 200-299,401     --tls-server-name NAME     --tls-insecure
  --tls-ca FILE        --tls-cert FILE        --tls-key FILE
  --export-prom ADDR   serve /metrics, /health, /healthz there, as in :9091
  --stop-signal A:B    send CMD B when A comes (repeatable); A:0 drops it
  --kill-after 0       SIGKILL CMD that long after TERM, INT or QUIT; 0: never
  --success-status N   a status of CMD that becomes 0 (repeatable)
  --signal-group       send signals to CMD's whole process group
  --version, --help    any option has a default in HEALTHCHECK_<NAME>
Exit: 0 healthy, 1 not, 125 wrong usage, 126 and 127 CMD not run, else CMD's own
`

func main() {
	// First of all, since by default a Go program that is PID 1 ends with status 2 on TERM. A probe is not PID 1, and is spared
	// the cost of it.
	var signals *supervise.Signals
	if os.Getpid() == 1 || slices.Contains(os.Args[1:], "--") {
		signals = supervise.Listen()
	}
	os.Exit(run(os.Args[1:], signals, os.Stdout, os.Stderr))
}

// run is the program, but for the process around it. It returns the exit status. signals is nil if they are not registered yet.
func run(args []string, signals *supervise.Signals, stdout, stderr *os.File) int {
	c, err := parseArgs(args, os.LookupEnv)
	switch {
	case err != nil:
		return complain(stderr, err)
	case c.help:
		io.WriteString(stdout, usageText)
		return exitOK
	case c.version:
		fmt.Fprintf(stdout, "healthcheck %s (%s %s/%s)\n", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitOK
	}
	checks, err := probe.Parse(c.specs, c.options)
	if err != nil {
		return complain(stderr, err)
	}
	switch {
	case c.hasCommand:
		return runCommand(c, checks, signals, stderr)
	case c.export != "":
		return runSidecar(c, checks, signals, stderr)
	}
	return runProbe(c, checks, signals, stdout, stderr)
}

// complain prints a usage error in two lines.
func complain(stderr io.Writer, err error) int {
	hint := "healthcheck --help lists every option"
	var u *probe.UsageError
	if errors.As(err, &u) {
		hint = cmp.Or(u.Hint, hint)
	}
	say(stderr, fmt.Sprintf("healthcheck: %v\nhint: %s\n", err, hint))
	return exitOwn
}

// runProbe is the first mode: probe once, or until everything passes, and print.
func runProbe(c *config, checks []*probe.Check, signals *supervise.Signals, stdout, stderr *os.File) int {
	if signals == nil { // QUIT alone would not end a Go program as any other, but with status 2
		quit := make(chan os.Signal, 1)
		signal.Notify(quit, syscall.SIGQUIT)
		go func() { // ends with the process
			<-quit
			os.Exit(128 + int(syscall.SIGQUIT))
		}()
	} else {
		go func() { // ends with the process
			os.Exit(128 + int(signals.AwaitStop(nil)))
		}()
	}
	var results []probe.Result
	if c.wait > 0 {
		results = probe.Wait(context.Background(), checks, c.wait, logWaiting(stderr))
	} else {
		results = probe.RunAll(context.Background(), checks)
	}
	report := ""
	if c.json {
		report = probe.JSON(results)
	} else {
		report = probe.Lines(results, isTerminal(stdout))
	}
	io.WriteString(stdout, report)
	if probe.Verdict(results) == probe.Failed {
		return exitFailed
	}
	return exitOK
}

// runCommand is the second mode: run CMD as its init.
func runCommand(c *config, checks []*probe.Check, signals *supervise.Signals, stderr *os.File) int {
	command := supervise.Command{Args: c.command, StopSignals: c.stopSignals,
		KillAfter: c.killAfter, SuccessStatus: c.successStatus, SignalGroup: c.signalGroup}
	monitor := probe.NewMonitor(checks, c.interval, logChange(stderr))

	// 1. Have the metrics address before anything runs.
	e, err := serve(c, monitor, c.command, signals, stderr)
	if err != nil {
		return complain(stderr, err)
	}

	// 2. Wait for what CMD needs; a signal that would end CMD ends this.
	if c.wait > 0 && len(checks) > 0 {
		var results []probe.Result
		waited := make(chan struct{})
		go func() { // ends with the wait, or the process
			results = monitor.Wait(context.Background(), c.wait, logWaiting(stderr))
			close(waited)
		}()
		if came := signals.AwaitStop(waited); came != 0 {
			return 128 + int(came)
		}
		if probe.Verdict(results) == probe.Failed {
			say(stderr, fmt.Sprintf("healthcheck: gave up after %v, CMD is not started\n%s", c.wait, probe.Lines(results, false)))
			return exitFailed
		}
	}

	// 3. Start CMD.
	process, err := command.Start(signals)
	if err != nil {
		say(stderr, fmt.Sprintf("healthcheck: %v\n", err))
		var failed *supervise.StartError
		if errors.As(err, &failed) {
			return failed.Status
		}
		return exitOwn
	}

	if e != nil {
		e.process.Store(process)
	}

	// 4. Check at once and from then on; nothing here waits for a check.
	go monitor.Run(context.Background()) // ends with the process

	// 5. Pass signals on and reap, until CMD has ended.
	return process.Wait()
}

// runSidecar is the third mode: export what the checks see, until a signal.
func runSidecar(c *config, checks []*probe.Check, signals *supervise.Signals, stderr *os.File) int {
	if signals == nil {
		signals = supervise.Listen()
	}
	monitor := probe.NewMonitor(checks, c.interval, logChange(stderr))
	if _, err := serve(c, monitor, nil, signals, stderr); err != nil {
		return complain(stderr, err)
	}
	go monitor.Run(context.Background()) // ends with the process
	signals.AwaitStop(nil)
	return exitOK
}

// serve starts to answer on the exported address, if there is one, and says where that is.
func serve(c *config, monitor *probe.Monitor, command []string, signals *supervise.Signals, stderr io.Writer) (*exporter, error) {
	if c.export == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", c.export)
	if err != nil {
		return nil, usageError("choose another address, or port 0 for any that is free", "--export-prom: cannot listen on %s: %v", c.export, errnoOf(err))
	}
	checks := "no checks"
	switch n := len(c.specs); {
	case n == 1:
		checks = fmt.Sprintf("1 check every %v", c.interval)
	case n > 1:
		checks = fmt.Sprintf("%d checks every %v", n, c.interval)
	}
	say(stderr, fmt.Sprintf("healthcheck %s: metrics on http://%s/metrics, %s\n", Version, listener.Addr(), checks))
	e := newExporter(monitor, command, signals, cmp.Or(os.Getenv("SERVICE_VERSION"), Version))
	go e.serve(listener) // ends with the process
	return e, nil
}

// say writes to a log that somebody should read. One that nobody reads holds up CMD's start, or the end, by a second, and no more.
func say(stderr io.Writer, text string) {
	written := make(chan struct{})
	go func() { // ends with the process at the latest
		io.WriteString(stderr, text)
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(time.Second):
	}
}

// errnoOf is the system's word for an error of package net, without the address.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// logWaiting says what is waited for.
func logWaiting(stderr io.Writer) func(probe.Result) {
	return func(r probe.Result) {
		say(stderr, fmt.Sprintf("healthcheck: waiting for %s: %s\n", r.Check.Name, r.Seen()))
	}
}

// logChange says that a check went from ok to FAIL or back. A log that nobody reads holds up no check: the lines that do not
// fit are lost.
func logChange(stderr io.Writer) func(probe.State) {
	lines := make(chan string, 64)
	go func() { // ends with the process
		for line := range lines {
			io.WriteString(stderr, line)
		}
	}()
	return func(s probe.State) {
		word := "ok"
		if !s.Healthy() {
			word = "FAIL"
		}
		select {
		case lines <- fmt.Sprintf("healthcheck: %s %s  %s  %s\n", word, s.Check.Name, s.Check.Target, s.Last.Seen()):
		default:
		}
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
