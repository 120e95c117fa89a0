package main

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A shellToken is a word or an operator of a shell script, split as POSIX says
// (Shell Command Language, 2.3), without looking into expansions.
type shellToken struct {
	text       string // of a word: without its quotes
	start, end int    // in the script
	operator   bool   // ; & | && || ( ) and newlines
	redirect   bool   // > < and their kin, with a digit before them
	plain      bool   // the word means the same without a shell
}

var errScript = errors.New("quotes or parentheses that do not close")

// shellOperators in the order they are tried.
var shellOperators = []string{";;", "&&", "||", "&>>", "&>", ";", "&", "|", "(", ")", "\n"}

var shellRedirect = regexp.MustCompile(`^[0-9]*(>>|>&|>\||<<<|<<-?|<&|<>|>|<)`)

// shellTokens splits a script.
func shellTokens(script string) ([]shellToken, error) {
	var tokens []shellToken
scan:
	for i := 0; i < len(script); {
		switch {
		case script[i] == ' ' || script[i] == '\t':
			i++
			continue
		case strings.HasPrefix(script[i:], "\\\n"): // 2.2.1: no such thing
			i += 2
			continue
		case script[i] == '#':
			// the comment stays one word that is not plain
			n := strings.IndexByte(script[i:]+"\n", '\n')
			tokens = append(tokens, shellToken{text: script[i : i+n], start: i, end: i + n})
			i += n
			continue
		}
		for _, op := range shellOperators {
			if strings.HasPrefix(script[i:], op) {
				t := shellToken{text: op, start: i, end: i + len(op)}
				t.redirect = strings.HasPrefix(op, "&>")
				t.operator = !t.redirect
				tokens = append(tokens, t)
				i += len(op)
				continue scan
			}
		}
		if op := shellRedirect.FindString(script[i:]); op != "" {
			tokens = append(tokens, shellToken{text: op, start: i, end: i + len(op), redirect: true})
			i += len(op)
			continue
		}
		t, err := shellWord(script, i)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		i = t.end
	}
	return tokens, nil
}

// shellWord reads the word that begins at script[i].
func shellWord(script string, i int) (shellToken, error) {
	t := shellToken{start: i, plain: true}
	var word strings.Builder
	for i < len(script) && strings.IndexByte(" \t\n;&|<>()", script[i]) < 0 {
		switch c := script[i]; c {
		case '\'':
			n := strings.IndexByte(script[i+1:], '\'')
			if n < 0 {
				return t, errScript
			}
			word.WriteString(script[i+1 : i+1+n])
			i += n + 2
		case '"':
			for i++; ; i++ {
				if i >= len(script) {
					return t, errScript
				}
				if script[i] == '"' {
					break
				}
				switch script[i] {
				case '\\':
					if strings.HasPrefix(script[i:], "\\\n") {
						i++
						continue
					}
					if i+1 < len(script) && strings.IndexByte("$`\"\\", script[i+1]) >= 0 {
						i++
					}
				case '$', '`':
					t.plain = false
					n, err := shellExpansion(script[i:])
					if err != nil {
						return t, err
					}
					word.WriteString(script[i : i+n-1])
					i += n - 1
				}
				word.WriteByte(script[i])
			}
			i++
		case '\\':
			if i++; i < len(script) {
				if script[i] != '\n' {
					word.WriteByte(script[i])
				}
				i++
			}
		case '$', '`':
			t.plain = false
			n, err := shellExpansion(script[i:])
			if err != nil {
				return t, err
			}
			word.WriteString(script[i : i+n])
			i += n
		default:
			if strings.IndexByte("*?[]{}", c) >= 0 || strings.IndexByte("~!", c) >= 0 && i == t.start {
				t.plain = false
			}
			word.WriteByte(c)
			i++
		}
	}
	t.text, t.end = word.String(), i
	return t, nil
}

// quoted returns what stands in a word that is one quoted string, and where in
// the script each byte of it does, the closing quote included.
func quoted(script string, t shellToken) (text string, at []int, ok bool) {
	if t.operator || t.end-t.start < 2 || strings.IndexByte(`'"`, script[t.start]) < 0 {
		return "", nil, false
	}
	quote := script[t.start]
	var b strings.Builder
	for i := t.start + 1; i < t.end; i++ {
		from, n := i, 1
		switch c := script[i]; {
		case c == quote:
			return b.String(), append(at, i), i == t.end-1
		case quote == '"' && c == '\\' && script[i+1] == '\n':
			i++
			continue
		case quote == '"' && c == '\\' && strings.IndexByte("$`\"\\", script[i+1]) >= 0:
			i++
		case quote == '"' && (c == '$' || c == '`'):
			n, _ = shellExpansion(script[i:])
		}
		for k := range n {
			at = append(at, from+k)
		}
		b.WriteString(script[i : i+n])
		i += n - 1
	}
	return "", nil, false
}

// shellExpansion returns the length of the $NAME, ${…}, $(…) or `…` that s begins with.
func shellExpansion(s string) (int, error) {
	if s[0] == '`' {
		n := strings.IndexByte(s[1:], '`')
		if n < 0 {
			return 0, errScript
		}
		return n + 2, nil
	}
	pairs := map[byte]byte{'(': ')', '{': '}'}
	if len(s) < 2 || pairs[s[1]] == 0 {
		return 1, nil
	}
	depth := 0
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			n := strings.IndexByte(s[i+1:], '\'')
			if n < 0 {
				return 0, errScript
			}
			i += n + 1
		case s[1]:
			depth++
		case pairs[s[1]]:
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
	}
	return 0, errScript
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\+?=`)

// shellOwn are the words that only a shell can run.
var shellOwn = strings.Fields(`. : alias bg break builtin caller case cd chdir command compgen continue coproc declare dirs disown do
	done elif else enable esac eval exec exit export fg fi for function getopts hash help history if in jobs let local mapfile popd
	pushd read readarray readonly return select set shift shopt source suspend then time times trap type typeset ulimit umask
	unalias unset until wait while`)

// simpleCommand returns a script's words where they need no shell: `a 'b c'`
// is [a, b c]; with a variable, a glob, an operator or a redirection it is not simple.
func simpleCommand(script string) (words []string, ok bool) {
	tokens, err := shellTokens(script)
	if err != nil || !oneCommand(tokens) {
		return nil, false
	}
	for _, t := range tokens {
		if t.redirect || !t.plain {
			return nil, false
		}
		words = append(words, t.text)
	}
	return words, true
}

// oneCommand reports whether the tokens are one program with its arguments, so
// that exec may be put before it.
func oneCommand(tokens []shellToken) bool {
	if len(tokens) == 0 || tokens[0].redirect || assignment.MatchString(tokens[0].text) || slices.Contains(shellOwn, tokens[0].text) {
		return false
	}
	first := tokens[0].text
	return !strings.HasPrefix(first, "#") && !slices.Contains([]string{"{", "}", "!", "[["}, first) &&
		!slices.ContainsFunc(tokens, func(t shellToken) bool { return t.operator })
}

var shells = []string{"sh", "bash", "ash", "dash", "ksh", "zsh"}

// shellScript finds the script in a command line like bash -c SCRIPT, also
// behind other programs, and returns its index.
func shellScript(argv []string) (int, bool) {
	for i, word := range argv {
		if n, ok := scriptBehind(argv[i+1:]); ok && slices.Contains(shells, path.Base(word)) {
			return i + 1 + n, true
		}
	}
	return 0, false
}

// scriptBehind finds the script among the words behind a shell's name.
func scriptBehind(args []string) (int, bool) {
	for i, arg := range args[:max(0, len(args)-1)] {
		switch {
		case !strings.HasPrefix(arg, "-") && arg != "pipefail" && arg != "errexit" && arg != "nounset":
			return 0, false
		case !strings.HasPrefix(arg, "--") && strings.HasSuffix(arg, "c"):
			return i + 1, true
		}
	}
	return 0, false
}
