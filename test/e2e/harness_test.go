// Package e2e_test runs the built binary from outside, against real servers if they are installed,
// and checks output, exit status and endpoints. See row for how a table is written. In a row's
// want, two spaces match any gap between columns, and … matches any text. The duration at the end
// of each line is left out.
package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// root is the module's folder.
const root = "../.."

// built is the path of the binary, built with the same options as the image's.
var built string

func TestMain(m *testing.M) {
	// If the caller ignores these signals, as nohup does, a handler here restores the default
	// action in every process that the tests start.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // most tests wait for a peer, not for a processor
		flag.Set("test.parallel", "4")
	}
	os.Exit(testbed.Main(m, root, &built))
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

// command returns the binary, ready to start, with env as its whole environment.
func command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(built, args...)
	cmd.Env = append([]string{}, env...) // not nil: that would inherit the test's environment
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

// A row is one command line and its result, as in a terminal:
//
//	{"PW=secret --redis redis://:${PW}@$server", 0, "ok    redis  redis://$server  PONG"}
//
// A line begins with the environment variables of its run. Each name of the test's vars is replaced
// by its value; any other $NAME or ${NAME} reaches the binary as it is.
type row struct {
	line   string // split at spaces; a word in single quotes may contain spaces
	status int
	want   string // the lines of stdout; if status is 125, those of stderr
}

// vars are the values of the names that rows use: addresses, files, passwords.
type vars map[string]string

var variable = regexp.MustCompile(`\$(\w+)|\$\{(\w+)\}`)

// expand replaces $name and ${name}. A lower-case name that is missing from v fails the test.
func (v vars) expand(t testing.TB, text string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(text, func(name string) string {
		bare := strings.Trim(name, "${}")
		value, ok := v[bare]
		if !ok && bare != strings.ToUpper(bare) {
			t.Fatalf("no value for %s in %s", name, text)
		}
		if !ok {
			return name
		}
		return value
	})
}

// check runs each row in its own subtest. env is added to the environment of every row.
func check(t *testing.T, v vars, rows []row, env ...string) {
	t.Helper()
	for _, r := range rows {
		t.Run(strings.ReplaceAll(r.line, "/", "∕"), func(t *testing.T) {
			t.Parallel()
			r.check(t, v, env...)
		})
	}
}

func (r row) check(t *testing.T, v vars, env ...string) {
	t.Helper()
	if r.status == 0 { // a loaded machine must not make a healthy check fail
		env = append([]string{"HEALTHCHECK_TIMEOUT=60s"}, env...)
	}
	args := words(r.line)
	for i := range args {
		args[i] = v.expand(t, args[i])
	}
	for len(args) > 0 && assignment.MatchString(args[0]) {
		env, args = append(env, args[0]), args[1:]
	}
	got := run(t, env, args...)
	out, silent, want := got.stdout, got.stderr, lines(v.expand(t, r.want))
	if r.status == 125 {
		out, silent, want = got.stderr, got.stdout, usage(v.expand(t, r.want))
	}
	if got.status != r.status || !want.MatchString(out) || silent != "" {
		t.Errorf("healthcheck %s\nstatus %d, stdout %q, stderr %q, want status %d and %s",
			r.line, got.status, got.stdout, got.stderr, r.status, v.expand(t, r.want))
	}
}

var assignment = regexp.MustCompile(`^[A-Z_]+=`)

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

// pattern returns a regular expression for text: … matches anything, and two spaces match a gap
// between columns.
func pattern(text string) string {
	return strings.NewReplacer("…", "[^\n]*", "  ", " {2,}").Replace(regexp.QuoteMeta(text))
}

// lines returns a pattern for the report of a probe.
func lines(want string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.SplitSeq(want, "\n") {
		b.WriteString(pattern(strings.TrimSpace(line)) + ` {2,}[0-9]+\.[0-9]+m?s` + "\n")
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

// usage returns a pattern for the two lines of a usage error. want may leave the hint out.
func usage(want string) *regexp.Regexp {
	what, hint, _ := strings.Cut(want, "\n")
	if hint == "" {
		hint = "…"
	}
	return regexp.MustCompile(`^healthcheck: ` + pattern(what) + "\nhint: " + pattern(strings.TrimSpace(hint)) + "\n$")
}

// accept starts a peer that accepts connections and sends nothing, and returns its address.
func accept(t testing.TB) string {
	return testbed.Serve(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
}

// closedAddr returns an address on which nothing listens.
func closedAddr(t testing.TB) string { return "127.0.0.1:" + testbed.FreePort(t) }

// httpServer serves handler over plain HTTP, and returns host:port.
func httpServer(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	return start(t, handler, nil).Listener.Addr().String()
}

// start serves handler, over TLS if there is a config.
func start(t testing.TB, handler http.HandlerFunc, config *tls.Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that refuse a certificate
	if s.TLS = config; config == nil {
		s.Start()
	} else {
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s
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

// patience is how long a test waits for an event that must happen. A test waits that long only if
// something is broken.
const patience = time.Minute

// A service is healthcheck while it runs: a wrapper or a sidecar.
type service struct {
	cmd  *exec.Cmd
	pid  int           // of healthcheck, which is cmd unless that is unshare
	done chan struct{} // closed once cmd has been waited for
}

// serve starts the binary with PATH and env in its environment. The start period is 0 unless env
// sets it, so a check that has never passed counts as failed at once.
func serve(t testing.TB, env []string, args ...string) *service {
	t.Helper()
	return launch(t, command(append([]string{"PATH=" + os.Getenv("PATH"), "HEALTHCHECK_START_PERIOD=0"}, env...), args...))
}

// launch starts cmd and writes its output to files in cmd.Dir, by default a new folder. cmd is
// killed when the test ends.
func launch(t testing.TB, cmd *exec.Cmd) *service {
	t.Helper()
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	out, err1 := os.Create(filepath.Join(cmd.Dir, "stdout"))
	err, err2 := os.Create(filepath.Join(cmd.Dir, "stderr"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	cmd.Stdout, cmd.Stderr = out, err
	failed := cmd.Start()
	out.Close()
	err.Close()
	if failed != nil {
		t.Fatal(failed)
	}
	s := &service{cmd: cmd, pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() { // ends with cmd, which the cleanup below kills
		cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		killTree(cmd.Process.Pid)
		<-s.done
	})
	return s
}

// killTree kills all descendants of a process, and then the process. If it is PID 1 of a namespace,
// the kernel kills the rest of the namespace.
func killTree(pid int) {
	for _, child := range children(pid) {
		killTree(child)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

// children returns the process IDs of a process's children.
func children(pid int) (list []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		content, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(content)) {
			child, _ := strconv.Atoi(field)
			list = append(list, child)
		}
	}
	return list
}

// output returns what has been written so far to the file stdout or stderr.
func (s *service) output(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.cmd.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// waitOutput waits until the file stdout or stderr matches a pattern, in which … is anything, and
// returns the file.
func (s *service) waitOutput(t testing.TB, file, text string) (content string) {
	t.Helper()
	re := regexp.MustCompile(pattern(text))
	testbed.Poll(t, func() error {
		if content = s.output(t, file); !re.MatchString(content) {
			return fmt.Errorf("%s is %q, want %q in it", file, content, text)
		}
		return nil
	})
	return content
}

var startLine = regexp.MustCompile(`(?m)^healthcheck [0-9.]+: status and metrics on http://(\S+)/, `)

// addr returns the address in the start line.
func (s *service) addr(t testing.TB) string {
	t.Helper()
	return startLine.FindStringSubmatch(s.waitOutput(t, "stderr", "metrics on http://…/, "))[1]
}

// get requests a path and returns the whole response.
func (s *service) get(t testing.TB, path string) (status int, header http.Header, body string) {
	t.Helper()
	return get(t, http.MethodGet, "http://"+s.addr(t)+path, nil)
}

// scraper opens a new connection for each request and uses no proxy.
var scraper = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func get(t testing.TB, method, url string, header http.Header) (status int, _ http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	resp, err := scraper.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// until scrapes until enough returns true for the value of a series, which is written as in the
// scrape. The value of a missing series is NaN.
func (s *service) until(t testing.TB, series string, enough func(float64) bool) {
	t.Helper()
	testbed.Poll(t, func() error {
		_, _, body := s.get(t, "/metrics")
		if v := value(body, series); !enough(v) {
			return fmt.Errorf("%s is %v", series, v)
		}
		return nil
	})
}

// signal sends a signal to healthcheck.
func (s *service) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(s.pid, sig); err != nil {
		t.Fatal(err)
	}
}

// status waits until healthcheck has ended, and returns its exit status.
func (s *service) status(t testing.TB) int {
	t.Helper()
	select {
	case <-s.done:
		state := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if state.Signaled() {
			t.Fatalf("healthcheck died of %v; stderr: %s", state.Signal(), s.output(t, "stderr"))
		}
		return state.ExitStatus()
	case <-time.After(patience):
		t.Fatalf("it still runs after %v; stderr: %s", patience, s.output(t, "stderr"))
		return 0
	}
}

// unshare returns the binary under unshare(1) with the given flags, ready to start, with PATH and
// env in its environment. It skips the test if unshare is not permitted, as without root.
func unshare(t testing.TB, flags string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	path := testbed.Need(t, "unshare")
	flagWords := strings.Fields(flags)
	if out, err := exec.Command(path, append(flagWords, "true")...).CombinedOutput(); err != nil {
		testbed.Missing(t, "unshare", "root is needed for unshare %s: %v, %s", flags, err, out)
	}
	cmd := exec.Command(path, append(append(flagWords, built), args...)...)
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
	return cmd
}

const asInit = "--pid --fork --kill-child --mount-proc"

const (
	contentText = "text/plain; version=0.0.4; charset=utf-8"
	contentOpen = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// A family is one metric family of a scrape: its type, and its series in the order of the scrape.
type family struct {
	name, kind string
	labels     []string // of the first series
	series     []string
	values     map[string]float64
}

var sampleLine = regexp.MustCompile(`^([a-z_]+)(\{(.*)\})? (\S+)$`)

// parse parses text format 0.0.4 as this program writes it. It fails the test if it finds anything
// else.
func parse(t testing.TB, body string) (list []family) {
	t.Helper()
	if !strings.HasSuffix(body, "\n") {
		t.Fatalf("the last line has no newline:\n%s", body)
	}
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if slices.ContainsFunc(list, func(f family) bool { return f.name == name }) {
				t.Fatalf("family %s is repeated:\n%s", name, body)
			}
			list = append(list, family{name: name, kind: kind, values: map[string]float64{}})
			continue
		}
		last := &list[max(len(list)-1, 0)]
		if rest, ok := strings.CutPrefix(line, "# HELP "+last.name+" "); ok && rest != "" {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || m[1] != last.name {
			t.Fatalf("unexpected line %q in\n%s", line, body)
		}
		v, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			t.Fatal(err)
		}
		if len(last.series) == 0 {
			for _, pair := range regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`).FindAllStringSubmatch(m[3], -1) {
				last.labels = append(last.labels, pair[1])
			}
		}
		series := m[1] + m[2]
		last.series = append(last.series, series)
		last.values[series] = v
	}
	return list
}

// value returns the value of a series, which is written as in the scrape, or NaN if the series is
// missing.
func value(scrape, series string) float64 {
	for line := range strings.Lines(scrape) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return v
		}
	}
	return math.NaN()
}

func readme(t testing.TB) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// pythonWith returns the path of Debian's own Python, and skips the test if it lacks a module. A
// Python earlier on PATH would lack Debian's modules.
func pythonWith(t testing.TB, module string) string {
	t.Helper()
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import "+module).Run() != nil {
		testbed.Missing(t, module, "%s has no module %s", python, module)
	}
	return python
}
