package export

import (
	"alfred/healthcheck/probe"
	"alfred/healthcheck/promtext"
)

// What probes of this container relayed is shown, not judged: it touches no verdict and no family of the wrapper's own checks.

// reportFamilies are the families about reports, each with its value.
var reportFamilies = []struct {
	name, help string
	value      func(r *probe.Report) float64
}{
	{"healthcheck_report_success", "Whether the last run of a probe inside the container passed, such as Docker's HEALTHCHECK.",
		func(r *probe.Report) float64 { return boolValue(r.Status != probe.Failed) }},
	{"healthcheck_report_timestamp_seconds", "When the last result of that probe was received, in Unix time.",
		func(r *probe.Report) float64 { return unixSeconds(r.Received) }},
	{"healthcheck_report_duration_seconds", "How long the last run of that probe took.",
		func(r *probe.Report) float64 { return r.Duration.Seconds() }},
}

// writeReportMetrics writes the families about reports. Without a report they are absent.
func (e *Exporter) writeReportMetrics(w *promtext.Writer) {
	reports := e.Reports.List()
	for _, f := range reportFamilies {
		w.Gauge(f.name, f.help)
		for i := range reports {
			r := &reports[i]
			w.Sample(f.value(r), label("check", r.Check), label("type", r.Type), label("target", r.Target))
		}
	}
}

// writeReports writes the reports under a heading of their own, if there are any.
func (e *Exporter) writeReports(p *pageWriter) {
	reports := e.Reports.List()
	if len(reports) == 0 {
		return
	}
	p.printf(`<section class="reports"><h2>Probes of this container</h2><p>The last result of each. It does not change the verdict above.</p><div class="cards">`)
	for _, r := range reports {
		p.printf(`<article class="%s"><h2><span>%s</span> <b>%s</b></h2><p class="target">%s</p><dl>`, r.Status, r.Check, looks[r.Status].word, r.Target)
		p.row("last run", probe.FormatDuration(r.Duration)+", received at "+p.clock(r.Received))
		p.printf(`</dl></article>`)
	}
	p.printf(`</div></section>`)
}
