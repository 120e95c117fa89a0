package engine

import (
	"bytes"
	"debug/elf"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// other is a platform that is not this machine's.
var other = map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]

// maxSize bounds an archive: issue 4 of the project, 3 MB.
const maxSize = 3_000_000

// source is a copy of the checkout, the same for all tests: others may work on it.
var source string

func needSource(t *testing.T) string {
	t.Helper()
	copyOnce.Do(func() {
		dir, err := os.MkdirTemp("", "enginetest")
		if err != nil {
			t.Fatal(err)
		}
		atEnd = append(atEnd, func() { os.RemoveAll(dir) })
		checkout(t, dir)
		source = dir
	})
	if source == "" {
		t.Fatal("there is no copy of the checkout")
	}
	return source
}

var copyOnce sync.Once

// archives holds what archive has written, by platform and revision.
var archives = map[[2]string][]byte{}

// archive returns the archive that tools/image writes for a platform, without a revision.
func archive(t *testing.T, arch string) []byte {
	t.Helper()
	return archiveOf(t, arch, "")
}

// archiveOf returns the archive that tools/image writes for a platform and a revision.
func archiveOf(t *testing.T, arch, revision string) []byte {
	t.Helper()
	key := [2]string{arch, revision}
	if archives[key] == nil {
		name := filepath.Join(t.TempDir(), "image.tar.gz")
		do(t, "go", "run", "-C", needSource(t), "./tools/image", "-arch", arch, "-revision", revision, "-o", name)
		archives[key] = readFile(t, name)
	}
	return archives[key]
}

// TestDockerfile builds the Dockerfile with both builders for both platforms, and
// wants what the archive holds.
func TestDockerfile(t *testing.T) {
	needEngine(t)
	release := golang(t, runtime.GOARCH, other)
	for _, test := range []struct {
		name           string
		builder        func(*testing.T) builder
		binary, goesBy string // platforms of the file and of the image
		revision       string
		options        []string
	}{
		{"legacy", needLegacy, runtime.GOARCH, runtime.GOARCH, "", nil},
		{"legacy-" + other, needLegacy, other, runtime.GOARCH, "", []string{"--build-arg", "TARGETARCH=" + other}},
		{"legacy-revision", needLegacy, runtime.GOARCH, runtime.GOARCH, "0123abc-dirty", []string{"--build-arg", "REVISION=0123abc-dirty"}},
		{"buildkit", needBuildKit, runtime.GOARCH, runtime.GOARCH, "", nil},
		{"buildkit-" + other, needBuildKit, other, other, "", []string{"--platform", "linux/" + other}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := test.builder(t)
			tag := prefix + test.name
			if _, err := b.build(tag, needSource(t), "", append(test.options, "--build-arg", "GO_VERSION="+release)...); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { try("docker", "rmi", "-f", tag) })
			built, written := save(t, tag), readArchive(t, archiveOf(t, test.binary, test.revision))
			if !bytes.Equal(built.binary(t), written.binary(t)) {
				t.Errorf("the Dockerfile's binary has %d bytes, the archive's %d, and they are not the same",
					len(built.binary(t)), len(written.binary(t)))
			}
			checkBinary(t, built.binary(t), test.binary)
			checkConfig(t, built, written, test.goesBy)
			if test.binary == runtime.GOARCH {
				runConfined(t, tag)
			}
		})
	}
}

func needLegacy(*testing.T) builder { return legacy }

// checkBinary wants a static program for arch.
func checkBinary(t *testing.T, binary []byte, arch string) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if f.Machine != want {
		t.Errorf("the binary is for %v, want %v", f.Machine, want)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has %v", p.Type)
		}
	}
}

// checkConfig wants an image that runs as the archive's does.
func checkConfig(t *testing.T, built, written *saved, arch string) {
	t.Helper()
	got, want := built.config, written.config
	delete(got.Config.Labels, label)
	if got.OS != "linux" || got.Architecture != arch {
		t.Errorf("the image is for %s/%s, want linux/%s", got.OS, got.Architecture, arch)
	}
	if got.Config.User != "65532:65532" || got.Config.User != want.Config.User {
		t.Errorf("the image's user is %q, the archive's %q", got.Config.User, want.Config.User)
	}
	entrypoint := []string{"/usr/local/bin/healthcheck"}
	if !slices.Equal(got.Config.Entrypoint, entrypoint) || !slices.Equal(want.Config.Entrypoint, entrypoint) || got.Config.Cmd != nil {
		t.Errorf("the image runs %q %q, the archive's %q", got.Config.Entrypoint, got.Config.Cmd, want.Config.Entrypoint)
	}
	if !slices.Equal(got.Config.Env, want.Config.Env) {
		t.Errorf("the image's environment is %q, the archive's %q", got.Config.Env, want.Config.Env)
	}
	if !maps.Equal(got.Config.Labels, want.Config.Labels) {
		t.Errorf("the image's labels are %q, the archive's %q", got.Config.Labels, want.Config.Labels)
	}
	for _, key := range []string{"title", "description", "source", "version"} {
		if want.Config.Labels["org.opencontainers.image."+key] == "" {
			t.Errorf("the image has no label %s", key)
		}
	}
}

// runConfined runs the image with all that can be taken from it taken.
func runConfined(t *testing.T, ref string) {
	t.Helper()
	confined := []string{"run", "--rm", "--label", label, "--network=none", "--read-only", "--cap-drop=ALL",
		"--security-opt=no-new-privileges", "--user=54321:12345", ref}
	if out := docker(t, append(confined, "--version")...); !strings.HasPrefix(out, "healthcheck 0.4.0 (") {
		t.Errorf("docker run %s --version printed %q", ref, out)
	}
	// A check that fails does so because nothing listens, not for what was taken.
	_, err := try("docker", append(confined, "--tcp", "127.0.0.1:9")...)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("docker run %s --tcp 127.0.0.1:9: %v", ref, err)
	}
}

// TestArchiveSame has others write the archive: another user with another umask,
// from another path and with an environment that means harm.
func TestArchiveSame(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	want := archive(t, runtime.GOARCH)
	setpriv := testbed.Need(t, "setpriv")
	if os.Getuid() != 0 {
		testbed.Missing(t, "root", "only root can write it as another user")
	}
	dir, err := os.MkdirTemp("", "enginetest with a space ")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := copyAll(filepath.Join(dir, "src"), needSource(t)); err != nil {
		t.Fatal(err)
	}
	do(t, "go", "build", "-C", needSource(t), "-o", filepath.Join(dir, "image"), "./tools/image")
	cache := do(t, "go", "env", "GOCACHE")
	for _, name := range compiled(t, cache, runtime.GOARCH) {
		if err := copyAll(filepath.Join(dir, "cache", name), filepath.Join(cache, name)); err != nil {
			t.Fatal(err)
		}
	}
	do(t, "chown", "-R", "54321:12345", dir)
	do(t, "chmod", "-R", "u=rwX,go=", dir)
	_, err = tryWith(nil, []string{
		"HOME=" + dir, "GOCACHE=" + filepath.Join(dir, "cache"), "TMPDIR=" + dir,
		"GOFLAGS=-race -mod=mod -ldflags=-X=main.Version=9", "GOAMD64=v3", "GOARM64=v9.0", "GOEXPERIMENT=nogreenteagc",
		"CGO_ENABLED=1", "GOFIPS140=latest", "GOTOOLCHAIN=auto", "TZ=Asia/Tokyo", "LC_ALL=C", "GODEBUG=http2client=0",
	}, setpriv, "--reuid=54321", "--regid=12345", "--clear-groups", "--",
		"sh", "-c", `umask 077; cd "$1/src/probe" && exec "$1/image" -arch "$2" -o "$1/out.tar.gz"`, "sh", dir, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, filepath.Join(dir, "out.tar.gz")); !bytes.Equal(got, want) {
		t.Errorf("another user's archive has %d bytes, ours %d, and they are not the same", len(got), len(want))
	}
}

// TestArchiveSize holds both platforms to the bound.
func TestArchiveSize(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	for _, arch := range []string{runtime.GOARCH, other} {
		size := len(archive(t, arch))
		t.Logf("%s: %d bytes", arch, size)
		if size > maxSize {
			t.Errorf("the archive for %s has %d bytes, want at most %d", arch, size, maxSize)
		}
	}
}
