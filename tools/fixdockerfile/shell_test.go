package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSimpleCommand(t *testing.T) {
	tests := []struct {
		in   string
		want []string // nil: not simple
	}{
		{`a b  c`, []string{"a", "b", "c"}},
		{` a 'b c' "d e" f\ g `, []string{"a", "b c", "d e", "f g"}},
		{`a "b\"c" 'd\e' "\x" ""`, []string{"a", `b"c`, `d\e`, `\x`, ""}},
		{`a --x='y z' --u=v`, []string{"a", "--x=y z", "--u=v"}},
		{`a '$b' "c'd" '*' a~b`, []string{"a", "$b", "c'd", "*", "a~b"}},
		{`a b\$c`, []string{"a", "b$c"}},
		{`a b#c`, []string{"a", "b#c"}},
		{`gunicorn app:app -b 0.0.0.0:80 -w 4`, []string{"gunicorn", "app:app", "-b", "0.0.0.0:80", "-w", "4"}},
		{`a "é" 日本`, []string{"a", "é", "日本"}},
		{`a $b`, nil}, {`a "$b"`, nil}, {"a `b`", nil}, {`a ${b:-c}`, nil}, {`a $(b c)`, nil},
		{`a | b`, nil}, {`a && b`, nil}, {`a; b`, nil}, {`a &`, nil}, {"a\nb", nil}, {`(a)`, nil},
		{`a > b`, nil}, {`a 2>&1`, nil}, {`a <b`, nil}, {`a &>b`, nil},
		{`a *.py`, nil}, {`a ?`, nil}, {`a [b]`, nil}, {`a {b,c}`, nil}, {`a ~/b`, nil}, {`! a`, nil},
		{`a # b`, nil}, {`# a`, nil}, {`A=b c`, nil}, {`cd a`, nil}, {`exec a`, nil}, {`. a`, nil},
		{`a 'b`, nil}, {`a "b`, nil}, {`a $(b`, nil}, {`a "${b"`, nil}, {``, nil},
	}
	for _, tt := range tests {
		got, ok := simpleCommand(tt.in)
		if ok != (tt.want != nil) || ok && !slices.Equal(got, tt.want) {
			t.Errorf("simpleCommand(%q) = %q, %v, want %q", tt.in, got, ok, tt.want)
		}
	}
}

func TestShellScript(t *testing.T) {
	tests := []struct {
		in   string
		want int // -1: none
	}{
		{"sh -c x", 2},
		{"/bin/bash -lc x", 2},
		{"bash -o pipefail -ec x y", 4},
		{"bash --norc -c x", 3},
		{"bash x -c y", -1},
		{"sh -c", -1},
		{"sh x", -1},
		{"python -c x", -1},
	}
	for _, tt := range tests {
		got, ok := shellScript(strings.Fields(tt.in))
		if !ok {
			got = -1
		}
		if got != tt.want {
			t.Errorf("shellScript(%q) = %d, want %d", tt.in, got, tt.want)
		}
	}
}

func TestParseOptions(t *testing.T) {
	tests := []struct {
		in        string
		options   string
		n         int
		separated bool
	}{
		{"--export-prom :9091 -- a b", "--export-prom :9091", 3, true},
		{"serve --export-prom :9091", "--export-prom :9091", 3, false},
		{"-export-prom=:9091 --json a -- b", "-export-prom=:9091 --json", 2, false},
		{"--tls-insecure --tcp db:1 a", "--tls-insecure --tcp db:1", 3, false},
		{"--wait -- a", "--wait", 2, true},
		{"-- --export-prom", "", 1, true},
		{"--timeout --export-prom a", "--timeout --export-prom", 2, false},
		{"- a", "", 0, false},
		{"a", "", 0, false},
		{"", "", 0, false},
	}
	for _, tt := range tests {
		options, n, separated := parseOptions(strings.Fields(tt.in))
		if got := strings.Join(slices.Concat(options...), " "); got != tt.options || n != tt.n || separated != tt.separated {
			t.Errorf("parseOptions(%q) = %q, %d, %v, want %q, %d, %v", tt.in, got, n, separated, tt.options, tt.n, tt.separated)
		}
	}
}

// Each script is what a shell runs; want is what the pattern runs behind
// the wrapper, "" where the script has none, "error" where it cannot be taken apart.
func TestUnwrapScript(t *testing.T) {
	tests := []struct{ in, want string }{
		{"python app.py", ""},
		{"echo healthcheck", ""},
		{"healthcheck --tcp db:5432 && python app.py", ""},
		{"healthcheck --export-prom :9091 -- python app.py", "python|app.py"},
		{"exec nohup healthcheck --export-prom :9091 -- python app.py", "python|app.py"},
		{"/usr/local/bin/healthcheck --export-prom=:9090 python app.py", "python|app.py"},
		{"healthcheck --export-prom :9091 & exec python app.py", "python|app.py"},
		{"healthcheck serve --export-prom :9091 2>/dev/null & python 'app one.py'", "python|app one.py"},
		{"healthcheck serve & exec python", "python"},
		{"healthcheck serve --export-prom :9091 & python $APP", "sh|-c|exec python $APP"},
		{"healthcheck serve --export-prom :9091 & python a || sleep 9", "sh|-c|python a || sleep 9"},
		{"healthcheck serve --export-prom :9091 & cd /app; exec python a", "sh|-c|cd /app; exec python a"},
		{"cd /app; healthcheck serve --export-prom :9091 & python a", "sh|-c|cd /app; exec python a"},
		{"migrate && healthcheck serve --export-prom :9091 & python a", "sh|-c|migrate & exec python a"},
		{"migrate && exec healthcheck --export-prom :9091 -- python a", "sh|-c|migrate && exec python a"},
		{"if true; then healthcheck --export-prom :9091 -- python a; fi", "sh|-c|if true; then python a; fi"},
		{"bash -c 'healthcheck serve --export-prom :9091 & exec python a'", "python|a"},
		{"exec bash -ec \"healthcheck --export-prom :9091 -- python \\$A\"", "bash|-ec|exec python $A"},
		{"python a & healthcheck serve --export-prom :9091", "error"},
		{"healthcheck serve --export-prom :9091", "error"},
		{"healthcheck serve --export-prom :9091 &", "error"},
		{"(healthcheck serve --export-prom :9091 &) && python a", "error"},
		{"healthcheck --export-prom :9091 && python a", "error"},
		{"healthcheck --export-prom :$PORT -- python a", "error"},
		{"setsid healthcheck --export-prom :9091 -- python a", "error"},
		{"true || healthcheck serve --export-prom :9091 & python a", "error"},
		{"healthcheck --export-prom :9091 -- python 'a", "error"},
		{"python 'a", ""},
	}
	for _, tt := range tests {
		w, rest, err := unwrap([]arg{{"sh", true}, {"-c", true}, {tt.in, true}})
		got := ""
		switch {
		case err != nil:
			got = "error"
		case w != nil:
			got = strings.Join(texts(rest), "|")
		}
		if got != tt.want {
			t.Errorf("unwrap(sh -c %q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
