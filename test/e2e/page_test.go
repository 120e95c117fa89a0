//go:build linux

package e2e_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// A browser is a headless Chromium, driven through its DevTools protocol (chromedevtools.github.io) over a pair of pipes
// (--remote-debugging-pipe): each message is a JSON object with a NUL behind it, a request as
//
//	{"id":1,"sessionId":"…","method":"Page.navigate","params":{…}}  answered by  {"id":1,"result":{…}}
//
// and what happens in the page in between as {"method":"Network.requestWillBeSent","params":{…}}.
type browser struct {
	to      io.Writer
	session string // of the one page; "" before it is there

	mu      sync.Mutex // guards all below
	last    int        // id of the last request
	answers map[int]chan cdpMessage
	fetched []string // URLs asked for
	failed  error    // why there are no more messages
}

type cdpMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	Params struct {
		Request struct{ URL string }
	}
}

// openBrowser starts Chromium with one empty page. It ends with the test.
func openBrowser(t testing.TB) *browser {
	t.Helper()
	chromium := testbed.Need(t, "chromium")
	dir := t.TempDir()
	readRequests, writeRequests, err1 := os.Pipe()
	readAnswers, writeAnswers, err2 := os.Pipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server",
		"--hide-scrollbars", "--user-data-dir="+filepath.Join(dir, "profile"), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{readRequests, writeAnswers} // 3 and 4
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.Dir = t.TempDir()
	launch(t, cmd)
	readRequests.Close()
	writeAnswers.Close()
	b := &browser{to: writeRequests, answers: map[int]chan cdpMessage{}}
	t.Cleanup(func() { writeRequests.Close(); readAnswers.Close() })
	go b.read(bufio.NewReader(readAnswers)) // ends with Chromium, or the pipe

	var target struct{ TargetID string }
	b.call(t, "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call(t, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	b.call(t, "Page.enable", nil, nil)
	b.call(t, "Network.enable", nil, nil)
	return b
}

func (b *browser) read(from *bufio.Reader) {
	for {
		text, err := from.ReadBytes(0)
		var m cdpMessage
		if err == nil {
			err = json.Unmarshal(text[:len(text)-1], &m)
		}
		b.mu.Lock()
		if err != nil {
			b.failed = err
			for _, answer := range b.answers {
				close(answer)
			}
			b.answers = nil
			b.mu.Unlock()
			return
		}
		if m.Method == "Network.requestWillBeSent" {
			b.fetched = append(b.fetched, m.Params.Request.URL)
		}
		if answer := b.answers[m.ID]; answer != nil {
			delete(b.answers, m.ID)
			answer <- m
		}
		b.mu.Unlock()
	}
}

// try makes a request and waits for its answer, which goes into result where that is not nil.
func (b *browser) try(method string, params map[string]any, result any) error {
	b.mu.Lock()
	b.last++
	answer := make(chan cdpMessage, 1)
	if b.answers != nil {
		b.answers[b.last] = answer
	} else {
		close(answer)
	}
	request := map[string]any{"id": b.last, "method": method}
	b.mu.Unlock()
	if params != nil {
		request["params"] = params
	}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return err
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("chromium has ended: %w", b.failed)
		case m.Error != nil:
			return errors.New(string(m.Error))
		case result != nil:
			return json.Unmarshal(m.Result, result)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("no answer in %v", patience)
	}
}

// call is try, and fails the test.
func (b *browser) call(t testing.TB, method string, params map[string]any, result any) {
	t.Helper()
	if err := b.try(method, params, result); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// eval is an expression's value in the page. The page refreshes itself: between two there is none.
func (b *browser) eval(t testing.TB, expression string, value any) {
	t.Helper()
	testbed.Poll(t, func() error {
		var answer struct {
			Result           struct{ Value json.RawMessage }
			ExceptionDetails json.RawMessage
		}
		whole := `if (document.readyState != "complete") throw "loading"; (` + expression + `)`
		err := b.try("Runtime.evaluate", map[string]any{"expression": whole, "returnByValue": true, "awaitPromise": true}, &answer)
		if err == nil && (answer.ExceptionDetails != nil || answer.Result.Value == nil) {
			err = errors.New(string(answer.ExceptionDetails))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", expression, err)
		}
		return json.Unmarshal(answer.Result.Value, value)
	})
}

// show opens a page in a window of that width, in the dark or not, and waits until it is there.
func (b *browser) show(t testing.TB, url string, width int, dark bool) {
	t.Helper()
	b.call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	b.call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]any{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call(t, "Page.navigate", map[string]any{"url": url}, nil)
	testbed.Poll(t, func() error {
		var state string
		if b.eval(t, `document.URL`, &state); state != url {
			return fmt.Errorf("the page is %q, want %s", state, url)
		}
		return nil
	})
}

// urls are those fetched so far.
func (b *browser) urls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.fetched...)
}

// shoot writes what is seen into the folder that HEALTHCHECK_SCREENSHOTS names, for people to look at.
func (b *browser) shoot(t testing.TB, name string) {
	t.Helper()
	folder := os.Getenv("HEALTHCHECK_SCREENSHOTS")
	if folder == "" {
		return
	}
	var shot struct{ Data string }
	b.call(t, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	hostileReason = `<img src=x onerror="document.title='owned'"> & "quotes" 'single'`
	hostileName   = `</p><script>document.title='owned'</script>`
)

// hostileAPI answers with markup wherever it can.
func hostileAPI(t testing.TB) string {
	body := fmt.Sprintf(`{"status":"down","services":{%q:"error"}}`, hostileName)
	return testbed.Serve(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "HTTP/1.1 500 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", hostileReason, len(body), body)
		}
	})
}

// TestPage opens the page in a browser, in each of its states.
func TestPage(t *testing.T) { // not beside others: it wants the processors for itself
	b := openBrowser(t)
	long := strings.Repeat("a-name-without-end-", 20)
	v := vars{"open": accept(t), "closed": closedAddr(t), "hostile": hostileAPI(t), "long": long, "name": long[:60],
		"hostileName": hostileName, "hostileReason": hostileReason}
	v["ok"] = "http://" + httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"status":"ok","services":{"database":"ok","cache":"ok"}}`)
	})
	v["degraded"] = "http://" + httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"status":"degraded","services":{"database":"ok","cache":"degraded"}}`)
	})
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const start0 = "--start-period 0 " // a failure counts at once
	many := start0
	for i := range 29 {
		many += fmt.Sprintf("--tcp port-%d=$open ", i)
	}
	for _, tt := range []struct {
		name     string
		args     string // before -- CMD
		service  string // SERVICE_NAME
		sidecar  bool
		title    string   // of the tab
		headline string   // and its class
		cards    []string // heading and state of each, as read; nil: any
		texts    []string // that stand somewhere
	}{
		{"healthy", "--http api=$ok --tcp port=$open", "orders", false, "Healthy: orders", "Healthy ok",
			[]string{"Command sh running", "api ok", "port ok"},
			[]string{"orders 1.2.3-", "$ok", "200 OK, status \"ok\", database ok, cache ok", "Checks: 2 ok.", "uptime", "CPU", "% of one core", "MiB", "processes", "threads", "descriptors", "connected", "last run"}},
		{"degraded", "--http api=$degraded --tcp port=$open", "orders", false, "Degraded: orders", "Degraded degraded",
			[]string{"api degraded", "Command sh running", "port ok"}, []string{"degraded: 200 OK, status \"degraded\", database ok, cache degraded", "Checks: 1 degraded, 1 ok."}},
		{"unhealthy", start0 + "--tcp port=$open --http api=$ok --redis cache=redis://:hunter2@$closed", "orders", false, "Unhealthy: orders", "Unhealthy error",
			[]string{"cache FAIL", "Command sh running", "port ok", "api ok"}, []string{"redis://$closed", "connect: connection refused", "last ok", "never", "1 in a row", "1 failed"}},
		{"starting", "--start-period 1h --tcp port=$open --tcp db=$closed", "orders", false, "Starting: orders", "Starting starting",
			[]string{"db starting", "Command sh running", "port ok"}, []string{"connect: connection refused", "Checks: 1 starting, 1 ok."}},
		{"waiting", "--wait db=1h --tcp db=$closed", "orders", false, "Waiting: orders", "Waiting waiting",
			[]string{"Command sh waiting", "db starting"}, []string{"$closed", "connect: connection refused", "Waiting for db until ", " UTC", "waiting until", "left"}},
		{"nothing checked", "", "orders", false, "Running, nothing checked: orders", "Running, nothing checked unknown",
			[]string{"Command sh running"}, []string{"No check is configured. Set HEALTHCHECK_HTTP=http://localhost:PORT/health"}},
		{"sidecar", "--tcp port=$open", "", true, "Healthy: " + hostname, "Healthy ok", []string{"port ok"}, []string{"connected", hostname}},
		{"many checks", many + "--tcp db=$closed", "orders", false, "Unhealthy: orders", "Unhealthy error", nil, []string{"Checks: 1 failed, 29 ok."}},
		{"hostile", start0 + "--http api=http://$hostile/$long?a=$long --redis $name=redis://$closed", hostileName + "\u202e" + long, false,
			"Unhealthy: " + hostileName + `\u202e` + long, "Unhealthy error", []string{"api FAIL", "$name FAIL", "Command sh running"},
			[]string{"500 $hostileReason", "$hostileName error", "/$long"}},
	} {
		t.Run(tt.name, func(t *testing.T) { // one after the other: there is one page
			args := append([]string{"--export-prom", "127.0.0.1:0", "--interval", "1h"}, words(v.expand(t, tt.args))...)
			if !tt.sidecar {
				args = append(args, "--", "sh", "-c", "sleep 600; : --password=hunter2")
			}
			s := serve(t, []string{"SERVICE_NAME=" + tt.service, "SERVICE_VERSION=1.2.3-" + long}, args...)
			headline, _, _ := strings.Cut(tt.headline+" ", " ")
			testbed.Poll(t, func() error {
				_, _, body := s.get(t, "/")
				if !strings.Contains(body, "<h1>"+headline) || strings.Contains(body, "not checked yet") ||
					!tt.sidecar && tt.name != "waiting" && !strings.Contains(body, "running</b>") {
					return fmt.Errorf("the page does not say %s yet: %s", headline, body)
				}
				return nil
			})
			address := "http://" + s.addr(t) + "/"
			for _, width := range []int{1280, 390} {
				for _, dark := range []bool{false, true} {
					b.show(t, address, width, dark)
					var scroll int
					if b.eval(t, "document.documentElement.scrollWidth", &scroll); scroll > width {
						t.Errorf("at %d pixels the page is %d wide", width, scroll)
					}
					var clipped []string
					b.eval(t, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != "inline").map(e => e.outerHTML.slice(0, 80))`, &clipped)
					if len(clipped) > 0 {
						t.Errorf("at %d pixels these do not fit: %q", width, clipped)
					}
					b.shoot(t, fmt.Sprintf("%s-%d-%v", strings.ReplaceAll(tt.name, " ", "-"), width, map[bool]string{false: "light", true: "dark"}[dark]))
				}
			}
			var seen struct {
				Title, Headline string
				Cards           []string
				Text            string
				Scripts, Images int
				Icon            string
				IconWidth       int // as loaded, which the Content-Security-Policy must allow
			}
			b.eval(t, `(async () => {
				const icon = new Image()
				icon.src = document.querySelector("link[rel=icon]").href
				await icon.decode().catch(() => {})
				return {
				Title: document.title,
				Headline: document.querySelector("h1").innerText + " " + document.querySelector("header").className,
				Cards: [...document.querySelectorAll("article h2")].map(e => e.innerText.replace(/\s+/g, " ")),
				Text: document.body.innerText,
				Scripts: document.scripts.length, Images: document.images.length,
				Icon: icon.src, IconWidth: icon.naturalWidth,
				}
			})()`, &seen)
			if seen.Title != tt.title || seen.Headline != tt.headline || tt.cards != nil && strings.Join(seen.Cards, "|") != v.expand(t, strings.Join(tt.cards, "|")) {
				t.Errorf("title %q, headline %q, cards %q, want %q, %q, %q", seen.Title, seen.Headline, seen.Cards, tt.title, tt.headline, tt.cards)
			}
			for _, text := range tt.texts {
				text = v.expand(t, text)
				if !strings.Contains(seen.Text, text) {
					t.Errorf("%q is not on the page:\n%s", text, seen.Text)
				}
			}
			if seen.Scripts+seen.Images > 0 || strings.Contains(seen.Text, "hunter2") {
				t.Errorf("%d scripts, %d images, or a secret, on the page:\n%s", seen.Scripts, seen.Images, seen.Text)
			}
			if seen.IconWidth == 0 {
				t.Errorf("the icon %s is not shown", seen.Icon)
			}
			for _, fetched := range b.urls() {
				if fetched != seen.Icon && !strings.HasPrefix(fetched, "data:image/svg+xml,") && !strings.HasPrefix(fetched, "http://127.0.0.1:") {
					t.Errorf("the page fetches %s", fetched)
				}
			}
			var links []string
			b.eval(t, `[...document.links].map(a => a.href)`, &links)
			for i, path := range []string{"metrics", "health", "healthz"} {
				if len(links) != 3 || links[i] != address+path {
					t.Errorf("links %q, want metrics, health and healthz", links)
					break
				}
			}
		})
	}
}

// TestPageRefresh: the page comes again by itself, with what has changed, and asks for nothing else.
func TestPageRefresh(t *testing.T) { // not beside others: it wants the processors for itself
	b := openBrowser(t)
	var broken atomic.Bool
	api := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(503)
		}
	})
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "100ms", "--http", "api=http://"+api, "--", "sleep", "600")
	s.until(t, "service_health", func(v float64) bool { return v == 1 })
	// In between, to see what it is asked for.
	var mu sync.Mutex // guards asked
	asked := map[string]int{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: s.addr(t)})
		mu.Lock()
		asked[r.In.Method+" "+r.In.URL.String()]++
		mu.Unlock()
	}}
	b.show(t, "http://"+httpServer(t, proxy.ServeHTTP)+"/", 390, false)
	headline := func(want string) {
		t.Helper()
		testbed.Poll(t, func() error {
			var got string
			if b.eval(t, `document.querySelector("h1").innerText`, &got); got != want {
				return fmt.Errorf("the page says %q, want %q", got, want)
			}
			return nil
		})
	}
	headline("Healthy")
	broken.Store(true)
	headline("Unhealthy")
	broken.Store(false)
	headline("Healthy")
	mu.Lock()
	defer mu.Unlock()
	if n := asked["GET /"]; n < 3 || len(asked) != 1 {
		t.Errorf("asked for %v, want / three times or more and nothing else", asked)
	}
}

// TestPageSource: what a browser does not tell. The page is one file, small, and closed to whatever it might be made to load.
func TestPageSource(t *testing.T) {
	t.Parallel()
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--tcp", accept(t), "--", "sleep", "60")
	_, header, body := s.get(t, "/")
	const policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
	if got := header.Get("Content-Security-Policy"); got != policy {
		t.Errorf("Content-Security-Policy %q, want %q", got, policy)
	}
	if header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", header.Get("Cache-Control"))
	}
	const icon = `<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'`
	if strings.Count(body, icon) != 1 {
		t.Errorf("no %s in the page:\n%s", icon, body)
	}
	rest := strings.Replace(body, icon, "", 1)
	if elsewhere := regexp.MustCompile(`(?i)https?:|//|@import|url\(|<script|<link|<img|<iframe|\son\w+=`).FindString(rest); elsewhere != "" {
		t.Errorf("%q in the page:\n%s", elsewhere, body)
	}
	if len(body) > 8<<10 {
		t.Errorf("the page has %d bytes", len(body))
	}
}
