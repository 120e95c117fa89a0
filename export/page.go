package export

import (
	_ "embed" // page.css
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/supervise"
)

//go:embed page.css
var pageCSS string

// Statuses on the page alone.
const (
	waiting probe.Status = "waiting" // the command has not been started
	running probe.Status = "running" // the command runs, which says nothing of its health
	ended   probe.Status = "ended"   // the command has ended
)

// Colours of the favicon. They can be told from a light and a dark tab.
const (
	green = "2da44e"
	amber = "c27c00"
	red   = "d1242f"
	grey  = "7d8590"
)

// looks are the statuses as the page shows them. A status is also the class of its elements, which gives them their colour.
var looks = map[probe.Status]struct {
	headline string // of the page
	favicon  string // its colour
	word     string // on a card, as the command prints it
	count    string // in the summary
}{
	probe.Failed:   {"Unhealthy", red, "FAIL", "failed"},
	probe.Starting: {"Starting", amber, "starting", "starting"},
	probe.Degraded: {"Degraded", amber, "degraded", "degraded"},
	probe.OK:       {"Healthy", green, "ok", "ok"},
	probe.Unknown:  {"Running, nothing checked", grey, "", ""},
	waiting:        {"Waiting", amber, "waiting", ""},
	running:        {"", "", "running", ""},
	ended:          {"Ended", red, "ended", ""},
}

// checkOrder is the order of the checks, what is wrong first.
var checkOrder = []probe.Status{probe.Failed, probe.Starting, probe.Degraded, probe.OK}

// A pageWriter collects the page.
type pageWriter struct {
	strings.Builder
	now time.Time
}

// printf appends format, which is HTML, with each argument made printable and escaped.
func (p *pageWriter) printf(format string, args ...any) {
	for i, arg := range args {
		args[i] = escapeHTML.Replace(probe.Printable(fmt.Sprint(arg)))
	}
	fmt.Fprintf(&p.Builder, format, args...)
}

// escapeHTML is html.EscapeString, whose package would add the table of all entities, 70 KB of the binary.
var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// row appends a row to a card's list.
func (p *pageWriter) row(term, text string) { p.printf("<dt>%s</dt><dd>%s</dd>", term, text) }

// clock is a time in UTC, with its date unless that is today.
func (p *pageWriter) clock(t time.Time) string {
	const day, seconds = "2006-01-02 ", "15:04:05 UTC"
	if t = t.UTC(); t.Format(day) == p.now.UTC().Format(day) {
		return t.Format(seconds)
	}
	return t.Format(day + seconds)
}

// lasting is how long something has lasted, and since when.
func (p *pageWriter) lasting(since time.Time) string {
	return approximate(p.now.Sub(since)) + ", since " + p.clock(since)
}

// page answers / with the status page for people, what is wrong first. It needs no script: it asks the browser to reload it.
func (e *Exporter) page() answer {
	states, history, up := e.Monitor.States(nil), e.Monitor.History(), e.up()
	p := &pageWriter{now: time.Now()}
	status := e.pageStatus(states)
	e.writeHead(p, status)
	e.writeHeader(p, status, states)
	p.printf(`<main><div class="cards">`)
	if !up {
		e.writeCommandCard(p)
	}
	for _, status := range checkOrder {
		if status == probe.OK && e.Command != "" && up {
			e.writeCommandCard(p)
		}
		for i := range states {
			if states[i].Status == status {
				e.writeCheckCard(p, &states[i], history[i])
			}
		}
	}
	p.printf(`</div>`)
	e.writeReports(p)
	p.printf(`</main>`)
	e.writeFooter(p)
	return answer{http.StatusOK, typeHTML, []byte(p.String())}
}

// pageStatus is the verdict of /health, or why the command does not run if that decides the verdict.
func (e *Exporter) pageStatus(states []probe.State) probe.Status {
	verdict := e.verdict(states)
	switch {
	case e.ended():
		return ended
	case e.waiting() && verdict == probe.Starting:
		return waiting
	}
	return verdict
}

func (e *Exporter) writeHead(p *pageWriter, status probe.Status) {
	p.printf(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/><meta http-equiv="refresh" content="5"/>
<link rel="icon" href="data:image/svg+xml,%%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%%3E%%3Ccircle cx='8' cy='8' r='7' fill='%%23%s'/%%3E%%3C/svg%%3E"/>
<style>
`, looks[status].favicon)
	p.WriteString(pageCSS)
	p.printf(`</style>
<title>%s: %s</title></head><body>`, looks[status].headline, e.ServiceName)
}

// writeHeader writes whose page it is, the verdict, and a sentence about it.
func (e *Exporter) writeHeader(p *pageWriter, status probe.Status, states []probe.State) {
	p.printf(`<header class="%s"><p class="service"><strong>%s</strong> %s</p><h1>%s</h1><p>`, status, e.ServiceName, e.ServiceVersion, looks[status].headline)
	switch {
	case e.ended():
		p.printf(`The command has ended. `)
	case e.waiting():
		p.printf(`The command has not been started. %s`, e.waitedFor(p, states))
	}
	if len(states) == 0 {
		p.printf(`No check is configured. Set <code>HEALTHCHECK_HTTP=<wbr/>http://localhost:PORT/health</code> to add one.`)
	}
	var counts []string
	for _, status := range checkOrder {
		n := 0
		for i := range states {
			if states[i].Status == status {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, looks[status].count))
		}
	}
	if len(counts) > 0 {
		p.printf(`Checks: %s.`, strings.Join(counts, ", "))
	}
	p.printf(`</p></header>`)
}

// waitedFor is a sentence about the checks that the start of the command waits for, and until when.
func (e *Exporter) waitedFor(p *pageWriter, states []probe.State) string {
	names := map[time.Duration][]string{} // by limit
	for i := range states {
		if limit := e.Wait.Of(states[i].Check); limit > 0 && !states[i].Passed() {
			names[limit] = append(names[limit], states[i].Check.Name)
		}
	}
	var parts []string
	for _, limit := range slices.Sorted(maps.Keys(names)) {
		parts = append(parts, strings.Join(names[limit], ", ")+" until "+p.clock(e.began.Add(limit)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "Waiting for " + strings.Join(parts, "; ") + ". "
}

// writeCommandCard writes what is known of the command.
func (e *Exporter) writeCommandCard(p *pageWriter) {
	process, status := e.process.Load(), running // read once, since it may be started or end at any time
	switch {
	case process == nil:
		status = waiting
	case !process.Up():
		status = ended
	}
	p.printf(`<article class="%s"><h2><span>Command <code>%s</code></span> <b>%s</b></h2><dl>`, status, e.Command, looks[status].word)
	switch status {
	case running:
		p.row("uptime", p.lasting(process.Started()))
	case ended:
		p.row("started", p.clock(process.Started()))
	}
	if process != nil {
		if u, cores, err := e.usage.readCPU(process); err == nil && u.Processes != 0 {
			writeUsageRows(p, u, cores)
		}
	}
	p.printf(`</dl></article>`)
}

// writeUsageRows writes the resource usage of the command. What /proc does not tell is left out.
func writeUsageRows(p *pageWriter, u supervise.Usage, cores float64) {
	p.row("CPU", fmt.Sprintf("%.1f %% of one core", 100*cores))
	p.row("CPU time", fmt.Sprintf("%.2f s", u.UserSeconds+u.SystemSeconds))
	for _, r := range []struct {
		term, text string
		value      int64
	}{
		{"memory", formatBytes(u.ResidentBytes), u.ResidentBytes},
		{"processes", fmt.Sprint(u.Processes), u.Processes},
		{"threads", fmt.Sprint(u.Threads), u.Threads},
		{"descriptors", fmt.Sprintf("%d of %d", u.OpenFDs, u.MaxFDs), min(u.OpenFDs, u.MaxFDs)},
	} {
		if r.value >= 0 {
			p.row(r.term, r.text)
		}
	}
}

// writeCheckCard writes what is known of one check.
func (e *Exporter) writeCheckCard(p *pageWriter, s *probe.State, runs []probe.Run) {
	p.printf(`<article class="%s"><h2><span>%s</span> <b>%s</b></h2><p class="target">%s</p>`, s.Status, s.Check.Name, looks[s.Status].word, s.Check.Target)
	if s.Last.Check == nil {
		p.printf(`<p class="seen">not checked yet</p>`)
	} else {
		p.printf(`<p class="seen">%s</p>`, s.Last.Seen())
	}
	writeStrip(p, runs)
	writeDependencies(p, s.Last.Dependencies)
	p.printf(`<dl>`)
	if !s.Since.IsZero() {
		p.row(looks[s.Status].word+" for", p.lasting(s.Since))
	}
	if limit := e.Wait.Of(s.Check); e.waiting() && limit > 0 && !s.Passed() {
		until := e.began.Add(limit)
		p.row("waiting until", fmt.Sprintf("%s, %s left", p.clock(until), approximate(max(until.Sub(p.now), 0))))
	}
	if s.Last.Check != nil {
		p.row("last run", fmt.Sprintf("%s, at %s", probe.FormatDuration(s.Last.Duration), p.clock(s.Last.Start)))
	}
	if s.ConsecutiveFailures > 0 {
		last := "never"
		if !s.LastSuccess.IsZero() {
			last = approximate(p.now.Sub(s.LastSuccess)) + " ago, at " + p.clock(s.LastSuccess)
		}
		p.row("last ok", last)
		p.row("failures", fmt.Sprintf("%d in a row", s.ConsecutiveFailures))
	}
	p.printf(`</dl></article>`)
}

// Size of a strip of bars, in the units of its viewBox. One bar takes barStep of its width.
const (
	stripBars   = 60
	stripHeight = 32
	barStep     = 5
	barWidth    = 4
	barMin      = 3 // the least height of a bar
)

// maxReason is how many characters of what a run saw the title of its bar shows: a page has many of them.
const maxReason = 100

// writeStrip writes a bar for each run, the last one at the right. Its height is the duration, on a logarithmic scale that is the
// same for all checks: each fifth of the height is a factor of ten, from 0.1 ms to 10 s.
func writeStrip(p *pageWriter, runs []probe.Run) {
	if len(runs) == 0 {
		return
	}
	runs = runs[max(len(runs)-stripBars, 0):]
	failed, shortest, longest := 0, runs[0].Duration, runs[0].Duration
	for _, r := range runs {
		shortest, longest = min(shortest, r.Duration), max(longest, r.Duration)
		if r.Status == probe.Failed {
			failed++
		}
	}
	caption := "1 run, "
	if len(runs) > 1 {
		caption = fmt.Sprintf("last %d runs, %s to ", len(runs), probe.FormatDuration(shortest))
	}
	caption += probe.FormatDuration(longest)
	if failed > 0 {
		caption += fmt.Sprintf(", %d failed", failed)
	}
	p.printf(`<figure><svg role="img" aria-label="%s" viewBox="0 0 %v %v" preserveAspectRatio="none">`, caption, stripBars*barStep, stripHeight)
	for i, r := range runs {
		x, height := (stripBars-len(runs)+i)*barStep, barHeight(r.Duration)
		seen := []rune(r.Seen)
		if len(seen) > maxReason {
			seen = append(seen[:maxReason-1:maxReason-1], '…')
		}
		p.printf(`<g class="%s"><title>%s, %s: %s</title><path class="slot" d="M%v 0h%vv%vh-%vz"/><path d="M%v %vh%vv%vh-%vz"/></g>`,
			r.Status, p.clock(r.Start), probe.FormatDuration(r.Duration), string(seen),
			x, barWidth, stripHeight, barWidth, x, stripHeight-height, barWidth, height, barWidth)
	}
	p.printf(`</svg><figcaption>%s</figcaption></figure>`, caption)
}

func barHeight(d time.Duration) int {
	decades := math.Log10(max(d.Seconds(), 1e-4) / 1e-4)
	return min(max(int(decades*stripHeight/5), barMin), stripHeight)
}

// writeDependencies writes a chip for each dependency that a service reports, what is wrong first.
func writeDependencies(p *pageWriter, list []probe.Dependency) {
	if len(list) == 0 {
		return
	}
	p.printf(`<ul>`)
	for _, status := range checkOrder {
		for _, d := range list {
			if d.Status == status {
				p.printf(`<li class="%s">%s <b>%s</b></li>`, status, d.Name, status)
			}
		}
	}
	p.printf(`</ul>`)
}

func (e *Exporter) writeFooter(p *pageWriter) {
	p.printf(`<footer><nav><a href="/metrics">metrics</a> <a href="/health">health</a> <a href="/healthz">healthz</a></nav><p>healthcheck %s · %s UTC · refreshes every 5 s</p></footer></body></html>`+"\n",
		e.Version, p.now.UTC().Format("2006-01-02 15:04:05"))
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

// formatBytes is a size in the largest unit that leaves at least 1.
func formatBytes(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
