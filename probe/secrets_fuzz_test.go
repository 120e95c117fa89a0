package probe

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"alfred/healthcheck/wire"
)

// pieceOf returns 8 consecutive bytes of the secret that a text shows, or "".
func pieceOf(secret, text string) string {
	for i := range len(secret) - minPiece + 1 {
		if piece := secret[i : i+minPiece]; strings.Contains(text, piece) {
			return piece
		}
	}
	return ""
}

// shownOf is all that a command prints of a result.
func shownOf(r Result) string {
	names := ""
	for _, d := range r.Dependencies {
		names += d.Name + "\n"
	}
	return strings.Join([]string{r.Seen(), r.Check.Target, names, Lines([]Result{r}, false, MaxOutput), JSON([]Result{r}, MaxOutput)}, "\n")
}

// Whatever a server says around a secret, in whatever form it sends a piece of it, no output shows 8 bytes of it. In a script § is
// the piece, and a server answers each thing it reads with the next line.
func FuzzSecretInAnswer(f *testing.F) {
	const secret = "Zx9-s3cr&t<w0rd>'\"é+/1\n%41\t0123"
	scripts := []struct{ kind, script string }{
		{"http", "HTTP/1.1 500 No §, §\r\n\r\n"},
		{"http", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"status\":\"§\",\"services\":{\"a §\":\"ok\",\"§\":{\"status\":\"§\"}}}"},
		{"http", "HTTP/1.1 200 OK\r\n§\r\n\r\n"},
		{"http", "HTTP/1.1 200 OK\r\nContent-Length: §\r\n\r\n"},
		{"http", "HTTP/1.1 200 OK\r\nTransfer-Encoding: §\r\n\r\n"},
		{"http", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n§\r\n"},
		{"http", "HTTP/1.1 302 Found\r\nLocation: §://§\r\n\r\n"},
		{"http", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/§?§\r\n\r\n"},
		{"http", "HTTP/1.1 503 No\r\nContent-Type: application/json\r\n\r\n{\"error\":{\"message\":\"a §\"},\"checks\":[{\"name\":\"§\",\"status\":\"fail\"}]}"},
		{"http", "HTTP/1.1 503 No\r\nContent-Type: text/plain\r\n\r\na §\n§"},
		{"http", "§"},
		{"redis", "-ERR unknown command 'AUTH', with args beginning with: '§'\r\n"},
		{"redis", "-§ §\r\n"},
		{"redis", "+§\r\n"},
		{"redis", "+OK\r\n-ERR §\r\n"},
		{"redis", "+OK\r\n+OK\r\n+§\r\n"},
		{"redis", "§\r\n"},
		{"postgres", "28P01 password authentication failed for user \"§\""},
		{"postgres", "§ § §"},
	}
	kinds := []string{"http", "redis", "postgres"}
	for i, s := range scripts {
		for k, kind := range kinds {
			if kind == s.kind {
				f.Add(uint8(k), uint8(2*i), uint8(0), uint8(255), s.script)
				f.Add(uint8(k), uint8(2*i+1), uint8(2), uint8(20), s.script)
			}
		}
	}
	var script atomic.Pointer[[]string]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	go func() { // ends when the cleanup closes l
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for _, line := range *script.Load() {
				if n, err := conn.Read(make([]byte, 4096)); n == 0 || err != nil {
					break
				}
				io.WriteString(conn, line)
			}
			conn.Close()
		}
	}()
	addr := l.Addr().String()
	checks := map[string]*Check{}
	for kind, url := range map[string]string{"http": "http://app:${PW}@" + addr + "/", "redis": "redis://app:${PW}@" + addr + "/1",
		"postgres": "postgres://app:${PW}@" + addr + "/d?sslmode=disable"} {
		checks[kind] = mustParse(f, Options{LookupEnv: env{"PW": secret}.lookup}, kind, url)
	}
	f.Fuzz(func(t *testing.T, kind, form, from, to uint8, text string) {
		e := echoes[int(form)%len(echoes)]
		whole := e.form(secret)
		end := min(int(to), len(whole))
		text = strings.ReplaceAll(text, "§", whole[min(int(from), end):end])
		c := checks[kinds[int(kind)%len(kinds)]]
		lines := []string{text}
		switch c.Type {
		case "redis":
			lines = strings.SplitAfter(text, "\n")
		case "postgres": // an ErrorResponse with code and message
			code, message, _ := strings.Cut(strings.ReplaceAll(text, "\x00", ""), " ")
			body := "SFATAL\x00VFATAL\x00C" + code + "\x00M" + message + "\x00\x00"
			lines = []string{"E" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))) + body}
		}
		script.Store(&lines)
		shown := shownOf(c.Run(t.Context()))
		if piece := pieceOf(secret, shown); piece != "" {
			t.Errorf("%s, %s, %q: %q is in\n%s", c.Type, e.name, text, piece, shown)
		}
		if len(whole) >= minPiece && int(to) >= len(whole) && from == 0 && strings.Contains(shown, whole) {
			t.Errorf("%s, %s, %q: %q is in\n%s", c.Type, e.name, text, whole, shown)
		}
	})
}

// Wherever a secret stands in a value, neither an error nor a target shows 8 bytes of it: as a password that is not encoded, whatever
// stands around it, and as what ${S} inserts.
func FuzzSecretInURL(f *testing.F) {
	const literal, inserted = "Zx9s3cr3t0", "Zx9s3cr3t0@/?#:%41&= ZZtop1234"
	around := []struct{ before, after string }{
		{"", ""}, {"12?", ""}, {"12/", ""}, {"12#", ""}, {"12/x?a=", ""}, {"12?password=", ""}, {"", "?x"}, {"", "/1"}, {"", "@x/1"}, {"", "@h?db=1"},
		{"", "&password=x"}, {"12;password=", ""}, {"a@", ""}, {"a@h/", ""}, {"@/", "?x=y"}, {",", ","}, {"[", "]"}, {"%", "%zz"}, {"a ", " b"}, {"=", "=="}, {"${", "}"},
		{"${S}", ""}, {"u:", "@h/1"}, {"h/?a=", "&b"}, {"h?user=", "&password=x"}, {"h?", "=x"}, {"h/x", "y"}, {"u", ":pw@h"}, {"@", "@"}, {"h:", "/"},
	}
	prefixes := []string{"http://u:", "redis://u:", "redis://", "unix://u:", "unix:///", "postgres://u:", "http://", "postgres://", "http+unix://u:", "", "x=", "u:", ":"}
	for i, a := range around {
		for j := range prefixes {
			f.Add(uint8(i%2), uint8(j), a.before, a.after)
		}
	}
	lookup := env{"S": inserted, "CREDS": "u:" + inserted}.lookup
	f.Fuzz(func(t *testing.T, mode, prefix uint8, before, after string) {
		p := prefixes[int(prefix)%len(prefixes)]
		secret, value := literal, p+before+literal+after+"@h"
		if mode%2 == 1 {
			secret, value = inserted, p+before+"${S}"+after
		} else if !strings.HasSuffix(p, "u:") && p != "redis://" || p == "redis://" && strings.Contains(before+after, ":") || strings.Contains(before, "@") && !strings.HasPrefix(p, "http") ||
			strings.Contains(before, "${") {
			return // not a password, or the name of a variable
		}
		for _, kind := range Types {
			c, err := parseOne(Options{LookupEnv: lookup}, kind, value)
			shown := ""
			if err != nil {
				shown = usageOf(t, err)
			} else {
				shown = c.Target + "\n" + Lines([]Result{{Check: c}}, false, MaxOutput) + JSON([]Result{{Check: c}}, MaxOutput)
				if mode%2 == 1 && kind == "postgres" {
					shown = strings.ReplaceAll(shown, wire.PercentEncode(inserted, ""), "") // a host and a database are shown
				}
			}
			if piece := pieceOf(secret, shown); piece != "" {
				t.Errorf("--%s %q: %q is in\n%s", kind, value, piece, shown)
			}
		}
	})
}
