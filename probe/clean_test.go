package probe

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var escapeTests = []struct{ in, want string }{
	{"", ""}, {"plain text", "plain text"}, {"é 数 😀 \ufffd", "é 数 😀 \ufffd"}, {"a\nb\r\tc", `a\nb\r\tc`}, {"\x00\x1b[31m\x7f", `\x00\x1b[31m\x7f`},
	{"\u202eabc\u200b\u00a0\u2028\ufeff", `\u202eabc\u200b\u00a0\u2028\ufeff`}, {"\xff\xc3(\xe2\x82", `\xff\xc3(\xe2\x82`}, {`back\slash "quoted" 'too'`, `back\slash "quoted" 'too'`},
	{"a\u3164\u115f\u2800\u034f", `a\u3164\u115f\u2800\u034f`}, {"\u1160\u17b4\u180b\uffa0", `\u1160\u17b4\u180b\uffa0`},
	{"\U000e0001", `\U000e0001`}, {"\u0085", `\u0085`},
}

func TestEscapeUnprintable(t *testing.T) {
	for _, test := range escapeTests {
		if got := escapeUnprintable(test.in); got != test.want {
			t.Errorf("escapeUnprintable(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int
		want string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"abcd", 3, "…"}, {"abcdef", 5, "ab…"}, {"ééé", 6, "ééé"}, {"éééé", 6, "é…"}, {"éééé", 7, "éé…"}, {"数数", 5, "…"}, {"abc", 0, "…"},
	} {
		if got := cut(test.in, test.n); got != test.want {
			t.Errorf("cut(%q, %d) = %q, want %q", test.in, test.n, got, test.want)
		}
	}
}

func TestClean(t *testing.T) {
	for _, test := range []struct {
		name          string
		secrets, show []string
		in, want      string
	}{
		{"none", nil, nil, "all\n", `all\n`},
		{"empty", []string{""}, nil, "all", "all"},
		{"everywhere", []string{"pw"}, nil, "pwpw apwb", "*** a***b"},
		{"longest first", []string{"pass", "password"}, nil, "password pass", "*** ***"},
		{"across an escape", []string{"a\nb"}, nil, "a\nb a\\nb a%0Ab YQpi", "*** *** *** ***"},
		{"before it is cut", []string{strings.Repeat("s", 500)}, nil, strings.Repeat("s", 500) + "x", "***x"},
		{"shown anyway", []string{"app", "pw"}, []string{"app", ""}, "app pw", "app ***"},
		{"long", nil, nil, strings.Repeat("x", 2*maxMessage), strings.Repeat("x", maxMessage-3) + "…"},
	} {
		r := &redactor{}
		r.add(test.secrets...)
		r.show(test.show...)
		if got := r.clean(test.in); got != test.want {
			t.Errorf("%s: clean(%q) = %q, want %q", test.name, test.in, got, test.want)
		}
	}
}

// Whatever a secret is and around whatever it stands, a cleaned text does not hold it in any of its forms, is of one
// printable line, and no longer than the limit.
func FuzzClean(f *testing.F) {
	for _, test := range escapeTests {
		f.Add(test.in, "s3cr3t", test.want)
		f.Add("x", test.in+"§", "y")
	}
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if len(secret) < 3 { // which may be what two masks make of their surroundings
			return
		}
		r := &redactor{}
		r.add(secret)
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret))} {
			got := r.clean(before + form + after)
			if strings.Contains(got, secret) && !strings.Contains(strings.ReplaceAll(got, mask, ""), secret) {
				continue // a secret of asterisks and their neighbours
			}
			if strings.Contains(got, secret) && !strings.Contains(escapeUnprintable(before)+"\n"+escapeUnprintable(after), secret) && !strings.Contains(secret, "*") && !strings.Contains(secret, `\`) && !strings.Contains(secret, "…") {
				t.Errorf("clean(%q) = %q holds %q", before+form+after, got, secret)
			}
			if len(got) > maxMessage || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("clean(%q) = %q", before+form+after, got)
			}
		}
	})
}
