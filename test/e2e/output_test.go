package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"alfred/healthcheck/test/testbed"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	check(t, vars{"open": accept(t), "closed": closedAddr(t)}, []row{
		{"HEALTHCHECK_TCP=$open", 0, "ok    tcp  $open  connected"},
		{"HEALTHCHECK_TCP=$open\nb=$closed\n HEALTHCHECK_REDIS=redis://$closed", 1,
			"ok    tcp  $open  connected\n" +
				"FAIL  b  $closed  connect: connection refused\n" +
				"FAIL  redis  redis://$closed  connect: connection refused"},
		// Checks count only where the command line names none; options always do.
		{"HEALTHCHECK_REDIS=redis://$closed HEALTHCHECK_TCP=nonsense --tcp $open", 0, "ok    tcp  $open  connected"},
		{"HEALTHCHECK_TCP=$open HEALTHCHECK_TIMEOUT=never", 125, "HEALTHCHECK_TIMEOUT: not a duration"},
		{"HEALTHCHECK_TCP=$open HEALTHCHECK_TIMEOUT=never --timeout 5s", 0, "ok    tcp  $open  connected"},
		// What is a wrapper's stays away from a probe.
		{"HEALTHCHECK_TCP=$open HEALTHCHECK_EXPORT_PROM=:9091 HEALTHCHECK_WAIT=nonsense HEALTHCHECK_KILL_AFTER=nonsense HEALTHCHECK_STOP_SIGNAL=nonsense HEALTHCHECK_SIGNAL_GROUP=nonsense HEALTHCHECK_SUCCESS_STATUS=nonsense HEALTHCHECK_INTERVAL=nonsense", 0,
			"ok    tcp  $open  connected"},
		{"HEALTHCHECK_TCP=$closed HEALTHCHECK_WAIT=1h", 1, "FAIL  tcp  $closed  connect: connection refused"},
		{"HEALTHCHECK_TCP=nonsense", 125, "HEALTHCHECK_TCP: HOST:PORT is wanted"},
		{"HEALTHCHECK_TCP=", 125, "no check is named"},
		{"HEALTHCHECK_HTTP=localhost:80", 125, "HEALTHCHECK_HTTP: a URL begins with http:// or https://"},
	})
}

// TestExpand inserts secrets that hold whatever could be taken for a delimiter.
func TestExpand(t *testing.T) {
	t.Parallel()
	const odd = `p@evil.example:1/x?y#z%41&é ${HOME}"\`
	host := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		if !ok {
			password = r.URL.Query().Get("token") + r.Header.Get("X-Token")
		}
		if password != odd || user != "" && user != "app" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	v := vars{"host": host, "at": "http://" + host, "odd": odd, "newline": file(odd + "\n"), "empty": file("")}
	check(t, v, []row{
		{"PW=$odd --http 'http://app:${PW}@$host'", 0, "ok    http  $at  200 OK"},
		{"--http 'http://app:${file:$newline}@$host'", 0, "ok    http  $at  200 OK"},
		{"PW=$odd --http 'http://$host/?token=${PW}'", 0, "ok    http  $at/?token=***  200 OK"},
		{"PW=$odd --http $at --http-header 'X-Token: ${PW}'", 0, "ok    http  $at  200 OK"},
		{"PW=wrong --http 'http://app:${PW}@$host'", 1, "FAIL  http  $at  reply: 403 Forbidden"},
	})
	open := accept(t)
	v["open"] = open
	_, v["port"], _ = net.SplitHostPort(open)
	check(t, v, []row{
		{"A=$open --tcp ${A}", 0, "ok    tcp  $open  connected"},
		{"PORT=$port --tcp 127.0.0.1:${PORT}", 0, "ok    tcp  $open  connected"},
		{"A=$open --tcp db=${A}", 0, "ok    db  $open  connected"},
		{"A=$open HEALTHCHECK_TCP=${A}", 0, "ok    tcp  $open  connected"},
		{"--http http://u:${PW}@localhost", 125, "--http: ${PW}: the variable is not set"},
		// An empty password is a password that the server refuses, not a crash.
		{"--http http://u:${file:$empty}@$host", 1, "FAIL  http  $at  reply: 403 Forbidden"},
	})
}

// A document is what --json prints.
type document struct {
	Status string `json:"status"`
	Checks []struct {
		Name     string            `json:"name"`
		Type     string            `json:"type"`
		Target   string            `json:"target"`
		Status   string            `json:"status"`
		Phase    *string           `json:"phase"`
		Message  string            `json:"message"`
		Duration *float64          `json:"duration_seconds"`
		Services map[string]string `json:"services"`
	} `json:"checks"`
}

func TestJSON(t *testing.T) {
	t.Parallel()
	v := vars{"open": accept(t), "closed": closedAddr(t)}
	v["host"] = httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"status":"degraded","services":{"database":"ok","cache":"degraded","\u0022x\u0022\u0000":"error"}}`)
	})
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"--json --tcp $open", 0, `{"status":"ok","checks":[{"name":"tcp","type":"tcp","target":"$open","status":"ok","message":"connected","duration_seconds":0}]}`},
		{"--json --http http://$host", 0, `{"status":"degraded","checks":[{"name":"http","type":"http","target":"http://$host"` +
			`,"status":"degraded","message":"200 OK, status \"degraded\", database ok, cache degraded, \"x\"\\x00 error","duration_seconds":0,` +
			`"services":{"database":"ok","cache":"degraded","\"x\"\\x00":"error"}}]}`},
		{"--json --redis db=redis://$closed --tcp $open", 1, `{"status":"error","checks":[{"name":"db","type":"redis","target":"redis://$closed"` +
			`,"status":"error","phase":"connect","message":"connection refused","duration_seconds":0},` +
			`{"name":"tcp","type":"tcp","target":"$open","status":"ok","message":"connected","duration_seconds":0}]}`},
	} {
		got := run(t, nil, words(v.expand(t, test.args))...)
		var doc document
		in := json.NewDecoder(strings.NewReader(got.stdout))
		in.DisallowUnknownFields()
		if err := in.Decode(&doc); err != nil || in.More() {
			t.Errorf("healthcheck %s: %v in %q", test.args, err, got.stdout)
		}
		for _, c := range doc.Checks {
			if c.Duration == nil || *c.Duration <= 0 || *c.Duration > 60 {
				t.Errorf("healthcheck %s: duration_seconds in %q", test.args, got.stdout)
			}
		}
		text := regexp.MustCompile(`"duration_seconds":[0-9.]+`).ReplaceAllString(got.stdout, `"duration_seconds":0`)
		if got.status != test.status || text != v.expand(t, test.want)+"\n" || got.stderr != "" {
			t.Errorf("healthcheck %s = %d, %q, %q, want %d and\n%s", test.args, got.status, text, got.stderr, test.status, test.want)
		}
	}
}

// TestOutputBound probes servers that send too much text, or control characters.
func TestOutputBound(t *testing.T) {
	t.Parallel()
	loud := strings.Repeat("\x1b[2J\u202e\u2028\x00\x9b31m\xff<é日> ", 4000)
	lined := strings.NewReplacer("\n", "", "\r", "").Replace(loud)
	redis := testbed.Serve(t, func(conn net.Conn) {
		bufio.NewReader(conn).ReadString('G')
		io.WriteString(conn, "-ERR "+lined[:4000]+"\r\n")
	})
	postgres := testbed.Serve(t, func(conn net.Conn) {
		io.CopyN(io.Discard, conn, 8)
		fields := "SFATAL\x00C57P03\x00M" + strings.ReplaceAll(loud[:20000], "\x00", "") + "\x00\x00"
		conn.Write(append([]byte{'E', 0, 0, byte((len(fields) + 4) >> 8), byte(len(fields) + 4)}, fields...))
		io.Copy(io.Discard, conn)
	})
	services := map[string]string{}
	for i := range 500 {
		services[fmt.Sprint(i, loud[:100])] = "error"
	}
	body, _ := json.Marshal(map[string]any{"status": loud[:2000], "services": services})
	web := httpServer(t, func(w http.ResponseWriter, r *http.Request) { w.Write(body) })
	reason := testbed.Serve(t, func(conn net.Conn) {
		bufio.NewReader(conn).ReadString('\n')
		io.WriteString(conn, "HTTP/1.1 500 "+strings.ReplaceAll(lined[:3000], "\x00", "")+"\r\nContent-Length: 0\r\n\r\n")
	})
	long := strings.Repeat("a", 3000)
	var each []string
	for _, args := range [][]string{
		{"--redis", "redis://" + redis}, {"--postgres", "postgres://" + postgres + "/d?user=u"}, {"--http", "http://" + web},
		{"--http", "http://" + reason}, {"--http", "http://" + reason + "/" + long + "?" + long + "=1"},
		{"--redis", "redis://" + long + ":x@" + redis}, {"--postgres", "postgres://" + long + "@" + postgres + "/" + long},
	} {
		each = append(each, args...)
		for _, all := range [][]string{args, append([]string{"--json"}, args...)} {
			bounded(t, run(t, []string{"HEALTHCHECK_TIMEOUT=2s"}, all...), all)
		}
	}
	for range 4 {
		each = append(each, each...)
	}
	for _, all := range [][]string{each, append([]string{"--json"}, each[:40]...)} {
		bounded(t, run(t, []string{"HEALTHCHECK_TIMEOUT=2s"}, all...), all)
	}
}

// bounded looks at an output that a server had a hand in.
func bounded(t *testing.T, got outcome, args []string) {
	t.Helper()
	what := strings.Join(args, " ")
	what = what[:min(len(what), 200)]
	if n := len(got.stdout) + len(got.stderr); n >= 4096 {
		t.Errorf("healthcheck %s: %d bytes of output, want under 4096", what, n)
	}
	if !utf8.ValidString(got.stdout) || strings.ContainsFunc(got.stdout, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("healthcheck %s: not all printable: %q", what, got.stdout)
	}
	if strings.HasPrefix(what, "--json") {
		if err := json.Unmarshal([]byte(got.stdout), &document{}); err != nil || strings.Count(got.stdout, "\n") != 1 {
			t.Errorf("healthcheck %s: %v in %q", what, err, got.stdout)
		}
		return
	}
	for line := range strings.Lines(got.stdout) {
		if !regexp.MustCompile(`^(ok  |FAIL)  .*\n$|^and \d+ more checks`).MatchString(line) {
			t.Errorf("healthcheck %s: the line %q", what, line)
		}
	}
}

// marker is a secret. No output may hold it, however it was written or sent back.
const marker = "Zx9secretZx9"

// TestSecrets puts the marker wherever a secret can stand, has servers say it
// back, and looks for it in every output.
func TestSecrets(t *testing.T) {
	t.Parallel()
	web := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		all := r.Header.Get("Authorization") + r.Header.Get("X-Api-Key") + r.Header.Get("Cookie") + r.URL.RawQuery + r.URL.Query().Get("token")
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "http://u:"+marker+"@"+closedAddr(t)+"/?token="+marker, http.StatusFound)
			return
		case "/strange":
			http.Redirect(w, r, "http://u:"+marker+"@[::zz]/%zz", http.StatusFound)
			return
		case "/500":
			w.WriteHeader(500)
		}
		json.NewEncoder(w).Encode(map[string]any{"status": all, "services": map[string]string{all: "error"}})
	})
	reason := testbed.Serve(t, func(conn net.Conn) { // the whole request in the reason phrase
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err == nil {
			_, password, _ := request.BasicAuth()
			fmt.Fprintf(conn, "HTTP/1.1 500 %s %s %s\r\n\r\n", request.RequestURI, request.Header.Get("Authorization"), password)
		}
	})
	garbage := testbed.Serve(t, func(conn net.Conn) {
		in := make([]byte, 4096)
		n, _ := conn.Read(in)
		conn.Write(bytes.ReplaceAll(in[:n], []byte("\r\n"), []byte(" ")))
	})
	redis := testbed.Serve(t, func(conn net.Conn) {
		in := make([]byte, 4096)
		n, _ := conn.Read(in)
		fmt.Fprintf(conn, "-ERR %q %s\r\n", in[:n], bytes.ReplaceAll(in[:n], []byte("\r\n"), []byte(" ")))
		io.Copy(io.Discard, conn)
	})
	redisOK := testbed.Serve(t, func(conn net.Conn) {
		io.CopyN(io.Discard, conn, 10)
		io.WriteString(conn, "+"+marker+"\r\n")
		io.Copy(io.Discard, conn)
	})
	postgres, postgresOK := testbed.Serve(t, echoPassword(false)), testbed.Serve(t, echoPassword(true))
	passfile := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passfile, []byte("*:*:*:*:"+marker+"\n*:"+marker), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := closedAddr(t)
	env := []string{"PW=" + marker, "PGPASSWORD=" + marker, "REDISCLI_AUTH=" + marker, "PWFILE=" + passfile}

	var all [][]string
	for _, authority := range []string{web, reason, garbage, closed, "no..such.host", "[::1", "a b", "%zz", "host:port", "host:99999", "host:" + marker, ""} {
		for _, form := range []string{
			"http://u:MARK@AT", "http://MARK@AT", "http://MARK:@AT/500", "http://u:${PW}@AT/500", "http://AT/?token=MARK", "http://AT/500?MARK", "http://AT/?a=${PW}",
			"https://u:MARK@AT", "u:MARK@AT", "http:/u:MARK@AT", "http//u:MARK@AT", "HTTP://u:MARK@AT/%zz", "http://u:%zzMARK@AT", "http://u:MA RK@AT",
			"http://u:p/MARK@AT", "http://u:12/MARK@AT", "http://u:p#MARK@AT", "http://u:p?MARK@AT", "http://u:MARK\x7f@AT", "ftp://u:MARK@AT", "http+unix://u:MARK@AT", "NAME=u:MARK@AT", "MARK=http://AT/\x7f",
		} {
			if form == "MARK=http://AT/\x7f" { // a name is shown; this one is here to be refused
				form = "1" + form
			}
			all = append(all, []string{"--http", strings.NewReplacer("MARK", marker, "MA RK", "x "+marker, "AT", authority).Replace(form)})
		}
	}
	for _, authority := range []string{redis, redisOK, garbage, closed, "no..such.host", "[::1", "%zz", "host:port", "host:99999", "host:" + marker, "host/" + marker, "h?x=" + marker, "a,b", ""} {
		for _, form := range []string{
			"redis://u:MARK@AT", "redis://:MARK@AT", "redis://MARK@AT", "redis://:${PW}@AT", "redis://AT?password=MARK", "redis://AT", "redis://:other@AT?password=MARK", "rediss://:MARK@AT",
			"unix://:MARK@AT", "unix://:MARK@/no/such.sock", ":MARK@AT", "redis:/:MARK@AT", "redis://:MARK%zz@AT", "redis://:x MARK@AT", "redis://:p/MARK@AT", "redis://:12/MARK@AT", "redis://:p#MARK@AT", "http://:MARK@AT",
		} {
			all = append(all, []string{"--redis", strings.NewReplacer("MARK", marker, "AT", authority).Replace(form)})
		}
	}
	for _, authority := range []string{postgres, postgresOK, garbage, closed, "no..such.host", "[::1", "%zz", "host:port", "host:99999", "host:" + marker, ""} {
		for _, form := range []string{
			"postgres://u:MARK@AT/d", "postgres://u:${PW}@AT/d", "postgres://u@AT/d?password=MARK", "postgres://u@AT/d", "postgres://u@AT/d?passfile=${PWFILE}", "postgresql://u:MARK%zz@AT/d",
			"postgres://u:p/MARK@AT/d", "postgres://u:12/MARK@AT/d", "postgres://u:p@MARK@AT/d", "postgres://u:p?MARK@AT/d", "postgres://u:p#MARK@AT/d", "postgresql+asyncpg://u:MARK@AT/d", "mysql://u:MARK@AT/d", "u:MARK@AT/d",
			"postgres:/u:MARK@AT/d", "POSTGRES://u:MARK@AT/d", "postgres://u@AT/d?password=MARK&password=%zz", "postgres://u@AT/d?sslmode=MARK", "postgres://u:MARK%00@AT/d",
			"host=AT user=u password=MARK", "postgres://u@AT/d?options=MARK%zz",
		} {
			all = append(all, []string{"--postgres", strings.NewReplacer("MARK", marker, "AT", authority).Replace(form)})
		}
	}
	for _, rest := range []string{
		"--http http://" + web + " --http-header 'Authorization: Bearer " + marker + "'",
		"--http http://" + web + " --http-header 'X-Api-Key: " + marker + "'",
		"--http http://" + web + "/500 --http-header 'Cookie: session=" + marker + "'",
		"--http http://" + web + " --http-header 'X-Other: ${PW}'",
		"--http http://" + web + " --http-header 'Authorization " + marker + "'",
		"--http http://" + web + " --http-header 'Authorization: \x01" + marker + "'",
		"--http http://" + web + " --http-headr " + marker,
		"--http http://" + web + "/redirect", "--http http://" + web + "/strange",
		"--http http://u:pass word" + marker + "@" + web,
		"--http http://" + web + " " + marker, "--" + marker, "-" + marker + "=1", "--json=" + marker, "--timeout " + marker, "--http-body (" + marker, "--http-status " + marker,
		"--tcp u:" + marker + "@" + web, "--tcp " + web + ":" + marker, "--tcp ${" + marker, "--export-prom " + marker,
	} {
		all = append(all, words(rest))
	}
	secrets := regexp.MustCompile(`(?i)zx9` + `|` + regexp.QuoteMeta(base64.StdEncoding.EncodeToString([]byte("u:"+marker))) +
		`|` + regexp.QuoteMeta(base64.StdEncoding.EncodeToString([]byte(marker))[:15]))
	for part := range slices.Chunk(all, len(all)/8+1) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for _, args := range part {
				args = append([]string{"--timeout", "1s"}, args...)
				got := run(t, env, args...)
				if got.status == 0 || got.status == 1 {
					also := run(t, env, append([]string{"--json"}, args...)...)
					got.stdout += also.stdout
					got.stderr += also.stderr
				} else if got.status != 125 {
					t.Errorf("healthcheck %q: status %d, stderr %q", args, got.status, got.stderr)
				}
				if secrets.MatchString(got.stdout + got.stderr) {
					t.Errorf("healthcheck %q\nstdout %q\nstderr %q", args, got.stdout, got.stderr)
				}
			}
		})
	}
}

// echoPassword is a PostgreSQL server without TLS that asks for the password in
// the clear and says it back, in an error or in its version.
func echoPassword(accepts bool) func(net.Conn) {
	message := func(kind byte, body string) []byte {
		return append([]byte{kind, 0, 0, byte((len(body) + 4) >> 8), byte(len(body) + 4)}, body...)
	}
	return func(conn net.Conn) {
		in := make([]byte, 4096)
		if n, _ := conn.Read(in); n == 8 { // SSLRequest
			io.WriteString(conn, "N")
			conn.Read(in)
		}
		conn.Write(message('R', "\x00\x00\x00\x03"))
		n, _ := conn.Read(in)
		password := strings.TrimRight(string(in[min(n, 5):n]), "\x00")
		if !accepts {
			conn.Write(message('E', "SFATAL\x00C"+password+"\x00M"+password+" is wrong for user "+password+"\x00D"+password+"\x00\x00"))
			io.Copy(io.Discard, conn)
			return
		}
		conn.Write(message('R', "\x00\x00\x00\x00"))
		conn.Write(message('S', "server_version\x00"+password+" x\x00"))
		conn.Write(message('Z', "I"))
		conn.Read(in)
		conn.Write(message('T', "\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00"))
		conn.Write(append(message('D', "\x00\x01\x00\x00\x00\x011"), append(message('C', "SELECT 1\x00"), message('Z', "I")...)...))
		io.Copy(io.Discard, conn)
	}
}
