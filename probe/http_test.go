package probe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// What is seen of one answer: its head and body, options, and the words for it.
func TestHTTPAnswers(t *testing.T) {
	json := "HTTP/1.1 200 OK\nContent-Type: application/json\n"
	for _, test := range []struct {
		name, head, body string
		o                Options
		status           Status
		want             string
	}{
		{"plain", "HTTP/1.1 200 OK\nContent-Length: 2\n", "hi", Options{}, OK, "200 OK"},
		{"1.0", "HTTP/1.0 200 OK\n", "hi", Options{}, OK, "200 OK"},
		{"no reason", "HTTP/1.1 200 \n", "", Options{}, OK, "200 OK"},
		{"no reason, no space", "HTTP/1.1 200\n", "", Options{}, OK, "200 OK"},
		{"odd reason", "HTTP/1.1 200 All\tis\x1b[31m well\n", "", Options{}, OK, `200 All\tis\x1b[31m well`},
		{"unknown status", "HTTP/1.1 799 \n", "", Options{}, Failed, "reply: 799"},
		{"informational first", "HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 100 Continue\n\nHTTP/1.1 204 No Content\n", "", Options{}, OK, "204 No Content"},
		{"switching", "HTTP/1.1 101 Switching Protocols\n", "", Options{}, Failed, "reply: 101 Switching Protocols"},
		{"no content", "HTTP/1.1 204 No Content\nContent-Type: application/json\n", `{"status":"down"}`, Options{}, OK, "204 No Content"},
		{"not modified", "HTTP/1.1 304 Not Modified\nContent-Length: 9\n", "", Options{}, Failed, "reply: 304 Not Modified"},
		{"HEAD", json + "Content-Length: 17\n", "", Options{HTTPMethod: "HEAD"}, OK, "200 OK"},
		{"redirect to nowhere", "HTTP/1.1 302 Found\n", "", Options{}, Failed, "reply: 302 Found"},
		{"redirect wanted", "HTTP/1.1 302 Found\nLocation: /x\n", "", Options{HTTPStatus: "302"}, OK, "302 Found"},
		{"redirect to a bad URL", "HTTP/1.1 302 Found\nLocation: http://u:p@h:x/\n", "", Options{}, Failed, "reply: a redirect to a URL that is not of HTTP"},
		{"redirect to another scheme", "HTTP/1.1 302 Found\nLocation: file:///etc/passwd\n", "", Options{}, Failed, "reply: a redirect to a URL that is not of HTTP"},

		{"JSON", json, `{"status":"ok"}`, Options{}, OK, `200 OK, status "ok"`},
		{"JSON by its suffix", "HTTP/1.1 200 OK\nContent-Type: Application/Health+JSON;charset=utf-8\n", `{"status":"fail"}`, Options{}, Failed, `reply: 200 OK, status "fail"`},
		{"JSON without type", "HTTP/1.1 200 OK\n", "\ufeff \n{\"status\":\"warn\"}", Options{}, Degraded, `degraded: 200 OK, status "warn"`},
		{"JSON as HTML", "HTTP/1.1 200 OK\nContent-Type: text/html\n", `{"status":"down"}`, Options{}, Failed, `reply: 200 OK, status "down"`},
		{"JSON as an image", "HTTP/1.1 200 OK\nContent-Type: image/png\n", `{"status":"down"}`, Options{}, OK, "200 OK"},
		{"not JSON", json, `status: down`, Options{}, OK, "200 OK"},
		{"JSON, chunked", json + "Transfer-Encoding: chunked\n", "a;x=y\r\n{\"status\":\r\n8\r\n \"down\"}\r\n0\r\nT: x\r\n\r\n", Options{}, Failed, `reply: 200 OK, status "down"`},
		{"JSON, status last", json, `{"a":"` + strings.Repeat("x", maxBody-100) + `","status":"down"}`, Options{}, Failed, `reply: 200 OK, status "down"`},
		{"JSON, status too late", json, `{"a":"` + strings.Repeat("x", maxBody) + `","status":"down"}`, Options{}, OK, "200 OK"},
		{"JSON, too long", json, `{"status":"down","a":"` + strings.Repeat("x", 2*maxBody) + `"}`, Options{}, Failed, `reply: 200 OK, status "down"`},
		{"JSON, truncated", json + "Content-Length: 99\n", `{"status":"ok"`, Options{}, Failed, "reply: the server closed the connection in the middle of its answer"},
		{"failed, and truncated", "HTTP/1.1 500 Internal Server Error\nContent-Type: application/json\nContent-Length: 99\n", `{"status":"er`, Options{}, Failed, "reply: 500 Internal Server Error"},
		{"ASP.NET", "HTTP/1.1 503 Service Unavailable\nContent-Type: text/plain\n", "Unhealthy", Options{}, Failed, "reply: 503 Service Unavailable"},
		{"known word in odd dress", json, `{"status":"\n\u00a0DOWN\t"}`, Options{}, Failed, `reply: 200 OK, status "DOWN"`},
		{"unknown word in odd dress", json, `{"status":"a\nb\u202e"}`, Options{}, OK, `200 OK, status "a\nb\u202e"`},
		{"NUL", json, "{\"status\":\"a\x00b\"}", Options{}, OK, `200 OK, status "a\x00b"`},
		{"NUL between", json, "{\"a\":1,\x00\"status\":\"down\"}", Options{}, OK, "200 OK"},
		{"no UTF-8", json, "{\"status\":\"\xff\"}", Options{}, OK, `200 OK, status "\xff"`},
		{"deep", json, strings.Repeat(`{"a":`, maxBody/5), Options{}, OK, "200 OK"},
		{"dependencies", json, `{"services":{"db":"ok","":"error","cache":"DOWN","mq":"warn","n":null,"m":1,"o":{"status":"down"},"p":{}}}`, Options{}, OK, "200 OK, db ok, cache error, mq degraded, o error"},
		{"a dependency twice", json, `{"services":{"db":"ok","mq":"ok","db":"error"}}`, Options{}, OK, "200 OK, db error, mq ok"},
		{"bad status, then a good one", json, `{"status":"down","status":"ok"}`, Options{}, Failed, `reply: 200 OK, status "down"`},
		{"good status, then a bad one", json, `{"status":"ok","status":"down"}`, Options{}, Failed, `reply: 200 OK, status "down"`},
		{"bad status, then malformed JSON", json, `{"status":"down",'a':}`, Options{}, Failed, `reply: 200 OK, status "down"`},
		{"failed", json, `{"status":"Failed"}`, Options{}, Failed, `reply: 200 OK, status "Failed"`},
		{"out of service", json, `{"status":"OUT_OF_SERVICE"}`, Options{}, Failed, `reply: 200 OK, status "OUT_OF_SERVICE"`},
		{"unavailable", json, `{"status":"unavailable"}`, Options{}, Failed, `reply: 200 OK, status "unavailable"`},

		{"pattern", "HTTP/1.1 200 OK\nContent-Type: image/png\n", "all is well", Options{HTTPBody: "^all.*well$"}, OK, "200 OK"},
		{"no match", "HTTP/1.1 200 OK\n", "all is lost", Options{HTTPBody: "well"}, Failed, "reply: 200 OK, body does not match --http-body"},
		{"empty matches", "HTTP/1.1 200 OK\nContent-Length: 0\n", "", Options{HTTPBody: "^$"}, OK, "200 OK"},
		{"pattern and status", json, `{"status":"down"}`, Options{HTTPBody: "down"}, Failed, `reply: 200 OK, status "down"`},

		{"not HTTP", "220 mail ESMTP\n", "", Options{}, Failed, "reply: the answer is not HTTP"},
		{"Redis", "-ERR unknown command\n", "", Options{}, Failed, "reply: the answer is not HTTP"},
		{"a header without a colon", "HTTP/1.1 200 OK\nMARK\n", "", Options{}, Failed, "reply: the answer's header is malformed"},
		{"a length that is no number", "HTTP/1.1 200 OK\nContent-Length: MARK\n", "", Options{}, Failed, "reply: the answer's header is malformed"},
		{"two lengths", "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n", "x", Options{}, Failed, "reply: the answer's header is malformed"},
		{"an unknown encoding", "HTTP/1.1 200 OK\nTransfer-Encoding: MARK\n", "", Options{}, Failed, "reply: the answer's header is malformed"},
		{"a status that is no number", "HTTP/1.1 MARK OK\n", "", Options{}, Failed, "reply: the answer is not HTTP"},
		{"a chunk without length", json + "Transfer-Encoding: chunked\n", "MARK\r\n", Options{}, Failed, "reply: 200 OK, then the answer's body is malformed"},
		{"half a chunk", json + "Transfer-Encoding: chunked\n", "9\r\n{", Options{}, Failed, "reply: the server closed the connection in the middle of its answer"},
		{"half a header", "HTTP/1.1 200 OK\nA: b", "", Options{}, Failed, "reply: the server closed the connection in the middle of its answer"},
		{"a long header", "HTTP/1.1 200 OK\nA: " + strings.Repeat("b", maxHeader) + "\n", "", Options{}, Failed, "reply: the answer's header is longer than 64 KiB"},
		{"hints without end", strings.Repeat("HTTP/1.1 103 Early Hints\n\n", maxHeader/20), "", Options{}, Failed, "reply: the answer's header is longer than 64 KiB"},
	} {
		addr := answers(t, test.head, test.body)
		r := tryOut(t, test.o, "http", "http://"+addr)
		if r.Status != test.status || r.Seen() != test.want {
			t.Errorf("%s: %s %q, want %s %q", test.name, r.Status, r.Seen(), test.status, test.want)
		}
	}
	if r := tryOut(t, Options{}, "http", "http://"+testbed.Serve(t, func(net.Conn) {})); !strings.HasPrefix(r.Seen(), "reply: ") {
		t.Errorf("closed at once: %q", r.Seen())
	}
}

// What a failing answer says stands on the line of the command, and not on the exported page.
func TestHTTPDetail(t *testing.T) {
	const failed = "HTTP/1.1 503 Service Unavailable\nContent-Type: "
	for _, test := range []struct {
		name, head, body string
		o                Options
		want             string // behind the message
	}{
		{"message", failed + "application/json\n", `{"error":"e","message":"database is locked"}`, Options{}, ": database is locked"},
		{"error object", failed + "application/problem+json\n", `{"error":{"code":5,"message":"locked"}}`, Options{}, ": locked"},
		{"more than the status", failed + "application/json\n", `{"error":"Service Unavailable","reason":"locked"}`, Options{}, ": locked"},
		{"no more than the status", failed + "application/json\n", `{"message":"service unavailable"}`, Options{}, ""},
		{"behind a document", failed + "application/json\n", `{"status":"down","services":{"db":"down"},"error":"locked"}`, Options{}, ": locked"},
		{"cut", failed + "application/json\nContent-Length: 999\n", `{"message":"locked","more":"`, Options{}, ": locked"},
		{"no reason", failed + "application/json\n", `{"messages":"x","error":["y"]}`, Options{}, ""},
		{"text", failed + "text/plain; charset=utf-8\n", "\r\n  locked by 7 \r\nsecond line", Options{}, ": locked by 7"},
		{"text that is JSON", failed + "text/plain\n", `{"reason":"locked"}`, Options{}, ": locked"},
		{"text that is JSON without a reason", failed + "text/plain\n", `{"a":"locked"}`, Options{}, ""},
		{"text that repeats the status", failed + "text/plain\n", "503 service unavailable\n", Options{}, ""},
		{"long text", failed + "text/plain\n", strings.Repeat("é", 99), Options{}, ": " + strings.Repeat("é", 58) + "…"},
		{"endless text", failed + "text/plain\nContent-Length: 99999999\n", strings.Repeat("x", 1<<20), Options{}, ": " + strings.Repeat("x", 117) + "…"},
		{"control characters", failed + "text/plain\n", "a\x1b[31m\u202eb", Options{}, `: a\x1b[31m\u202eb`},
		{"HTML", failed + "text/html\n", "<h1>locked</h1>", Options{}, ""},
		{"HEAD", failed + "text/plain\nContent-Length: 6\n", "", Options{HTTPMethod: "HEAD"}, ""},
		{"a secret", failed + "application/json\n", `{"message":"bad token s3cr3t, and 73336372337\u0034"}`, Options{HTTPHeaders: []string{"Authorization: Bearer s3cr3t"}}, ": bad token ***, and ***"},
		{"a secret of two lines", failed + "text/plain\n", "x abc\ndef y", Options{HTTPHeaders: []string{"X: ${TWO}"}, LookupEnv: env{"TWO": "abc\tdef"}.lookup}, ": x *** y"},
		{"a foreign secret", failed + "text/plain\n", "dial postgres://app:hunter2@db failed", Options{}, ": dial postgres://***@db failed"},
		{"healthy", "HTTP/1.1 200 OK\nContent-Type: application/json\n", `{"message":"fine"}`, Options{}, ""},
		{"200, status down", "HTTP/1.1 200 OK\nContent-Type: application/json\n", `{"status":"down","message":"locked"}`, Options{}, ": locked"},
		{"200, no match", "HTTP/1.1 200 OK\nContent-Type: text/plain\n", "locked", Options{HTTPBody: "well"}, ": locked"},
		{"TLS wanted, as Go says", "HTTP/1.0 400 Bad Request\n", "Client sent an HTTP request to an HTTPS server.\n", Options{}, " (use https://)"},
		{"TLS wanted, as nginx says", "HTTP/1.1 400 Bad Request\nContent-Type: text/html\n", "<title>400 The plain HTTP request was sent to HTTPS port</title>", Options{}, " (use https://)"},
		{"an alert", "", "", Options{}, " (use https://)"},
	} {
		addr := answers(t, test.head, test.body)
		if test.head == "" {
			addr = testbed.Serve(t, says("\x15\x03\x01\x00\x02\x02\x46"))
		}
		r := tryOut(t, test.o, "http", "http://"+addr)
		if tail, _ := strings.CutPrefix(r.Line(MaxLine), r.line("", MaxLine)); r.Remedy == "" && tail != test.want {
			t.Errorf("%s: %q behind %q, want %q", test.name, tail, r.Seen(), test.want)
		}
		if line := r.Line(MaxLine); !strings.HasSuffix(line, test.want) {
			t.Errorf("%s: %q, want %q at its end", test.name, line, test.want)
		}
		if strings.Contains(r.Seen(), "locked") {
			t.Errorf("%s: %q is exported", test.name, r.Seen())
		}
	}
}

// Where redirects led is shown: no user-info, no query, no secret.
func TestRedirectIsShown(t *testing.T) {
	host, other := newRecorder(t, make(chan *http.Request, 64)), newRecorder(t, make(chan *http.Request, 64))
	closed := "127.0.0.1:" + testbed.FreePort(t)
	host.location = map[string]string{"/query": "/login?next=s#f", "/other": "http://u:p@" + other.addr + "/a?b", "/root": "http://" + other.addr,
		"/back": "http://" + other.addr + "/back", "/gone": "http://" + closed + "/x", "/secret": "/at/s3cr3t-t0ken/x", "/odd": "/%0a%e2%80%ae"}
	other.location = map[string]string{"/back": "http://" + host.addr + "/end"}
	for _, test := range []struct{ path, want string }{
		{"/query", "200 OK after redirect to /login"},
		{"/other", "200 OK after redirect to http://" + other.addr + "/a"},
		{"/root", "200 OK after redirect to http://" + other.addr},
		{"/back", "200 OK after redirect to /end"},
		{"/gone", "connect: connection refused after redirect to http://" + closed + "/x"},
		{"/secret", "200 OK after redirect to /at/***/x"},
		{"/odd", "200 OK after redirect to /%0a%e2%80%ae"},
	} {
		r := tryOut(t, Options{HTTPHeaders: []string{"X-Token: s3cr3t-t0ken"}}, "http", "http://"+host.addr+test.path)
		if r.Seen() != test.want {
			t.Errorf("%s: %q, want %q", test.path, r.Seen(), test.want)
		}
	}
}

// TestCostlyPattern has a body and a pattern whose match takes seconds. The deadline ends it.
func TestCostlyPattern(t *testing.T) {
	costly := strings.Repeat("(a|b?|[a-f]*)*", 400) + "z"
	addr := answers(t, "HTTP/1.1 200 OK\n", strings.Repeat("a", maxBody-1))
	r := tryOut(t, Options{Timeout: 500 * time.Millisecond, HTTPBody: costly}, "http", "http://"+addr)
	if r.Seen() != "reply: timeout after 500ms" || !r.TimedOut || r.Duration > time.Second {
		t.Errorf("%q after %v, want a timeout after 500ms", r.Seen(), r.Duration)
	}
}

// A recorder is an HTTP server that keeps the requests it sees, and redirects by a table.
type recorder struct {
	addr     string
	seen     chan *http.Request
	location map[string]string // of a path
}

func newRecorder(t *testing.T, seen chan *http.Request) *recorder {
	rec := &recorder{seen: seen, location: map[string]string{}}
	rec.addr = testbed.Serve(t, func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		rec.seen <- req
		if to := rec.location[req.URL.Path]; to != "" {
			fmt.Fprintf(conn, "HTTP/1.1 307 Temporary Redirect\r\nLocation: %s\r\nContent-Length: 1000\r\n\r\n", to)
			io.Copy(io.Discard, conn)
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	return rec
}

// Secrets go to the host that they were given for, however it redirects, and to no other.
func TestRedirectSecrets(t *testing.T) {
	const basic = "Basic YXBwOnMzY3IzdA==" // app:s3cr3t
	for _, test := range []struct {
		name, location string // of /; HOST is the first server, OTHER another
		header         string
		want           string // Authorization at the end
	}{
		{"relative", "/end", "", basic},
		{"absolute", "http://HOST/end", "", basic},
		{"with a user of its own", "http://eve:x@HOST/end", "", basic},
		{"another port", "http://OTHER/end", "", ""},
		{"another port, with the user", "http://app:s3cr3t@OTHER/end", "", ""},
		{"there and back", "http://OTHER/back", "", ""},
		{"token", "http://HOST/end", "Authorization: Bearer tok", "Bearer tok"},
		{"token elsewhere", "http://OTHER/end", "Authorization: Bearer tok", ""},
	} {
		seen := make(chan *http.Request, maxRedirects+2)
		host, other := newRecorder(t, seen), newRecorder(t, seen)
		host.location["/"] = strings.NewReplacer("HOST", host.addr, "OTHER", other.addr).Replace(test.location)
		other.location["/back"] = "http://" + host.addr + "/end"
		o := Options{HTTPHeaders: []string{"X-Api-Key: k3y"}}
		if test.header != "" {
			o.HTTPHeaders = append(o.HTTPHeaders, test.header)
		}
		r := tryOut(t, o, "http", "http://app:s3cr3t@"+host.addr+"/?key=query")
		var last *http.Request
		for len(seen) > 0 {
			last = <-seen
		}
		if r.Status != OK || last == nil {
			t.Errorf("%s: %s %q", test.name, r.Status, r.Seen())
			continue
		}
		if got := last.Header.Get("Authorization"); got != test.want {
			t.Errorf("%s: Authorization %q, want %q", test.name, got, test.want)
		}
		if key := last.Header.Get("X-Api-Key"); (key != "") != (test.want != "") {
			t.Errorf("%s: X-Api-Key %q", test.name, key)
		}
		if referer := last.Header.Get("Referer"); referer != "" {
			t.Errorf("%s: Referer %q", test.name, referer)
		}
	}
}

// Where headers and password go along.
func TestSameService(t *testing.T) {
	for _, test := range []struct {
		from, to string
		socket   bool
		want     bool
	}{
		{"http://h", "http://H:80/x", false, true},
		{"http://h", "https://h/", false, true},
		{"http://h:8080", "https://h:8080/", false, true},
		{"http://h:8080", "https://h/", false, false},
		{"https://h", "http://h/", false, false},
		{"http://h", "http://h:8080/", false, false},
		{"http://h", "http://g/", false, false},
		{"http://localhost", "http://localhost:80/x", true, true},
		{"http://localhost", "https://localhost/", true, false},
		{"http://localhost", "https://localhost:80/", true, false},
		{"http://localhost", "http://localhost:8080/", true, false},
	} {
		from, err1 := url.Parse(test.from)
		to, err2 := url.Parse(test.to)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got := sameService(from, to, test.socket); got != test.want {
			t.Errorf("from %s, socket %v, to %s: %v, want %v", test.from, test.socket, test.to, got, test.want)
		}
	}
}

// What a server echoes is masked, in every form in which it was sent; words that are ours are not.
func TestEchoedSecrets(t *testing.T) {
	lookup := env{"PW": "p@ss w0rd", "TOKEN": "tok/en+1", "CODE": "c0de"}
	for _, test := range []struct {
		url     string
		headers []string
		echo    string
		want    string
	}{
		{"http://app:${PW}@HOST/", nil, "p@ss w0rd", "***"},
		{"http://app:${PW}@HOST/", nil, "p%40ss%20w0rd p%40ss+w0rd p@ss%20w0rd", "*** *** ***"},
		{"http://app:${PW}@HOST/", nil, "Basic YXBwOnBAc3MgdzByZA== YXBwOnBAc3MgdzByZA", "Basic *** ***"},
		{"http://app:${PW}@HOST/", nil, "user:app", "user:app"},
		{"http://${TOKEN}@HOST/", nil, "tok/en+1 tok%2Fen%2B1", "*** ***"},
		{"http://HOST/?code=${CODE}", nil, "c0de", "***"},
		{"http://HOST/?api_key=l1teral&sig=s1g&pass=hunter2", nil, "l1teral s1g hunter2", "*** *** ***"},
		{"http://HOST/?verbose=database", nil, "database", "database"},
		{"http://HOST/?Zx9secret&a&b=", nil, "abba Zx9secret", "abba ***"},
		{"http://HOST/hook/${CODE}", nil, "/hook/c0de", "/hook/***"},
		{"http://:@HOST/", nil, "a:b", "a:b"},
		{"http://token:@HOST/", nil, "token dG9rZW46", "*** ***"}, // as some APIs take a key
		{"http://HOST/", []string{"Authorization: Bearer l1teral"}, "Bearer l1teral, l1teral", "***, ***"},
		{"http://HOST/", []string{"Authorization: Basic YXBwOnMzY3IzdA=="}, "app:s3cr3t s3cr3t, YXBwOnMzY3IzdA==", "app:*** ***, ***"},
		{"http://HOST/", []string{"Cookie: a=1; session=f00d"}, "session=f00d f00d", "*** ***"},
		{"http://HOST/", []string{"X-Other: ${CODE}"}, "c0de", "***"},
		{"http://HOST/", []string{"X-Api-Key: F1rst second"}, "F1rst", "***"},
		{"${URL}", nil, "/hooks/T0123456 query/Value9 plain-words-only", "/hooks/*** *** plain-words-only"},
		{"http://HOST/", []string{"X-Other: plain"}, "plain", "plain"},
	} {
		addr := answers(t, "HTTP/1.1 200 "+test.echo+"\nContent-Type: application/json\n", `{"status":"`+test.echo+`","services":{"`+test.echo+`":"ok"}}`)
		lookup["URL"] = "http://" + addr + "/hooks/T0123456/plain-words-only?v=query/Value9"
		r := tryOut(t, Options{HTTPHeaders: test.headers, LookupEnv: lookup.lookup}, "http", strings.Replace(test.url, "HOST", addr, 1))
		want := fmt.Sprintf(`200 %s, status "%s", %s ok`, test.want, test.want, test.want)
		if r.Seen() != want {
			t.Errorf("%s %q echoing %q: %q, want %q", test.url, test.headers, test.echo, r.Seen(), want)
		}
	}
}

// The name of a dependency is masked before it is cut, else half of a secret would pass for none.
func TestDependencyNames(t *testing.T) {
	secret := strings.Repeat("s3cr3t", 20)
	addr := answers(t, "HTTP/1.1 200 OK\nContent-Type: application/json\n", `{"services":{"a `+secret+`":"ok","`+strings.Repeat("n", 100)+`":"ok"}}`)
	r := tryOut(t, Options{}, "http", "http://u:"+secret+"@"+addr)
	var names []string
	for _, d := range r.Dependencies {
		names = append(names, d.Name)
	}
	if want := []string{"a ***", strings.Repeat("n", maxName-len("…")) + "…"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
}

func FuzzHTTPValue(f *testing.F) {
	for _, test := range targetTests {
		f.Add(test.in, "s3cr3t")
	}
	for _, test := range usageTests {
		f.Add(test.in, "MARK")
	}
	f.Fuzz(func(t *testing.T, value, secret string) { fuzzValue(t, "http", value, secret) })
}

// fuzzValue checks what holds for every value: an error is two lines and never holds what was inserted, nor does the target of an
// accepted one, which is printable.
func fuzzValue(t *testing.T, kind, value, secret string) *Check {
	const prefix = "\u00a7MARK\u00a7"
	lookup := func(string) (string, bool) { return prefix + secret, true }
	c, err := parseOne(Options{LookupEnv: lookup}, kind, value)
	if err != nil {
		if got := usageOf(t, err); strings.Contains(got, "MARK") && !strings.Contains(value, "MARK") || strings.ContainsAny(got, "\x00\r") || strings.Count(got, "\n") != 1 {
			t.Errorf("Parse(--%s %q): %q", kind, value, got)
		}
		return nil
	}
	if strings.Contains(c.Target, "MARK") && !strings.Contains(value, "MARK") && kind == "http" {
		t.Errorf("Parse(--%s %q): target %q", kind, value, c.Target)
	}
	if escapeUnprintable(c.Target) != c.Target {
		t.Errorf("Parse(--%s %q): target %q is not printable", kind, value, c.Target)
	}
	return c
}
