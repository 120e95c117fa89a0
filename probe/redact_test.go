package probe

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/wire"
)

// echoes are the forms in which a peer may send a secret back.
var echoes = []struct {
	name string
	form func(string) string
}{
	{"as it is", func(s string) string { return s }},
	{"without its end", func(s string) string { return s[:len(s)-3] }},
	{"without its beginning", func(s string) string { return s[3:] }},
	{"without both", func(s string) string { return s[2 : len(s)-2] }},
	{"8 bytes", func(s string) string { return s[:minPiece] }},
	{"trimmed", strings.TrimSpace},
	{"lower case", strings.ToLower},
	{"upper case", func(s string) string { return strings.Map(upperASCII, s) }},
	{"query-encoded", url.QueryEscape},
	{"path-encoded", url.PathEscape},
	{"percent-encoded", func(s string) string { return wire.PercentEncode(s, "") }},
	{"percent-encoded in lower case", func(s string) string { return strings.ToLower(wire.PercentEncode(s, "")) }},
	{"every byte percent-encoded", func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			b.WriteString("%" + hex.EncodeToString([]byte(s[i:i+1])))
		}
		return b.String()
	}},
	{"base64", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }},
	{"base64 without padding", func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }},
	{"base64 for URLs", func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }},
	{"base64 for URLs without padding", func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }},
	{"base64 without its end", func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s))[:13] }},
	{"hex", func(s string) string { return hex.EncodeToString([]byte(s)) }},
	{"hex in upper case", func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }},
	{"quoted by Go", func(s string) string { q := strconv.Quote(s); return q[1 : len(q)-1] }},
	{"quoted by Go in ASCII", func(s string) string { q := strconv.QuoteToASCII(s); return q[1 : len(q)-1] }},
	{"printable, as a Result has it", escapeUnprintable},
	{"octal", func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, `\%03o`, s[i])
		}
		return b.String()
	}},
	{"HTML", html.EscapeString},
	{"HTML, other references", strings.NewReplacer("&", "&#38;", "<", "&#x3C;", "'", "&apos;", `"`, "&quot;").Replace},
	{"JSON", inJSON},
	{"JSON twice", func(s string) string { return inJSON(inJSON(s)) }},
	{"JSON in ASCII", func(s string) string {
		q := strconv.QuoteToASCII(inJSON(s))
		return strings.ReplaceAll(q[1:len(q)-1], `\\`, `\`)
	}},
	{"percent-encoded in HTML in JSON", func(s string) string { return inJSON(html.EscapeString(url.QueryEscape(s))) }},
	{"control characters as blanks", func(s string) string { return strings.Map(blankControl, s) }},
}

func inJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b[1 : len(b)-1])
}

func upperASCII(r rune) rune {
	if 'a' <= r && r <= 'z' {
		return r - 'a' + 'A'
	}
	return r
}

func blankControl(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

// A secret is masked in every form, and what stands around it is not.
func TestRedactEchoes(t *testing.T) {
	for _, secret := range []string{"Zx9secretZx9", "p@ss+w/rd?&<'\">é=%41", " \tspaced\r\nsecret\t", `C:\new\"100%"`, "Smile-😀😀😀-1234"} {
		r := &redactor{}
		r.add(secret)
		for _, e := range echoes {
			for _, around := range [][2]string{{"", ""}, {"the value ", ", it is"}, {"{[", "]}"}} {
				text := around[0] + e.form(secret) + around[1]
				got := r.redact(text)
				want := around[0] + mask + around[1]
				if strings.Join(strings.Fields(got), "") != strings.Join(strings.Fields(want), "") {
					t.Errorf("%q, %s: %q shows as %q", secret, e.name, text, got)
				}
			}
		}
	}
}

// A secret within a longer text in base64, as with Basic authentication: what stands before it moves it.
func TestRedactBasic(t *testing.T) {
	r := &redactor{}
	r.add("s3cr3t-w0rd")
	for _, test := range []struct{ in, want string }{
		{"s3cr3t-w0rd\n", "***K"},
		{":s3cr3t-w0rd", "On***"},
		{"a:s3cr3t-w0rd", "YTp***A=="},
		{"ab:s3cr3t-w0rd", "YWI6***"},
		{"ab:s3cr3t-w0rd!", "YWI6***h"},
	} {
		full := base64.StdEncoding.EncodeToString([]byte(test.in))
		if got := r.redact(full); got != test.want {
			t.Errorf("%q shows as %q, want %q", full, got, test.want)
		}
	}
}

// Secrets shorter than a piece are masked if they are whole; what a target shows is not masked, also as a part of a secret.
func TestRedactShortAndPublic(t *testing.T) {
	r := &redactor{}
	r.add("pw", "db", "healthcheck-Pw1", "same")
	r.show("db.internal", "healthcheck", "same", "")
	for _, test := range []struct{ in, want string }{
		{"pw PW p w cHc=", "*** *** p w cHc="},
		{"db.internal refuses db", "db.internal refuses ***"},
		{`role "healthcheck" is the same`, `role "healthcheck" is the same`},
		{`"healthcheck-Pw1" "healthcheck-p" "check-Pw1"`, `"***" "***" "***"`},
	} {
		if got := r.redact(test.in); got != test.want {
			t.Errorf("redact(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// Secrets that nobody has named, by their place in a text. Prose is left alone.
func TestRedactShapes(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"cannot reach postgres://app:hunter2@db/shop", "cannot reach postgres://***@db/shop"},
		{"redis://:hunter2@cache:6379, amqp://u:p@mq", "redis://***@cache:6379, amqp://***@mq"},
		{"redis://:hunter2@cache,amqp://u:p@mq", "redis://***@mq"}, // a comma may stand in a password
		{"redis://:hunter2@cache:6379 amqp://u:p@mq", "redis://***@cache:6379 amqp://***@mq"},
		{"http://token@h", "http://***@h"},
		{"redis://u:pa/ss@h", "redis://***@h"},
		{`{"url":"redis:\/\/:hunter2@h"}`, `{"url":"redis:\/\/***@h"}`},
		{"http://h/a@b http://h:80/a@b", "http://h/a@b http://h:80/a@b"},
		{"password=hunter2", "password=***"},
		{"host=h password=hunter2 user=u", "host=h password=*** user=u"},
		{`{"db_password": "hunter 2", "user": "u"}`, `{"db_password": "***", "user": "u"}`},
		{`{\"password\": \"hunter2\"}`, `{\"password\": \"***\"}`},
		{"PGPASSWORD='hunter 2' psql", "PGPASSWORD='***' psql"},
		{"?access_token=abc&x=1", "?access_token=***&x=1"},
		{"&quot;passwd&quot;: &quot;hunter2&quot;", "&quot;passwd&quot;: &quot;***&quot;"},
		{"pwd:hunter2; x", "pwd:***; x"},
		{"secret => hunter2", "secret => ***"},
		{"X-Api-Key: abc", "X-Api-Key: ***"},
		{"api_key=abc apikey=abc key=abc", "api_key=*** apikey=*** key=***"},
		{"Authorization: Bearer abc.def", "Authorization: ***"},
		{"Set-Cookie: a=b; c=d\r\nX: y", "Set-Cookie: ***\r\nX: y"},
		{"password%3Dhunter2%26x", "password%3D***%26x"},
		{"monkey: banana, author: me, code: 500", "monkey: banana, author: me, code: 500"},
		{"password authentication failed: token expired, secret unknown", "password authentication failed: token expired, secret unknown"},
		{"ERR key not found = 1: =", "ERR key not found = 1: ="},
		{"password=", "password="},
	} {
		if got := (&redactor{}).redact(test.in); got != test.want {
			t.Errorf("redact(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// A server's standard text shows no mask, whatever the password; a name in it does, unless the target shows it.
func TestKnownTexts(t *testing.T) {
	r := &redactor{}
	r.add("password", "username", "Redis", "already", "system", "authority", "hunter2")
	r.show("app")
	for _, pattern := range knownTexts {
		text := strings.ReplaceAll(pattern, "*", "app")
		if got := r.clean(text); got != cut(text, maxMessage) {
			t.Errorf("clean(%q) = %q", text, got)
		}
	}
	for _, test := range []struct{ in, want string }{
		{`password authentication failed for user "hunter2"`, `password authentication failed for user "***"`},
		{`no pg_hba.conf entry for host "10.0.0.1", user "app", database "password", no encryption`, `no pg_hba.conf entry for host "10.0.0.1", user "app", database "***", no encryption`},
		{`password authentication failed for user "app" (hunter2)`, `*** authentication failed for user "app" (***)`},
		{"no such user: password", "no such user: ***"},
	} {
		if got := r.clean(test.in); got != test.want {
			t.Errorf("clean(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// hostileTexts are repeated to make a text that may cost much.
var hostileTexts = []string{"a", "ab", "a:", "=", "://", "://a:b", "://a@", "%61", `\`, `\\`, "&", "&amp;", "password=", "key='", "=key", strings.Repeat("x", 63) + "="}

// The work on a text is bounded, whatever it holds: a few milliseconds of a processor, where a quadratic scan takes many seconds.
func TestRedactIsBounded(t *testing.T) {
	const limit = time.Second // with the race detector on
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		const thread = 1 // RUSAGE_THREAD of getrusage(2)
		var u syscall.Rusage
		if err := syscall.Getrusage(thread, &u); err != nil {
			t.Fatal("getrusage: ", err)
		}
		return time.Duration(u.Utime.Nano())
	}
	r := &redactor{}
	r.add(strings.Repeat("a", 4096), strings.Repeat("ab%5c", 800))
	for _, unit := range hostileTexts {
		before := used()
		r.clean(strings.Repeat(unit, maxText/len(unit)))
		if took := used() - before; took > limit {
			t.Errorf("%q, %d KiB: %v of a processor, want less than %v", unit, maxText>>10, took, limit)
		}
	}
}

func BenchmarkCleanHostile(b *testing.B) {
	r := &redactor{}
	r.add(strings.Repeat("a", 4096), strings.Repeat("ab%5c", 800))
	for _, unit := range hostileTexts {
		b.Run(unit, func(b *testing.B) {
			text := strings.Repeat(unit, maxText/len(unit))
			for b.Loop() {
				r.clean(text)
			}
		})
	}
}

func BenchmarkClean(b *testing.B) {
	r := &redactor{}
	r.add("s3cr3t-w0rd-0123")
	r.show("app")
	b.ReportAllocs()
	for b.Loop() {
		r.clean("16.4 (Debian)")
	}
}
