// These tests show what healthcheck promises, as sessions in a terminal. test/e2e has every case.
package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"alfred/healthcheck/test/testbed"
)

var healthcheck string // the path of the binary

func TestMain(m *testing.M) { os.Exit(testbed.Main(m, ".", &healthcheck)) }

func TestProbe(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"status":"ok","services":{"database":"ok"}}`)
	}))
	defer api.Close()
	terminal{"API": api.URL, "REDIS": testbed.Redis(t, "requirepass p@ss:w/rd").Addr(), "REDIS_PASSWORD": "p@ss:w/rd",
		"PG": testbed.InitPostgres(t, testbed.NewCA(t)).Start(t).Addr(), "CLOSED": "127.0.0.1:" + testbed.FreePort(t),
	}.session(t, `
$ healthcheck --http $API/health --redis 'redis://:${REDIS_PASSWORD}@'$REDIS --postgres postgres://trust@$PG/app; echo exit $?
ok    http      $API/health  200 OK, status "ok", database ok  1ms
ok    redis     redis://$REDIS  PONG  1ms
ok    postgres  postgres://trust@$PG/app  PostgreSQL 15, SELECT 1 answered  1ms
exit 0

$ healthcheck --redis cache=redis://$REDIS --tcp broker=$CLOSED --tcp $REDIS; echo exit $?
FAIL  cache   redis://$REDIS  auth: NOAUTH Authentication required.  1ms
FAIL  broker  $CLOSED  connect: connection refused  1ms
ok    tcp     $REDIS  connected  1ms
exit 1

$ healthcheck --json --tcp broker=$CLOSED
{"status":"error","checks":[{"name":"broker","type":"tcp","target":"$CLOSED","status":"error","phase":"connect","message":"connection refused","duration_seconds":1}]}

$ HEALTHCHECK_TCP=cache=$REDIS healthcheck
ok    cache  $REDIS  connected  1ms

$ healthcheck --redis localhost:6379; echo exit $?
healthcheck: --redis: a URL begins with redis://, rediss:// or unix://
hint: write redis://localhost:6379
exit 125
`)
}

func TestWrapper(t *testing.T) {
	terminal{"CLOSED": "127.0.0.1:" + testbed.FreePort(t)}.session(t, `
$ healthcheck -- sh -c 'exit 3'; echo exit $?
exit 3

$ healthcheck -- sh -c 'kill -KILL $$'; echo exit $?
exit 137

$ healthcheck --success-status 143 -- sh -c 'kill -TERM $PPID; while :; do sleep .01; done'; echo exit $?
exit 0

$ healthcheck --stop-signal TERM:INT -- sh -c 'trap "echo got INT; exit 7" INT; kill -TERM $PPID; while :; do sleep .01; done'; echo exit $?
got INT
exit 7

$ healthcheck --kill-after 100ms -- sh -c 'trap "echo got TERM" TERM; kill -TERM $PPID; while :; do sleep .01; done'; echo exit $?
got TERM
exit 137

$ healthcheck --wait 300ms --tcp db=$CLOSED -- echo started; echo exit $?
healthcheck: waiting for db: connect: connection refused
healthcheck: gave up after 300ms, CMD is not started
FAIL  db  $CLOSED  connect: connection refused  1ms
exit 1

$ healthcheck -- no-such-command; echo exit $?
healthcheck: no-such-command: not found in PATH ($PATH)
exit 127
`)
}

func TestExporter(t *testing.T) {
	var broken atomic.Bool
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer api.Close()
	addr := "127.0.0.1:" + testbed.FreePort(t)
	cmd := exec.Command(healthcheck, "--export-prom", addr, "--interval", "50ms", "--http", "api="+api.URL, "--", "sleep", "600")
	cmd.Env = append(os.Environ(), "SERVICE_VERSION=1.2.3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })

	web := terminal{"ADDR": addr}
	web.wantGet(t, "/healthz", 200, `{"status":"ok"}`)
	web.wantGet(t, "/health", 200, `{"status":"ok","version":"1.2.3","services":{"api":"ok"}}`)
	web.wantGet(t, "/metrics", 200, "service_up 1\n", "service_health 1\n", `probe_success{check="api",type="http"} 1`+"\n",
		"healthcheck_command_up 1\n", "healthcheck_command_processes 1\n")
	web.wantGet(t, "/", 200, "<h1>Healthy</h1>")

	broken.Store(true)
	web.wantGet(t, "/health", 503, `{"status":"error","version":"1.2.3","services":{"api":"error"}}`)
	web.wantGet(t, "/healthz", 200, `{"status":"ok"}`) // the command runs
	web.wantGet(t, "/metrics", 200, "service_up 1\n", "service_health 0\n", `probe_success{check="api",type="http"} 0`+"\n")
	web.wantGet(t, "/", 200, "<h1>Unhealthy</h1>", "reply: 503 Service Unavailable")

	cmd.Process.Signal(syscall.SIGTERM)
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 143 {
		t.Errorf("%v after TERM, want exit status 143", cmd.ProcessState)
	}
}

// A terminal is an environment, in which session runs commands.
type terminal map[string]string

var (
	duration = regexp.MustCompile(`\b[0-9.]+m?s\n`)
	seconds  = regexp.MustCompile(`"duration_seconds":[0-9.]+`)
	release  = regexp.MustCompile(`PostgreSQL [0-9.]+`)
	gap      = regexp.MustCompile(` {2,}`)
)

// session runs each line behind "$ " in a shell, and compares its output with the lines below. There,
// names of the environment are replaced by their values, and a duration is 1ms.
func (e terminal) session(t *testing.T, transcript string) {
	e["PATH"] = filepath.Dir(healthcheck) + ":" + os.Getenv("PATH")
	for step := range strings.SplitSeq(strings.TrimSpace(transcript), "\n\n") {
		line, want, _ := strings.Cut(strings.TrimSpace(step)+"\n", "\n")
		cmd := exec.Command("sh", "-c", strings.TrimPrefix(line, "$ "))
		for name, value := range e {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		out, _ := cmd.CombinedOutput() // the status is in it
		got := duration.ReplaceAllString(string(out), "1ms\n")
		got = seconds.ReplaceAllString(got, `"duration_seconds":1`)
		got = release.ReplaceAllString(got, "PostgreSQL 15")
		want = os.Expand(want, func(name string) string { return e[name] })
		if gap.ReplaceAllString(got, "  ") != gap.ReplaceAllString(want, "  ") {
			t.Errorf("%s\n%s\nwant\n%s", line, out, want)
		}
	}
}

// wantGet waits until the answer for path has the status, and the texts in it.
func (e terminal) wantGet(t *testing.T, path string, status int, texts ...string) {
	t.Helper()
	testbed.Poll(t, func() error {
		resp, err := http.Get("http://" + e["ADDR"] + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		for _, text := range texts {
			if resp.StatusCode != status || !strings.Contains(string(body), text) {
				return fmt.Errorf("GET %s: %s %s, want %d with %s", path, resp.Status, body, status, text)
			}
		}
		return err
	})
}
