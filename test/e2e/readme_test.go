//go:build linux

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// TestReadme runs every block of README.md. One that it does not know is an error.
func TestReadme(t *testing.T) {
	t.Parallel()
	known := []struct{ name, begins string }{
		{"try", "go run . "}, {"check", "tools/check.sh\n"}, {"help", "healthcheck 0.4.0: "}, {"sample", "$ healthcheck "},
		{"compose", "healthcheck:\n  test: "}, {"dockerfile", "FROM alfred/healthcheck:0.4.0 AS healthcheck\n"}, {"prometheus", "scrape_configs:\n"},
	}
	run := map[string]func(*testing.T, string){"try": tryBlock, "check": checkBlock, "help": helpBlock, "sample": sampleBlock,
		"compose": composeBlock, "dockerfile": dockerfileBlock, "prometheus": prometheusBlock}
	seen := map[string]int{}
	for _, m := range regexp.MustCompile("(?ms)^```\\w+\n(.*?)^```$").FindAllStringSubmatch(readme(t), -1) {
		at := slices.IndexFunc(known, func(k struct{ name, begins string }) bool { return strings.HasPrefix(m[1], k.begins) })
		if at < 0 {
			t.Errorf("no test knows this block of README.md:\n%s", m[1])
			continue
		}
		name := known[at].name
		seen[name]++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run[name](t, m[1])
		})
	}
	for _, k := range known {
		if want := map[string]int{"compose": 4}[k.name]; seen[k.name] != max(want, 1) {
			t.Errorf("README.md has %d blocks of %s, want %d", seen[k.name], k.name, max(want, 1))
		}
	}
}

// tryBlock is the first command of all. Nothing but its port is changed.
func tryBlock(t *testing.T, block string) {
	line := strings.ReplaceAll(block, "9091", testbed.FreePort(t))
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = root
	cmd.Env = os.Environ()
	got := finish(t, cmd)
	url := regexp.MustCompile(`http://\S+`).FindString(line)
	if want := lines("ok    http  " + url + "  200 OK, status \"ok\""); got.status != 0 || !want.MatchString(got.stdout) || !startLine.MatchString(got.stderr) {
		t.Errorf("%s= %+v, want %v", line, got, want)
	}
}

// checkBlock is what CI runs too; it runs this test, so it is not run here.
func checkBlock(t *testing.T, block string) {
	script := strings.TrimSpace(block)
	if info, err := os.Stat(filepath.Join(root, script)); err != nil || info.Mode()&0o111 != 0o111 {
		t.Errorf("%s cannot be executed: %v", script, err)
	}
	ci, err := os.ReadFile(filepath.Join(root, ".ci/run"))
	if err != nil || !strings.Contains(string(ci), "/"+script+`"`) {
		t.Errorf(".ci/run does not run %s: %s, %v", script, ci, err)
	}
}

func helpBlock(t *testing.T, block string) {
	if got := run(t, nil, "--help"); got.stdout != block {
		t.Errorf("--help is %s\nREADME.md has %s", got.stdout, block)
	}
}

// sampleBlock has a command line and what it prints, against a service, a Redis that wants a password and no PostgreSQL.
func sampleBlock(t *testing.T, block string) {
	api := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			io.WriteString(w, `{"status":"ok","version":"1.0.0","services":{"database":"ok"}}`)
		}
	})
	redis := testbed.Redis(t, "requirepass secret")
	block = strings.NewReplacer("localhost:8080", api, "localhost:6379", redis.Addr(), "localhost/app", closedAddr(t)+"/app").Replace(block)
	command, report, _ := strings.Cut(block, "\n")
	got := run(t, nil, words(strings.TrimPrefix(command, "$ healthcheck "))...)
	report = regexp.MustCompile(` +[0-9.]+ms\n`).ReplaceAllString(report, "\n")
	report = regexp.MustCompile(` {2,}`).ReplaceAllString(report, "  ")
	if want := lines(strings.TrimSuffix(report, "\n")); got.status != 1 || got.stderr != "" || !want.MatchString(got.stdout) {
		t.Errorf("%s\n%+v, want %v", command, got, want)
	}
}

// yaml is a YAML document read by another's parser.
func yaml(t testing.TB, document string, value any) {
	t.Helper()
	cmd := exec.Command(pythonWith(t, "yaml"), "-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)")
	cmd.Stdin = strings.NewReader(document)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("not YAML: %v\n%s", err, document)
	}
	if err := json.Unmarshal(out, value); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// composeBlock is a health check of a compose file. It fails for want of a server, but its usage is right.
func composeBlock(t *testing.T, block string) {
	var file struct {
		Healthcheck struct {
			Test                            []string
			Interval, Timeout, Start_period string
			Retries                         int
		}
	}
	yaml(t, block, &file)
	test := file.Healthcheck.Test
	if len(test) < 4 || test[0] != "CMD" || test[1] != "healthcheck" {
		t.Fatalf("test is %q", test)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("p@ss:w/rd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := testbed.FreePort(t)
	var args []string
	for _, arg := range test[2:] {
		arg = strings.NewReplacer("$$", "$", "/run/secrets/db_password", secret, ":8080", ":"+port, ":5672", ":"+port, ":6379", ":"+port, ":5432", ":"+port).Replace(arg)
		args = append(args, arg)
	}
	got := run(t, []string{"REDIS_PASSWORD=p@ss:w/rd"}, args...)
	if got.status != 1 || got.stderr != "" || !strings.HasSuffix(strings.TrimRight(got.stdout, "0123456789.ms \n"), "connect: connection refused") {
		t.Errorf("%q = %+v, want that the connection is refused", args, got)
	}
}

// dockerfileBlock ends in a command that wraps a service, which is not there.
func dockerfileBlock(t *testing.T, block string) {
	steps := strings.Split(strings.TrimSpace(block), "\n")
	entry, ok := strings.CutPrefix(steps[len(steps)-1], "CMD ")
	var command []string
	if err := json.Unmarshal([]byte(entry), &command); !ok || err != nil {
		t.Fatalf("%s: %v", entry, err)
	}
	if command[0] != "healthcheck" || !slices.Contains(steps, "COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/") {
		t.Errorf("the stage does not get what it runs:\n%s", block)
	}
	for i, arg := range command {
		command[i] = strings.Replace(arg, ":9091", "127.0.0.1:0", 1)
	}
	got := run(t, []string{"PATH=/nowhere"}, command[1:]...)
	if got.status != 127 || !strings.HasSuffix(got.stderr, "\nhealthcheck: uvicorn: not found in PATH (/nowhere)\n") {
		t.Errorf("%q = %+v, want 127", command, got)
	}
}

func prometheusBlock(t *testing.T, block string) {
	promtool := testbed.Need(t, "promtool")
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "config", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
	// The rule on ports, as Prometheus would apply it.
	m := regexp.MustCompile(`(?m)regex: (.*)\n\s+action: keep$`).FindStringSubmatch(block)
	if m == nil || !regexp.MustCompile("^(?:"+m[1]+")$").MatchString("9091") || regexp.MustCompile("^(?:"+m[1]+")$").MatchString("") {
		t.Errorf("the rule that keeps containers with a port: %q", m)
	}
}

// TestReadmeStatuses has each row of the table of exit statuses come true.
func TestReadmeStatuses(t *testing.T) {
	t.Parallel()
	v := vars{"open": accept(t), "closed": closedAddr(t)}
	v["degraded"] = httpServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"status":"degraded"}`) })
	cases := map[string]map[string]int{
		"0":                {"--tcp $open --http http://$degraded": 0, "--help": 0, "--version": 0},
		"1":                {"--tcp $open --tcp $closed": 1, "--wait 200ms --tcp $closed": 1, "--wait 200ms --tcp $closed -- true": 1},
		"125":              {"--no-such-option": 125, "--export-prom $open -- true": 125, "--redis redis://:${NONE}@$open": 125, "--redis redis://:${file:/no/file}@$open -- true": 125},
		"126, 127":         {"-- /": 126, "-- /no/such/command": 127},
		"CMD's own, 128+N": {"-- sh -c 'exit 77'": 77, "-- sh -c 'kill -KILL $$'": 137, "--success-status 77 -- sh -c 'exit 77'": 0},
	}
	_, table, _ := strings.Cut(readme(t), "\n| status | when |\n| --- | --- |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := 0
	for line := range strings.Lines(table) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		if cases[name] == nil {
			t.Errorf("no test knows the row %q", name)
		}
		rows++
		for args, want := range cases[name] {
			if got := run(t, []string{"PATH=" + os.Getenv("PATH")}, words(v.expand(t, args))...); got.status != want {
				t.Errorf("healthcheck %s = %+v, README.md says %s", args, got, line)
			}
		}
	}
	if rows != len(cases) {
		t.Errorf("README.md has %d rows, want %d", rows, len(cases))
	}
}

// TestReadmeNames: each option of healthcheck's that README.md names is there, and each file.
func TestReadmeNames(t *testing.T) {
	t.Parallel()
	help := run(t, nil, "--help").stdout
	others := []string{"--x", "--from", "--platform", "--format", "--host", "--port"} // any, Docker's, uvicorn's
	for _, option := range regexp.MustCompile("--[a-z][a-z-]*").FindAllString(readme(t), -1) {
		if !slices.Contains(others, option) && !regexp.MustCompile(regexp.QuoteMeta(option)+`[^-\w]`).MatchString(help) {
			t.Errorf("README.md names %s, which --help does not", option)
		}
	}
	for _, path := range regexp.MustCompile("`(?:go run )?\\./[\\w./-]+|`(?:tools|examples)/[\\w./-]*").FindAllString(readme(t), -1) {
		path = strings.TrimPrefix(strings.Trim(path, "`"), "go run ")
		if strings.HasSuffix(path, ".tar.gz") { // made, not kept
			continue
		}
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil || strings.HasSuffix(path, ".sh") && info.Mode()&0o111 == 0 {
			t.Errorf("README.md names %s: %v", path, err)
		}
	}
}

// TestReadmeMessages: what README.md says one sees when something does not work is what healthcheck says.
func TestReadmeMessages(t *testing.T) {
	t.Parallel()
	taken := accept(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("\x00\x01\x02"), 0o755); err != nil {
		t.Fatal(err)
	}
	for args, row := range map[string]string{
		"--export-prom $taken -- true": "| `--export-prom: cannot listen on :9091: address already in use`, exit 125 |",
		"-- $script":                   "| `exec format error`, exit 126 |",
		"-- /etc/passwd":               "| `permission denied`, exit 126 |",
		"-- nothing":                   "| `not found`, exit 127 |",
	} {
		if !strings.Contains(readme(t), row) {
			t.Errorf("README.md has no row %s", row)
		}
		m := regexp.MustCompile("`(.*)`, exit (\\d+)").FindStringSubmatch(strings.ReplaceAll(row, ":9091", taken))
		got := run(t, []string{"PATH=/nowhere"}, words(vars{"taken": taken, "script": script}.expand(t, args))...)
		if !strings.Contains(got.stderr, m[1]) || m[2] != strconv.Itoa(got.status) {
			t.Errorf("healthcheck %s = %+v, README.md says %s", args, got, row)
		}
	}
}
