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
		w = &wrapper{word, options}
		inner, rest, err := unwrap(slices.Concat(argv[:i], argv[i+1+n:]))
		if inner != nil {
			// wrapped twice: the metrics port would be taken
			w.options = append(w.options, slices.DeleteFunc(inner.options, option.exports)...)
		}
		return w, rest, err
	}
	command = argv
	if i, ok := shellScript(words); ok {
		w, command, err = unwrapScript(argv[:i], argv[i], argv[i+1:])
	}
	if err == nil && slices.ContainsFunc(texts(command), exporter.MatchString) {
		err = errCut
	}
	return w, command, err
}

// startsWrapper reports whether words[i] is the healthcheck binary and not,
// say, an application's own program of that name.
func startsWrapper(words []string, i int) bool {
	if i == 0 && isBinary(words[i]) {
		return true
	}
	options, _, separated := parseOptions(words[i+1:])
	exports := slices.ContainsFunc(options, option.exports)
	if path.Base(words[i]) != binary {
		return i == 0 && exports && separated // under another name
	}
	return exports || i == 0 && separated
}

func isBinary(name string) bool { return name == binary || name == binaryPath }

// unwrapScript takes the healthcheck out of a shell's script. What is left
// becomes a plain command line where it needs no shell; else it stays a script,
// with exec so that the shell does not stand between the wrapper and the command.
func unwrapScript(shell []arg, script arg, extra []arg) (w *wrapper, command []arg, err error) {
	alone := len(extra) == 0 && plainShell(texts(shell))
	if inner, i := innerShell(script); inner != nil && alone {
		w, command, err := unwrapScript(inner[:i], inner[i], inner[i+1:])
		if w != nil || err != nil {
			return w, command, err
		}
	}
	c, err := cutScript(script.text)
	if err != nil || c == nil {
		return nil, slices.Concat(shell, []arg{script}, extra), err
	}
	left := execLast(c.of(script.text))
	if words, ok := simpleCommand(strings.TrimPrefix(left, "exec ")); ok && alone {
		for _, word := range words {
			command = append(command, arg{word, script.cmd})
		}
		return c.wrapper, command, nil
	}
	return c.wrapper, slices.Concat(shell, []arg{{left, script.cmd}}, extra), nil
}

// innerShell returns the words of a script that is nothing but `bash -c SCRIPT`,
// none of which the outer shell changes, and the index of the inner script.
func innerShell(script arg) ([]arg, int) {
	words, ok := simpleCommand(strings.TrimPrefix(script.text, "exec "))
	if !ok {
		return nil, 0
	}
	i, ok := shellScript(words)
	if !ok || !slices.Contains(shells, path.Base(words[0])) {
		return nil, 0
	}
	var inner []arg
	for _, word := range words {
		inner = append(inner, arg{word, script.cmd})
	}
	return inner, i
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

// exporter finds what cutScript could not take out of a script.
var exporter = regexp.MustCompile(`healthcheck(?s:.*)[\s"']--?export-prom`)

// A cut takes the wrapper out of a script: put comes in the place of script[start:end].
type cut struct {
	*wrapper
	start, end int
	put        string
	execs      bool // exec stood in it
}

func (c *cut) of(script string) string { return script[:c.start] + c.put + script[c.end:] }

// cutScript finds the cut in a script, or in that of another shell which it
// starts. The outer shell stays there: what it expands, the inner one does not see.
func cutScript(script string) (*cut, error) {
	tokens, err := shellTokens(script)
	if err == nil && !slices.ContainsFunc(tokens, isHeredoc) {
		if c, err := cutWrapper(script, tokens); c != nil || err != nil {
			return c, err
		}
		for i, t := range tokens {
			text, at, ok := quoted(script, t)
			if !ok || !isScript(tokens[:i+1]) {
				continue
			}
			c, err := cutScript(text)
			if c != nil {
				c.start, c.end = at[c.start], at[c.end]
			}
			if c != nil || err != nil {
				return c, err
			}
		}
	}
	if exporter.MatchString(script) {
		return nil, errCut
	}
	return nil, nil // what does not parse is the shell's to refuse
}

func isHeredoc(t shellToken) bool {
	return t.redirect && strings.HasSuffix(strings.TrimSuffix(t.text, "-"), "<<")
}

// isScript reports whether the last token is the script of a shell.
func isScript(tokens []shellToken) bool {
	start := len(tokens)
	for start > 0 && !tokens[start-1].operator {
		start--
	}
	i, ok := shellScript(tokenTexts(tokens[start:]))
	return ok && start+i == len(tokens)-1
}

// own are variables that healthcheck reads: in front of the script it has them no more.
var own = regexp.MustCompile(`\bHEALTHCHECK_\w+=`)

// job finds a script's other uses of a command in the background.
var job = regexp.MustCompile(`\$!|\$\{!|\b(kill|wait|fg|bg|disown)\s+%`)

// cutWrapper finds `healthcheck OPTIONS --` or `healthcheck serve OPTIONS &` in
// a script. A healthcheck that only probes stays.
func cutWrapper(script string, tokens []shellToken) (*cut, error) {
	for i, t := range tokens {
		if t.operator || path.Base(t.text) != binary || !startsCommand(tokens[:i]) {
			continue
		}
		line := tokens[i+1:]
		if end := slices.IndexFunc(line, func(t shellToken) bool { return t.operator }); end >= 0 {
			line = line[:end]
		}
		next := i + 1 + len(line) // where the command begins
		words := ownWords(line)
		options, n, separated := parseOptions(tokenTexts(words))
		serves := isBinary(t.text) && len(words) > 0 && words[0].text == "serve"
		background := false
		switch {
		case !serves && !separated && !slices.ContainsFunc(options, option.exports):
			continue
		case n < len(words) && !slices.ContainsFunc(line[:n], func(t shellToken) bool { return t.redirect }):
			words, next = words[:n], i+1+n
		case next < len(tokens) && tokens[next].text == "&" && n == len(words):
			background = true
			for next++; next < len(tokens) && tokens[next].text == "\n"; {
				next++
			}
		default:
			return nil, errCut
		}
		if slices.ContainsFunc(words, func(t shellToken) bool { return !t.plain }) || own.MatchString(script) ||
			next >= len(tokens) || slices.Contains([]string{")", "}", "done", "elif", "else", "esac", "fi"}, tokens[next].text) ||
			background && launcher(tokens[:i]) > 0 || background && job.MatchString(script[tokens[next].start:firstJob(script, tokens[next:])]) {
			return nil, errCut
		}
		c := &cut{wrapper: &wrapper{t.text, options}, end: tokens[next].start}
		start := i
		for start > 0 && !tokens[start-1].operator {
			word := tokens[start-1].text
			if !slices.Contains(runners, word) && !(background && assignment.MatchString(word)) {
				break
			}
			c.execs = c.execs || word == "exec" && !background
			start--
		}
		c.start = tokens[start].start
		if c.execs {
			c.put = "exec "
		}
		if start > 0 && background {
			// What stands in one list with it, `a && healthcheck serve &`, runs in the background too.
			switch connector := tokens[start-1]; connector.text {
			case "&&":
				c.start, c.put = connector.start, "& "+c.put
			case "||", "|":
				return nil, errCut
			}
		}
		return c, nil
	}
	return nil, nil
}

// firstJob returns where the tokens put another command into the background:
// what is said of a job behind that is said of it.
func firstJob(script string, tokens []shellToken) int {
	for _, t := range tokens {
		if t.text == "&" && t.operator {
			return t.start
		}
	}
	return len(script)
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

var launchers = regexp.MustCompile(`(^| )(\S*/)?((tini|dumb-init)( -\S+)*|(gosu|su-exec) \w\S*)$`)

// launcher returns how many words at the end are a program that runs the command
// behind them, `tini --` or `gosu app`. Such a program stays where it is.
func launcher(tokens []shellToken) int {
	start := len(tokens)
	for start > 0 && !tokens[start-1].operator && tokens[start-1].plain && !strings.ContainsAny(tokens[start-1].text, " \t\n") {
		start--
	}
	return len(strings.Fields(launchers.FindString(strings.Join(tokenTexts(tokens[start:]), " "))))
}

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
	n := launcher(tokens)
	return n > 0 && startsCommand(tokens[:len(tokens)-n])
}

var errCut = errors.New("the script starts healthcheck in a way this cannot take apart")

// valid reports whether every word can be put into a JSON array.
func valid(words []string) bool {
	return !slices.ContainsFunc(words, func(s string) bool { return !utf8.ValidString(s) })
}
