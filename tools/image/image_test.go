package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestArchive reads an archive back along each of its two ways: index.json to the
// manifest to the blobs, and manifest.json to the blobs.
func TestArchive(t *testing.T) {
	created := time.Unix(1_000_000_000, 0).UTC()
	img := newImage([]byte("\x7fELF"), "1.2.3", "arm64", created)
	files, names := readArchive(t, img)
	if !slices.IsSorted(names) || len(names) != 8 {
		t.Errorf("the archive holds %q, want 8 sorted", names)
	}
	for name, content := range files {
		if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && hex != "" && digest(content) != "sha256:"+hex {
			t.Errorf("%s has the digest %s", name, digest(content))
		}
	}

	var layout map[string]string
	decode(t, files["oci-layout"], &layout)
	if layout["imageLayoutVersion"] != "1.0.0" {
		t.Errorf("oci-layout is %v", layout)
	}
	var top index
	decode(t, files["index.json"], &top)
	if len(top.Manifests) != 1 || *top.Manifests[0].Platform != (platform{"arm64", "linux"}) {
		t.Fatalf("index.json is %+v", top)
	}
	wantNames := map[string]string{
		"io.containerd.image.name":          "docker.io/alfred/healthcheck:1.2.3",
		"org.opencontainers.image.ref.name": "1.2.3",
	}
	for key, want := range wantNames {
		if got := top.Manifests[0].Annotations[key]; got != want {
			t.Errorf("index.json has %s %q, want %q", key, got, want)
		}
	}
	blob := func(d descriptor) []byte {
		content := files["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
		if len(content) == 0 || len(content) != d.Size {
			t.Errorf("%s has %d bytes, want %d", d.Digest, len(content), d.Size)
		}
		return content
	}
	var m manifest
	decode(t, blob(top.Manifests[0]), &m)
	var c imageConfig
	decode(t, blob(m.Config), &c)
	if c.Architecture != "arm64" || c.OS != "linux" || !c.Created.Equal(created) || c.Config.Labels["org.opencontainers.image.version"] != "1.2.3" {
		t.Errorf("the config is %+v", c)
	}
	layer := gunzip(t, blob(m.Layers[0]))
	if got := []string{digest(layer)}; !slices.Equal(got, c.RootFS.DiffIDs) {
		t.Errorf("the layers have the digests %q, the config says %q", got, c.RootFS.DiffIDs)
	}

	var docker []dockerImage
	decode(t, files["manifest.json"], &docker)
	if len(docker) != 1 || docker[0].Config != blobPath(blob(m.Config)) || docker[0].Layers[0] != blobPath(blob(m.Layers[0])) ||
		!slices.Equal(docker[0].RepoTags, []string{"alfred/healthcheck:1.2.3"}) {
		t.Errorf("manifest.json is %+v", docker)
	}

	for _, e := range readTar(t, layer) {
		if e.Mode != 0o755 || e.Uid != 0 || e.Gid != 0 || e.Uname != "" || !e.ModTime.Equal(created) {
			t.Errorf("%s has mode %04o, belongs to %d:%d %q and is of %v", e.Name, e.Mode, e.Uid, e.Gid, e.Uname, e.ModTime)
		}
	}
}

// TestArchiveHeader wants a gzip file that tells nothing of who wrote it, and whose
// first member is what old podmans peek at.
func TestArchiveHeader(t *testing.T) {
	archive := written(t, newImage([]byte("binary"), "1.2.3", "amd64", time.Unix(defaultEpoch, 0)))
	// RFC 1952, section 2.3: ID1 ID2 CM FLG MTIME XFL=best OS=unknown.
	if want := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255}; !bytes.HasPrefix(archive, want) {
		t.Errorf("the archive begins % x, want % x", archive[:len(want)], want)
	}
	r := bytes.NewReader(archive)
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	if first, err := io.ReadAll(z); err != nil || len(first) != 8 {
		t.Errorf("the first member holds %q (%v), want 8 bytes", first, err)
	}
}

func TestSourceDate(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "2026-01-01T00:00:00Z"},
		{"0", "1970-01-01T00:00:00Z"},
		{"1767225601", "2026-01-01T00:00:01Z"},
		{"-1", ""}, {"8589934592", ""}, {"2026-01-01", ""}, {"1.5", ""},
	} {
		got, err := sourceDate(test.in)
		if test.want == "" {
			if err == nil {
				t.Errorf("sourceDate(%q) = %v, want an error", test.in, got)
			}
		} else if got.Format(time.RFC3339) != test.want || err != nil {
			t.Errorf("sourceDate(%q) = %v, %v, want %s", test.in, got, err, test.want)
		}
	}
}

func TestSourceVersion(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`const Version = "1.2.3"`, "1.2.3"},
		{"const (\n\ta, Version = 1, `1.0`\n)", "1.0"},
		{`var Version = "1.2.3"`, ""},
		{`func f() { const Version = "1.2.3" }`, ""},
		{`const Version = 4`, ""},
		{`const Version =`, ""},
	} {
		name := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(name, []byte("package main\n\n"+test.in+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := sourceVersion(name)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("sourceVersion of %q = %q, %v, want %q", test.in, got, err, test.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"-h", 0, "usage: go run ./tools/image"},
		{"-arch mips", 2, "image: -arch mips: want one of amd64, arm64\nhint: "},
		{"-x", 2, "image: flag provided but not defined: -x\nhint: "},
		{"amd64", 2, "image: unexpected argument \"amd64\"\nhint: "},
	} {
		var out bytes.Buffer
		if got := run(strings.Fields(test.args), &out, &out); got != test.status || !strings.HasPrefix(out.String(), test.want) {
			t.Errorf("image %s: status %d and %q, want %d and %q", test.args, got, out.String(), test.status, test.want)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	var out bytes.Buffer
	if got := run(nil, &out, &out); got != 2 || !strings.Contains(out.String(), `SOURCE_DATE_EPOCH "yesterday"`) {
		t.Errorf("with a wrong SOURCE_DATE_EPOCH: status %d and %q", got, out.String())
	}
}

// TestElsewhere runs it where there is no checkout.
func TestElsewhere(t *testing.T) {
	t.Chdir(t.TempDir())
	var out bytes.Buffer
	if got := run(nil, &out, &out); got != 1 || !strings.HasPrefix(out.String(), "image: this is not the healthcheck checkout\nhint: ") {
		t.Errorf("status %d and %q", got, out.String())
	}
}

// TestWriteFile wants a whole file or none, and nothing else left.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out")
	for _, content := range []string{"one", "two"} {
		if err := writeFile(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); string(got) != content || err != nil {
			t.Errorf("the file holds %q (%v), want %q", got, err, content)
		}
	}
	if err := writeFile(dir, nil); err == nil {
		t.Error("writing over a folder succeeded")
	}
	if err := writeFile(filepath.Join(dir, "missing", "out"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("writing into a missing folder: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("the folder holds %v, want out alone", left)
	}
}

// TestDockerfile holds the Dockerfile against the image written here, where no
// engine does (test/engine), and .dockerignore against what main imports.
func TestDockerfile(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	version, err := sourceVersion(filepath.Join(root, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	var c imageConfig
	decode(t, newImage(nil, version, "amd64", time.Time{}).config, &c)
	entrypoint, _ := json.Marshal(c.Config.Entrypoint)
	want := []string{"\nUSER " + c.Config.User + "\n", "\nENTRYPOINT " + string(entrypoint) + "\n"}
	for key, value := range c.Config.Labels {
		want = append(want, fmt.Sprintf(" %s=%q", key, value))
	}
	dockerfile := read("Dockerfile")
	for _, line := range want {
		if !strings.Contains(dockerfile, line) {
			t.Errorf("the Dockerfile does not have %q", line)
		}
	}

	ignore := read(".dockerignore")
	packages, err := exec.Command("go", "list", "-C", root, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(packages)) {
		folder, ok := strings.CutPrefix(path, "alfred/healthcheck/")
		top, _, _ := strings.Cut(folder, "/") // a folder is let in with those in it
		if ok && !strings.Contains(ignore, "\n!"+top+"\n") {
			t.Errorf(".dockerignore does not let %s in, which main imports", folder)
		}
	}
}

func written(t *testing.T, img *image) []byte {
	t.Helper()
	var b, again bytes.Buffer
	if err := errors.Join(img.writeArchive(&b), img.writeArchive(&again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("the archive written twice is not the same")
	}
	return b.Bytes()
}

func readArchive(t *testing.T, img *image) (files map[string][]byte, names []string) {
	t.Helper()
	files = map[string][]byte{}
	for _, e := range readTar(t, gunzip(t, written(t, img))) {
		names = append(names, e.Name)
		files[e.Name] = e.content
		if e.Uid != 0 || e.Gid != 0 || !e.ModTime.Equal(img.created) {
			t.Errorf("%s belongs to %d:%d and is of %v", e.Name, e.Uid, e.Gid, e.ModTime)
		}
	}
	return files, names
}

type tarEntry struct {
	*tar.Header
	content []byte
}

func readTar(t *testing.T, b []byte) (entries []tarEntry) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, tarEntry{header, content})
	}
}

func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%v: %q", err, b)
	}
}
