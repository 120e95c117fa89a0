package e2e_test

import (
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

func TestTCP(t *testing.T) {
	t.Parallel()
	open := accept(t)
	_, port, _ := net.SplitHostPort(open)
	v := vars{"open": open, "port": port, "closed": closedAddr(t)}
	rows := []row{
		{"--tcp $open", 0, "ok    tcp  $open  connected"},
		{"--tcp localhost:$port", 0, "ok    tcp  localhost:$port  connected"},
		{"--tcp $closed", 1, "FAIL  tcp  $closed  connect: connection refused"},
		{"--tcp no..such.host:80", 1, "FAIL  tcp  no..such.host:80  resolve: no such host"},
		{"--tcp localhost", 125, "--tcp: HOST:PORT is wanted"},
		{"--tcp localhost:0", 125, "--tcp: the port is missing or not valid"},
	}
	if testbed.HasIPv6() {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		testbed.ServeOn(t, l, func(net.Conn) {})
		v["six"] = l.Addr().String()
		_, v["sixport"], _ = net.SplitHostPort(v["six"])
		rows = append(rows,
			row{"--tcp $six", 0, "ok    tcp  $six  connected"},
			row{"--tcp localhost:$sixport", 0, "ok    tcp  localhost:$sixport  connected"})
	}
	check(t, v, rows)
}

func TestNames(t *testing.T) {
	t.Parallel()
	check(t, vars{"open": accept(t), "closed": closedAddr(t)}, []row{
		{"--tcp $open --tcp main_db=$closed --tcp $closed --redis redis://$closed --tcp $open", 1,
			"ok    tcp      $open  connected\n" +
				"FAIL  main_db  $closed  connect: connection refused\n" +
				"FAIL  tcp-2  $closed  connect: connection refused\n" +
				"FAIL  redis  redis://$closed  connect: connection refused\n" +
				"ok    tcp-3  $open  connected"},
		{"--tcp _a-1=$open", 0, "ok    _a-1  $open  connected"},
		{"-tcp $open", 0, "ok    tcp  $open  connected"},
		{"--tcp=$open", 0, "ok    tcp  $open  connected"},
		{"--tcp $open --redis tcp=redis://$open", 125, "--redis: two checks are named tcp"},
	})
}

// TestAligned compares the columns of a report.
func TestAligned(t *testing.T) {
	t.Parallel()
	open, closed := accept(t), closedAddr(t)
	got := run(t, nil, "--tcp", open, "--tcp", "a_longer_name="+closed)
	rows := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	if len(rows) != 2 || strings.Index(rows[0], open) != strings.Index(rows[1], closed) ||
		strings.Index(rows[0], "connected") != strings.Index(rows[1], "connect: ") {
		t.Errorf("stdout, not aligned:\n%s", got.stdout)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	check(t, nil, []row{
		{"", 125, "no check is named"},
		{"localhost:80", 125, "unexpected positional argument, word 1 of the command line"},
		{"--tcpp localhost:80", 125, "unknown option --tcpp\ndid you mean --tcp? healthcheck --help lists every option"},
		{"--tcp localhost:80 --timeout 5", 125, "--timeout: a duration has a unit\nwrite 5s for seconds"},
		{"--http localhost:8080/health", 125,
			"--http: a URL begins with http:// or https://\nwrite http://localhost:8080/health"},
		{"--http redis://localhost", 125, "--http: a redis:// URL belongs to --redis\nwrite --redis before it"},
		{"--redis localhost:6379", 125, "--redis: a URL begins with redis://, rediss:// or unix://\nwrite redis://localhost:6379"},
		{"--postgres postgresql+asyncpg://app@db/app", 125,
			"--postgres: scheme: names a driver\n" +
				"leave out the + and the driver's name: postgresql://…"},
		{"--postgres postgres://db/app?schema=public", 125, "--postgres: parameter schema: unknown"},
		{"PGSSLMODE=sometimes --postgres postgres://db/app", 125, "--postgres: PGSSLMODE: parameter sslmode: unknown value"},
	})
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	if got := run(t, nil, "--version"); got.status != 0 || !strings.HasPrefix(got.stdout, "healthcheck 0.4.0") || got.stderr != "" {
		t.Errorf("healthcheck --version = %+v", got)
	}
	got := run(t, nil, "-help")
	if got.status != 0 || got.stderr != "" {
		t.Fatalf("healthcheck -help = %+v", got)
	}
	screen := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	if slices.ContainsFunc(screen, func(line string) bool { return len(line) > 80 }) {
		t.Errorf("--help takes %d lines, want one screen:\n%s", len(screen), got.stdout)
	}
	manual := got.stdout[strings.LastIndex(got.stdout, "\n\n"):] // below the synopsis
	for _, name := range strings.Fields("http tcp redis postgres export-prom timeout interval wait json http-method http-header http-status " +
		"http-body tls-ca tls-cert tls-key tls-server-name tls-insecure stop-signal kill-after success-status signal-group version help") {
		if n := len(regexp.MustCompile(`--`+name+`[^-\w]`).FindAllString(manual, -1)); n != 1 {
			t.Errorf("--help names --%s %d times, want 1", name, n)
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	silent := accept(t)
	check(t, vars{"silent": silent}, []row{
		{"--timeout 300ms --redis redis://$silent", 1, "FAIL  redis  redis://$silent  reply: timeout after 300ms"},
		{"--timeout 300ms --http http://$silent", 1, "FAIL  http  http://$silent  reply: timeout after 300ms"},
		{"--timeout 300ms --http https://$silent", 1, "FAIL  http  https://$silent  tls: timeout after 300ms"},
		{"--timeout 300ms --postgres postgres://u@$silent/d", 1,
			"FAIL  postgres  postgres://u@$silent/d  reply: timeout after 300ms"},
		{"HEALTHCHECK_TIMEOUT=200ms --redis redis://$silent", 1, "FAIL  redis  redis://$silent  reply: timeout after 200ms"},
	})
	// The checks run concurrently: eight timeouts take no longer than one. The default is 5 s.
	var args []string
	for range 8 {
		args = append(args, "--redis", "redis://"+silent)
	}
	if got := run(t, nil, args...); got.status != 1 || strings.Count(got.stdout, "timeout after 5s") != 8 || got.took > 30*time.Second {
		t.Errorf("eight silent servers: %+v", got)
	}
}

// TestWait starts a server in two stages, each once healthcheck has logged what it waits for.
func TestWait(t *testing.T) {
	t.Parallel()
	addr := closedAddr(t)
	healthy := make(chan struct{})
	got := waiting(t, func(n int, line string) {
		switch n {
		case 1:
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				select {
				case <-healthy:
				default:
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})}
			go server.Serve(l) // ends with the test
			t.Cleanup(func() { server.Close() })
		case 2:
			close(healthy)
		}
	}, "--wait", "60s", "--http", "http://"+addr)
	want := "healthcheck: waiting for http: connect: connection refused\nhealthcheck: waiting for http: reply: 503 Service Unavailable\n"
	if got.status != 0 || got.stderr != want || !lines("ok    http  http://"+addr+"  200 OK").MatchString(got.stdout) {
		t.Errorf("--wait: %+v, want status 0 and stderr %q", got, want)
	}
}

func TestWaitRunsOut(t *testing.T) {
	t.Parallel()
	open, closed := accept(t), closedAddr(t)
	got := waiting(t, func(int, string) {}, "--wait", "1s", "--tcp", open, "--tcp", "db="+closed)
	want := lines("ok    tcp  " + open + "  connected\nFAIL  db  " + closed + "  connect: connection refused")
	if got.status != 1 || !want.MatchString(got.stdout) || got.stderr != "healthcheck: waiting for db: connect: connection refused\n" {
		t.Errorf("--wait 1s: %+v, want status 1, one line on stderr and %v", got, want)
	}
	if got.took < time.Second {
		t.Errorf("--wait 1s gave up after %v", got.took)
	}
	// The limit also ends a try that is under way.
	silent := accept(t)
	got = waiting(t, func(int, string) {}, "--wait", "500ms", "--timeout", "1m", "--redis", "redis://"+silent)
	if got.status != 1 || !strings.Contains(got.stdout, "reply: timeout after") || got.took > 30*time.Second {
		t.Errorf("--wait 500ms with a silent server: %+v", got)
	}
}
