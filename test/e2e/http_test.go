package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

func TestHTTPStatus(t *testing.T) {
	t.Parallel()
	host := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if status, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); status > 0 {
			w.WriteHeader(status)
		}
		io.WriteString(w, "all is well")
	})
	check(t, vars{"at": "http://" + host, "closed": closedAddr(t)}, []row{
		{"--http $at", 0, "ok    http  $at  200 OK"},
		{"--http $at/204", 0, "ok    http  $at/204  204 No Content"},
		{"--http $at/401", 1, "FAIL  http  $at/401  reply: 401 Unauthorized: all is well"},
		{"--http $at/404", 1, "FAIL  http  $at/404  reply: 404 Not Found: all is well"},
		{"--http $at/500", 1, "FAIL  http  $at/500  reply: 500 Internal Server Error: all is well"},
		{"--http $at/503", 1, "FAIL  http  $at/503  reply: 503 Service Unavailable: all is well"},
		{"--http $at/299", 0, "ok    http  $at/299  299 status code 299"}, // net/http's reason phrase
		{"--http-status 200-299,401 --http $at/401", 0, "ok    http  $at/401  401 Unauthorized"},
		{"--http-status 200-299,401 --http $at/402", 1, "FAIL  http  $at/402  reply: 402 Payment Required: all is well"},
		{"--http-status 404 --http $at", 1, "FAIL  http  $at  reply: 200 OK: all is well"},
		{"--http-body well$ --http $at", 0, "ok    http  $at  200 OK"},
		{"--http-body broken --http $at", 1, "FAIL  http  $at  reply: 200 OK, body does not match --http-body: all is well"},
		{"--http-body well --http $at/500", 1, "FAIL  http  $at/500  reply: 500 Internal Server Error: all is well"},
		{"--http http://$closed", 1, "FAIL  http  http://$closed  connect: connection refused"},
		{"--http http://no..such.host/", 1, "FAIL  http  http://no..such.host/  resolve: no such host"},
	})
}

// TestHTTPHealth reads the health documents that are found in the wild.
func TestHTTPHealth(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code int
		body string
		fail bool
		want string
	}{
		{200, `{"status":"ok"}`, false, `200 OK, status "ok"`},
		{200, `{"status":"healthy","uptime":{"status":"down"},"checks":[{"status":"fail"}]}`, false, `200 OK, status "healthy"`},
		{200, `{"status":"ok","version":"1.0.0","services":{"database":"ok","cache":"ok"}}`, false, `200 OK, status "ok", database ok, cache ok`},
		{200, `{"services":{"database":"error","cache":"degraded"},"status":"ok"}`, false, `200 OK, status "ok", database error, cache degraded`},
		{200, `{"status":"UP","components":{"db":{"status":"UP","details":{"database":"H2"}},"disk":{"status":"DOWN"}}}`, false, `200 OK, status "UP", db ok, disk error`},
		{200, `{"status":"degraded"}`, false, `degraded: 200 OK, status "degraded"`},
		{200, `{"status":"warn"}`, false, `degraded: 200 OK, status "warn"`},
		{200, `{"status":"error"}`, true, `200 OK, status "error"`},
		{200, `{"status":"down"}`, true, `200 OK, status "down"`},
		{200, `{"status":"Unhealthy"}`, true, `200 OK, status "Unhealthy"`},
		{200, `{"status":"critical"}`, true, `200 OK, status "critical"`},
		{503, `{"status":"error","services":{"database":"error"}}`, true, `503 Service Unavailable, status "error", database error`},
		{503, `{"status":"ok"}`, true, `503 Service Unavailable, status "ok"`},
		{200, `{"nested":{"status":"error"}}`, false, `200 OK`},
		{200, `{`, false, `200 OK`},
	} {
		host := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(test.code)
			if r.URL.Path == "/chunked" { // byte by byte
				for i := range test.body {
					io.WriteString(w, test.body[i:i+1])
					w.(http.Flusher).Flush()
				}
				return
			}
			io.WriteString(w, test.body)
		})
		for _, path := range []string{"", "/chunked"} {
			r := row{"--http http://$host$path", 0, "ok    http  http://$host$path  " + test.want}
			if test.fail {
				r.status, r.want = 1, "FAIL  http  http://$host$path  reply: "+test.want
			}
			r.check(t, vars{"host": host, "path": path})
		}
	}
}

// recorder is a server that keeps what it was asked.
func recorder(t *testing.T) (host string, last func() *http.Request) {
	t.Helper()
	requests := make(chan *http.Request, 16)
	host = httpServer(t, func(w http.ResponseWriter, r *http.Request) { requests <- r })
	return host, func() *http.Request {
		t.Helper()
		select {
		case r := <-requests: // was there before the client had its answer
			return r
		default:
			t.Fatal("the server was not asked")
			return nil
		}
	}
}

// TestHTTPRequest reads what the server is sent.
func TestHTTPRequest(t *testing.T) {
	t.Parallel()
	host, last := recorder(t)
	for _, test := range []struct {
		args, method, uri, host string
		header                  http.Header
	}{
		{"--http http://app:p%40ss@" + host + "/health?a=b", "GET", "/health?a=b", host,
			http.Header{"User-Agent": {"healthcheck/0.4.0"}, "Authorization": {"Basic YXBwOnBAc3M="}}},
		{"--http http://" + host + " --http-method HEAD --http-header 'Accept: application/json' --http-header 'Authorization: Bearer ${TOKEN}' " +
			"--http-header 'Host: example.org' --http-header 'user-agent: me'", "HEAD", "/", "example.org",
			http.Header{"Accept": {"application/json"}, "Authorization": {"Bearer abc"}, "User-Agent": {"me"}}},
	} {
		run(t, []string{"TOKEN=abc"}, words(test.args)...)
		r := last()
		r.Header.Del("Connection")
		if r.Method != test.method || r.RequestURI != test.uri || r.Host != test.host || !maps.EqualFunc(r.Header, test.header, slices.Equal) {
			t.Errorf("healthcheck %s sent %s %s for %s with %v, want %s %s for %s with %v",
				test.args, r.Method, r.RequestURI, r.Host, r.Header, test.method, test.uri, test.host, test.header)
		}
	}
}

func TestHTTPRedirect(t *testing.T) {
	t.Parallel()
	other, last := recorder(t)
	host := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		left, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		switch {
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case r.URL.Path == "/other":
			http.Redirect(w, r, "http://"+other, http.StatusMovedPermanently)
		case r.URL.Path == "/nowhere":
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/broken":
			http.Redirect(w, r, "/500", http.StatusTemporaryRedirect)
		case r.URL.Path == "/500":
			w.WriteHeader(500)
		case err == nil && left > 0:
			http.Redirect(w, r, "/"+strconv.Itoa(left-1), http.StatusFound)
		}
	})
	check(t, vars{"at": "http://" + host}, []row{
		{"--http $at/1", 0, "ok    http  $at/1  200 OK after redirect to /0"},
		{"--http $at/10", 0, "ok    http  $at/10  200 OK after redirect to /0"},
		{"--http $at/11", 1, "FAIL  http  $at/11  reply: more than 10 redirects"},
		{"--http $at/loop", 1, "FAIL  http  $at/loop  reply: more than 10 redirects"},
		{"--http $at/broken", 1, "FAIL  http  $at/broken  reply: 500 Internal Server Error after redirect to /500"},
	})
	run(t, nil, "--http", "http://app:secret@"+host+"/other", "--http-header", "X-Token: secret", "--http-header", "Cookie: secret")
	header := last().Header
	if header.Get("User-Agent") == "" || strings.Contains(fmt.Sprint(header), "ecret") || header.Get("Authorization") != "" {
		t.Errorf("what another host is sent on a redirect: %v", header)
	}
}

// TestHTTPAddress reaches a server by socket, and by localhost on one family alone.
func TestHTTPAddress(t *testing.T) {
	t.Parallel()
	four := httpServer(t, func(w http.ResponseWriter, r *http.Request) {})
	_, port, _ := net.SplitHostPort(four)
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the listener
		fmt.Fprintf(w, `{"status":%q}`, r.Host+r.URL.Path)
	}))
	t.Cleanup(func() { l.Close() })
	v := vars{"four": four, "port": port, "escaped": "http+unix://" + url.PathEscape(socket)}
	rows := []row{
		{"--http http://localhost:$port", 0, "ok    http  http://localhost:$port  200 OK"},
		{"--http $escaped/health", 0, `ok    http  $escaped/health  200 OK, status "localhost/health"`},
		{"--http http+unix://%2Fno%2Fsuch.sock/health", 1,
			"FAIL  http  http+unix://%2Fno%2Fsuch.sock/health  connect: no such file or directory"},
		{"--http http://$four/?token=abc&b=c", 0, "ok    http  http://$four/?token=***&b=***  200 OK"},
	}
	if testbed.HasIPv6() {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		six := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
		six.Start()
		t.Cleanup(six.Close)
		v["six"] = l.Addr().String()
		_, v["sixport"], _ = net.SplitHostPort(v["six"])
		rows = append(rows,
			row{"--http http://$six", 0, "ok    http  http://$six  200 OK"},
			row{"--http http://localhost:$sixport", 0, "ok    http  http://localhost:$sixport  200 OK"})
	}
	check(t, v, rows)
}

// TestHTTPProxy has a proxy in every variable; nothing may reach it.
func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	proxy := httpServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") })
	env := []string{"HTTP_PROXY=http://" + proxy, "http_proxy=http://" + proxy, "HTTPS_PROXY=http://" + proxy, "https_proxy=http://" + proxy,
		"ALL_PROXY=http://" + proxy, "all_proxy=http://" + proxy}
	check(t, nil, []row{
		{"--http http://no..such.host", 1, "FAIL  http  http://no..such.host  resolve: no such host"},
		{"--http https://no..such.host", 1, "FAIL  http  https://no..such.host  resolve: no such host"},
	}, env...)
}

func TestHTTPS(t *testing.T) {
	t.Parallel()
	ca, stranger := testbed.NewCA(t), testbed.NewCA(t)
	fine := func(http.ResponseWriter, *http.Request) {}
	serve := func(config *tls.Config, leaf testbed.Leaf) string {
		config.Certificates = []tls.Certificate{ca.Issue(t, leaf).TLS(t)}
		return start(t, fine, config).Listener.Addr().String()
	}
	pem, err := os.ReadFile(ca.File)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("reading the CA: %v", err)
	}
	good := serve(&tls.Config{}, testbed.Leaf{})
	_, port, _ := net.SplitHostPort(good)
	local := "https://localhost:" + port
	other := "https://" + serve(&tls.Config{}, testbed.Leaf{Names: []string{"db.example"}})
	expired := "https://" + serve(&tls.Config{}, testbed.Leaf{Expired: true})
	mutual := "https://" + serve(&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}, testbed.Leaf{})
	old := "https://" + serve(&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, testbed.Leaf{})
	plain := "https://" + httpServer(t, fine)
	client, foreign := ca.Issue(t, testbed.Leaf{CommonName: "app"}), stranger.Issue(t, testbed.Leaf{CommonName: "app"})
	check(t, vars{"good": good, "local": local, "other": other, "expired": expired, "mutual": mutual, "old": old, "plain": plain,
		"ca": ca.File, "stranger": stranger.File, "clientcert": client.Cert, "clientkey": client.Key,
		"foreigncert": foreign.Cert, "foreignkey": foreign.Key}, []row{
		{"--tls-ca $ca --http https://$good", 0, "ok    http  https://$good  200 OK"},
		{"--tls-ca $ca --http $local", 0, "ok    http  $local  200 OK"},
		{"HEALTHCHECK_TLS_CA=$ca --http $local", 0, "ok    http  $local  200 OK"},
		{"--http $local", 1, "FAIL  http  $local  tls: certificate signed by unknown authority (trust it with --tls-ca FILE)"},
		{"--tls-ca $stranger --http $local", 1, "FAIL  http  $local  tls: certificate signed by unknown authority…"},
		{"--tls-insecure --http $local", 0, "ok    http  $local  200 OK"},
		{"--tls-ca $ca --http $other", 1,
			"FAIL  http  $other  tls: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs (accept its name with --tls-server-name NAME)"},
		{"--tls-ca $ca --http $other --tls-server-name db.example", 0, "ok    http  $other  200 OK"},
		{"--tls-ca $ca --http $local --tls-server-name db.example", 1,
			"FAIL  http  $local  tls: certificate is valid for localhost, not db.example (accept its name with --tls-server-name NAME)"},
		{"--tls-ca $ca --http $expired", 1,
			"FAIL  http  $expired  tls: certificate has expired or is not yet valid: current time … is after …"},
		{"--tls-ca $ca --http $mutual", 1, "FAIL  http  $mutual  tls: the server refuses: certificate required"},
		{"--tls-ca $ca --http $mutual --tls-cert $clientcert --tls-key $clientkey", 0, "ok    http  $mutual  200 OK"},
		{"--tls-ca $ca --http $mutual --tls-cert $foreigncert --tls-key $foreignkey", 1,
			"FAIL  http  $mutual  tls: the server refuses: unknown certificate authority"},
		{"--tls-ca $ca --http $old", 1, "FAIL  http  $old  tls: the server refuses: protocol version not supported"},
		{"--tls-ca $ca --http $plain", 1, "FAIL  http  $plain  tls: the server does not speak TLS (use http://)"},
		{"--http http://$good", 1, "FAIL  http  http://$good  reply: 400 Bad Request (use https://)"},
	})
}

func TestNginx(t *testing.T) {
	t.Parallel()
	ca := testbed.NewCA(t)
	const body = `
		location = /health { return 200 '{"status":"ok","services":{"database":"ok"}}'; }
		location = /error  { return 500; }
		location = /moved  { return 302 /health; }
		location = /loop   { return 302 /loop; }`
	s := testbed.Nginx(t, body)
	secure := testbed.NginxTLS(t, ca.Issue(t, testbed.Leaf{}), body)
	check(t, vars{"at": "http://localhost:" + s.Port, "socket": "http+unix://" + url.PathEscape(s.HTTPSocket()),
		"tlsAt": "https://localhost:" + secure.Port, "secureport": secure.Port, "ca": ca.File}, []row{
		{"--http $at/health", 0, `ok    http  $at/health  200 OK, status "ok", database ok`},
		{"--http $at/moved", 0, `ok    http  $at/moved  200 OK after redirect to /health, status "ok", database ok`},
		{"--http $at/loop", 1, "FAIL  http  $at/loop  reply: more than 10 redirects"},
		{"--http $at/none", 1, "FAIL  http  $at/none  reply: 404 Not Found"},
		{"--http $at/error", 1, "FAIL  http  $at/error  reply: 500 Internal Server Error"},
		{"--http $socket/health", 0, `ok    http  $socket/health  200 OK, status "ok", database ok`},
		{"--http $tlsAt/health --tls-ca $ca", 0, `ok    http  $tlsAt/health  200 OK, status "ok", database ok`},
		{"--http $tlsAt/health", 1, "FAIL  http  $tlsAt/health  tls: certificate signed by unknown authority (trust it with --tls-ca FILE)"},
		{"--http http://localhost:$secureport", 1, "FAIL  http  http://localhost:$secureport  reply: 400 Bad Request (use https://)"},
	})
}
