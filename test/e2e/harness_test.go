// These tests run the built binary from outside, against real servers where
// there are any, and read what it prints and how it exits. Rows are written as
// the contract has them: a line's columns stand two spaces apart, … is anything,
// and the time at a line's end goes without saying.
package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// root is the module's folder.
const root = "../.."

// built is healthcheck, built as the image has it.
var built string

func TestMain(m *testing.M) {
	// A handler here is the default action in what is started, where the caller ignores these, as nohup does.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // most tests wait for a peer, not for a processor
		flag.Set("test.parallel", "4")
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "healthcheck")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = filepath.Join(dir, "healthcheck")
	build := exec.Command("go", "build", "-C", root, "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w -buildid=", "-o", built, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building healthcheck: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// An outcome is all that a caller of the binary sees.
type outcome struct {
	status         int
	stdout, stderr string
	took           time.Duration
}

// run runs the binary with nothing but env in its environment.
func run(t testing.TB, env []string, args ...string) outcome {
	t.Helper()
	return finish(t, command(env, args...))
}

// command is the binary, ready to start, in an environment of env alone.
func command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(built, args...)
	cmd.Env = append([]string{}, env...) // not nil, which would be the test's own
	return cmd
}

// finish runs cmd to its end.
func finish(t testing.TB, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), took}
}

// A row is one command line and what comes of it.
type row struct {
	args   string // split at spaces; a word in single quotes may hold some
	env    []string
	status int
	want   string // stdout's lines; for status 125 stderr's
}

// check runs each row on its own.
func check(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(strings.ReplaceAll(r.args, "/", "∕"), func(t *testing.T) {
			t.Parallel()
			r.check(t)
		})
	}
}

func (r row) check(t *testing.T) {
	t.Helper()
	if r.status == 0 { // on a machine that has much else to do, too
		r.env = append([]string{"HEALTHCHECK_TIMEOUT=60s"}, r.env...)
	}
	got := run(t, r.env, words(r.args)...)
	out, silent, want := got.stdout, got.stderr, lines(r.want)
	if r.status == 125 {
		out, silent, want = got.stderr, got.stdout, usage(r.want)
	}
	if got.status != r.status || !want.MatchString(out) || silent != "" {
		t.Errorf("healthcheck %s\nstatus %d, stdout %q, stderr %q, want status %d and %s", r.args, got.status, got.stdout, got.stderr, r.status, r.want)
	}
}

// words splits a command line as a shell would one without escapes.
func words(line string) (list []string) {
	var word strings.Builder
	quoted, begun := false, false
	for _, c := range line {
		switch {
		case c == '\'':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}

// pattern is the regular expression for text in which … is anything and two
// spaces are the gap between columns.
func pattern(text string) string {
	return strings.NewReplacer("…", "[^\n]*", "  ", " {2,}").Replace(regexp.QuoteMeta(text))
}

// lines matches the probe's report.
func lines(want string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.SplitSeq(want, "\n") {
		b.WriteString(pattern(strings.TrimSpace(line)) + ` {2,}[0-9]+\.[0-9]+m?s` + "\n")
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

// usage matches the two lines of a usage error. want may leave the hint out.
func usage(want string) *regexp.Regexp {
	what, hint, _ := strings.Cut(want, "\n")
	if hint == "" {
		hint = "…"
	}
	return regexp.MustCompile(`^healthcheck: ` + pattern(what) + "\nhint: " + pattern(strings.TrimSpace(hint)) + "\n$")
}

// accept is a peer that takes connections and says nothing.
func accept(t testing.TB) string {
	return testbed.Serve(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
}

// dead is an address where nothing listens.
func dead(t testing.TB) string { return "127.0.0.1:" + testbed.FreePort(t) }

func TestTCP(t *testing.T) {
	t.Parallel()
	open, closed := accept(t), dead(t)
	_, port, _ := net.SplitHostPort(open)
	rows := []row{
		{args: "--tcp " + open, want: "ok    tcp  " + open + "  connected"},
		{args: "--tcp localhost:" + port, want: "ok    tcp  localhost:" + port + "  connected"},
		{args: "--tcp " + closed, status: 1, want: "FAIL  tcp  " + closed + "  connect: connection refused"},
		{args: "--tcp no..such.host:80", status: 1, want: "FAIL  tcp  no..such.host:80  resolve: no such host"},
		{args: "--tcp localhost", status: 125, want: "--tcp…: …"},
		{args: "--tcp localhost:", status: 125, want: "--tcp…: …port…"},
		{args: "--tcp localhost:0", status: 125, want: "--tcp…: …port…"},
		{args: "--tcp localhost:65536", status: 125, want: "--tcp…: …port…"},
		{args: "--tcp localhost:http", status: 125, want: "--tcp…: …port…"},
		{args: "--tcp ::1:80", status: 125, want: "--tcp…: …"},
		{args: "--tcp tcp://localhost:80", status: 125, want: "--tcp…: …"},
	}
	if testbed.HasIPv6() {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		testbed.ServeOn(t, l, func(net.Conn) {})
		six := l.Addr().String()
		rows = append(rows,
			row{args: "--tcp " + six, want: "ok    tcp  " + six + "  connected"},
			row{args: "--tcp localhost:" + six[6:], want: "ok    tcp  localhost:" + six[6:] + "  connected"})
	}
	check(t, rows)
}

func TestNames(t *testing.T) {
	t.Parallel()
	open, closed := accept(t), dead(t)
	check(t, []row{
		{args: "--tcp " + open + " --tcp main_db=" + closed + " --tcp " + closed + " --redis redis://" + closed + " --tcp " + open, status: 1,
			want: "ok    tcp      " + open + "  connected\n" +
				"FAIL  main_db  " + closed + "  connect: connection refused\n" +
				"FAIL  tcp-2  " + closed + "  connect: connection refused\n" +
				"FAIL  redis  redis://" + closed + "  connect: connection refused\n" +
				"ok    tcp-3  " + open + "  connected"},
		{args: "--tcp _a-1=" + open, want: "ok    _a-1  " + open + "  connected"},
		{args: "-tcp " + open, want: "ok    tcp  " + open + "  connected"},
		{args: "--tcp=" + open, want: "ok    tcp  " + open + "  connected"},
		{args: "--tcp a=" + open + " --redis a=redis://" + open, status: 125, want: "…two checks are named a"},
		{args: "--tcp " + open + " --redis tcp=redis://" + open, status: 125, want: "…two checks are named tcp"},
		{args: "--http 1x=http://" + open, status: 125, want: "--http…name…"},
	})
}

// TestAligned compares the columns of a report.
func TestAligned(t *testing.T) {
	t.Parallel()
	open, closed := accept(t), dead(t)
	got := run(t, nil, "--tcp", open, "--tcp", "a_longer_name="+closed)
	rows := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	if len(rows) != 2 || strings.Index(rows[0], open) != strings.Index(rows[1], closed) ||
		strings.Index(rows[0], "connected") != strings.Index(rows[1], "connect: ") {
		t.Errorf("stdout, not aligned:\n%s", got.stdout)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	check(t, []row{
		{args: "", status: 125, want: "…no check…"},
		{args: "localhost:80", status: 125, want: "…positional argument…"},
		{args: "--tcp localhost:80 localhost:81", status: 125, want: "…positional argument…"},
		{args: "--tcpp localhost:80", status: 125, want: "unknown option…\n…--tcp…"},
		{args: "--tcp", status: 125, want: "…tcp…value…"},
		{args: "--tcp localhost:80 --timeout 5", status: 125, want: "--timeout…\n…5s…"},
		{args: "--tcp localhost:80 --timeout soon", status: 125, want: "--timeout…"},
		{args: "--tcp localhost:80 --timeout -1s", status: 125, want: "--timeout…"},
		{args: "--tcp localhost:80 --timeout 0", status: 125, want: "--timeout…"},
		{args: "--tcp localhost:80 --wait never", status: 125, want: "--wait…"},
		{args: "--tcp localhost:80 --json=maybe", status: 125, want: "--json…"},
		{args: "--tcp localhost:80 --kill-after 5s", status: 125, want: "--kill-after…"},
		{args: "--tcp localhost:80 --stop-signal TERM:INT", status: 125, want: "--stop-signal…"},
		{args: "--http localhost:8080/health", status: 125, want: "--http…\n…http://localhost:8080/health…"},
		{args: "--http redis://localhost", status: 125, want: "--http…\n…--redis…"},
		{args: "--http ftp://localhost", status: 125, want: "--http…"},
		{args: "--http http://", status: 125, want: "--http…host…"},
		{args: "--http http://localhost:0/", status: 125, want: "--http…port…"},
		{args: "--http http://localhost:99999/", status: 125, want: "--http…port…"},
		{args: "--http http+unix://run/app.sock", status: 125, want: "--http…\n…%2F…"},
		{args: "--http http://localhost --http-method 'GET /'", status: 125, want: "--http-method…"},
		{args: "--http http://localhost --http-header Accept", status: 125, want: "--http-header…"},
		{args: "--http http://localhost --http-status 2xx", status: 125, want: "--http-status…"},
		{args: "--http http://localhost --http-status 299-200", status: 125, want: "--http-status…"},
		{args: "--http http://localhost --http-body (", status: 125, want: "--http-body…"},
		{args: "--http https://localhost --tls-ca /no/such/file", status: 125, want: "--tls-ca…no such file…"},
		{args: "--http https://localhost --tls-ca /dev/null", status: 125, want: "--tls-ca…no certificate…"},
		{args: "--http https://localhost --tls-cert /dev/null", status: 125, want: "…--tls-key…"},
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
	if len(screen) > 24 || slices.ContainsFunc(screen, func(line string) bool { return len(line) > 80 }) {
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
	check(t, []row{
		{args: "--timeout 300ms --redis redis://" + silent, status: 1, want: "FAIL  redis  redis://" + silent + "  reply: timeout after 300ms"},
		{args: "--timeout 300ms --http http://" + silent, status: 1, want: "FAIL  http  http://" + silent + "  reply: timeout after 300ms"},
		{args: "--timeout 300ms --http https://" + silent, status: 1, want: "FAIL  http  https://" + silent + "  tls: timeout after 300ms"},
		{args: "--timeout 300ms --postgres postgres://u@" + silent + "/d", status: 1, want: "FAIL  postgres  postgres://u@" + silent + "/d  …: timeout after 300ms"},
		{args: "--redis redis://" + silent, env: []string{"HEALTHCHECK_TIMEOUT=200ms"}, status: 1, want: "FAIL  redis  redis://" + silent + "  reply: timeout after 200ms"},
	})
	// All at once: eight that time out take no longer than one. 5 s is the default.
	var args []string
	for range 8 {
		args = append(args, "--redis", "redis://"+silent)
	}
	if got := run(t, nil, args...); got.status != 1 || strings.Count(got.stdout, "timeout after 5s") != 8 || got.took > 30*time.Second {
		t.Errorf("eight silent servers: %+v", got)
	}
}

// waiting runs the binary with --wait and calls on for each line of stderr.
func waiting(t *testing.T, on func(n int, line string), args ...string) outcome {
	t.Helper()
	cmd := command(nil, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var said strings.Builder
	for n, lines := 1, bufio.NewScanner(stderr); lines.Scan(); n++ {
		said.WriteString(lines.Text() + "\n")
		on(n, lines.Text())
	}
	cmd.Wait()
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), said.String(), time.Since(start)}
}

// TestWait has a server come up, in two stages, once healthcheck has said what
// it waits for.
func TestWait(t *testing.T) {
	t.Parallel()
	addr := dead(t)
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
	open, closed := accept(t), dead(t)
	got := waiting(t, func(int, string) {}, "--wait", "1s", "--tcp", open, "--tcp", "db="+closed)
	want := lines("ok    tcp  " + open + "  connected\nFAIL  db  " + closed + "  connect: connection refused")
	if got.status != 1 || !want.MatchString(got.stdout) || got.stderr != "healthcheck: waiting for db: connect: connection refused\n" {
		t.Errorf("--wait 1s: %+v, want status 1, one line on stderr and %v", got, want)
	}
	if got.took < time.Second {
		t.Errorf("--wait 1s gave up after %v", got.took)
	}
	// The limit holds for a try under way, too.
	silent := accept(t)
	got = waiting(t, func(int, string) {}, "--wait", "500ms", "--timeout", "1m", "--redis", "redis://"+silent)
	if got.status != 1 || !strings.Contains(got.stdout, "reply: timeout after") || got.took > 30*time.Second {
		t.Errorf("--wait 500ms with a silent server: %+v", got)
	}
}

// TestImports lists which package may import which: main imports export, export imports probe,
// supervise and promtext; main imports probe and supervise, too; probe imports wire. A tool or a test imports what lies
// in its own folder, and the testbed. Nothing outside the standard library is
// imported at all.
func TestImports(t *testing.T) {
	const module = "alfred/healthcheck"
	allowed := map[string][]string{
		module:             {module + "/export", module + "/probe", module + "/supervise"},
		module + "/export": {module + "/probe", module + "/supervise", module + "/promtext"},
		module + "/probe":  {module + "/wire"},
	}
	if _, err := os.Stat(filepath.Join(root, "export")); err != nil { // until export is a package, main is it, too
		allowed[module] = append(allowed[module], module+"/promtext")
	}
	out, err := exec.Command("go", "list", "-C", root, "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := fields[0]
		tool := regexp.MustCompile(`^` + module + `/(tools|test|examples)/[^/]+`).FindString(from)
		for _, to := range fields[1:] {
			switch {
			case strings.HasPrefix(to, module):
				if !slices.Contains(allowed[from], to) && (tool == "" || !strings.HasPrefix(to, tool+"/") && to != module+"/test/testbed") {
					t.Errorf("%s imports %s", from, to)
				}
			case strings.Contains(strings.Split(to, "/")[0], "."):
				t.Errorf("%s imports %s, from outside the standard library", from, to)
			}
		}
	}
	if runtime.GOOS == "linux" && !strings.Contains(string(out), module+"/supervise") {
		t.Errorf("go list does not tell of supervise:\n%s", out)
	}
}
