package export

import (
	_ "embed" // page.css
	"fmt"
	"net/http"
	"strings"
	"time"

	"alfred/healthcheck/probe"
)

//go:embed page.css
var pageCSS string

// unknown is the status of a check that has not run yet, on the page alone.
const unknown probe.Status = "unknown"

// A pageWriter collects the page.
type pageWriter struct{ strings.Builder }

// printf appends format, which is HTML, with each argument escaped.
func (p *pageWriter) printf(format string, args ...any) {
	for i, arg := range args {
		args[i] = escapeHTML.Replace(fmt.Sprint(arg))
	}
	fmt.Fprintf(&p.Builder, format, args...)
}

// escapeHTML is html.EscapeString, whose package would add the table of all entities, 70 KB of the binary.
var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// page answers / with the status page for people, what is wrong first. It needs no script: it asks the browser to reload it.
func (e *Exporter) page() answer {
	states := e.Monitor.States(nil)
	verdict := e.verdict(states)
	headline := map[probe.Status]string{probe.OK: "Healthy", probe.Degraded: "Degraded", probe.Failed: "Unhealthy"}[verdict]
	name := e.Command
	if e.Command == "" {
		name = "sidecar"
	} else if e.process.Load() == nil {
		headline = "Waiting"
	}
	var p pageWriter
	p.printf(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="5">
<style>
`)
	p.WriteString(pageCSS)
	p.printf(`</style>
<title>%s: %s</title></head><body><header class="%s"><h1>%s</h1><p>%s %s</p></header><main>`, headline, name, verdict, headline, name, e.ServiceVersion)
	if !e.up() {
		e.writeCommandCard(&p)
	}
	for _, status := range []probe.Status{probe.Failed, unknown, probe.Degraded, probe.OK} {
		if status == probe.OK && e.Command != "" && e.up() {
			e.writeCommandCard(&p)
		}
		for i := range states {
			if cardStatus(&states[i]) == status {
				writeCheckCard(&p, &states[i])
			}
		}
	}
	if len(states) == 0 {
		p.printf(`<p class="none">No checks are configured: whether the service runs is all that is known.</p>`)
	}
	e.writeReports(&p)
	p.printf(`</main><footer><a href="/metrics">metrics</a> <a href="/health">health</a> <a href="/healthz">healthz</a><p>healthcheck %s · %s UTC · refreshes every 5 s</p></footer></body></html>`+"\n",
		e.Version, time.Now().UTC().Format("2006-01-02 15:04:05"))
	return answer{http.StatusOK, typeHTML, []byte(p.String())}
}

// writeCommandCard writes what is known of the command.
func (e *Exporter) writeCommandCard(p *pageWriter) {
	process := e.process.Load()
	switch {
	case process == nil:
		p.printf(`<section class="unknown"><h2>Command <b>waiting to start</b></h2><dl>`)
	case process.Up():
		p.printf(`<section class="ok"><h2>Command <b>running</b></h2><dl><dt>uptime</dt><dd>%s</dd>`, approximate(time.Since(process.Started())))
	default:
		p.printf(`<section class="error"><h2>Command <b>ended</b></h2><dl>`)
	}
	if process != nil {
		if u, err := e.usage.read(process); err == nil {
			p.printf(`<dt>CPU time</dt><dd>%s s</dd>`, fmt.Sprintf("%.2f", u.UserSeconds+u.SystemSeconds))
			p.printf(`<dt>memory</dt><dd>%s MiB</dd><dt>processes</dt><dd>%v</dd>`, fmt.Sprintf("%.1f", float64(u.ResidentBytes)/(1<<20)), u.Processes)
		}
	}
	p.printf(`</dl></section>`)
}

// cardStatus is the status under which a check is shown.
func cardStatus(s *probe.State) probe.Status {
	if !s.Known() {
		return unknown
	}
	return s.Last.Status
}

// statusWords are the statuses as the command line prints them.
var statusWords = map[probe.Status]string{probe.OK: "ok", probe.Degraded: "degraded", probe.Failed: "FAIL", unknown: "not checked yet"}

// writeCheckCard writes what is known of one check.
func writeCheckCard(p *pageWriter, s *probe.State) {
	status := cardStatus(s)
	p.printf(`<section class="%s"><h2>%s <b>%s</b></h2><p class="target">%s</p>`, status, s.Check.Name, statusWords[status], s.Check.Target)
	if s.Known() {
		p.printf(`<p class="seen">%s</p><dl><dt>since</dt><dd>%s</dd><dt>took</dt><dd>%s ms</dd>`,
			s.Last.Seen(), approximate(time.Since(s.Since)), fmt.Sprintf("%.1f", s.Last.Duration.Seconds()*1000))
		if status == probe.Failed {
			last := "never"
			if !s.LastSuccess.IsZero() {
				last = approximate(time.Since(s.LastSuccess)) + " ago"
			}
			p.printf(`<dt>last ok</dt><dd>%s</dd><dt>failures</dt><dd>%v in a row</dd>`, last, s.ConsecutiveFailures)
		}
		p.printf(`</dl>`)
	}
	p.printf(`</section>`)
}

// approximate is a duration in its two largest units.
func approximate(d time.Duration) string {
	d = d.Round(time.Second)
	for _, u := range []struct {
		unit, rest time.Duration
		format     string
	}{{24 * time.Hour, time.Hour, "%d d %d h"}, {time.Hour, time.Minute, "%d h %d min"}, {time.Minute, time.Second, "%d min %d s"}} {
		if d >= u.unit {
			return fmt.Sprintf(u.format, d/u.unit, d%u.unit/u.rest)
		}
	}
	return fmt.Sprintf("%d s", d/time.Second)
}
