//go:build linux

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// TestEndpoints: every path, method, status and type of content, with a command and without.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	open := accept(t)
	services := map[string]*service{
		"wrapper": serve(t, []string{"SERVICE_VERSION=1.2 \"beta\""}, "--export-prom", "127.0.0.1:0", "--interval", "1h", "--tcp", "db="+open, "--", "sleep", "60"),
		"sidecar": serve(t, []string{"SERVICE_VERSION=1.2 \"beta\""}, "--export-prom", "127.0.0.1:0", "--interval", "1h", "--tcp", "db="+open),
	}
	const health, healthz = `{"status":"ok","version":"1.2 \"beta\"","services":{"db":"ok"}}` + "\n", `{"status":"ok"}` + "\n"
	const missing, refused = "not found; there are /, /metrics, /health, /health/NAME, /healthz, /readyz and /livez\n", "only GET and HEAD are allowed\n"
	const plain = "text/plain; charset=utf-8"
	for mode, s := range services {
		s.until(t, "service_health", func(v float64) bool { return v == 1 })
		for _, tt := range []struct {
			method, path string
			status       int
			contentType  string
			body         string // whole, or how it begins
		}{
			{"GET", "/metrics", 200, contentText, "# TYPE service_up gauge\n# HELP service_up Whether the service runs.\nservice_up 1\n"},
			{"GET", "/metrics?name[]=service_up", 200, contentText, "# TYPE service_up gauge\n"},
			{"GET", "/health", 200, "application/json", health},
			{"GET", "/healthz", 200, "application/json", healthz},
			{"GET", "/healthz?verbose", 200, "application/json", healthz},
			{"GET", "/", 200, "text/html; charset=utf-8", "<!DOCTYPE html>\n<html lang=\"en\">"},
			{"HEAD", "/metrics", 200, contentText, ""},
			{"HEAD", "/health", 200, "application/json", ""},
			{"HEAD", "/healthz", 200, "application/json", ""},
			{"HEAD", "/", 200, "text/html; charset=utf-8", ""},
			{"HEAD", "/none", 404, plain, ""},
			{"GET", "/none", 404, plain, missing},
			{"GET", "/metrics/", 404, plain, missing},
			{"GET", "//metrics", 404, plain, missing},
			{"GET", "/Metrics", 404, plain, missing},
			{"GET", "/healthz/../metrics", 404, plain, missing},
			{"GET", "/favicon.ico", 404, plain, missing},
			{"GET", "/debug/pprof/", 404, plain, missing},
			{"POST", "/none", 405, plain, refused},
			{"POST", "/metrics", 405, plain, refused},
			{"PUT", "/health", 405, plain, refused},
			{"DELETE", "/healthz", 405, plain, refused},
			{"PATCH", "/", 405, plain, refused},
			{"OPTIONS", "/metrics", 405, plain, refused},
			{"TRACE", "/metrics", 405, plain, refused},
			{"BREW", "/metrics", 405, plain, refused},
		} {
			status, header, body := get(t, tt.method, "http://"+s.addr(t)+tt.path, nil)
			if status != tt.status || header.Get("Content-Type") != tt.contentType || !strings.HasPrefix(body, tt.body) || strings.HasSuffix(tt.body, "}\n") && body != tt.body ||
				tt.method == "HEAD" && body != "" || tt.status == 405 != (header.Get("Allow") == "GET, HEAD") || header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %s %s = %d, %v, %q, want %d, %s, %q", mode, tt.method, tt.path, status, header, body, tt.status, tt.contentType, tt.body)
			}
			if n, err := strconv.Atoi(header.Get("Content-Length")); err != nil || tt.method != "HEAD" && n != len(body) || n == 0 {
				t.Errorf("%s: %s %s has Content-Length %q and %d bytes", mode, tt.method, tt.path, header.Get("Content-Length"), len(body))
			}
		}
	}
}

// TestHealth: the verdict of /health and its entries, for what checks and what they report.
func TestHealth(t *testing.T) {
	t.Parallel()
	v := vars{"open": accept(t), "closed": closedAddr(t)}
	for _, tt := range []struct {
		name   string
		answer string // of an HTTP check named api, where there is one
		args   string
		status int
		want   string
		metric string // of service_health
	}{
		{"no checks", "", "", 200, `{"status":"unknown","services":{}}`, ""},
		{"all pass", `{"status":"ok"}`, "--tcp db=$open", 200, `{"status":"ok","services":{"db":"ok","api":"ok"}}`, "1"},
		{"one fails", `{"status":"ok"}`, "--tcp db=$closed", 503, `{"status":"error","services":{"db":"error","api":"ok"}}`, "0"},
		{"one is degraded", `{"status":"degraded"}`, "--tcp db=$open", 200, `{"status":"degraded","services":{"db":"ok","api":"degraded"}}`, "0.5"},
		{"degraded and failed", `{"status":"warn"}`, "--tcp db=$closed", 503, `{"status":"error","services":{"db":"error","api":"degraded"}}`, "0"},
		{"dependencies", `{"status":"ok","services":{"database":"ok","cache":"degraded","mail":"error"}}`, "", 200,
			`{"status":"ok","services":{"api":"ok","database":"ok","cache":"degraded","mail":"error"}}`, "1"},
		{"a dependency of the same name", `{"status":"ok","services":{"db":"error","api":"ok","api/db":"ok"}}`, "--tcp db=$open", 200,
			`{"status":"ok","services":{"db":"ok","api":"ok","api/db":"error","api/api":"ok","api/api/db":"ok"}}`, "1"},
		{"the same name twice", `{"status":"ok","services":{"cache":"error","cache":"ok"}}`, "", 200,
			`{"status":"ok","services":{"api":"ok","cache":"error"}}`, "1"},
		{"hostile names", `{"status":"ok","services":{"\"</script>\\\n\u0000\ud800":"ok"}}`, "", 200, "", "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--export-prom", "127.0.0.1:0", "--interval", "1h"}, words(v.expand(t, tt.args))...)
			if tt.answer != "" {
				args = append(args, "--http", "api=http://"+httpServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(tt.answer)) }))
			}
			s := serve(t, nil, append(args, "--", "sleep", "60")...)
			s.until(t, "healthcheck_command_up", func(v float64) bool { return v == 1 })
			for _, word := range words(tt.args + " " + strings.Repeat("--http api=", min(len(tt.answer), 1))) {
				if name, _, ok := strings.Cut(word, "="); ok { // all have run
					s.until(t, `probe_success{check="`+name+`",type="`+map[string]string{"api": "http", "db": "tcp"}[name]+`"}`, func(v float64) bool { return v >= 0 })
				}
			}
			status, header, body := s.get(t, "/health")
			if status != tt.status || tt.want != "" && body != tt.want+"\n" || header.Get("Content-Type") != "application/json" {
				t.Errorf("/health = %d %q, want %d %q", status, body, tt.status, tt.want)
			}
			var read struct{ Services map[string]string }
			if err := json.Unmarshal([]byte(body), &read); err != nil {
				t.Errorf("%q is no JSON: %v", body, err)
			}
			_, _, metrics := s.get(t, "/metrics")
			if got := regexp.MustCompile(`(?m)^service_health (.*)$`).FindStringSubmatch(metrics + "\nservice_health "); got[1] != tt.metric {
				t.Errorf("service_health is %q, want %q in\n%s", got[1], tt.metric, metrics)
			}
			if status, _, _ := s.get(t, "/healthz"); status != 200 {
				t.Errorf("/healthz = %d, want 200 whatever the checks say", status)
			}
		})
	}
}

// TestNegotiate: the format by Accept, as scrapers send it.
func TestNegotiate(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--", "sleep", "60")
	for accept, want := range map[string]string{
		"":    contentText,
		"*/*": contentText,
		// Prometheus 3, 2.5x, 2.4x
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2":                                                                                                  contentOpen,
		"application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2":                                                                                                                                                                           contentOpen,
		"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1":                                                                                                                                                                                contentOpen,
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": contentOpen,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8":                                                                                                                                                                                                                                           contentText, // a browser
		"text/plain;version=0.0.4;q=1,*/*;q=0.1":                       contentText, // Prometheus 2.0 to 2.4
		"text/plain":                                                   contentText,
		"application/openmetrics-text":                                 contentOpen,
		"application/openmetrics-text; version=1.0.0; charset=utf-8":   contentOpen,
		"application/openmetrics-text;q=0, */*":                        contentText,
		"application/openmetrics-text;q=0.1,text/plain;q=0.9":          contentText,
		"application/json":                                             contentText, // always 200
		",;q=,/,text/;=;version,q=2,\"":                                contentText,
		strings.Repeat("application/x;q=0.1,", 200) + "text/plain;q=1": contentText,
	} {
		header := http.Header{"Accept": {accept}}
		if accept == "" {
			header = nil
		}
		status, got, body := get(t, "GET", "http://"+s.addr(t)+"/metrics", header)
		if status != 200 || got.Get("Content-Type") != want || strings.HasSuffix(body, "\n# EOF\n") != (want == contentOpen) {
			t.Errorf("Accept %q: %d %q, want %q; body ends in %q", accept, status, got.Get("Content-Type"), want, body[max(len(body)-30, 0):])
		}
	}
}

// TestHiddenProc: without /proc, and with another namespace's, what it does not tell is left out, and nothing fails.
func TestHiddenProc(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func() *service{
		"empty": func() *service {
			cmd := unshare(t, "--mount", nil)
			cmd.Args = append(cmd.Args[:2], "sh", "-c", `mount -t tmpfs none /proc && exec "$0" "$@"`, built, "--export-prom", "127.0.0.1:0", "--", "sh", "-c", "sleep 600; exit")
			return launch(t, cmd)
		},
		"another namespace's": func() *service {
			return launch(t, unshare(t, "--pid --fork --kill-child", nil, "--export-prom", "127.0.0.1:0", "--", "sh", "-c", "sleep 600; exit"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start()
			s.until(t, "healthcheck_command_up", func(v float64) bool { return v == 1 })
			status, _, body := s.get(t, "/metrics")
			var names []string
			for _, f := range parse(t, body) {
				names = append(names, f.name)
			}
			want := "service_up healthcheck_command_up healthcheck_command_start_time_seconds healthcheck_orphans_reaped_total " +
				"healthcheck_process_cpu_seconds_total healthcheck_process_start_time_seconds healthcheck_build_info"
			if got := strings.Join(names, " "); status != 200 || got != want {
				t.Errorf("/metrics = %d, families %q, want %q", status, got, want)
			}
			for _, path := range []string{"/", "/health", "/healthz"} {
				if status, _, body := s.get(t, path); status != 200 || strings.Contains(body, "MiB") {
					t.Errorf("%s = %d %s", path, status, body)
				}
			}
		})
	}
}

// TestCountersGrow scrapes while descendants of CMD come and go, some of them reaped by CMD, some by healthcheck: no counter goes down.
func TestCountersGrow(t *testing.T) { // not beside others: it wants the processors for itself
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "10ms", "--tcp", accept(t), "--tcp", closedAddr(t), "--", "sh", "-c", `
		work='i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'
		while :; do sh -c "$work"; (sh -c "$work" & sh -c "(sh -c '$work' &)"); wait; done`)
	last := map[string]float64{}
	for scrapes := 0; scrapes < 100 || last["healthcheck_orphans_reaped_total"] < 20 || last[`healthcheck_command_cpu_seconds_total{mode="user"}`] < 0.3; scrapes++ {
		_, _, body := s.get(t, "/metrics")
		for _, f := range parse(t, body) {
			for series, v := range f.values {
				if f.kind == "counter" && v < last[series] {
					t.Fatalf("%s went from %v to %v", series, last[series], v)
				}
				last[series] = v
			}
		}
	}
	if last[`healthcheck_check_runs_total{check="tcp",result="success",type="tcp"}`] == 0 || last[`healthcheck_check_runs_total{check="tcp-2",result="failure",type="tcp"}`] == 0 {
		t.Errorf("no check has run: %v", last)
	}
}

// TestOutage has PostgreSQL and Redis hang, go and come back under a running wrapper.
func TestOutage(t *testing.T) { // not beside others: it wants the processors for itself
	cluster := testbed.InitPostgres(t, testbed.NewCA(t))
	cachePort, dbPort := testbed.FreePort(t), testbed.FreePort(t)
	// The last setting of a port counts; a server that comes back has to have the one it had.
	startCache := func() *testbed.Server { return testbed.Redis(t, "port "+cachePort) }
	startDB := func() *testbed.Server { return cluster.Start(t, "port="+dbPort) }
	cache, db := startCache(), startDB()
	pid := serverPID(t, filepath.Join(db.Dir, "data", "postmaster.pid"))

	const cacheURL, dbURL = "redis://127.0.0.1:", "postgres://trust@127.0.0.1:"
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "100ms", "--timeout", "2s", "--redis", "cache="+cacheURL+cachePort, "--postgres", "database="+dbURL+dbPort+"/app", "--", "sleep", "600")
	series := func(check, result string) string {
		return `healthcheck_check_runs_total{check="` + check + `",result="` + result + `",type="` + map[string]string{"cache": "redis", "database": "postgres"}[check] + `"}`
	}
	log := regexp.QuoteMeta("healthcheck 0.4.0: status and metrics on http://"+s.addr(t)+"/, 2 checks every 100ms") + "\n"
	state := func(status int, verdict, cache, database string) {
		t.Helper()
		want := fmt.Sprintf(`{"status":%q,"services":{"cache":%q,"database":%q}}`+"\n", verdict, cache, database)
		testbed.Poll(t, func() error {
			if got, _, body := s.get(t, "/health"); got != status || body != want {
				return fmt.Errorf("/health = %d %s, want %d %s", got, body, status, want)
			}
			return nil
		})
		if got, _, _ := s.get(t, "/healthz"); got != 200 {
			t.Errorf("/healthz = %d while %s, want 200", got, want)
		}
		_, _, body := s.get(t, "/metrics")
		if v := value(body, "service_health"); v != map[string]float64{"ok": 1, "error": 0}[verdict] {
			t.Errorf("service_health = %v while %s", v, want)
		}
		if v := value(body, "service_up"); v != 1 {
			t.Errorf("service_up = %v while %s", v, want)
		}
		_, _, page := s.get(t, "/")
		if headline := map[string]string{"ok": "Healthy", "error": "Unhealthy"}[verdict]; !strings.Contains(page, "<h1>"+headline+"</h1>") {
			t.Errorf("the page is not %s: %s", headline, page)
		}
	}
	// down waits for two more runs with a result, and what the page says.
	down := func(check, result, seen, logged string) {
		t.Helper()
		s.until(t, series(check, result), func(v float64) bool { return v >= 2 })
		if _, _, page := s.get(t, "/"); !strings.Contains(page, `<p class="seen">`+seen+"</p>") || !strings.Contains(page, "<h2><span>"+check+"</span> <b>FAIL</b></h2>") {
			t.Errorf("the page does not say %s of %s:\n%s", seen, check, page)
		}
		log += "healthcheck: FAIL " + check + "  .*" + logged + "\n"
	}
	up := func(check string) { log += "healthcheck: ok " + check + "  .*\n" }

	state(200, "ok", "ok", "ok")
	cache.Signal(t, syscall.SIGSTOP)
	down("cache", "timeout", "reply: timeout after 2s", "  reply: timeout after 2s")
	state(503, "error", "error", "ok")
	cache.Signal(t, syscall.SIGCONT)
	up("cache")
	state(200, "ok", "ok", "ok")

	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	down("database", "timeout", "reply: timeout after 2s", "  reply: timeout after 2s")
	state(503, "error", "ok", "error")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	up("database")
	state(200, "ok", "ok", "ok")

	db.Stop()
	down("database", "failure", "connect: connection refused", "  .*") // 57P03 may come first
	state(503, "error", "ok", "error")
	cache.Stop()
	down("cache", "failure", "connect: connection refused", "  .*") // reset, where a check was under way
	state(503, "error", "error", "error")
	startDB()
	up("database")
	state(503, "error", "error", "ok")
	startCache()
	up("cache")
	state(200, "ok", "ok", "ok")

	_, _, body := s.get(t, "/metrics")
	for _, check := range []string{"cache", "database"} {
		for _, result := range []string{"success", "failure", "timeout"} {
			if v := value(body, series(check, result)); !(v >= 2) {
				t.Errorf("%s = %v", series(check, result), v)
			}
		}
	}
	s.signal(t, syscall.SIGTERM)
	if got := s.status(t); got != 143 {
		t.Errorf("status %d, want 143", got)
	}
	if got := s.output(t, "stderr"); !regexp.MustCompile("^" + log + "$").MatchString(got) {
		t.Errorf("stderr:\n%s\nwant:\n%s", got, log)
	}
}

// serverPID is the number on a file's first line.
func serverPID(t testing.TB, file string) int {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestIdle: while no check is due and nobody scrapes, a wrapper sleeps in the kernel.
func TestIdle(t *testing.T) { // not parallel: it needs idle processors
	var asked atomic.Int32
	addr := httpServer(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "10h", "--http", "http://"+addr, "--", "sleep", "600")
	testbed.Poll(t, func() error {
		if asked.Load() != 1 {
			return fmt.Errorf("checked %d times", asked.Load())
		}
		return nil
	})
	s.get(t, "/healthz")
	wantIdle(t, s.pid)
}

// wantIdle fails the test unless, within a minute, there is an idleSpan in which the process has no
// context switch. Go's runtime needs some seconds until its background threads have finished and
// idle threads are parked.
func wantIdle(t testing.TB, pid int) {
	t.Helper()
	const idleSpan = 7 * time.Second // a ticker of 5 s ticks in each such span
	for begun := time.Now(); ; {
		before := contextSwitches(t, pid)
		<-time.After(idleSpan) // the span of the measurement, not a wait for an event
		woken := contextSwitches(t, pid) - before
		if woken == 0 {
			return
		}
		if time.Since(begun) > patience {
			t.Fatalf("%d context switches in %v", woken, idleSpan)
		}
	}
}

// contextSwitches returns how often a thread of the process gave up a processor to wait. Each
// wake-up ends with one such switch.
func contextSwitches(t testing.TB, pid int) (n int) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d has ended: %v", pid, err)
	}
	for _, task := range tasks {
		content, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) { // the thread has ended
			continue
		}
		m := voluntarySwitches.FindSubmatch(content)
		if err != nil || m == nil {
			t.Fatalf("%s: no voluntary_ctxt_switches: %v", task, err)
		}
		v, _ := strconv.Atoi(string(m[1]))
		n += v
	}
	return n
}

var voluntarySwitches = regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s*(\d+)`)
