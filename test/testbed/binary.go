package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Main is for a TestMain: it builds healthcheck once, with the options of tools/build.sh, runs the
// tests, and removes the binary. root is the folder of the module; *binary becomes the path. It
// returns the exit status of the test process.
func Main(m *testing.M, root string, binary *string) int {
	dir, err := os.MkdirTemp("", "healthcheck")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	*binary = filepath.Join(dir, "healthcheck")
	build := exec.Command("go", "build", "-C", root, "-trimpath", "-tags", "nethttpomithttp2", "-ldflags", "-s -w -buildid=", "-o", *binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building healthcheck: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
