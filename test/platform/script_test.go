package platform

import (
	"archive/tar"
	"errors"
	"io"
	"net"
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

// tarball writes an archive of one program.
func tarball(w io.Writer, name string, content []byte) error {
	archive := tar.NewWriter(w)
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
		return err
	}
	if _, err := archive.Write(content); err != nil {
		return err
	}
	return archive.Close()
}

// portName is a word of faults that stands for a port.
var portName = regexp.MustCompile(`\b(core|infrastructure|database|monitoring|none)\d\b`)

const script = root + "/tools/verify-health.sh"

// verify runs the script.
func verify(args ...string) (out string, status int) { return verifyOn("", args...) }

// verifyOn is verify with another PATH, unless that is empty.
func verifyOn(path string, args ...string) (out string, status int) {
	cmd := exec.Command(script, args...)
	if path != "" {
		cmd.Env = append(os.Environ(), "PATH="+path)
	}
	b, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// guideImage stands for the image whose HEALTHCHECK has the form of the platform's guide and names the check itself.
const guideImage = "GUIDE"

// Each container has one fault or none. A word like core1 stands for a free port of that category, the same in all rows.
var faults = []struct {
	name string
	args []string // of docker run
	want []string // how its findings begin; none if it is well
	row  string   // its row of the table, unless empty
}{
	{"well", publish("core1"), nil, "healthy  ok  ok  127.86.72.1:core1  core"},
	{"monitoring", publish("monitoring1"), nil, "healthy  ok  ok  127.86.72.1:monitoring1  monitoring"},
	{"unhealthy", append(publish("core2"), "-e", "HEALTHCHECK_TCP=127.0.0.1:1", "-e", "HEALTHCHECK_START_PERIOD=0"), []string{
		"it is unhealthy: FAIL  tcp  127.0.0.1:1  connect: connection refused",
	}, "unhealthy  FAIL  error  127.86.72.1:core2  core"},
	{"unknown", append(publish("core5"), guideImage), []string{
		"its status is unknown, since nothing is checked: set HEALTHCHECK_HTTP=http://localhost:9092/healthz in its environment",
	}, "healthy  ok  unknown  127.86.72.1:core5  core"},
	{"differing", append(publish("infrastructure1"), "-e", "HEALTHCHECK_TCP=127.0.0.1:1", "-e", "HEALTHCHECK_START_PERIOD=0", guideImage), []string{
		"its status is error: http://127.86.72.1:infrastructure1/ shows why",
	}, "healthy  ok  error  127.86.72.1:infrastructure1  infrastructure"},
	{"starting", append(publish("database3"), "--health-start-period", "1h", "-e", "HEALTHCHECK_TCP=127.0.0.1:9093", "-e", "HEALTHCHECK_START_PERIOD=1h"), []string{
		"it is starting: FAIL  tcp  127.0.0.1:9093  connect: connection refused",
	}, "starting  FAIL  starting  127.86.72.1:database3  database"},
	{"slow", append(publish("none6"), "--no-healthcheck", "-e", "HEALTHCHECK_TCP=127.0.0.1:1", "-e", "HEALTHCHECK_START_PERIOD=1h"), []string{
		"it has no healthcheck: add test",
		"its metrics are published on none6, which is in no range of the guide",
		"its status is starting: http://127.86.72.1:none6/ shows which check has not passed yet",
	}, "none  -  starting  127.86.72.1:none6  -"},
	{"twin", []string{"-l", "metrics_port=9091", "-p", "127.86.72.2:core1:9091"}, []string{"its metrics are published on core1, as are those of platformtest-well"}, ""},
	{"range", publish("none1"), []string{"its metrics are published on none1, which is in no range of the guide"}, ""},
	{"twice", append(publish("infrastructure2"), "-p", host+":none5:9091", "-p", "127.86.72.2:infrastructure2:9091"), []string{"its metrics are published on none5, which is in no range of the guide"}, ""},
	{"unpublished", []string{"-l", "metrics_port=9091"}, []string{"its metrics port 9091 is not published"}, "healthy  ok  -  -  -"},
	{"exposed", []string{"-l", "metrics_port=9091", "--expose", "9091", "-p", host + ":none2:9092"}, []string{"its metrics port 9091 is not published"}, ""},
	{"unlabelled", []string{"-p", host + ":none3:9091"}, []string{"it has no label metrics_port"}, ""},
	{"mislabelled", []string{"-p", host + ":none4:9091", "-l", "metrics_port=9091\nx$(id)"}, []string{"its label metrics_port is not a port: 9091"}, ""},
	{"silent", []string{"-p", host + ":core3:9099", "-l", "metrics_port=9099"}, []string{"its metrics do not answer at 127.86.72.1:core3: curl:"}, "healthy  ok  -  127.86.72.1:core3  core"},
	{"unchecked", append(publish("database1"), "--no-healthcheck"), []string{"it has no healthcheck"}, "none  -  ok  127.86.72.1:database1  database"},
	{"foreign", append(publish("database2"), "--health-cmd", "curl -f http://localhost"), []string{
		`its probe cannot run: the image has no /bin/sh: use test: ["CMD", "healthcheck"]`,
	}, ""},
	{"waiting", append(publish("core4"), "-e", "HEALTHCHECK_WAIT=1h", "-e", "HEALTHCHECK_TCP=127.0.0.1:1"), []string{
		"it is unhealthy: FAIL  tcp  127.0.0.1:1", "its command has not been started: healthcheck waits for a check",
	}, "unhealthy  FAIL  waiting  127.86.72.1:core4  core"},
	{"stopped", []string{"-l", "metrics_port=9091"}, []string{"it is not running: exited (0)"}, "exited  -  -  -  -"},
}

// publish are the arguments for a container as the guide wants it.
func publish(port string) []string {
	return []string{"-l", "metrics_port=9091", "-p", host + ":" + port + ":9091"}
}

// ranges are the guide's, and one of no category.
var ranges = map[string][]string{
	"core":           {"9091", "9092", "9093", "9094", "9095", "9096", "9097", "9098", "9099"},
	"infrastructure": {"9101", "9102", "9103"},
	"database":       {"9120", "9121", "9122", "9123", "9124"},
	"monitoring":     {"9100", "9187"},
	"none":           {"9090", "9104", "9105", "9119", "9125", "9186", "9188", "9189"},
}

// freePorts names the free ports of each range: core1, core2, none1.
func freePorts(t *testing.T) map[string]string {
	t.Helper()
	named := map[string]string{}
	for category, ports := range ranges {
		n := 0
		for _, port := range ports {
			if l, err := net.Listen("tcp", net.JoinHostPort(host, port)); err == nil {
				l.Close()
				n++
				named[category+strconv.Itoa(n)] = port
			}
		}
	}
	return named
}

func TestVerifyHealth(t *testing.T) {
	needEngine(t)
	image := importHealthcheck(t)
	guide := mark + "/guide:1"
	clear := func() {
		ids, _ := try(nil, "docker", "ps", "-aq", "--filter", "label="+mark)
		if ids != "" {
			try(nil, "docker", append([]string{"rm", "-fv"}, strings.Fields(ids)...)...)
		}
		try(nil, "docker", "rmi", guide)
	}
	clear()
	t.Cleanup(clear)
	build := exec.Command("docker", "build", "-q", "-t", guide, "-")
	build.Stdin = strings.NewReader("FROM " + image + "\n" +
		`HEALTHCHECK --interval=5s --timeout=30s --retries=1 CMD ["healthcheck", "--http", "http://localhost:9092/healthz"]` + "\n")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, out)
	}

	ports := freePorts(t)
	named := func(s string) string {
		return portName.ReplaceAllStringFunc(s, func(name string) string {
			if ports[name] == "" {
				t.Fatalf("too few ports of the guide's ranges are free on %s: no %s in %v", host, name, ports)
			}
			return ports[name]
		})
	}
	var names []string
	for _, f := range faults {
		name := mark + "-" + f.name
		names = append(names, name)
		args, from := []string{"run", "-d", "--name", name}, image
		for _, arg := range f.args {
			if arg == guideImage {
				from = guide
			} else {
				args = append(args, named(arg))
			}
		}
		if from == image && !strings.Contains(strings.Join(args, " "), "HEALTHCHECK_") {
			args = append(args, "-e", "HEALTHCHECK_HTTP=http://localhost:9092/healthz")
		}
		do(t, "docker", append(args, from)...)
	}
	do(t, "docker", "stop", mark+"-stopped")
	// The engine runs the first probe after an interval.
	for _, f := range faults {
		want := "healthy"
		switch f.name {
		case "unhealthy", "waiting", "foreign":
			want = "unhealthy"
		case "starting", "unchecked", "slow", "stopped":
			continue
		}
		poll(t, f.name, func() error {
			if s := do(t, "docker", "inspect", "--format", "{{.State.Health.Status}}", mark+"-"+f.name); s != want {
				return errors.New(s)
			}
			return nil
		})
	}

	t.Run("one by one", func(t *testing.T) {
		out, status := verify(append([]string{"--"}, append(names, "no such\nname", "-x")...)...)
		t.Log("\n" + out)
		if status != 1 {
			t.Errorf("status %d, want 1", status)
		}
		lines := strings.Split(out, "\n")
		for _, f := range faults {
			var problems []string
			row := ""
			for _, line := range lines {
				if problem, ok := strings.CutPrefix(line, "FAIL  "+mark+"-"+f.name+": "); ok {
					problems = append(problems, problem)
				}
				if cells := strings.Fields(line); len(cells) > 0 && cells[0] == mark+"-"+f.name {
					row = strings.Join(cells[1:], "  ")
				}
			}
			begins := func(problem, want string) bool { return strings.HasPrefix(problem, named(want)) }
			if !slices.EqualFunc(problems, f.want, begins) {
				t.Errorf("%s: said %q, want %q", f.name, problems, f.want)
			}
			if row == "" || f.row != "" && row != named(f.row) {
				t.Errorf("%s: its row is %q, want %q", f.name, row, named(f.row))
			}
		}
		for _, want := range []string{"FAIL  no such: there is no such container", "FAIL  -x: there is no such container"} {
			if !slices.Contains(lines, want) {
				t.Errorf("no line %q", want)
			}
		}
	})

	t.Run("all well", func(t *testing.T) {
		// named twice, by name and by ID
		id := do(t, "docker", "inspect", "--format", "{{.Id}}", mark+"-well")
		out, status := verify(mark+"-well", mark+"-monitoring", mark+"-well", id)
		if want := "\n2 containers, all healthy\n"; status != 0 || !strings.HasSuffix(out, want) {
			t.Errorf("status %d, said %q, want 0 and %q at the end", status, out, want)
		}
	})

	// Without curl, a probe inside the container reads the status.
	t.Run("without curl", func(t *testing.T) {
		path := pathOf(t, "bash", "docker", "sort", "timeout", "sed")
		out, status := verifyOn(path, mark+"-well", mark+"-unknown", mark+"-unhealthy")
		for _, want := range []string{"  healthy    ok     ok  ", "  healthy    ok     unknown  ", "  unhealthy  FAIL   error  "} {
			if status != 1 || strings.Count(out, want) != 1 {
				t.Errorf("status %d, want 1 and %q\n%s", status, want, out)
			}
		}
	})

	// The script sleeps between two looks. The second one finds the service started, which this sleep does.
	t.Run("wait", func(t *testing.T) {
		if out, status := verify(mark + "-starting"); status != 1 {
			t.Fatalf("status %d before the service starts\n%s", status, out)
		}
		path := pathOf(t, "bash", "docker", "sort", "timeout", "sed", "curl", "head")
		sleep := "#!/bin/sh\n" +
			"docker exec -d " + mark + "-starting healthcheck --export-prom 127.0.0.1:9093 --tcp 127.0.0.1:9091\n" +
			"exec /bin/sleep \"$@\"\n"
		if err := os.WriteFile(path+"/sleep", []byte(sleep), 0o755); err != nil {
			t.Fatal(err)
		}
		out, status := verifyOn(path, "--wait", "120", mark+"-starting")
		if status != 0 || !strings.Contains(out, "  healthy  ok     ok  ") {
			t.Errorf("status %d, want 0\n%s", status, out)
		}
	})

	// The guide's own loop reports this one as healthy.
	t.Run("the only one is unhealthy", func(t *testing.T) {
		if out, status := verify(mark + "-unhealthy"); status != 1 {
			t.Errorf("status %d, want 1\n%s", status, out)
		}
	})
}

// pathOf makes a folder that holds these programs and no other.
func pathOf(t *testing.T, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range programs {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestVerifyHealthUsage(t *testing.T) {
	testbed.Need(t, "bash")
	testbed.Need(t, "docker")
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--help"}, 0, "usage: verify-health.sh"},
		{[]string{"--nonsense"}, 2, "verify-health.sh: unknown option --nonsense\nhint: "},
		{[]string{"--wait"}, 2, "verify-health.sh: --wait has no value\nhint: "},
		{[]string{"--wait", "1m"}, 2, "verify-health.sh: --wait takes whole seconds\nhint: "},
		{[]string{"--project", "a", "b"}, 2, "verify-health.sh: both --project and containers"},
	} {
		if out, status := verify(test.args...); status != test.status || !strings.HasPrefix(out, test.want) {
			t.Errorf("%q: status %d, said %q, want %d, %q", test.args, status, out, test.status, test.want)
		}
	}
}

// TestVerifyHealthNoEngine has the script meet an engine that is not there.
func TestVerifyHealthNoEngine(t *testing.T) {
	testbed.Need(t, "bash")
	testbed.Need(t, "docker")
	t.Setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
	for _, args := range [][]string{nil, {"some"}} {
		if out, status := verify(args...); status != 2 || !strings.Contains(out, "Is the docker daemon running?") {
			t.Errorf("%q: status %d, said %q", args, status, out)
		}
	}
}
