package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Files in which another version is right, and why. A name that ends in a slash is a folder,
// a name without a folder stands for every file of that name.
var otherVersions = map[string]string{
	"CHANGELOG.md":                  "lists every release",
	"tools/fixdockerfile/*_test.go": "replace one version by another, and name both; TestScript checks the default image",
	"tools/fixdockerfile/testdata/": "as above",
	"tools/fixdockerfile/verify/":   "reads this testdata",
	"tools/image/*_test.go":         "this test's own table; TestDockerfile checks the image's label",
	"go.mod":                        "versions of modules",
	"go.sum":                        "versions of modules",
	".git/":                         "the history",
	"tools/healthcheck-*.tar.gz":    "archives that tools/image left behind",
	"healthcheck":                   "a binary that go build left behind",
}

// A version of healthcheck follows its name. A release before 1.0 is also found without the name: alone,
// quoted, or after the word release, version or tag. "tini 0.19.0" is another program's.
var versionPatterns = []*regexp.Regexp{
	regexp.MustCompile(`healthcheck(?:/|:| |-|-v| v)([0-9]+\.[0-9]+\.[0-9]+)`),
	regexp.MustCompile("(?i)(?:^|[\"'`(]:?|\\b(?:release|version|tag)s?[ =:]+)v?(0\\.[1-9][0-9]*\\.[0-9]+)(?:\\.?$|\\.?[^0-9.])"),
}

// staleVersions returns the versions of healthcheck in line that are not current.
func staleVersions(line, current string) (stale []string) {
	for _, pattern := range versionPatterns {
		for _, m := range pattern.FindAllStringSubmatch(line, -1) {
			if m[1] != current && !slices.Contains(stale, m[1]) {
				stale = append(stale, m[1])
			}
		}
	}
	return stale
}

func TestStaleVersions(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"FROM alfred/healthcheck:2.3.4 AS healthcheck", ""},
		{"FROM alfred/healthcheck:2.3.3 AS healthcheck", "2.3.3"},
		{"tools/healthcheck-1.0.0.tar.gz", "1.0.0"},
		{"User-Agent: healthcheck/1.0.0", "1.0.0"},
		{"healthcheck 1.0.0 (go1.26.8)", "1.0.0"},
		{"a tag v0.3.0 becomes an image", "0.3.0"},
		{`org.opencontainers.image.version="0.3.0"`, "0.3.0"},
		{"Release 0.3.0.", "0.3.0"},
		{"0.3.0", "0.3.0"},
		{"version=0.3.0", "0.3.0"},
		{`{"version":"0.3.0"}`, "0.3.0"},
		{"tini 0.19.0 and fastapi==0.115.0", ""},
		{"text/plain; version=0.0.4", ""},
		{"honnef.co/go/tools/cmd/staticcheck@v0.8.2", ""},
		{"127.0.0.1 10.0.20.1 0.0.0.0 0.1.2.3", ""},
		{"go1.26.8", ""},
	} {
		if got := strings.Join(staleVersions(test.in, "2.3.4"), " "); got != test.want {
			t.Errorf("%q: stale %q, want %q", test.in, got, test.want)
		}
	}
}

// TestVersionInOnePlace names every line of the project that has another version of
// healthcheck than the constant Version of the root's main.go.
func TestVersionInOnePlace(t *testing.T) {
	root := filepath.Join("..", "..")
	version, err := sourceVersion(filepath.Join(root, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	repeated := 0
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if otherVersions[path+"/"] != "" {
				return fs.SkipDir
			}
			return nil
		}
		for pattern := range otherVersions {
			if ok, _ := filepath.Match(pattern, path); ok || pattern == entry.Name() {
				return nil
			}
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !utf8.Valid(content) {
			return err
		}
		n := 0
		for line := range strings.SplitSeq(string(content), "\n") {
			n++
			for _, stale := range staleVersions(line, version) {
				t.Errorf("%s:%d: %s, but main.go has %s: %s", path, n, stale, version, line)
			}
			if strings.Contains(line, version) {
				repeated++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// main.go, README.md, the Dockerfile and the examples at least, or the walk missed them.
	if repeated < 10 {
		t.Errorf("only %d lines name version %s", repeated, version)
	}
}
