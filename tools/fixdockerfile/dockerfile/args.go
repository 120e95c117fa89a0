package dockerfile

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// Words returns the arguments split at blanks. Quotes mean nothing here, as in
// FROM, EXPOSE and COPY.
func (in *Instruction) Words() []Token {
	var words []Token
	for i := in.Args.Start; i < in.Args.End; {
		t := Token{Start: i}
		for i < in.Args.End && !isBlank(in.Text[i]) {
			i++
		}
		if t.End = i; t.End > t.Start {
			t.Text = in.Text[t.Start:t.End]
			words = append(words, t)
		}
		for i < in.Args.End && isBlank(in.Text[i]) {
			i++
		}
	}
	return words
}

// Array returns the elements of the arguments' JSON form, each with its quotes
// in Start and End. What is no valid JSON array is not in that form: ok is false.
func (in *Instruction) Array() (elements []Token, ok bool) {
	elements, ok, _ = in.array()
	return elements, ok
}

func (in *Instruction) array() (elements []Token, ok, strings bool) {
	var values []any
	if in.Args.Text == "" || in.Args.Text[0] != '[' || json.Unmarshal([]byte(in.Args.Text), &values) != nil {
		return nil, false, true
	}
	elements = make([]Token, 0, len(values))
	pos := in.Args.Start
	for _, v := range values {
		s, isString := v.(string)
		if !isString {
			return nil, false, false
		}
		for in.Text[pos] != '"' {
			pos++
		}
		t := Token{Text: s, Start: pos}
		for pos++; in.Text[pos] != '"'; pos++ {
			if in.Text[pos] == '\\' {
				pos++
			}
		}
		pos++
		t.End = pos
		elements = append(elements, t)
	}
	return elements, true, true
}

var stageName = regexp.MustCompile(`^[a-z][a-z0-9-_.]*$`)

// minWords is the least number of arguments an instruction takes where that is not none.
var minWords = map[string]int{
	"ADD": 2, "ARG": 1, "CMD": 1, "COPY": 2, "ENTRYPOINT": 1, "ENV": 1, "EXPOSE": 1, "FROM": 1, "HEALTHCHECK": 1,
	"LABEL": 1, "MAINTAINER": 1, "ONBUILD": 1, "SHELL": 1, "STOPSIGNAL": 1, "USER": 1, "VOLUME": 1, "WORKDIR": 1,
}

// jsonForm are the instructions whose arguments may be a JSON array.
var jsonForm = map[string]bool{
	"ADD": true, "CMD": true, "COPY": true, "ENTRYPOINT": true, "RUN": true, "SHELL": true, "VOLUME": true,
}

// check refuses what Docker would not build and what cannot be judged without
// its arguments.
func (in *Instruction) check() error {
	fail := func(what, hint string) error { return &Error{in.Line, what, hint} }
	if !names[in.Name] {
		return fail("unknown instruction "+quote(in.Name), "is the line above it meant to end with a continuation?")
	}
	words := in.Words()
	if jsonForm[in.Name] {
		elements, isArray, ofStrings := in.array()
		if !ofStrings {
			return fail("the JSON array of "+in.Name+" holds something that is no string", "put each element in double quotes")
		}
		if in.Name == "SHELL" && len(elements) == 0 {
			return fail("SHELL wants a JSON array", `write SHELL ["/bin/bash", "-c"]`)
		}
		if isArray {
			words = elements
		}
	}
	if len(words) < minWords[in.Name] && (in.Args.Text == "" || in.Name == "COPY" || in.Name == "ADD") {
		return fail("too few arguments for "+in.Name, "see docs.docker.com/reference/dockerfile")
	}
	switch in.Name {
	case "FROM":
		if len(words) != 1 && (len(words) != 3 || !strings.EqualFold(words[1].Text, "as")) {
			return fail("FROM wants one argument, or three", "write FROM IMAGE or FROM IMAGE AS NAME")
		}
		if len(words) == 3 && !stageName.MatchString(strings.ToLower(words[2].Text)) {
			return fail("no name for a stage: "+quote(words[2].Text), "a stage's name is a letter, then letters, digits, - _ and .")
		}
	case "CMD", "ENTRYPOINT":
		if len(in.Flags) > 0 {
			return fail(in.Name+" takes no flags, Docker refuses "+quote(in.Flags[0].Text), "use the exec form, a JSON array")
		}
	}
	return nil
}

// quote shows a word from the file in an error, cut to a length that fits a line.
func quote(s string) string {
	const most = 40 // bytes
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}
