package export

import (
	"net/http"
	"slices"

	"alfred/healthcheck/probe"
)

// up reports whether the service runs: the command, or healthcheck itself in a sidecar.
func (e *Exporter) up() bool { return e.Command == "" || e.process.Load().Up() }

// ended reports whether the command has been started and has ended.
func (e *Exporter) ended() bool { return e.process.Load() != nil && !e.up() }

// waiting reports whether there is a command that has not been started.
func (e *Exporter) waiting() bool { return e.Command != "" && e.process.Load() == nil }

// verdict returns the status of /health, the first of these that applies:
//
//	error      the command has ended, or a check has failed
//	starting   the command has not been started, or a check is starting
//	degraded   a check is degraded
//	ok         every check has passed
//	unknown    there is no check
func (e *Exporter) verdict(states []probe.State) probe.Status {
	some := func(status probe.Status) bool {
		return slices.ContainsFunc(states, func(s probe.State) bool { return s.Status == status })
	}
	switch {
	case e.ended() || some(probe.Failed):
		return probe.Failed
	case e.waiting() || some(probe.Starting):
		return probe.Starting
	case some(probe.Degraded):
		return probe.Degraded
	case len(states) > 0:
		return probe.OK
	}
	return probe.Unknown
}

// health answers /health with {"status":…,"version":…,"services":{NAME:STATUS,…}}. It omits the
// version if the service's version is unknown.
func (e *Exporter) health() answer {
	states := e.Monitor.States(nil)
	return e.healthOf(states, e.verdict(states))
}

// healthOfCheck answers /health/NAME in the same form, for one check.
func (e *Exporter) healthOfCheck(name string) (a answer, ok bool) {
	states := e.Monitor.States(nil)
	i := slices.IndexFunc(states, func(s probe.State) bool { return s.Check.Name == name })
	if i < 0 {
		return answer{}, false
	}
	return e.healthOf(states[i:i+1], states[i].Status), true
}

func (e *Exporter) healthOf(states []probe.State, verdict probe.Status) answer {
	b := []byte(`{"status":"` + string(verdict) + `"`)
	if e.ServiceVersion != "" {
		b = probe.AppendJSON(append(b, `,"version":`...), e.ServiceVersion)
	}
	b = append(b, `,"services":{`...)
	for i, s := range services(states) {
		if i > 0 {
			b = append(b, ',')
		}
		b = probe.AppendJSON(b, s.Name)
		b = probe.AppendJSON(append(b, ':'), string(s.Status))
	}
	b = append(b, "}}\n"...)
	return answer{statusCode(verdict), typeJSON, b}
}

// statusCode returns the HTTP status code for a status of /health.
func statusCode(s probe.Status) int {
	if s == probe.Failed || s == probe.Starting {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// services lists the checks, then the dependencies that they report. A dependency whose name is
// taken is listed as CHECK/DEPENDENCY. If that is taken too, the worse status counts.
func services(states []probe.State) []probe.Dependency {
	var list []probe.Dependency
	index := map[string]int{}
	add := func(name string, status probe.Status) {
		if i, ok := index[name]; ok {
			list[i].Status = probe.Worse(list[i].Status, status)
			return
		}
		index[name] = len(list)
		list = append(list, probe.Dependency{Name: name, Status: status})
	}
	for _, s := range states {
		add(s.Check.Name, s.Status)
	}
	for _, s := range states {
		if !s.Known() { // a check that is starting reports no failure
			continue
		}
		for _, d := range s.Last.Dependencies {
			name := d.Name
			if _, taken := index[name]; taken {
				name = s.Check.Name + "/" + name
			}
			add(name, d.Status)
		}
	}
	return list
}

// liveness answers /healthz with 200 until the command has ended, whatever the results of the
// checks. It answers 200 even before the command starts, so that an orchestrator does not kill a
// container that is still waiting.
func (e *Exporter) liveness() answer {
	if e.ended() {
		return answer{http.StatusServiceUnavailable, typeJSON, []byte(`{"status":"error"}` + "\n")}
	}
	return answer{http.StatusOK, typeJSON, []byte(`{"status":"ok"}` + "\n")}
}
