package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestImports lists which package may import which: main imports export, export imports probe,
// supervise and promtext; main imports probe and supervise, too; probe imports wire. A tool or a test imports what lies
// in its own folder, and the testbed. Nothing outside the standard library is
// imported at all.
func TestImports(t *testing.T) {
	const module = "alfred/healthcheck"
	allowed := map[string][]string{
		module:             {module + "/export", module + "/probe", module + "/supervise"},
		module + "/export": {module + "/probe", module + "/supervise", module + "/promtext"},
		module + "/probe":  {module + "/wire"},
		// TERM must be registered before most packages are initialized.
		module + "/supervise": {module + "/supervise/early"},
	}
	if _, err := os.Stat(filepath.Join(root, "export")); err != nil { // until export is a package, main is it, too
		allowed[module] = append(allowed[module], module+"/promtext")
	}
	out, err := exec.Command("go", "list", "-C", root, "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := fields[0]
		tool := regexp.MustCompile(`^` + module + `/(tools|test|examples)/[^/]+`).FindString(from)
		for _, to := range fields[1:] {
			switch {
			case strings.HasPrefix(to, module):
				if !slices.Contains(allowed[from], to) && (tool == "" || !strings.HasPrefix(to, tool+"/") && to != module+"/test/testbed") {
					t.Errorf("%s imports %s", from, to)
				}
			case strings.Contains(strings.Split(to, "/")[0], "."):
				t.Errorf("%s imports %s, from outside the standard library", from, to)
			}
		}
	}
	if runtime.GOOS == "linux" && !strings.Contains(string(out), module+"/supervise") {
		t.Errorf("go list does not tell of supervise:\n%s", out)
	}
}
