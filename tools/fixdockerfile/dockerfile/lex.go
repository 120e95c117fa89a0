package dockerfile

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// heredocs passes over the bodies of the instruction's here-documents. Docker
// looks for them in ADD, COPY and RUN, also behind ONBUILD, unless the
// arguments are a JSON array.
func (p *parser) heredocs(in *Instruction) error {
	inner := in
	if in.Name == "ONBUILD" {
		inner = &Instruction{Text: in.Args.Text}
		inner.split(p.Escape)
	}
	if inner.Name != "ADD" && inner.Name != "COPY" && inner.Name != "RUN" || !strings.Contains(in.Text, "<<") {
		return nil
	}
	if _, isArray := inner.Array(); isArray {
		return nil
	}
	words, err := lexWords(in.Text)
	if err != nil {
		return nil // as BuildKit: a line it cannot split holds no here-document
	}
	for _, word := range words {
		name, tabs, ok := heredoc(word)
		if !ok {
			continue
		}
		in.Heredocs = append(in.Heredocs, name)
		for found := false; !found; {
			if !p.scan() {
				return &Error{in.Line, "the here-document " + quote(name) + " never ends", "a line must hold its name and nothing else"}
			}
			line := p.Src[p.start:p.end]
			if tabs {
				line = bytes.TrimLeft(line, "\t")
			}
			found = string(line) == name
		}
	}
	return nil
}

var heredocWord = regexp.MustCompile(`^\d*<<(-?)\s*([^<]*)$`)

// heredoc returns the terminator of the here-document that word begins, and
// whether leading tabs are dropped.
func heredoc(word string) (name string, tabs, ok bool) {
	m := heredocWord.FindStringSubmatch(word)
	if m == nil || m[2] == "" {
		return "", false, false
	}
	l := lexer{s: m[2], escape: '\\'}
	words, err := l.words()
	if err != nil || len(words) != 1 {
		return "", false, false
	}
	return words[0], m[1] == "-", true
}

// lexWords splits a line as BuildKit's shell.Lex does when it looks for
// here-documents: quotes and escapes kept, variables left as they are.
func lexWords(line string) ([]string, error) {
	l := lexer{s: line, escape: '\\', raw: true}
	return l.words()
}

// Expand returns a word without its quotes and escapes, and with $NAME, ${NAME}
// and ${NAME:-WORD}, - + :+ filled in from lookup, as Docker does for most
// instructions. ok is false where a variable is not known, or a substitution is
// of another kind.
func (f *File) Expand(word string, lookup func(string) (string, bool)) (value string, ok bool) {
	l := lexer{s: word, escape: f.Escape, lookup: lookup}
	value, err := l.until(0)
	return value, err == nil
}

// Assignments returns the NAME=VALUE pairs of an ARG or ENV with the values not
// expanded. A lone NAME, as ARG allows, has given false.
func (f *File) Assignments(in *Instruction) []Assignment {
	var found []Assignment
	words := f.quotedWords(in.Args.Text)
	if in.Name == "ENV" && len(words) > 0 && !strings.Contains(words[0], "=") {
		name, value, _ := strings.Cut(strings.Map(func(r rune) rune {
			if r < utf8.RuneSelf && isBlank(byte(r)) {
				return ' '
			}
			return r
		}, in.Args.Text), " ")
		return []Assignment{{name, strings.TrimSpace(value), true}}
	}
	for _, word := range words {
		name, value, given := strings.Cut(word, "=")
		found = append(found, Assignment{name, value, given})
	}
	return found
}

// An Assignment is one name in an ARG or ENV.
type Assignment struct {
	Name, Value string
	Given       bool
}

// quotedWords splits at blanks outside quotes, and keeps quotes and escapes.
func (f *File) quotedWords(s string) []string {
	var words []string
	var quote byte
	start := -1
	for i := 0; i < len(s); i++ {
		c := s[i]
		if quote == 0 && unicode.IsSpace(rune(c)) {
			if start >= 0 {
				words, start = append(words, s[start:i]), -1
			}
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case c == f.Escape && quote != '\'':
			i++
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
	}
	if start >= 0 {
		words = append(words, s[start:])
	}
	return words
}

var errSyntax = errors.New("syntax error")

// A lexer reads shell-like words: BuildKit's frontend/dockerfile/shell/lex.go.
// Without lookup, variables stay as they are written.
type lexer struct {
	s      string
	pos    int
	escape byte
	raw    bool // quotes and escapes stay in the words
	lookup func(string) (string, bool)

	found []string
	word  string
}

func (l *lexer) words() ([]string, error) {
	if _, err := l.until(0); err != nil {
		return nil, err
	}
	if l.word != "" {
		l.found = append(l.found, l.word)
	}
	return l.found, nil
}

// until reads up to the byte stop, or to the end where stop is 0, and returns
// what it read as one word, beside splitting it into l.found.
func (l *lexer) until(stop byte) (string, error) {
	var all strings.Builder
	put := func(s string) {
		all.WriteString(s)
		l.word += s
	}
	for l.pos < len(l.s) {
		c := l.s[l.pos]
		if stop != 0 && c == stop {
			l.pos++
			return all.String(), nil
		}
		switch {
		case c == '\'' || c == '"':
			s, err := l.quoted(c)
			if err != nil {
				return "", err
			}
			put(s)
		case c == '$':
			s, err := l.dollar()
			if err != nil {
				return "", err
			}
			put(s)
		case strings.HasPrefix(l.s[l.pos:], "<<"):
			// blanks may stand between << and the terminator
			rest := strings.TrimLeft(l.s[l.pos+2:], "\t\r\n ")
			put(l.s[l.pos : len(l.s)-len(rest)])
			l.pos = len(l.s) - len(rest)
		case c == l.escape:
			if l.raw {
				put(string(c))
			}
			if l.pos++; l.pos < len(l.s) {
				_, n := utf8.DecodeRuneInString(l.s[l.pos:])
				put(l.s[l.pos : l.pos+n])
				l.pos += n
			}
		default:
			r, n := utf8.DecodeRuneInString(l.s[l.pos:])
			s := l.s[l.pos : l.pos+n]
			l.pos += n
			all.WriteString(s)
			if !unicode.IsSpace(r) {
				l.word += s
			} else if l.word != "" {
				l.found, l.word = append(l.found, l.word), ""
			}
		}
	}
	if stop != 0 {
		return "", errSyntax
	}
	return all.String(), nil
}

func (l *lexer) quoted(quote byte) (string, error) {
	var s strings.Builder
	if l.raw {
		s.WriteByte(quote)
	}
	for l.pos++; l.pos < len(l.s); l.pos++ {
		c := l.s[l.pos]
		switch {
		case c == quote:
			l.pos++
			if l.raw {
				s.WriteByte(quote)
			}
			return s.String(), nil
		case quote == '"' && c == '$':
			v, err := l.dollar()
			if err != nil {
				return "", err
			}
			s.WriteString(v)
			l.pos--
			continue
		case quote == '"' && c == l.escape && l.pos+1 < len(l.s):
			if n := l.s[l.pos+1]; n == '"' || n == '$' || n == l.escape {
				if l.raw {
					s.WriteByte(c)
				}
				l.pos++
				c = n
			}
		}
		s.WriteByte(c)
	}
	return "", errSyntax
}

// dollar reads a variable. The lexer stands at the $.
func (l *lexer) dollar() (string, error) {
	start := l.pos
	l.pos++
	if !strings.HasPrefix(l.s[l.pos:], "{") {
		name := l.name()
		if name == "" || l.lookup == nil {
			return l.s[start:l.pos], nil
		}
		return l.value(name)
	}
	l.pos++
	if l.pos == len(l.s) || strings.IndexByte("{}:", l.s[l.pos]) >= 0 {
		return "", errSyntax
	}
	// what is read inside the braces is no word of the line
	defer func(found []string, word string) { l.found, l.word = found, word }(l.found, l.word)
	name := l.name()
	rest := l.s[l.pos:]
	op := rest[:min(1, len(rest))]
	if op == ":" {
		op = rest[:min(2, len(rest))]
	}
	l.pos += len(op)
	var word string
	var err error
	switch op {
	case "}":
		if l.lookup == nil {
			return l.s[start:l.pos], nil
		}
		return l.value(name)
	case "-", "+", "?", "#", "%", ":-", ":+", ":?":
		word, err = l.until('}')
	case "/":
		l.pos += len(rest[1:]) - len(strings.TrimPrefix(rest[1:], "/"))
		if _, err = l.until('/'); err == nil {
			_, err = l.until('}')
		}
	default:
		err = errSyntax
	}
	if err != nil || l.lookup == nil {
		return l.s[start:l.pos], err
	}
	value, set := l.lookup(name)
	if op[0] == ':' && value == "" {
		set = false
	}
	switch strings.TrimPrefix(op, ":") {
	case "-":
		if !set {
			value = word
		}
		return value, nil
	case "+":
		if !set {
			word = ""
		}
		return word, nil
	}
	return "", errSyntax
}

func (l *lexer) value(name string) (string, error) {
	if v, ok := l.lookup(name); ok {
		return v, nil
	}
	return "", errSyntax
}

// name reads a variable's name: letters, digits and _, or digits alone, or one
// of the special parameters.
func (l *lexer) name() string {
	start := l.pos
	if l.pos < len(l.s) && strings.IndexByte("@*#?-$!", l.s[l.pos]) >= 0 {
		l.pos++
		return l.s[start:l.pos]
	}
	digits := l.pos < len(l.s) && '0' <= l.s[l.pos] && l.s[l.pos] <= '9'
	for l.pos < len(l.s) {
		r, n := utf8.DecodeRuneInString(l.s[l.pos:])
		if digits && !unicode.IsDigit(r) || r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		l.pos += n
	}
	return l.s[start:l.pos]
}
