package probe

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadRegularFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, size int) {
		if err := os.WriteFile(path(name), []byte(strings.Repeat("x", size)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("empty", 0)
	write("limit", 2048)
	write("beyond", 2049)
	if err := os.Symlink("limit", path("link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		path string
		size int
		err  string
	}{
		{path("empty"), 0, ""},
		{path("limit"), 2048, ""},
		{path("link"), 2048, ""}, // Kubernetes mounts secrets as links
		{path("beyond"), 0, "larger than 2 KiB"},
		{path("fifo"), 0, "not a regular file"},
		{path("socket"), 0, "not a regular file"},
		{dir, 0, "not a regular file"},
		{"/dev/zero", 0, "not a regular file"},
		{path("none"), 0, "no such file or directory"},
	} {
		content, err := readRegularFile(test.path, 2048)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.err || len(content) != test.size {
			t.Errorf("readRegularFile(%s) = %d bytes, %q, want %d, %q", test.path, len(content), got, test.size, test.err)
		}
	}
	if content, err := readRegularFile("/proc/self/cmdline", 1<<20); err != nil || len(content) == 0 {
		t.Errorf("/proc/self/cmdline, whose size is 0: %d bytes, %v", len(content), err)
	}
}
