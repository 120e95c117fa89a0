package e2e_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// A real Redis whose AUTH is disabled echoes the arguments of AUTH. It cuts them at 128 bytes and
// replaces line ends with blanks.
func TestSecretsRedisEchoesAuth(t *testing.T) {
	long := strings.Repeat("Zx9secret-", 20)
	check(t, vars{
		"server": testbed.Redis(t, `rename-command AUTH ""`).Addr(),
		"long":   long, "lines": "Zx9%0D%0Asecret%0D%0Aof-lines",
		"open": testbed.Redis(t).Addr(),
	}, []row{
		{"--redis redis://:$long@$server", 1, "FAIL  redis  redis://$server  auth: ERR …"},
		{"--redis redis://:$lines@$server", 1, "FAIL  redis  redis://$server  auth: ERR …"},
		{"PW=short --redis redis://:${PW}@$server", 1, "FAIL  redis  redis://$server  auth: ERR …"},
		{"--redis redis://:password@$open", 1, "FAIL  redis  redis://$open  auth: ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"},
		{"--redis redis://password:username@$open", 1, "FAIL  redis  redis://password@$open  auth: WRONGPASS invalid username-password pair or user is disabled."},
	})
	for _, args := range [][]string{{"--redis", "redis://:" + long + "@$"}, {"--redis", "redis://:Zx9%0D%0Asecret%0D%0Aof-lines@$"}} {
		addr := testbed.Redis(t, `rename-command AUTH ""`).Addr()
		got := run(t, nil, args[0], strings.Replace(args[1], "$", addr, 1))
		if text := got.stdout + got.stderr; strings.Contains(text, "Zx9") || strings.Contains(text, "secret") {
			t.Errorf("%q shows %q", args, text)
		}
	}
}

// A usage error never shows a password that is in the wrong place, such as user and password in one
// variable.
func TestSecretsInUsageErrors(t *testing.T) {
	const colon = "the user name holds a :, and there is no password"
	check(t, vars{"closed": closedAddr(t)}, []row{
		{"CREDS=app:Zx9secret --postgres postgres://${CREDS}@$closed/d", 125, "--postgres: " + colon},
		{"--postgres postgres://app%3AZx9secret@$closed/d", 125, "--postgres: " + colon},
		{"--postgres postgres://$closed/d?user=app:Zx9secret", 125, "--postgres: " + colon},
		{"CREDS=app:Zx9secret --http http://${CREDS}@$closed/", 125, "--http: " + colon},
		{"NAME=Zx9secret --postgres postgres://${NAME}:pw@$closed/d", 1, "FAIL  postgres  postgres://***@$closed/d  connect: connection refused"},
		{"NAME=Zx9secret --redis redis://${NAME}:pw@$closed", 1, "FAIL  redis  redis://***@$closed  connect: connection refused"},

		{"--redis redis://u:Zx9?secret@$closed/", 125, "--redis: the URL is not valid"},
		{"--redis redis://u:47?password=Zx9secret@$closed/", 125, "--redis: an @ stands behind the host"},
		{"--http http://admin:47?Zx9secret@$closed/", 125, "--http: an @ stands behind the host"},
		{"--redis unix:///:Zx9secret@/run/redis.sock", 125, "--redis: an @ stands behind the host"},
		{"--redis unix:///run/redis.sock&password=Zx9secret", 125, "--redis: a parameter stands in the path"},
		{"--http http://$closed/x;password=Zx9secret", 125, "--http: a parameter stands in the path"},
		{"--postgres postgres://u@$closed/d&password=Zx9secret", 125, "--postgres: the URI: a parameter stands before the query"},
		{"--postgres postgres://u@$closed/d;password=Zx9secret", 125, "--postgres: the URI: a parameter stands before the query"},
		{"--redis zx9secret", 125, "--redis: a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
		{"--redis zx9secret==", 125, "--redis: a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
		{"--tcp $closed -pzx9secret", 125, "unknown option, word 3 of the command line\nhealthcheck --help lists every option"},
		{"--tcp $closed --zx9secret", 125, "unknown option, word 3 of the command line\nhealthcheck --help lists every option"},
		{"--tcp $closed --timeuot 5s", 125, "unknown option --timeuot\ndid you mean --timeout? healthcheck --help lists every option"},
	})
}

// net/http's errors quote parts of a malformed response. No secret in them may be shown.
func TestSecretsInBrokenHTTP(t *testing.T) {
	says := func(text string) string {
		return testbed.Serve(t, func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, text)
		})
	}
	check(t, vars{
		"colon":  says("HTTP/1.1 200 OK\r\nZx9secret\r\n\r\n"),
		"length": says("HTTP/1.1 200 OK\r\nContent-Length: Zx9secret\r\n\r\n"),
		"coding": says("HTTP/1.1 200 OK\r\nTransfer-Encoding: Zx9secret\r\n\r\n"),
		"chunk":  says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZx9secret\r\n"),
	}, []row{
		{"--http http://$colon", 1, "FAIL  http  http://$colon  reply: the answer's header is malformed"},
		{"--http http://$length", 1, "FAIL  http  http://$length  reply: the answer's header is malformed"},
		{"--http http://$coding", 1, "FAIL  http  http://$coding  reply: the answer's header is malformed"},
		{"--http http://$chunk", 1, "FAIL  http  http://$chunk  reply: 200 OK, then the answer's body is malformed"},
	})
}

// A server echoes the password in every encoding that is masked.
func TestSecretsEchoed(t *testing.T) {
	const secret = "Zx9 s&cret'<\"+/é"
	quote := func(s string) string {
		b, _ := json.Marshal(s)
		return string(b[1 : len(b)-1])
	}
	for name, form := range map[string]string{
		"plain": secret, "beginning": secret[:9], "end": secret[6:], "trimmed": strings.TrimSpace(secret), "lower": strings.ToLower(secret),
		"percent": url.QueryEscape(secret), "lower-percent": strings.ToLower(url.PathEscape(secret)), "html": html.EscapeString(secret),
		"json": quote(secret), "json-twice": quote(quote(secret)), "hex": hex.EncodeToString([]byte(secret)),
		"base64": base64.StdEncoding.EncodeToString([]byte(secret)), "base64-raw": base64.RawURLEncoding.EncodeToString([]byte(secret)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := testbed.Serve(t, func(conn net.Conn) {
				conn.Read(make([]byte, 4096))
				fmt.Fprintf(conn, "HTTP/1.1 500 No: %s\r\n\r\n", form)
			})
			got := run(t, []string{"PW=" + secret}, "--http", "http://u:${PW}@"+addr+"/")
			if !lines("FAIL  http  http://" + addr + "/  reply: 500 No: ***").MatchString(got.stdout) {
				t.Errorf("%q, want 500 No: ***", got.stdout)
			}
		})
	}
}

// If ${…} inserts a whole URL, its path and query are masked in the target and in a server's echo.
func TestSecretsOfWholeURL(t *testing.T) {
	addr := testbed.Serve(t, func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.1 404 no hook T0K3N567 or query-value at /hooks, password: other, see http://me:pw@docs\r\n\r\n")
	})
	check(t, vars{"addr": addr}, []row{
		{"URL=http://$addr/hooks/T0K3N567?v=query-value --http ${URL}", 1,
			"FAIL  http  http://$addr/hooks/***?v=***  reply: 404 no hook *** or *** at /hooks, password: ***, see http://***@docs"},
	})
}

// A redirect from a Unix socket to TCP carries no credentials.
func TestSecretsSocketRedirect(t *testing.T) {
	seen := make(chan http.Header, 1)
	other := httpServer(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(other)
	testbed.ServeOn(t, l, func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		fmt.Fprintf(conn, "HTTP/1.1 302 Found\r\nLocation: http://localhost:%s/\r\n\r\n", port)
	})
	got := run(t, nil, "--http", "http+unix://u:Zx9secret@"+url.PathEscape(socket)+"/", "--http-header", "X-Token: Zx9secret")
	if header := <-seen; got.status != 0 || strings.Contains(fmt.Sprint(header), "Zx9") || header.Get("Authorization") != "" {
		t.Errorf("status %d, %q, header %q", got.status, got.stdout, header)
	}
}

// A server's standard messages are never masked, since a mask would reveal which word is the
// password.
func TestSecretsKnownTexts(t *testing.T) {
	server := testbed.Redis(t, "requirepass x").Addr()
	check(t, vars{"redis": server, "postgres": testbed.InitPostgres(t, testbed.NewCA(t)).Start(t).Addr()}, []row{
		{"--redis redis://:username@$redis", 1, "FAIL  redis  redis://$redis  auth: WRONGPASS invalid username-password pair or user is disabled."},
		{"--postgres postgres://scram:password@$postgres/app", 1, `FAIL  postgres  postgres://scram@$postgres/app  auth: FATAL 28P01: password authentication failed for user "scram"`},
	})
}
