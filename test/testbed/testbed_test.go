package testbed

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// say runs a client and returns all it printed, whatever its exit status.
func say(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(Need(t, program), args...)
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestPostgres(t *testing.T) {
	ca := NewCA(t)
	cluster := InitPostgres(t, ca)
	client := ca.Issue(t, Leaf{CommonName: "cert"})

	t.Run("roles", func(t *testing.T) {
		t.Parallel()
		s := cluster.Start(t)
		for _, test := range []struct{ user, password, options, want string }{
			{"trust", "", "", "1"},
			{"clear", Password, "", "1"},
			{"clear", "wrong", "", `FATAL:  password authentication failed for user "clear"`},
			{"md5", Password, "", "1"},
			{"md5scram", Password, "", "1"},
			{"scram", Password, "", "1"},
			{"scram", Password, "channel_binding=require sslmode=verify-full sslrootcert=" + ca.File, "1"},
			{"scram", "wrong", "", `FATAL:  password authentication failed for user "scram"`},
			{"odd", OddPassword, "", "1"},
			{"unicode", UnicodePassword, "", "1"},
			{"mapped", "soft no break", "", "1"},
			{"one", Password, "", "1"},
			{"many", Password, "", "1"},
			{"nosecret", Password, "", "FATAL:  password authentication failed"},
			{"limit0", Password, "", `FATAL:  too many connections for role "limit0"`},
			{"limit1", Password, "", "1"},
			{"tlsonly", Password, "", "1"},
			{"tlsonly", Password, "sslmode=disable", "FATAL:  no pg_hba.conf entry"},
			{"plainonly", Password, "sslmode=prefer", "1"},
			{"plainonly", Password, "sslmode=require", "FATAL:  no pg_hba.conf entry"},
			{"cert", "", "sslcert=" + client.Cert + " sslkey=" + client.Key, "1"},
			{"cert", "", "", "FATAL:  "},
			{"reject", Password, "", "FATAL:  pg_hba.conf rejects connection"},
			{"stranger", Password, "", "FATAL:  no pg_hba.conf entry"},
			{"trust", "", "dbname=closed", `FATAL:  database "closed" is not currently accepting connections`},
			{"trust", "", "dbname=crowded", `FATAL:  too many connections for database "crowded"`},
			{"trust", "", "dbname=none", `FATAL:  database "none" does not exist`},
			{"postgres", "", "dbname=postgres host=" + s.Dir, "1"},
		} {
			got := say(t, []string{"PGPASSWORD=" + test.password}, "psql", "-AtXc", "SELECT 1",
				"host=localhost port="+s.Port+" dbname=app user="+test.user+" "+test.options)
			if !strings.Contains(got, test.want) {
				t.Errorf("psql(%q, %q) = %q, want %q", test.user, test.options, got, test.want)
			}
		}
		if log := s.Log(t); !strings.Contains(log, `database "none" does not exist`) {
			t.Errorf("Log() = %q, want the line of the missing database", log)
		}
	})

	for name, test := range map[string]struct {
		start func(testing.TB) *Server
		want  string
	}{
		"without TLS": {func(t testing.TB) *Server { return cluster.Start(t, "ssl=off") }, "server does not support SSL"},
		"starting":    {cluster.StartRecovering, "FATAL:  the database system is starting up"},
		"standby":     {cluster.StartStandby, "FATAL:  the database system is not accepting connections"},
		"full": {func(t testing.TB) *Server {
			s := cluster.Start(t, "max_connections=2", "superuser_reserved_connections=0")
			s.Login(t, "app")
			s.Login(t, "app")
			return s
		}, "FATAL:  sorry, too many clients already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := test.start(t)
			got := say(t, nil, "psql", "-AtXc", "SELECT 1", "host=127.0.0.1 sslmode=require user=trust dbname=app port="+s.Port)
			if !strings.Contains(got, test.want) {
				t.Errorf("psql = %q, want %q", got, test.want)
			}
		})
	}

	t.Run("pgbouncer", func(t *testing.T) {
		t.Parallel()
		s := cluster.Start(t)
		pooler := PgBouncer(t, "scram-sha-256",
			"app = host=127.0.0.1 user=trust port="+s.Port,
			"dead = host=127.0.0.1 user=trust port="+FreePort(t))
		env := []string{"PGPASSWORD=" + Password}
		conn := "host=127.0.0.1 user=app port=" + pooler.Port
		if got := say(t, env, "psql", "-AtXc", "SELECT 1", conn+" dbname=app"); got != "1" {
			t.Errorf("psql by pgbouncer = %q, want 1", got)
		}
		if got := say(t, env, "pg_isready", "-d", conn+" dbname=dead"); !strings.Contains(got, "accepting connections") {
			t.Errorf("pg_isready of pgbouncer's dead database = %q, want accepting connections", got)
		}
	})
}

func TestRedis(t *testing.T) {
	ca := NewCA(t)
	pair := ca.Issue(t, Leaf{})
	for name, test := range map[string]struct {
		start func(*testing.T) *Server
		args  []string
		want  string
	}{
		"plain":       {func(t *testing.T) *Server { return Redis(t) }, nil, "PONG"},
		"requirepass": {func(t *testing.T) *Server { return Redis(t, "requirepass "+Password) }, nil, "NOAUTH"},
		"ACL": {func(t *testing.T) *Server { return Redis(t, "user pinger on >"+Password+" +ping") },
			[]string{"--no-auth-warning", "--user", "pinger", "--pass", Password}, "PONG"},
		"TLS": {func(t *testing.T) *Server { return RedisTLS(t, ca, pair) },
			[]string{"--tls", "--cacert", ca.File, "--cert", pair.Cert, "--key", pair.Key}, "PONG"},
		"TLS without certificate": {func(t *testing.T) *Server { return RedisTLS(t, ca, pair, "tls-auth-clients no") },
			[]string{"--tls", "--cacert", ca.File}, "PONG"},
		"loading": {func(t *testing.T) *Server { return RedisLoading(t) }, nil, "LOADING"},
		"master down": {func(t *testing.T) *Server {
			return Redis(t, "replicaof 127.0.0.1 "+FreePort(t), "replica-serve-stale-data no")
		}, nil, "MASTERDOWN"},
		"full": {func(t *testing.T) *Server {
			s := Redis(t, "maxclients 1")
			s.RedisConn(t)
			return s
		}, nil, "max number of clients reached"},
		"busy": {func(t *testing.T) *Server {
			s := Redis(t)
			s.RedisBusy(t)
			return s
		}, nil, "BUSY"},
		"sentinel": {func(t *testing.T) *Server { return Sentinel(t) }, nil, "PONG"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := test.start(t)
			args := append([]string{"-h", "127.0.0.1", "-p", s.Port}, test.args...)
			if got := say(t, nil, "redis-cli", append(args, "PING")...); !strings.Contains(got, test.want) {
				t.Errorf("redis-cli PING = %q, want %q", got, test.want)
			}
		})
	}
}

func TestNginx(t *testing.T) {
	ca := NewCA(t)
	const body = `location /health { return 200 "fine"; } location /broken { return 500; }`
	plain := Nginx(t, body)
	secure := NginxTLS(t, ca.Issue(t, Leaf{}), body)

	pool := x509.NewCertPool()
	pem, err := os.ReadFile(ca.File)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("the CA's file: %v", err)
	}
	tcp := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	unix := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", plain.HTTPSocket())
	}}}
	for _, test := range []struct {
		client *http.Client
		url    string
		want   int
	}{
		{tcp, "http://" + plain.Addr() + "/health", 200},
		{tcp, "http://localhost:" + plain.Port + "/broken", 500},
		{tcp, "http://localhost:" + plain.Port + "/missing", 404},
		{tcp, "https://localhost:" + secure.Port + "/health", 200},
		{unix, "http://unix/health", 200},
	} {
		resp, err := test.client.Get(test.url)
		if err != nil {
			t.Errorf("Get(%q): %v", test.url, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("Get(%q) = %d, want %d", test.url, resp.StatusCode, test.want)
		}
	}
	tcp.CloseIdleConnections()
	unix.CloseIdleConnections()
}

func TestServe(t *testing.T) {
	addr := Serve(t, func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		io.WriteString(conn, "said "+line)
	})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "hello\n")
	if got, err := io.ReadAll(conn); string(got) != "said hello\n" || err != nil {
		t.Errorf("the peer = %q, %v, want said hello", got, err)
	}
}

// TestStop stops a server that cannot answer, and finds its process gone.
func TestStop(t *testing.T) {
	s := Redis(t)
	s.Signal(t, syscall.SIGSTOP)
	s.Stop()
	if err := syscall.Kill(s.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal 0 after Stop: %v, want %v", err, syscall.ESRCH)
	}
	if _, err := net.Dial("tcp", s.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after Stop: %v, want %v", err, syscall.ECONNREFUSED)
	}
}

func TestNeed(t *testing.T) {
	for _, test := range []struct {
		require string
		fails   bool
	}{
		{"", false},
		{"nginx", false},
		{"nginx,no-such-program", true},
		{"all", true},
	} {
		t.Setenv("HEALTHCHECK_REQUIRE", test.require)
		tb := &fakeTB{TB: t}
		func() {
			defer func() { recover() }()
			Need(tb, "no-such-program")
		}()
		if tb.failed != test.fails || tb.skipped == test.fails {
			t.Errorf("Need under %q: failed %v, skipped %v, want failed %v", test.require, tb.failed, tb.skipped, test.fails)
		}
	}
}

// fakeTB tells how a test would have ended.
type fakeTB struct {
	testing.TB
	failed, skipped bool
}

func (tb *fakeTB) Fatalf(string, ...any) { tb.failed = true; panic(tb) }
func (tb *fakeTB) Skipf(string, ...any)  { tb.skipped = true; panic(tb) }
