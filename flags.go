package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/supervise"
)

const usageText = `healthcheck ` + Version + `: probe a service, run it as PID 1, export its health

  healthcheck CHECK... [OPTION...]                      probe once, print, exit
  healthcheck [--export-prom ADDR] [CHECK...] [OPTION...] -- CMD...   run CMD
  healthcheck --export-prom ADDR CHECK... [OPTION...]   export, until a signal

  --http URL           http://localhost:8080/health; also https, http+unix
  --tcp HOST:PORT      something listens there. Checks repeat, and have names:
  --redis URL          cache=redis://:${REDIS_PASSWORD}@cache:6379; also rediss
  --postgres URL       database=postgres://app:${file:/run/secrets/db}@db/app
  --timeout 5s         deadline of one whole check
  --wait 0             try again until every check passes, at most this long;
                       NAME=60s for one check alone (repeatable)
  --interval 15s       between background checks     --retries 1
  --start-period 30s   a check that has never passed may fail for that long
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

// A config is the command line, with the environment's defaults filled in.
type config struct {
	specs         []probe.Spec
	probe         probe.Options
	wait          probe.Limits
	monitor       probe.MonitorOptions
	json          bool
	export        string // the address to listen on; "" without --export-prom
	command       []string
	hasCommand    bool // there is a --
	stopSignals   map[syscall.Signal]syscall.Signal
	killAfter     time.Duration
	successStatus []int
	signalGroup   bool
	help, version bool
}

// A scope says where an option counts. Given elsewhere it is a usage error; in the environment it is then passed over, so that a
// probe in the container of a wrapper stays a probe.
type scope int

const (
	anyScope     scope = iota
	checkScope         // a check: from the environment only where the command line names none
	waitScope          // anywhere; from the environment only with a command
	exportScope        // likewise
	commandScope       // with a command
	serveScope         // with a command or --export-prom
	probeScope         // without either
)

// where is the words for a scope to which an option is bound.
var where = map[scope]string{
	commandScope: "a command behind --",
	serveScope:   "a command behind --, or with --export-prom",
	probeScope:   "a probe, not with a command or --export-prom",
}

// An option is one row of the command line.
type option struct {
	name  string
	scope scope
	multi bool // repeatable; the environment's value splits on newlines
	flag  bool // takes no value
	set   func(value string) error

	quotes bool // its value may begin with a quote
}

// read is set for a value as it was written.
func (o option) read(value string) error {
	if !o.quotes && probe.BeginsWithQuote(value) {
		return probe.ErrQuote
	}
	return o.set(value)
}

// options are the options that fill in c, in the order in which the environment is read.
func (c *config) options() []option {
	o := &c.probe
	return []option{
		{name: "http", scope: checkScope, multi: true, set: c.addCheck("http")},
		{name: "tcp", scope: checkScope, multi: true, set: c.addCheck("tcp")},
		{name: "redis", scope: checkScope, multi: true, set: c.addCheck("redis")},
		{name: "postgres", scope: checkScope, multi: true, set: c.addCheck("postgres")},
		{name: "export-prom", scope: exportScope, set: c.setExport},
		{name: "timeout", set: duration(&o.Timeout, time.Millisecond)},
		{name: "wait", scope: waitScope, multi: true, set: c.setWait},
		{name: "interval", scope: serveScope, set: duration(&c.monitor.Interval, 10*time.Millisecond)},
		{name: "start-period", scope: serveScope, set: duration(&c.monitor.StartPeriod, 0)},
		{name: "retries", scope: serveScope, set: number(&c.monitor.Retries, 1, 1000)},
		{name: "json", scope: probeScope, flag: true, set: boolean(&c.json)},
		{name: "http-method", set: text(&o.HTTPMethod)},
		{name: "http-header", multi: true, set: list(&o.HTTPHeaders)},
		{name: "http-status", set: text(&o.HTTPStatus)},
		{name: "http-body", quotes: true, set: text(&o.HTTPBody)},
		{name: "tls-ca", set: text(&o.TLS.CA)},
		{name: "tls-cert", set: text(&o.TLS.Cert)},
		{name: "tls-key", set: text(&o.TLS.Key)},
		{name: "tls-server-name", set: text(&o.TLS.ServerName)},
		{name: "tls-insecure", flag: true, set: boolean(&o.TLS.Insecure)},
		{name: "stop-signal", scope: commandScope, multi: true, set: c.addStopSignal},
		{name: "kill-after", scope: commandScope, set: duration(&c.killAfter, 0)},
		{name: "success-status", scope: commandScope, multi: true, set: c.addSuccessStatus},
		{name: "signal-group", scope: commandScope, flag: true, set: boolean(&c.signalGroup)},
		{name: "version", flag: true, set: boolean(&c.version)},
		{name: "help", flag: true, set: boolean(&c.help)},
	}
}

// parseArgs reads the command line and, for what it leaves out, the environment. Its errors are *probe.UsageError.
func parseArgs(args []string, lookupEnv func(string) (string, bool)) (*config, error) {
	c := &config{stopSignals: map[syscall.Signal]syscall.Signal{}}
	c.monitor = probe.MonitorOptions{Interval: 15 * time.Second, StartPeriod: 30 * time.Second, Retries: 1}
	c.probe = probe.Options{Timeout: 5 * time.Second, UserAgent: "healthcheck/" + Version, LookupEnv: lookupEnv}
	if i := slices.Index(args, "--"); i >= 0 {
		args, c.command, c.hasCommand = args[:i], args[i+1:], true
	}
	given := map[string]bool{}
	var failed error
	fs := flag.NewFlagSet("healthcheck", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // its messages repeat values, and values can be secrets
	options := c.options()
	for _, o := range options {
		set := func(value string) error {
			given[o.name] = true
			failed = probe.Within("--"+o.name, o.read(value))
			return failed
		}
		if o.flag {
			fs.BoolFunc(o.name, "", set)
		} else {
			fs.Func(o.name, "", set)
		}
	}
	err := fs.Parse(args)
	at := len(args) - fs.NArg() // how many words were read
	switch {
	case failed != nil:
		return nil, failed
	case errors.Is(err, flag.ErrHelp): // -h, which package flag takes for -help
		c.help = true
		return c, nil
	case err != nil:
		return nil, flagError(err, options, at)
	case c.help || c.version:
		return c, nil
	case fs.NArg() > 0: // not shown: it may be half of a secret that was not quoted
		return nil, probe.Usagef(positionalHint(fs.Arg(0), at == 0), "unexpected positional argument, word %d of the command line", at+1)
	}
	return c, c.fillIn(options, given, lookupEnv)
}

// positionalHint is what was probably meant by a positional argument. first is whether it is the first word of all.
func positionalHint(word string, first bool) string {
	host, port, err := net.SplitHostPort(word)
	switch {
	case first && filepath.Base(word) == "healthcheck":
		return "leave the word healthcheck out: it is the image's ENTRYPOINT"
	case strings.Contains(word, "://"):
		return "name the kind of check, as in: healthcheck --http http://localhost:8080/health"
	case word == "serve":
		return "there is no serve any more: healthcheck --export-prom :9091 -- CMD"
	case word == "help" || word == "version":
		return "it is an option: healthcheck --" + word
	case err == nil && isNumber(port) && (host == "localhost" || net.ParseIP(host) != nil): // which is no secret
		return "name the kind of check, as in: healthcheck --http http://" + word + "/health, or --tcp " + word
	case strings.HasPrefix(word, "localhost"), err == nil && isNumber(port):
		return "name the kind of check, as in: healthcheck --http http://HOST:PORT/health, or --tcp HOST:PORT"
	}
	return "quote a value that has spaces, and put a command behind --, as in: healthcheck --export-prom :9091 -- CMD"
}

// fillIn takes from the environment what the command line leaves out, and looks at the whole.
func (c *config) fillIn(options []option, given map[string]bool, lookupEnv func(string) (string, bool)) error {
	namesCheck := len(c.specs) > 0
	serves := c.hasCommand || c.export != ""
	fits := map[scope]bool{
		anyScope: true, checkScope: !namesCheck, waitScope: c.hasCommand, exportScope: c.hasCommand,
		commandScope: c.hasCommand, serveScope: serves, probeScope: !serves,
	}
	for _, o := range options {
		if words := where[o.scope]; given[o.name] && !fits[o.scope] && words != "" {
			return probe.Usagef("", "--%s goes with %s", o.name, words)
		}
		variable := variableOf(o.name)
		value, _ := lookupEnv(variable)
		if given[o.name] || !fits[o.scope] || value == "" || o.name == "help" || o.name == "version" {
			continue
		}
		values := []string{value}
		if o.multi {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' })
		}
		before := len(c.specs)
		for _, v := range values {
			if err := probe.Within(variable, o.read(v)); err != nil {
				return err
			}
		}
		for i := before; i < len(c.specs); i++ {
			c.specs[i].Source = variable
		}
	}
	switch {
	case c.export != "" && !c.hasCommand && !c.wait.None():
		return probe.Usagef("leave it out: a sidecar reports from the start", "--wait goes with a probe or with a command behind --")
	case c.hasCommand && len(c.command) == 0:
		return probe.Usagef("name it, as in: healthcheck --export-prom :9091 -- uvicorn app:app", "no command behind --")
	case !c.hasCommand && len(c.specs) == 0:
		return probe.Usagef("name one, as in: healthcheck --http http://localhost:8080/health; healthcheck --help lists every option", "no check is named")
	}
	return nil
}

// flagError puts an error of package flag into our words. Its own hold values, and what it takes for an option may be one:
// -pSECRET. An unknown option is repeated only if it is near a known one. read is how many words were read.
func flagError(err error, options []option, read int) error {
	problem, dashed, _ := strings.Cut(err.Error(), ": ")
	name := strings.TrimPrefix(dashed, "-")
	if problem == "flag needs an argument" {
		return probe.Usagef("", "--%s: its value is missing", name)
	}
	if !strings.HasPrefix(problem, "flag provided") { // found before the word was taken off
		return probe.Usagef("", "malformed option, word %d of the command line", read+1)
	}
	if i := strings.IndexAny(name, " \t\n"); i >= 0 {
		name = name[:i] // what is behind it may be a secret
		if slices.ContainsFunc(options, func(o option) bool { return o.name == name }) {
			form := cmp.Or(valueForms[name], "VALUE")
			return probe.Usagef(fmt.Sprintf(`write two words: --%s %s; in a list "--%s", "%s"`, name, form, name, form),
				"--%s and its value are one word, word %d of the command line", name, read)
		}
	}
	if name == "v" || name == "V" {
		return probe.Usagef("did you mean --version?", "unknown option -%s", name)
	}
	nearest := nearestOption(name[:min(len(name), maxOptionName)], options)
	if nearest == "" {
		return probe.Usagef("", "unknown option, word %d of the command line", read)
	}
	return probe.Usagef("did you mean --"+nearest+"? healthcheck --help lists every option", "unknown option --%s", name)
}

// valueForms are the values of the checks as a hint shows them.
var valueForms = map[string]string{"http": "http://…", "tcp": "HOST:PORT", "redis": "redis://…", "postgres": "postgres://…"}

// nearestOption is the option whose name is at most two edits away from a name; "" if there is none. A word farther away is
// another.
func nearestOption(name string, options []option) (nearest string) {
	least := 3
	for _, o := range options {
		if d := distance(o.name, name); d < min(least, len(o.name)) {
			nearest, least = o.name, d
		}
	}
	return nearest
}

// mistypedVariables lists the environment variables whose names are one or two edits away from that of an option, each with that
// one. Values are not read.
func mistypedVariables(environ []string) (list [][2]string) {
	options := new(config).options()
	for i := range options {
		options[i].name = variableOf(options[i].name)
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if len(name) > len("HEALTHCHECK_")+maxOptionName || strings.Trim(strings.ToUpper(name), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			continue // far away, or not fit to be shown
		}
		if nearest := nearestOption(strings.ToUpper(name), options); nearest != "" && nearest != name {
			list = append(list, [2]string{name, nearest})
		}
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

// variableOf is the environment variable that holds an option's default.
func variableOf(option string) string {
	return "HEALTHCHECK_" + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}

// maxOptionName is longer than any option by more than a few edits, in bytes.
const maxOptionName = 32

// distance is Levenshtein's between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func (c *config) addCheck(kind string) func(string) error {
	return func(value string) error {
		c.specs = append(c.specs, probe.Spec{Type: kind, Value: value, Source: "--" + kind})
		return nil
	}
}

func text(field *string) func(string) error {
	return func(value string) error {
		*field = value
		return nil
	}
}

func list(field *[]string) func(string) error {
	return func(value string) error {
		*field = append(*field, value)
		return nil
	}
}

func boolean(field *bool) func(string) error {
	return func(value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return probe.Usagef("write true or false, or leave it out", "it is true or false")
		}
		*field = b
		return nil
	}
}

// isNumber reports whether s is a few digits: a port, or a duration whose unit was forgotten.
func isNumber(s string) bool { return s != "" && len(s) <= 6 && strings.Trim(s, "0123456789") == "" }

func duration(field *time.Duration, least time.Duration) func(string) error {
	return func(value string) error {
		d, err := time.ParseDuration(value)
		switch {
		case err != nil && isNumber(value):
			return probe.Usagef("write "+value+"s for seconds", "a duration has a unit")
		case err != nil:
			return probe.Usagef("write 5s, 500ms or 1m30s", "not a duration")
		case d < least:
			return probe.Usagef("write 5s, 500ms or 1m30s", "a duration of at least %v is wanted", least)
		}
		*field = d
		return nil
	}
}

func number(field *int, least, most int) func(string) error {
	return func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return probe.Usagef("write a whole number", "must be from %d to %d", least, most)
		}
		*field = n
		return nil
	}
}

// setWait reads DURATION, or NAME=DURATION for one check.
func (c *config) setWait(value string) error {
	name, limit, named := strings.Cut(value, "=")
	if !named {
		return duration(&c.wait.All, 0)(value)
	}
	var d time.Duration
	if err := duration(&d, 0)(limit); err != nil {
		return err
	}
	if c.wait.Named == nil {
		c.wait.Named = map[string]time.Duration{}
	}
	c.wait.Named[name] = d
	return nil
}

// setExport reads an address to listen on: a port alone means all addresses of this machine.
func (c *config) setExport(value string) error {
	if isNumber(value) {
		value = ":" + value
	}
	_, port, err := net.SplitHostPort(value)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
		return probe.Usagef("write :9091, 127.0.0.1:9091 or [::1]:9091", "not an address to listen on")
	}
	c.export = value
	return nil
}

func (c *config) addStopSignal(value string) error {
	came, sent, err := supervise.ParseStopSignal(value)
	if err != nil {
		return probe.Usagef("write TERM:INT, or TERM:0 to drop it", "%v", err)
	}
	c.stopSignals[came] = sent
	return nil
}

func (c *config) addSuccessStatus(value string) error {
	n, err := strconv.ParseUint(value, 10, 8)
	if err != nil {
		return probe.Usagef("as in --success-status 143", "a status is a number from 0 to 255")
	}
	c.successStatus = append(c.successStatus, int(n))
	return nil
}
