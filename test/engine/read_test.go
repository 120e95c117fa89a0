package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"testing"
)

// A file is an entry of an image's layer.
type file struct {
	*tar.Header
	content []byte
}

// A saved image is what docker save, or tools/image, wrote.
type saved struct {
	config struct {
		Architecture, OS string
		Config           struct {
			User       string
			Env        []string
			Entrypoint []string
			Cmd        []string
			Labels     map[string]string
		}
	}
	layers int
	files  []file // of all layers, in their order
	blobs  map[string][]byte
}

// save reads an image out of the engine.
func save(t *testing.T, ref string) *saved {
	t.Helper()
	return readArchive(t, []byte(docker(t, "save", ref)))
}

// readArchive reads an archive by its manifest.json.
func readArchive(t *testing.T, archive []byte) *saved {
	t.Helper()
	s := &saved{blobs: map[string][]byte{}}
	for _, f := range untar(t, archive) {
		s.blobs[f.Name] = f.content
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	decode(t, s.blobs["manifest.json"], &manifest)
	if len(manifest) != 1 {
		t.Fatalf("manifest.json holds %d images, want 1", len(manifest))
	}
	decode(t, s.blobs[manifest[0].Config], &s.config)
	s.layers = len(manifest[0].Layers)
	for _, name := range manifest[0].Layers {
		s.files = append(s.files, untar(t, s.blobs[name])...)
	}
	return s
}

// binary returns the only file of an image, after a look at all else in it.
func (s *saved) binary(t *testing.T) []byte {
	t.Helper()
	var names []string
	var content []byte
	for _, f := range s.files {
		names = append(names, path.Clean("/"+f.Name))
		if f.Mode&0o7777 != 0o755 || f.Uid != 0 || f.Gid != 0 {
			t.Errorf("%s has mode %04o and belongs to %d:%d, want 0755 and 0:0", f.Name, f.Mode, f.Uid, f.Gid)
		}
		if f.Typeflag == tar.TypeReg {
			content = f.content
		}
	}
	want := []string{"/usr", "/usr/local", "/usr/local/bin", "/usr/local/bin/healthcheck"}
	if !slices.Equal(names, want) || s.layers != 1 {
		t.Errorf("the image holds %q in %d layers, want %q in 1", names, s.layers, want)
	}
	if len(content) == 0 {
		t.Fatal("the image holds no binary")
	}
	return content
}

// untar reads a whole tar archive, compressed or not.
func untar(t *testing.T, archive []byte) (files []file) {
	t.Helper()
	if bytes.HasPrefix(archive, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(archive))
		if err != nil {
			t.Fatal(err)
		}
		if archive, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{header, content})
	}
}

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%v: %q", err, b)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
