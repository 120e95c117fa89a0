package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"alfred/healthcheck/test/testbed"
)

const (
	pgOK = "PostgreSQL 1…, SELECT 1 answered"

	wrongPassword = `auth: FATAL 28P01: password authentication failed for user "%s"`
)

// TestPostgres shares one cluster among all that needs a real server.
func TestPostgres(t *testing.T) {
	t.Parallel()
	ca := testbed.NewCA(t)
	cluster := testbed.InitPostgres(t, ca)
	for name, test := range map[string]func(*testing.T, *testbed.Cluster, *testbed.CA){
		"login":   pgLogin,
		"URI":     pgURI,
		"TLS":     pgTLS,
		"states":  pgStates,
		"log":     pgLog,
		"pooler":  pgPooler,
		"stopped": pgStopped,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, cluster, ca)
		})
	}
}

// pgLogin goes through the ways to log in.
func pgLogin(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	target := func(user, db string) string { return "postgres://" + user + "@" + s.Addr() + "/" + db }
	ok := func(user, password, query string) row {
		return row{args: "--postgres postgres://" + user + ":${PW}@" + s.Addr() + "/app" + query, env: []string{"PW=" + password},
			want: "ok    postgres  " + target(user, "app") + "  " + pgOK}
	}
	fail := func(user, password, db, why string) row {
		name, _, _ := strings.Cut(db, "?")
		return row{args: "--postgres postgres://" + user + ":${PW}@" + s.Addr() + "/" + db, env: []string{"PW=" + password}, status: 1,
			want: "FAIL  postgres  " + target(user, name) + "  " + why}
	}
	const pw = testbed.Password
	wrong := func(user string) string { return fmt.Sprintf(wrongPassword, user) }
	rows := []row{
		ok("trust", "", ""), ok("trust", "unused", ""),
		ok("clear", pw, ""), ok("md5", pw, ""), ok("md5scram", pw, ""), ok("scram", pw, ""),
		ok("odd", testbed.OddPassword, ""), ok("unicode", testbed.UnicodePassword, ""),
		ok("mapped", testbed.MappedPassword, ""), ok("mapped", "soft no break", ""),
		ok("one", pw, ""), ok("many", pw, ""), ok("limit1", pw, ""),
		ok("scram", pw, "?sslmode=disable"), ok("scram", pw, "?channel_binding=require"), ok("scram", pw, "?channel_binding=disable"),
		ok("scram", pw, "?require_auth=scram-sha-256"), ok("md5", pw, "?require_auth=md5"), ok("clear", pw, "?require_auth=!md5"),
		ok("trust", pw, "?require_auth=none"),
		ok("scram", pw, "?target_session_attrs=read-write"), ok("scram", pw, "?target_session_attrs=primary"), ok("scram", pw, "?target_session_attrs=prefer-standby"),
		ok("scram", pw, "?application_name=probe&options=-c%20geqo%3Doff"),
		fail("clear", "wrong", "app", wrong("clear")), fail("md5", "wrong", "app", wrong("md5")),
		fail("md5scram", "wrong", "app", wrong("md5scram")), fail("scram", "wrong", "app", wrong("scram")),
		fail("nosecret", pw, "app", wrong("nosecret")), fail("many", "wrong", "app", wrong("many")),
		fail("clear", "", "app", "auth: …password…"), fail("md5", "", "app", "auth: …password…"), fail("scram", "", "app", "auth: …password…"),
		fail("reject", pw, "app", `auth: FATAL 28000: pg_hba.conf rejects connection for host "127.0.0.1", user "reject", database "app", …`),
		fail("stranger", pw, "app", `auth: FATAL 28000: no pg_hba.conf entry for host "127.0.0.1", user "stranger", database "app", …`),
		fail("cert", "", "app", "auth: FATAL 28000: connection requires a valid client certificate"),
		fail("trust", "", "none", `reply: FATAL 3D000: database "none" does not exist`),
		fail("trust", "", "closed", `reply: FATAL 55000: database "closed" is not currently accepting connections`),
		fail("trust", "", "crowded", `reply: FATAL 53300: too many connections for database "crowded"`),
		fail("limit0", pw, "app", `reply: FATAL 53300: too many connections for role "limit0"`),
		fail("trust", "", "app?options=-c%20no_such%3D1", `reply: FATAL 42704: unrecognized configuration parameter "no_such"`),
		fail("trust", "", "app?require_auth=scram-sha-256", "auth: …"),
		fail("clear", pw, "app?require_auth=scram-sha-256", "auth: …"),
		fail("md5", pw, "app?require_auth=scram-sha-256,password", "auth: …"),
		fail("scram", pw, "app?require_auth=none", "auth: …"),
		fail("clear", pw, "app?channel_binding=require", "auth: …channel_binding=require…"),
		fail("scram", pw, "app?channel_binding=require&sslmode=disable", "auth: …"),
		fail("trust", "", "app?target_session_attrs=standby", "reply: target_session_attrs=standby: the server is a primary"),
		fail("trust", "", "app?target_session_attrs=read-only", "reply: target_session_attrs=read-only: the server is read-write"),
	}
	check(t, rows)
}

// pgURI writes the same server in libpq's other ways.
func pgURI(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	home := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(".pgpass", "other:*:*:*:wrong\n127.0.0.1:"+s.Port+":app:scram:"+testbed.Password+"\n", 0o600)
	escaped := strings.NewReplacer("\\", "\\\\", ":", "\\:").Replace(testbed.OddPassword)
	passfile := write("passfile", "*:*:*:odd:"+escaped+"\n", 0o600)
	public := write("public", "*:*:*:*:"+testbed.Password+"\n", 0o644)

	gone, socket := dead(t), strings.ReplaceAll(s.Dir, "/", "%2F")
	at := s.Addr()
	ok := "ok    postgres  …  " + pgOK
	line := func(target string) string { return "ok    postgres  " + target + "  " + pgOK }
	check(t, []row{
		{args: "--postgres postgresql://trust@" + at + "/app", want: ok},
		{args: "--postgres postgres://trust@localhost:" + s.Port + "/app", want: line("postgres://trust@localhost:" + s.Port + "/app")},
		{args: "--postgres postgres://trust@[::1]:" + s.Port + "/app", want: line("postgres://trust@[::1]:" + s.Port + "/app")},
		{args: "--postgres postgres://" + at + "/app?user=trust", want: ok},
		{args: "--postgres postgres://" + at + "?user=trust&dbname=app", want: ok},
		{args: "--postgres postgres:///app?user=trust&host=127.0.0.1&port=" + s.Port, want: ok},
		{args: "--postgres postgres:///app?user=trust&hostaddr=127.0.0.1&port=" + s.Port, want: ok},
		{args: "--postgres postgres://trust@no..such.host/app?hostaddr=127.0.0.1&port=" + s.Port, want: ok},
		{args: "--postgres postgres://scram@" + at + "/app?password=" + testbed.Password, want: ok},
		{args: "--postgres postgres://postgres@" + socket + ":" + s.Port + "/postgres", want: ok},
		{args: "--postgres postgres:///postgres?user=postgres&host=" + s.Dir + "&port=" + s.Port, want: ok},
		{args: "--postgres postgres://trust@" + gone + "," + at + "/app", want: ok},
		{args: "--postgres postgres://trust@" + at + "," + gone + "/app", want: ok},
		{args: "--postgres postgres://trust@" + gone + "," + gone + "/app", status: 1,
			want: "FAIL  postgres  …  connect: " + gone + ": connection refused; " + gone + ": connection refused"},
		{args: "--postgres postgres://u:p?a#b@" + at + "/app?user=trust", want: ok},
		{args: "--postgres postgres://trust@" + gone + "/app", status: 1, want: "FAIL  postgres  postgres://trust@" + gone + "/app  connect: connection refused"},
		{args: "--postgres postgres://trust@no..such.host/app", status: 1, want: "FAIL  postgres  …  resolve: no such host"},
		{args: "--postgres postgres://trust@%2Fno%2Fsuch/app", status: 1, want: "FAIL  postgres  …  connect: no such file or directory"},
		{args: "--postgres postgres://", want: ok,
			env: []string{"PGHOST=127.0.0.1", "PGPORT=" + s.Port, "PGUSER=scram", "PGDATABASE=app", "PGPASSWORD=" + testbed.Password}},
		{args: "--postgres postgres://scram@" + at + "/app", want: ok, env: []string{"HOME=" + home}},
		{args: "--postgres postgres://odd@" + at + "/app", want: ok, env: []string{"PGPASSFILE=" + passfile}},
		{args: "--postgres postgres://odd@" + at + "/app?passfile=" + passfile, want: ok},
		{args: "--postgres postgres://scram@" + at + "/app?passfile=" + public, status: 1, want: "FAIL  postgres  …  auth: …password…"},
		{args: "--postgres ${DATABASE_URL}", want: ok, env: []string{"DATABASE_URL=postgres://scram:" + testbed.Password + "@" + at + "/app"}},
		{args: "--postgres postgres://scram@" + at + "/app?connect_timeout=10", want: ok, env: []string{"PGPASSWORD=" + testbed.Password}},
	})
}

// TestPostgresURL is what is not asked of any server.
func TestPostgresURL(t *testing.T) {
	t.Parallel()
	check(t, []row{
		{args: "--postgres localhost:5432", status: 125, want: "--postgres…\n…postgres://…"},
		{args: "--postgres http://localhost", status: 125, want: "--postgres…"},
		{args: "--postgres postgresql+asyncpg://app@db/app", status: 125, want: "--postgres…\n…postgres…://…"},
		{args: "--postgres postgres+psycopg2://app@db/app", status: 125, want: "--postgres…\n…postgres…://…"},
		{args: "--postgres postgres://db/app?schema=public", status: 125, want: "--postgres…schema…"},
		{args: "--postgres postgres://db/app?sslmode=sometimes", status: 125, want: "--postgres…sslmode…"},
		{args: "--postgres postgres://db/app?ssl=maybe", status: 125, want: "--postgres…ssl…"},
		{args: "--postgres postgres://db/app?require_auth=magic", status: 125, want: "--postgres…require_auth…"},
		{args: "--postgres postgres://db/app?channel_binding=x", status: 125, want: "--postgres…channel_binding…"},
		{args: "--postgres postgres://db/app?target_session_attrs=x", status: 125, want: "--postgres…target_session_attrs…"},
		{args: "--postgres postgres://db/app?connect_timeout=soon", status: 125, want: "--postgres…connect_timeout…"},
		{args: "--postgres postgres://db:0/app", status: 125, want: "--postgres…port…"},
		{args: "--postgres postgres://db:65536/app", status: 125, want: "--postgres…port…"},
		{args: "--postgres postgres://a,b:1,2:3,4/app?port=1,2", status: 125, want: "--postgres…port…"},
		{args: "--postgres postgres://[::1/app", status: 125, want: "--postgres…"},
		{args: "--postgres postgres://db/%zz", status: 125, want: "--postgres…"},
		{args: "--postgres postgres://db/%00", status: 125, want: "--postgres…"},
		{args: "--postgres postgres://db/app?sslmode=verify-full", status: 125, want: "--postgres…sslmode=verify-full…\n…sslrootcert…"},
		{args: "--postgres postgres://db/app", env: []string{"PGSSLMODE=sometimes"}, status: 125, want: "--postgres…PGSSLMODE…"},
	})
}

func pgTLS(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	secure := cluster.Start(t)
	plain := cluster.Start(t, "ssl=off")
	stranger := testbed.NewCA(t)
	client, foreign := ca.Issue(t, testbed.Leaf{CommonName: "cert"}), stranger.Issue(t, testbed.Leaf{CommonName: "cert"})
	url := func(user string, s *testbed.Server, query string) string {
		return "--postgres postgres://" + user + ":" + testbed.Password + "@localhost:" + s.Port + "/app?" + query
	}
	ok := func(args string) row { return row{args: args, want: "ok    postgres  …  " + pgOK} }
	fail := func(args, why string) row {
		return row{args: args, status: 1, want: "FAIL  postgres  …  " + why}
	}
	trust, mistrust := "&sslrootcert="+ca.File, "&sslrootcert="+stranger.File
	cert := "&sslcert=" + client.Cert + "&sslkey=" + client.Key
	const noEntry = `auth: FATAL 28000: no pg_hba.conf entry for host …`
	rows := []row{
		ok(url("tlsonly", secure, "")), ok(url("tlsonly", secure, "sslmode=require")), ok(url("tlsonly", secure, "ssl=true")),
		ok(url("tlsonly", secure, "sslmode=allow")), fail(url("tlsonly", secure, "sslmode=disable"), noEntry),
		ok(url("plainonly", secure, "")), ok(url("plainonly", secure, "sslmode=disable")), ok(url("plainonly", secure, "sslmode=allow")),
		fail(url("plainonly", secure, "sslmode=require"), noEntry),
		ok(url("scram", secure, "sslmode=verify-full"+trust)), ok(url("scram", secure, "sslmode=verify-ca"+trust)),
		ok(url("scram", secure, "sslmode=verify-full") + " --tls-ca " + ca.File),
		fail(url("scram", secure, "sslmode=verify-full"+mistrust), "tls: …unknown authority…"),
		fail(url("scram", secure, "sslmode=verify-ca"+mistrust), "tls: …unknown authority…"),
		fail(url("scram", secure, "sslmode=require"+mistrust), "tls: …unknown authority…"),
		fail(url("scram", secure, "sslmode=verify-full&sslrootcert=system"), "tls: …unknown authority…"),
		fail(url("scram", secure, "sslmode=verify-full"+trust)+" --tls-server-name db.example", "tls: …db.example…"),
		ok(url("scram", secure, "sslmode=verify-ca"+trust) + " --tls-server-name db.example"),
		ok(url("cert", secure, "sslmode=require"+cert)), ok(url("cert", secure, "sslmode=verify-full"+trust+cert)),
		ok(url("cert", secure, "") + " --tls-cert " + client.Cert + " --tls-key " + client.Key),
		fail(url("cert", secure, "sslmode=require"), "auth: FATAL 28000: connection requires a valid client certificate"),
		fail(url("cert", secure, "sslmode=require&sslcert="+foreign.Cert+"&sslkey="+foreign.Key), "tls: …"),
		fail(url("scram", secure, "sslmode=require&sslnegotiation=direct"), "tls: …"), // PostgreSQL 17 was the first to know it
		ok(url("scram", plain, "")), ok(url("scram", plain, "sslmode=allow")), ok(url("scram", plain, "sslmode=disable")),
		fail(url("scram", plain, "sslmode=require"), "tls: …no TLS…"), fail(url("scram", plain, "sslmode=verify-full"+trust), "tls: …no TLS…"),
		{args: url("scram", secure, "sslmode=verify-full&sslrootcert=/no/such"), status: 125, want: "--postgres…sslrootcert…no such file…"},
	}
	for i := range rows {
		rows[i].env = []string{"SSL_CERT_FILE=" + stranger.File} // the system's CAs are not ours
	}
	check(t, rows)
}

// pgStates are servers that take a connection and cannot serve it.
func pgStates(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	starting, standby := cluster.StartRecovering(t), cluster.StartStandby(t)
	full := cluster.Start(t, "max_connections=3", "superuser_reserved_connections=1")
	full.Login(t, "app")
	full.Login(t, "app")
	over := cluster.Start(t, "max_connections=1", "superuser_reserved_connections=0")
	over.Login(t, "app")
	live := cluster.Start(t)
	url := func(s *testbed.Server) string { return "postgres://trust@" + s.Addr() + "/app" }
	check(t, []row{
		{args: "--postgres " + url(starting), status: 1, want: "FAIL  postgres  " + url(starting) + "  reply: FATAL 57P03: the database system is starting up"},
		{args: "--postgres " + url(standby), status: 1, want: "FAIL  postgres  " + url(standby) + "  reply: FATAL 57P03: the database system is …"},
		{args: "--postgres " + url(full), status: 1, want: "FAIL  postgres  " + url(full) + "  reply: FATAL 53300: remaining connection slots are reserved for …"},
		{args: "--postgres " + url(over), status: 1, want: "FAIL  postgres  " + url(over) + "  reply: FATAL 53300: sorry, too many clients already"},
		// The next host is asked where one is starting up.
		{args: "--postgres postgres://trust@" + starting.Addr() + "," + live.Addr() + "/app", want: "ok    postgres  …  " + pgOK},
	})
}

// pgLog probes a server in every healthy way and finds nothing in its log but
// the end of each session.
func pgLog(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t, "log_disconnections=on")
	before := s.Log(t)
	urls := []string{
		"postgres://trust@" + s.Addr() + "/app?sslmode=disable",
		"postgres://scram:" + testbed.Password + "@" + s.Addr() + "/app",
		"postgres://scram:" + testbed.Password + "@" + s.Addr() + "/app?channel_binding=require",
		"postgres://md5:" + testbed.Password + "@localhost:" + s.Port + "/app?sslmode=verify-full&sslrootcert=" + ca.File,
		"postgres:///postgres?user=postgres&host=" + s.Dir + "&port=" + s.Port,
	}
	for _, url := range urls {
		row{args: "--postgres " + url, want: "ok    postgres  …  " + pgOK}.check(t)
	}
	testbed.Poll(t, func() error { // each session has ended, and with it all that it could log
		if n := strings.Count(s.Log(t), "disconnection: session time"); n != len(urls) {
			return fmt.Errorf("%d sessions ended, want %d", n, len(urls))
		}
		return nil
	})
	for line := range strings.Lines(strings.TrimPrefix(s.Log(t), before)) {
		if !strings.Contains(line, "disconnection: session time") {
			t.Errorf("the server logged %q", line)
		}
	}
}

// pgPooler asks a pooler, which is there when its database is not.
func pgPooler(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s, dying := cluster.Start(t), cluster.Start(t)
	start := func(auth string) (url func(password, db string) string, line string) {
		pooler := testbed.PgBouncer(t, auth,
			"app = user=trust host=127.0.0.1 port="+s.Port,
			"gone = user=trust host=127.0.0.1 port="+testbed.FreePort(t),
			"dying = user=trust dbname=app host=127.0.0.1 port="+dying.Port)
		return func(password, db string) string {
			return "--postgres postgres://app:" + password + "@" + pooler.Addr() + "/" + db
		}, "  postgres  postgres://app@" + pooler.Addr() + "/"
	}
	var rows []row
	for _, auth := range []string{"scram-sha-256", "md5", "plain"} {
		url, line := start(auth)
		rows = append(rows,
			row{args: url(testbed.Password, "app"), want: "ok  " + line + "app  " + pgOK},
			row{args: url("wrong", "app"), status: 1, want: "FAIL" + line + "app  auth: FATAL 08P01: …"},
			row{args: url(testbed.Password, "none"), status: 1, want: "FAIL" + line + "none  …: FATAL 08P01: …"},
			row{args: "--timeout 1s " + url(testbed.Password, "gone"), status: 1, want: "FAIL" + line + "gone  …"})
	}
	check(t, rows)

	// A database goes away behind the pooler, which goes on to say yes to the login.
	url, line := start("scram-sha-256")
	row{args: url(testbed.Password, "dying"), want: "ok  " + line + "dying  " + pgOK}.check(t)
	dying.Stop()
	row{args: "--timeout 5s " + url(testbed.Password, "dying"), status: 1, want: "FAIL" + line + "dying  reply: …"}.check(t)
	row{args: "--timeout 5s " + url(testbed.Password, "dying"), status: 1, want: "FAIL" + line + "dying  reply: …"}.check(t)
}

// pgStopped stops the postmaster, which then takes connections and no more.
func pgStopped(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	s.Signal(t, syscall.SIGSTOP)
	row{args: "--timeout 500ms --postgres postgres://trust@" + s.Addr() + "/app", status: 1,
		want: "FAIL  postgres  postgres://trust@" + s.Addr() + "/app  …: timeout after 500ms"}.check(t)
	live := cluster.Start(t)
	row{args: "--postgres postgres://trust@" + s.Addr() + "," + live.Addr() + "/app", want: "ok    postgres  …  " + pgOK}.check(t)
}

// TestPostgresPeers are servers of another kind.
func TestPostgresPeers(t *testing.T) {
	t.Parallel()
	var rows []row
	for greeting, why := range map[string]string{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n":                    "reply: not PostgreSQL…",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n": "reply: not PostgreSQL…",
		"-ERR unknown command\r\n":                              "reply: not PostgreSQL…",
		"\x15\x03\x01\x00\x02\x02\x46":                          "reply: not PostgreSQL…",
		"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh":   "reply: not PostgreSQL…",
		"220 mail.example ESMTP\r\n":                            "reply: not PostgreSQL…",
		"":                                                      "reply: the server closed the connection…",
		"Ecould not fork new process for connection: No memory\n\x00": "reply: …could not fork new process for connection…",
	} {
		addr := testbed.Serve(t, func(conn net.Conn) {
			io.CopyN(io.Discard, conn, 8) // SSLRequest, or a startup message's head
			io.WriteString(conn, greeting)
			if c, ok := conn.(*net.TCPConn); ok {
				c.CloseWrite()
			}
			io.Copy(&bytes.Buffer{}, conn)
		})
		rows = append(rows, row{args: "--postgres postgres://u:secret@" + addr + "/d", status: 1, want: "FAIL  postgres  postgres://u@" + addr + "/d  " + why})
	}
	check(t, rows)
}
