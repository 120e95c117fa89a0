package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// exec comes before what a shell would only wait for, and nowhere where it would cut a script off or mean nothing.
func TestWithExec(t *testing.T) {
	for script, want := range map[string]string{
		`uvicorn app:app --port ${PORT:-8080}`: `exec uvicorn app:app --port ${PORT:-8080}`,
		`uvicorn app:app # why`:                `exec uvicorn app:app # why`,
		`a && b;`:                              `a && exec b;`,
		"set -e\na\nb\n":                       "set -e\na\nexec b\n",
		`worker & web`:                         `worker & exec web`,
		`if a; then b; fi; c`:                  `if a; then b; fi; exec c`,
		`exec a`:                               `exec a`,
		`a; exec b`:                            `a; exec b`,
		`a | b`:                                `a | b`,
		`a &`:                                  `a &`,
		`(a; b)`:                               `(a; b)`,
		`if a; then b; fi`:                     `if a; then b; fi`,
		`while a; do b; done`:                  `while a; do b; done`,
		`trap x EXIT; a`:                       `trap x EXIT; a`,
		`a & wait`:                             `a & wait`,
		`$COMMAND`:                             `$COMMAND`,
		`A=b c`:                                `A=b exec c`,
		`case $A in a) b;; *) c;; esac`:        `case $A in a) b;; *) c;; esac`,
		`f() { a; }; f b`:                      `f() { a; }; f b`,
		`. /nvm.sh; nvm run 20`:                `. /nvm.sh; nvm run 20`,
		`eval "$X"; a`:                         `eval "$X"; a`,
		"alias a=b\na":                         "alias a=b\na",
		`set -m; a & b; fg %1`:                 `set -m; a & b; fg %1`,
		`a <(b) --port 80`:                     `a <(b) --port 80`,
		`[[ a = a && b = b ]]`:                 `[[ a = a && b = b ]]`,
		`a; echo done`:                         `a; echo done`,
		`dash -c "cd /x && a"`:                 `exec dash -c "cd /x && exec a"`,
		`a; env B=1 sh -c 'c; d'`:              `a; exec env B=1 sh -c 'c; exec d'`,
		`sh -c "a $B"`:                         `exec sh -c "a $B"`,
		`cd x`:                                 `cd x`,
		"cat <<E\na\nE\n":                      "cat <<E\na\nE\n",
		`a "`:                                  `a "`,
		``:                                     ``,
	} {
		for _, shell := range [][]string{{"/bin/sh", "-c"}, {"/bin/bash", "-o", "pipefail", "-c"}, {"pwsh", "-Command"}} {
			want := want
			if shell[0] == "pwsh" {
				want = script
			}
			var argv []arg
			for _, word := range append(slices.Clone(shell), script) {
				argv = append(argv, arg{word, true})
			}
			if got := texts(withExec(argv)); got[len(got)-1] != want {
				t.Errorf("withExec(%q) = %q, want %q", texts(argv), got, want)
			}
		}
	}
}

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
		{"healthcheck serve --export-prom :9091 & python a || sleep 9", "sh|-c|python a || exec sleep 9"},
		{"healthcheck serve --export-prom :9091 & cd /app; exec python a", "sh|-c|cd /app; exec python a"},
		{"cd /app; healthcheck serve --export-prom :9091 & python a", "sh|-c|cd /app; exec python a"},
		{"migrate && healthcheck serve --export-prom :9091 & python a", "sh|-c|migrate & exec python a"},
		{"migrate && exec healthcheck --export-prom :9091 -- python a", "sh|-c|migrate && exec python a"},
		{"if true; then healthcheck --export-prom :9091 -- python a; fi", "sh|-c|if true; then python a; fi"},
		{"bash -c 'healthcheck serve --export-prom :9091 & exec python a'", "python|a"},
		{"exec bash -ec \"healthcheck --export-prom :9091 -- python \\$A\"", "bash|-ec|exec python $A"},
		{"if true; then exec healthcheck --export-prom :9091 -- python a; fi; python b", "sh|-c|if true; then exec python a; fi; exec python b"},
		{"[ -n \"$M\" ] && exec healthcheck --export-prom :9091 -- app || exec app", "sh|-c|[ -n \"$M\" ] && exec app || exec app"},
		{"exec healthcheck --export-prom :9091 -- app; echo never", "sh|-c|exec app; echo never"},
		{"case $M in 1) exec healthcheck --export-prom :9091 -- app;; esac", "sh|-c|case $M in 1) exec app;; esac"},
		{"A=1 exec healthcheck --export-prom :9091 -- app $X", "sh|-c|A=1 exec app $X"},
		{"! healthcheck --export-prom :9091 -- app", "sh|-c|! app"},
		{"PORT=9091 healthcheck serve --export-prom :9091 & exec app $PORT", "sh|-c|exec app $PORT"},
		{"PORT=9091 healthcheck --export-prom :9091 -- app", "sh|-c|PORT=9091 exec app"},
		{"healthcheck --export-prom :9091 -- \\\n  app \"a\\\nb\" c\\\nd", "app|ab|cd"},
		{"healthcheck serve --export-prom :9091 &\nexec app", "app"},
		{"sh -c \"healthcheck --export-prom :9091 -- app '$A'\"", "sh|-c|exec sh -c \"app '$A'\""},
		{"sh -c \"healthcheck serve --export-prom :9091 & $A\"", "sh|-c|exec sh -c \"$A\""},
		{"sh -c \"healthcheck serve --export-prom :9091 & exec app $A\"", "sh|-c|exec sh -c \"exec app $A\""},
		{"sh -c \"migrate \\\"$A\\\" && healthcheck --export-prom :9091 -- app \\\\$A\"", "sh|-c|exec sh -c \"migrate \\\"$A\\\" && app \\\\$A\""},
		{"sh -c 'healthcheck --export-prom :9091 -- app $0' \"$A\"", "sh|-c|exec sh -c 'exec app $0' \"$A\""},
		{"gosu app sh -c 'healthcheck --export-prom :9091 -- app'", "gosu|app|sh|-c|exec app"},
		{"tini -- healthcheck --export-prom :9091 -- app", "tini|--|app"},
		{"exec /sbin/tini -g -- gosu app:1 healthcheck --export-prom :9091 -- app $X", "sh|-c|exec /sbin/tini -g -- gosu app:1 app $X"},
		{"migrate && gosu app healthcheck --export-prom :9091 -- app", "sh|-c|migrate && exec gosu app app"},
		{"echo gosu app healthcheck --export-prom :9091 -- app", "error"},
		{"gosu app healthcheck serve --export-prom :9091 & exec app", "error"},
		{"gosu $U healthcheck --export-prom :9091 -- app", "error"},
		{"migrate; A=1 sh -c 'healthcheck serve --export-prom :9091 & exec app' | tee log", "sh|-c|migrate; A=1 sh -c 'exec app' | tee log"},
		{"healthcheck serve --export-prom :9091 & app & wait $!", "sh|-c|app & wait $!"},
		{"healthcheck serve --export-prom :9091 & HC=$!; trap 'kill $HC' EXIT; app", "error"},
		{"healthcheck serve --export-prom :9091 & app; kill %1", "error"},
		{"HEALTHCHECK_TCP=db:5432 healthcheck --export-prom :9091 -- app", "error"},
		{"cat > /tmp/c <<E\nhealthcheck serve --export-prom :9091 &\nE\nexec cat /tmp/c", "error"},
		{"if true; then healthcheck serve & else app; fi", "error"},
		{"healthcheck --export-prom :9091 -- a || healthcheck --export-prom :9092 -- b", "error"},
		{"HC=/opt/healthcheck; $HC --export-prom :9091 -- app", "error"},
		{"sh -c \"healthcheck --export-prom :$P -- app\"", "error"},
		{"sh -c healthcheck' serve & '$A", ""},
		{"/app/healthcheck serve --port 80 & wait", ""},
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

// Each is a whole command line, with its words between bars, and what runs behind
// the wrapper: "" where there is none, "error" where it cannot be taken apart.
func TestUnwrap(t *testing.T) {
	tests := []struct{ in, want string }{
		{"healthcheck|--export-prom|:9091|--|app", "app"},
		{"healthcheck|serve|--export-prom|:9091|--|app", "app"},
		{"tini|--|healthcheck|--export-prom|:9091|--|app", "tini|--|app"},
		{"healthcheck|--export-prom|:9091|--|sh|-c|healthcheck serve --export-prom :9091 & exec app", "app"},
		{"/entry.sh|sh|-c|healthcheck --export-prom :9091 -- app", "/entry.sh|sh|-c|exec app"},
		{"/usr/bin/tini|--|bash|-c|healthcheck serve --export-prom :9091 & exec app", "/usr/bin/tini|--|bash|-c|exec app"},
		{"gosu|app|bash|-ec|cd /app && healthcheck --export-prom :9091 -- app", "gosu|app|bash|-ec|cd /app && exec app"},
		{"env|A=1|sh|-c|sh -c 'healthcheck --export-prom :9091 -- app'", "env|A=1|sh|-c|exec sh -c 'exec app'"},
		{"su|-s|/bin/sh|-c|healthcheck --export-prom :9091 -- app|app", "su|-s|/bin/sh|-c|exec app|app"},
		{"bash|-lc|bash -c 'healthcheck --export-prom :9091 -- app'", "bash|-lc|exec bash -c 'exec app'"},
		{"su|app|-c|healthcheck --export-prom :9091 -- app", "error"},
		{"sh|-c|exec \"$@\"|sh|sh|-c|healthcheck serve --export-prom :9091 & app", "error"},
		{"healthcheck|--export-prom|:9091|--|su|app|-c|healthcheck serve --export-prom :9091 & app", "error"},
		{"python|manage.py|healthcheck|serve", ""},
		{"/app/healthcheck|serve|--port|80", ""},
		{"tini|--|sh|-c|app", ""},
	}
	for _, tt := range tests {
		var argv []arg
		for _, word := range strings.Split(tt.in, "|") {
			argv = append(argv, arg{word, true})
		}
		w, rest, err := unwrap(argv)
		got := ""
		switch {
		case err != nil:
			got = "error"
		case w != nil:
			got = strings.Join(texts(rest), "|")
		}
		if got != tt.want {
			t.Errorf("unwrap(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// What a script does, as a shell runs it, it does behind the wrapper. Its
// healthcheck runs the command, or in the background nothing; app shows its words.
func TestUnwrapKeepsMeaning(t *testing.T) {
	testbed.Need(t, "sh")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"healthcheck": `[ "$1" != serve ] || exit 0; while [ "$1" != -- ]; do shift; done; shift; exec "$@"`,
		"app":         `printf '<%s>' "$0" "$@" "$A" "$PORT"; exit 3`,
		"gosu":        `shift; exec "$@"`,
	} {
		write(t, filepath.Join(dir, name), "#!/bin/sh\n"+text+"\n")
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(argv []string) string {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir + ":/usr/bin:/bin", "A=a  'b", `LIST=x y`, "MORE=echo one && echo two"}
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s (%d)", out, cmd.ProcessState.ExitCode())
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	const dashes, serve = "healthcheck --export-prom :9091 -- ", "healthcheck serve --export-prom :9091 & "
	for _, script := range []string{
		dashes + `app 'a b' "c\"d" e\ f "$A" $LIST`,
		dashes + `app $LIST; echo next`,
		"exec " + dashes + `app $LIST; echo never`,
		`if [ "$A" ]; then exec ` + dashes + `app; fi; echo never`,
		`[ -z "$A" ] && exec ` + dashes + `app || exec app other`,
		`case $LIST in x*) exec ` + dashes + `app 1;; esac; echo never`,
		"PORT=1 " + dashes + "app",
		"PORT=1 exec " + dashes + `app "$A"`,
		"PORT=1 " + serve + "exec app",
		"PORT=1; " + serve + `app $PORT`,
		"! " + dashes + "app",
		dashes + "\\\n app \\\n 'a\\\nb' \"c\\\nd\"",
		"cd . && gosu user " + dashes + "app x",
		serve + "app & wait $!",
		`sh -c '` + dashes + `app "$A" $0 $1' zero $LIST`,
		`sh -c "` + dashes + `app '$LIST' \$LIST \\$LIST \"\$A\""`,
		`sh -c "` + dashes + `app $LIST $(echo a b) ` + "`echo c`" + `"; echo next`,
		`sh -c "` + serve + `$MORE"`,
		`sh -c "` + serve + `exec app $LIST"`,
		`exec sh -c "PORT=1; sh -c '` + dashes + `app $LIST'"`,
		`gosu user sh -ec "echo one; ` + serve + `exec app \"\$A\""`,
		`PORT=1 sh -c "` + serve + `app; echo next" | cat`,
	} {
		argv := []string{"sh", "-c", script}
		w, rest, err := unwrap([]arg{{"sh", true}, {"-c", true}, {script, true}})
		if err != nil || w == nil {
			t.Errorf("unwrap(sh -c %q) = %v, %v", script, w, err)
			continue
		}
		if got, want := run(texts(rest)), run(argv); got != want {
			t.Errorf("%q does %q, but %q does %q", texts(rest), got, script, want)
		}
	}
}
