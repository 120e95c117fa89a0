package e2e_test

import (
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestImports lists every import that is allowed between packages of this module. A package under
// tools/, test/ or examples/ may import what is in its own folder, and the testbed. The tests of any
// package may import the testbed, too. Nothing outside the standard library is imported.
func TestImports(t *testing.T) {
	const module = "alfred/healthcheck"
	const testbed = module + "/test/testbed"
	allowed := map[string][]string{
		module:             {module + "/export", module + "/probe", module + "/supervise"},
		module + "/export": {module + "/probe", module + "/supervise", module + "/promtext"},
		module + "/probe":  {module + "/wire"},
		// TERM must be registered before most packages are initialized.
		module + "/supervise": {module + "/supervise/early"},
	}
	folder := regexp.MustCompile(`^` + module + `/(tools|test|examples)/[^/]+`)
	list := func(imports string) []string {
		out, err := exec.Command("go", "list", "-C", root, "-deps", "-f", `{{if not .Standard}}{{.ImportPath}}`+imports+`{{end}}`, "./...").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	check := func(from, to string, more ...string) {
		own := folder.FindString(from)
		switch {
		case strings.HasPrefix(to, module):
			ok := slices.Contains(allowed[from], to) || slices.Contains(more, to) || own != "" && (to == testbed || strings.HasPrefix(to, own+"/"))
			if !ok {
				t.Errorf("%s imports %s", from, to)
			}
		case strings.Contains(strings.Split(to, "/")[0], "."):
			t.Errorf("%s imports %s, which is outside the standard library", from, to)
		}
	}
	var packages []string
	for _, line := range list(`{{range .Imports}} {{.}}{{end}}`) {
		fields := strings.Fields(line)
		packages = append(packages, fields[0])
		for _, to := range fields[1:] {
			check(fields[0], to)
		}
	}
	for _, line := range list(`{{range .TestImports}} {{.}}{{end}}{{range .XTestImports}} {{.}}{{end}}`) {
		fields := strings.Fields(line)
		for _, to := range fields[1:] {
			check(fields[0], to, fields[0], testbed)
		}
	}
	if runtime.GOOS == "linux" && !slices.Contains(packages, module+"/supervise") {
		t.Errorf("go list has no %s/supervise: %q", module, packages)
	}
}
