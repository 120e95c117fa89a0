package probe

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// What is sent for a URL, to a server that has no objections.
func TestRedisCommands(t *testing.T) {
	lookup := env{"PW": "p w\r\n@x", "U": "app", "EMPTY": ""}.lookup
	auth := func(password string) func(string) (string, bool) {
		return env{"REDISCLI_AUTH": password, "PW": "x"}.lookup
	}
	for _, test := range []struct {
		url    string
		lookup func(string) (string, bool)
		want   string
	}{
		{"redis://HOST", lookup, "PING"},
		{"redis://HOST/0", lookup, "PING"},
		{"redis://HOST/3", lookup, "SELECT 3, PING"},
		{"redis://HOST?db=3", lookup, "SELECT 3, PING"},
		{"redis://:pw@HOST", lookup, "AUTH pw, PING"},
		{"redis://pw@HOST", lookup, "AUTH pw, PING"},
		{"redis://app:pw@HOST/1", lookup, "AUTH app pw, SELECT 1, PING"},
		{"redis://a%40b:p%3Aw@HOST", lookup, "AUTH a@b p:w, PING"},
		{"redis://${U}:${PW}@HOST", lookup, "AUTH app p w\r\n@x, PING"},
		{"redis://HOST?password=${PW}", lookup, "AUTH p w\r\n@x, PING"},
		{"redis://HOST?password=pw&password=pw", lookup, "AUTH pw, PING"},
		{"redis://app:@HOST?password=pw", lookup, "AUTH app pw, PING"},
		{"redis://:pw@HOST?password=pw", lookup, "AUTH pw, PING"},
		{"redis://:${EMPTY}@HOST", lookup, "PING"},
		{"redis://app:@HOST", lookup, "AUTH app , PING"}, // nopass
		{"redis://HOST", auth("env"), "AUTH env, PING"},
		{"redis://:@HOST", auth("env"), "AUTH env, PING"},
		{"redis://app:@HOST", auth("env"), "AUTH app env, PING"},
		{"redis://:pw@HOST", auth("env"), "AUTH pw, PING"},
		{"redis://HOST?password=pw", auth("env"), "AUTH pw, PING"},
		{"redis://HOST", auth(""), "PING"},
	} {
		got := make(chan string, 1)
		addr := testbed.Serve(t, func(conn net.Conn) {
			var commands []string
			for {
				args, err := readCommand(conn)
				if err != nil {
					got <- strings.Join(commands, ", ")
					return
				}
				commands = append(commands, strings.Join(args, " "))
				io.WriteString(conn, map[bool]string{true: "+PONG\r\n", false: "+OK\r\n"}[args[0] == "PING"])
			}
		})
		r := tryOut(t, Options{LookupEnv: test.lookup}, "redis", strings.Replace(test.url, "HOST", addr, 1))
		if r.Status != OK || r.Seen() != "PONG" {
			t.Errorf("%s: %s %q", test.url, r.Status, r.Seen())
		}
		if commands := <-got; commands != test.want {
			t.Errorf("%s: sent %q, want %q", test.url, commands, test.want)
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(r io.Reader) ([]string, error) {
	n, err := readNumber(r, '*')
	args := make([]string, n)
	for i := range args {
		if n, err = readNumber(r, '$'); err != nil {
			return nil, err
		}
		b := make([]byte, n+2)
		if _, err = io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(bytes.TrimSuffix(b, []byte("\r\n")))
	}
	return args, err
}

func readNumber(r io.Reader, kind byte) (n int, err error) {
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, b...) {
		if _, err := io.ReadFull(r, b); err != nil {
			return 0, err
		}
	}
	_, err = fmt.Sscanf(string(line), string(kind)+"%d\r\n", &n)
	return n, err
}

// Each of the replies, in its order, and what is seen.
func TestRedisReplies(t *testing.T) {
	for _, test := range []struct {
		replies, want string
	}{
		{"+OK\r\n+OK\r\n+PONG\r\n", "PONG"},
		{"+OK\r\n+OK\r\n+pong\r\n", `reply: PING was answered with "pong", want "PONG"`},
		{"+OK\r\n+OK\r\n+s3cr3t\x00\x1b[31m\r\n", `reply: PING was answered with "***\x00\x1b[31m", want "PONG"`},
		{"+OK\r\n+QUEUED\r\n", `reply: SELECT was answered with "QUEUED", want "OK"`},
		{"+PONG\r\n", `auth: AUTH was answered with "PONG", want "OK"`},
		{"-WRONGPASS invalid username-password pair or user is disabled.\r\n", "auth: WRONGPASS invalid username-password pair or user is disabled."},
		{"-ERR invalid password s3cr3t\r\n", "auth: ERR …"},
		{"-ERR unknown command 'AUTH', with args beginning with: 's3c\r\n", "auth: ERR …"}, // cut
		{"-s3c r3t\r\n", "auth: …"},
		{"+s3c\r\n", `auth: AUTH was answered with "…", want "OK"`},
		{"-ERR max number of clients reached\r\n", "reply: ERR max number of clients reached"},
		{"-DENIED Redis is running in protected mode\r\n", "auth: DENIED Redis is running in protected mode"},
		{"+OK\r\n-ERR DB index is out of range\r\n", "reply: ERR DB index is out of range"},
		{"+OK\r\n-NOPERM this user has no permissions to run the 'select' command\r\n", "auth: NOPERM this user has no permissions to run the 'select' command"},
		{"+OK\r\n+OK\r\n-LOADING Redis is loading the dataset in memory\r\n", "reply: LOADING Redis is loading the dataset in memory"},
		{"+OK\r\n+OK\r\n-MASTERDOWN Link with MASTER is down\r\n", "reply: MASTERDOWN Link with MASTER is down"},
		{"+OK\r\n+OK\r\n-NOAUTH Authentication required.\r\n", "auth: NOAUTH Authentication required."},
		{"-\r\n", "auth: an error reply without words"},
		{"+OK\r\n+OK\r\n$4\r\nPONG\r\n", "reply: unexpected reply of type \"$\", want a simple string"},
		{"+OK\r\n+OK\r\n+PONG\n", "reply: reply line does not end in CR LF"},
		{"+OK\r\n+OK\r\n+" + strings.Repeat("x", 5000) + "\r\n", "reply: reply line longer than 4096 bytes"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", "reply: not Redis: it speaks HTTP"},
		{"SSH-2.0-OpenSSH\r\n", "reply: not Redis: it speaks SSH"},
		{"", "auth: the server closed the connection"},
		{"+O", "auth: the server closed the connection in the middle of its answer"},
	} {
		addr := testbed.Serve(t, func(conn net.Conn) {
			for _, reply := range strings.SplitAfter(test.replies, "\r\n") {
				if _, err := readCommand(conn); err != nil {
					return
				}
				io.WriteString(conn, reply)
			}
			if strings.HasSuffix(test.replies, "\n") {
				readCommand(conn)
			}
		})
		if strings.Contains(test.replies, "$4") { // two lines, one reply
			addr = answersRedis(t, "+OK\r\n", "+OK\r\n", "$4\r\nPONG\r\n")
		}
		if r := tryOut(t, Options{}, "redis", "redis://:s3cr3t@"+addr+"/1"); r.Seen() != test.want {
			t.Errorf("%q: %q, want %q", test.replies, r.Seen(), test.want)
		}
	}
	// Words that are ours are not masked, which would tell what a password is.
	addr := testbed.Serve(t, func(conn net.Conn) { readCommand(conn) })
	if r := tryOut(t, Options{}, "redis", "redis://:server@"+addr); r.Seen() != "auth: the server closed the connection" {
		t.Errorf("our own words: %q", r.Seen())
	}
}

func answersRedis(t *testing.T, replies ...string) string {
	return testbed.Serve(t, func(conn net.Conn) {
		for _, reply := range replies {
			readCommand(conn)
			io.WriteString(conn, reply)
		}
		readCommand(conn)
	})
}

// An accepted URL's target, parsed again, names the same server, database and user, and holds no password; an error holds
// nothing that was inserted.
func FuzzRedisURL(f *testing.F) {
	for _, test := range targetTests {
		f.Add(test.in, "s3cr3t@evil:1/x?y#z")
	}
	for _, test := range usageTests {
		f.Add(test.in, "")
	}
	f.Add("redis://u:${S}@h/1", "")
	f.Add("unix://${S}@/run/x?db=1", "%2F")
	f.Fuzz(func(t *testing.T, value, secret string) {
		c := fuzzValue(t, "redis", value, secret)
		if c == nil {
			return
		}
		if strings.Contains(c.Target, "://"+mask+"@") { // an inserted user
			return
		}
		first, err := url.Parse(c.Target)
		if err != nil {
			t.Fatalf("%q: target %q: %v", value, c.Target, err)
		}
		if _, given := first.User.Password(); given || strings.Contains(first.Host, "MARK") && !strings.Contains(value, "MARK") {
			t.Errorf("%q: target %q has a password", value, c.Target)
		}
		if first.User != nil { // else a user alone is a password
			first.User = url.UserPassword(first.User.Username(), "")
		}
		again, err := parseOne(Options{}, "redis", first.String())
		if err != nil {
			t.Fatalf("%q: target %q: %q", value, c.Target, usageOf(t, err))
		}
		if again.Target != c.Target {
			t.Errorf("%q: target %q, parsed again %q", value, c.Target, again.Target)
		}
	})
}
