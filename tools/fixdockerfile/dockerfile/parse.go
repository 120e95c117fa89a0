// Package dockerfile parses a Dockerfile as BuildKit does, and remembers where
// in the file every byte of an instruction stands, so that a single word can be
// replaced while the rest of the file stays as it is.
//
// It follows moby/buildkit, frontend/dockerfile/parser (v0.34): parser
// directives, line continuations with comments and blank lines inside them,
// here-documents, flags, and the JSON form of an instruction's arguments. Where
// the documentation and that parser differ, the parser is right. Only what
// decides where an instruction begins and ends, and what its arguments are, is
// checked; an unknown flag or a wrong port is left for the engine to find.
package dockerfile

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
)

// maxLine is the longest line BuildKit reads, in bytes: bufio.MaxScanTokenSize - 1.
const maxLine = 64*1024 - 1

// A File is a parsed Dockerfile.
type File struct {
	Src          []byte
	Newline      string // of the first line: "\n" or "\r\n"
	Escape       byte   // '\\', or '`' after an escape directive
	Directives   int    // how many parser directives the file begins with
	Instructions []*Instruction
}

// An Instruction is one instruction with all its lines.
type Instruction struct {
	Name       string // in upper case
	Line       int    // of its first line, from 1
	Lead       int    // where the comment lines directly above it begin in Src; Start where there are none
	Header     bool   // those comment lines are the first thing in the file
	Start, End int    // its lines in Src, here-documents and the last newline included
	Open       bool   // the file ended in the middle of it, behind a continuation
	Text       string // the one line Docker makes of it: continuations joined, comments inside dropped
	Flags      []Token
	Args       Token    // what follows the flags, without the blanks around it
	Heredocs   []string // the terminators of its here-documents
	Body       string   // the here-documents with their terminators

	at []int // at[i] is the offset in Src of Text[i]
}

// A Token is a part of an instruction's Text: its bytes [Start, End), and what
// they say once quotes and escapes are gone.
type Token struct {
	Text       string
	Start, End int
}

// Span returns the bytes of the file that t stands in. Where t runs over a
// continuation, that is inside it.
func (in *Instruction) Span(t Token) (start, end int) {
	if t.Start == t.End {
		return in.after(t.Start), in.after(t.Start)
	}
	return in.at[t.Start], in.at[t.End-1] + 1
}

func (in *Instruction) after(i int) int {
	if i == 0 {
		return in.at[0]
	}
	return in.at[i-1] + 1
}

// An Error says what Docker would not parse.
type Error struct {
	Line int // from 1
	What string
	Hint string
}

func (e *Error) Error() string { return e.What }

var names = map[string]bool{
	"ADD": true, "ARG": true, "CMD": true, "COPY": true, "ENTRYPOINT": true, "ENV": true, "EXPOSE": true,
	"FROM": true, "HEALTHCHECK": true, "LABEL": true, "MAINTAINER": true, "ONBUILD": true, "RUN": true,
	"SHELL": true, "STOPSIGNAL": true, "USER": true, "VOLUME": true, "WORKDIR": true,
}

// Parse parses a Dockerfile. Its error is an *Error.
func Parse(src []byte) (*File, error) {
	p := parser{File: &File{Src: src, Newline: "\n", Escape: '\\'}, header: true}
	if line, _, ok := bytes.Cut(src, []byte("\n")); ok && bytes.HasSuffix(line, []byte("\r")) {
		p.Newline = "\r\n"
	}
	if bytes.HasPrefix(src, []byte("\xef\xbb\xbf")) {
		p.next = 3
	}
	p.lead = p.next
	for p.scan() {
		if err := p.instruction(); err != nil {
			return nil, err
		}
	}
	if p.tooLong {
		return nil, p.errorf("the line is longer than Docker reads (65,535 bytes)", "break it with a continuation")
	}
	if len(p.Instructions) == 0 {
		return nil, &Error{max(p.line, 1), "no instruction in the file", "a Dockerfile begins with FROM"}
	}
	return p.File, nil
}

// parser walks over the lines of the file.
type parser struct {
	*File
	line       int // number of the current line
	start, end int // its bytes without the newline
	next       int // where the line after it begins
	tooLong    bool

	lead   int  // where the comment lines seen last begin, or the line after next
	header bool // nothing but directives stands before lead

	directivesDone bool
	seen           map[string]bool
}

// scan goes to the next line, and reports whether there is one.
func (p *parser) scan() bool {
	if p.next >= len(p.Src) {
		return false
	}
	p.line++
	p.start = p.next
	p.next = len(p.Src)
	if i := bytes.IndexByte(p.Src[p.start:], '\n'); i >= 0 {
		p.next = p.start + i + 1
	}
	if p.next-p.start > maxLine {
		p.tooLong = true
		return false
	}
	p.end = p.start + len(bytes.TrimRight(p.Src[p.start:p.next], "\r\n"))
	return true
}

func (p *parser) errorf(what, hint string) *Error { return &Error{p.line, what, hint} }

// instruction reads one instruction, or passes over a comment, directive or blank line.
func (p *parser) instruction() error {
	in := &Instruction{Line: p.line, Lead: p.lead, Start: p.start}
	p.start += len(p.Src[p.start:p.end]) - len(bytes.TrimLeftFunc(p.Src[p.start:p.end], unicode.IsSpace))
	directive, err := p.directive()
	switch {
	case err != nil:
		return err
	case directive:
		p.Directives++
		p.lead = p.next
		return nil
	case p.start == p.end:
		p.lead, p.header = p.next, false
		return nil
	case p.Src[p.start] == '#':
		return nil
	}

	in.Header, p.header = p.header && in.Lead < in.Start, false
	more := p.add(in)
	for more && p.scan() {
		line := bytes.TrimLeftFunc(p.Src[p.start:p.end], unicode.IsSpace)
		if len(line) > 0 && line[0] != '#' {
			more = p.add(in)
		}
	}
	in.Open = more
	in.split(p.Escape)
	body := p.next
	if err := p.heredocs(in); err != nil {
		return err
	}
	in.Body = string(p.Src[body:p.next])
	in.End = p.next
	p.lead = p.next
	p.Instructions = append(p.Instructions, in)
	if len(p.Instructions) == 1 && !names[in.Name] {
		return &Error{in.Line, "unknown instruction " + quote(in.Name), "is this a Dockerfile?"}
	}
	return in.check()
}

// add appends the current line to the instruction's text, and reports whether
// it ends with a continuation: the escape byte, not doubled, and blanks.
func (p *parser) add(in *Instruction) (more bool) {
	line := p.Src[p.start:p.end]
	if t := bytes.TrimRight(line, " \t"); bytes.HasSuffix(t, []byte{p.Escape}) {
		t = t[:len(t)-1]
		if len(t) == 0 || t[len(t)-1] != p.Escape {
			line, more = t, true
		}
	}
	in.Text += string(line)
	for i := range line {
		in.at = append(in.at, p.start+i)
	}
	return more
}

var directiveLine = regexp.MustCompile(`^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$`)

// directive reports whether the current line is a parser directive, and obeys it.
func (p *parser) directive() (bool, error) {
	if p.directivesDone {
		return false, nil
	}
	m := directiveLine.FindSubmatch(p.Src[p.start:p.end])
	if m == nil {
		p.directivesDone = true
		return false, nil
	}
	key := strings.ToLower(string(m[1]))
	if key != "syntax" && key != "escape" && key != "check" {
		p.directivesDone = true
		return false, nil
	}
	if p.seen[key] {
		return false, p.errorf("a second "+key+" directive", "Docker allows one of each")
	}
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	p.seen[key] = true
	if key == "escape" {
		if v := string(m[2]); v != "`" && v != `\` {
			return false, p.errorf("the escape directive wants ` or \\", "write # escape=`")
		}
		p.Escape = m[2][0]
	}
	return true, nil
}

// split finds the instruction's name, flags and arguments in its text.
func (in *Instruction) split(escape byte) {
	text := in.Text
	start := len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
	end := start + len(strings.TrimRightFunc(text[start:], unicode.IsSpace))
	name := start
	for name < end && !isBlank(text[name]) {
		name++
	}
	in.Name = strings.ToUpper(text[start:name])
	var pos int
	in.Flags, pos = flags(text, name, len(text), escape)
	in.Args = trimmed(text, pos, len(text))
}

// isBlank is what separates words: BuildKit's [\t\v\f\r ].
func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' && c != '\n' }

func trimmed(text string, start, end int) Token {
	s := text[start:end]
	t := strings.TrimLeftFunc(s, unicode.IsSpace)
	start += len(s) - len(t)
	t = strings.TrimRightFunc(t, unicode.IsSpace)
	return Token{t, start, start + len(t)}
}

// flags reads the --name=value words at the beginning of text[pos:end], and
// returns where the arguments begin.
func flags(text string, pos, end int, escape byte) ([]Token, int) {
	var found []Token
	for {
		for pos < end && unicode.IsSpace(rune(text[pos])) {
			pos++
		}
		if !strings.HasPrefix(text[pos:end], "--") {
			return found, pos
		}
		t := Token{Start: pos}
		var word strings.Builder
		var quote byte
		for ; pos < end && (quote != 0 || !unicode.IsSpace(rune(text[pos]))); pos++ {
			switch c := text[pos]; {
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			case c == escape:
				if pos++; pos < end {
					word.WriteRune(rune(text[pos]))
				}
			default:
				word.WriteRune(rune(c)) // BuildKit takes each byte for a character
			}
		}
		pos = min(pos, end)
		if t.Text, t.End = word.String(), pos; t.Text == "--" {
			return found, pos
		}
		found = append(found, t)
	}
}

// Flag returns the flag --name=…, its value, and whether it is there.
func (in *Instruction) Flag(name string) (t Token, value string, ok bool) {
	for _, t := range in.Flags {
		if k, v, _ := strings.Cut(t.Text, "="); k == "--"+name {
			return t, v, true
		}
	}
	return Token{}, "", false
}
