package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

var passfiles = []struct {
	file, host, port, database, user string
	want                             string
}{
	// fields
	{"db:5432:shop:app:pw", "db", "", "shop", "app", "pw"},
	{"db:5432:shop:app:pw\n", "db", "5432", "shop", "app", "pw"},
	{"db:5432:shop:app:pw\r\n", "db", "5432", "shop", "app", "pw"},
	{"db:5433:shop:app:pw", "db", "", "shop", "app", ""},
	{"db:5432:shop:app:pw", "db2", "", "shop", "app", ""},
	{"db:5432:shop:app:pw", "d", "", "shop", "app", ""},
	{"db:5432:shop:app:pw", "db", "", "shop2", "app", ""},
	{"db:5432:shop:app:pw", "db", "", "shop", "App", ""},
	{"db:5432:shop:app:", "db", "", "shop", "app", ""},
	{"db:5432:shop:app", "db", "", "shop", "app", ""},
	{"db:5432", "db", "", "shop", "app", ""},
	{"", "db", "", "shop", "app", ""},
	{"\n\n\ndb:5432:shop:app:pw", "db", "", "shop", "app", "pw"},
	{"db:05432:shop:app:pw", "db", "", "shop", "app", ""},
	{" db:5432:shop:app:pw", "db", "", "shop", "app", ""},
	{"db:5432:shop:app: p w ", "db", "", "shop", "app", " p w "},
	{"db:5432:shop:app:pw:ignored", "db", "", "shop", "app", "pw"},

	// wildcards
	{"*:*:*:*:pw", "db", "5433", "shop", "app", "pw"},
	{"db:*:*:app:pw", "db", "5433", "shop", "app", "pw"},
	{"*:5432:*:*:pw", "db", "5433", "shop", "app", ""},
	{"d*:*:*:*:pw", "db", "", "shop", "app", ""},
	{"**:*:*:*:pw", "db", "", "shop", "app", ""},
	{`\*:*:*:*:pw`, "db", "", "shop", "app", ""},
	{`*:*:\*:*:pw`, "db", "", "*", "app", "pw"},
	{"*:*:*:*:*", "db", "", "shop", "app", "*"},

	// order and comments
	{"db:*:shop:app:1\n*:*:*:*:2\n", "db", "", "shop", "app", "1"},
	{"other:*:shop:app:1\n*:*:*:*:2\n", "db", "", "shop", "app", "2"},
	{"db:*:shop:app:\n*:*:*:*:2\n", "db", "", "shop", "app", ""},
	{"# db:*:*:*:1\n#\n*:*:*:*:2\n", "db", "", "shop", "app", "2"},
	{"#db:*:*:*:1", "#db", "", "shop", "app", ""},
	{`\#db:*:*:*:1`, "#db", "", "shop", "app", "1"},
	{"db:*:*:*:p#w", "db", "", "shop", "app", "p#w"},

	// backslashes
	{`db:*:*:app:p\:w`, "db", "", "shop", "app", "p:w"},
	{`db:*:*:app:p\\w`, "db", "", "shop", "app", `p\w`},
	{`db:*:*:app:p\\:w`, "db", "", "shop", "app", `p\`},
	{`db:*:*:app:\p\w`, "db", "", "shop", "app", "pw"},
	{`db:*:*:app:pw\`, "db", "", "shop", "app", `pw\`},
	{`db:*:*:app:pw\\`, "db", "", "shop", "app", `pw\`},
	{`d\b:*:*:app:pw`, "db", "", "shop", "app", "pw"},
	{`\:\:1:*:*:app:pw`, "::1", "", "shop", "app", "pw"},
	{"::1:*:*:app:pw", "::1", "", "shop", "app", "pw"},
	{"a:b:*:*:app:pw", "a", "", "shop", "app", ""},
	{"a:5432:b:c:5432:d:e:pw", "a:5432", "", "c", "d", ""},
	{"a:5432:b:c:d:pw", "a", "", "b:c", "d", "pw"},
	{`a:*:b\c:d:pw`, "a", "", `b\c`, "d", ""},
	{`a:*:b\`, "a", "", `b`, "d", ""},
	{`a:*:b\`, "a", "", `b\`, "d", ""},
	{`db:*:a\\b:app:pw`, "db", "", `a\b`, "app", "pw"},
	{`db:*:a\:b:a\\:pw`, "db", "", "a:b", `a\`, "pw"},
	{`db:*:shop\:app:pw`, "db", "", "shop", "app", ""},

	// sockets: testSocketDir is the directory that an empty host stands for
	{"localhost:*:*:*:pw", "", "", "shop", "app", "pw"},
	{"localhost:*:*:*:pw", "localhost", "", "shop", "app", "pw"},
	{"localhost:*:*:*:pw", testSocketDir, "", "shop", "app", "pw"},
	{testSocketDir + ":*:*:*:pw", testSocketDir, "", "shop", "app", ""},
	{testSocketDir + ":*:*:*:pw", "", "", "shop", "app", ""},
	{"localhost:*:*:*:pw", "/no/such/dir", "", "shop", "app", ""},
	{"/no/such/dir:*:*:*:pw", "/no/such/dir", "", "shop", "app", "pw"},
	{"@pg:*:*:*:pw", "@pg", "", "shop", "app", "pw"},
}

const testSocketDir = "/var/run/postgresql" // Debian's, so that its libpq can be asked

func TestLookupPassword(t *testing.T) {
	for _, tt := range passfiles {
		got, err := LookupPassword(strings.NewReader(tt.file), PassfileKey{tt.host, tt.port, tt.database, tt.user, testSocketDir})
		if err != nil || got != tt.want {
			t.Errorf("LookupPassword(%q, %q, %q, %q, %q) = %q, %v, want %q", tt.file, tt.host, tt.port, tt.database, tt.user, got, err, tt.want)
		}
	}
	for _, key := range []PassfileKey{{}, {User: "app"}, {Database: "shop"}} {
		if got, err := LookupPassword(strings.NewReader("*:*:*:*:pw"), key); got != "" || err != nil {
			t.Errorf("LookupPassword(%q, %+v) = %q, %v, want %q", "*:*:*:*:pw", key, got, err, "")
		}
	}
}

func TestLibpqPassfile(t *testing.T) {
	dir := t.TempDir()
	var questions []libpqQuestion
	for i, tt := range passfiles {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		u := PGURI{map[string]string{"host": tt.host, "port": tt.port, "dbname": tt.database, "user": tt.user, "passfile": file}}
		s := u.String() + "&connect_timeout=2" // should a silent server be there
		if tt.host != "" && !isSocketDir(tt.host) {
			s += "&hostaddr=127.0.0.1" // the password goes by the name all the same
		}
		questions = append(questions, libpqQuestion{s, true})
	}
	_, answers := askLibpq(t, questions)
	for i, tt := range passfiles {
		got, err := hex.DecodeString(answers[i].Password)
		if err != nil || string(got) != tt.want {
			t.Errorf("PQpass(%q, passfile %q) = %q, %v, want %q", questions[i].URI, tt.file, got, answers[i].Err, tt.want)
		}
	}
}

func TestLookupPasswordLimits(t *testing.T) {
	key := PassfileKey{Host: "db", Database: "shop", User: "app"}
	const match = "db:*:*:*:pw"
	whole := strings.Repeat("\n", maxPassfile-len(match)) + match
	if got, err := LookupPassword(strings.NewReader(whole), key); got != "pw" || err != nil {
		t.Errorf("LookupPassword(a file of %d bytes) = %q, %v, want %q", len(whole), got, err, "pw")
	}
	line := "db:*:*:*:" + strings.Repeat("x", maxPassfileLine-len("db:*:*:*:\n"))
	if got, err := LookupPassword(strings.NewReader(line+"\n"), key); err != nil || "db:*:*:*:"+got != line {
		t.Errorf("LookupPassword(a line of %d bytes) = %d bytes, %v, want %d", len(line)+1, len(got), err, len(line)-len("db:*:*:*:"))
	}
	secret := "hunter-2"
	for _, tt := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"an endless line", endless("db:*:*:*:" + secret), "line 1: longer than 16384 bytes"},
		{"a line one byte longer", strings.NewReader(line + "x\n"), "line 1: longer than 16384 bytes"},
		{"a file one byte larger", strings.NewReader("\n" + whole), fmt.Sprintf("line %d: the file is larger than 1048576 bytes", maxPassfile-len(match)+2)},
		{"an endless line that does not match", endless("other:*:*:*:" + secret), "line 1: the file is larger than 1048576 bytes"},
		{"endless lines", endless("other:*:*:*:" + secret + "\n"), "line 49933: the file is larger than 1048576 bytes"},
		{"a failing reader", io.MultiReader(strings.NewReader("x:*:*:*:"+secret+"\ny"), iotest.ErrReader(errors.New("broken"))), "line 2: broken"},
	} {
		got, err := LookupPassword(tt.r, key)
		if err == nil || err.Error() != tt.want || got != "" {
			t.Errorf("LookupPassword(%s) = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	for _, length := range []int{maxPassfileLine - 1, maxPassfileLine, maxPassfileLine + 1, 3 * maxPassfileLine} {
		other := "other:*:*:*:" + strings.Repeat("x", length-len("other:*:*:*:\n")) + "\n"
		if got, err := LookupPassword(strings.NewReader(other+"db:*:*:*:pw\n"), key); got != "pw" || err != nil {
			t.Errorf("LookupPassword(after a line of %d bytes that does not match) = %q, %v, want %q", length, got, err, "pw")
		}
	}
	if got, err := LookupPassword(endless("db:*:*:*:pw\n"), key); got != "pw" || err != nil {
		t.Errorf("LookupPassword(endless lines that match) = %q, %v, want %q", got, err, "pw")
	}
}

// endless repeats a text for ever.
type endless string

func (e endless) Read(p []byte) (int, error) { return copy(p, e), nil }

// FuzzLookupPassword holds that what is written with backslashes is found again, whatever stands in
// lines before it that do not match, and that no error holds anything of the file.
func FuzzLookupPassword(f *testing.F) {
	for _, tt := range passfiles {
		f.Add(tt.file, tt.host, tt.database, tt.user, tt.want)
	}
	f.Fuzz(func(t *testing.T, before, host, database, user, password string) {
		const mark = "hunter-2"
		key := PassfileKey{Host: host, Database: database, User: user, SocketDir: testSocketDir}
		if strings.ContainsAny(host+database+user, "\r\n") || strings.Contains(password, "\n") || strings.HasSuffix(password, "\r") {
			return // no line holds that
		}
		before = mark + strings.ReplaceAll(before, "\n", "\n"+mark) + "\n" // no host or comment begins with it, unless the fuzzer finds it
		if strings.HasPrefix(host, mark) {
			return // a line before may match
		}
		if host == "" || host == testSocketDir {
			host = "localhost"
		}
		backslash := strings.NewReplacer(`\`, `\\`, ":", `\:`, "*", `\*`, "#", `\#`)
		line := strings.Join([]string{backslash.Replace(host), "*", backslash.Replace(database), backslash.Replace(user), backslash.Replace(password)}, ":")
		got, err := LookupPassword(strings.NewReader(before+line), key)
		if err != nil {
			if strings.Contains(err.Error(), mark) {
				t.Fatalf("LookupPassword(%q) = %v, want an error without %q", before+line, err, mark)
			}
			if len(before+line) < maxPassfileLine {
				t.Fatalf("LookupPassword(%q) = %v, want %q", before+line, err, password)
			}
			return
		}
		want := password
		if database == "" || user == "" {
			want = ""
		}
		if got != want {
			t.Fatalf("LookupPassword(%q, %+v) = %q, want %q", before+line, key, got, want)
		}
	})
}
