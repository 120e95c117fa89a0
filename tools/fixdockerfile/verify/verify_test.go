// Package verify holds the results of tools/fixdockerfile against BuildKit's own
// parser. It is a module of its own, so that the project's needs nothing but the
// standard library:
//
//	cd tools/fixdockerfile/verify && go test ./...
package verify

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// A golden is one file of ../testdata: see golden_test.go there.
type golden struct{ name, about, in, want, problem string }

func goldens(t testing.TB) []golden {
	t.Helper()
	names, err := filepath.Glob("../testdata/*.txt")
	if err != nil || len(names) < 40 {
		t.Fatalf("%d golden files, want at least 40 (%v)", len(names), err)
	}
	var found []golden
	for _, name := range names {
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
				section = &g.problem
			default:
				*section += line
			}
		}
		if g.want == "" && g.problem == "" {
			g.want = g.in
		}
		found = append(found, g)
	}
	return found
}

// parse is what the engine does before it builds.
func parse(src string) (*parser.Result, []instructions.Stage, []instructions.ArgCommand, error) {
	r, err := parser.Parse(strings.NewReader(src))
	if err != nil {
		return nil, nil, nil, err
	}
	stages, args, err := instructions.Parse(r.AST, linter.New(&linter.Config{}))
	if err == nil && len(stages) == 0 {
		err = fmt.Errorf("no stages")
	}
	return r, stages, args, err
}

// image is what BuildKit's dispatchCmd, dispatchEntrypoint and dispatchShell
// leave in the final stage's config, as far as the file tells.
type image struct {
	entrypoint, cmd   []string
	shell             []string
	entrypointUnknown bool
}

func chain(stages []instructions.Stage, args []instructions.ArgCommand) []instructions.Stage {
	i := len(stages) - 1
	found := []instructions.Stage{stages[i]}
	for {
		base := stages[i].BaseName
		for _, a := range args {
			for _, kv := range a.Args {
				if kv.Value != nil {
					base = strings.NewReplacer("${"+kv.Key+"}", *kv.Value, "$"+kv.Key, *kv.Value).Replace(base)
				}
			}
		}
		j, ok := instructions.HasStage(stages[:i], base)
		if !ok {
			return found
		}
		i = j
		found = append([]instructions.Stage{stages[i]}, found...)
	}
}

func config(stages []instructions.Stage) image {
	c := image{shell: []string{"/bin/sh", "-c"}, entrypointUnknown: stages[0].BaseName != "scratch"}
	line := func(l instructions.ShellDependantCmdLine) []string {
		if l.PrependShell {
			return append(slices.Clone(c.shell), l.CmdLine...)
		}
		return l.CmdLine
	}
	for _, s := range stages {
		cmdSet := false
		for _, in := range s.Commands {
			switch in := in.(type) {
			case *instructions.ShellCommand:
				c.shell = in.Shell
			case *instructions.CmdCommand:
				c.cmd, cmdSet = line(in.ShellDependantCmdLine), true
			case *instructions.EntrypointCommand:
				c.entrypoint, c.entrypointUnknown = line(in.ShellDependantCmdLine), false
				if !cmdSet {
					c.cmd = nil
				}
			}
		}
	}
	return c
}

func TestGoldens(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			if g.problem != "" {
				if _, _, _, err := parse(g.in); strings.HasPrefix(g.name, "error-") && g.name != "error-open" && g.name != "error-index" && err == nil {
					t.Errorf("BuildKit takes what the fixer refuses: %s", g.problem)
				}
				return
			}
			_, after, args, err := parse(g.want)
			if err != nil {
				t.Fatalf("BuildKit refuses the result: %v", err)
			}
			port, wantImage := "9091", "alfred/healthcheck:0.4.0"
			if strings.Contains(g.about, "-port 9095") {
				port, wantImage = "9095", "registry.example:5000/health:1.0"
			}
			final := after[len(after)-1]

			first := after[0]
			for _, a := range args {
				for _, kv := range a.Args {
					value := ""
					if kv.Value != nil {
						value = *kv.Value
					}
					first.BaseName = strings.ReplaceAll(first.BaseName, "${"+kv.Key+"}", value)
				}
			}
			if first.Name != "healthcheck" || first.BaseName != wantImage {
				t.Errorf("the first stage is FROM %s AS %s", first.BaseName, first.Name)
			}
			copies := 0
			for i, s := range after {
				for _, in := range s.Commands {
					c, ok := in.(*instructions.CopyCommand)
					if !ok || c.From != "healthcheck" || len(c.SourcePaths) != 1 || c.SourcePaths[0] != "/usr/local/bin/healthcheck" {
						continue
					}
					switch {
					case i == len(after)-1 && c.DestPath == "/usr/local/bin/":
						copies++
					case i < len(after)-1 && !strings.HasPrefix(g.name, "copy-needed-"):
						t.Errorf("stage %d has a COPY of the binary", i)
					}
				}
			}
			if copies != 1 {
				t.Errorf("%d COPYs of the binary in the final stage", copies)
			}
			exposed := 0
			for _, in := range final.Commands {
				if e, ok := in.(*instructions.ExposeCommand); ok {
					for _, p := range e.Ports {
						p, _, _ = strings.Cut(strings.ToLower(p), "/tcp")
						if p == port || p == "9090-9095" || p == "$metrics_port" && g.name == "expose-variable" {
							exposed++
						}
					}
				}
			}
			if exposed != 1 {
				t.Errorf("port %s is exposed %d times", port, exposed)
			}
			c := config(chain(after, args))
			argv := slices.Concat(c.entrypoint, c.cmd)
			if len(argv) == 0 || filepath.Base(argv[0]) != "healthcheck" {
				t.Fatalf("the container runs %q", argv)
			}
			export := slices.IndexFunc(argv, func(s string) bool { return strings.HasSuffix(strings.Split(s, "=")[0], "-export-prom") })
			if v := strings.Join(argv[export:export+2], " "); !strings.Contains(v, ":"+port) {
				t.Errorf("the wrapper exports %q", v)
			}

			// What was not wrapped before runs unchanged behind the wrapper, but for exec in a shell's script.
			_, before, beforeArgs, err := parse(g.in)
			if err != nil {
				if g.name == "copy-before-from" {
					return
				}
				t.Fatalf("BuildKit refuses the input: %v", err)
			}
			old := config(chain(before, beforeArgs))
			was := slices.Concat(old.entrypoint, old.cmd)
			if strings.Contains(strings.Join(was, " "), "healthcheck") || strings.Contains(g.about, "-cmd") || strings.HasPrefix(g.name, "dispatch-") {
				return
			}
			if want := append([]string{"healthcheck", "--export-prom", ":" + port, "--"}, was...); !slices.EqualFunc(argv, want, unchanged) {
				t.Errorf("the container runs %q, want %q", argv, want)
			}
			if (len(c.entrypoint) > 0) != (len(old.entrypoint) > 0) {
				t.Errorf("ENTRYPOINT was %q and is %q", old.entrypoint, c.entrypoint)
			}
		})
	}
}

// unchanged reports whether a word is what it was, with one exec in it at most.
func unchanged(is, was string) bool { return is == was || strings.Replace(is, "exec ", "", 1) == was }

// FuzzParse: our parser finds the instructions BuildKit finds, on the same
// lines, with the same flags, arguments and here-documents; what BuildKit does not
// parse, it does not parse either.
func FuzzParse(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.in)
		f.Add(strings.ReplaceAll(g.in, "\n", "\r\n"))
	}
	for _, s := range testfiles(f) {
		f.Add(s)
	}
	f.Add("COPY --\xe3 0 0")
	f.Fuzz(func(t *testing.T, src string) { compare(t, src) })
}

func TestBuildKitsOwnFiles(t *testing.T) {
	for _, s := range testfiles(t) {
		compare(t, s)
	}
}

// testfiles are the Dockerfiles BuildKit tests its parser with.
func testfiles(t testing.TB) (found []string) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/moby/buildkit/frontend/dockerfile/parser").Output()
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(strings.TrimSpace(string(dir)) + "/testfile*/*/Dockerfile")
	if err != nil || len(names) == 0 {
		t.Fatalf("no Dockerfiles in %s (%v)", dir, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(b))
	}
	return found
}

func compare(t *testing.T, src string) {
	t.Helper()
	if strings.Contains(src, "\x00") {
		return // text/scanner, which BuildKit splits words with, has its own ideas there
	}
	theirs, theirErr := parser.Parse(strings.NewReader(src))
	ours, ourErr := dockerfile.Parse([]byte(src))
	if ourErr != nil {
		return // stricter is allowed: see TestGoldens for what it refuses
	}
	if theirErr != nil {
		// ENV and LABEL are not looked into
		for _, known := range []string{"must have two arguments", "can't find =", "ONBUILD"} {
			if strings.Contains(theirErr.Error(), known) {
				return
			}
		}
		if strings.Contains(strings.ToUpper(src), "ONBUILD") {
			return
		}
		t.Fatalf("%q: BuildKit: %v", src, theirErr)
	}
	if theirs.EscapeToken != rune(ours.Escape) {
		t.Fatalf("%q: escape %c, want %c", src, ours.Escape, theirs.EscapeToken)
	}
	if len(theirs.AST.Children) != len(ours.Instructions) {
		t.Fatalf("%q: %d instructions, want %d", src, len(ours.Instructions), len(theirs.AST.Children))
	}
	for i, node := range theirs.AST.Children {
		in := ours.Instructions[i]
		if got, want := describe(in, src), describeNode(node); got != want {
			t.Fatalf("%q: instruction %d is\n%s\nwant\n%s", src, i, got, want)
		}
	}
}

func describe(in *dockerfile.Instruction, src string) string {
	var flags []string
	for _, f := range in.Flags {
		flags = append(flags, f.Text)
	}
	end := in.Line + strings.Count(strings.TrimSuffix(src[in.Start:in.End], "\n"), "\n")
	var args []string
	elements, isArray := in.Array()
	switch in.Name {
	case "ADD", "COPY", "VOLUME":
		if !isArray {
			elements = in.Words()
		}
	case "EXPOSE", "FROM":
		isArray, elements = false, in.Words()
	case "CMD", "ENTRYPOINT", "RUN", "SHELL":
		if !isArray {
			elements = []dockerfile.Token{in.Args}
		}
	default:
		isArray, elements = false, nil
	}
	for _, e := range elements {
		if e.Text != "" || isArray {
			args = append(args, e.Text)
		}
	}
	return show(in.Name, in.Line, end, flags, args, in.Heredocs)
}

func describeNode(node *parser.Node) string {
	var args, heredocs []string
	name := strings.ToUpper(node.Value)
	switch name {
	case "ADD", "COPY", "VOLUME", "EXPOSE", "FROM", "CMD", "ENTRYPOINT", "RUN", "SHELL":
		for n := node.Next; n != nil; n = n.Next {
			if n.Value != "" || node.Attributes["json"] {
				args = append(args, n.Value)
			}
		}
	}
	for _, h := range node.Heredocs {
		heredocs = append(heredocs, h.Name)
	}
	return show(name, node.StartLine, node.EndLine, node.Flags, args, heredocs)
}

func show(name string, start, end int, flags, args, heredocs []string) string {
	b, _ := json.Marshal([][]string{flags, args, heredocs})
	return name + " " + strconv.Itoa(start) + "-" + strconv.Itoa(end) + " " + strings.ReplaceAll(string(b), "null", "[]")
}
