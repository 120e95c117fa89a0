package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"alfred/healthcheck/probe"
)

// summary is what a table compares of a config.
func summary(c *config) string {
	var b strings.Builder
	for _, s := range c.specs {
		fmt.Fprintf(&b, "%s:%s=%s ", s.Source, s.Type, s.Value)
	}
	fmt.Fprintf(&b, "timeout=%v", c.probe.Timeout)
	for _, part := range []struct {
		name string
		set  bool
		v    any
	}{
		{"wait", c.wait.All != 0, c.wait.All}, {"waits", c.wait.Named != nil, c.wait.Named},
		{"interval", c.monitor.Interval != 15*time.Second, c.monitor.Interval}, {"start", c.monitor.StartPeriod != 30*time.Second, c.monitor.StartPeriod},
		{"retries", c.monitor.Retries != 1, c.monitor.Retries}, {"json", c.json, ""}, {"export", c.export != "", c.export},
		{"headers", c.probe.HTTPHeaders != nil, c.probe.HTTPHeaders}, {"method", c.probe.HTTPMethod != "", c.probe.HTTPMethod},
		{"insecure", c.probe.TLS.Insecure, ""}, {"stop", len(c.stopSignals) > 0, len(c.stopSignals)}, {"kill", c.killAfter != 0, c.killAfter},
		{"success", c.successStatus != nil, c.successStatus}, {"group", c.signalGroup, ""}, {"command", c.hasCommand, c.command}, {"help", c.help, ""}, {"version", c.version, ""},
	} {
		if part.set {
			fmt.Fprintf(&b, " %s=%v", part.name, part.v)
		}
	}
	return b.String()
}

// Command lines, words parted by spaces, environments, and what comes of them.
func TestParseArgs(t *testing.T) {
	wrapped := map[string]string{ // a container's
		"HEALTHCHECK_REDIS": "redis://a\n\nb=redis://b\r\n", "HEALTHCHECK_TCP": "c:1", "HEALTHCHECK_EXPORT_PROM": ":9091", "HEALTHCHECK_WAIT": "1m",
		"HEALTHCHECK_INTERVAL": "1s", "HEALTHCHECK_STOP_SIGNAL": "TERM:INT\nHUP:0", "HEALTHCHECK_KILL_AFTER": "9s", "HEALTHCHECK_SUCCESS_STATUS": "143\n130",
		"HEALTHCHECK_SIGNAL_GROUP": "1", "HEALTHCHECK_HTTP_HEADER": "A: b\nC: d", "HEALTHCHECK_TIMEOUT": "2s", "HEALTHCHECK_JSON": "true",
	}
	for _, test := range []struct {
		args string
		env  map[string]string
		want string // a summary, or the two lines of a usage error
	}{
		{"--tcp a:1", nil, "--tcp:tcp=a:1 timeout=5s"},
		{"-tcp a:1 -tcp=b:1 --redis=redis://c", nil, "--tcp:tcp=a:1 --tcp:tcp=b:1 --redis:redis=redis://c timeout=5s"},
		{"--tcp a:1 --timeout 1s --timeout 2s --json --json=false --tls-insecure=1", nil, "--tcp:tcp=a:1 timeout=2s insecure="},
		{"--tcp a:1 --http-header A:b --http-header C:d --http-method HEAD", nil, "--tcp:tcp=a:1 timeout=5s headers=[A:b C:d] method=HEAD"},
		{"--tcp -x", nil, "--tcp:tcp=-x timeout=5s"},
		{"-- sh -c x -- --tcp", nil, "timeout=5s command=[sh -c x -- --tcp]"},
		{"--export-prom 9091 --tcp a:1 --interval 1s", nil, "--tcp:tcp=a:1 timeout=5s interval=1s export=:9091"},
		{"--export-prom [::1]:0 --stop-signal TERM:INT --kill-after 1s --success-status 143 --signal-group -- x", nil, "timeout=5s export=[::1]:0 stop=1 kill=1s success=[143] group= command=[x]"},
		{"--help nonsense", nil, "timeout=5s help="},
		{"--version", nil, "timeout=5s version="},

		// The environment of a container, as its wrapper, its probe, and a probe with a check of its own see it.
		{"-- x", wrapped, "HEALTHCHECK_TCP:tcp=c:1 HEALTHCHECK_REDIS:redis=redis://a HEALTHCHECK_REDIS:redis=b=redis://b timeout=2s wait=1m0s interval=1s export=:9091" +
			" headers=[A: b C: d] stop=2 kill=9s success=[143 130] group= command=[x]"},
		{"", wrapped, "HEALTHCHECK_TCP:tcp=c:1 HEALTHCHECK_REDIS:redis=redis://a HEALTHCHECK_REDIS:redis=b=redis://b timeout=2s json= headers=[A: b C: d]"},
		{"--tcp own:1 --timeout 9s --json=false", wrapped, "--tcp:tcp=own:1 timeout=9s headers=[A: b C: d]"},
		{"--tcp a:1", map[string]string{"HEALTHCHECK_HELP": "1", "HEALTHCHECK_VERSION": "1", "HEALTHCHECK_TIMEOUT": ""}, "--tcp:tcp=a:1 timeout=5s"},

		{"", nil, "no check is named\nname one, as in: healthcheck --http http://localhost:8080/health; healthcheck --help lists every option"},
		{"--export-prom :1", nil, "no check is named\nname one, as in: healthcheck --http http://localhost:8080/health; healthcheck --help lists every option"},
		{"--", nil, "no command behind --\nname it, as in: healthcheck --export-prom :9091 -- uvicorn app:app"},
		{"--tcp a:1 MARK --json", nil, "unexpected positional argument, word 3 of the command line\nquote a value that has spaces, and put a command behind --, as in: healthcheck --export-prom :9091 -- CMD"},
		{"MARK -- x", nil, "unexpected positional argument, word 1 of the command line\nquote a value that has spaces, and put a command behind --, as in: healthcheck --export-prom :9091 -- CMD"},
		{"--tcp", nil, "--tcp: its value is missing\n"},
		{"--tpc a:1", nil, "unknown option --tpc\ndid you mean --tcp? healthcheck --help lists every option"},
		{"--tcp a:1 --verbose=MARK", nil, "unknown option, word 3 of the command line\n"},
		{"-MARK", nil, "unknown option, word 1 of the command line\n"},
		{"-pmark", nil, "unknown option, word 1 of the command line\n"},
		{"--tcp a:1 --pass=MARK", nil, "unknown option, word 3 of the command line\n"},
		{"--" + strings.Repeat("mark", 999), nil, "unknown option, word 1 of the command line\n"},
		{"--tls-server-names mark", nil, "unknown option --tls-server-names\ndid you mean --tls-server-name? healthcheck --help lists every option"},
		{"---tcp a:1", nil, "malformed option, word 1 of the command line\n"},
		{"--tcp a:1 -=MARK", nil, "malformed option, word 3 of the command line\n"},
		{"-h", nil, "timeout=5s help="},
		{"--tcp a:1 -h nonsense", nil, "--tcp:tcp=a:1 timeout=5s help="},
		{"-v", nil, "unknown option -v\ndid you mean --version?"},
		{"healthcheck --http http://MARK", nil, "unexpected positional argument, word 1 of the command line\nleave the word healthcheck out: it is the image's ENTRYPOINT"},
		{"/usr/local/bin/healthcheck", nil, "unexpected positional argument, word 1 of the command line\nleave the word healthcheck out: it is the image's ENTRYPOINT"},
		{"localhost:8080", nil, "unexpected positional argument, word 1 of the command line\nname the kind of check, as in: healthcheck --http http://localhost:8080/health, or --tcp localhost:8080"},
		{"--json [::1]:8080", nil, "unexpected positional argument, word 2 of the command line\nname the kind of check, as in: healthcheck --http http://[::1]:8080/health, or --tcp [::1]:8080"},
		{"localhost:8080/MARK", nil, "unexpected positional argument, word 1 of the command line\nname the kind of check, as in: healthcheck --http http://HOST:PORT/health, or --tcp HOST:PORT"},
		{"MARK:8080", nil, "unexpected positional argument, word 1 of the command line\nname the kind of check, as in: healthcheck --http http://HOST:PORT/health, or --tcp HOST:PORT"},
		{"--timeout '5s'", nil, "--timeout: the value begins with a quote\n" + probe.ErrQuote.Hint},
		{"--tcp \"MARK:1\"", nil, "--tcp: the value begins with a quote\n" + probe.ErrQuote.Hint},
		{"--tcp a:1 --http-body \"status\":\"ok\"", nil, "--tcp:tcp=a:1 timeout=5s"},
		{"--tcp a:1", map[string]string{"HEALTHCHECK_TIMEOUT": `"MARK"`}, "HEALTHCHECK_TIMEOUT: the value begins with a quote\n" + probe.ErrQuote.Hint},
		{"--htp x", nil, "unknown option --htp\ndid you mean --http? healthcheck --help lists every option"},
		{"http://u:MARK@h/", nil, "unexpected positional argument, word 1 of the command line\nname the kind of check, as in: healthcheck --http http://localhost:8080/health"},
		{"serve --export-prom :9091", nil, "unexpected positional argument, word 1 of the command line\nthere is no serve any more: healthcheck --export-prom :9091 -- CMD"},
		{"help", nil, "unexpected positional argument, word 1 of the command line\nit is an option: healthcheck --help"},
		{"--json=MARK", nil, "--json: it is true or false\nwrite true or false, or leave it out"},
		{"--timeout 5", nil, "--timeout: a duration has a unit\nwrite 5s for seconds"},
		{"--timeout MARK", nil, "--timeout: not a duration\nwrite 5s, 500ms or 1m30s"},
		{"--timeout 0s", nil, "--timeout: a duration of at least 1ms is wanted\nwrite 5s, 500ms or 1m30s"},
		{"--wait -1s", nil, "--wait: a duration of at least 0s is wanted\nwrite 5s, 500ms or 1m30s"},
		{"--export-prom MARK", nil, "--export-prom: not an address to listen on\nwrite :9091, 127.0.0.1:9091 or [::1]:9091"},
		{"--export-prom :65536", nil, "--export-prom: not an address to listen on\nwrite :9091, 127.0.0.1:9091 or [::1]:9091"},
		{"--success-status 256 -- x", nil, "--success-status: a status is a number from 0 to 255\nas in --success-status 143"},
		{"--tcp a:1 --interval 1s", nil, "--interval goes with a command behind --, or with --export-prom\n"},
		{"--tcp a:1 --kill-after 1s", nil, "--kill-after goes with a command behind --\n"},
		{"--json -- x", nil, "--json goes with a probe, not with a command or --export-prom\n"},
		{"--tcp a:1", map[string]string{"HEALTHCHECK_TIMEOUT": "MARK"}, "HEALTHCHECK_TIMEOUT: not a duration\nwrite 5s, 500ms or 1m30s"},
		{"--tcp a:1", map[string]string{"HEALTHCHECK_JSON": "MARK"}, "HEALTHCHECK_JSON: it is true or false\nwrite true or false, or leave it out"},
	} {
		c, err := parseArgs(strings.Fields(test.args), func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
		got := ""
		var u *probe.UsageError
		switch {
		case err == nil:
			got = summary(c)
		case errors.As(err, &u):
			got = u.What + "\n" + u.Hint
		default:
			t.Errorf("parseArgs(%q): %v (%T) is no *UsageError", test.args, err, err)
		}
		if got != test.want {
			t.Errorf("parseArgs(%q):\n got %q\nwant %q", test.args, got, test.want)
		}
	}
}

// An option and its value in one word, as in an exec form or YAML.
func TestTwoWordsInOne(t *testing.T) {
	for _, test := range []struct{ word, want string }{
		{"--http http://u:MARK@h/?a=b", `--http and its value are one word, word 1 of the command line; write two words: --http http://…; in a list "--http", "http://…"`},
		{"-timeout 5s", `--timeout and its value are one word, word 1 of the command line; write two words: --timeout VALUE; in a list "--timeout", "VALUE"`},
		{"--htpp http://MARK", "unknown option --htpp; did you mean --http? healthcheck --help lists every option"},
		{"--pass MARK", "unknown option, word 1 of the command line; "},
	} {
		_, err := parseArgs([]string{test.word}, func(string) (string, bool) { return "", false })
		var u *probe.UsageError
		if !errors.As(err, &u) || u.What+"; "+u.Hint != test.want {
			t.Errorf("parseArgs(%q): %+v, want %q", test.word, u, test.want)
		}
	}
}

// A variable that is nearly an option's is reported by its name.
func TestMistypedVariables(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"HEALTHCHECK_HTPT", "HEALTHCHECK_HTTP"},
		{"HEALTHCHECK_HTTPS", "HEALTHCHECK_HTTP"},
		{"HEALTHCHECK_http", "HEALTHCHECK_HTTP"},
		{"HEALTH_CHECK_HTTP", "HEALTHCHECK_HTTP"},
		{"HEALTHCHECK_INTERVALL", "HEALTHCHECK_INTERVAL"},
		{"HEALTHCHECK_EXPORT_PROM_", "HEALTHCHECK_EXPORT_PROM"},
		{"HEALTHCHECK_TLS_CA", ""},
		{"HEALTHCHECK_HELP", ""},
		{"HEALTHCHECK_URL", ""},
		{"HEALTHCHECK_", ""},
		{"HEALTHCHECK_PORT", ""},
		{"HEALTHCHECK_TC\x1bP", ""},
		{"HEALTHCHECK_" + strings.Repeat("HTTP", 999), ""},
		{"PATH", ""},
	} {
		got := ""
		for _, names := range mistypedVariables([]string{test.name + "=MARK"}) {
			got += names[1]
		}
		if got != test.want {
			t.Errorf("mistypedVariables(%s): %q, want %q", test.name, got, test.want)
		}
	}
}

// Every option is in the help, which names no other and fits a screen.
func TestHelpListsOptions(t *testing.T) {
	for _, o := range new(config).options() {
		if !strings.Contains(usageText, "--"+o.name) {
			t.Errorf("--%s is not in the help", o.name)
		}
	}
	for _, word := range strings.FieldsFunc(usageText, func(r rune) bool { return strings.ContainsRune(" \n,;()[]", r) }) {
		name, ok := strings.CutPrefix(word, "--")
		known := !ok || name == ""
		for _, o := range new(config).options() {
			known = known || o.name == name
		}
		if !known {
			t.Errorf("the help names %s, which is no option", word)
		}
	}
	lines := strings.Split(strings.TrimSuffix(usageText, "\n"), "\n")
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%q is wider than 80 columns", line)
		}
	}
	if len(lines) > 27 {
		t.Errorf("%d lines do not fit a screen", len(lines))
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "ab", 2}, {"ab", "", 2}, {"tcp", "tcp", 0}, {"tcp", "tpc", 2}, {"redis", "reds", 1}, {"http", "https", 1}, {"kitten", "sitting", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
