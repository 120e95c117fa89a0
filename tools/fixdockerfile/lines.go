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

// aCopy is a COPY of the healthcheck binary.
type aCopy struct {
	in           *dockerfile.Instruction
	stage        *stage // nil before the first FROM
	from         string
	source, dest string
}

// copyLine is the pattern's COPY.
var copyLine = aCopy{from: stageAlias, source: binaryPath, dest: "/usr/local/bin/"}

func (c aCopy) String() string {
	files := c.source + " " + c.dest
	if len(strings.Fields(files)) != 2 {
		files = array([]string{c.source, c.dest})
	}
	return "COPY --from=" + c.from + " " + files
}

// binaryCopy reports whether in copies the healthcheck binary out of its image.
func (f *fixer) binaryCopy(in *dockerfile.Instruction) (aCopy, bool) {
	_, from, ok := in.Flag("from")
	words, isArray := in.Array()
	if !isArray {
		words = in.Words()
	}
	if in.Name != "COPY" || !ok || len(words) != 2 {
		return aCopy{}, false
	}
	c := aCopy{in: in, from: from, source: words[0].Text, dest: words[1].Text}
	ours := isHealthcheck(from, f.image) || strings.EqualFold(from, stageAlias)
	for _, s := range f.stages {
		if isHealthcheck(s.base, f.image) && s.called(from) {
			ours = true
		}
	}
	for _, s := range f.stages {
		for _, t := range s.chain() {
			// out of a stage that has the binary from somewhere else
			if s.called(from) && slices.ContainsFunc(f.copies, func(c aCopy) bool { return c.stage == t && c.path() == path.Join("/", words[0].Text) }) {
				return c, true
			}
		}
	}
	base := path.Base(c.source)
	return c, ours && (base == binary || base == "*" || base == "bin")
}

// putsBinary finds commands that put something where the binary goes.
var putsBinary = regexp.MustCompile(`(\b(cp|install|ln|mv)\b[^;&|\n]*\s|\s-\w*[oO]\s*|>\s*|\btee\s+)` + regexp.QuoteMeta(binaryPath) + `["']?\s*($|[;&|\n]|\shttp)`)

// placeFree fails where the service has a program of its own in the binary's place:
// one of the two would be gone, and whatever calls it would call the other.
func (f *fixer) placeFree() error {
	dir := "/"
	for _, s := range f.final.chain() {
		for _, in := range s.body {
			words, isArray := in.Array()
			if !isArray {
				words = in.Words()
			}
			to, sources := dir, words
			if n := len(words) - 1; n >= 0 {
				to, sources = path.Clean(words[n].Text), words[:n]
			}
			if !path.IsAbs(to) {
				to = path.Join(dir, to)
			}
			taken := false
			switch in.Name {
			case "WORKDIR":
				dir = to
			case "ADD", "COPY":
				named := func(t dockerfile.Token) bool { return path.Base(t.Text) == binary }
				taken = !f.isCopy(in) && (to == binaryPath || to == path.Dir(binaryPath) && slices.ContainsFunc(sources, named))
			case "RUN":
				taken = putsBinary.MatchString(in.Text + "\n" + in.Body)
			}
			if taken {
				return &problem{in.Line, in.Name + " puts another program at " + binaryPath,
					"take it out if it is an old healthcheck, else give it another name, here and where it is called"}
			}
		}
	}
	return nil
}

// called reports whether --from=name means the stage.
func (s *stage) called(name string) bool {
	n, err := strconv.Atoi(name)
	return err == nil && n == s.index || s.alias.Text != "" && strings.EqualFold(name, s.alias.Text)
}

// path returns where the binary comes to lie.
func (c aCopy) path() string {
	if base := path.Base(c.dest); strings.HasSuffix(c.dest, "/") || base == "bin" || base == "." {
		return path.Join(c.dest, binary)
	}
	return c.dest
}

// copyInFinal leaves one COPY of the binary, in the final stage, as the pattern has it.
func (f *fixer) copyInFinal() error {
	var final []aCopy
	comment := ""
	for _, c := range f.copies {
		if c.stage == f.final {
			final = append(final, c)
		}
	}
	good := slices.IndexFunc(final, func(c aCopy) bool {
		return strings.EqualFold(c.from, stageAlias) && c.source == copyLine.source && c.dest == copyLine.dest
	})
	for i, c := range final {
		switch {
		case i == good:
		case c.path() != binaryPath && f.mentions(c):
			f.mendCopy(c, c.dest)
		case good < 0:
			good = i
			f.mendCopy(c, copyLine.dest)
		default:
			f.remove(c.in)
			f.did("second COPY on line %d removed", c.in.Line)
		}
	}
	moved := 0
	for _, c := range f.copies {
		switch {
		case c.stage == f.final:
		case c.stage != nil && c.stage != f.hc && f.builds(c):
			f.mendCopy(c, c.dest)
		case good < 0 && moved == 0:
			comment, moved = f.remove(c.in), c.in.Line
			f.did("COPY moved from line %d to the final stage%s", moved, f.lost(c.stage))
		default:
			f.remove(c.in)
			f.did("COPY on line %d removed%s", c.in.Line, f.lost(c.stage))
		}
	}
	if good >= 0 {
		return nil
	}
	if moved == 0 {
		f.did("COPY added")
	}
	return f.insertAfter(f.final.from, comment+copyLine.String()+f.Newline)
}

// mendCopy brings a COPY that stays where it is in line.
func (f *fixer) mendCopy(c aCopy, dest string) {
	want := aCopy{from: stageAlias, source: binaryPath, dest: dest}
	if strings.EqualFold(c.from, want.from) && c.source == want.source && c.dest == want.dest {
		return
	}
	f.replaceToken(c.in, dockerfile.Token{Start: 0, End: c.in.Args.End}, want.String())
	f.did("COPY on line %d mended", c.in.Line)
}

// mentions reports whether the final stage uses the path a COPY puts the binary
// at. The wrapper itself does not count, it is rewritten.
func (f *fixer) mentions(c aCopy) bool {
	uses := func(s string) bool { return strings.Contains(s, c.path()) }
	return slices.ContainsFunc(texts(f.service), uses) || slices.ContainsFunc(f.final.body, func(in *dockerfile.Instruction) bool {
		return in != c.in && in.Name != "CMD" && in.Name != "ENTRYPOINT" && uses(in.Text+"\n"+in.Body)
	})
}

// builds reports whether a build needs a COPY: a RUN names the binary, in that
// stage or in one built on it, or files that may hold it are taken from there.
func (f *fixer) builds(c aCopy) bool {
	named := regexp.MustCompile(`\b` + literal(path.Base(c.path())) + `\b`)
	from := func(name string) bool {
		return slices.ContainsFunc(f.stages, func(s *stage) bool { return s.called(name) && slices.Contains(s.chain(), c.stage) })
	}
	holds := func(in *dockerfile.Instruction) bool {
		words, ok := in.Array()
		if !ok {
			words = in.Words()
		}
		return slices.ContainsFunc(words[:len(words)-1], func(t dockerfile.Token) bool {
			source := path.Join("/", t.Text)
			return strings.HasPrefix(c.path()+"/", strings.TrimSuffix(source, "/")+"/") || strings.ContainsAny(source, "*?[$")
		})
	}
	for _, s := range f.stages {
		for _, in := range s.body {
			switch _, name, _ := in.Flag("from"); {
			case in.Name == "COPY" && !f.isCopy(in) && from(name) && holds(in):
				return true
			case in.Name == "RUN" && s != f.final && slices.Contains(s.chain(), c.stage) && named.MatchString(in.Text+"\n"+in.Body):
				return true
			}
			if m := mountFrom.FindStringSubmatch(in.Text); in.Name == "RUN" && m != nil && from(m[1]) {
				return true
			}
		}
	}
	return false
}

// lost warns of a stage that starts healthcheck, for a build with --target, and
// has it no more: the one that lost it, or one built on that.
func (f *fixer) lost(from *stage) string {
	for _, s := range f.stages {
		if s != f.final && from != nil && slices.Contains(s.chain(), from) && slices.ContainsFunc(s.body, func(in *dockerfile.Instruction) bool {
			return slices.Contains([]string{"CMD", "ENTRYPOINT", "HEALTHCHECK"}, in.Name) && strings.Contains(in.Args.Text, binary)
		}) {
			return fmt.Sprintf(" (the stage on line %d starts healthcheck and has it no more)", s.from.Line)
		}
	}
	return ""
}

// expose leaves the metrics port exposed once, in the final stage.
func (f *fixer) expose() error {
	env := newEnvironment(f)
	exposed := exposure{}
	var last *dockerfile.Instruction
	for _, s := range f.final.chain() {
		env.run(s.from)
		for _, in := range s.body {
			if env.run(in); in.Name != "EXPOSE" || s != f.final {
				continue
			}
			last = in
			f.dedupe(in, env, &exposed)
		}
	}
	for _, s := range f.stages {
		for _, in := range s.body {
			if in.Name == "EXPOSE" && s != f.final {
				f.dedupe(in, &environment{}, &exposure{yes: true, sure: true})
			}
		}
	}
	if exposed.yes {
		return nil
	}
	f.did("EXPOSE %d added", f.port)
	line := "EXPOSE " + strconv.Itoa(f.port) + f.Newline
	if last != nil {
		return f.insertAfter(last, line)
	}
	for _, in := range f.final.body {
		if in == f.entrypoint.in || in == f.cmd.in {
			f.insertBefore(in, line)
			return nil
		}
	}
	return f.insertAfter(f.lastInstruction(), line)
}

func (f *fixer) lastInstruction() *dockerfile.Instruction {
	return f.Instructions[len(f.Instructions)-1]
}

// exposure says whether the metrics port is exposed, and surely so: not by way of
// an ARG, which a build may override.
type exposure struct{ yes, sure bool }

// dedupe drops the metrics port from an EXPOSE where it surely is exposed already.
// A range that holds it is left alone.
func (f *fixer) dedupe(in *dockerfile.Instruction, env *environment, exposed *exposure) {
	words := in.Words()
	// an escape at the end of a word would become a continuation at the end of the line
	escaped := slices.ContainsFunc(words, func(t dockerfile.Token) bool { return t.Text[len(t.Text)-1] == f.Escape })
	var keep []dockerfile.Token
	for _, w := range words {
		env.asked = false
		value, _ := f.Expand(w.Text, env.lookup)
		lo, hi, ok := parsePort(value)
		switch {
		case !ok || f.port < lo || hi < f.port:
			keep = append(keep, w)
		case lo == hi && exposed.sure && w.Text == value && !escaped:
			// dropped
		default:
			keep = append(keep, w)
			exposed.yes, exposed.sure = true, exposed.sure || !env.asked
		}
	}
	if len(keep) == len(words) {
		return
	}
	f.did("EXPOSE %d on line %d removed", f.port, in.Line)
	if len(keep) == 0 {
		f.remove(in)
		return
	}
	for i, w := range words {
		switch {
		case slices.Contains(keep, w):
		case w.Start < keep[0].Start:
			f.replaceToken(in, dockerfile.Token{Start: w.Start, End: words[i+1].Start}, "")
		default:
			f.deleteBetween(in, words[i-1].End, w.End)
		}
	}
}

// parsePort reads a port or range of EXPOSE as Docker does, [IP:][HOST:]LOW[-HIGH][/PROTO].
// ok is false for what is not TCP.
func parsePort(s string) (lo, hi int, ok bool) {
	s, proto, _ := strings.Cut(s[strings.LastIndexByte(s, ':')+1:], "/")
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	lo, err1 := strconv.Atoi(low)
	hi, err2 := strconv.Atoi(high)
	return lo, hi, err1 == nil && err2 == nil && lo <= hi && (proto == "" || strings.EqualFold(proto, "tcp"))
}
