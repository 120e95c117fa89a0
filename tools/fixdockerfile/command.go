package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

// dispatching are the images whose entrypoint prepares the service only where its
// first word is the service's program. With the wrapper in that place it would not,
// so it is called once more, behind the wrapper. Images of Docker Hub, official or
// built on an official one, and what they call their entrypoint.
var dispatching = map[string]string{
	"mariadb":                     "docker-entrypoint.sh",
	"mongo":                       "docker-entrypoint.sh",
	"mysql":                       "docker-entrypoint.sh",
	"nginx":                       "/docker-entrypoint.sh",
	"nginxinc/nginx-unprivileged": "/docker-entrypoint.sh",
	"pgvector/pgvector":           "docker-entrypoint.sh",
	"postgis/postgis":             "docker-entrypoint.sh",
	"postgres":                    "docker-entrypoint.sh",
	"rabbitmq":                    "docker-entrypoint.sh",
	"redis":                       "docker-entrypoint.sh",
	"timescale/timescaledb":       "docker-entrypoint.sh",
	"valkey/valkey":               "docker-entrypoint.sh",
}

// dispatcher returns the entrypoint of an image in dispatching, also from a mirror
// of Docker Hub's official ones; "" for all others.
func dispatcher(image string) string {
	repo := strings.TrimPrefix(repository(image), "docker.io/")
	if _, name, ok := strings.Cut("/"+repo, "/library/"); ok {
		repo = name
	}
	return dispatching[repo]
}

// unwrap finds what the container runs, and takes the healthcheck out of it.
func (f *fixer) unwrap() (err error) {
	for _, s := range f.final.chain() {
		for _, in := range s.body {
			if slices.Contains([]string{"ADD", "COPY", "ENV", "RUN"}, in.Name) && exporter.MatchString(in.Text+"\n"+in.Body) {
				return &problem{in.Line, in.Name + " has a script that starts healthcheck", takeOut}
			}
		}
	}
	f.config = effective(f.final.chain())
	var argv []arg
	for _, word := range f.entrypoint.argv {
		argv = append(argv, arg{word, false})
	}
	for _, word := range f.cmd.argv {
		argv = append(argv, arg{word, true})
	}
	if !valid(texts(argv)) {
		return &problem{f.line(), "the command is not valid UTF-8", "write it in exec form, in UTF-8"}
	}
	if f.wrapper, f.service, err = unwrap(argv); err != nil {
		return &problem{f.line(), err.Error(), takeOut}
	}
	for _, c := range f.copies {
		name := path.Base(c.path())
		exports := regexp.MustCompile(`\b` + literal(name) + `\b(?s:.*)\s--?export-prom`)
		if name != binary && exports.MatchString(strings.Join(texts(f.service), " ")) {
			return &problem{f.line(), fmt.Sprintf("the command starts healthcheck as %s in a way this cannot take apart", name), "call it healthcheck, in COPY and in the command"}
		}
	}
	return nil
}

const takeOut = "take healthcheck out of the script, then run this again: it wraps what is left"

// command wraps what the container runs: ENTRYPOINT where there is one, else CMD.
func (f *fixer) command() (err error) {
	w, rest := f.wrapper, f.service
	if w == nil {
		w = &wrapper{name: binary}
		if rest, err = f.plainCommand(rest); err != nil {
			return err
		}
		rest = withExec(rest)
	}
	if len(rest) == 0 && !w.checks() {
		if rest, err = f.givenCommand("healthcheck is given no command to run"); err != nil {
			return err
		}
	}
	if w.name != binaryPath && f.pathLacks(path.Dir(binaryPath)) {
		w.name = binaryPath
		f.did("PATH lacks %s, so healthcheck is called by its path: a probe must do so, too", path.Dir(binaryPath))
	}
	f.probe(w)
	return f.setCommand(w, rest)
}

// pathLacks reports whether the file sets PATH to what has no dir in it.
func (f *fixer) pathLacks(dir string) bool {
	env := newEnvironment(f)
	for _, s := range f.final.chain() {
		env.run(s.from)
		for _, in := range s.body {
			env.run(in)
		}
	}
	value, ok := env.env["PATH"]
	return ok && !slices.Contains(strings.Split(value, ":"), dir)
}

// probe has the HEALTHCHECK in force follow a wrapper whose port changes.
func (f *fixer) probe(w *wrapper) {
	var probe *dockerfile.Instruction
	for _, s := range f.final.chain() {
		for _, in := range s.body {
			if in.Name == "HEALTHCHECK" {
				probe = in
			}
		}
	}
	for _, o := range w.options {
		value := o[len(o)-1]
		port := value[strings.LastIndexByte(value, ':')+1:]
		if n, err := strconv.Atoi(port); probe == nil || !o.exports() || err != nil || n == f.port {
			continue
		}
		local := regexp.MustCompile(`(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0):(` + port + `)\b`)
		for _, m := range local.FindAllStringSubmatchIndex(probe.Text, -1) {
			f.replaceToken(probe, dockerfile.Token{Start: m[2], End: m[3]}, strconv.Itoa(f.port))
			f.did("HEALTHCHECK on line %d follows the port", probe.Line)
		}
	}
}

// line returns where the command stands, for an error.
func (f *fixer) line() int {
	for _, in := range []*dockerfile.Instruction{f.entrypoint.in, f.cmd.in} {
		if in != nil {
			return in.Line
		}
	}
	return f.final.from.Line
}

// plainCommand returns the command of a Dockerfile that has no wrapper yet, as
// far as the Dockerfile tells it.
func (f *fixer) plainCommand(argv []arg) (_ []arg, err error) {
	if len(f.entrypoint.argv) > 0 {
		return argv, nil
	}
	root := f.final.chain()[0].base
	dispatcher := dispatcher(root)
	plain := f.cmd.exec
	switch {
	case len(argv) > 0 && plain && dispatcher == "" && strings.HasPrefix(argv[0].text, "-"):
		return f.givenCommand("CMD holds only options for an ENTRYPOINT that is not in this file")
	case len(argv) > 0:
	case f.entrypoint.in != nil || root == "scratch":
		return f.givenCommand("neither ENTRYPOINT nor CMD says what to run")
	default:
		argv, err = f.givenCommand("no CMD or ENTRYPOINT: " + root + " has its own, which cannot be seen from here")
		plain = f.script == ""
	}
	if err == nil && f.entrypoint.in == nil && dispatcher != "" && plain && path.Base(argv[0].text) != path.Base(dispatcher) {
		argv = append([]arg{{dispatcher, true}}, argv...)
	}
	return argv, err
}

// givenCommand returns the command the user gave for such a Dockerfile.
func (f *fixer) givenCommand(what string) ([]arg, error) {
	words := f.options.command
	if f.script != "" {
		words = append(slices.Clone(f.shell), f.script)
	}
	if words == nil {
		root := f.final.chain()[0].base
		hint := "give the whole command: -cmd 'PROGRAM ARG...', or as a JSON array"
		if root != "scratch" {
			hint += fmt.Sprintf("; docker image inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' %s shows what the image runs", root)
		}
		return nil, &problem{f.line(), what, hint}
	}
	var argv []arg
	for _, word := range words {
		argv = append(argv, arg{word, true})
	}
	return argv, nil
}

// setCommand writes the wrapper and the command behind it to where they were, or
// to the end of the final stage where they come from a stage before it.
func (f *fixer) setCommand(w *wrapper, rest []arg) error {
	entrypoint, cmd := w.argv(f.addr()), []string{}
	if len(rest) > 0 {
		entrypoint = append(entrypoint, "--")
	}
	if len(f.entrypoint.argv) == 0 {
		return f.set("CMD", f.cmd, append(entrypoint, texts(rest)...), false)
	}
	for _, a := range rest {
		if a.cmd {
			cmd = append(cmd, a.text)
		} else {
			entrypoint = append(entrypoint, a.text)
		}
	}
	have := append(slices.Clone(f.entrypoint.argv), f.cmd.argv...)
	if f.entrypoint.exec && slices.Equal(have, append(slices.Clone(entrypoint), cmd...)) {
		return nil // wrapped already, however it is spread over the two
	}
	restated := f.entrypoint.stage != f.final && !slices.Equal(entrypoint, f.entrypoint.argv)
	if err := f.set("ENTRYPOINT", f.entrypoint, entrypoint, false); err != nil {
		return err
	}
	if len(cmd) == 0 && len(f.cmd.argv) == 0 {
		return nil
	}
	// a new ENTRYPOINT drops the CMD that was inherited
	return f.set("CMD", f.cmd, cmd, restated)
}

// set makes argv the value of an ENTRYPOINT or CMD that is now have.
func (f *fixer) set(name string, have command, argv []string, restate bool) error {
	same := slices.Equal(argv, have.argv)
	inFinal := have.stage == f.final
	switch {
	case same && (inFinal || !restate):
		return nil
	case inFinal && have.exec:
		elements, _ := have.in.Array()
		f.replaceArray(have.in, elements, argv)
	case inFinal:
		f.replaceToken(have.in, have.in.Args, array(argv))
	default:
		if f.did("%s restated", name); !same {
			f.changes[len(f.changes)-1] = "wrapped " + name + " added"
		}
		return f.insertAfter(f.lastInstruction(), name+" "+array(argv)+f.Newline)
	}
	f.did("%s %s", name, became(have.argv, argv))
	return nil
}

// became says for the report what was done to an ENTRYPOINT or CMD.
func became(before, after []string) string {
	wrapped := func(argv []string) bool { return len(argv) > 0 && startsWrapper(argv, 0) }
	switch {
	case wrapped(before) && wrapped(after):
		return "mended"
	case wrapped(after):
		return "wrapped"
	}
	return "unwrapped"
}
