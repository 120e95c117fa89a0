package e2e_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// failing is an application that fails in one way by its path.
func failing(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/fastapi":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(503)
		io.WriteString(w, `{"detail":"database is locked"}`)
	case "/go":
		http.Error(w, "database is locked\nsecond line", http.StatusServiceUnavailable)
	case "/echo":
		http.Error(w, "no such key: "+r.Header.Get("X-Key"), http.StatusUnauthorized)
	case "/login":
		io.WriteString(w, `{"status":"ok"}`)
	case "/microprofile":
		w.WriteHeader(503)
		io.WriteString(w, `{"status":"DOWN","checks":[{"name":"db","status":"DOWN"},{"name":"mq","status":"UP"}]}`)
	case "/healthjson":
		w.Header().Set("Content-Type", "application/health+json")
		io.WriteString(w, `{"status":"warn","checks":{"db:responseTime":[{"status":"pass"},{"status":"warn"}]}}`)
	case "/aspnet":
		w.WriteHeader(503)
		io.WriteString(w, `{"status":"Unhealthy","entries":{"sql":{"status":"Unhealthy","data":{}},"disk":{"status":"Healthy"}}}`)
	case "/terminus":
		w.WriteHeader(503)
		io.WriteString(w, `{"status":"error","info":{},"error":{"db":{"status":"down","message":"x"}},"details":{"db":{"status":"down"},"up":{"status":"up"}}}`)
	default:
		http.Redirect(w, r, "/login?next="+r.URL.Path, http.StatusFound)
	}
}

// TestSays compares what failing applications say with the lines of the probe.
func TestSays(t *testing.T) {
	t.Parallel()
	check(t, vars{"at": "http://" + httpServer(t, failing)}, []row{
		{"--http $at/fastapi", 1, "FAIL  http  $at/fastapi  reply: 503 Service Unavailable: database is locked"},
		{"--http $at/go", 1, "FAIL  http  $at/go  reply: 503 Service Unavailable: database is locked"},
		{"KEY=s3cr3t-k3y --http $at/echo --http-header 'X-Key: ${KEY}'", 1, "FAIL  http  $at/echo  reply: 401 Unauthorized: no such key: ***"},
		{"--http $at/microprofile", 1, `FAIL  http  $at/microprofile  reply: 503 Service Unavailable, status "DOWN", db error, mq ok`},
		{"--http $at/healthjson", 0, `ok    http  $at/healthjson  degraded: 200 OK, status "warn", db:responseTime degraded`},
		{"--http $at/aspnet", 1, `FAIL  http  $at/aspnet  reply: 503 Service Unavailable, status "Unhealthy", sql error, disk ok`},
		{"--http $at/terminus", 1, `FAIL  http  $at/terminus  reply: 503 Service Unavailable, status "error", db error, up ok`},
		{"--http $at/", 0, `ok    http  $at/  200 OK after redirect to /login, status "ok"`},
	})
	host := httpServer(t, failing)
	if got := run(t, nil, "--json", "--http", "http://"+host+"/go").stdout; !strings.Contains(got, `"message":"503 Service Unavailable","detail":"database is locked"`) {
		t.Errorf("--json: %s", got)
	}
}

// TestSaysNotExported has a wrapper whose log shows what a failing service says, while no path of its exported address does.
func TestSaysNotExported(t *testing.T) {
	t.Parallel()
	host := httpServer(t, failing)
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--http", "api=http://"+host+"/go", "--interval", "100ms", "--", "sleep", "1000")
	s.waitOutput(t, "stderr", "healthcheck: FAIL api  http://"+host+"/go  reply: 503 Service Unavailable: database is locked\n")
	s.until(t, `probe_success{check="api",type="http"}`, func(v float64) bool { return v == 0 })
	for _, path := range []string{"/", "/metrics", "/health", "/health/api", "/healthz"} {
		if _, _, body := s.get(t, path); strings.Contains(body, "locked") {
			t.Errorf("%s shows the answer of the service: %s", path, body)
		}
	}
	if _, _, body := s.get(t, "/"); !strings.Contains(body, "503 Service Unavailable") {
		t.Errorf("the page does not show the status of the answer: %s", body)
	}
}

// TestRemedies has servers that speak TLS where it is not asked for, servers that do not where it is, and certificates that do not
// verify.
func TestRemedies(t *testing.T) {
	t.Parallel()
	ca := testbed.NewCA(t)
	pair := ca.Issue(t, testbed.Leaf{})
	secure := start(t, failing, &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}}).Listener.Addr().String()
	alert := testbed.Serve(t, func(conn net.Conn) { // as JSSE and rustls answer what is no handshake
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "\x15\x03\x01\x00\x02\x02\x46")
	})
	words := testbed.Serve(t, func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "-ERR unknown command\r\n")
	})
	v := vars{"plain": httpServer(t, failing), "secure": secure, "alert": alert, "words": words, "ca": ca.File}
	check(t, v, []row{
		{"--http https://$plain/login", 1, "FAIL  http  https://$plain/login  tls: the server does not speak TLS (use http://)"},
		{"--http http://$secure/login", 1, "FAIL  http  http://$secure/login  reply: 400 Bad Request (use https://)"},
		{"--http http://$alert/", 1, "FAIL  http  http://$alert/  reply: not HTTP: it speaks TLS (use https://)"},
		{"--http https://$secure/login", 1, "FAIL  http  https://$secure/login  tls: certificate signed by unknown authority (trust it with --tls-ca FILE)"},
		{"--tls-ca $ca --http https://$secure/login", 0, "ok    http  https://$secure/login  200 OK, status \"ok\""},
		{"--tls-ca $ca --tls-server-name api --http https://$secure/login", 1,
			"FAIL  http  https://$secure/login  tls: certificate is valid for localhost, not api (accept its name with --tls-server-name NAME)"},
		{"--redis redis://$alert", 1, "FAIL  redis  redis://$alert  reply: not Redis: it speaks TLS (use rediss://)"},
		{"--redis valkey://$alert", 1, "FAIL  redis  valkey://$alert  reply: not Redis: it speaks TLS (use valkeys://)"},
		{"--redis rediss://$words", 1, "FAIL  redis  rediss://$words  tls: the server does not speak TLS (use redis://)"},
	})
}

// TestRemediesOfServers has Redis and nginx in place of the scripts of TestRemedies.
func TestRemediesOfServers(t *testing.T) {
	t.Parallel()
	ca := testbed.NewCA(t)
	pair := ca.Issue(t, testbed.Leaf{})
	nginx := testbed.NginxTLS(t, pair, "location / { return 200; }")
	check(t, vars{"redis": testbed.Redis(t).Addr(), "nginx": nginx.Addr()}, []row{
		{"--timeout 1s --redis rediss://$redis", 1, "FAIL  redis  rediss://$redis  tls: timeout after 1s (use redis:// if it does not speak TLS)"},
		{"--timeout 1s --redis valkeys://$redis", 1, "FAIL  redis  valkeys://$redis  tls: timeout after 1s (use valkey:// if it does not speak TLS)"},
		{"--redis rediss://$nginx", 1, "FAIL  redis  rediss://$nginx  tls: certificate signed by unknown authority (trust it with --tls-ca FILE)"},
		{"--http http://$nginx/", 1, "FAIL  http  http://$nginx/  reply: 400 Bad Request (use https://)"},
	})
}

// TestHints are mistakes that people make, each with the hint for it.
func TestHints(t *testing.T) {
	t.Parallel()
	host := httpServer(t, failing)
	_, port, _ := net.SplitHostPort(host)
	const quoted = "the value begins with a quote\nleave out the quotes that are part of it…"
	check(t, vars{"host": host, "port": port}, []row{
		{`--http '"http://$host/login"'`, 125, "--http: " + quoted},
		{`HEALTHCHECK_HTTP="http://$host/login"`, 125, "HEALTHCHECK_HTTP: " + quoted},
		{`--http 'api="http://$host/login"'`, 125, "--http api: " + quoted},
		{`--redis redis://a --timeout '"5s"'`, 125, "--timeout: " + quoted},
		{"'--http http://$host/login'", 125,
			"--http and its value are one word, word 1 of the command line\n" + `write two words: --http http://…; in a list "--http", "http://…"`},
		{"localhost:8080", 125, "unexpected positional argument, word 1 of the command line\n" +
			"name the kind of check, as in: healthcheck --http http://localhost:8080/health, or --tcp localhost:8080"},
		{"--http 'http://$host/a b'", 125, "--http: the value holds a space\nwrite %20 for a space in a URL…"},
		{"--http 'http://$host/login --timeout 5s'", 125, "--http: the value holds a space\n…other checks and options are words of their own…"},
		{"healthcheck --http http://$host/login", 125, "unexpected positional argument, word 1 of the command line\n" +
			"leave the word healthcheck out: it is the image's ENTRYPOINT"},
		{"-v", 125, "unknown option -v\ndid you mean --version?"},
		{"HOST= --http http://${HOST}/login", 125, "--http: ${HOST}: the variable is empty\nset it where healthcheck runs, or write a default as in ${VAR:-default}"},
		{"URL= --http ${URL}", 125, "--http: ${URL}: the variable is empty\n…"},
		{"HOST= --http http://${HOST:-localhost}:${PORT:-$port}/login", 0, `ok    http  http://localhost:$port/login  200 OK, status "ok"`},
		{"--http ${URL:-http://$host/login}", 0, `ok    http  http://$host/login  200 OK, status "ok"`},
		{"URL=http://$host/fastapi --http ${URL:-http://localhost}", 1, "FAIL  http  http://$host/fastapi  reply: 503 …"},
		{"--http ${URL:-http://${HOST}}", 125, "--http: ${URL}: its default holds a brace\n…"},
		{"PASS=x --redis redis://:$PASS@$host", 125, "--redis: a user name or password begins with a $\nwrite ${VAR} to insert a variable…"},
		{"--redis redis://:%24PASS@$host", 1, "FAIL  redis  redis://$host  reply: not Redis: it speaks HTTP"},
		// A probe in the container of a wrapper says nothing of the variables.
		{"HEALTHCHECK_INTERVALL=1s --http http://$host/login", 0, `ok    http  http://$host/login  200 OK, status "ok"`},
	})
	if got := run(t, nil, "-h"); got.status != 0 || !strings.HasPrefix(got.stdout, "healthcheck 0.4.0") || got.stderr != "" {
		t.Errorf("-h: status %d, stdout %q, stderr %q", got.status, got.stdout, got.stderr)
	}
}

// TestMistypedVariable has a wrapper with a variable that is nearly an option's. It runs all the same.
func TestMistypedVariable(t *testing.T) {
	t.Parallel()
	got := run(t, []string{"HEALTHCHECK_INTERVALL=s3cr3t", "HEALTHCHECK_URL=s3cr3t", "PATH=/usr/bin:/bin"}, "--", "echo", "runs")
	if want := "healthcheck: the variable HEALTHCHECK_INTERVALL is not known; did you mean HEALTHCHECK_INTERVAL?\n"; got.status != 0 || got.stdout != "runs\n" || got.stderr != want {
		t.Errorf("status %d, stdout %q, stderr %q, want 0, runs and %q", got.status, got.stdout, got.stderr, want)
	}
}
