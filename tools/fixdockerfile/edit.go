package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

// An editor collects changes to a file's bytes and makes them all at once, so
// that what no change touches stays as it is.
type editor struct {
	*dockerfile.File
	edits []edit
}

type edit struct {
	start, end int
	text       string
}

func (e *editor) replace(start, end int, text string) {
	e.edits = append(e.edits, edit{start, end, text})
}

// replaceToken puts text in the place of a part of an instruction.
func (e *editor) replaceToken(in *dockerfile.Instruction, t dockerfile.Token, text string) {
	start, end := in.Span(t)
	e.overwrite(in, start, end, text)
}

// overwrite is replace inside an instruction: comments between its lines move above it.
func (e *editor) overwrite(in *dockerfile.Instruction, start, end int, text string) {
	for _, line := range strings.SplitAfter(string(e.Src[start:end]), "\n")[1:] {
		if line = strings.TrimLeftFunc(line, unicode.IsSpace); strings.HasPrefix(line, "#") {
			e.replace(in.Start, in.Start, line)
		}
	}
	e.replace(start, end, text)
}

// deleteBetween deletes an instruction's text between two ends of words, with a
// continuation that stands behind the first.
func (e *editor) deleteBetween(in *dockerfile.Instruction, from, to int) {
	_, start := in.Span(dockerfile.Token{Start: from - 1, End: from})
	_, end := in.Span(dockerfile.Token{Start: to - 1, End: to})
	e.overwrite(in, start, end, "")
}

// insertBefore puts lines before an instruction and the comment that belongs to it.
func (e *editor) insertBefore(in *dockerfile.Instruction, lines string) {
	at := in.Lead
	if in.Header {
		// A comment that begins the file is about the file; only a linter's
		// pragma in its last line is about the instruction.
		at = in.Start
		comments := e.Src[in.Lead:in.Start]
		last := bytes.LastIndexByte(comments[:len(comments)-1], '\n') + 1
		if bytes.Contains(comments[last:], []byte("hadolint ")) {
			at = in.Lead + last
		}
	}
	e.replace(at, at, lines)
}

// insertAfter puts lines behind an instruction.
func (e *editor) insertAfter(in *dockerfile.Instruction, lines string) error {
	if in.Open {
		return &problem{in.Line, in.Name + " ends the file in the middle of a continuation", "remove the last line's " + string(e.Escape)}
	}
	if !bytes.HasSuffix(e.Src[:in.End], []byte("\n")) {
		lines = e.Newline + strings.TrimSuffix(lines, e.Newline)
	}
	e.replace(in.End, in.End, lines)
	return nil
}

// remove deletes an instruction's lines, and of the comment directly above those
// that speak of the health check. It returns them.
func (e *editor) remove(in *dockerfile.Instruction) (comment string) {
	e.replace(in.Start, in.End, "")
	if in.Header {
		return ""
	}
	at := in.Lead
	for _, line := range strings.SplitAfter(string(e.Src[in.Lead:in.Start]), "\n") {
		if strings.Contains(strings.ReplaceAll(strings.ToLower(line), " ", ""), binary) {
			e.replace(at, at+len(line), "")
			comment += line
		}
		at += len(line)
	}
	return comment
}

// replaceArray turns an exec form's elements into want, and touches only those
// that differ.
func (e *editor) replaceArray(in *dockerfile.Instruction, have []dockerfile.Token, want []string) {
	p, s := 0, 0
	for p < min(len(have), len(want)) && have[p].Text == want[p] {
		p++
	}
	for s < min(len(have), len(want))-p && have[len(have)-1-s].Text == want[len(want)-1-s] {
		s++
	}
	old, middle := have[p:len(have)-s], want[p:len(want)-s]
	switch {
	case len(old) > 0 && len(middle) > 0:
		e.replaceToken(in, dockerfile.Token{Start: old[0].Start, End: old[len(old)-1].End}, elements(middle))
	case len(old) == 0 && len(middle) == 0:
	case len(old) == 0 && s > 0:
		at, _ := in.Span(have[p])
		e.replace(at, at, elements(middle)+", ")
	case len(old) == 0 && p > 0:
		_, at := in.Span(have[p-1])
		e.replace(at, at, ", "+elements(middle))
	case len(middle) == 0 && s > 0:
		e.replaceToken(in, dockerfile.Token{Start: old[0].Start, End: have[len(have)-s].Start}, "")
	case len(middle) == 0 && p > 0:
		e.deleteBetween(in, have[p-1].End, old[len(old)-1].End)
	default:
		e.replaceToken(in, in.Args, array(want))
	}
}

// array returns words as the guide writes an exec form.
func array(words []string) string { return "[" + elements(words) + "]" }

func elements(words []string) string {
	var quoted []string
	for _, w := range words {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.Encode(w)
		quoted = append(quoted, strings.TrimSuffix(b.String(), "\n"))
	}
	return strings.Join(quoted, ", ")
}

// apply returns the file with all changes made.
func (e *editor) apply() ([]byte, error) {
	slices.SortStableFunc(e.edits, func(a, b edit) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
	})
	var out []byte
	pos := 0
	for _, ed := range e.edits {
		if ed.start < pos {
			return nil, fmt.Errorf("two changes meet at byte %d", ed.start)
		}
		out = append(append(out, e.Src[pos:ed.start]...), ed.text...)
		pos = ed.end
	}
	return append(out, e.Src[pos:]...), nil
}
