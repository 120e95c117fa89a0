package main

import (
	"path"
	"slices"
)

// withExec returns a command line that starts with a shell with exec where execLast
// puts it. Without, a TERM passed on would end a shell like dash, and the service
// with it unasked.
func withExec(argv []arg) []arg {
	words := texts(argv)
	if len(words) == 0 || !slices.Contains(shells, path.Base(words[0])) {
		return argv
	}
	i, ok := scriptBehind(words[1:])
	if !ok {
		return argv
	}
	argv = slices.Clone(argv)
	argv[i+1].text = execLast(argv[i+1].text)
	return argv
}

// execLast puts exec before the last command of a script, and of another shell's
// that it starts, where that is sure to change no more than who gets the signals.
func execLast(script string) string {
	for _, at := range slices.Backward(execPlaces(script)) {
		script = script[:at] + "exec " + script[at:]
	}
	return script
}

// opaque are the words behind which a name may be a function or an alias, or behind
// which something is to happen when the shell ends.
var opaque = []string{".", "[[", "alias", "coproc", "eval", "function", "source", "trap"}

// inShell are commands that a shell has and an image may lack.
var inShell = []string{"[", "echo", "false", "kill", "printf", "pwd", "test", "true"}

func execPlaces(script string) (places []int) {
	tokens, err := shellTokens(script)
	if err != nil || slices.ContainsFunc(tokens, func(t shellToken) bool {
		return isHeredoc(t) || t.operator && slices.Contains([]string{"(", ")", ";;"}, t.text) || slices.Contains(opaque, t.text)
	}) {
		return nil
	}
	for len(tokens) > 0 && (tokens[len(tokens)-1].text == ";" || tokens[len(tokens)-1].text == "\n") {
		tokens = tokens[:len(tokens)-1]
	}
	last := len(tokens)
	for last > 0 && !tokens[last-1].operator {
		last--
	}
	command := tokens[last:]
	for len(command) > 0 && assignment.MatchString(command[0].text) {
		command = command[1:]
	}
	switch {
	case last > 0 && tokens[last-1].text == "|" || len(command) == 0:
		return nil
	case command[0].text == "exec":
	case oneCommand(command) && command[0].plain && !slices.Contains(inShell, command[0].text):
		places = append(places, command[0].start)
	default:
		return nil
	}
	for i, t := range command {
		if text, at, ok := quoted(script, t); ok && t.plain && isScript(command[:i+1]) {
			for _, place := range execPlaces(text) {
				places = append(places, at[place])
			}
		}
	}
	return places
}
