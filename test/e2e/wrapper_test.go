//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// TestOrder: the metrics address, then --wait, then CMD, then the first checks.
func TestOrder(t *testing.T) {
	t.Parallel()
	t.Run("address taken", func(t *testing.T) {
		t.Parallel()
		taken := accept(t)
		for _, addr := range []string{taken, strings.Replace(taken, "127.0.0.1", "", 1)} {
			s := serve(t, nil, "--export-prom", addr, "--", "touch", "started")
			if got := s.status(t); got != 125 {
				t.Errorf("status %d, want 125", got)
			}
			want := usage("--export-prom: cannot listen on " + addr + ": address already in use")
			if got := s.output(t, "stderr"); !want.MatchString(got) {
				t.Errorf("stderr %q, want %v", got, want)
			}
			s.wantNotStarted(t)
		}
	})
	t.Run("wait passes", func(t *testing.T) {
		t.Parallel()
		db := closedAddr(t)
		s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--wait", "1h", "--interval", "1h", "--tcp", "up="+accept(t), "--tcp", "db="+db, "--", "sh", "-c", "touch started; exec sleep 600")
		s.waitOutput(t, "stderr", "\nhealthcheck: waiting for db: connect: connection refused\n")
		s.wantNotStarted(t)
		if status, _, body := s.get(t, "/healthz"); status != 200 || body != `{"status":"ok"}`+"\n" {
			t.Errorf("/healthz while waiting: %d %q, want 200", status, body)
		}
		for path, want := range map[string]string{
			"/health":      `503 {"status":"starting","services":{"up":"ok","db":"starting"}}`,
			"/readyz":      `503 {"status":"starting","services":{"up":"ok","db":"starting"}}`,
			"/livez":       `200 {"status":"ok"}`,
			"/health/up":   `200 {"status":"ok","services":{"up":"ok"}}`,
			"/health/db":   `503 {"status":"starting","services":{"db":"starting"}}`,
			"/health/none": "404 no check has this name; /health lists them",
			"/health/":     "404 no check has this name; /health lists them",
		} {
			status, _, body := s.get(t, path)
			if got := fmt.Sprint(status, " ", body); got != want+"\n" {
				t.Errorf("%s while waiting: %s, want %s", path, got, want)
			}
		}
		if _, _, metrics := s.get(t, "/metrics"); strings.Contains(metrics, "\nservice_health ") || strings.Contains(metrics, `probe_success{check="db"`) {
			t.Errorf("a verdict is exported while waiting:\n%s", metrics)
		}
		l, err := net.Listen("tcp", db)
		if err != nil {
			t.Fatal(err)
		}
		testbed.ServeOn(t, l, func(net.Conn) {})
		s.until(t, "healthcheck_command_up", func(v float64) bool { return v == 1 })
		// One run ended the wait, and one came with CMD: at once, not in an hour.
		s.until(t, `healthcheck_check_runs_total{check="db",result="success",type="tcp"}`, func(v float64) bool { return v == 2 })
		if status, _, _ := s.get(t, "/healthz"); status != 200 {
			t.Errorf("/healthz once CMD runs: %d, want 200", status)
		}
		if got := strings.Count(s.output(t, "stderr"), "\n"); got != 2 {
			t.Errorf("stderr has %d lines, want the start line and the reason: %q", got, s.output(t, "stderr"))
		}
	})
	t.Run("wait runs out", func(t *testing.T) {
		t.Parallel()
		open, closed := accept(t), closedAddr(t)
		s := serve(t, nil, "--wait", "700ms", "--tcp", "up="+open, "--tcp", "db="+closed, "--", "touch", "started")
		if got := s.status(t); got != 1 {
			t.Errorf("status %d, want 1", got)
		}
		want := regexp.MustCompile("^" + pattern("healthcheck: waiting for db: connect: connection refused\n"+
			"healthcheck: gave up after 700ms, CMD is not started\n"+
			"ok    up  "+open+"  connected…\nFAIL  db  "+closed+"  connect: connection refused…\n") + "$")
		if got := s.output(t, "stderr"); !want.MatchString(got) {
			t.Errorf("stderr %q, want %v", got, want)
		}
		s.wantNotStarted(t)
	})
	for sig, want := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGQUIT: 131, syscall.SIGHUP: 129} {
		t.Run("signal during wait, "+sig.String(), func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			addr := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
				tries.Add(1)
				w.WriteHeader(503)
			})
			s := serve(t, nil, "--wait", "1h", "--http", "http://"+addr, "--", "touch", "started")
			testbed.Poll(t, func() error { // by the third try all signals are registered, which goes on in the background
				if tries.Load() < 3 {
					return errors.New("it has not tried three times")
				}
				return nil
			})
			s.signal(t, sig)
			if got := s.status(t); got != want {
				t.Errorf("status %d after %v, want %d", got, sig, want)
			}
			s.wantNotStarted(t)
		})
	}
}

func (s *service) wantNotStarted(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.cmd.Dir, "started")); err == nil {
		t.Error("CMD was started")
	}
}

// TestCommandStatus: CMD's own status, 128+N, 126 and 127, and --success-status.
func TestCommandStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x16\x00" + strings.Repeat("\x00", 44) // for S/390
	v := vars{"dir": dir, "foreign": write("foreign", elf, 0o755),
		"plain": write("plain", "exit 9\n", 0o644),
		"bare":  write("bare", "exit $1\n", 0o755),
		"lost":  write("lost", "#!/no/such/interpreter\n", 0o755)}

	for _, tt := range []struct {
		args   string
		status int
		stderr string
	}{
		{"-- true", 0, ""},
		{"-- false", 1, ""},
		{"-- sh -c 'exit 2'", 2, ""}, // CMD's own may be 2
		{"-- sh -c 'exit 125'", 125, ""},
		{"-- sh -c 'exit 126'", 126, ""},
		{"-- sh -c 'exit 255'", 255, ""},
		{"-- sh -c 'kill -HUP $$'", 129, ""},
		{"-- sh -c 'kill -INT $$'", 130, ""},
		{"-- sh -c 'kill -KILL $$'", 137, ""},
		{"-- sh -c 'kill -SEGV $$'", 139, ""},
		{"-- sh -c 'kill -PIPE $$'", 141, ""},
		{"-- sh -c 'kill -TERM $$'", 143, ""},
		{"-- perl -e 'kill 64, $$; sleep 60'", 192, ""},
		{"--success-status 143 -- sh -c 'kill -TERM $$'", 0, ""},
		{"--success-status 143 --success-status 3 -- sh -c 'exit 3'", 0, ""},
		{"--success-status 143 -- sh -c 'exit 3'", 3, ""},
		{"--success-status 0 -- false", 1, ""},
		{"-- $bare 9", 9, ""},
		{"-- -- sh -c 'exit 0'", 127, "healthcheck: --: not found in PATH (…)\n"}, // untouched: the second -- is CMD
		{"-- --version", 127, "healthcheck: --version: not found in PATH (…)\n"},
		{"-- no-such-command", 127, "healthcheck: no-such-command: not found in PATH (…)\n"},
		{"-- $dir/none", 127, "healthcheck: $dir/none: not found\n"},
		{"-- $lost", 127, "healthcheck: $lost: its interpreter \"/no/such/interpreter\" was not found\n"},
		{"-- ''", 127, "healthcheck: \"\": the command is empty\n"},
		{"-- $plain", 126, "healthcheck: $plain: permission denied: the file is not executable (mode 0644)\n"},
		{"-- $dir", 126, "healthcheck: $dir: is a directory\n"},
		{"-- $foreign", 126, "healthcheck: $foreign: exec format error: the file is for s390x, this machine is …\n"},
	} {
		t.Run(strings.ReplaceAll(tt.args, "/", "∕"), func(t *testing.T) {
			t.Parallel()
			got := run(t, []string{"PATH=" + os.Getenv("PATH")}, words(v.expand(t, tt.args))...)
			if want := regexp.MustCompile("^" + pattern(v.expand(t, tt.stderr)) + "$"); got.status != tt.status || got.stdout != "" || !want.MatchString(got.stderr) {
				t.Errorf("healthcheck %s = %d, stdout %q, stderr %q, want %d, %q", tt.args, got.status, got.stdout, got.stderr, tt.status, tt.stderr)
			}
		})
	}
}

// TestInherited: CMD has environment, folder, streams and further descriptors as healthcheck has them, and none of its own.
func TestInherited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	extra, err := os.Create(filepath.Join(dir, "extra"))
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	cmd := command([]string{"PATH=" + os.Getenv("PATH"), "A=b c", "HEALTHCHECK_TIMEOUT=1s", "EMPTY="},
		"--export-prom", "127.0.0.1:0", "--tcp", accept(t), "--", "perl", "-e", `
		print STDERR "to stderr\n";
		print join("|", map { "$_=$ENV{$_}" } sort keys %ENV), "\n", `+"`pwd -P`"+`, <STDIN>;
		print map { "$_\n" } grep { defined && !m{^/dev/null} } map { readlink "/proc/$$/fd/$_" } 3 .. 50;`)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader("first\nsecond\n")
	cmd.ExtraFiles = []*os.File{extra}
	got := finish(t, cmd)
	where, _ := filepath.EvalSymlinks(dir)
	want := "A=b c|EMPTY=|HEALTHCHECK_TIMEOUT=1s|PATH=" + os.Getenv("PATH") + "\n" + where + "\nfirst\nsecond\n" + where + "/extra\n"
	if got.status != 0 || got.stdout != want {
		t.Errorf("status %d, stdout %q, want %q", got.status, got.stdout, want)
	}
	if first, rest, _ := strings.Cut(got.stderr, "\n"); !startLine.MatchString(first+"\n") || rest != "to stderr\n" {
		t.Errorf("stderr %q, want the start line and CMD's", got.stderr)
	}
}

// TestChangeLines: a check that fails and comes back says so once each time, and nothing else is logged.
func TestChangeLines(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	addr := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(503)
		}
	})
	steady := accept(t)
	s := serve(t, nil, "--export-prom", "127.0.0.1:0", "--interval", "20ms", "--http", "api=http://"+addr, "--tcp", steady, "--", "sleep", "60")
	for _, result := range []string{"failure", "success", "failure", "success"} {
		broken.Store(result == "failure")
		series := `healthcheck_check_runs_total{check="api",result="` + result + `",type="http"}`
		_, _, body := s.get(t, "/metrics")
		before := value(body, series)
		s.until(t, series, func(v float64) bool { return v >= before+4 })
	}
	s.signal(t, syscall.SIGTERM)
	if got := s.status(t); got != 143 {
		t.Errorf("status %d, want 143", got)
	}
	fail := "healthcheck: FAIL api  http://" + addr + "  reply: 503 Service Unavailable\n"
	ok := "healthcheck: ok api  http://" + addr + "  200 OK\n"
	want := regexp.MustCompile("^" + pattern("healthcheck 0.4.0: status and metrics on http://127.0.0.1:…/, 2 checks every 20ms\n"+fail+ok+fail+ok) + "$")
	if got := s.output(t, "stderr"); !want.MatchString(got) {
		t.Errorf("stderr %q, want %v", got, want)
	}
}

// catcher is a CMD that prints each signal it gets and ends with status 7 on USR2, or after two minutes.
var catcher = []string{"perl", "-e", `$| = 1; for my $s (qw(HUP INT QUIT TERM USR1 WINCH NUM40)) { $SIG{$s} = sub { print "$s\n" } }
	$SIG{USR2} = sub { exit 7 }; alarm 120; print "ready\n"; select undef, undef, undef, .1 while 1`}

// TestSignals: what CMD gets for the signals sent to healthcheck, by flags and by the environment alike.
func TestSignals(t *testing.T) {
	t.Parallel()
	const TERM, INT, QUIT, HUP, USR1, USR2 = syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2
	type step struct {
		send syscall.Signal
		got  string // what CMD prints; "" that it does not get it, which the next step shows
	}
	for _, tt := range []struct {
		name   string
		args   string
		env    string
		steps  []step
		status int
	}{
		{"as they come", "", "", []step{{TERM, "TERM"}, {INT, "INT"}, {HUP, "HUP"}, {QUIT, "QUIT"}, {USR1, "USR1"}, {syscall.SIGWINCH, "WINCH"}, {40, "NUM40"}, {USR2, ""}}, 7},
		{"rewritten", "--stop-signal TERM:INT --stop-signal SIGHUP:sigusr1 --stop-signal 10:0", "",
			[]step{{TERM, "INT"}, {HUP, "USR1"}, {USR1, ""}, {INT, "INT"}, {USR2, ""}}, 7},
		{"rewritten by the environment", "", "HEALTHCHECK_STOP_SIGNAL=TERM:INT\nSIGHUP:sigusr1\n10:0",
			[]step{{TERM, "INT"}, {HUP, "USR1"}, {USR1, ""}, {INT, "INT"}, {USR2, ""}}, 7},
		{"a flag outdoes the environment", "--stop-signal QUIT:INT", "HEALTHCHECK_STOP_SIGNAL=TERM:INT", []step{{TERM, "TERM"}, {QUIT, "INT"}, {USR2, ""}}, 7},
		{"rewritten to KILL", "--stop-signal TERM:KILL", "", []step{{TERM, ""}}, 137},
		{"killed after", "--kill-after 300ms", "", []step{{TERM, "TERM"}}, 137},
		{"killed after INT", "--kill-after 300ms", "", []step{{INT, "INT"}}, 137},
		{"killed after, by the environment", "", "HEALTHCHECK_KILL_AFTER=300ms", []step{{QUIT, "QUIT"}}, 137},
		{"killed after what was rewritten", "--kill-after 300ms --stop-signal TERM:USR1", "", []step{{TERM, "USR1"}}, 137},
		{"not killed for HUP", "--kill-after 1ms", "", []step{{HUP, "HUP"}, {USR1, "USR1"}, {USR2, ""}}, 7},
		{"success", "--kill-after 300ms --success-status 137", "", []step{{TERM, "TERM"}}, 0},
		{"success by the environment", "", "HEALTHCHECK_SUCCESS_STATUS=3\n7", []step{{USR2, ""}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, []string{tt.env}, append(append(words(tt.args), "--"), catcher...)...)
			want := "ready\n"
			s.waitOutput(t, "stdout", want)
			for _, step := range tt.steps {
				s.signal(t, step.send)
				if step.got != "" {
					want += step.got + "\n"
					s.waitOutput(t, "stdout", want)
				}
			}
			if got := s.status(t); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if got := s.output(t, "stdout"); got != want {
				t.Errorf("CMD got %q, want %q", got, want)
			}
			if got := s.output(t, "stderr"); got != "" {
				t.Errorf("stderr %q, want none", got)
			}
		})
	}
}

// TestSignalGroup: --signal-group reaches what CMD has started, and only that.
func TestSignalGroup(t *testing.T) {
	t.Parallel()
	const family = `$| = 1; $SIG{USR2} = sub { exit 7 }; $SIG{USR1} = sub { print "parent\n" }; alarm 120;
		if (!fork) { $SIG{USR2} = "IGNORE"; $SIG{USR1} = sub { print "child\n" }; print "ready\n"; while (getppid != 1 && kill 0, $ARGV[0]) { select undef, undef, undef, .05 } exit }
		print "ready\n"; select undef, undef, undef, .1 while 1`
	for _, tt := range []struct {
		args, env string
		want      []string
	}{
		{"", "", []string{"parent"}},
		{"--signal-group", "", []string{"child", "parent"}},
		{"", "HEALTHCHECK_SIGNAL_GROUP=true", []string{"child", "parent"}},
		{"--signal-group=false", "HEALTHCHECK_SIGNAL_GROUP=true", []string{"parent"}},
	} {
		t.Run(tt.args+tt.env, func(t *testing.T) {
			t.Parallel()
			s := serve(t, []string{tt.env}, append(words(tt.args), "--", "perl", "-e", family, strconv.Itoa(os.Getpid()))...)
			s.waitOutput(t, "stdout", "ready\nready\n")
			s.signal(t, syscall.SIGUSR1)
			s.waitOutput(t, "stdout", "parent\n")
			if len(tt.want) > 1 {
				s.waitOutput(t, "stdout", "child\n")
			}
			s.signal(t, syscall.SIGUSR2)
			if got := s.status(t); got != 7 {
				t.Errorf("status %d, want 7", got)
			}
			got := strings.Fields(s.output(t, "stdout"))[2:]
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("USR1 came to %q, want %q", got, tt.want)
			}
		})
	}
}
