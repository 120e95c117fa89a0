package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

// sample are the golden files built by a real engine, before and after: few,
// each step takes it a second. All of them are held against BuildKit's parser in
// verify/. The legacy builder fails on some COPYs in a row, the more so where one
// changes nothing (moby/moby issue 37965): none of these has such a pair.
var sample = []string{
	"args-behind-stage", "cmd-shell-quotes", "continuations", "copy-wrong-stage", "inherit-entrypoint", "old-serve-shell",
}

// engineAsked keeps -count from asking the engine again: it is slow, and has no
// races of ours.
var engineAsked bool

// TestEngine builds a sample with a real engine. Nothing can be pulled here, so
// every image is one made by the test, in which any command succeeds; what counts
// is that the engine takes the file and what it makes of the pattern.
func TestEngine(t *testing.T) {
	testbed.NeedEngine(t)
	if engineAsked {
		return
	}
	engineAsked = true
	builders := map[string]string{"legacy": "0"}
	if exec.Command("docker", "buildx", "version").Run() == nil {
		builders["buildkit"] = "1"
	}
	e := newEngine(t)
	for name, value := range builders {
		t.Run(name, func(t *testing.T) {
			for _, name := range sample {
				g := readGolden(t, "testdata/"+name+".txt")
				t.Run(name, func(t *testing.T) { e.compare(t, g, value) })
			}
		})
	}
}

// An engine has an image that stands for every base, and one for the healthcheck.
type engine struct {
	t                          *testing.T // images live as long as it
	base, healthcheck, context string
}

func newEngine(t *testing.T) *engine {
	prefix := "fixdockerfile-test-" + strconv.Itoa(os.Getpid()) + "/"
	e := &engine{t, prefix + "base:1", prefix + "healthcheck:1", t.TempDir()}
	bin := filepath.Join(e.context, "true")
	write(t, bin+".go", "package main\n\nfunc main() {}\n")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin, bin+".go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	program := read(t, bin)
	e.load(t, e.healthcheck, map[string]string{"usr/local/bin/healthcheck": program, "healthcheck": program})
	e.load(t, e.base, map[string]string{
		"bin/sh": program, "bin/bash": program, "app/bin": "", "app/dist/index": "", "app/node_modules/x": "",
	})
	for _, name := range []string{"requirements.txt", "config.ini", "app/main.py", "app/app/x"} {
		os.MkdirAll(filepath.Dir(filepath.Join(e.context, name)), 0o755)
		write(t, filepath.Join(e.context, name), "")
	}
	return e
}

// load imports an image made of files.
func (e *engine) load(t *testing.T, name string, files map[string]string) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for path, content := range files {
		w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(content))})
		io.WriteString(w, content)
	}
	w.Close()
	cmd := exec.Command("docker", "import", "-", name)
	cmd.Stdin = &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	t.Cleanup(func() { exec.Command("docker", "rmi", "-f", name).Run() })
}

// compare builds a golden's result, and its input where that is no broken one,
// and compares what they run.
func (e *engine) compare(t *testing.T, g golden, buildkit string) {
	after := e.build(t, g.want, buildkit)
	if _, ok := after.ExposedPorts["9091/tcp"]; !ok {
		t.Errorf("the image exposes %v", after.ExposedPorts)
	}
	argv := slices.Concat(after.Entrypoint, after.Cmd)
	if len(argv) < 4 || !slices.Equal(argv[:1], []string{"healthcheck"}) {
		t.Fatalf("the image runs %q", argv)
	}
	if strings.Contains(g.in, "healthcheck") {
		return
	}
	before := e.build(t, g.in, buildkit)
	want := slices.Concat([]string{"healthcheck", "--export-prom", ":9091", "--"}, before.Entrypoint, before.Cmd)
	if !slices.Equal(argv, want) {
		t.Errorf("the image runs %q, want %q", argv, want)
	}
}

type imageConfig struct {
	Entrypoint, Cmd []string
	ExposedPorts    map[string]struct{}
}

func (e *engine) build(t *testing.T, src, buildkit string) (c imageConfig) {
	t.Helper()
	cmd := exec.Command("docker", "build", "-q", "--network=none", "-f", "-", e.context)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT="+buildkit)
	cmd.Stdin = bytes.NewReader(e.localise(t, src))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker build: %v\n%s%s\n%s", err, out, &stderr, src)
	}
	id := strings.TrimSpace(string(out))
	e.t.Cleanup(func() { exec.Command("docker", "rmi", "-f", id).Run() })
	out, err = exec.Command("docker", "image", "inspect", "-f", "{{json .Config}}", id).Output()
	if err == nil {
		err = json.Unmarshal(out, &c)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("docker image inspect: %w", err))
	}
	return c
}

// localise puts the test's images in the place of all others.
func (e *engine) localise(t *testing.T, src string) []byte {
	f, err := dockerfile.Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	_, _, found := stages(f)
	ed := editor{File: f}
	for _, s := range found {
		switch {
		case isHealthcheck(s.base, wanted.image):
			ed.replaceToken(s.from, s.image, e.healthcheck)
		case s.parent == nil && s.base != "scratch":
			ed.replaceToken(s.from, s.image, e.base)
		}
	}
	out, err := ed.apply()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
