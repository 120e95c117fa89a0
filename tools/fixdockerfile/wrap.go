package main

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	binary     = "healthcheck"
	binaryPath = "/usr/local/bin/healthcheck"
)

// An arg is one word of what a container runs: ENTRYPOINT's words, then CMD's.
type arg struct {
	text string
	cmd  bool // it stands in CMD
}

func texts(args []arg) []string {
	var s []string
	for _, a := range args {
		s = append(s, a.text)
	}
	return s
}

// A wrapper is the healthcheck in front of a command: NAME OPTION... --.
type wrapper struct {
	name    string
	options []option
}

// An option is one word, --json or --timeout=5s, or two.
type option []string

func (o option) name() string {
	name, _, _ := strings.Cut(strings.TrimLeft(o[0], "-"), "=")
	return name
}

func (o option) exports() bool { return o.name() == "export-prom" }

// argv returns the wrapper as the pattern wants it, exporting on addr.
func (w *wrapper) argv(addr string) []string {
	argv := []string{binary}
	if w.name == binaryPath {
		argv[0] = w.name
	}
	if !slices.ContainsFunc(w.options, option.exports) {
		argv = append(argv, "--export-prom", addr)
	}
	for _, o := range w.options {
		flag, _, joined := strings.Cut(o[0], "=")
		switch {
		case !o.exports():
			argv = append(argv, o...)
		case joined:
			argv = append(argv, flag+"="+addr)
		default:
			argv = append(argv, flag, addr)
		}
	}
	return argv
}

// checks reports whether the wrapper has something to check, so that it is of
// use without a command, as a sidecar.
func (w *wrapper) checks() bool {
	return slices.ContainsFunc(w.options, func(o option) bool {
		return slices.Contains([]string{"http", "tcp", "redis", "postgres"}, o.name())
	})
}

// boolOptions are healthcheck's options that take no value.
var boolOptions = []string{"json", "tls-insecure", "signal-group", "version", "help", "h"}

// parseOptions reads healthcheck's own words up to the command: the subcommand
// `serve` of old releases, options, and --, which old scripts leave out. It
// returns how many words that are.
func parseOptions(args []string) (options []option, n int, separated bool) {
	if len(args) > 0 && args[0] == "serve" {
		n = 1
	}
	for n < len(args) && strings.HasPrefix(args[n], "-") && args[n] != "-" {
		if args[n] == "--" {
			return options, n + 1, true
		}
		o := option(args[n : n+1])
		if !strings.Contains(o[0], "=") && !slices.Contains(boolOptions, o.name()) && n+1 < len(args) && args[n+1] != "--" {
			o = args[n : n+2]
		}
		options = append(options, o)
		n += len(o)
	}
	return options, n, false
}

// unwrap takes the healthcheck out of a command line, wherever it stands: in
// front, behind another init, or inside the script of a shell. Where there is
// none, w is nil.
func unwrap(argv []arg) (w *wrapper, command []arg, err error) {
	words := texts(argv)
	for i, word := range words {
		if !startsWrapper(words, i) {
			continue
		}
		options, n, _ := parseOptions(words[i+1:])
		command = slices.Concat(argv[:i], argv[i+1+n:])
		w = &wrapper{word, options}
		if inner, rest, err := unwrap(command); err == nil && inner != nil {
			// wrapped twice: the metrics port would be taken
			w.options = append(w.options, slices.DeleteFunc(inner.options, option.exports)...)
			command = rest
		}
		return w, command, nil
	}
	if i, ok := shellScript(words); ok {
		return unwrapScript(argv[:i], argv[i], argv[i+1:])
	}
	return nil, argv, nil
}

// startsWrapper reports whether words[i] is the healthcheck binary and not,
// say, an application's own program of that name.
func startsWrapper(words []string, i int) bool {
	if i == 0 && (words[i] == binary || words[i] == binaryPath) {
		return true
	}
	options, n, separated := parseOptions(words[i+1:])
	exports := slices.ContainsFunc(options, option.exports)
	serves := n > 0 && words[i+1] == "serve"
	if path.Base(words[i]) != binary {
		return i == 0 && exports && separated // under another name
	}
	return exports || serves || i == 0 && separated
}

// unwrapScript takes the healthcheck out of a shell's script. What is left
// becomes a plain command line where it needs no shell; else it stays a script,
// with exec so that the shell does not stand between the wrapper and the command.
func unwrapScript(shell []arg, script arg, extra []arg) (w *wrapper, command []arg, err error) {
	tokens, err := shellTokens(script.text)
	if err != nil {
		if exporter.MatchString(script.text) {
			return nil, nil, errCut
		}
		return nil, slices.Concat(shell, []arg{script}, extra), nil // the shell's to refuse
	}
	if inner, i := innerShell(tokens, script.cmd); inner != nil {
		w, command, err := unwrapScript(inner[:i], inner[i], slices.Concat(inner[i+1:], extra))
		if w != nil || err != nil {
			return w, command, err
		}
	}
	w, before, after, err := cutWrapper(script.text, tokens)
	if err != nil || w == nil {
		return w, slices.Concat(shell, []arg{script}, extra), err
	}
	if before == "" && len(extra) == 0 && plainShell(texts(shell)) {
		if words, ok := simpleCommand(strings.TrimPrefix(after, "exec ")); ok {
			for _, word := range words {
				command = append(command, arg{word, script.cmd})
			}
			return w, command, nil
		}
	}
	if left, err := shellTokens(after); err == nil && oneCommand(left) {
		after = "exec " + after
	}
	return w, slices.Concat(shell, []arg{{before + after, script.cmd}}, extra), nil
}

// innerShell returns the words of a script that is nothing but `bash -c SCRIPT`,
// and the index of the inner script.
func innerShell(tokens []shellToken, cmd bool) ([]arg, int) {
	var inner []arg
	for _, t := range tokens {
		if t.operator || t.redirect {
			return nil, 0
		}
		inner = append(inner, arg{t.text, cmd})
	}
	if len(inner) > 0 && inner[0].text == "exec" {
		inner = inner[1:]
	}
	if i, ok := shellScript(texts(inner)); ok {
		return inner, i
	}
	return nil, 0
}

var plainFlags = regexp.MustCompile(`^-[eux]*c$`)

// plainShell reports whether a shell started like this adds nothing to the
// command it runs, as a login shell would.
func plainShell(shell []string) bool {
	for _, flag := range shell[1:] {
		if !plainFlags.MatchString(flag) && flag != "-o" && flag != "pipefail" {
			return false
		}
	}
	return true
}

// exporter finds what cutWrapper could not take out of a script.
var exporter = regexp.MustCompile(`\bhealthcheck\s+(serve\b|.*--?export-prom)`)

// cutWrapper takes `healthcheck OPTIONS --` or `healthcheck serve OPTIONS &` out
// of a script and returns what stands before and after it. A healthcheck that
// only probes stays.
func cutWrapper(script string, tokens []shellToken) (w *wrapper, before, after string, err error) {
	for i, t := range tokens {
		if t.operator || path.Base(t.text) != binary || !startsCommand(tokens[:i]) {
			continue
		}
		own := tokens[i+1:]
		if end := slices.IndexFunc(own, func(t shellToken) bool { return t.operator }); end >= 0 {
			own = own[:end]
		}
		next := i + 1 + len(own) // where the command begins
		words := ownWords(own)
		options, n, separated := parseOptions(tokenTexts(words))
		exports := len(words) > 0 && words[0].text == "serve" || slices.ContainsFunc(options, option.exports)
		switch {
		case !exports && !separated:
			continue
		case n < len(words) && !slices.ContainsFunc(own[:n], func(t shellToken) bool { return t.redirect }):
			words, next = words[:n], i+1+n
		case next < len(tokens) && tokens[next].text == "&" && n == len(words):
			next++
		default:
			return nil, "", "", errCut
		}
		if slices.ContainsFunc(words, func(t shellToken) bool { return !t.plain }) ||
			next >= len(tokens) || slices.Contains([]string{")", "}", "done", "fi"}, tokens[next].text) {
			return nil, "", "", errCut
		}
		start := i
		for start > 0 && !tokens[start-1].operator && slices.Contains(runners, tokens[start-1].text) {
			start--
		}
		before, after = script[:tokens[start].start], script[tokens[next].start:]
		if start > 0 && tokens[next-1].text == "&" {
			// What stands in one list with it, `a && healthcheck serve &`, runs in the background too.
			switch connector := tokens[start-1]; connector.text {
			case "&&":
				before = script[:connector.start] + "& "
			case "||", "|":
				return nil, "", "", errCut
			}
		}
		return &wrapper{t.text, options}, before, after, nil
	}
	if exporter.MatchString(script) {
		return nil, "", "", errCut
	}
	return nil, "", "", nil
}

// ownWords returns a command's words without its redirections.
func ownWords(tokens []shellToken) []shellToken {
	var words []shellToken
	for i, t := range tokens {
		if !t.redirect && (i == 0 || !tokens[i-1].redirect) {
			words = append(words, t)
		}
	}
	return words
}

func tokenTexts(tokens []shellToken) []string {
	var s []string
	for _, t := range tokens {
		s = append(s, t.text)
	}
	return s
}

// runners run the command that follows them.
var runners = []string{"exec", "nohup", "command"}

// startsCommand reports whether the word behind these tokens is a command's name.
func startsCommand(tokens []shellToken) bool {
	if len(tokens) == 0 {
		return true
	}
	last := tokens[len(tokens)-1]
	switch {
	case last.operator || slices.Contains([]string{"then", "do", "else", "{", "!"}, last.text):
		return true
	case slices.Contains(runners, last.text) || assignment.MatchString(last.text):
		return startsCommand(tokens[:len(tokens)-1])
	}
	return false
}

var errCut = errors.New("the script starts healthcheck in a way this cannot take apart")

// valid reports whether every word can be put into a JSON array.
func valid(words []string) bool {
	return !slices.ContainsFunc(words, func(s string) bool { return !utf8.ValidString(s) })
}
