package probe

import (
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// A fakePG is a server that plays its part as a test wants it.
type fakePG struct {
	tls    *tls.Config                              // nil: it has none
	refuse func(user string, encrypted bool) string // "SQLSTATE message", or ""
	auth   string                                   // "": trust; else md5 with this password
	params [][2]string                              // ParameterStatus
	answer map[string]string                        // of queries other than SELECT 1
	stuff  string                                   // sent behind the answer to SSLRequest

	mu  sync.Mutex
	log []string // what came: "ssl", "plain user", "tls user", queries, "bye"
}

func (f *fakePG) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

// pgMessage is one message of a server.
func pgMessage(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))) + body
}

func readPG(r io.Reader, kind bool) (byte, []byte, error) {
	head := make([]byte, 5)
	if !kind {
		head = head[1:]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
	_, err := io.ReadFull(r, body)
	return head[0], body, err
}

func pgError(code, message string) string {
	return pgMessage('E', "SFATAL\x00VFATAL\x00C"+code+"\x00M"+message+"\x00\x00")
}

func (f *fakePG) serve(conn net.Conn) {
	encrypted := false
	for {
		_, body, err := readPG(conn, false)
		switch {
		case err != nil:
			return
		case binary.BigEndian.Uint32(body) != 80877103:
			f.session(conn, body, encrypted)
			return
		case f.tls == nil:
			f.note("ssl")
			io.WriteString(conn, "N"+f.stuff)
		default:
			f.note("ssl")
			io.WriteString(conn, "S"+f.stuff)
			t := tls.Server(conn, f.tls)
			if t.Handshake() != nil {
				return
			}
			defer t.Close()
			conn, encrypted = t, true
		}
	}
}

func (f *fakePG) session(conn net.Conn, startup []byte, encrypted bool) {
	user := strings.Split(string(startup[4:]), "\x00")[1]
	f.note("%s %s", map[bool]string{true: "tls", false: "plain"}[encrypted], user)
	if f.refuse != nil {
		if code, message, ok := strings.Cut(f.refuse(user, encrypted), " "); ok {
			io.WriteString(conn, pgError(code, message))
			return
		}
	}
	if f.auth != "" {
		io.WriteString(conn, pgMessage('R', "\x00\x00\x00\x05salt"))
		_, body, err := readPG(conn, true)
		if err != nil {
			return
		}
		inner := md5.Sum([]byte(f.auth + user))
		outer := md5.Sum([]byte(hex.EncodeToString(inner[:]) + "salt"))
		if string(body) != "md5"+hex.EncodeToString(outer[:])+"\x00" {
			io.WriteString(conn, pgError("28P01", "password authentication failed for user \""+user+"\""))
			return
		}
	}
	io.WriteString(conn, pgMessage('R', "\x00\x00\x00\x00"))
	for _, p := range f.params {
		io.WriteString(conn, pgMessage('S', p[0]+"\x00"+p[1]+"\x00"))
	}
	io.WriteString(conn, pgMessage('Z', "I"))
	for {
		kind, body, err := readPG(conn, true)
		switch {
		case err != nil:
			return
		case kind == 'X':
			f.note("bye")
			return
		}
		query := strings.TrimSuffix(string(body), "\x00")
		value := "1"
		if query != "SELECT 1" {
			f.note("%s", query)
			value = f.answer[query]
		}
		row := string(binary.BigEndian.AppendUint32([]byte{0, 1}, uint32(len(value)))) + value
		io.WriteString(conn, pgMessage('T', "\x00\x01")+pgMessage('D', row)+pgMessage('C', "SELECT 1\x00")+pgMessage('Z', "I"))
	}
}

func (f *fakePG) start(t *testing.T) string { return testbed.Serve(t, f.serve) }

const (
	hba    = "28000 no pg_hba.conf entry for this host"
	wrong  = "28P01 password authentication failed"
	warmup = "57P03 the database system is starting up"
	full   = "53300 sorry, too many clients already"
)

// The ways that sslmode leads, against servers with and without TLS that refuse one of them.
func TestPostgresWays(t *testing.T) {
	ca, stranger := testbed.NewCA(t), testbed.NewCA(t)
	good := &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, testbed.Leaf{}).TLS(t)}}
	named := &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, testbed.Leaf{Names: []string{"db.example"}}).TLS(t)}}
	old := &tls.Config{Certificates: good.Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	plainOnly := func(_ string, encrypted bool) string { return map[bool]string{true: hba, false: ""}[encrypted] }
	tlsOnly := func(_ string, encrypted bool) string { return map[bool]string{false: hba, true: ""}[encrypted] }
	always := func(code string) func(string, bool) string { return func(string, bool) string { return code } }
	const healthy = "SELECT 1 answered"
	for _, test := range []struct {
		query  string // of the URL
		o      TLSOptions
		server *fakePG
		want   string // a prefix of what is seen
		log    string
	}{
		{"", TLSOptions{}, &fakePG{}, healthy, "ssl, plain app, bye"},
		{"sslmode=disable", TLSOptions{}, &fakePG{tls: good}, healthy, "plain app, bye"},
		{"", TLSOptions{}, &fakePG{tls: good}, healthy, "ssl, tls app, bye"},
		{"sslmode=allow", TLSOptions{}, &fakePG{tls: good}, healthy, "plain app, bye"},
		{"sslmode=require", TLSOptions{}, &fakePG{tls: good}, healthy, "ssl, tls app, bye"},
		{"sslmode=require", TLSOptions{}, &fakePG{}, "tls: the server has no TLS, and sslmode=require wants it", "ssl"},
		{"ssl=true", TLSOptions{}, &fakePG{}, "tls: the server has no TLS, and sslmode=require wants it", "ssl"},

		{"", TLSOptions{}, &fakePG{tls: good, refuse: plainOnly}, healthy, "ssl, tls app, plain app, bye"},
		{"sslmode=allow", TLSOptions{}, &fakePG{tls: good, refuse: tlsOnly}, healthy, "plain app, ssl, tls app, bye"},
		{"sslmode=allow", TLSOptions{}, &fakePG{refuse: tlsOnly}, "auth: FATAL 28000: no pg_hba.conf entry", "plain app, ssl, plain app"},
		{"sslmode=require", TLSOptions{}, &fakePG{tls: good, refuse: plainOnly}, "auth: FATAL 28000: no pg_hba.conf entry", "ssl, tls app"},
		{"", TLSOptions{}, &fakePG{tls: good, refuse: always(wrong)}, "auth: FATAL 28P01: password authentication failed", "ssl, tls app, plain app"},
		{"", TLSOptions{}, &fakePG{tls: good, refuse: always(warmup)}, "reply: FATAL 57P03: the database system is starting up", "ssl, tls app"},
		{"sslmode=allow", TLSOptions{}, &fakePG{tls: good, refuse: always(full)}, "reply: FATAL 53300: sorry, too many clients already", "plain app"},
		{"", TLSOptions{}, &fakePG{refuse: always(hba)}, "auth: FATAL 28000: no pg_hba.conf entry", "ssl, plain app"},
		{"", TLSOptions{}, &fakePG{tls: old}, healthy, "ssl, plain app, bye"},
		{"sslmode=require", TLSOptions{}, &fakePG{tls: old}, "tls: ", "ssl"},

		// What we refuse ourselves, or what is an attack, is no reason to try without TLS.
		{"require_auth=scram-sha-256", TLSOptions{}, &fakePG{tls: good}, "auth: require_auth: the server did not ask for authentication", "ssl, tls app"},
		{"", TLSOptions{}, &fakePG{tls: good, auth: "secret"}, "auth: md5: the server wants a password, and none is given", "ssl, tls app"},
		{"channel_binding=require&password=x", TLSOptions{}, &fakePG{tls: good, auth: "x"}, "auth: channel_binding=require, and the server asks for md5", "ssl, tls app"},
		{"", TLSOptions{}, &fakePG{tls: good, stuff: "E"}, "tls: the server sent bytes behind its answer to SSLRequest", "ssl"},
		{"", TLSOptions{}, &fakePG{tls: good, stuff: "SH-2.0-OpenSSH"}, "reply: not PostgreSQL: it speaks SSH", "ssl"},

		// Verification.
		{"sslmode=require", TLSOptions{CA: stranger.File}, &fakePG{tls: good}, "tls: certificate signed by unknown authority", "ssl"},
		{"sslmode=require", TLSOptions{CA: stranger.File, Insecure: true}, &fakePG{tls: good}, healthy, "ssl, tls app, bye"},
		{"sslmode=require", TLSOptions{CA: ca.File}, &fakePG{tls: named}, healthy, "ssl, tls app, bye"},
		{"", TLSOptions{CA: stranger.File}, &fakePG{tls: good}, healthy, "ssl, plain app, bye"}, // as libpq
		{"sslmode=verify-ca", TLSOptions{CA: ca.File}, &fakePG{tls: named}, healthy, "ssl, tls app, bye"},
		{"sslmode=verify-ca", TLSOptions{CA: stranger.File}, &fakePG{tls: named}, "tls: certificate signed by unknown authority", "ssl"},
		{"sslmode=verify-ca", TLSOptions{CA: stranger.File, Insecure: true}, &fakePG{tls: named}, "tls: certificate signed by unknown authority", "ssl"},
		{"sslmode=verify-full", TLSOptions{CA: ca.File}, &fakePG{tls: good}, healthy, "ssl, tls app, bye"},
		{"sslmode=verify-full", TLSOptions{CA: ca.File}, &fakePG{tls: named}, "tls: certificate is valid for db.example, not 127.0.0.1", "ssl"},
		{"sslmode=verify-full", TLSOptions{CA: ca.File, ServerName: "db.example"}, &fakePG{tls: named}, healthy, "ssl, tls app, bye"},
		{"sslmode=verify-full&sslrootcert=" + ca.File, TLSOptions{CA: stranger.File}, &fakePG{tls: good}, healthy, "ssl, tls app, bye"},
		{"sslrootcert=system", TLSOptions{}, &fakePG{tls: good}, "tls: certificate signed by unknown authority", "ssl"},
		{"sslmode=verify-full&sslrootcert=system", TLSOptions{Insecure: true}, &fakePG{tls: good}, "tls: certificate signed by unknown authority", "ssl"},

		{"password=right", TLSOptions{}, &fakePG{auth: "right"}, healthy, "ssl, plain app, bye"},
		{"password=wrong", TLSOptions{}, &fakePG{auth: "right"}, `auth: FATAL 28P01: password authentication failed for user "app"`, "ssl, plain app"},
	} {
		f, want := test.server, test.log
		r := tryOut(t, Options{TLS: test.o}, "postgres", "postgres://app@"+f.start(t)+"/shop?"+test.query)
		if !strings.HasPrefix(r.Seen(), test.want) {
			t.Errorf("%q %+v: %q, want %q", test.query, test.o, r.Seen(), test.want)
		}
		eventually(t, func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if got := strings.Join(f.log, ", "); got != want {
				return fmt.Errorf("%q %+v: came %q, want %q", test.query, test.o, got, want)
			}
			return nil
		})
	}
}

// eventually polls for what another goroutine brings about.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	for until := time.Now().Add(patient); ; time.Sleep(time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

// Direct TLS wants the ALPN protocol postgresql.
func TestPostgresDirectTLS(t *testing.T) {
	pair := testbed.NewCA(t).Issue(t, testbed.Leaf{})
	for _, test := range []struct {
		protocols []string
		want      string
	}{
		{[]string{"postgresql"}, "SELECT 1 answered"},
		{nil, "tls: direct TLS without the ALPN protocol postgresql"},
		{[]string{"h2"}, "tls: the server refuses: no application protocol"},
	} {
		f := &fakePG{}
		addr := testbed.Serve(t, func(conn net.Conn) {
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}, NextProtos: test.protocols})
			defer s.Close()
			f.serve(s)
		})
		r := tryOut(t, Options{}, "postgres", "postgres://app@"+addr+"/shop?sslmode=require&sslnegotiation=direct")
		if r.Seen() != test.want {
			t.Errorf("%q: %q, want %q", test.protocols, r.Seen(), test.want)
		}
	}
}

// Which host of several serves, in libpq's order.
func TestPostgresHosts(t *testing.T) {
	primary := &fakePG{params: [][2]string{{"in_hot_standby", "off"}, {"default_transaction_read_only", "off"}, {"server_version", "16.1 (Debian)"}}}
	standby := &fakePG{params: [][2]string{{"in_hot_standby", "on"}, {"default_transaction_read_only", "off"}, {"server_version", "16.2"}}}
	readOnly := &fakePG{params: [][2]string{{"in_hot_standby", "off"}, {"default_transaction_read_only", "on"}, {"server_version", "16.3"}}}
	oldPrimary := &fakePG{params: [][2]string{{"server_version", "13.1"}}, answer: map[string]string{"SELECT pg_catalog.pg_is_in_recovery()": "f", "SHOW transaction_read_only": "off"}}
	oldStandby := &fakePG{params: [][2]string{{"server_version", "13.2"}}, answer: map[string]string{"SELECT pg_catalog.pg_is_in_recovery()": "t", "SHOW transaction_read_only": "on"}}
	starting := &fakePG{refuse: func(string, bool) string { return warmup }}
	locked := &fakePG{refuse: func(string, bool) string { return wrong }}
	hosts := strings.NewReplacer("primary", primary.start(t), "standby", standby.start(t), "readonly", readOnly.start(t), "oldp", oldPrimary.start(t),
		"olds", oldStandby.start(t), "starting", starting.start(t), "locked", locked.start(t), "dead", dead(t))
	for _, test := range []struct{ hosts, attrs, want string }{
		{"primary", "any", "PostgreSQL 16.1, SELECT 1 answered"},
		{"dead,standby", "any", "PostgreSQL 16.2, SELECT 1 answered"},
		{"starting,standby", "any", "PostgreSQL 16.2, SELECT 1 answered"},
		{"locked,standby", "any", "auth: FATAL 28P01: password authentication failed"},
		{"standby,primary", "primary", "PostgreSQL 16.1, SELECT 1 answered"},
		{"standby,readonly,primary", "read-write", "PostgreSQL 16.1, SELECT 1 answered"},
		{"primary,readonly", "read-only", "PostgreSQL 16.3, SELECT 1 answered"},
		{"primary,standby", "read-only", "PostgreSQL 16.2, SELECT 1 answered"},
		{"primary,readonly,standby", "standby", "PostgreSQL 16.2, SELECT 1 answered"},
		{"primary,standby", "prefer-standby", "PostgreSQL 16.2, SELECT 1 answered"},
		{"dead,primary", "prefer-standby", "PostgreSQL 16.1, SELECT 1 answered"},
		{"olds,oldp", "read-write", "PostgreSQL 13.1, SELECT 1 answered"},
		{"oldp,olds", "standby", "PostgreSQL 13.2, SELECT 1 answered"},
		{"primary", "standby", "reply: target_session_attrs=standby: the server is a primary"},
		{"standby", "read-write", "reply: target_session_attrs=read-write: the server is read-only"},
		{"dead,starting", "any", "connect: dead: connection refused; starting: FATAL 57P03: the database system is starting up"},
		{"primary,dead", "standby", "reply: primary: target_session_attrs=standby: the server is a primary; dead: connection refused"},
	} {
		r := tryOut(t, Options{}, "postgres", "postgres://app@"+hosts.Replace(test.hosts)+"/shop?sslmode=disable&target_session_attrs="+test.attrs)
		want := test.want
		if strings.Contains(test.hosts, ",") && strings.Contains(want, ";") {
			phase, rest, _ := strings.Cut(want, ": ")
			first, second, _ := strings.Cut(rest, "; ")
			a, x, _ := strings.Cut(first, ": ")
			b, y, _ := strings.Cut(second, ": ")
			want = phase + ": " + hosts.Replace(a) + ": " + x + "; " + hosts.Replace(b) + ": " + y
		}
		if r.Seen() != want {
			t.Errorf("%s, %s: %q, want %q", test.hosts, test.attrs, r.Seen(), want)
		}
	}
	eventually(t, func() error { // no connection is left without a goodbye
		primary.mu.Lock()
		defer primary.mu.Unlock()
		if in, out := strings.Count(strings.Join(primary.log, ","), "app"), strings.Count(strings.Join(primary.log, ","), "bye"); in != out {
			return fmt.Errorf("%d logins, %d goodbyes", in, out)
		}
		return nil
	})
}

// dead is an address that nothing listens on.
func dead(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A silent host takes its share of the time, and what is said of it is the same each time.
func TestPostgresShares(t *testing.T) {
	t.Parallel() // most of it is waiting
	quiet, good := testbed.Serve(t, silent), (&fakePG{}).start(t)
	o := Options{Timeout: 3 * time.Second}
	if r := tryOut(t, o, "postgres", "postgres://app@"+quiet+","+good+"/shop"); r.Status != OK {
		t.Errorf("silent, healthy: %q", r.Seen())
	}
	c := mustParse(t, Options{Timeout: 200 * time.Millisecond}, "postgres", "postgres://app@"+quiet+","+quiet+"/shop")
	want := "reply: " + quiet + ": timeout; " + quiet + ": timeout"
	for range 3 {
		if r := c.Run(context.Background()); r.Seen() != want || !r.TimedOut {
			t.Errorf("silent, silent: %q, %v, want %q", r.Seen(), r.TimedOut, want)
		}
	}
	r := tryOut(t, Options{}, "postgres", "postgres://app@"+quiet+"/shop?connect_timeout=1")
	if want := "reply: timeout after 1s, the connect_timeout"; r.Seen() != want || !r.TimedOut {
		t.Errorf("connect_timeout: %q, %v, want %q", r.Seen(), r.TimedOut, want)
	}
}

// Where a password comes from.
func TestPostgresPasswords(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := &fakePG{auth: "right"}
	addr := f.start(t)
	line := "127.0.0.1:*:shop:app:right\n"
	private, open := write(".pgpass", line, 0o600), write("open", line, 0o640)
	home := write("other", "127.0.0.1:1:shop:app:wrong\n*:*:*:app:right\n", 0o400)
	const none = "auth: md5: the server wants a password, and none is given"
	const healthy = "SELECT 1 answered"
	for _, test := range []struct {
		query string
		env   env
		want  string
	}{
		{"", nil, none},
		{"password=right", nil, healthy},
		{"password=${PW}", env{"PW": "right"}, healthy},
		{"", env{"PGPASSWORD": "right"}, healthy},
		{"password=right", env{"PGPASSWORD": "wrong"}, healthy},
		{"passfile=" + private, nil, healthy},
		{"passfile=" + open, nil, none + "; password file " + open + " is ignored: others may read it (chmod 600)"},
		{"passfile=" + dir, nil, none + "; password file " + dir + " is ignored: not a regular file"},
		{"passfile=/no/such", nil, none + "; password file /no/such is ignored: no such file or directory"},
		{"passfile=" + home, nil, healthy},
		{"", env{"PGPASSFILE": private}, healthy},
		{"", env{"HOME": dir}, healthy},
		{"password=&passfile=" + private, nil, healthy},
		{"password=right", env{"PGPASSFILE": home, "HOME": dir}, healthy},
	} {
		lookup := test.env.lookup
		r := tryOut(t, Options{LookupEnv: lookup}, "postgres", "postgres://app@"+addr+"/shop?sslmode=disable&"+test.query)
		if r.Seen() != test.want {
			t.Errorf("%q %v: %q, want %q", test.query, test.env, r.Seen(), test.want)
		}
	}
}

// A socket directory, and the default of no host at all.
func TestPostgresSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5433"))
	if err != nil {
		t.Fatal(err)
	}
	testbed.ServeOn(t, l, (&fakePG{}).serve)
	for _, url := range []string{
		"postgres://app@" + strings.ReplaceAll(dir, "/", "%2F") + ":5433/shop",
		"postgres:///shop?user=app&port=5433&host=" + dir,
		"postgres:///shop?user=app&port=5433&sslmode=require&host=" + dir, // no TLS there
	} {
		if r := tryOut(t, Options{}, "postgres", url); r.Status != OK {
			t.Errorf("%s: %q", url, r.Seen())
		}
	}
	saved := pgSocketDirs
	defer func() { pgSocketDirs = saved }()
	pgSocketDirs = []string{"/no/such", dir}
	if r := tryOut(t, Options{}, "postgres", "postgres://app@:5433/shop"); r.Status != OK {
		t.Errorf("no host, a socket: %q", r.Seen())
	}
	pgSocketDirs = nil
	ca := testbed.NewCA(t)
	f := &fakePG{tls: &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, testbed.Leaf{}).TLS(t)}}}
	_, port, _ := net.SplitHostPort(f.start(t))
	if r := tryOut(t, Options{TLS: TLSOptions{CA: ca.File}}, "postgres", "postgres://app@:"+port+"/shop?sslmode=verify-full"); r.Status != OK {
		t.Errorf("no host, no socket: %q", r.Seen())
	}
}

// An echoing server's words are masked; the user's name, which is shown anyway, is not.
func TestPostgresEcho(t *testing.T) {
	f := &fakePG{refuse: func(user string, _ bool) string { return "28000 " + user + " s3cr3t env\x1b" }}
	addr := f.start(t)
	for _, test := range []struct{ url, want string }{
		{"postgres://app:s3cr3t@", "auth: FATAL 28000: app *** env\\x1b"},
		{"postgres://s3cr3t:s3cr3t@", "auth: FATAL 28000: s3cr3t s3cr3t env\\x1b"},
		{"postgres://${U}:${PW}@", "auth: FATAL 28000: *** *** env\\x1b"},
	} {
		r := tryOut(t, Options{LookupEnv: env{"U": "app", "PW": "s3cr3t"}.lookup}, "postgres", test.url+addr+"/shop")
		if r.Seen() != test.want {
			t.Errorf("%s: %q, want %q", test.url, r.Seen(), test.want)
		}
	}
	r := tryOut(t, Options{LookupEnv: env{"PGPASSWORD": "env"}.lookup}, "postgres", "postgres://app@"+addr+"/shop")
	if want := "auth: FATAL 28000: app s3cr3t ***\\x1b"; r.Seen() != want {
		t.Errorf("PGPASSWORD: %q, want %q", r.Seen(), want)
	}
}
