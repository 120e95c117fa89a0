package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

// A stage is a FROM and the instructions up to the next.
type stage struct {
	index    int
	from     *dockerfile.Instruction
	image    dockerfile.Token // as written
	alias    dockerfile.Token // empty where it has none
	platform string
	base     string // the image with global ARGs filled in
	open     bool   // it depends on an ARG without a default
	parent   *stage // where the base is an earlier stage
	body     []*dockerfile.Instruction
}

// chain returns the stages s is built on, the first one first, s last.
func (s *stage) chain() []*stage {
	if s.parent == nil {
		return []*stage{s}
	}
	return append(s.parent.chain(), s)
}

// stages splits a file at its FROMs. What stands before the first is returned
// apart; globals are the ARGs in it.
func stages(f *dockerfile.File) (before []*dockerfile.Instruction, globals map[string]string, found []*stage) {
	globals = map[string]string{}
	open := map[string]bool{} // ARGs without a default: empty for Docker, if nobody gives a value
	asked := false
	lookup := func(name string) (string, bool) {
		v, ok := globals[name]
		asked = asked || open[name] || !ok
		return v, ok
	}
	for _, in := range f.Instructions {
		switch {
		case in.Name == "FROM":
			words := in.Words()
			s := &stage{index: len(found), from: in, image: words[0], base: words[0].Text}
			if len(words) == 3 {
				s.alias = words[2]
			}
			_, s.platform, _ = in.Flag("platform")
			asked = false
			if v, ok := f.Expand(s.image.Text, lookup); ok && v != "" {
				s.base = v
			}
			s.open = asked
			for _, t := range found {
				if t.alias.Text != "" && strings.EqualFold(t.alias.Text, s.base) {
					s.parent = t
				}
			}
			found = append(found, s)
		case len(found) > 0:
			s := found[len(found)-1]
			s.body = append(s.body, in)
		default:
			before = append(before, in)
			if in.Name != "ARG" {
				continue
			}
			for _, a := range f.Assignments(in) {
				asked = false
				v, ok := f.Expand(a.Value, lookup)
				delete(globals, a.Name)
				if ok && !platformArg.MatchString(a.Name) {
					globals[a.Name] = v
				}
				open[a.Name] = !a.Given || asked
			}
		}
	}
	return before, globals, found
}

// platformArg are the ARGs to which Docker itself gives a value.
var platformArg = regexp.MustCompile(`^(BUILD|TARGET)(PLATFORM|OS|ARCH|VARIANT|STAGE)$`)

// mayBe returns a stage, one that says what to run, which s is built on if an ARG
// without a default has the right value.
func (s *stage) mayBe(earlier []*stage) *stage {
	parts := variable.Split(s.image.Text, -1)
	for i, part := range parts {
		parts[i] = literal(part)
	}
	name := regexp.MustCompile("(?i)^" + strings.Join(parts, ".*") + "$")
	for _, t := range earlier {
		c := effective(t.chain())
		if s.open && t != s.parent && name.MatchString(t.alias.Text) && t.alias.Text != "" && (c.entrypoint.in != nil || c.cmd.in != nil) {
			return t
		}
	}
	return nil
}

// literal returns the pattern for s, whatever bytes it holds: each that is not
// UTF-8 is for a regexp the replacement character.
func literal(s string) string { return regexp.QuoteMeta(strings.ToValidUTF8(s, "\ufffd")) }

var variable = regexp.MustCompile(`\$(\w+|\{[^}]*\})`)

// environment knows the ENV and ARG values of a stage as far as the file tells them.
type environment struct {
	file      *dockerfile.File
	globals   map[string]string
	env, args map[string]string
	unsure    map[string]bool // ENVs that come from an ARG, which a build may override
	asked     bool            // lookup returned such a value
}

func newEnvironment(f *fixer) *environment {
	return &environment{file: f.File, globals: f.globals, env: map[string]string{}, unsure: map[string]bool{}}
}

func (e *environment) lookup(name string) (string, bool) {
	if v, ok := e.env[name]; ok {
		e.asked = e.asked || e.unsure[name]
		return v, true
	}
	v, ok := e.args[name]
	e.asked = e.asked || ok
	return v, ok
}

// run takes in an instruction. At a FROM the ARGs end.
func (e *environment) run(in *dockerfile.Instruction) {
	switch in.Name {
	case "FROM":
		e.args = map[string]string{}
	case "ARG":
		for _, a := range e.file.Assignments(in) {
			v, ok := e.file.Expand(a.Value, e.lookup)
			if !a.Given {
				v, ok = e.globals[a.Name]
			}
			if delete(e.args, a.Name); ok {
				e.args[a.Name] = v
			}
		}
	case "ENV":
		after, unsure := maps.Clone(e.env), maps.Clone(e.unsure)
		for _, a := range e.file.Assignments(in) {
			e.asked = false
			v, ok := e.file.Expand(a.Value, e.lookup)
			if delete(after, a.Name); ok {
				after[a.Name] = v
			}
			unsure[a.Name] = e.asked
		}
		e.env, e.unsure = after, unsure
	}
}

// A command is the value ENTRYPOINT or CMD has in the end.
type command struct {
	argv  []string                // empty: there is none, or it is the base image's
	in    *dockerfile.Instruction // where it is set; nil: nowhere in the file
	stage *stage
	exec  bool // in exec form
}

// A config is what the final stage runs.
type config struct {
	entrypoint, cmd command
	shell           []string // in force at the end
}

// effective follows ENTRYPOINT, CMD and SHELL through the chain of stages as
// Docker does: the last of each counts, a shell form takes the SHELL in force
// where it stands, and an ENTRYPOINT drops a CMD that was inherited.
func effective(chain []*stage) config {
	c := config{shell: []string{"/bin/sh", "-c"}}
	for _, s := range chain {
		cmdSet := false
		for _, in := range s.body {
			elements, exec := in.Array()
			argv := []string{}
			for _, e := range elements {
				argv = append(argv, e.Text)
			}
			if !exec {
				argv = append(slices.Clone(c.shell), in.Args.Text)
			}
			switch in.Name {
			case "SHELL":
				c.shell = argv
			case "CMD":
				c.cmd, cmdSet = command{argv, in, s, exec}, true
			case "ENTRYPOINT":
				c.entrypoint = command{argv, in, s, exec}
				if !cmdSet {
					c.cmd = command{}
				}
			}
		}
	}
	return c
}

// repository returns an image reference without its tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// isHealthcheck reports whether image is the wanted one in whatever version,
// or alfred/healthcheck in whatever registry.
func isHealthcheck(image, wanted string) bool {
	repo := repository(image)
	return repo == repository(wanted) || repo == "alfred/healthcheck" || strings.HasSuffix(repo, "/alfred/healthcheck")
}
