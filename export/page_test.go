//go:build linux

package export

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/supervise"
	"alfred/healthcheck/test/testbed"
)

var listen = sync.OnceValue(supervise.Listen)

// startSleep starts a command that runs until end is called or the test ends. Only one may run at a
// time, since Process.Wait reaps every child.
func startSleep(t *testing.T) (p *supervise.Process, end func()) {
	t.Helper()
	p, err := supervise.Command{Args: []string{"sleep", "1000"}}.Start(listen())
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		syscall.Kill(os.Getpid(), syscall.SIGTERM) // forwarded by Wait
		p.Wait()
	})
	t.Cleanup(end)
	return p, end
}

// answering starts a service that answers every request with status and body, and returns its URL.
func answering(t *testing.T, status int, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// closedPort returns an address on which nothing listens.
func closedPort(t *testing.T) string { return net.JoinHostPort("127.0.0.1", testbed.FreePort(t)) }

// newMonitor returns a Monitor of checks, each written as TYPE VALUE.
func newMonitor(t *testing.T, o probe.MonitorOptions, checks ...string) *probe.Monitor {
	t.Helper()
	var specs []probe.Spec
	for _, check := range checks {
		kind, value, _ := strings.Cut(check, " ")
		specs = append(specs, probe.Spec{Type: kind, Value: value, Source: "--" + kind})
	}
	parsed, err := probe.Parse(specs, probe.Options{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	o.Changed = func(probe.State) {}
	return probe.NewMonitor(parsed, o)
}

// runMonitor runs a Monitor until the test ends, and returns once every check has run.
func runMonitor(t *testing.T, m *probe.Monitor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) }) // ends with the test
	t.Cleanup(func() { cancel(); running.Wait() })
	awaitRuns(t, m)
}

// awaitRuns returns once every check has run.
func awaitRuns(t *testing.T, m *probe.Monitor) {
	t.Helper()
	testbed.Poll(t, func() error {
		for _, s := range m.States(nil) {
			if s.Last.Check == nil {
				return errors.New(s.Check.Name + " has not run")
			}
		}
		return nil
	})
}

var style = regexp.MustCompile(`(?s)<style>.*?</style>`)

// textOf returns a page's text, with each run of tags replaced by |. It fails the test if the page
// is not well-formed.
func textOf(t *testing.T, page string) string {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(style.ReplaceAllString(page, "")))
	var text strings.Builder
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v\n%s", err, page)
		}
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		default:
			if !strings.HasSuffix(text.String(), "|") {
				text.WriteString("|")
			}
		}
	}
	return strings.ReplaceAll(text.String(), "| |", "|")
}

// TestPageStatuses checks the page's text in each state of the service.
func TestPageStatuses(t *testing.T) {
	ok := "http api=" + answering(t, 200, `{"status":"ok","services":{"db":"ok","queue":"degraded"}}`)
	degraded := "http mail=" + answering(t, 200, `{"status":"degraded","services":{"smtp":"degraded"}}`)
	closed := closedPort(t)
	failing := "redis cache=redis://:hunter2@" + closed
	const (
		none = iota // a sidecar
		notStarted
		started
		over
	)
	for _, tt := range []struct {
		name    string
		command int
		wait    probe.Limits // runs Monitor.Wait if it is not empty, else Monitor.Run
		options probe.MonitorOptions
		checks  []string
		icon    string
		want    []string // in this order
		never   []string
	}{
		{"healthy", started, probe.Limits{}, probe.MonitorOptions{}, []string{ok}, green,
			[]string{"|Healthy: orders|", "|orders| 1.2.3|Healthy|Checks: 1 ok.|", "|Command |sleep|running|uptime|", "|CPU|", " % of one core|CPU time|", "|memory|", "|processes|1|threads|1|descriptors|",
				"|api|ok|http://127.0.0.1:", "|200 OK, status \"ok\", db ok, queue degraded|", "UTC, ", "ms: 200 OK", "|1 run, ", "ms|queue |degraded|db |ok|ok for|0 s, since ", " UTC|last run|", "healthcheck test · "},
			[]string{"waiting", "in a row", "last ok"}},
		{"degraded", started, probe.Limits{}, probe.MonitorOptions{}, []string{ok, degraded}, amber,
			[]string{"|Degraded: orders|", "|Degraded|Checks: 1 degraded, 1 ok.|", "|mail|degraded|", "|Command |sleep|running|", "|api|ok|"}, nil},
		{"unhealthy", started, probe.Limits{}, probe.MonitorOptions{}, []string{ok, degraded, failing}, red,
			[]string{"|Unhealthy: orders|", "|Unhealthy|Checks: 1 failed, 1 degraded, 1 ok.|", "|cache|FAIL|redis://" + closed + "|connect: connection refused|", ", 1 failed|", "|last ok|never|failures|1 in a row|", "|mail|degraded|", "|Command |", "|api|ok|"}, nil},
		{"starting", started, probe.Limits{}, probe.MonitorOptions{StartPeriod: time.Hour}, []string{ok, failing}, amber,
			[]string{"|Starting: orders|", "|Starting|Checks: 1 starting, 1 ok.|", "|cache|starting|", "|connect: connection refused|last run|", "|api|ok|"}, []string{"failures", "FAIL"}},
		{"waiting", notStarted, probe.Limits{Named: map[string]time.Duration{"cache": time.Hour}}, probe.MonitorOptions{}, []string{ok, failing}, amber,
			[]string{"|Waiting: orders|", "|Waiting|The command has not been started. Waiting for cache until ", " UTC. Checks: 2 starting.|", "|Command |sleep|waiting|", "|api|starting|", "|not checked yet|", "|cache|starting|", "|connect: connection refused|waiting until|", " UTC, ", " left|"},
			[]string{"uptime", "failures", "FAIL"}},
		{"nothing checked", started, probe.Limits{}, probe.MonitorOptions{}, nil, grey,
			[]string{"|Running, nothing checked: orders|", "|Running, nothing checked|No check is configured. Set |HEALTHCHECK_HTTP=|http://localhost:PORT/health| to add one.|", "|Command |sleep|running|uptime|"}, []string{"Healthy", "Checks:"}},
		{"ended", over, probe.Limits{}, probe.MonitorOptions{}, []string{ok}, red,
			[]string{"|Ended: orders|", "|Ended|The command has ended. Checks: 1 ok.|", "|Command |sleep|ended|started|", "|api|ok|"}, []string{"uptime", "CPU"}},
		{"sidecar", none, probe.Limits{}, probe.MonitorOptions{}, []string{ok}, green,
			[]string{"|Healthy: orders|", "|Healthy|Checks: 1 ok.|", "|api|ok|"}, []string{"ommand"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Interval = time.Hour
			m := newMonitor(t, tt.options, tt.checks...)
			c := Config{Monitor: m, Wait: tt.wait, ServiceName: "orders", ServiceVersion: "1.2.3", Version: "test"}
			if tt.command != none {
				c.Command = "sleep"
			}
			e := New(c)
			if tt.command > notStarted {
				process, end := startSleep(t)
				e.SetProcess(process)
				if tt.command == over {
					end()
				}
			}
			if tt.wait.None() {
				runMonitor(t, m)
			} else {
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { m.Wait(ctx, tt.wait, func(probe.Result) {}) }) // ends with the test
				t.Cleanup(func() { cancel(); running.Wait() })
				testbed.Poll(t, func() error {
					for _, s := range m.States(nil) {
						if tt.wait.Of(s.Check) > 0 && s.Last.Check == nil {
							return errors.New(s.Check.Name + " has not run")
						}
					}
					return nil
				})
			}
			page := string(e.page().body)
			text := textOf(t, page)
			rest := text
			for _, want := range tt.want {
				before, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("%q is not on the page, or not after %q:\n%s", want, before, text)
				}
				rest = want[len(want)-1:] + after // the | at its end may also begin the next text
			}
			for _, never := range tt.never {
				if strings.Contains(text, never) {
					t.Errorf("%q is on the page:\n%s", never, text)
				}
			}
			if icon := "fill='%23" + tt.icon + "'"; !strings.Contains(page, icon) {
				t.Errorf("the icon's color is not %s:\n%s", icon, page)
			}
			if strings.Contains(page, "hunter2") {
				t.Errorf("a secret is on the page:\n%s", page)
			}
		})
	}
}

// TestPageRetries: while a failed check has retries left, the page shows it as ok, together with
// the failure.
func TestPageRetries(t *testing.T) {
	broken := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-broken:
			w.WriteHeader(503)
		default:
		}
	}))
	t.Cleanup(s.Close)
	m := newMonitor(t, probe.MonitorOptions{Interval: time.Millisecond, Retries: 1e9}, "http api="+s.URL)
	runMonitor(t, m)
	close(broken)
	testbed.Poll(t, func() error {
		if m.States(nil)[0].ConsecutiveFailures < 3 {
			return errors.New("no failure")
		}
		return nil
	})
	text := textOf(t, string(New(Config{Monitor: m}).page().body))
	for _, want := range []string{"|Healthy|", "|api|ok|", "|reply: 503 Service Unavailable|", "|last ok|0 s ago, at ", " in a row|"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page:\n%s", want, text)
		}
	}
}

// TestPageHostile: names and text from peers add no element and no invisible character to the page.
func TestPageHostile(t *testing.T) {
	const hostile = "</p><script>alert(1)</script>'\"&amp;\x1b\u202e\u200b\n"
	const shown = `</p><script>alert(1)</script>'"&amp;\x1b\u202e\u200b\n`
	name, err := json.Marshal("A" + hostile)
	if err != nil {
		t.Fatal(err)
	}
	dependencies := fmt.Sprintf(`{"services":{%s:"ok","B":"down"}}`, name)
	m := newMonitor(t, probe.MonitorOptions{Interval: time.Hour}, "http api="+answering(t, 200, dependencies))
	runMonitor(t, m)
	page := string(New(Config{Monitor: m, Command: hostile, ServiceName: "N" + hostile, ServiceVersion: "V" + hostile, Version: "0"}).page().body)
	text := textOf(t, page)
	for _, want := range []string{": N" + shown, "|N" + shown + "| V" + shown + "|", "|Command |" + shown + "|", "|A" + shown + " |ok|", "|B |error|A"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page:\n%s", want, text)
		}
	}
	if strings.Contains(page, "<script") || strings.ContainsAny(page, "\x1b\u202e\u200b") {
		t.Errorf("the page holds a script or an invisible character:\n%s", page)
	}
}

// TestPageStrip: the strip has a bar for each of the last 60 runs, the newest at the right end.
func TestPageStrip(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	run := func(i int, d time.Duration, status probe.Status, seen string) probe.Run {
		return probe.Run{Start: at.Add(time.Duration(i) * time.Second), Duration: d, Status: status, Seen: seen}
	}
	var full []probe.Run
	for i := range 61 {
		full = append(full, run(i, time.Millisecond, probe.OK, "PONG"))
	}
	const slot = `0h4v32h-4z"/>`
	for _, tt := range []struct {
		name string
		runs []probe.Run
		bars int
		want []string
	}{
		{"none", nil, 0, nil},
		{"one", full[:1], 1, []string{`<g class="ok"><title>03:04:05 UTC, 1.0ms: PONG</title>`, `d="M295 ` + slot, `d="M295 26h4v6h-4z"/>`, "<figcaption>1 run, 1.0ms</figcaption>"}},
		{"mixed", []probe.Run{run(0, 0, probe.OK, "a"), run(1, 20*time.Second, probe.Failed, "b <c>"), run(2, 10*time.Millisecond, probe.Degraded, strings.Repeat("ä", 101))}, 3,
			[]string{`<g class="ok">`, `d="M285 29h4v3h-4z"/>`, `<g class="error">`, "20.00s: b &lt;c&gt;</title>", `d="M290 0h4v32h-4z"/></g>`, `<g class="degraded">`, ": " + strings.Repeat("ä", 99) + "…</title>",
				"<figcaption>last 3 runs, 0.0ms to 20.00s, 1 failed</figcaption>"}},
		{"more than fit", full, 60, []string{"<title>03:04:06 UTC", `d="M0 ` + slot, "<title>03:05:05 UTC", `d="M295 ` + slot, "<figcaption>last 60 runs, 1.0ms to 1.0ms</figcaption>"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pageWriter{now: at}
			writeStrip(p, tt.runs)
			got := p.String()
			if n := strings.Count(got, "<g "); n != tt.bars {
				t.Errorf("%d bars, want %d: %s", n, tt.bars, got)
			}
			rest := got
			for _, want := range tt.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("%q is missing or out of order in %s", want, got)
				}
				rest = after
			}
		})
	}
}

// TestPageTimes checks how the page formats times and durations.
func TestPageTimes(t *testing.T) {
	p := &pageWriter{now: time.Date(2026, 1, 2, 0, 0, 5, 0, time.FixedZone("", 3600))} // 2026-01-01 23:00:05 UTC
	for _, tt := range []struct {
		since time.Duration
		want  string
	}{
		{0, "0 s, since 23:00:05 UTC"},
		{59400 * time.Millisecond, "59 s, since 22:59:05 UTC"},
		{125 * time.Second, "2 min 5 s, since 22:58:00 UTC"},
		{23 * time.Hour, "23 h 0 min, since 00:00:05 UTC"},
		{49 * time.Hour, "2 d 1 h, since 2025-12-30 22:00:05 UTC"},
	} {
		if got := p.lasting(p.now.Add(-tt.since)); got != tt.want {
			t.Errorf("lasting %v: %q, want %q", tt.since, got, tt.want)
		}
	}
	for n, want := range map[int64]string{0: "0.0 KiB", 512 << 10: "512.0 KiB", 3 << 19: "1.5 MiB", 5 << 29: "2.5 GiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("formatBytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestPageCPU: the page shows the CPU use since the previous reading, so it soon shows none for a
// command that has become idle.
func TestPageCPU(t *testing.T) {
	const busyThenIdle = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done; exec sleep 1000"
	p, err := supervise.Command{Args: []string{"sh", "-c", busyThenIdle}}.Start(listen())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(os.Getpid(), syscall.SIGTERM); p.Wait() })
	var c usageCache
	for _, enough := range []func(seconds, cores float64) bool{
		func(_, cores float64) bool { return cores > 0.05 && cores < 1.5 },
		func(seconds, cores float64) bool { return seconds > 0.1 && cores < 0.01 },
	} {
		testbed.Poll(t, func() error {
			u, cores, err := c.readCPU(p)
			if seconds := u.UserSeconds + u.SystemSeconds; err != nil || !enough(seconds, cores) {
				return fmt.Errorf("%v cores busy, %v s used, %v", cores, seconds, err)
			}
			return nil
		})
	}
}

// TestPageDuringRuns renders the page while checks run, for the race detector.
func TestPageDuringRuns(t *testing.T) {
	m := newMonitor(t, probe.MonitorOptions{Interval: time.Millisecond}, "http api="+answering(t, 200, `{"services":{"db":"ok"}}`), "tcp port="+closedPort(t))
	e := New(Config{Monitor: m, ServiceName: "orders"})
	runMonitor(t, m)
	var reading sync.WaitGroup
	for range 4 {
		reading.Go(func() {
			for range 25 {
				r := httptest.NewRecorder()
				e.ServeHTTP(r, httptest.NewRequest("GET", "/", nil))
				if !strings.HasSuffix(r.Body.String(), "</html>\n") {
					t.Errorf("a page ends with %q", r.Body)
				}
			}
		})
	}
	reading.Wait()
	for _, s := range m.States(nil) {
		if s.Successes+s.Failures < 2 {
			t.Errorf("%s did not run meanwhile", s.Check.Name)
		}
	}
}
