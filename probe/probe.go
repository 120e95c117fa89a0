// Package probe checks whether a service can do its work: an HTTP endpoint, a TCP port, a Redis or a PostgreSQL
// server. A check is parsed once from the value of its option and can then run any number of times, each
// under one deadline that covers everything from name look-up to the last byte, and leaves nothing behind.
//
// The protocols are those of package wire, and HTTP/1.1 as net/http speaks it.
//
// [RelayReports] and [ListenReports] carry the results of probes in a container to the wrapper at PID 1; relay.go draws the message.
//
// Limits: a check holds at most 64 KiB of what a peer sends, and one connection per address tried. Texts from a peer are
// cut, escaped to one printable line, and freed of every secret that the check knows, before they reach a Result.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"alfred/healthcheck/wire"
)

// A Status is the verdict on a check: OK, Degraded or Failed, in the words of the platform's /health.
type Status string

const (
	OK       Status = "ok"
	Degraded Status = "degraded" // healthy, and the service says that something is amiss
	Failed   Status = "error"
)

// A Phase is the stage in which a check failed.
type Phase string

const (
	PhaseResolve Phase = "resolve"
	PhaseConnect Phase = "connect"
	PhaseTLS     Phase = "tls"
	PhaseAuth    Phase = "auth"
	PhaseReply   Phase = "reply"
)

// A Dependency is what a service says of one thing that it needs.
type Dependency struct {
	Name   string
	Status Status
}

// A Result is what one run of a check saw. Its texts are printable, of one line, and hold no secret.
type Result struct {
	Check    *Check
	Status   Status
	Phase    Phase  // where it failed; empty unless Status is Failed
	Message  string // what was seen
	Detail   string // what the peer's answer says of the failure; may be private, so never exported
	Remedy   string // what to do about the failure if that is obvious: "use https://"
	TimedOut bool   // it failed because its deadline passed
	Start    time.Time
	Duration time.Duration

	HTTPStatus   int       // of the final answer; 0 where there was none
	CertExpiry   time.Time // the earliest end among the peer's certificates; zero without TLS
	Dependencies []Dependency
}

// Seen is what was seen, without the detail: its phase, message and remedy as the status page shows them.
func (r *Result) Seen() string { return r.line("", MaxLine) }

// MaxLine is a limit for Line that leaves room for all its texts, in bytes.
const MaxLine = 600

// Line is what was seen, with the detail, as the lines of the command and the log show it. It takes at most limit bytes.
func (r *Result) Line(limit int) string { return r.line(r.Detail, limit) }

// line joins the texts. If they are too long the message is cut first.
func (r *Result) line(detail string, limit int) string {
	head := r.Message
	switch {
	case r.Phase != "":
		head = string(r.Phase) + ": " + head
	case r.Status == Degraded:
		head = "degraded: " + head
	}
	tail := ""
	if detail != "" {
		tail = ": " + detail
	}
	if r.Remedy != "" {
		tail += " (" + r.Remedy + ")"
	}
	if len(tail) <= limit/2 {
		return cut(head, limit-len(tail)) + tail
	}
	return cut(head+tail, limit)
}

// A Check is one target and how to judge it. It is safe for concurrent use.
type Check struct {
	Name   string
	Type   string // one of Types
	Target string // for people: without user-info that could be a secret, query values masked

	address string // HOST:PORT of an http or tcp check, empty for a socket
	plain   string // the remedy for TLS with a server that has none, "use http://"; may be empty
	secure  string // the remedy for plain text with a server that wants TLS, "use https://"; may be empty
	timeout time.Duration
	redact  redactor
	probe   prober
}

// Options are what the checks have in common. The zero value is usable but for Timeout.
type Options struct {
	Timeout time.Duration // of one whole check

	HTTPMethod  string   // default GET
	HTTPHeaders []string // "K: V"; ${VAR} and ${file:…} in V are replaced
	HTTPStatus  string   // accepted: "200-299,401"; default 200-299
	HTTPBody    string   // regular expression that the body must match

	TLS TLSOptions

	UserAgent string
	LookupEnv func(string) (string, bool) // os.LookupEnv, for defaults and ${VAR}
}

// A Spec is a check as it is written on the command line.
type Spec struct {
	Type   string // one of Types
	Value  string // [NAME=]value
	Source string // where it was written, for errors: "--redis", "HEALTHCHECK_REDIS"
}

// Types are the types of check, in the order in which the environment is read.
var Types = []string{"http", "tcp", "redis", "postgres"}

// A UsageError says what is wrong with an option and what to write in its place. It never holds
// a secret, nor anything of a value that could be one.
type UsageError struct {
	What string
	Hint string
}

func (e *UsageError) Error() string { return e.What }

// Usagef returns a UsageError whose What is formatted. The hint is what to write in its place, or
// empty.
func Usagef(hint, format string, args ...any) *UsageError {
	return &UsageError{What: fmt.Sprintf(format, args...), Hint: hint}
}

// Within puts where the error is, an option or a variable, in front of a *UsageError. It returns
// other errors unchanged.
func Within(where string, err error) error {
	var u *UsageError
	if errors.As(err, &u) {
		return &UsageError{What: where + ": " + u.What, Hint: u.Hint}
	}
	return err
}

// BeginsWithQuote reports whether a value begins with a quote, as it does if it was quoted once too often.
func BeginsWithQuote(value string) bool {
	return strings.HasPrefix(value, `"`) || strings.HasPrefix(value, "'")
}

// ErrQuote is for a value that begins with a quote.
var ErrQuote = Usagef(`leave out the quotes that are part of it: in a file of variables NAME=value, in YAML NAME: "value" or ["--option", "value"]`,
	"the value begins with a quote")

// Parse makes checks of specs, in their order. It reads the files and variables that they name, and does not touch
// the network. Its error is a *UsageError.
func Parse(specs []Spec, o Options) ([]*Check, error) {
	env, err := o.prepare()
	if err != nil {
		return nil, err
	}
	parsers := map[string]func(*environment, *Check, expanded) error{
		"http": parseHTTP, "tcp": parseTCP, "redis": parseRedis, "postgres": parsePostgres,
	}
	var checks []*Check
	unnamed := map[string]int{}
	for _, spec := range specs {
		c := &Check{Type: spec.Type, timeout: o.Timeout}
		name, value, invalid := cutName(spec.Value)
		switch {
		case name != "":
			c.Name = name
		case invalid:
			return nil, Usagef("a name is a letter or _ and then letters, digits, _ and -, as in "+spec.Source+" main_db=…", "%s: the name before = is not valid", spec.Source)
		default:
			unnamed[c.Type]++
			c.Name = c.Type
			if n := unnamed[c.Type]; n > 1 {
				c.Name = fmt.Sprintf("%s-%d", c.Type, n)
			}
		}
		where := spec.Source
		if c.Name != c.Type && (name == "" || strings.ContainsAny(value, ":$")) { // else it may be no name, but a password in base64
			where += " " + c.Name
		}
		if len(c.Name) > maxName {
			return nil, Usagef("choose a shorter one", "%s: the name before = is longer than %d characters", spec.Source, maxName)
		}
		if slices.ContainsFunc(checks, func(other *Check) bool { return other.Name == c.Name }) {
			return nil, Usagef("give each check a name of its own, as in "+spec.Source+" NAME=…", "%s: two checks are named %s", spec.Source, c.Name)
		}
		if BeginsWithQuote(value) {
			return nil, Within(where, ErrQuote)
		}
		x, err := env.expand(c.Type, value)
		if err != nil {
			return nil, Within(where, err)
		}
		c.redact.add(x.secrets...)
		if err := checkSpaces(c.Type, x.text); err != nil {
			return nil, Within(where, err)
		}
		if err := parsers[c.Type](env, c, x); err != nil {
			return nil, Within(where, err)
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// maxName is the longest name of a check, in bytes, so that a line keeps room for what was seen.
const maxName = 64

// cutName cuts NAME= off a value. A NAME is a letter or _ and then letters, digits, _ and -.
// Anything else before the = of a URL is reported as invalid. PASSWORD=@HOST, a URL without its
// scheme, has no name, since names are shown.
func cutName(value string) (name, rest string, invalid bool) {
	name, rest, ok := strings.Cut(value, "=")
	url := strings.HasPrefix(rest, "${") || strings.Contains(rest, "://")
	if !ok || strings.ContainsAny(name, "/:?#@$") || !url && strings.Contains(rest, "@") {
		return "", value, false
	}
	if name != "" && !isIdentifier(name, "-") {
		return "", value, strings.Contains(rest, "://")
	}
	return name, rest, name == ""
}

// isIdentifier reports whether s is a letter or _ and then letters, digits, _ and the bytes in
// others.
func isIdentifier(s, others string) bool {
	return wire.ConsistsOf(s, "_"+others) && s[0] != '-' && (s[0] < '0' || s[0] > '9')
}

// CheckTargets returns a *UsageError if a check connects to the wrapper's own listener, since a failing verdict would then
// never recover.
func CheckTargets(checks []*Check, listener netip.AddrPort) error {
	for _, c := range checks {
		if c.ConnectsTo(listener) {
			return Usagef("name the service's own address, as in --http http://localhost:8080/health",
				"check %s: its target is the address of --export-prom, so a failing verdict would never recover", c.Name)
		}
	}
	return nil
}

// ConnectsTo reports whether the check, by http or tcp, connects to an address on which this machine listens.
func (c *Check) ConnectsTo(listener netip.AddrPort) bool {
	host, port, err := net.SplitHostPort(c.address)
	if err != nil || port != strconv.Itoa(int(listener.Port())) {
		return false
	}
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && (addr.IsLoopback() || addr.IsUnspecified() || addr.Unmap() == listener.Addr().Unmap())
}

// Run runs the check once and blocks until it has a result, at its deadline or when ctx is done at the latest.
func (c *Check) Run(ctx context.Context) Result {
	r := &run{Result: Result{Check: c, Status: OK, Start: time.Now()}}
	ctx, cancel := context.WithDeadline(ctx, r.Start.Add(c.timeout))
	defer cancel()
	deadline, _ := ctx.Deadline()
	r.allowed = deadline.Sub(r.Start)
	f := c.probe(ctx, r)
	r.Duration = time.Since(r.Start)
	if f != nil {
		r.Status, r.Phase, r.Message, r.TimedOut = Failed, f.phase, f.text, f.timedOut
		r.Detail, r.Remedy = f.detail, f.remedy
	}
	r.Message = cut(r.Message, maxMessage)
	return r.Result
}

// A prober does the work of one type of check. It fills in what it saw, and returns a failure
// unless the target is healthy. The context's deadline bounds it.
type prober func(ctx context.Context, r *run) *failure

// A run is a check under way.
type run struct {
	Result
	allowed time.Duration // how long a peer may take, as a timeout reports it; 0: not reported
}

// clean makes words of the peer fit for a Result.
func (r *run) clean(s string) string { return r.Check.redact.clean(s) }

// RunAll runs all checks at once and returns their results in the same order.
func RunAll(ctx context.Context, checks []*Check) []Result {
	results := make([]Result, len(checks))
	if len(checks) == 1 {
		results[0] = checks[0].Run(ctx)
		return results
	}
	done := make(chan struct{})
	for i, c := range checks {
		go func() { // ends at the check's deadline
			results[i] = c.Run(ctx)
			done <- struct{}{}
		}()
	}
	for range checks {
		<-done
	}
	return results
}

// Verdict is the worst status among results; OK where there are none.
func Verdict(results []Result) Status {
	verdict := OK
	for _, r := range results {
		verdict = Worse(verdict, r.Status)
	}
	return verdict
}

// Worse is the worse of two statuses.
func Worse(a, b Status) Status {
	for _, s := range []Status{Failed, Degraded} {
		if a == s || b == s {
			return s
		}
	}
	return OK
}
