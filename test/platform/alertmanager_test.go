package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// An alertmanager is a real one with the configuration of examples/; it answers at an address.
type alertmanager string

// startAlertmanager runs one until the test ends, alone: it looks for no cluster.
func startAlertmanager(t *testing.T) alertmanager {
	t.Helper()
	program, err := exec.LookPath("alertmanager")
	if err != nil {
		program = testbed.Need(t, "prometheus-alertmanager") // Debian's name
	}
	m := alertmanager(at(testbed.FreePort(t)))
	log := start(t, program, "--config.file="+examples+"/prometheus/alertmanager.yml", "--storage.path="+t.TempDir(),
		"--web.listen-address="+string(m), "--cluster.listen-address=")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log())
		}
	})
	poll(t, "Alertmanager is ready", func() error {
		_, code, err := get("http://" + string(m) + "/-/ready")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
	return m
}

// sends posts alerts, and polls until the Alertmanager inhibits all of them but these, "ALERT SERVICE".
func (m alertmanager) sends(t *testing.T, alerts []map[string]string, want ...string) {
	t.Helper()
	type alert struct {
		Labels map[string]string `json:"labels"`
	}
	var posted []alert
	for _, labels := range alerts {
		posted = append(posted, alert{labels})
	}
	body, err := json.Marshal(posted)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+string(m)+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager refuses %s: %s", body, resp.Status)
	}
	slices.Sort(want)
	poll(t, fmt.Sprintf("of %q only %q are sent", alertNames(alerts), want), func() error {
		body, _, err := get("http://" + string(m) + "/api/v2/alerts")
		if err != nil {
			return err
		}
		var known []struct {
			Labels map[string]string
			Status struct {
				State       string
				InhibitedBy []string
			}
		}
		if err := json.Unmarshal([]byte(body), &known); err != nil {
			return fmt.Errorf("%w: %s", err, body)
		}
		var sent []map[string]string
		for _, a := range known {
			if len(a.Status.InhibitedBy) == 0 {
				sent = append(sent, a.Labels)
			}
		}
		if len(known) != len(alerts) || !slices.Equal(alertNames(sent), want) {
			return fmt.Errorf("of %d alerts it sends %q", len(known), alertNames(sent))
		}
		return nil
	})
}

func TestAlertmanager(t *testing.T) {
	do(t, testbed.Need(t, "amtool"), "check-config", examples+"/prometheus/alertmanager.yml")
	for _, test := range []struct{ name, alerts, want string }{
		{"the database stops",
			"ServiceGone postgres, ServiceUnhealthy api, ProbeFailing api, DependencyFailing api, ReportedProbeFailing api",
			"ServiceGone postgres"},
		{"the database refuses logins",
			"ServiceUnhealthy postgres, ProbeFailing postgres, ServiceUnhealthy api, ProbeFailing api, DependencyFailing api",
			"ServiceUnhealthy postgres"},
		{"the database stops before the api has started",
			"ServiceGone postgres, ServiceStarting api", "ServiceGone postgres"},
		{"the database stops, and the web fails on its own",
			"ServiceGone postgres, ServiceUnhealthy web, ProbeFailing web", "ServiceGone postgres, ServiceUnhealthy web"},
		{"the cache stops",
			"ServiceGone redis, ServiceDegraded api, DependencyFailing api, ServiceDegraded web, DependencyFailing web, ReportedProbeFailing web",
			"ServiceGone redis"},
		{"the cache stops, and the api fails on its own",
			"ServiceGone redis, ServiceUnhealthy api, ProbeFailing api, ServiceDegraded web",
			"ServiceGone redis, ServiceUnhealthy api"},
		{"a service is unhealthy, and its certificate expires",
			"ServiceUnhealthy web, ProbeFailing web, CertificateExpiring web, ServiceDegraded api",
			"ServiceUnhealthy web, CertificateExpiring web, ServiceDegraded api"},
		{"a probe of a service that nothing else checks fails",
			"ReportedProbeFailing api, ServiceUnchecked api", "ReportedProbeFailing api, ServiceUnchecked api"},
		{"Prometheus finds no container",
			"NothingScraped, ServiceGone api, ServiceGone web", "NothingScraped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var alerts []map[string]string
			for _, a := range strings.Split(test.alerts, ", ") {
				name, service, _ := strings.Cut(a, " ")
				labels := map[string]string{"alertname": name}
				if service != "" {
					labels["service"] = service
				}
				alerts = append(alerts, labels)
			}
			startAlertmanager(t).sends(t, alerts, strings.Split(test.want, ", ")...)
		})
	}
}
