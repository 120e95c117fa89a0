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

func (c aCopy) String() string { return "COPY --from=" + c.from + " " + c.source + " " + c.dest }

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
	n, err := strconv.Atoi(from)
	ours := isHealthcheck(from, f.image) || strings.EqualFold(from, stageAlias)
	for _, s := range f.stages {
		if isHealthcheck(s.base, f.image) && (strings.EqualFold(from, s.alias.Text) || err == nil && n == s.index) {
			ours = true
		}
	}
	base := path.Base(c.source)
	return c, ours && (base == binary || base == "*" || base == "bin")
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
		case c.stage != nil && c.stage != f.hc && runs(c.stage):
			f.mendCopy(c, c.dest)
		case good < 0 && moved == 0:
			comment, moved = f.remove(c.in), c.in.Line
			f.did("COPY moved from line %d to the final stage%s", moved, lost(c.stage))
		default:
			f.remove(c.in)
			f.did("COPY on line %d removed%s", c.in.Line, lost(c.stage))
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
// at. The command itself does not count, it is rewritten.
func (f *fixer) mentions(c aCopy) bool {
	return slices.ContainsFunc(f.final.body, func(in *dockerfile.Instruction) bool {
		return in != c.in && in.Name != "CMD" && in.Name != "ENTRYPOINT" && strings.Contains(in.Text, c.path())
	})
}

var runsBinary = regexp.MustCompile(`(^|[\s;&|(/])healthcheck(\s|$)`)

// runs reports whether a stage runs healthcheck while it is built: it would not
// build without its COPY.
func runs(s *stage) bool {
	return slices.ContainsFunc(s.body, func(in *dockerfile.Instruction) bool {
		return in.Name == "RUN" && runsBinary.MatchString(in.Args.Text)
	})
}

// lost warns of a stage that starts healthcheck, for a build with --target, and
// has it no more.
func lost(s *stage) string {
	if s != nil && slices.ContainsFunc(s.body, func(in *dockerfile.Instruction) bool {
		return slices.Contains([]string{"CMD", "ENTRYPOINT", "HEALTHCHECK"}, in.Name) && strings.Contains(in.Args.Text, binary)
	}) {
		return fmt.Sprintf(" (the stage on line %d starts healthcheck and has it no more)", s.from.Line)
	}
	return ""
}

// expose leaves the metrics port exposed once, in the final stage.
func (f *fixer) expose() error {
	env := &environment{file: f.File, globals: f.globals, env: map[string]string{}}
	exposed := false
	var last *dockerfile.Instruction
	for _, s := range f.final.chain() {
		env.run(s.from)
		for _, in := range s.body {
			if env.run(in); in.Name != "EXPOSE" || s != f.final {
				continue
			}
			last = in
			exposed = f.dedupe(in, env.lookup, exposed)
		}
	}
	for _, s := range f.stages {
		for _, in := range s.body {
			if in.Name == "EXPOSE" && s != f.final {
				f.dedupe(in, func(string) (string, bool) { return "", false }, true)
			}
		}
	}
	if exposed {
		return nil
	}
	f.did("EXPOSE %d added", f.port)
	line := "EXPOSE " + strconv.Itoa(f.port) + f.Newline
	if last != nil {
		return f.insertAfter(last, line)
	}
	c := effective(f.final.chain())
	for _, in := range f.final.body {
		if in == c.entrypoint.in || in == c.cmd.in {
			f.insertBefore(in, line)
			return nil
		}
	}
	return f.insertAfter(f.lastInstruction(), line)
}

func (f *fixer) lastInstruction() *dockerfile.Instruction {
	return f.Instructions[len(f.Instructions)-1]
}

// dedupe drops the metrics port from an EXPOSE where it is exposed already, and
// reports whether it is exposed now. A range that holds it is left alone.
func (f *fixer) dedupe(in *dockerfile.Instruction, lookup func(string) (string, bool), exposed bool) bool {
	words := in.Words()
	// an escape at the end of a word would become a continuation at the end of the line
	escaped := slices.ContainsFunc(words, func(t dockerfile.Token) bool { return t.Text[len(t.Text)-1] == f.Escape })
	var keep []dockerfile.Token
	for _, w := range words {
		value, _ := f.Expand(w.Text, lookup)
		lo, hi, ok := parsePort(value)
		switch {
		case !ok || f.port < lo || hi < f.port:
			keep = append(keep, w)
		case lo == hi && exposed && w.Text == value && !escaped:
			// dropped
		default:
			keep, exposed = append(keep, w), true
		}
	}
	if len(keep) == len(words) {
		return exposed
	}
	f.did("EXPOSE %d on line %d removed", f.port, in.Line)
	if len(keep) == 0 {
		f.remove(in)
		return exposed
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
	return exposed
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
