package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/promtext"
	"alfred/healthcheck/supervise"
)

// Limits of the exported address. Its clients are scrapers and probes, who send a request of a few hundred bytes at once.
const (
	readTimeout    = 5 * time.Second   // a whole request, from the first byte or the connection's start
	writeTimeout   = 10 * time.Second  // a whole answer
	idleTimeout    = 100 * time.Second // between two requests of one connection; scrape intervals are mostly shorter
	maxHeaderBytes = 8 << 10
	maxConnections = 512 // or half of the file descriptors: the checks have the other half
	acceptPause    = 100 * time.Millisecond
)

// An exporter answers on the exported address. It joins what the monitor and the command know, and keeps nothing itself.
type exporter struct {
	monitor *probe.Monitor
	command []string // nil in a sidecar
	signals *supervise.Signals
	process atomic.Pointer[supervise.Process] // nil before CMD has been started
	version string                            // of the service
	build   [5]promtext.Label
	scrapes sync.Pool // of *scrape
	conns   connections
}

// A scrape is what one rendering needs and the next can use again.
type scrape struct {
	writer promtext.Writer
	states []probe.State
}

// revision is the source's, where the build was told: -ldflags "-X main.revision=…". Go's own stamp would make the bytes of a
// binary depend on the checkout.
var revision = "unknown"

func newExporter(monitor *probe.Monitor, command []string, signals *supervise.Signals, version string) *exporter {
	return &exporter{
		monitor: monitor, command: command, signals: signals, version: version,
		build: [5]promtext.Label{
			label("version", Version), label("revision", revision), label("goversion", runtime.Version()),
			label("goos", runtime.GOOS), label("goarch", runtime.GOARCH),
		},
		scrapes: sync.Pool{New: func() any { return new(scrape) }},
		conns:   connections{most: mostConnections()},
	}
}

func label(name, value string) promtext.Label { return promtext.Label{Name: name, Value: value} }

// A lastingListener goes on after an error of accept(2), for want of memory or descriptors. net/http would end with some of them.
type lastingListener struct{ net.Listener }

func (l lastingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		time.Sleep(acceptPause)
	}
}

// serve answers until the listener is closed.
func (e *exporter) serve(listener net.Listener) error {
	server := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(io.Discard, "", 0), // a client's mistakes are not the service's log
		ConnState:         e.conns.track,

		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * with 200
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	return server.Serve(lastingListener{listener})
}

// ServeHTTP answers the four paths.
func (e *exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		e.conns.busy(conn, true)
		defer e.conns.busy(conn, false)
	}
	s := e.scrapes.Get().(*scrape)
	defer e.scrapes.Put(s)
	pages := map[string]func(*scrape, *http.Request) (int, string, []byte){"/metrics": e.metrics, "/health": e.health, "/healthz": e.healthz, "/": e.page}
	page, ok := pages[r.URL.Path]
	status, contentType, body := http.StatusNotFound, "text/plain; charset=utf-8", []byte("not found; there are /, /metrics, /health and /healthz\n")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		status, body = http.StatusMethodNotAllowed, []byte("only GET and HEAD are allowed\n")
	case ok:
		status, contentType, body = page(s, r)
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.WriteHeader(status)
	w.Write(body) // net/http leaves it out for HEAD
}

// up reports whether the service runs: CMD, or in a sidecar healthcheck itself.
func (e *exporter) up() bool { return e.command == nil || e.process.Load().Up() }

// verdict is the status of /health: the worst of the checks, and an error unless the service runs. A check that has not run
// yet is not known to be healthy.
func (e *exporter) verdict(states []probe.State) probe.Status {
	worst := probe.OK
	if !e.up() {
		return probe.Failed
	}
	for i := range states {
		switch s := &states[i]; {
		case !s.Healthy():
			return probe.Failed
		case s.Last.Status == probe.Degraded:
			worst = probe.Degraded
		}
	}
	return worst
}

// health is /health, in the guide's form: a service for each check, and for each dependency that a check reports. A dependency of
// the same name as another entry goes by CHECK/DEPENDENCY, and the worse counts where that is another's, too.
func (e *exporter) health(*scrape, *http.Request) (int, string, []byte) {
	states := e.monitor.States(nil)
	verdict := e.verdict(states)
	b := []byte(`{"status":"` + string(verdict) + `","version":`)
	b = probe.AppendJSON(b, e.version)
	b = append(b, `,"services":{`...)
	var names []string
	services := map[string]probe.Status{}
	entry := func(name string, status probe.Status) {
		if known, ok := services[name]; ok {
			status = probe.Worse(status, known)
		} else {
			names = append(names, name)
		}
		services[name] = status
	}
	for _, s := range states {
		status := probe.Failed
		if s.Known() {
			status = s.Last.Status
		}
		entry(s.Check.Name, status)
	}
	for _, s := range states {
		for _, d := range s.Last.Dependencies {
			name := d.Name
			if _, ok := services[name]; ok {
				name = s.Check.Name + "/" + name
			}
			entry(name, d.Status)
		}
	}
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = probe.AppendJSON(b, name)
		b = probe.AppendJSON(append(b, ':'), string(services[name]))
	}
	b = append(b, "}}\n"...)
	if verdict == probe.Failed {
		return http.StatusServiceUnavailable, "application/json", b
	}
	return http.StatusOK, "application/json", b
}

// healthz is /healthz: liveness, whatever the checks say.
func (e *exporter) healthz(*scrape, *http.Request) (int, string, []byte) {
	if !e.up() {
		return http.StatusServiceUnavailable, "application/json", []byte(`{"status":"error"}` + "\n")
	}
	return http.StatusOK, "application/json", []byte(`{"status":"ok"}` + "\n")
}

// metrics is /metrics, in the format that the request asks for.
func (e *exporter) metrics(s *scrape, r *http.Request) (int, string, []byte) {
	format := promtext.Negotiate(r.Header.Values("Accept"))
	s.writer.Reset(format)
	s.states = e.monitor.States(s.states[:0])
	e.writeChecks(&s.writer, s.states)
	if e.command != nil {
		e.writeCommand(&s.writer)
	}
	e.writeSelf(&s.writer)
	body, _ := s.writer.Finish() // what it refuses is left out; a test holds that it refuses nothing
	return http.StatusOK, format.ContentType(), body
}

// value is a status as a number: 1, 0.5, 0.
func value(s probe.Status) float64 {
	switch s {
	case probe.OK:
		return 1
	case probe.Degraded:
		return 0.5
	}
	return 0
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// writeChecks writes the families about the service and its checks.
func (e *exporter) writeChecks(w *promtext.Writer, states []probe.State) {
	w.Gauge("service_up", "Whether the service runs.")
	w.Sample(truth(e.up()))
	w.Gauge("service_health", "Verdict of /health: 1 ok, 0.5 degraded, 0 error.")
	w.Sample(value(e.verdict(states)))

	// each writes one family with a sample for each check that the function has a value for.
	each := func(sample func(s *probe.State) (float64, bool), withType bool) {
		for i := range states {
			v, ok := sample(&states[i])
			if !ok {
				continue
			}
			c := states[i].Check
			if withType {
				w.Sample(v, label("check", c.Name), label("type", c.Type))
			} else {
				w.Sample(v, label("check", c.Name))
			}
		}
	}
	w.Gauge("probe_success", "Whether the last run of the check passed.")
	each(func(s *probe.State) (float64, bool) { return truth(s.Healthy()), s.Known() }, true)
	w.Gauge("probe_duration_seconds", "How long the last run of the check took.")
	each(func(s *probe.State) (float64, bool) { return s.Last.Duration.Seconds(), s.Known() }, true)
	w.Gauge("probe_http_status_code", "Status of the last answer to an HTTP check, 0 where there was none.")
	each(func(s *probe.State) (float64, bool) {
		return float64(s.Last.HTTPStatus), s.Known() && s.Check.Type == "http"
	}, false)
	w.Gauge("probe_ssl_earliest_cert_expiry", "When the first of the certificates that the server showed ends, in Unix time.")
	each(func(s *probe.State) (float64, bool) {
		return float64(s.Last.CertExpiry.Unix()), !s.Last.CertExpiry.IsZero()
	}, false)
	w.Gauge("healthcheck_check_info", "What each check is about; target is without secrets.")
	for i := range states {
		c := states[i].Check
		w.Sample(1, label("check", c.Name), label("type", c.Type), label("target", c.Target))
	}
	w.Counter("healthcheck_check_runs_total", "Runs of each check by their result.")
	for i := range states {
		s := &states[i]
		name, kind := label("check", s.Check.Name), label("type", s.Check.Type)
		w.Sample(float64(s.Successes), name, kind, label("result", "success"))
		w.Sample(float64(s.Failures), name, kind, label("result", "failure"))
		w.Sample(float64(s.Timeouts), name, kind, label("result", "timeout"))
	}
	w.Gauge("healthcheck_check_consecutive_failures", "Runs since the last one that passed.")
	each(func(s *probe.State) (float64, bool) { return float64(s.ConsecutiveFailures), true }, true)
	w.Gauge("healthcheck_check_last_success_timestamp_seconds", "When the check last passed, in Unix time.")
	each(func(s *probe.State) (float64, bool) { return unixSeconds(s.LastSuccess), !s.LastSuccess.IsZero() }, true)
	w.Gauge("healthcheck_dependency_health", "What an HTTP check's answer reports of each dependency: 1 ok, 0.5 degraded, 0 error.")
	for i := range states {
		for _, d := range states[i].Last.Dependencies {
			w.Sample(value(d.Status), label("check", states[i].Check.Name), label("dependency", d.Name))
		}
	}
}

// writeCommand writes the families about CMD and its descendants. What /proc does not tell is left out.
func (e *exporter) writeCommand(w *promtext.Writer) {
	w.Gauge("healthcheck_command_up", "Whether CMD runs.")
	w.Sample(truth(e.process.Load().Up()))
	w.Gauge("healthcheck_command_start_time_seconds", "When CMD was started, in Unix time.")
	if started := e.process.Load().Started(); !started.IsZero() {
		w.Sample(unixSeconds(started))
	}
	if u, err := e.process.Load().Usage(); err == nil {
		for _, g := range []struct {
			name, help string
			value      int64
		}{
			{"healthcheck_command_processes", "Processes of CMD and its descendants.", u.Processes},
			{"healthcheck_command_threads", "Threads of CMD and its descendants.", u.Threads},
			{"healthcheck_command_open_fds", "Open file descriptors of CMD and its descendants.", u.OpenFDs},
			{"healthcheck_command_max_fds", "Soft limit of file descriptors of CMD.", u.MaxFDs},
			{"healthcheck_command_resident_memory_bytes", "Resident memory of CMD and its descendants.", u.ResidentBytes},
			{"healthcheck_command_virtual_memory_bytes", "Virtual memory of CMD and its descendants.", u.VirtualBytes},
		} {
			w.Gauge(g.name, g.help)
			if g.value >= 0 {
				w.Sample(float64(g.value))
			}
		}
		w.Counter("healthcheck_command_cpu_seconds_total", "CPU time of CMD and its descendants, with those that have ended.")
		w.Sample(u.UserSeconds, label("mode", "user"))
		w.Sample(u.SystemSeconds, label("mode", "system"))
	}
	w.Counter("healthcheck_orphans_reaped_total", "Processes reaped other than CMD.")
	w.Sample(float64(e.signals.Orphans()))
	w.Counter("healthcheck_signals_forwarded_total", "Signals passed on to CMD.")
	for name, n := range e.process.Load().Forwarded() {
		w.Sample(float64(n), label("signal", name))
	}
}

// writeSelf writes the families about healthcheck itself.
func (e *exporter) writeSelf(w *promtext.Writer) {
	self := supervise.Self()
	w.Counter("healthcheck_process_cpu_seconds_total", "CPU time of healthcheck itself.")
	w.Sample(self.CPUSeconds)
	w.Gauge("healthcheck_process_resident_memory_bytes", "Resident memory of healthcheck itself.")
	if self.ResidentBytes >= 0 {
		w.Sample(float64(self.ResidentBytes))
	}
	w.Gauge("healthcheck_process_start_time_seconds", "When healthcheck itself was started, in Unix time.")
	w.Sample(unixSeconds(self.Started))
	w.Gauge("healthcheck_build_info", "Which healthcheck this is.")
	w.Sample(1, e.build[:]...)
}

// page is /: what is wrong first, for people. It needs no script, and asks the browser to load it again.
func (e *exporter) page(*scrape, *http.Request) (int, string, []byte) {
	states := e.monitor.States(nil)
	verdict := e.verdict(states)
	name := "sidecar"
	if e.command != nil {
		name = filepath.Base(e.command[0]) // not its arguments: they can be secrets
	}
	headline := map[probe.Status]string{probe.OK: "Healthy", probe.Degraded: "Degraded", probe.Failed: "Unhealthy"}[verdict]
	if e.command != nil && e.process.Load().Started().IsZero() {
		headline = "Waiting"
	}
	var b strings.Builder
	write := func(parts ...string) {
		for _, p := range parts {
			b.WriteString(p)
		}
	}
	text := escapeHTML.Replace
	write(pageHead, `<title>`, headline, `: `, text(name), `</title></head><body><header class="`, string(verdict), `"><h1>`, headline, `</h1><p>`, text(name), ` `, text(e.version), `</p></header><main>`)
	if !e.up() {
		e.writeCommandCard(write)
	}
	for _, status := range []probe.Status{probe.Failed, "unknown", probe.Degraded, probe.OK} {
		if status == probe.OK && e.command != nil && e.up() {
			e.writeCommandCard(write)
		}
		for i := range states {
			writeCheckCard(write, text, &states[i], status)
		}
	}
	if len(states) == 0 {
		write(`<p class="none">No checks are configured: whether the service runs is all that is known.</p>`)
	}
	write(`</main><footer><a href="/metrics">metrics</a> <a href="/health">health</a> <a href="/healthz">healthz</a><p>healthcheck `, Version, ` · `, time.Now().UTC().Format("2006-01-02 15:04:05"), ` UTC · refreshes every 5 s</p></footer></body></html>`+"\n")
	return http.StatusOK, "text/html; charset=utf-8", []byte(b.String())
}

// escapeHTML is html.EscapeString, whose package would bring the table of all entities, 70 KB of the binary.
var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// writeCommandCard writes what is known of CMD.
func (e *exporter) writeCommandCard(write func(...string)) {
	state, class := "running", "ok"
	switch {
	case e.process.Load().Started().IsZero():
		state, class = "waiting to start", "unknown"
	case !e.process.Load().Up():
		state, class = "ended", "error"
	}
	write(`<section class="`, class, `"><h2>Command <b>`, state, `</b></h2><dl>`)
	if e.process.Load().Up() {
		write(`<dt>uptime</dt><dd>`, span(time.Since(e.process.Load().Started())), `</dd>`)
	}
	if u, err := e.process.Load().Usage(); err == nil && class != "unknown" {
		write(`<dt>CPU time</dt><dd>`, strconv.FormatFloat(u.UserSeconds+u.SystemSeconds, 'f', 2, 64), ` s</dd><dt>memory</dt><dd>`,
			strconv.FormatFloat(float64(u.ResidentBytes)/(1<<20), 'f', 1, 64), ` MiB</dd><dt>processes</dt><dd>`, strconv.FormatInt(u.Processes, 10), `</dd>`)
	}
	write(`</dl></section>`)
}

// writeCheckCard writes one check if it is of the given status.
func writeCheckCard(write func(...string), text func(string) string, s *probe.State, status probe.Status) {
	actual := s.Last.Status
	if !s.Known() {
		actual = "unknown"
	}
	if actual != status {
		return
	}
	word := map[probe.Status]string{probe.OK: "ok", probe.Degraded: "degraded", probe.Failed: "FAIL", "unknown": "not checked yet"}[status]
	write(`<section class="`, string(status), `"><h2>`, text(s.Check.Name), ` <b>`, word, `</b></h2><p class="target">`, text(s.Check.Target), `</p>`)
	if s.Known() {
		write(`<p class="seen">`, text(s.Last.Seen()), `</p><dl><dt>since</dt><dd>`, span(time.Since(s.Since)), `</dd><dt>took</dt><dd>`,
			strconv.FormatFloat(s.Last.Duration.Seconds()*1000, 'f', 1, 64), ` ms</dd>`)
		if status == probe.Failed {
			last := "never"
			if !s.LastSuccess.IsZero() {
				last = span(time.Since(s.LastSuccess)) + " ago"
			}
			write(`<dt>last ok</dt><dd>`, last, `</dd><dt>failures</dt><dd>`, strconv.FormatUint(s.ConsecutiveFailures, 10), ` in a row</dd>`)
		}
		write(`</dl>`)
	}
	write(`</section>`)
}

// span is a duration for people, in its two largest units.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	for _, u := range []struct {
		unit, rest time.Duration
		a, b       string
	}{{24 * time.Hour, time.Hour, " d ", " h"}, {time.Hour, time.Minute, " h ", " min"}, {time.Minute, time.Second, " min ", " s"}} {
		if d >= u.unit {
			return strconv.Itoa(int(d/u.unit)) + u.a + strconv.Itoa(int(d%u.unit/u.rest)) + u.b
		}
	}
	return strconv.Itoa(int(d/time.Second)) + " s"
}

const pageHead = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="5">
<style>
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--fg:#1c2126;--dim:#5a6570;--ok:#1a7f37;--warn:#9a6700;--bad:#c62828;--line:#d8dee4}
@media(prefers-color-scheme:dark){:root{--bg:#0f1317;--card:#191f25;--fg:#e6eaee;--dim:#9aa6b2;--ok:#4ac26b;--warn:#d4a72c;--bad:#ff6b61;--line:#2d353d}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.45 system-ui,sans-serif}
header,main,footer{max-width:1100px;margin:0 auto;padding:16px}
h1{margin:0;font-size:2rem}h2{margin:0;font-size:1.05rem;display:flex;justify-content:space-between;gap:12px;overflow-wrap:anywhere}
h2 b{white-space:nowrap}header p{margin:0;color:var(--dim);overflow-wrap:anywhere}
main{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr))}
section{background:var(--card);border:1px solid var(--line);border-left:6px solid var(--dim);border-radius:6px;padding:12px 14px;min-width:0}
.ok{border-left-color:var(--ok)}.degraded{border-left-color:var(--warn)}.error{border-left-color:var(--bad)}
header.ok h1,.ok b{color:var(--ok)}header.degraded h1,.degraded b{color:var(--warn)}header.error h1,.error b{color:var(--bad)}
.target,.seen{margin:4px 0;overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:.85rem}.target{color:var(--dim)}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 12px;margin:8px 0 0;font-size:.9rem}dt{color:var(--dim)}dd{margin:0}
a{color:inherit;margin-right:14px}footer p,.none{color:var(--dim)}
</style>
`

// connKey is the context key of a request's connection.
type connKey struct{}

// connections bounds how many clients are connected at once. One too many costs the one that has been silent longest
// its connection, so that those that hold on to theirs do not keep a scraper out.
type connections struct {
	most int
	mu   sync.Mutex // guards list
	list []*connection
}

// mostConnections is how many clients may be connected at once.
func mostConnections() int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil {
		return maxConnections
	}
	return int(max(1, min(maxConnections, files.Cur/2)))
}

type connection struct {
	net.Conn
	busy bool // a request is being answered
}

// track is http.Server's ConnState hook.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.index(conn)
	switch {
	case state == http.StateNew:
		c.list = append(c.list, &connection{Conn: conn})
		if len(c.list) > c.most {
			c.closeOldest()
		}
	case i >= 0 && (state == http.StateClosed || state == http.StateHijacked):
		c.list = append(c.list[:i], c.list[i+1:]...)
	case i >= 0 && state == http.StateIdle: // it has spoken: the youngest again
		c.list = append(append(c.list[:i:i], c.list[i+1:]...), c.list[i])
	}
}

// closeOldest closes the first connection that is not being answered. Its StateClosed follows.
func (c *connections) closeOldest() {
	for _, old := range c.list {
		if !old.busy {
			old.busy = true // closed once
			old.Close()
			return
		}
	}
}

func (c *connections) busy(conn net.Conn, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.index(conn); i >= 0 {
		c.list[i].busy = is
	}
}

func (c *connections) index(conn net.Conn) int {
	for i, known := range c.list {
		if known.Conn == conn {
			return i
		}
	}
	return -1
}
