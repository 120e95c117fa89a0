package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// TestRevision builds with and without a revision, and scrapes healthcheck_build_info. Builds with the
// same revision must be equal to the bit. A build without one must report "unknown", although git
// could name the commit.
func TestRevision(t *testing.T) {
	if runtime.GOOS != "linux" {
		testbed.Missing(t, "linux", "tools/image builds for Linux, and this is %s", runtime.GOOS)
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	full := strings.Repeat("0123456789abcdef", 3)[:40]
	builds := map[string][]byte{}
	for _, test := range []struct{ revision, want string }{
		{"", "unknown"}, {"", "unknown"}, {full, full}, {full, full}, {"0123abc-dirty", "0123abc-dirty"},
	} {
		binary, err := build(root, runtime.GOARCH, test.revision, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		if first := builds[test.revision]; first != nil {
			if !bytes.Equal(first, binary) {
				t.Errorf("two builds with revision %q are not equal", test.revision)
			}
			continue
		}
		builds[test.revision] = binary
		if got := scrapeRevision(t, binary); got != test.want {
			t.Errorf("with revision %q build_info has revision %q, want %q", test.revision, got, test.want)
		}
	}
	if bytes.Equal(builds[""], builds[full]) {
		t.Error("the builds with and without a revision are equal")
	}
}

// scrapeRevision starts binary as an exporter and returns the label revision of healthcheck_build_info.
func scrapeRevision(t *testing.T, binary []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "healthcheck")
	if err := os.WriteFile(name, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	// The command reads stdin, so the exporter ends once stdin is closed.
	cmd := exec.CommandContext(t.Context(), name, "--export-prom", "127.0.0.1:0", "--", "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		cmd.Wait()
	}()
	line, err := bufio.NewReader(stderr).ReadString('\n')
	address := regexp.MustCompile(`http://\S+/`).FindString(line)
	if address == "" {
		t.Fatalf("the exporter printed %q (%v), want the address of its metrics", line, err)
	}
	answer, err := http.Get(address + "metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^healthcheck_build_info\{.*\brevision="([^"]*)"`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("no healthcheck_build_info with a revision in\n%s", body)
	}
	return string(m[1])
}

// TestBuildUsage runs tools/build.sh with arguments that it must refuse before it builds.
func TestBuildUsage(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "healthcheck")
	revision := func(value string) string {
		return fmt.Sprintf("build.sh: revision '%s': want 7 to 40 lowercase hex digits, then optionally -dirty\nhint: tools/build.sh OUT \"$(git rev-parse HEAD)\"\n", value)
	}
	const usage = "want the file to write and at most a revision\nhint: tools/build.sh OUT [REVISION]\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "build.sh: 0 arguments, " + usage},
		{[]string{""}, "build.sh: 1 arguments, " + usage},
		{[]string{out, "abcdef0", ""}, "build.sh: 3 arguments, " + usage},
		{[]string{out, "abcdef"}, revision("abcdef")},
		{[]string{out, strings.Repeat("a", 41)}, revision(strings.Repeat("a", 41))},
		{[]string{out, "ABCDEF0"}, revision("ABCDEF0")},
		{[]string{out, "-dirty"}, revision("-dirty")},
		{[]string{out, "abcdef0-dirty-dirty"}, revision("abcdef0-dirty-dirty")},
		{[]string{out, "abcdef0 -X main.Version=9"}, revision("abcdef0 -X main.Version=9")},
		{[]string{out, "abcdef0\n"}, revision("abcdef0\n")},
		{[]string{out, "v1.2.3"}, revision("v1.2.3")},
	} {
		cmd := exec.Command("sh", append([]string{filepath.Join(root, "tools", "build.sh")}, test.args...)...)
		got, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || string(got) != test.want {
			t.Errorf("build.sh %q: status %d and %q, want 1 and %q", test.args, cmd.ProcessState.ExitCode(), got, test.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("build.sh %q wrote the binary", test.args)
		}
	}
}
