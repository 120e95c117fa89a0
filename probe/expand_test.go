package probe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestSplitURL(t *testing.T) {
	// In each value user-info stands between < and >, the path begins at ^, the query at !.
	for _, test := range []struct{ kind, in string }{
		{"http", "http://h^/p!?q"},
		{"http", "http://<u:p>@h:1^/p!"},
		{"http", "http://<u:p@x>@h^!?q@r/s"},
		{"http", "http://h^#f@x!"},
		{"http", "http://h^#f@x!?q"},
		{"http", "http://h^!"},
		{"http", "http+unix://<u>@%2Frun%2Fx^/p!?q"},
		{"redis", "redis://<:p>@^/1!?db=1"},
		{"redis", "unix://<u:p>@^/run/x!?db=1"},
		{"redis", "redis://<h,x>@g^!"},
		{"tcp", "h:1^!"},
		{"tcp", "x@y^!"},
		{"postgres", "postgres://<u:p#?>@h^/d!?q=@"},
		{"postgres", "postgres://<u>@x@h^/d!"},
		{"postgres", "postgres://h^/d@x!?q"},
		{"postgres", "postgres://h^!?a=/x"},
		{"postgres", "postgres://<h?a=b>@c^!"},
		{"postgres", "postgres://h:1,g:2^/d!"},
		{"postgres", "postgres://^!"},
		{"postgres", "host=x^!"},
	} {
		// Where the marks stand, counted without them.
		mark := func(c string) int {
			before, _, _ := strings.Cut(test.in, c)
			return len(before) - strings.Count(before, "<") - strings.Count(before, ">") - strings.Count(before, "^") - strings.Count(before, "!")
		}
		value := strings.NewReplacer("<", "", ">", "", "^", "", "!", "").Replace(test.in)
		var want [2]int
		if strings.Contains(test.in, "<") {
			want = [2]int{mark("<"), mark(">")}
		}
		userinfo, path, query := splitURL(test.kind, value)
		if userinfo != want || path != mark("^") || query != mark("!") {
			t.Errorf("splitURL(%q, %q) = %v, %d, %d, want %v, %d, %d", test.kind, value, userinfo, path, query, want, mark("^"), mark("!"))
		}
	}
}

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"lf": "s3cr3t\n", "crlf": "s3cr3t\r\n", "two": "s3cr3t\n\n", "bare": "s3cr3t", "empty": "", "full": strings.Repeat("x", maxFile)}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lookup := env{"A": "a@/?#:%&", "H": "h.example", "P": "80", "E": "", "REF": "${A}", "URL": "redis://:x@y"}
	for _, test := range []struct {
		kind, in, want string
		secrets        []string
	}{
		{"redis", "redis://:p$w{x}@h", "redis://:p$w{x}@h", nil},
		{"redis", "redis://:${A}@${H}:${P}/1", "redis://:a%40%2F%3F%23%3A%25%26@h.example:80/1", []string{"a@/?#:%&"}},
		{"redis", "redis://h?password=${A}", "redis://h?password=a%40%2F%3F%23%3A%25%26", []string{"a@/?#:%&"}},
		{"redis", "redis://:${REF}@h", "redis://:%24%7BA%7D@h", []string{"${A}"}}, // once, not again
		{"redis", "redis://:${E}x${A}@h", "redis://:xa%40%2F%3F%23%3A%25%26@h", []string{"a@/?#:%&"}},
		{"redis", "${URL}", "redis://:x@y", nil},
		{"redis", "${URL:-redis://z}", "redis://:x@y", nil},
		{"redis", "${UNSET:-redis://z?db=1}", "redis://z?db=1", nil},
		{"redis", "${E:-redis://:a@z}", "redis://:a@z", nil},
		{"redis", "redis://:${E:-p@/:-}@${E:-h.example}:${UNSET:-80}/${P:-x}", "redis://:p%40%2F%3A-@h.example:80/80", []string{"p@/:-"}},
		{"redis", "redis://:${UNSET:-}@h${E}", "redis://:@h", nil},
		{"redis", "redis://:${file:DIR/lf}@h", "redis://:s3cr3t@h", []string{"s3cr3t"}},
		{"redis", "redis://:${file:DIR/crlf}@h", "redis://:s3cr3t@h", []string{"s3cr3t"}},
		{"redis", "redis://:${file:DIR/two}@h", "redis://:s3cr3t%0A@h", []string{"s3cr3t\n"}},
		{"redis", "redis://:${file:DIR/bare}@h", "redis://:s3cr3t@h", []string{"s3cr3t"}},
		{"redis", "redis://:${file:DIR/empty}@h", "redis://:@h", nil},
		{"redis", "redis://:${file:DIR/full}@h", "redis://:" + files["full"] + "@h", []string{files["full"]}},
		{"redis", "${file:DIR/lf}", "s3cr3t", nil},
		{"http", "http://h/${A}/x?y", "http://h/a%40/%3F%23%3A%25%26/x?y", nil},
		{"postgres", "postgres://${A}:${A}@${H},${H}:${P}/${A}?password=${A}", "postgres://a%40%2F%3F%23%3A%25%26:a%40%2F%3F%23%3A%25%26@h.example,h.example:80/a%40/%3F%23%3A%25%26?password=a%40%2F%3F%23%3A%25%26",
			[]string{"a@/?#:%&", "a@/?#:%&", "a@/?#:%&"}},
	} {
		e := &environment{lookup: lookup.lookup}
		got, err := e.expand(test.kind, strings.ReplaceAll(test.in, "DIR", dir))
		if err != nil || got.text != test.want || !slices.Equal(got.secrets, test.secrets) {
			t.Errorf("expand(%q) = %q, %q, %v, want %q, %q", test.in, got.text, got.secrets, err, test.want, test.secrets)
		}
	}
}

// TestExpandFile has files that are not read: the deadline does not cover a FIFO without a writer, and a device has no end.
func TestExpandFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{dir + "/fifo", "not a regular file"},
		{dir, "not a regular file"},
		{"/dev/zero", "not a regular file"},
		{dir + "/large", "larger than 1024 KiB"},
		{dir + "/none", "no such file or directory"},
	} {
		e := &environment{lookup: env{}.lookup}
		_, err := e.expand("redis", "redis://:${file:"+test.path+"}@h")
		if got, want := usageOf(t, err), "${file:"+test.path+"}: "+test.want; !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMaskQuery(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""}, {"a=b", "?a=***"}, {"a=", "?a=***"}, {"a", "?***"}, {"=b", "?***"}, {"a=b&c=d=e&&f", "?a=***&c=***&***&***"},
		{"a%62=c", "?***"}, {"a+b=c", "?***"}, {"%zz=1", "?***"}, {"xs3cr3t=1", "?***"},
	} {
		if got := (&expanded{secrets: []string{"s3cr3t"}}).maskQuery(test.in); got != test.want {
			t.Errorf("maskQuery(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestPieces(t *testing.T) {
	for _, test := range []struct{ in, want string }{ // references in brackets
		{"", ""}, {"a", "a"}, {"${A}", "[A]"}, {"a${A}b${B}", "a[A]b[B]"}, {"$${A}", "$[A]"}, {"${${A}}", "[${A]}"}, {"$A{}", "$A{}"}, {"${}", "[]"},
	} {
		list, err := pieces(test.in)
		got := ""
		for _, p := range list {
			if p.isRef {
				got += "[" + p.name + "]"
			} else {
				got += p.text
			}
		}
		if err != nil || got != test.want {
			t.Errorf("pieces(%q) = %q, %v, want %q", test.in, got, err, test.want)
		}
	}
	if _, err := pieces("a${b"); err == nil {
		t.Error("pieces of a ${ without its }: no error")
	}
}
