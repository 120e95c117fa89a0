package export

import (
	"net/http"

	"alfred/healthcheck/probe"
)

// up reports whether the service runs: the command, or healthcheck itself in a sidecar.
func (e *Exporter) up() bool { return e.Command == "" || e.process.Load().Up() }

// verdict is the status of /health: the worst of the checks, and an error unless the service runs. A check that has not
// run yet counts as failed.
func (e *Exporter) verdict(states []probe.State) probe.Status {
	if !e.up() {
		return probe.Failed
	}
	verdict := probe.OK
	for i := range states {
		if !states[i].Known() {
			return probe.Failed
		}
		verdict = probe.Worse(verdict, states[i].Last.Status)
	}
	return verdict
}

// health answers /health in the platform's form: {"status":…,"version":…,"services":{NAME:STATUS,…}}.
func (e *Exporter) health() answer {
	states := e.Monitor.States(nil)
	verdict := e.verdict(states)
	b := []byte(`{"status":"` + string(verdict) + `","version":`)
	b = probe.AppendJSON(b, e.ServiceVersion)
	b = append(b, `,"services":{`...)
	for i, s := range services(states) {
		if i > 0 {
			b = append(b, ',')
		}
		b = probe.AppendJSON(b, s.Name)
		b = probe.AppendJSON(append(b, ':'), string(s.Status))
	}
	b = append(b, "}}\n"...)
	if verdict == probe.Failed {
		return answer{http.StatusServiceUnavailable, typeJSON, b}
	}
	return answer{http.StatusOK, typeJSON, b}
}

// services lists the checks, then the dependencies that they report. A dependency whose name is taken is listed as
// CHECK/DEPENDENCY. If that is taken too, the worse status counts.
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
		status := probe.Failed
		if s.Known() {
			status = s.Last.Status
		}
		add(s.Check.Name, status)
	}
	for _, s := range states {
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

// liveness answers /healthz: whether the service runs, whatever the checks see.
func (e *Exporter) liveness() answer {
	if !e.up() {
		return answer{http.StatusServiceUnavailable, typeJSON, []byte(`{"status":"error"}` + "\n")}
	}
	return answer{http.StatusOK, typeJSON, []byte(`{"status":"ok"}` + "\n")}
}
