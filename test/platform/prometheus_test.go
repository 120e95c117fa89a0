package platform

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

const examples = root + "/examples"

func TestRules(t *testing.T) {
	promtool := testbed.Need(t, "promtool")
	do(t, promtool, "check", "config", examples+"/prometheus/prometheus.yml")
	do(t, promtool, "check", "rules", examples+"/prometheus/alerts.yml")
	do(t, promtool, "test", "rules", examples+"/prometheus/alerts.test.yml")

	alerts, tests := read(t, examples+"/prometheus/alerts.yml"), read(t, examples+"/prometheus/alerts.test.yml")
	for _, alert := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(alerts, -1) {
		fires := regexp.MustCompile(`alertname: ` + alert[1] + `\s+exp_alerts:\s+- exp_labels`)
		if !fires.MatchString(tests) {
			t.Errorf("no test has %s fire", alert[1])
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A prometheus answers queries at an address.
type prometheus string

// api decodes the data of an answer of the HTTP API.
func (p prometheus) api(path string, query url.Values, data any) error {
	body, _, err := get("http://" + string(p) + "/api/v1/" + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", query, answer.Error)
	}
	return nil
}

// query returns the labels of what an expression yields now.
func (p prometheus) query(expr string) (series []map[string]string, err error) {
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	if err := p.api("query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	for _, r := range data.Result {
		series = append(series, r.Metric)
	}
	return series, nil
}

// firing returns the labels of each alert that fires.
func (p prometheus) firing() (alerts []map[string]string, err error) {
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	err = p.api("alerts", nil, &data)
	for _, a := range data.Alerts {
		if a.State == "firing" {
			alerts = append(alerts, a.Labels)
		}
	}
	return alerts, err
}

// alertNames returns "ALERT SERVICE" of each alert, sorted.
func alertNames(alerts []map[string]string) (names []string) {
	for _, labels := range alerts {
		names = append(names, strings.TrimSpace(labels["alertname"]+" "+labels["service"]))
	}
	slices.Sort(names)
	return names
}

// A dashboard is what these tests read of one.
type dashboard struct {
	Panels []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct {
			Name  string
			Query any
		}
	}
	Annotations struct{ List []struct{ Expr string } }
}

// reports are series as a wrapper exports them for a failing probe that reports to it. Only PID 1
// gets reports, so the wrapper of TestDashboard exports none.
const reports = `
groups:
  - name: reports
    rules:
      - {record: healthcheck_report_success, expr: vector(0), labels: &of {job: healthcheck, service: api, instance: api_1, check: http, type: http, target: 'http://localhost:8080/health'}}
      - {record: healthcheck_report_duration_seconds, expr: vector(0.003), labels: *of}
      - {record: healthcheck_report_timestamp_seconds, expr: time(), labels: *of}
`

// TestDashboard has a real Prometheus scrape a real wrapper, and evaluates the queries of the
// dashboard and the alerts there. The api is unhealthy, the worker is starting, and nothing checks
// the cron service.
func TestDashboard(t *testing.T) {
	program := testbed.Need(t, "prometheus")
	wrapper, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"status":"degraded","services":{"database":"ok","cache":"error"}}`)
	}))
	t.Cleanup(app.Close)
	tls := httptest.NewTLSServer(app.Config.Handler)
	t.Cleanup(tls.Close)
	free := func() string { return at(testbed.FreePort(t)) }
	metrics, starting, unchecked, listen := free(), free(), free(), free()
	start(t, wrapper, "--export-prom", starting, "--start-period", "1h", "--tcp", free(), "--", "sleep", "600")
	start(t, wrapper, "--export-prom", unchecked, "--", "sleep", "600")
	start(t, wrapper, "--export-prom", metrics, "--interval", "500ms", "--tls-insecure", "--start-period", "0",
		"--http", "app="+app.URL, "--http", "secure="+tls.URL, "--tcp", "down="+free(), "--", "sleep", "600")

	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(dir+"/reports.yml", []byte(reports), 0o600); err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`for: \d+[mh]`).ReplaceAllString(read(t, examples+"/prometheus/alerts.yml"), "for: 1s")
	if err := os.WriteFile(dir+"/alerts.yml", []byte(alerts), 0o600); err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [reports.yml, alerts.yml]
scrape_configs:
  - job_name: healthcheck
    static_configs:
      - {targets: ['%s'], labels: {service: api, instance: api_1}}
      - {targets: ['%s'], labels: {service: worker, instance: worker_1}}
      - {targets: ['%s'], labels: {service: cron, instance: cron_1}}
`, metrics, starting, unchecked), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	log := start(t, program, "--config.file="+config, "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+listen)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log())
		}
	})
	p := prometheus(listen)
	poll(t, "scrapes", func() error { // a rate needs two
		series, err := p.query(`count_over_time(healthcheck_dependency_health{job="healthcheck"}[1m]) >= 3 and on () (count(up == 1) == 3) and on () healthcheck_report_timestamp_seconds`)
		if err == nil && len(series) == 0 {
			err = fmt.Errorf("not yet scraped")
		}
		return err
	})

	firing := []string{"DependencyFailing api", "ProbeFailing api", "ReportedProbeFailing api", "ServiceStarting worker", "ServiceUnchecked cron", "ServiceUnhealthy api"}
	poll(t, "alerts", func() error {
		alerts, err := p.firing()
		names := slices.Compact(alertNames(alerts)) // two checks report the dependency
		if err == nil && !slices.Equal(names, firing) {
			err = fmt.Errorf("firing are %q, want %q", names, firing)
		}
		return err
	})

	var d dashboard
	if err := json.Unmarshal([]byte(read(t, examples+"/grafana/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, panel := range d.Panels {
		exprs[panel.Title] = variables.Replace(panel.Targets[0].Expr)
	}
	for _, test := range []struct{ title, value, service string }{
		{"Verdict", "0", "api"}, {"Verdict", "0.25", "worker"}, {"Verdict", "2", "cron"},
		{"Unhealthy", "1", ""}, {"Starting", "1", ""}, {"Nothing checked", "1", ""}, {"Degraded", "0", ""}, {"Healthy", "0", ""},
		{"Failing now", "1", "api"},
	} {
		series, err := p.query("(" + exprs[test.title] + ") == " + test.value)
		if err != nil || len(series) != 1 || series[0]["service"] != test.service {
			t.Errorf("%s is %s for %v, want for %q alone (%v)", test.title, test.value, series, test.service, err)
		}
	}
	asked := map[string]bool{} // selectors of dashboard and alerts
	for i, panel := range d.Panels {
		if panel.ID != i+1 || panel.GridPos.X+panel.GridPos.W > 24 || panel.GridPos.W == 0 || len(panel.Targets) == 0 {
			t.Errorf("panel %d, %q: wrong id or place, or no query", i+1, panel.Title)
		}
		for _, target := range panel.Targets {
			expr := variables.Replace(target.Expr)
			series, err := p.query(expr)
			if err != nil || len(series) == 0 {
				t.Errorf("%s: %s yields %d series (%v)", panel.Title, expr, len(series), err)
				continue
			}
			for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if series[0][label[1]] == "" {
					t.Errorf("%s: the legend shows %s, which %s does not yield", panel.Title, label[1], expr)
				}
			}
			for _, s := range selector.FindAllString(expr, -1) {
				asked[s] = true
			}
		}
	}
	for _, a := range d.Annotations.List {
		if _, err := p.query(variables.Replace(a.Expr)); err != nil {
			t.Error(err)
		}
	}
	for _, s := range selector.FindAllString(read(t, examples+"/prometheus/alerts.yml"), -1) {
		asked[s] = true
	}
	if len(asked) < 15 {
		t.Errorf("found %d selectors, which is too few to be all", len(asked))
	}
	// A comparison or "or vector(0)" hides a metric that is not there.
	for s := range asked {
		if series, err := p.query(s); err != nil || len(series) == 0 {
			t.Errorf("nothing is exported for %s (%v)", s, err)
		}
	}
	if _, err := p.query(`ceil(`); err == nil {
		t.Error("a query that does not parse passes")
	}
	for _, v := range d.Templating.List {
		if v.Name != "service" {
			continue
		}
		query := fmt.Sprint(v.Query)
		values := regexp.MustCompile(`label_values\((.+), (\w+)\)`).FindStringSubmatch(query)
		if values == nil {
			t.Fatalf("the variable service asks for %s", query)
		}
		if series, err := p.query(values[1]); err != nil || len(series) != 3 || series[0][values[2]] == "" {
			t.Errorf("%s yields %v (%v)", query, series, err)
		}
	}
}

// selector is a metric with its labels, as in service_up{job="healthcheck"}.
var selector = regexp.MustCompile(`\b[a-z_]+{[^}]*}`)

// variables puts in the place of Grafana's variables what Grafana puts there.
var variables = strings.NewReplacer("$service", ".*", "$__rate_interval", "1m")
