// Healthcheck probes HTTP, TCP, Redis and PostgreSQL, runs a service as PID 1 of its container, and exports the results to
// Prometheus:
//
//	healthcheck CHECK... [OPTION...]                                     probe once, print, exit
//	healthcheck [--export-prom ADDR] [CHECK...] [OPTION...] -- CMD...    run CMD as its init, export metrics
//	healthcheck --export-prom ADDR CHECK... [OPTION...]                  export metrics, without a command
//
// README.md is the manual. The exit status is 0 if every check passed, 1 if one failed, 125 if healthcheck itself failed, 126 or
// 127 if CMD could not be executed or was not found, otherwise CMD's own.
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
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"alfred/healthcheck/export"
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

// revision is the source's, if the build was told it: -ldflags "-X main.revision=…". Go's own stamp would make the bytes of
// the binary depend on the checkout.
var revision = "unknown"

func main() {
	// TERM, INT, QUIT and HUP are registered before main if the program is an init. A probe does not spend the time.
	var signals *supervise.Signals
	if supervise.IsInit() {
		signals = supervise.Listen()
		supervise.ReserveThreads()
	}
	signals.Exit(run(os.Args[1:], signals, os.Stdout, os.Stderr))
}

// run is main without global state. It returns the exit status. signals is nil if they are not registered yet.
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
	checks, err := probe.Parse(c.specs, c.probe)
	if err != nil {
		return complain(stderr, err)
	}
	if err := c.wait.Check(checks); err != nil {
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

// complain prints a usage error and its hint, and returns the exit status.
func complain(stderr io.Writer, err error) int {
	hint := "healthcheck --help lists every option"
	var u *probe.UsageError
	if errors.As(err, &u) {
		hint = cmp.Or(u.Hint, hint)
	}
	logLine(stderr, fmt.Sprintf("healthcheck: %v\nhint: %s\n", err, hint))
	return exitOwn
}

// runProbe runs the checks once, or until all pass, and prints the results.
func runProbe(c *config, checks []*probe.Check, signals *supervise.Signals, stdout, stderr *os.File) int {
	go exitOnSignal(signals) // ends with the process
	progress := &probe.ProgressWriter{W: stderr}
	var results []probe.Result
	if !c.wait.None() {
		results = probe.Wait(context.Background(), checks, c.wait, logWaiting(progress))
	} else {
		results = probe.RunAll(context.Background(), checks)
	}
	if room := progress.Room(); c.json {
		io.WriteString(stdout, probe.JSON(results, room))
	} else {
		io.WriteString(stdout, probe.Lines(results, isTerminal(stdout), room))
	}
	probe.RelayReports(results)
	if probe.Verdict(results) == probe.Failed {
		return exitFailed
	}
	return exitOK
}

// exitOnSignal ends a probe that is told to stop. If no signals are registered only QUIT needs it: a Go program that QUIT ends
// exits with status 2.
func exitOnSignal(signals *supervise.Signals) {
	if signals != nil {
		os.Exit(128 + int(signals.AwaitStop(nil)))
	}
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	<-quit
	os.Exit(128 + int(syscall.SIGQUIT))
}

// runCommand runs the command as its init, and returns its exit status.
func runCommand(c *config, checks []*probe.Check, signals *supervise.Signals, stderr *os.File) int {
	for _, names := range mistypedVariables(os.Environ()) {
		logLine(stderr, fmt.Sprintf("healthcheck: the variable %s is not known; did you mean %s?\n", names[0], names[1]))
	}
	monitor := c.newMonitor(checks, stderr)
	command := supervise.Command{Args: c.command, StopSignals: c.stopSignals, KillAfter: c.killAfter,
		SuccessStatus: c.successStatus, SignalGroup: c.signalGroup,
		Log:      func(line string) { logLine(stderr, "healthcheck: "+line+"\n") },
		Stopping: monitor.Quiet}

	// 1. Bind the metrics address before anything runs.
	exporter, err := serve(c, checks, monitor, signals, stderr)
	if err != nil {
		return complain(stderr, err)
	}

	// 2. Wait until the checks pass. A signal that would stop the command ends the wait.
	if !c.wait.None() && len(checks) > 0 {
		var results []probe.Result
		waited := make(chan struct{})
		go func() { // ends with the wait, or the process
			results = monitor.Wait(context.Background(), c.wait, logWaiting(stderr))
			close(waited)
		}()
		if sig := signals.AwaitStop(waited); sig != 0 {
			return 128 + int(sig)
		}
		if i := slices.IndexFunc(results, func(r probe.Result) bool { return r.Status == probe.Failed }); i >= 0 {
			failed := results[i].Check
			logLine(stderr, fmt.Sprintf("healthcheck: gave up after %v, CMD is not started\n%s", c.wait.Of(failed), probe.Lines(results, false, probe.MaxOutput)))
			return exitFailed
		}
	}

	// 3. Start the command.
	process, err := command.Start(signals)
	if err != nil {
		logLine(stderr, fmt.Sprintf("healthcheck: %v\n", err))
		var failed *supervise.StartError
		if errors.As(err, &failed) {
			return failed.Status
		}
		return exitOwn
	}
	if exporter != nil {
		exporter.SetProcess(process)
	}

	// 4. Run the checks at once, and from then on at the interval.
	go monitor.Run(context.Background()) // ends with the process

	// 5. Forward signals and reap until the command has ended.
	return process.Wait()
}

func (c *config) newMonitor(checks []*probe.Check, stderr io.Writer) *probe.Monitor {
	options := c.monitor
	options.Changed = logChange(stderr)
	return probe.NewMonitor(checks, options)
}

// runSidecar exports the results of the checks until a signal ends it.
func runSidecar(c *config, checks []*probe.Check, signals *supervise.Signals, stderr *os.File) int {
	if signals == nil {
		signals = supervise.Listen()
	}
	monitor := c.newMonitor(checks, stderr)
	if _, err := serve(c, checks, monitor, signals, stderr); err != nil {
		return complain(stderr, err)
	}
	go monitor.Run(context.Background()) // ends with the process
	signals.AwaitStop(nil)
	return exitOK
}

// serve binds the metrics address, logs it, and starts to answer. It returns nil without --export-prom.
func serve(c *config, checks []*probe.Check, monitor *probe.Monitor, signals *supervise.Signals, stderr io.Writer) (*export.Exporter, error) {
	if c.export == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", c.export)
	if err != nil {
		return nil, probe.Usagef("choose another address, or port 0 for any that is free", "--export-prom: cannot listen on %s: %v", c.export, errnoOf(err))
	}
	addr := listener.Addr().(*net.TCPAddr)
	if err := probe.CheckTargets(checks, addr.AddrPort()); err != nil {
		return nil, err
	}
	var reports *probe.Reports
	if c.hasCommand {
		reports, err = probe.ListenReports()
	}
	note := "no check configured: set HEALTHCHECK_HTTP=http://localhost:PORT/health"
	switch n := len(c.specs); {
	case n == 1:
		note = fmt.Sprintf("1 check every %v", c.monitor.Interval)
	case n > 1:
		note = fmt.Sprintf("%d checks every %v", n, c.monitor.Interval)
	}
	logLine(stderr, fmt.Sprintf("healthcheck %s: status and metrics on %s, %s\n", Version, export.URL(addr), note))
	if err != nil {
		logLine(stderr, fmt.Sprintf("healthcheck: cannot receive results of probes: %v\n", errnoOf(err)))
	}
	hostname, _ := os.Hostname()
	settings := export.Config{Monitor: monitor, Reports: reports, Signals: signals, Wait: c.wait, Version: Version, Revision: revision,
		ServiceName: cmp.Or(os.Getenv("SERVICE_NAME"), hostname), ServiceVersion: probe.Printable(os.Getenv("SERVICE_VERSION"))}
	if c.hasCommand {
		settings.Command = filepath.Base(supervise.ProgramName(c.command[0]))
	}
	exporter := export.New(settings)
	go exporter.Serve(listener) // ends with the process
	return exporter, nil
}

// logLine writes to stderr and gives up after one second, so that a full pipe cannot block the start or the end.
func logLine(stderr io.Writer, text string) {
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

// errnoOf is the system's text of an error of package net, without the address.
func errnoOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// logWaiting returns a function that logs why --wait has not ended yet.
func logWaiting(stderr io.Writer) func(probe.Result) {
	return func(r probe.Result) {
		logLine(stderr, fmt.Sprintf("healthcheck: waiting for %s: %s\n", r.Check.Name, r.Line(probe.MaxLine)))
	}
}

// logChange returns a function that logs a check which went from ok to FAIL or back. It never blocks: lines beyond 64 that
// nobody has read are dropped.
func logChange(stderr io.Writer) func(probe.State) {
	lines := make(chan string, 64)
	go func() { // ends with the process
		for line := range lines {
			io.WriteString(stderr, line)
		}
	}()
	return func(s probe.State) {
		word := "ok"
		if s.Status == probe.Failed {
			word = "FAIL"
		}
		select {
		case lines <- fmt.Sprintf("healthcheck: %s %s  %s  %s\n", word, s.Check.Name, s.Check.Target, s.Last.Line(probe.MaxLine)):
		default:
		}
	}
}

// isTerminal reports whether f is a terminal that shows colours.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
