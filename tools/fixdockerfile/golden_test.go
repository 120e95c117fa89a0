package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

var update = flag.Bool("update", false, "write the results of the golden tests into testdata")

// A golden is a file of testdata: what it shows, the options, then sections.
//
//	What it shows.
//	args: -port 9095
//	-- in --
//	FROM …
//	-- want --
//	FROM …
//
// Instead of want there may be error, LINE: WHAT. Without either, in stays as it is.
type golden struct {
	name, about     string
	options         options
	in, want, error string
}

func readGoldens(t testing.TB) []golden {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) < 40 {
		t.Fatalf("%d golden files, want at least 40 (%v)", len(names), err)
	}
	var found []golden
	for _, name := range names {
		found = append(found, readGolden(t, name))
	}
	return found
}

func readGolden(t testing.TB, name string) golden {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{name: strings.TrimSuffix(filepath.Base(name), ".txt")}
	section := &g.about
	for _, line := range strings.SplitAfter(string(b), "\n") {
		switch line {
		case "-- in --\n":
			section = &g.in
		case "-- want --\n":
			section = &g.want
		case "-- error --\n":
			section = &g.error
		default:
			*section += line
		}
	}
	args := []string{"Dockerfile"}
	if _, line, ok := strings.Cut(g.about, "args: "); ok {
		words, ok := simpleCommand(strings.TrimSpace(line))
		if !ok {
			t.Fatalf("%s: args: %s", name, line)
		}
		args = append(words, args...)
	}
	g.options = options{image: "alfred/healthcheck:0.4.0", port: 9091}
	if _, _, err := parseArgs(&g.options, args); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if g.want == "" && g.error == "" {
		g.want = g.in
	}
	return g
}

func (g golden) write(t *testing.T, want, problem string) {
	t.Helper()
	text := g.about + "-- in --\n" + g.in
	switch {
	case problem != "":
		text += "-- error --\n" + problem
	case want != g.in:
		text += "-- want --\n" + want
	}
	if err := os.WriteFile("testdata/"+g.name+".txt", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// where renders an error for a golden.
func where(err error) string {
	switch e := err.(type) {
	case *problem:
		return fmt.Sprintf("%d: %s\n%s\n", e.line, e.what, e.hint)
	case *dockerfile.Error:
		return fmt.Sprintf("%d: %s\n%s\n", e.Line, e.What, e.Hint)
	}
	return err.Error()
}

func TestGolden(t *testing.T) {
	for _, g := range readGoldens(t) {
		t.Run(g.name, func(t *testing.T) {
			out, changes, err := fix([]byte(g.in), g.options)
			got, problem := string(out), ""
			if err != nil {
				got, problem = "", where(err)
			}
			if *update {
				g.write(t, got, problem)
				return
			}
			if problem != g.error || err == nil && got != g.want {
				t.Errorf("fix(%s) = %s%s, want %s%s", g.name, got, problem, g.want, g.error)
			}
			if err == nil && (len(changes) == 0) != (g.want == g.in) {
				t.Errorf("fix(%s): changes %q, but the file differs: %v", g.name, changes, g.want != g.in)
			}
		})
	}
}
