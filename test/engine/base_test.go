package engine

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// A root is the file system of an image in the making.
type root struct {
	t    *testing.T
	w    *tar.Writer
	libs map[string]bool // those in it
}

// importImage makes an image of the files that fill puts into it. Changes are
// instructions of a Dockerfile.
func importImage(t *testing.T, name string, fill func(*root), changes ...string) {
	t.Helper()
	args := []string{"import", "--change", "LABEL " + label + "=1"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	cmd := exec.Command("docker", append(args, "-", name)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &root{t, tar.NewWriter(stdin), map[string]bool{}}
	fill(r)
	r.must(r.w.Close())
	r.must(stdin.Close())
	if err := cmd.Wait(); err != nil {
		t.Fatalf("docker import: %v", err)
	}
}

func (r *root) must(err error) {
	if err != nil {
		r.t.Helper()
		r.t.Fatal(err)
	}
}

// text adds a file with the content given.
func (r *root) text(name, content string) {
	r.must(r.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := io.WriteString(r.w, content)
	r.must(err)
}

// file adds a file of this machine under another name.
func (r *root) file(name, from string) {
	f, err := os.Open(from)
	r.must(err)
	defer f.Close()
	info, err := f.Stat()
	r.must(err)
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	// The time is now: go build touches what is older than an hour in its cache, and the
	// engine then copies it from layer to layer.
	r.must(r.w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: info.Size(), ModTime: time.Now()}))
	_, err = io.Copy(r.w, f)
	r.must(err)
}

// link adds a symbolic link.
func (r *root) link(name, to string) {
	r.must(r.w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}))
}

// folder adds a folder that anyone may write to.
func (r *root) folder(name string) {
	r.must(r.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o1777}))
}

// program adds a program of this machine and the libraries it is linked with.
func (r *root) program(name, from string) {
	r.file(name, from)
	out, err := try("ldd", from)
	r.must(err)
	for _, lib := range libraryLine.FindAllStringSubmatch(out, -1) {
		if !r.libs[lib[1]] {
			r.libs[lib[1]] = true
			r.file(lib[1][1:], lib[1])
		}
	}
}

// libraryLine is one of ldd: "libc.so.6 => /lib/…/libc.so.6 (0x…)", or the loader alone.
var libraryLine = regexp.MustCompile(`(/\S+) \(0x`)

// busybox adds Debian's static busybox under all its names.
func (r *root) busybox() {
	path := testbed.Need(r.t, "busybox")
	r.file("bin/busybox", path)
	names, err := try(path, "--list")
	r.must(err)
	for name := range strings.FieldsSeq(names) {
		if name != "busybox" {
			r.link("bin/"+name, "busybox")
		}
	}
}

// golang makes the build stage's image out of the machine's Go, unless Docker has
// one, and returns the release. What the machine has compiled of the standard
// library for these platforms goes with it: compiling that takes minutes.
func golang(t *testing.T, arches ...string) string {
	t.Helper()
	release := strings.TrimPrefix(do(t, "go", "env", "GOVERSION"), "go")
	name := "golang:" + release
	if _, err := try("docker", "image", "inspect", name); err == nil {
		return release
	}
	goroot := do(t, "go", "env", "GOROOT")
	cache := do(t, "go", "env", "GOCACHE")
	importImage(t, name, func(r *root) {
		r.busybox()
		r.folder("tmp")
		r.text("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
		r.goroot(goroot, arches)
		n := 0
		for _, arch := range arches {
			for _, entry := range compiled(t, cache, arch) {
				r.file("root/.cache/go-build/"+entry, filepath.Join(cache, entry))
				n++
			}
		}
		t.Logf("%s is a stand-in: busybox, %s, %d files of its cache", name, goroot, n)
	}, "ENV PATH=/usr/local/go/bin:/bin", "ENV GOTOOLCHAIN=local", "WORKDIR /go")
	return release
}

// goroot adds what go build wants of Go itself, for these platforms: the fewer files,
// the faster the legacy builder, which looks at each in every step.
func (r *root) goroot(goroot string, arches []string) {
	var patterns []string
	for _, tool := range []string{"asm", "compile", "link"} {
		patterns = append(patterns, "pkg/tool/linux_"+runtime.GOARCH+"/"+tool)
	}
	patterns = append(patterns, "bin/go", "VERSION", "go.env", "pkg/include/*", "src/go.mod", "src/vendor/modules.txt")
	wanted := map[string]bool{}
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(filepath.Join(goroot, pattern))
		for _, path := range paths {
			wanted[path] = true
		}
	}
	sources := "{{$dir := .Dir}}"
	for _, kind := range []string{"GoFiles", "SFiles", "HFiles", "EmbedFiles"} {
		sources += "{{range ." + kind + "}}{{$dir}}/{{.}}\n{{end}}"
	}
	for _, arch := range arches {
		for path := range strings.FieldsSeq(standard(r.t, arch, sources)) {
			wanted[path] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(wanted)) {
		rel, err := filepath.Rel(goroot, path)
		r.must(err)
		r.file("usr/local/go/"+rel, path)
	}
}

// compiled returns the files of Go's cache that hold the standard library as
// tools/build.sh has it compiled: what the compiler wrote (-d), and what it was
// asked for (-a, "v1 ACTION OUTPUT SIZE TIME"). With fewer, or none, go build
// compiles what is missing.
func compiled(t *testing.T, cache, arch string) (names []string) {
	t.Helper()
	outputs := map[string]bool{}
	for path := range strings.FieldsSeq(standard(t, arch, "{{.Export}}\n", "-export")) {
		if rel, err := filepath.Rel(cache, path); err == nil {
			names = append(names, rel)
			outputs[strings.TrimSuffix(filepath.Base(rel), "-d")] = true
		}
	}
	actions, _ := filepath.Glob(filepath.Join(cache, "??", "*-a"))
	for _, path := range actions {
		entry, err := os.ReadFile(path)
		if err != nil {
			continue // another go command trimmed it
		}
		if fields := strings.Fields(string(entry)); len(fields) == 5 && outputs[fields[2]] {
			rel, _ := filepath.Rel(cache, path)
			names = append(names, rel)
		}
	}
	return names
}

// standard asks go list about the packages of the standard library that healthcheck
// is made of on a platform, in the way tools/build.sh builds it.
func standard(t *testing.T, arch, format string, flags ...string) string {
	t.Helper()
	source := needSource(t)
	args := append([]string{"list", "-C", source, "-deps", "-trimpath", "-tags", "nethttpomithttp2", "-gcflags=crypto/...=-l"}, flags...)
	script, err := os.ReadFile(filepath.Join(source, "tools/build.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.FieldsSeq(inlinedPackages.FindStringSubmatch(string(script))[1]) {
		args = append(args, "-gcflags=crypto/"+pkg+"=")
	}
	out, err := tryWith(nil, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOFLAGS="},
		"go", append(args, "-f", "{{if .Standard}}"+format+"{{end}}", ".")...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inlinedPackages finds the packages of crypto that tools/build.sh compiles with inlining.
var inlinedPackages = regexp.MustCompile(`for package in (.*); do`)

// service compiles testdata/service.c with a C compiler and returns the program's
// path. It is linked dynamically, with the loader named.
func service(t *testing.T, compiler, loader string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "service")
	do(t, testbed.Need(t, compiler), "-Os", "-Wall", "-Werror", "-o", path, "testdata/service.c")
	interpreter, err := interpreter(path)
	if err != nil || !strings.Contains(interpreter, loader) {
		t.Fatalf("%s made a program loaded by %q (%v), want one by %s", compiler, interpreter, err, loader)
	}
	return path
}

// interpreter returns the dynamic loader that a program names.
func interpreter(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			return strings.TrimRight(string(b), "\x00"), err
		}
	}
	return "", errors.New("it is static")
}

// glibc, musl and busybox make the base image of that name, with a service in it.

func glibc(t *testing.T, name string) {
	program := service(t, "gcc", "ld-linux")
	importImage(t, name, func(r *root) {
		r.program("bin/sh", "/bin/dash")
		r.program("bin/ls", "/bin/ls")
		r.program("usr/bin/service", program)
		r.text("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
	})
}

func musl(t *testing.T, name string) {
	program := service(t, "musl-gcc", "ld-musl")
	loader, err := interpreter(program)
	if err != nil {
		t.Fatal(err)
	}
	importImage(t, name, func(r *root) {
		r.busybox()
		r.file(loader[1:], loader)
		r.file("usr/bin/service", program)
	})
}

func busybox(t *testing.T, name string) {
	importImage(t, name, func(r *root) {
		r.busybox()
		r.text("www/health", `{"status":"ok"}`)
	})
}

// checkout copies what the image is built of to a folder of its own: others may be
// at work in the checkout, and the path must not show in what is built.
func checkout(t *testing.T, to string) {
	t.Helper()
	from := filepath.Dir(do(t, "go", "env", "GOMOD"))
	parts := []string{"Dockerfile", ".dockerignore", "tools/image"}
	ignore, err := os.ReadFile(filepath.Join(from, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(ignore)) { // the folders and files that it includes
		if part, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok && !strings.ContainsRune(part, '*') {
			parts = append(parts, part)
		}
	}
	sources, _ := filepath.Glob(filepath.Join(from, "*.go"))
	for _, path := range sources {
		parts = append(parts, filepath.Base(path))
	}
	for _, part := range parts {
		if err := copyAll(filepath.Join(to, part), filepath.Join(from, part)); err != nil {
			t.Fatal(fmt.Errorf("copying the checkout: %w", err))
		}
	}
}

func copyAll(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, info.Mode().Perm())
}
