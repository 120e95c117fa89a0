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
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"alfred/healthcheck/probe"
)

// Version is the release, as it stands in the image's tag, the User-Agent and build_info.
const Version = "0.4.0"

// Exit statuses of healthcheck's own.
const (
	exitOK     = 0
	exitFailed = 1   // a check failed
	exitOwn    = 125 // healthcheck itself could not do it
)

const usageText = `healthcheck ` + Version + `: tell the truth about a service's health, or run it as its init

  healthcheck CHECK... [OPTION...]                      probe once, print, exit
  healthcheck [--export-prom ADDR] [CHECK...] [OPTION...] -- CMD...   run CMD
  healthcheck --export-prom ADDR CHECK... [OPTION...]   export, until a signal

Checks, each any number of times; NAME= in front of a value names the check:
  --http URL           http://localhost:8080/health; also https, http+unix
  --tcp HOST:PORT      something listens there
  --redis URL          redis://:${REDIS_PASSWORD}@cache:6379/0; also rediss, unix
  --postgres URL       postgres://app:${file:/run/secrets/db}@db:5432/app
Options:
  --timeout 5s         deadline of one whole check
  --wait 0             try again until every check passes, at most this long
  --interval 15s       between background checks
  --json               print the results as one JSON document
  --http-method GET    --http-header 'K: V' (repeatable)
  --http-status 200-299,401                   --http-body REGEXP
  --tls-ca FILE        --tls-cert FILE        --tls-key FILE
  --tls-server-name NAME                      --tls-insecure
With CMD, whose status becomes healthcheck's:
  --export-prom ADDR   serve /metrics, /health, /healthz there, as in :9091
  --stop-signal A:B    send B when A comes (repeatable; A:0 drops it)
  --kill-after 0       SIGKILL that long after TERM, INT or QUIT; 0: never
  --success-status N   a status of CMD that becomes 0 (repeatable)
  --signal-group       send signals to CMD's whole process group
  --version, --help
Each has a default in HEALTHCHECK_<NAME>, as in HEALTHCHECK_KILL_AFTER=10s.
Exit: 0 healthy, 1 not, 125 wrong usage, 126 and 127 CMD not run, else CMD's.
`

func main() {
	ctx, stop := context.WithCancel(context.Background())
	// First of all, since by default a Go program that is PID 1 ends with status 2 on TERM.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() { // ends with the process
		s := <-signals
		os.Exit(128 + int(s.(syscall.Signal)))
	}()
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the program, but for the process around it. It returns the exit status.
func run(ctx context.Context, args []string, stdin, stdout, stderr *os.File) int {
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
	return runProbe(ctx, c, checks, stdout, stderr)
}

// complain prints a usage error in two lines.
func complain(stderr io.Writer, err error) int {
	hint := "healthcheck --help lists every option"
	var u *probe.UsageError
	if errors.As(err, &u) {
		hint = cmp.Or(u.Hint, hint)
	}
	fmt.Fprintf(stderr, "healthcheck: %v\nhint: %s\n", err, hint)
	return exitOwn
}

// runProbe is the first mode: probe once, or until everything passes, and print.
func runProbe(ctx context.Context, c *config, checks []*probe.Check, stdout, stderr *os.File) int {
	var results []probe.Result
	if c.wait > 0 {
		results = probe.Wait(ctx, checks, c.wait, func(r probe.Result) {
			fmt.Fprintf(stderr, "healthcheck: %s\n", probe.WaitingLine(r))
		})
	} else {
		results = probe.RunAll(ctx, checks)
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

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// A config is the command line, with the environment's defaults filled in.
type config struct {
	specs          []probe.Spec
	options        probe.Options
	wait, interval time.Duration
	json           bool
	export         string // "" without --export-prom
	command        []string
	hasCommand     bool // there is a --
	help, version  bool
}

// Where an option counts: what the environment says of others than anyScope is passed over elsewhere, and so that a probe in
// the container of a wrapper stays a probe.
type scope int

const (
	anyScope     scope = iota
	checkScope         // a check: from the environment only where the command line names none
	commandScope       // with a command; on the command line too
	serveScope         // with a command or --export-prom
	waitScope          // from the environment only with a command
	probeScope         // without a command and --export-prom
)

// An option is one row of the command line.
type option struct {
	name  string
	scope scope
	multi bool // repeatable; the environment's value splits on newlines
	flag  bool // takes no value
	set   func(c *config, value string) error
}

var options = []option{
	{name: "http", scope: checkScope, multi: true, set: addCheck("http")},
	{name: "tcp", scope: checkScope, multi: true, set: addCheck("tcp")},
	{name: "redis", scope: checkScope, multi: true, set: addCheck("redis")},
	{name: "postgres", scope: checkScope, multi: true, set: addCheck("postgres")},
	{name: "timeout", set: duration(func(c *config) *time.Duration { return &c.options.Timeout }, time.Millisecond)},
	{name: "wait", scope: waitScope, set: duration(func(c *config) *time.Duration { return &c.wait }, 0)},
	{name: "interval", scope: serveScope, set: duration(func(c *config) *time.Duration { return &c.interval }, time.Millisecond)},
	{name: "json", scope: probeScope, flag: true, set: boolean(func(c *config) *bool { return &c.json })},
	{name: "http-method", set: text(func(c *config) *string { return &c.options.HTTPMethod })},
	{name: "http-header", multi: true, set: func(c *config, v string) error {
		c.options.HTTPHeaders = append(c.options.HTTPHeaders, v)
		return nil
	}},
	{name: "http-status", set: text(func(c *config) *string { return &c.options.HTTPStatus })},
	{name: "http-body", set: text(func(c *config) *string { return &c.options.HTTPBody })},
	{name: "tls-ca", set: text(func(c *config) *string { return &c.options.TLS.CA })},
	{name: "tls-cert", set: text(func(c *config) *string { return &c.options.TLS.Cert })},
	{name: "tls-key", set: text(func(c *config) *string { return &c.options.TLS.Key })},
	{name: "tls-server-name", set: text(func(c *config) *string { return &c.options.TLS.ServerName })},
	{name: "tls-insecure", flag: true, set: boolean(func(c *config) *bool { return &c.options.TLS.Insecure })},
	{name: "version", flag: true, set: boolean(func(c *config) *bool { return &c.version })},
	{name: "help", flag: true, set: boolean(func(c *config) *bool { return &c.help })},
}

// parseArgs reads the command line and, for what it leaves out, the environment. Its errors are *probe.UsageError.
func parseArgs(args []string, lookupEnv func(string) (string, bool)) (*config, error) {
	c := &config{interval: 15 * time.Second}
	c.options = probe.Options{Timeout: 5 * time.Second, UserAgent: "healthcheck/" + Version, LookupEnv: lookupEnv}
	if i := slices.Index(args, "--"); i >= 0 {
		args, c.command, c.hasCommand = args[:i], args[i+1:], true
	}
	given := map[string]bool{}
	var failed error
	fs := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // its messages repeat values, and values can be secrets
	for _, o := range options {
		set := func(value string) error {
			given[o.name] = true
			failed = within("--"+o.name, o.set(c, value))
			return failed
		}
		if o.flag {
			fs.BoolFunc(o.name, "", set)
		} else {
			fs.Func(o.name, "", set)
		}
	}
	if err := fs.Parse(args); err != nil && failed == nil {
		failed = flagError(err)
	}
	if failed != nil {
		return nil, failed
	}
	if c.help || c.version {
		return c, nil
	}
	if fs.NArg() > 0 { // not shown: it may be half of an unquoted secret
		return nil, &probe.UsageError{What: fmt.Sprintf("unexpected positional argument, word %d of the command line", len(args)-fs.NArg()+1),
			Hint: "quote a value that has spaces, and put a command behind --, as in: healthcheck --export-prom :9091 -- CMD"}
	}
	return c, c.fillIn(given, lookupEnv)
}

// fillIn takes from the environment what the command line leaves out, and looks at the whole.
func (c *config) fillIn(given map[string]bool, lookupEnv func(string) (string, bool)) error {
	namesCheck := len(c.specs) > 0
	for _, o := range options {
		serves := c.hasCommand || c.export != ""
		applies := map[scope]bool{anyScope: true, checkScope: !namesCheck, commandScope: c.hasCommand, serveScope: serves, waitScope: c.hasCommand, probeScope: !serves}[o.scope]
		if given[o.name] && !applies && o.scope != checkScope && o.scope != waitScope {
			return misplaced(o)
		}
		variable := "HEALTHCHECK_" + strings.ToUpper(strings.ReplaceAll(o.name, "-", "_"))
		value, _ := lookupEnv(variable)
		if given[o.name] || !applies || value == "" || o.name == "help" || o.name == "version" {
			continue
		}
		values := []string{value}
		if o.multi {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' })
		}
		for _, v := range values {
			if err := within(variable, o.set(c, v)); err != nil {
				return err
			}
		}
		for i := range c.specs[:len(c.specs)] {
			if o.scope == checkScope && c.specs[i].Type == o.name {
				c.specs[i].Source = variable
			}
		}
	}
	if len(c.specs) == 0 && !c.hasCommand {
		return &probe.UsageError{What: "no check is named", Hint: "name one, as in: healthcheck --http http://localhost:8080/health; healthcheck --help lists every option"}
	}
	return nil
}

func misplaced(o option) error {
	needs := map[scope]string{commandScope: "a command behind --", serveScope: "a command behind -- or --export-prom", probeScope: "a probe, without a command or --export-prom"}
	return &probe.UsageError{What: "--" + o.name + " goes with " + needs[o.scope]}
}

// plainOption is an option's name that can be repeated in an error.
var plainOption = regexp.MustCompile(`^-[a-z][a-z0-9-]{0,30}$`)

// flagError puts an error of package flag into our words. Its own hold values.
func flagError(err error) error {
	problem, name, _ := strings.Cut(err.Error(), ": ")
	if !plainOption.MatchString(name) {
		return &probe.UsageError{What: "an option that is not valid"}
	}
	hint := ""
	for _, o := range options {
		if strings.HasPrefix(o.name, name[1:]) || strings.HasPrefix(name[1:], o.name) {
			hint = "did you mean --" + o.name + "? healthcheck --help lists every option"
		}
	}
	if problem == "flag needs an argument" {
		return &probe.UsageError{What: "-" + name + ": its value is missing"}
	}
	return &probe.UsageError{What: "unknown option -" + name, Hint: hint}
}

// within puts the option in front of an error about its value.
func within(where string, err error) error {
	var u *probe.UsageError
	if errors.As(err, &u) {
		return &probe.UsageError{What: where + ": " + u.What, Hint: u.Hint}
	}
	return err
}

func addCheck(kind string) func(*config, string) error {
	return func(c *config, value string) error {
		c.specs = append(c.specs, probe.Spec{Type: kind, Value: value, Source: "--" + kind})
		return nil
	}
}

func text(field func(*config) *string) func(*config, string) error {
	return func(c *config, value string) error {
		*field(c) = value
		return nil
	}
}

func boolean(field func(*config) *bool) func(*config, string) error {
	return func(c *config, value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return &probe.UsageError{What: "it is true or false", Hint: "leave the value out"}
		}
		*field(c) = b
		return nil
	}
}

// number is a duration without its unit, which people forget.
var number = regexp.MustCompile(`^[0-9]{1,6}$`)

func duration(field func(*config) *time.Duration, least time.Duration) func(*config, string) error {
	return func(c *config, value string) error {
		d, err := time.ParseDuration(value)
		switch {
		case err != nil && number.MatchString(value):
			return &probe.UsageError{What: "a duration has a unit", Hint: "write " + value + "s for seconds"}
		case err != nil:
			return &probe.UsageError{What: "not a duration", Hint: "write 5s, 500ms or 1m30s"}
		case d < least:
			return &probe.UsageError{What: "a duration of at least " + least.String() + " is wanted", Hint: "write 5s, 500ms or 1m30s"}
		}
		*field(c) = d
		return nil
	}
}
