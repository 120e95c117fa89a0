package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	unfixed = "FROM debian:12\nCMD [\"app\"]\n"
	fixed   = "FROM alfred/healthcheck:0.4.0 AS healthcheck\nFROM debian:12\n" +
		"COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n" +
		"EXPOSE 9091\nCMD [\"healthcheck\", \"--export-prom\", \":9091\", \"--\", \"app\"]\n"
	noCommand = "FROM nginx\n"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A session is a line as a user types it, in a folder with the Dockerfiles
// unfixed, fixed and nocmd, and what it prints.
func TestRun(t *testing.T) {
	const hint = "hint: fix-dockerfile-healthcheck.sh [-check] DOCKERFILE...; -h shows every option\n"
	const did = "healthcheck stage added, COPY added, EXPOSE 9091 added, CMD wrapped\n"
	const problem = "fixdockerfile: nocmd:1: no CMD or ENTRYPOINT: nginx has its own, which cannot be seen from here\n" +
		"hint: give the whole command: -cmd 'PROGRAM ARG...', or as a JSON array; docker image inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' nginx shows what the image runs\n"
	const diff = "--- unfixed\n+++ unfixed\n@@ -1,2 +1,5 @@\n+FROM alfred/healthcheck:0.4.0 AS healthcheck\n FROM debian:12\n" +
		"-CMD [\"app\"]\n+COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n+EXPOSE 9091\n" +
		"+CMD [\"healthcheck\", \"--export-prom\", \":9091\", \"--\", \"app\"]\n"
	tests := []struct {
		args           []string
		status         int
		stdout, stderr string
		after          string // content of the file unfixed
	}{
		{[]string{"unfixed"}, 0, "unfixed: fixed: " + did, "", fixed},
		{[]string{"fixed"}, 0, "fixed: ok\n", "", unfixed},
		{[]string{"unfixed", "unfixed"}, 0, "unfixed: fixed: " + did + "unfixed: ok\n", "", fixed},
		{[]string{"-check", "unfixed"}, 1, "unfixed: to fix: " + did + diff, "", unfixed},
		{[]string{"unfixed", "--check"}, 1, "unfixed: to fix: " + did + diff, "", unfixed},
		{[]string{"-check", "fixed"}, 0, "fixed: ok\n", "", unfixed},
		{[]string{"nocmd", "unfixed"}, 1, "unfixed: fixed: " + did, problem, fixed},
		{[]string{"-check", "nocmd"}, 1, "", problem, unfixed},
		{[]string{"-cmd", "nginx", "nocmd"}, 0, "nocmd: fixed: healthcheck stage added, COPY added, EXPOSE 9091 added, wrapped CMD added\n", "", unfixed},
		{[]string{"nothere", "unfixed"}, 1, "unfixed: fixed: " + did,
			"fixdockerfile: nothere: no such file or directory\nhint: give the path of a Dockerfile that can be read, in a folder that can be written\n", fixed},
		{[]string{"text"}, 1, "", "fixdockerfile: text:1: unknown instruction \"WHATEVER\"\nhint: is this a Dockerfile?\n", unfixed},
		{[]string{"-check", "dev"}, 1, "dev: to fix: healthcheck stage added, COPY moved from line 2 to the final stage (the stage on line 1 starts healthcheck and has it no more), EXPOSE 9091 added, CMD wrapped\n" +
			"--- dev\n+++ dev\n@@ -1,5 +1,7 @@\n+FROM alfred/healthcheck:0.4.0 AS healthcheck\n FROM debian:12 AS dev\n-COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n" +
			" CMD [\"healthcheck\", \"--\", \"app\"]\n FROM debian:12\n-CMD [\"app\"]\n+COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n+EXPOSE 9091\n" +
			"+CMD [\"healthcheck\", \"--export-prom\", \":9091\", \"--\", \"app\"]\n", "", unfixed},
		{[]string{"."}, 1, "", "fixdockerfile: .: not a regular file\nhint: give the path of a Dockerfile\n", unfixed},
		{[]string{"--", "-dash"}, 0, "-dash: ok\n", "", unfixed},
		{[]string{"-h"}, 0, fmt.Sprintf(usage, wanted.image), "", unfixed},
		{nil, 2, "", "fixdockerfile: no Dockerfile given\n" + hint, unfixed},
		{[]string{"-fix", "unfixed"}, 2, "", "fixdockerfile: flag provided but not defined: -fix\n" + hint, unfixed},
		{[]string{"-port", "0", "unfixed"}, 2, "", "fixdockerfile: -port 0: want 1 to 65535\n" + hint, unfixed},
		{[]string{"-image", "a b", "unfixed"}, 2, "", "fixdockerfile: -image \"a b\": want NAME:TAG\n" + hint, unfixed},
		{[]string{"-cmd", "[1]", "unfixed"}, 2, "", "fixdockerfile: invalid value \"[1]\" for flag -cmd: no JSON array of strings\n" + hint, unfixed},
		{[]string{"-cmd", "a 'b", "unfixed"}, 2, "", "fixdockerfile: invalid value \"a 'b\" for flag -cmd: quotes or parentheses that do not close\n" + hint, unfixed},
		{[]string{"-cmd", " ", "unfixed"}, 2, "", "fixdockerfile: invalid value \" \" for flag -cmd: want one line\n" + hint, unfixed},
	}
	defaultImage = wanted.image
	defer func() { defaultImage = "" }()
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "unfixed", unfixed)
			write(t, "fixed", fixed)
			write(t, "-dash", fixed)
			write(t, "nocmd", noCommand)
			write(t, "text", "whatever it is")
			write(t, "dev", "FROM debian:12 AS dev\nCOPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n"+
				"CMD [\"healthcheck\", \"--\", \"app\"]\nFROM debian:12\nCMD [\"app\"]\n")
			var stdout, stderr bytes.Buffer
			status := run(tt.args, &stdout, &stderr)
			if status != tt.status || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("status %d, want %d\nstdout %s\nwant %s\nstderr %s\nwant %s", status, tt.status, &stdout, tt.stdout, &stderr, tt.stderr)
			}
			if got := read(t, "unfixed"); got != tt.after {
				t.Errorf("the file is now %q, want %q", got, tt.after)
			}
			if names, _ := filepath.Glob(".*"); len(names) > 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

func TestFileKeepsModeAndLink(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("real", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, "real/Dockerfile", unfixed)
	if err := os.Chmod("real/Dockerfile", 0o640|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	root := os.Getuid() == 0
	if root {
		if err := os.Chown("real/Dockerfile", 12345, 54321); err != nil {
			t.Fatal(err)
		}
		os.Chmod("real/Dockerfile", 0o640|os.ModeSetgid)
	}
	if err := os.Symlink("real/Dockerfile", "link"); err != nil {
		t.Fatal(err)
	}
	if changes, _, err := fixFile("link", wanted, true); err != nil || len(changes) == 0 {
		t.Fatalf("fixFile(link) = %q, %v", changes, err)
	}
	if link, err := os.Readlink("link"); err != nil || link != "real/Dockerfile" {
		t.Errorf("the link is now %q, %v", link, err)
	}
	info, err := os.Stat("real/Dockerfile")
	if err != nil || info.Mode() != 0o640|os.ModeSetgid {
		t.Errorf("mode %v, %v, want -rw-r-----, setgid", info.Mode(), err)
	}
	if owner := info.Sys().(*syscall.Stat_t); root && (owner.Uid != 12345 || owner.Gid != 54321) {
		t.Errorf("owner %d:%d, want 12345:54321", owner.Uid, owner.Gid)
	}
	if got := read(t, "real/Dockerfile"); got != fixed {
		t.Errorf("the file is %q, want %q", got, fixed)
	}
}

// A file that is right is not written at all.
func TestFileUntouched(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "Dockerfile", fixed)
	before, _ := os.Stat("Dockerfile")
	if _, _, err := fixFile("Dockerfile", wanted, true); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat("Dockerfile"); !os.SameFile(before, after) {
		t.Error("the file was replaced")
	}
}

// script runs fix-dockerfile-healthcheck.sh as name in dir.
func script(t *testing.T, dir, name string, env []string, args ...string) (status int, output string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// From a folder of the user's, with a relative path, through a link to a link,
// and as a copy above the checkout.
func TestScript(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, sub := range []string{"services/model-registry", "bin", "with space"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) string {
		name = filepath.Join(dir, name)
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const dockerfile = "services/model-registry/Dockerfile"
	write(t, filepath.Join(dir, dockerfile), unfixed)
	original := filepath.Join(root, "fix-dockerfile-healthcheck.sh")
	link(original, "bin/first")
	second := link("../bin/first", "with space/second")
	if status, out := script(t, dir, second, nil, "-check", dockerfile); status != 1 || !strings.Contains(out, "\n+EXPOSE 9091\n") {
		t.Errorf("-check through links: %d, %s", status, out)
	}

	link(root, "healthcheck")
	copied := filepath.Join(dir, "fix-dockerfile-healthcheck.sh")
	write(t, copied, read(t, original))
	os.Chmod(copied, 0o755)
	// The default image has the version of the checkout's main.go.
	_, version, _ := strings.Cut(read(t, filepath.Join(root, "main.go")), "\nconst Version = \"")
	version, _, _ = strings.Cut(version, "\"")
	want := strings.Replace(fixed, wanted.image, "alfred/healthcheck:"+version, 1)
	if status, out := script(t, dir, "./fix-dockerfile-healthcheck.sh", nil, dockerfile); status != 0 || read(t, filepath.Join(dir, dockerfile)) != want {
		t.Errorf("the guide's command: %d, %s", status, out)
	}
	os.Remove(filepath.Join(dir, "healthcheck"))
	os.MkdirAll(filepath.Join(dir, "healthcheck/tools/fixdockerfile"), 0o755)
	for _, name := range []string{"main.go", "tools/fixdockerfile/main.go"} {
		write(t, filepath.Join(dir, "healthcheck", name), "package main\n")
	}
	if status, out := script(t, dir, "./fix-dockerfile-healthcheck.sh", nil, dockerfile); status != 2 || !strings.Contains(out, "/main.go has no line const Version\nhint: ") {
		t.Errorf("a checkout without a version: %d, %s", status, out)
	}

	write(t, filepath.Join(dir, "bin/lost.sh"), read(t, original))
	if status, out := script(t, dir, "sh", nil, "bin/lost.sh", dockerfile); status != 2 || !strings.Contains(out, "\nhint: run the script in the healthcheck checkout") {
		t.Errorf("a copy elsewhere: %d, %s", status, out)
	}

	for _, tool := range []string{"sh", "dirname", "readlink"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		link(path, "bin/"+tool)
	}
	if status, out := script(t, dir, original, []string{"PATH=" + filepath.Join(dir, "bin")}, dockerfile); status != 2 || !strings.Contains(out, "Go is not installed\nhint: ") {
		t.Errorf("without Go: %d, %s", status, out)
	}
}

// What the script's own lines say must hold for the package, too.
func TestStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"alfred/healthcheck/tools/fixdockerfile/dockerfile", "alfred/healthcheck/tools/fixdockerfile"}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("the tool needs %q, want %q", got, want)
	}
}
