package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

const stageAlias = "healthcheck"

// options say what the pattern is.
type options struct {
	image   string   // of the healthcheck stage
	port    int      // of the metrics
	command []string // for a Dockerfile that has none; nil: not given
	script  string   // the same where it needs a shell; "": it does not
}

func (o options) addr() string { return ":" + strconv.Itoa(o.port) }

// A problem is why a Dockerfile cannot be fixed.
type problem struct {
	line       int
	what, hint string
}

func (p *problem) Error() string { return p.what }

// fix returns src with the guide's pattern, and what it changed. It fails
// rather than guess, with a *problem or a *dockerfile.Error.
func fix(src []byte, o options) (out []byte, changes []string, err error) {
	before, err := dockerfile.Parse(src)
	if err != nil {
		return nil, nil, err
	}
	out, changes, err = fixOnce(before, o)
	if err != nil || len(changes) == 0 {
		return src, nil, err
	}
	// A second look, as the engine will see it: nothing may be left to do.
	after, err := dockerfile.Parse(out)
	if err == nil && (after.Directives != before.Directives || after.Escape != before.Escape) {
		err = errors.New("a comment would become a directive")
	}
	if err == nil {
		var more []string
		if _, more, err = fixOnce(after, o); err == nil && len(more) > 0 {
			err = fmt.Errorf("a second run would say: %s", strings.Join(more, ", "))
		}
	}
	if err != nil {
		return nil, nil, &problem{1, "the result would not hold: " + err.Error(), "apply the pattern by hand, and report this Dockerfile"}
	}
	return out, changes, nil
}

// A fixer holds one Dockerfile while it is changed.
type fixer struct {
	editor
	options
	before  []*dockerfile.Instruction // what stands before the first FROM
	globals map[string]string
	stages  []*stage
	final   *stage
	changes []string

	hc     *stage   // the healthcheck stage, nil where there is none
	copies []aCopy  // every COPY of the binary
	order  []*stage // the stages as they will stand, without the healthcheck's

	config           // what the final stage runs,
	wrapper *wrapper // the healthcheck in it, nil where there is none,
	service []arg    // and the rest
}

func (f *fixer) did(format string, a ...any) {
	f.changes = append(f.changes, fmt.Sprintf(format, a...))
}

func fixOnce(file *dockerfile.File, o options) ([]byte, []string, error) {
	f := &fixer{editor: editor{File: file}, options: o}
	f.before, f.globals, f.stages = stages(file)
	if len(f.stages) == 0 {
		return nil, nil, &problem{1, "no FROM in the file", "a Dockerfile begins with FROM"}
	}
	f.final = f.stages[len(f.stages)-1]
	for _, step := range []func() error{f.find, f.placeFree, f.unwrap, f.stageFirst, f.references, f.copyInFinal, f.expose, f.command} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	out, err := f.apply()
	return out, f.changes, err
}

// find looks for the healthcheck stage and for the COPYs of its binary.
func (f *fixer) find() error {
	for _, s := range f.stages {
		switch {
		case isHealthcheck(s.base, f.image):
			if s == f.final {
				return &problem{s.from.Line, "the last stage is the healthcheck image itself, there is no service to wrap",
					"put the service's own FROM behind it"}
			}
			if f.hc == nil {
				f.hc = s
			}
		case strings.EqualFold(s.alias.Text, stageAlias):
			return &problem{s.from.Line, fmt.Sprintf("stage %s is built FROM %s, not from %s", s.alias.Text, s.base, repository(f.image)),
				"give that stage another name, in its FROM and wherever it is used"}
		case strings.EqualFold(s.base, stageAlias) && s.parent == nil:
			return &problem{s.from.Line, "FROM " + s.base + " means an image here, and would mean the healthcheck stage",
				"write it with its registry and tag, as in docker.io/library/" + s.base + ":latest"}
		default:
			f.order = append(f.order, s)
		}
	}
	if root := f.final.chain()[0]; root.mayBe(f.stages[:root.index]) != nil {
		return &problem{root.from.Line, fmt.Sprintf("FROM %s may be the stage %s or an image", root.image.Text, root.mayBe(f.stages[:root.index]).alias.Text),
			"write the name, or give its ARG a default, or write the pattern by hand"}
	} else if isHealthcheck(root.base, f.image) {
		return &problem{f.final.from.Line, "the last stage is built on the healthcheck image, there is no service to wrap",
			"build it on the service's own base image"}
	}
	if p := f.wantPlatform(); !plainPlatform.MatchString(p) {
		return &problem{f.final.chain()[0].from.Line, fmt.Sprintf("--platform=%q is no platform", p), "write it as in linux/arm64 or $BUILDPLATFORM"}
	}
	for _, in := range f.before {
		if c, ok := f.binaryCopy(in); ok {
			f.copies = append(f.copies, c)
		} else if in.Name != "ARG" {
			return &problem{in.Line, in.Name + " before the first FROM", "only ARG may stand there"}
		}
	}
	for _, s := range f.stages {
		for _, in := range s.body {
			if c, ok := f.binaryCopy(in); ok {
				c.stage = s
				f.copies = append(f.copies, c)
			}
		}
	}
	return nil
}

// isCopy reports whether in is a COPY of the binary that find saw.
func (f *fixer) isCopy(in *dockerfile.Instruction) bool {
	return slices.ContainsFunc(f.copies, func(c aCopy) bool { return c.in == in })
}

// stageFirst puts the healthcheck stage in front of the others. There may be
// one only, and what else stands in it must not be lost.
func (f *fixer) stageFirst() error {
	if f.hc == nil {
		f.insertBefore(f.stages[0].from, f.fromLine()+f.Newline)
		f.did("healthcheck stage added")
		return nil
	}
	for _, s := range f.stages {
		if s == f.hc || !isHealthcheck(s.base, f.image) {
			continue
		}
		if _, err := f.removeStage(s); err != nil {
			return err
		}
		f.did("second healthcheck stage on line %d removed", s.from.Line)
	}
	first := f.stages[0]
	if f.hc == first {
		if first = f.stages[1]; !f.hidesArgs() {
			f.mendFrom()
			return nil
		}
	}
	comment, err := f.removeStage(f.hc)
	if err != nil {
		return err
	}
	f.insertBefore(first.from, comment+f.fromLine()+f.Newline)
	f.did("healthcheck stage moved from line %d", f.hc.from.Line)
	return nil
}

// removeStage removes a healthcheck stage's FROM and returns its comment. In the
// first stage, ARGs may stay: they become global.
func (f *fixer) removeStage(s *stage) (comment string, err error) {
	for _, in := range s.body {
		ours := f.isCopy(in) || in.Name == "EXPOSE" && in.Args.Text == strconv.Itoa(f.port)
		if !ours && !(in.Name == "ARG" && s.index == 0) {
			return "", &problem{in.Line, "the healthcheck stage must be moved, but holds " + in.Name,
				"move it to the stage it belongs to, the healthcheck stage is one FROM and no more"}
		}
	}
	return f.remove(s.from), nil
}

// hidesArgs reports whether an ARG that a later FROM needs stands in the
// healthcheck stage, where that FROM cannot see it.
func (f *fixer) hidesArgs() bool {
	hidden := map[string]bool{}
	for _, in := range f.hc.body {
		if in.Name == "ARG" {
			for _, a := range f.Assignments(in) {
				_, global := f.globals[a.Name]
				hidden[a.Name] = !global
			}
		}
	}
	needed := false
	lookup := func(name string) (string, bool) { needed = needed || hidden[name]; return "", true }
	for _, s := range f.order {
		f.Expand(s.image.Text, lookup)
		f.Expand(s.platform, lookup)
	}
	return needed
}

// fromLine returns the healthcheck stage's FROM. It is of the platform the
// final stage asks for: else the binary would not run there.
func (f *fixer) fromLine() string {
	if p := f.wantPlatform(); p != "" {
		return "FROM --platform=" + p + " " + f.image + " AS " + stageAlias
	}
	return "FROM " + f.image + " AS " + stageAlias
}

func (f *fixer) wantPlatform() string { return normalPlatform(f.final.chain()[0].platform) }

var plainPlatform = regexp.MustCompile(`^[A-Za-z0-9_./${}:-]*$`)

// normalPlatform returns "" for the platform a FROM has anyway.
func normalPlatform(p string) string {
	if p == "$TARGETPLATFORM" || p == "${TARGETPLATFORM}" {
		return ""
	}
	return p
}

// mendFrom brings the image, name and platform of the healthcheck stage in line.
func (f *fixer) mendFrom() {
	in, image := f.hc.from, f.hc.image
	if f.hc.base != f.image {
		f.replaceToken(in, image, f.image)
		f.did("image %s replaced by %s", image.Text, f.image)
	}
	alias := f.hc.alias
	switch {
	case alias.Text == "":
		_, end := in.Span(image)
		f.replace(end, end, " AS "+stageAlias)
		f.did("stage on line %d named %s", in.Line, stageAlias)
	case !strings.EqualFold(alias.Text, stageAlias):
		f.replaceToken(in, alias, stageAlias)
		f.did("stage %s renamed %s", alias.Text, stageAlias)
	}
	want := f.wantPlatform()
	if normalPlatform(f.hc.platform) == want {
		return
	}
	flag, _, has := in.Flag("platform")
	switch {
	case !has:
		start, _ := in.Span(image)
		f.replace(start, start, "--platform="+want+" ")
	case want == "":
		f.replaceToken(in, dockerfile.Token{Start: flag.Start, End: image.Start}, "")
	default:
		f.replaceToken(in, flag, "--platform="+want)
	}
	f.did("platform of the healthcheck stage mended")
}

// references follows renamed and renumbered stages wherever they are used.
// COPYs of the binary are left to copyInFinal.
func (f *fixer) references() error {
	index := map[int]string{}
	alias := map[string]bool{}
	for _, s := range f.stages {
		if i := slices.Index(f.order, s); i >= 0 {
			index[s.index] = strconv.Itoa(i + 1)
		} else {
			index[s.index] = stageAlias
			alias[strings.ToLower(s.alias.Text)] = true
		}
	}
	delete(alias, stageAlias)
	delete(alias, "")
	for _, s := range f.stages {
		if alias[strings.ToLower(s.image.Text)] {
			f.replaceToken(s.from, s.image, stageAlias)
			f.did("FROM on line %d follows the new name", s.from.Line)
		}
		for _, in := range s.body {
			if err := f.reference(s, in, index, alias); err != nil {
				return err
			}
		}
	}
	return nil
}

var mountFrom = regexp.MustCompile(`\bfrom=([^,"']+)`)

func (f *fixer) reference(s *stage, in *dockerfile.Instruction, index map[int]string, alias map[string]bool) error {
	switch in.Name {
	case "COPY":
		flag, from, ok := in.Flag("from")
		if !ok || f.isCopy(in) {
			return nil
		}
		want := from
		if n, err := strconv.Atoi(from); err == nil {
			if n < 0 || n >= s.index {
				return &problem{in.Line, "--from=" + from + " is no stage before this one", "the first stage in the file is 0"}
			}
			if index[n] != strconv.Itoa(n) {
				want = index[n]
			}
		} else if alias[strings.ToLower(from)] {
			want = stageAlias
		}
		if want != from {
			f.replaceToken(in, flag, "--from="+want)
			f.did("--from=%s on line %d is now --from=%s", from, in.Line, want)
		}
	case "RUN":
		for _, flag := range in.Flags {
			m := mountFrom.FindStringSubmatchIndex(in.Text[flag.Start:flag.End])
			if m == nil || !strings.HasPrefix(flag.Text, "--mount=") {
				continue
			}
			t := dockerfile.Token{Start: flag.Start + m[2], End: flag.Start + m[3]}
			if alias[strings.ToLower(in.Text[t.Start:t.End])] {
				f.replaceToken(in, t, stageAlias)
				f.did("mount on line %d follows the new name", in.Line)
			}
		}
	}
	return nil
}
