package platform

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// A platform is examples/ in an engine, as the compose project mark.
type platform struct {
	t    *testing.T
	args []string // of docker-compose
	env  []string
	addr map[string]string // of what the host publishes, by the variable of compose.yaml that says where
}

// interval is how often the wrappers check in these tests; deadline is healthcheck's for one check.
const interval, deadline = time.Second, 5 * time.Second

var services = []string{"api", "web", "postgres", "redis", "prometheus"}

// newPlatform copies examples/ and changes what tests need otherwise: the healthcheck
// image is the one made here, the base images are stand-ins, minutes are seconds.
func newPlatform(t *testing.T) *platform {
	testbed.Need(t, "docker-compose")
	testbed.Need(t, "dpkg-query")
	standins, err := try(nil, "go", "run", "./standin")
	if err != nil {
		if missing := regexp.MustCompile(`package \S+ of Debian`).FindString(err.Error()); missing != "" {
			testbed.Need(t, missing)
		}
		t.Fatal(err)
	}
	image := importHealthcheck(t)

	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(examples)); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		edit(t, dir+"/"+s+"/Dockerfile", "FROM alfred/healthcheck:0.4.0 AS healthcheck\n", "FROM "+image+" AS healthcheck\n")
	}
	if err := os.Chmod(dir+"/redis/start-redis", 0o755); err != nil { // os.CopyFS keeps no mode
		t.Fatal(err)
	}
	edit(t, dir+"/prometheus/prometheus.yml", "examples_default", mark+"_default")
	edit(t, dir+"/prometheus/prometheus.yml", ": 15s\n", ": 1s\n")
	edit(t, dir+"/prometheus/prometheus.yml", ": 10s\n", ": 1s\n")
	edit(t, dir+"/prometheus/alerts.yml", "for: 1m\n", "for: 2s\n")

	override := "services:\n"
	for _, s := range services {
		arg := strings.ToUpper(s) + "_IMAGE"
		switch s {
		case "api":
			arg = "PYTHON_IMAGE"
		case "web":
			arg = "NODE_IMAGE"
		}
		base := regexp.MustCompile(`(?m)^` + arg + `=(.+)$`).FindStringSubmatch(standins)
		if base == nil {
			t.Fatalf("no stand-in for %s in %q", arg, standins)
		}
		override += fmt.Sprintf(`  %s:
    build: {args: {%s: '%s'}, labels: {%s: '1'}}
    environment: {HEALTHCHECK_INTERVAL: %v}
    healthcheck: {interval: 3s, timeout: 30s, retries: 2, start_period: 10m}
`, s, arg, base[1], mark, interval)
	}
	if err := os.WriteFile(dir+"/override.yaml", []byte(override), 0o600); err != nil {
		t.Fatal(err)
	}

	p := &platform{t: t, addr: map[string]string{}, args: []string{"-p", mark, "-f", dir + "/compose.yaml", "-f", dir + "/override.yaml"}}
	free := freePorts(t)
	for _, variable := range []string{"API_METRICS_PORT core1", "WEB_METRICS_PORT core2", "POSTGRES_METRICS_PORT database1", "REDIS_METRICS_PORT database2", "PROMETHEUS_METRICS_PORT monitoring1", "API_PORT", "WEB_PORT", "PROMETHEUS_PORT"} {
		variable, name, _ := strings.Cut(variable, " ")
		port := free[name]
		if name == "" {
			port = testbed.FreePort(t)
		}
		if port == "" {
			t.Fatalf("too few ports of the guide's ranges are free on %s: no %s in %v", host, name, free)
		}
		p.addr[variable] = host + ":" + port
		p.env = append(p.env, variable+"="+host+":"+port) // an address may stand in front of the port
	}
	return p
}

// edit replaces what must be in a file.
func edit(t *testing.T, path, old, replacement string) {
	t.Helper()
	before := read(t, path)
	after := strings.ReplaceAll(before, old, replacement)
	if after == before {
		t.Fatalf("%s holds no %q", filepath.Base(path), old)
	}
	if err := os.WriteFile(path, []byte(after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *platform) compose(args ...string) string {
	p.t.Helper()
	out, err := try(p.env, "docker-compose", append(slices.Clone(p.args), args...)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// container returns the id of a service's.
func (p *platform) container(service string) string {
	p.t.Helper()
	return strings.TrimSpace(p.compose("ps", "-q", service))
}

// verdict returns the /health of what exports at a variable's address.
func (p *platform) verdict(variable string) (v struct {
	Status   string
	Services map[string]string
	code     int
}, err error) {
	body, code, err := get("http://" + p.addr[variable] + "/health")
	if err == nil {
		err = json.Unmarshal([]byte(body), &v)
	}
	v.code = code
	return v, err
}

// want polls until a verdict has a status, and these of its services.
func (p *platform) want(variable, status string, services map[string]string) {
	p.t.Helper()
	code := 200
	if status == "error" {
		code = 503
	}
	poll(p.t, variable+" says "+status, func() error {
		v, err := p.verdict(variable)
		if err != nil {
			return err
		}
		wrong := v.Status != status || v.code != code
		for name, status := range services {
			wrong = wrong || v.Services[name] != status
		}
		if wrong {
			return fmt.Errorf("it says %+v", v)
		}
		return nil
	})
}

// engineSays polls until the engine has a state of health of a service.
func (p *platform) engineSays(service, health string) {
	p.t.Helper()
	id := p.container(service)
	poll(p.t, "docker ps says that "+service+" is "+health, func() error {
		status := do(p.t, "docker", "ps", "--no-trunc", "--filter", "id="+id, "--format", "{{.Status}}")
		if !strings.HasSuffix(status, "("+health+")") {
			return errors.New(status)
		}
		return nil
	})
}

// fire polls until all these alerts fire, "ALERT SERVICE". It returns the labels of all that fire.
func (p *platform) fire(want ...string) (alerts []map[string]string) {
	p.t.Helper()
	poll(p.t, fmt.Sprintf("alerts %v", want), func() (err error) {
		alerts, err = prometheus(p.addr["PROMETHEUS_PORT"]).firing()
		for _, a := range want {
			if err == nil && !slices.Contains(alertNames(alerts), a) {
				err = fmt.Errorf("firing are %q", alertNames(alerts))
			}
		}
		return err
	})
	return alerts
}

// TestPlatform brings the whole of examples/ up, lets its database and its cache
// stop and come back, and stops each service.
func TestPlatform(t *testing.T) {
	needEngine(t)
	p := newPlatform(t)
	down := func() error {
		_, err := try(p.env, "docker-compose", append(slices.Clone(p.args), "down", "-v", "--remove-orphans", "-t", "5")...)
		return err
	}
	if err := down(); err != nil { // of a run that was killed
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := try(p.env, "docker-compose", append(slices.Clone(p.args), "logs", "--no-color", "--tail", "50")...)
			t.Log(out)
		}
		if err := down(); err != nil {
			t.Error(err)
		}
		try(nil, "docker", "image", "prune", "-f", "--filter", "label="+mark) // what this build replaced
	})
	began := time.Now()
	p.compose("build")
	t.Logf("built: %.1f s", time.Since(began).Seconds())
	began = time.Now()
	p.compose("up", "-d")
	t.Logf("up: %.1f s", time.Since(began).Seconds())

	allWell := func() {
		t.Helper()
		poll(t, "verify-health.sh finds all healthy", func() error { // on a busy machine a check times out now and then
			out, status := verify("--project", mark, "--wait", "120")
			if status != 0 || !strings.HasSuffix(out, "\n5 containers, all healthy\n") {
				return fmt.Errorf("status %d\n%s", status, out)
			}
			t.Logf("\n%s", out)
			return nil
		})
	}
	allWell()

	t.Run("endpoints", p.endpoints)
	t.Run("discovery", p.discovery)
	ok := map[string]string{"http": "ok", "database": "ok", "cache": "ok"}
	p.want("API_METRICS_PORT", "ok", ok)

	// Without its database the api is broken, and nothing else is.
	id, since := p.container("postgres"), p.now()
	stopped := make(chan string)
	go func() { // ends before the wait below does
		_, err := try(nil, "docker", "stop", id)
		stopped <- fmt.Sprint(err)
	}()
	p.want("API_METRICS_PORT", "error", map[string]string{"database": "error", "cache": "ok"})
	noticed := time.Now()
	if err := <-stopped; err != "<nil>" {
		t.Fatal(err)
	}
	_, died, err := p.events(id, since)
	if err != nil {
		t.Fatal(err)
	}
	took := noticed.Sub(time.Unix(0, died.TimeNano))
	t.Logf("the verdict changed %.1f s after the database was gone", took.Seconds())
	if took > interval+deadline+time.Second { // a check may be under way when it goes; a second is for this test to see it
		t.Errorf("that is more than an interval of %v and a check's deadline of %v", interval, deadline)
	}
	p.engineSays("api", "unhealthy")
	alerts := p.fire("ServiceUnhealthy api", "ProbeFailing api", "DependencyFailing api", "ServiceGone postgres")
	startAlertmanager(t).sends(t, alerts, "ServiceGone postgres")
	p.want("WEB_METRICS_PORT", "ok", map[string]string{"api": "ok", "cache": "ok"})
	out, status := verify("--project", mark)
	for _, want := range []string{"FAIL  platformtest_postgres_1: it is not running: exited (0)\n", "FAIL  platformtest_api_1: it is unhealthy: FAIL  http"} {
		if status != 1 || !strings.Contains(strings.ReplaceAll(out, mark+"-", mark+"_"), want) {
			t.Errorf("verify-health.sh: status %d, want 1 and %q\n%s", status, want, out)
		}
	}
	p.compose("start", "postgres")
	p.want("API_METRICS_PORT", "ok", ok)
	p.engineSays("api", "healthy")

	// Without their cache both are degraded: that passes, and is said.
	p.compose("stop", "redis")
	p.want("API_METRICS_PORT", "degraded", map[string]string{"database": "ok", "cache": "error"})
	p.want("WEB_METRICS_PORT", "degraded", map[string]string{"api": "ok", "cache": "error"})
	out, status = verify(p.container("api"), p.container("web"))
	if status != 0 || strings.Count(out, "  degraded  ") != 2 {
		t.Errorf("verify-health.sh: status %d, want 0 and both degraded\n%s", status, out)
	}
	p.compose("start", "redis")
	p.want("WEB_METRICS_PORT", "ok", nil)
	poll(t, "no alert fires", func() error {
		alerts, err := prometheus(p.addr["PROMETHEUS_PORT"]).firing()
		if err == nil && len(alerts) > 0 {
			err = fmt.Errorf("%q", alertNames(alerts))
		}
		return err
	})
	p.engineSays("postgres", "healthy")
	p.engineSays("redis", "healthy")
	allWell()

	t.Run("secrets", p.secrets)
	t.Run("stop", p.stop)
}

// endpoints are the three that the guide wants of a service, and one that works.
func (p *platform) endpoints(t *testing.T) {
	for _, test := range []struct{ variable, path, want string }{
		{"API_PORT", "/health", `{"status":"ok","version":"1.0.0","services":{"database":"ok","cache":"ok"}}`},
		{"WEB_PORT", "/health", `{"status":"ok","version":"1.0.0","services":{"api":"ok","cache":"ok"}}`},
		{"API_PORT", "/healthz", `{"status":"ok"}`},
		{"WEB_PORT", "/healthz", `{"status":"ok"}`},
		{"WEB_PORT", "/", `{"hello":\d+}`},
		{"API_METRICS_PORT", "/healthz", `{"status":"ok"}`},
	} {
		poll(t, test.variable+test.path, func() error { // with every core taken a service gives up on another now and then
			body, status, err := get("http://" + p.addr[test.variable] + test.path)
			if err == nil && (status != 200 || !regexp.MustCompile("^"+test.want+"$").MatchString(strings.TrimSpace(body))) {
				err = fmt.Errorf("%d %s, want %s", status, body, test.want)
			}
			return err
		})
	}
	for _, variable := range []string{"API_PORT", "WEB_PORT"} {
		body, _, err := get("http://" + p.addr[variable] + "/metrics")
		if !regexp.MustCompile(`(?s)service_up 1\n.*service_requests_total [1-9]\d*\n$`).MatchString(body) {
			t.Errorf("/metrics of %s: %q (%v)", variable, body, err)
		}
	}
}

// discovery is what Prometheus finds by itself.
func (p *platform) discovery(t *testing.T) {
	poll(t, "all targets are up", func() error {
		series, err := prometheus(p.addr["PROMETHEUS_PORT"]).query(`up == 1`)
		if err != nil {
			return err
		}
		var found []string
		for _, s := range series {
			found = append(found, s["job"]+" "+s["service"])
		}
		slices.Sort(found)
		want := []string{"application api", "application web", "healthcheck api", "healthcheck postgres", "healthcheck prometheus", "healthcheck redis", "healthcheck web"}
		if !slices.Equal(found, want) {
			return fmt.Errorf("it has %q, want %q", found, want)
		}
		return nil
	})
}

// secrets must show nowhere: not in what the engine tells, not in logs, metrics or argv.
func (p *platform) secrets(t *testing.T) {
	var told strings.Builder
	for _, s := range services {
		id := p.container(s)
		told.WriteString(do(t, "docker", "inspect", id) + do(t, "docker", "top", id, "-eo", "pid,args"))
	}
	told.WriteString(p.compose("logs", "--no-color"))
	for variable, addr := range p.addr {
		for _, path := range []string{"/", "/metrics", "/health"} {
			if strings.HasSuffix(variable, "_METRICS_PORT") {
				body, _, err := get("http://" + addr + path)
				if err != nil {
					t.Error(err)
				}
				told.WriteString(body)
			}
		}
	}
	for _, name := range []string{"db_password", "redis_password"} {
		if strings.Contains(told.String(), strings.TrimSpace(read(t, examples+"/secrets/"+name))) {
			t.Errorf("%s shows", name)
		}
	}
}

// stop ends each service. The engine's events say how long its processes took from
// the signal on; docker stop takes longer, for it also takes network and root down.
func (p *platform) stop(t *testing.T) {
	for _, test := range []struct {
		service, signal string
		status          string
	}{
		{"web", "TERM", "0"}, // it closes its server
		{"api", "TERM", "0"},
		{"redis", "TERM", "0"},
		{"postgres", "INT", "0"},
		{"prometheus", "TERM", "0"},
		{"web", "HUP", "129"}, // node dies of it, and healthcheck says so
	} {
		var took, soon time.Duration
		for range 3 {
			p.compose("up", "-d", "--no-deps", test.service)
			p.started(test.service)
			var status string
			took, status = p.end(test.service, test.signal)
			t.Logf("%s, %s: status %s after %v", test.service, test.signal, status, took)
			if status != test.status {
				t.Errorf("%s ended with status %s, want its own, %s", test.service, status, test.status)
			}
			if soon = second(t); took < soon {
				break
			}
		}
		if took >= soon {
			t.Errorf("%s took %v to end, which is more than %v, three times", test.service, took, soon)
		}
	}
}

// second is how long a process may take that does so in a second: with more to run
// than there are cores, as many times longer.
func second(t *testing.T) time.Duration {
	t.Helper()
	load, err := strconv.ParseFloat(strings.Fields(read(t, "/proc/loadavg"))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(max(1, load/float64(runtime.NumCPU())) * float64(time.Second))
}

// started polls until a service answers its check, even if it reports that a dependency is
// missing. Before that it may not catch signals.
func (p *platform) started(service string) {
	p.t.Helper()
	variable := strings.ToUpper(service) + "_METRICS_PORT"
	poll(p.t, service+" is there", func() error {
		v, err := p.verdict(variable)
		answered := v.Services["database"] != "" || v.Services["api"] != ""
		if err == nil && (v.Status == "error" || v.Status == "starting") && !answered {
			err = errors.New(v.Status)
		}
		return err
	})
}

// end stops a service, or sends it a signal, and returns how long that took it
// and the status it left, as the engine saw them.
func (p *platform) end(service, signal string) (took time.Duration, status string) {
	p.t.Helper()
	id, since := p.container(service), p.now()
	if signal == "HUP" {
		do(p.t, "docker", "kill", "--signal", signal, id)
	} else {
		do(p.t, "docker", "stop", "-t", "60", id)
	}
	var killed, died event
	poll(p.t, service+" ends", func() (err error) {
		killed, died, err = p.events(id, since)
		return err
	})
	return time.Duration(died.TimeNano - killed.TimeNano), died.Actor.Attributes["exitCode"]
}

// An event is one of docker events.
type event struct {
	Action   string
	TimeNano int64
	Actor    struct{ Attributes map[string]string }
}

// now is the time as docker events takes it.
func (p *platform) now() string {
	now := time.Now()
	return fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())
}

// events returns when a container first got a signal since then, and ended.
func (p *platform) events(id, since string) (killed, died event, err error) {
	out, err := try(nil, "docker", "events", "--since", since, "--until", p.now(), "--filter", "container="+id,
		"--filter", "event=kill", "--filter", "event=die", "--format", "{{json .}}")
	for line := range strings.Lines(out) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return killed, died, err
		}
		switch {
		case e.Action == "kill" && killed.TimeNano == 0:
			killed = e
		case e.Action == "die" && died.TimeNano == 0:
			died = e
		}
	}
	if err == nil && (killed.TimeNano == 0 || died.TimeNano == 0) {
		err = fmt.Errorf("the engine tells %q", out)
	}
	return killed, died, err
}
