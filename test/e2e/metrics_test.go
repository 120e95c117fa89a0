//go:build linux

package e2e_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// healthyAPI is a service with dependencies, over TLS, and the options that check it as api.
func healthyAPI(t testing.TB) []string {
	t.Helper()
	ca := testbed.NewCA(t)
	pair := ca.Issue(t, testbed.Leaf{CommonName: "api"})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"status":"ok","services":{"database":"ok","queue":"degraded","mail":"error"}}`)
	}, &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}})
	return []string{"--http", "api=" + s.URL + "/health?token=hidden", "--tls-ca", ca.File}
}

// everything is a wrapper with a check of each type, all known, a signal passed on and an orphan reaped.
func everything(t testing.TB, env ...string) *service {
	t.Helper()
	args := append([]string{"--export-prom", "127.0.0.1:0", "--interval", "1h", "--tcp", "port=" + accept(t), "--redis", "cache=redis://:hunter2@" + closedAddr(t),
		"--postgres", "database=postgres://app:hunter2@" + closedAddr(t) + "/app"}, healthyAPI(t)...)
	s := serve(t, env, append(args, "--", "sh", "-c", `trap 'echo usr1' USR1; (sleep .1 &); echo ready; while :; do sleep 5 & wait; done`)...)
	s.waitOutput(t, "stdout", "ready\n")
	s.signal(t, syscall.SIGUSR1)
	s.waitOutput(t, "stdout", "usr1\n")
	for _, series := range []string{`probe_duration_seconds{check="port",type="tcp"}`, `probe_duration_seconds{check="cache",type="redis"}`,
		`probe_duration_seconds{check="database",type="postgres"}`, `probe_duration_seconds{check="api",type="http"}`, "healthcheck_orphans_reaped_total"} {
		s.until(t, series, func(v float64) bool { return v > 0 })
	}
	return s
}

// TestFamilies compares README's table of metrics with a live scrape: each family is there, of that type and with those labels, in that order,
// and no other.
func TestFamilies(t *testing.T) {
	t.Parallel()
	var want []family
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (gauge|counter) \\| ([a-z, ]*) ?\\| \\S").FindAllStringSubmatch(readme(t), -1) {
		if strings.HasPrefix(m[1], "healthcheck_report_") { // see TestReports
			continue
		}
		f := family{name: m[1], kind: m[2]}
		for label := range strings.SplitSeq(strings.TrimSpace(m[3]), ", ") {
			if label != "" {
				f.labels = append(f.labels, label)
			}
		}
		slices.Sort(f.labels)
		want = append(want, f)
	}
	if len(want) < 26 {
		t.Fatalf("README's table has %d metrics", len(want))
	}
	s := everything(t)
	_, _, body := s.get(t, "/metrics")
	got := parse(t, body)
	for i := range max(len(got), len(want)) {
		g, w := family{}, family{}
		if i < len(got) {
			g = family{name: got[i].name, kind: got[i].kind, labels: got[i].labels}
		}
		if i < len(want) {
			w = want[i]
		}
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("family %d: %v, README has %v", i, g, w)
		}
	}
	for _, f := range got {
		if strings.HasPrefix(f.name, "process_") || strings.HasPrefix(f.name, "go_") {
			t.Errorf("%s is the application's to emit", f.name)
		}
	}
	if strings.Contains(body, "hunter2") || strings.Contains(body, "hidden") {
		t.Errorf("a secret in\n%s", body)
	}
	// A sidecar exports the families that are not about a command. No check fails here.
	sidecar := serve(t, nil, append([]string{"--export-prom", "127.0.0.1:0"}, healthyAPI(t)...)...)
	sidecar.until(t, `probe_success{check="api",type="http"}`, func(v float64) bool { return v == 1 })
	_, _, body = sidecar.get(t, "/metrics")
	var names, wantNames []string
	for _, f := range parse(t, body) {
		names = append(names, f.name)
	}
	for _, f := range want {
		if !strings.Contains(f.name, "_command_") && !strings.Contains(f.name, "orphans") && !strings.Contains(f.name, "signals") && f.name != "probe_failure_info" {
			wantNames = append(wantNames, f.name)
		}
	}
	if !slices.Equal(names, wantNames) {
		t.Errorf("a sidecar has %q, want %q", names, wantNames)
	}
}

// TestValues looks at each value that can be known.
func TestValues(t *testing.T) {
	t.Parallel()
	before := float64(time.Now().Add(-time.Second).Unix())
	s := everything(t)
	_, _, body := s.get(t, "/metrics")
	after := float64(time.Now().Add(time.Second).Unix())
	between := func(low, high float64) func(float64) bool {
		return func(v float64) bool { return low <= v && v <= high }
	}
	is := func(want float64) func(float64) bool { return between(want, want) }
	for series, ok := range map[string]func(float64) bool{
		"service_up":                                                                                        is(1),
		"service_health":                                                                                    is(0),
		`probe_success{check="api",type="http"}`:                                                            is(1),
		`probe_success{check="port",type="tcp"}`:                                                            is(1),
		`probe_success{check="cache",type="redis"}`:                                                         is(0),
		`probe_duration_seconds{check="api",type="http"}`:                                                   between(1e-5, 60),
		`probe_http_status_code{check="api"}`:                                                               is(200),
		`probe_ssl_earliest_cert_expiry{check="api"}`:                                                       between(after, 1e11),
		`healthcheck_check_runs_total{check="api",result="success",type="http"}`:                            is(1),
		`healthcheck_check_runs_total{check="api",result="failure",type="http"}`:                            is(0),
		`healthcheck_check_runs_total{check="api",result="timeout",type="http"}`:                            is(0),
		`healthcheck_check_runs_total{check="database",result="success",type="postgres"}`:                   is(0),
		`healthcheck_check_runs_total{check="database",result="failure",type="postgres"}`:                   is(1),
		`healthcheck_check_runs_total{check="database",result="timeout",type="postgres"}`:                   is(0),
		`healthcheck_check_consecutive_failures{check="cache",type="redis"}`:                                is(1),
		`healthcheck_check_consecutive_failures{check="api",type="http"}`:                                   is(0),
		`healthcheck_check_last_success_timestamp_seconds{check="port",type="tcp"}`:                         between(before, after),
		`healthcheck_check_last_success_timestamp_seconds{check="cache",type="redis"}`:                      math.IsNaN, // never
		`healthcheck_dependency_health{check="api",dependency="database"}`:                                  is(1),
		`healthcheck_dependency_health{check="api",dependency="queue"}`:                                     is(0.5),
		`healthcheck_dependency_health{check="api",dependency="mail"}`:                                      is(0),
		"healthcheck_command_up":                                                                            is(1),
		"healthcheck_command_start_time_seconds":                                                            between(before, after),
		"healthcheck_command_processes":                                                                     between(2, 4), // sh, sleeps, and up to a second ago the orphan
		"healthcheck_command_threads":                                                                       between(2, 4),
		"healthcheck_command_open_fds":                                                                      between(6, 30),
		"healthcheck_command_resident_memory_bytes":                                                         between(1<<18, 1<<28),
		"healthcheck_command_virtual_memory_bytes":                                                          between(1<<20, 1<<32),
		`healthcheck_command_cpu_seconds_total{mode="user"}`:                                                between(0, 60),
		`healthcheck_command_cpu_seconds_total{mode="system"}`:                                              between(0, 60),
		`healthcheck_signals_forwarded_total{signal="USR1"}`:                                                is(1),
		`healthcheck_signals_forwarded_total{signal="TERM"}`:                                                math.IsNaN,
		"healthcheck_process_cpu_seconds_total":                                                             between(0.0001, 60),
		"healthcheck_process_resident_memory_bytes":                                                         between(1<<20, 64<<20),
		"healthcheck_process_start_time_seconds":                                                            between(before, after),
		`healthcheck_check_info{check="cache",target="redis://` + target(body, "cache") + `",type="redis"}`: is(1),
	} {
		if v := value(body, series); !ok(v) {
			t.Errorf("%s is %v in\n%s", series, v, body)
		}
	}
	if got := regexp.MustCompile(`(?m)^healthcheck_build_info\{goarch="\w+",goos="linux",goversion="go1\.\S+",revision="\w+",version="0\.4\.0"\} 1$`); !got.MatchString(body) {
		t.Errorf("no healthcheck_build_info as wanted in\n%s", body)
	}
	// max_fds is CMD's own limit.
	limited := serve(t, nil, "--export-prom", "127.0.0.1:0", "--", "sh", "-c", "ulimit -S -n 123; exec sleep 600")
	limited.until(t, "healthcheck_command_max_fds", func(v float64) bool { return v == 123 })
}

// target is the host:port that a scrape's check_info has for a Redis check.
func target(body, check string) string {
	m := regexp.MustCompile(`check="` + check + `",target="redis://([^"]*)"`).FindStringSubmatch(body)
	return append(m, "", "none")[1]
}

// TestFormats has promtool and the reference parser of OpenMetrics read a scrape.
func TestFormats(t *testing.T) {
	t.Parallel()
	s := everything(t)
	url := "http://" + s.addr(t) + "/metrics"
	t.Run("promtool", func(t *testing.T) {
		promtool := testbed.Need(t, "promtool")
		_, header, body := get(t, "GET", url, nil)
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(body)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 || header.Get("Content-Type") != contentText {
			t.Errorf("promtool check metrics: %v, %s; %q\n%s", err, out, header.Get("Content-Type"), body)
		}
	})
	t.Run("prometheus_client", func(t *testing.T) {
		python := pythonWith(t, "prometheus_client")
		_, header, body := get(t, "GET", url, http.Header{"Accept": {"application/openmetrics-text"}})
		cmd := exec.Command(python, "-c", `
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
print(json.dumps([[f.name, f.type, len(f.samples)] for f in parse(sys.stdin.buffer.read().decode("utf-8"))]))`)
		cmd.Stdin = strings.NewReader(body)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || header.Get("Content-Type") != contentOpen {
			t.Fatalf("reading OpenMetrics: %v, %s; %q\n%s", err, &stderr, header.Get("Content-Type"), body)
		}
		var read [][]any
		if err := json.Unmarshal(out, &read); err != nil {
			t.Fatal(err)
		}
		_, _, body = get(t, "GET", url, nil)
		var want [][]any
		for _, f := range parse(t, body) {
			want = append(want, []any{strings.TrimSuffix(f.name, "_total"), f.kind, float64(len(f.series))})
		}
		if !reflect.DeepEqual(read, want) {
			t.Errorf("read %v, want %v", read, want)
		}
	})
}

// TestPrometheus has a real server scrape for a few rounds, and compares what it has stored.
func TestPrometheus(t *testing.T) { // not beside others: it wants the processors for itself
	prometheus := testbed.Need(t, "prometheus")
	s := everything(t)
	dir := t.TempDir()
	port := testbed.FreePort(t)
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 250ms, scrape_timeout: 250ms}\nscrape_configs: [{job_name: hc, scrape_timeout: 250ms, static_configs: [{targets: ['"+s.addr(t)+"']}]}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:"+port, "--log.level=warn")
	launch(t, cmd)
	query := func(expression string) (values map[string]float64, err error) {
		resp, err := scraper.Get("http://127.0.0.1:" + port + "/api/v1/query?query=" + url.QueryEscape(expression))
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return nil, err
		}
		values = map[string]float64{}
		for _, r := range answer.Data.Result {
			text, _ := r.Value[1].(string)
			v, _ := strconv.ParseFloat(text, 64)
			name := r.Metric["__name__"]
			for _, own := range []string{"__name__", "job", "instance"} {
				delete(r.Metric, own)
			}
			var labels []string
			for k, v := range r.Metric {
				labels = append(labels, k+"="+strconv.Quote(v))
			}
			if slices.Sort(labels); len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			values[name] = v
		}
		return values, nil
	}
	// A scrape that took too long for a busy machine is no fault: the last four were fine.
	testbed.Poll(t, func() error {
		up, err := query("sum_over_time(up[1m]) >= 4 and up == 1")
		if err == nil && len(up) != 1 {
			all, _ := query("up")
			err = fmt.Errorf("up is %v; prometheus says %s", all, errorOf(os.ReadFile(filepath.Join(cmd.Dir, "stderr"))))
		}
		return err
	})
	stored, err := query(`{job="hc"}`)
	if err != nil {
		t.Fatal(err)
	}
	_, _, body := s.get(t, "/metrics")
	for _, f := range parse(t, body) {
		for series, now := range f.values {
			then, ok := stored[series]
			switch {
			case !ok:
				t.Errorf("Prometheus has no %s", series)
			case f.kind == "counter" && then > now:
				t.Errorf("Prometheus has %s = %v, more than now, %v", series, then, now)
			case f.kind == "gauge" && then != now && !strings.HasSuffix(f.name, "_bytes"):
				t.Errorf("Prometheus has %s = %v, want %v", series, then, now)
			}
		}
	}
}

func errorOf(b []byte, err error) string { return fmt.Sprint(string(b), err) }
