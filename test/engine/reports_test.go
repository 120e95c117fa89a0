package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// TestReports runs a service as the guide describes, with no check in the wrapper. The wrapper
// exports the result of each probe that Docker runs, whether it passes or fails, and derives no
// verdict from it.
func TestReports(t *testing.T) {
	needEngine(t)
	needImage(t)
	base := prefix + "base-reports"
	t.Cleanup(func() { try("docker", "rmi", "-f", base) })
	busybox(t, base)
	for _, test := range []struct {
		network       string
		port, metrics string // of the service and of the wrapper; those of the guide if the container has its own network
		user          string
	}{
		{"none", "8080", "9091", "0:0"},
		{"none", "8080", "9091", "1000:1000"},
		{"host", testbed.FreePort(t), testbed.FreePort(t), "54321:12345"},
	} {
		t.Run(test.network+" "+test.user, func(t *testing.T) {
			tag := prefix + "reports-" + test.port
			t.Cleanup(func() { try("docker", "rmi", "-f", tag) })
			_, err := needLegacy(t).build(tag, "", strings.NewReplacer("8080", test.port, "9091", test.metrics).Replace(fmt.Sprintf(`FROM %s AS healthcheck
FROM %s
COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/
EXPOSE 8080
EXPOSE 9091
HEALTHCHECK --interval=1s --timeout=20s --retries=5 --start-period=45s CMD ["healthcheck", "--http", "http://localhost:8080/health"]
CMD ["healthcheck", "--export-prom", ":9091", "--", "httpd", "-f", "-p", "8080", "-h", "/srv"]
`, image, base)))
			if err != nil {
				t.Fatal(err)
			}
			id := docker(t, "run", "-d", "--label", label, "--network="+test.network, "--user="+test.user, "--read-only", "--cap-drop=ALL",
				"--security-opt=no-new-privileges", "--tmpfs=/srv:mode=1777", tag)
			t.Cleanup(func() { try("docker", "rm", "-f", id) })
			service := container{id, test.metrics}
			series := fmt.Sprintf(`{check="http",target="http://localhost:%s/health",type="http"}`, test.port)
			for round, status := range []int{1, 0, 1, 0} { // of Docker's probe
				switch {
				case round == 0: // the service has no health document yet
				case status == 0:
					docker(t, "exec", id, "sh", "-c", `echo '{"status":"ok"}' >/srv/health`)
				default:
					docker(t, "exec", id, "rm", "/srv/health")
				}
				changed := time.Now()
				testbed.Poll(t, func() error {
					last := service.lastProbe(t)
					if last.ExitCode != status || last.Start.Before(changed) {
						return fmt.Errorf("Docker's last probe is %+v, want status %d", last, status)
					}
					metrics := service.get(t, "metrics")
					// The report must be of the probe that Docker lists, or of a later one.
					if at := sample(metrics, "healthcheck_report_timestamp_seconds"+series); at < float64(last.Start.UnixMilli())/1000 {
						return fmt.Errorf("the report is of %f, Docker's last probe %+v", at, last)
					}
					if got := sample(metrics, "healthcheck_report_success"+series); got != float64(1-status) {
						t.Errorf("round %d: healthcheck_report_success is %v after Docker's probe %+v", round, got, last)
					}
					if strings.Contains(metrics, "service_health") || strings.Contains(metrics, "probe_success") {
						t.Errorf("round %d: a report changed the verdict:\n%s", round, metrics)
					}
					return nil
				})
				if health := service.get(t, "health"); !strings.HasPrefix(health, `{"status":"unknown",`) {
					t.Errorf("round %d: /health is %s, want unknown", round, health)
				}
			}
			if log := logs(id); strings.Count(log, "healthcheck") != 1 {
				t.Errorf("the log holds more than the start line: %s", log)
			}
		})
	}
}

// A container is a running container, with the port of its wrapper.
type container struct{ id, metrics string }

// get reads a path of the exported address from within the container.
func (c container) get(t *testing.T, path string) string {
	t.Helper()
	return docker(t, "exec", c.id, "wget", "-qO-", "http://localhost:"+c.metrics+"/"+path)
}

// A probed is one run of a HEALTHCHECK as Docker lists it.
type probed struct {
	Start, End time.Time
	ExitCode   int
}

// lastProbe returns the last of Docker's probes, or the zero value before the first has ended.
func (c container) lastProbe(t *testing.T) probed {
	t.Helper()
	var list []probed
	if err := json.Unmarshal([]byte(docker(t, "inspect", "-f", "{{json .State.Health.Log}}", c.id)), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return probed{}
	}
	return list[len(list)-1]
}

// sample returns the value of a series in a scrape, or -1 if the series is absent.
func sample(scrape, series string) float64 {
	for line := range strings.Lines(scrape + "\n") {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil {
				return v
			}
		}
	}
	return -1
}
