package export

import (
	"net/http"
	"sync"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/promtext"
	"alfred/healthcheck/supervise"
)

// metrics answers /metrics in the format that the Accept header asks for.
func (e *Exporter) metrics(s *scrape, accept []string) answer {
	format := promtext.Negotiate(accept)
	s.writer.Reset(format)
	s.states = e.Monitor.States(s.states[:0])
	e.writeService(&s.writer, s.states)
	writeChecks(&s.writer, s.states)
	e.writeReportMetrics(&s.writer)
	if e.Command != "" {
		e.writeCommand(&s.writer)
	}
	e.writeSelf(&s.writer)
	body, _ := s.writer.Finish() // never fails: a test checks that the writer accepts every family
	return answer{http.StatusOK, format.ContentType(), body}
}

func label(name, value string) promtext.Label { return promtext.Label{Name: name, Value: value} }

// statusValue returns a status as a number: 1, 0.5 or 0.
func statusValue(s probe.Status) float64 {
	switch s {
	case probe.OK:
		return 1
	case probe.Degraded:
		return 0.5
	}
	return 0
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (e *Exporter) writeService(w *promtext.Writer, states []probe.State) {
	w.Gauge("service_up", "Whether the service runs.")
	w.Sample(boolValue(e.up()))
	if verdict := e.verdict(states); verdict != probe.Starting && verdict != probe.Unknown {
		w.Gauge("service_health", "Verdict of /health: 1 ok, 0.5 degraded, 0 error. Absent while a check is starting or none is configured.")
		w.Sample(statusValue(verdict))
	}
}

// A family is one row of the table of metrics about checks. sample writes the samples of one check,
// if there are any.
type family struct {
	declare    func(w *promtext.Writer, name, help string)
	name, help string
	sample     func(w *promtext.Writer, s *probe.State)
}

var (
	gauge   = (*promtext.Writer).Gauge
	counter = (*promtext.Writer).Counter
)

func checkLabel(s *probe.State) promtext.Label { return label("check", s.Check.Name) }
func typeLabel(s *probe.State) promtext.Label  { return label("type", s.Check.Type) }

var checkFamilies = []family{
	{gauge, "probe_success", "Whether the last run of the check passed.", func(w *promtext.Writer, s *probe.State) {
		if s.Known() {
			w.Sample(boolValue(s.Passed()), checkLabel(s), typeLabel(s))
		}
	}},
	{gauge, "probe_duration_seconds", "How long the last run of the check took.", func(w *promtext.Writer, s *probe.State) {
		if s.Known() {
			w.Sample(s.Last.Duration.Seconds(), checkLabel(s), typeLabel(s))
		}
	}},
	{gauge, "probe_http_status_code", "Status of the last answer to an HTTP check, 0 where there was none.", func(w *promtext.Writer, s *probe.State) {
		if s.Known() && s.Check.Type == "http" {
			w.Sample(float64(s.Last.HTTPStatus), checkLabel(s))
		}
	}},
	{gauge, "probe_ssl_earliest_cert_expiry", "When the first of the certificates that the server showed ends, in Unix time.", func(w *promtext.Writer, s *probe.State) {
		if !s.Last.CertExpiry.IsZero() {
			w.Sample(float64(s.Last.CertExpiry.Unix()), checkLabel(s))
		}
	}},
	{gauge, "probe_failure_info", "The phase in which the last run of a check failed, 1 while it fails.", func(w *promtext.Writer, s *probe.State) {
		if s.Known() && s.Last.Status == probe.Failed {
			w.Sample(1, checkLabel(s), typeLabel(s), label("phase", string(s.Last.Phase)))
		}
	}},
	{gauge, "healthcheck_check_info", "What each check is about; target is without secrets.", func(w *promtext.Writer, s *probe.State) {
		w.Sample(1, checkLabel(s), typeLabel(s), label("target", s.Check.Target))
	}},
	{counter, "healthcheck_check_runs_total", "Runs of each check by their result.", func(w *promtext.Writer, s *probe.State) {
		w.Sample(float64(s.Successes), checkLabel(s), typeLabel(s), label("result", "success"))
		w.Sample(float64(s.Failures), checkLabel(s), typeLabel(s), label("result", "failure"))
		w.Sample(float64(s.Timeouts), checkLabel(s), typeLabel(s), label("result", "timeout"))
	}},
	{gauge, "healthcheck_check_consecutive_failures", "Runs since the last one that passed.", func(w *promtext.Writer, s *probe.State) {
		w.Sample(float64(s.ConsecutiveFailures), checkLabel(s), typeLabel(s))
	}},
	{gauge, "healthcheck_check_last_success_timestamp_seconds", "When the check last passed, in Unix time.", func(w *promtext.Writer, s *probe.State) {
		if !s.LastSuccess.IsZero() {
			w.Sample(unixSeconds(s.LastSuccess), checkLabel(s), typeLabel(s))
		}
	}},
	{gauge, "healthcheck_dependency_health", "What an HTTP check's answer reports of each dependency: 1 ok, 0.5 degraded, 0 error.", func(w *promtext.Writer, s *probe.State) {
		if !s.Known() {
			return
		}
		for _, d := range s.Last.Dependencies {
			w.Sample(statusValue(d.Status), checkLabel(s), label("dependency", d.Name))
		}
	}},
}

func writeChecks(w *promtext.Writer, states []probe.State) {
	for _, f := range checkFamilies {
		f.declare(w, f.name, f.help)
		for i := range states {
			f.sample(w, &states[i])
		}
	}
}

// writeCommand writes the families about the command and its descendants. A value that /proc does
// not provide is omitted.
func (e *Exporter) writeCommand(w *promtext.Writer) {
	p := e.process.Load()
	w.Gauge("healthcheck_command_up", "Whether CMD runs.")
	w.Sample(boolValue(e.up()))
	if p != nil {
		w.Gauge("healthcheck_command_start_time_seconds", "When CMD was started, in Unix time.")
		w.Sample(unixSeconds(p.Started()))
		if u, err := e.usage.read(p); err == nil {
			writeUsage(w, u)
		}
	}
	w.Counter("healthcheck_orphans_reaped_total", "Processes reaped other than CMD.")
	w.Sample(float64(e.Signals.Orphans()))
	if p != nil {
		w.Counter("healthcheck_signals_forwarded_total", "Signals passed on to CMD.")
		for name, n := range p.Forwarded() {
			w.Sample(float64(n), label("signal", name))
		}
	}
}

// usageMaxAge is how long a reading of /proc is reused, so that a flood of scrapes cannot keep a
// processor busy.
const usageMaxAge = time.Second

// A usageCache keeps the last reading of the command's resource usage.
type usageCache struct {
	mu    sync.Mutex // guards the rest; held while /proc is read
	at    time.Time
	last  supervise.Usage
	err   error
	cores float64
}

func (c *usageCache) read(p *supervise.Process) (supervise.Usage, error) {
	u, _, err := c.readCPU(p)
	return u, err
}

// readCPU is read, and also returns how many cores the command has kept busy since the previous
// reading, or since its start if there was none.
func (c *usageCache) readCPU(p *supervise.Process) (u supervise.Usage, cores float64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= usageMaxAge {
		before, since := c.last, c.at
		if c.err != nil || since.Before(p.Started()) {
			before, since = supervise.Usage{}, p.Started()
		}
		c.last, c.err = p.Usage()
		c.at = time.Now()
		spent := c.last.UserSeconds + c.last.SystemSeconds - before.UserSeconds - before.SystemSeconds
		c.cores = spent / max(c.at.Sub(since), 100*time.Millisecond).Seconds() // /proc counts ticks of 10 ms
	}
	return c.last, c.cores, c.err
}

func writeUsage(w *promtext.Writer, u supervise.Usage) {
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
		if g.value >= 0 {
			w.Gauge(g.name, g.help)
			w.Sample(float64(g.value))
		}
	}
	w.Counter("healthcheck_command_cpu_seconds_total", "CPU time of CMD and its descendants, with those that have ended.")
	w.Sample(u.UserSeconds, label("mode", "user"))
	w.Sample(u.SystemSeconds, label("mode", "system"))
}

// writeSelf writes the families about healthcheck itself.
func (e *Exporter) writeSelf(w *promtext.Writer) {
	self := supervise.Self()
	w.Counter("healthcheck_process_cpu_seconds_total", "CPU time of healthcheck itself.")
	w.Sample(self.CPUSeconds)
	if self.ResidentBytes >= 0 {
		w.Gauge("healthcheck_process_resident_memory_bytes", "Resident memory of healthcheck itself.")
		w.Sample(float64(self.ResidentBytes))
	}
	w.Gauge("healthcheck_process_start_time_seconds", "When healthcheck itself was started, in Unix time.")
	w.Sample(unixSeconds(self.Started))
	w.Gauge("healthcheck_build_info", "Which healthcheck this is.")
	w.Sample(1, e.build[:]...)
}
