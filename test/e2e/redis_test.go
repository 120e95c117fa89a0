package e2e_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// TestRedis is the contract's words for Redis, through servers in each state.
func TestRedis(t *testing.T) {
	t.Parallel()
	const secret, acl = testbed.Password, "p@ss:w/r?d#1%41&é="
	plain := testbed.Redis(t)
	locked := testbed.Redis(t, "requirepass "+secret,
		"user app on >"+acl+" ~* +@all",
		"user pinger on >"+secret+" +ping",
		"user mute on >"+secret+" +get",
		"user off off >"+secret+" +@all")
	full := testbed.Redis(t, "maxclients 1")
	full.RedisConn(t)
	loading := testbed.RedisLoading(t)
	lockedLoading := testbed.RedisLoading(t, "requirepass "+secret)
	replica := testbed.Redis(t, "replicaof 127.0.0.1 "+testbed.FreePort(t), "replica-serve-stale-data no")
	sentinel := testbed.Sentinel(t)

	at := func(s *testbed.Server) string { return "redis://" + s.Addr() }
	as := func(user string, s *testbed.Server) string { return "redis://" + user + "@" + s.Addr() }
	ok := func(target string) string { return "ok    redis  " + target + "  PONG" }
	fail := func(target, why string) string { return "FAIL  redis  " + target + "  " + why }
	const noSuchUser = "auth: WRONGPASS invalid username-password pair or user is disabled."
	check(t, []row{
		{args: "--redis " + at(plain), want: ok(at(plain))},
		{args: "--redis " + at(plain) + "/", want: ok(at(plain))},
		{args: "--redis valkey://localhost:" + plain.Port, want: ok("valkey://localhost:" + plain.Port)},
		{args: "--redis " + at(plain) + "/15", want: ok(at(plain) + "/15")},
		{args: "--redis " + at(plain) + "?db=3", want: ok(at(plain) + "/3")},
		{args: "--redis " + at(plain) + "/3?db=3", want: ok(at(plain) + "/3")},
		{args: "--redis " + at(plain) + "/16", status: 1, want: fail(at(plain)+"/16", "reply: ERR DB index is out of range")},
		{args: "--redis unix://" + plain.RedisSocket(), want: ok("unix://" + plain.RedisSocket())},
		{args: "--redis unix://" + plain.RedisSocket() + "?db=1", want: ok("unix://" + plain.RedisSocket() + "?db=1")},
		{args: "--redis unix:///no/such.sock", status: 1, want: fail("unix:///no/such.sock", "connect: no such file or directory")},
		{args: "--redis redis://" + dead(t), status: 1, want: fail("redis://…", "connect: connection refused")},
		{args: "--redis redis://no..such.host", status: 1, want: fail("redis://no..such.host:6379", "resolve: no such host")},
		{args: "--redis " + as(":wrong", plain), status: 1, want: fail(at(plain), "auth: ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")},
		{args: "--redis " + as("default:wrong", plain), want: ok(as("default", plain))}, // default has nopass

		{args: "--redis " + at(locked), status: 1, want: fail(at(locked), "auth: NOAUTH Authentication required.")},
		{args: "--redis " + as(":wrong", locked), status: 1, want: fail(at(locked), noSuchUser)},
		{args: "--redis " + as(":"+secret, locked), want: ok(at(locked))},
		{args: "--redis " + as(secret, locked), want: ok(at(locked))},
		{args: "--redis " + as("default:"+secret, locked), want: ok(as("default", locked))},
		{args: "--redis " + at(locked) + "?password=" + secret, want: ok(at(locked))},
		{args: "--redis " + at(locked), env: []string{"REDISCLI_AUTH=" + secret}, want: ok(at(locked))},
		{args: "--redis " + as(":wrong", locked), env: []string{"REDISCLI_AUTH=" + secret}, status: 1, want: fail(at(locked), noSuchUser)},
		{args: "--redis redis://:${PW}@" + locked.Addr(), env: []string{"PW=" + secret}, want: ok(at(locked))},
		{args: "--redis redis://app:${PW}@" + locked.Addr() + "/1", env: []string{"PW=" + acl}, want: ok(as("app", locked) + "/1")},
		{args: "--redis unix://:" + secret + "@" + locked.RedisSocket(), want: ok("unix://" + locked.RedisSocket())},
		{args: "--redis " + as("pinger:"+secret, locked), want: ok(as("pinger", locked))},
		{args: "--redis " + as("pinger:"+secret, locked) + "/1", status: 1, want: fail(as("pinger", locked)+"/1", "auth: NOPERM this user has no permissions to run the 'select' command")},
		{args: "--redis " + as("mute:"+secret, locked), status: 1, want: fail(as("mute", locked), "auth: NOPERM this user has no permissions to run the 'ping' command")},
		{args: "--redis " + as("off:"+secret, locked), status: 1, want: fail(as("off", locked), noSuchUser)},
		{args: "--redis " + as("nobody:"+secret, locked), status: 1, want: fail(as("nobody", locked), noSuchUser)},

		{args: "--redis " + at(full), status: 1, want: fail(at(full), "reply: ERR max number of clients reached")},
		{args: "--redis " + as(":"+secret, full), status: 1, want: fail(at(full), "reply: ERR max number of clients reached")},
		{args: "--redis " + at(loading), status: 1, want: fail(at(loading), "reply: LOADING Redis is loading the dataset in memory")},
		{args: "--redis " + at(loading) + "/2", status: 1, want: fail(at(loading)+"/2", "reply: LOADING Redis is loading the dataset in memory")},
		{args: "--redis " + as(":"+secret, lockedLoading), status: 1, want: fail(at(lockedLoading), "reply: LOADING Redis is loading the dataset in memory")},
		{args: "--redis " + at(replica), status: 1, want: fail(at(replica), "reply: MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")},
		{args: "--redis " + at(sentinel), want: ok(at(sentinel))},
		{args: "--redis " + at(sentinel) + "/1", status: 1, want: fail(at(sentinel)+"/1", "reply: ERR unknown command 'SELECT', …")},
	})
}

// TestRedisStates are those that take the server's whole attention.
func TestRedisStates(t *testing.T) {
	t.Parallel()
	stopped := testbed.Redis(t)
	stopped.Signal(t, syscall.SIGSTOP)
	row{args: "--timeout 500ms --redis redis://" + stopped.Addr(), status: 1,
		want: "FAIL  redis  redis://" + stopped.Addr() + "  reply: timeout after 500ms"}.check(t)

	busy := testbed.Redis(t)
	busy.RedisBusy(t)
	row{args: "--redis redis://" + busy.Addr(), status: 1,
		want: "FAIL  redis  redis://" + busy.Addr() + "  reply: BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."}.check(t)
	busy.Stop() // it burns a core
}

func TestRedisURL(t *testing.T) {
	t.Parallel()
	check(t, []row{
		{args: "--redis localhost:6379", status: 125, want: "--redis…\n…redis://localhost:6379…"},
		{args: "--redis http://localhost", status: 125, want: "--redis…\n…--http…"},
		{args: "--redis redis://localhost/one", status: 125, want: "--redis…database…"},
		{args: "--redis redis://localhost/-1", status: 125, want: "--redis…database…"},
		{args: "--redis redis://localhost/1/2", status: 125, want: "--redis…database…"},
		{args: "--redis redis://localhost?db=one", status: 125, want: "--redis…database…"},
		{args: "--redis redis://localhost/1?db=2", status: 125, want: "--redis…database…"},
		{args: "--redis redis://:a@localhost?password=b", status: 125, want: "--redis…password…"},
		{args: "--redis redis://localhost?timeout=5", status: 125, want: "--redis…unknown…"},
		{args: "--redis redis://localhost:0", status: 125, want: "--redis…port…"},
		{args: "--redis redis://localhost:65536", status: 125, want: "--redis…port…"},
		{args: "--redis redis://localhost:port", status: 125, want: "--redis…"},
		{args: "--redis redis://a:6379,b:6379", status: 125, want: "--redis…one host…"},
		{args: "--redis redis://a,b", status: 125, want: "--redis…one host…"},
		{args: "--redis unix://", status: 125, want: "--redis…socket…"},
		{args: "--redis unix://run/redis.sock", status: 125, want: "--redis…socket…"},
	})
}

func TestRedisTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := testbed.NewCA(t), testbed.NewCA(t)
	client := ca.Issue(t, testbed.Leaf{CommonName: "app"})
	open := testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{}), "tls-auth-clients no")
	mutual := testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{}), "tls-auth-clients yes", "requirepass "+testbed.Password)
	other := testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{Names: []string{"cache.example"}}), "tls-auth-clients optional")
	plain := testbed.Redis(t)
	trust := "--tls-ca " + ca.File + " "
	at := func(s *testbed.Server) string { return "rediss://" + s.Addr() }
	check(t, []row{
		{args: trust + "--redis " + at(open), want: "ok    redis  " + at(open) + "  PONG"},
		{args: trust + "--redis valkeys://localhost:" + open.Port + "/2", want: "ok    redis  valkeys://localhost:" + open.Port + "/2  PONG"},
		{args: "--redis " + at(open), status: 1, want: "FAIL  redis  " + at(open) + "  tls: certificate signed by unknown authority"},
		{args: "--tls-ca " + stranger.File + " --redis " + at(open), status: 1, want: "FAIL  redis  " + at(open) + "  tls: certificate signed by unknown authority…"},
		{args: "--tls-insecure --redis " + at(open), want: "ok    redis  " + at(open) + "  PONG"},
		{args: trust + "--redis " + at(other), status: 1, want: "FAIL  redis  " + at(other) + "  tls: …127.0.0.1…"},
		{args: trust + "--tls-server-name cache.example --redis " + at(other), want: "ok    redis  " + at(other) + "  PONG"},
		// The server says why and closes; what it had not read of ours can make that a reset.
		{args: trust + "--redis " + at(mutual), status: 1, want: "FAIL  redis  " + at(mutual) + "  …"},
		{args: trust + "--tls-cert " + client.Cert + " --tls-key " + client.Key + " --redis rediss://:" + testbed.Password + "@" + mutual.Addr(),
			want: "ok    redis  " + at(mutual) + "  PONG"},
		{args: "--timeout 1s --redis " + at(plain), status: 1, want: "FAIL  redis  " + at(plain) + "  tls: …"},
		{args: "--redis redis://" + open.Addr(), status: 1, want: "FAIL  redis  redis://" + open.Addr() + "  reply: …"},
	})
}

// TestRedisPeers are words that need no real server, and servers of another kind.
func TestRedisPeers(t *testing.T) {
	t.Parallel()
	greet := func(text string) string {
		return testbed.Serve(t, func(conn net.Conn) {
			io.WriteString(conn, text)
			io.Copy(io.Discard, conn)
		})
	}
	answer := func(text string) string {
		return testbed.Serve(t, func(conn net.Conn) {
			bufio.NewReader(conn).ReadString('P')
			io.WriteString(conn, text)
			io.Copy(io.Discard, conn)
		})
	}
	var rows []row
	for addr, why := range map[string]string{
		greet("-DENIED Redis is running in protected mode because protected mode is enabled.\r\n"):                  "auth: DENIED Redis is running in protected mode because protected mode is enabled.",
		greet("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"):                                                                 "reply: not Redis: it speaks SSH",
		answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"):                                             "reply: not Redis: it speaks HTTP",
		answer("E\x00\x00\x00\x93SFATAL\x00VFATAL\x00C0A000\x00Munsupported frontend protocol 10794.12597\x00\x00"): "reply: not Redis: it speaks PostgreSQL",
		answer("\x15\x03\x01\x00\x02\x02\x46"):                                                                      "reply: not Redis: it speaks TLS",
		greet("220 mail.example ESMTP\r\n"):                                                                         "reply: not Redis: …",
		answer("+OK\r\n"):                                                                                           `reply: PING was answered with "OK", want "PONG"`,
		answer("+pong\r\n"):                                                                                         `reply: PING was answered with "pong", want "PONG"`,
		answer("+PONG \r\n"):                                                                                        `reply: PING was answered with "PONG ", want "PONG"`,
		answer("$4\r\nPONG\r\n"):                                                                                    "reply: …",
		answer(":1\r\n"):                                                                                            "reply: …",
		answer("*1\r\n+PONG\r\n"):                                                                                   "reply: …",
		answer("+PONG\n"):                                                                                           "reply: …",
		answer("-\r\n"):                                                                                             "reply: …",
		answer("-ERR \x1b[31mred\x07\tbell\r\n"):                                                                    `reply: ERR \x1b[31mred\a\tbell`,
		testbed.Serve(t, func(conn net.Conn) { bufio.NewReader(conn).ReadString('G') }):                              "reply: …closed the connection…",
		testbed.Serve(t, func(conn net.Conn) { bufio.NewReader(conn).ReadString('G'); io.WriteString(conn, "+PO") }): "reply: …closed the connection…",
	} {
		rows = append(rows, row{args: "--redis redis://" + addr, status: 1, want: "FAIL  redis  redis://" + addr + "  " + why})
	}
	check(t, rows)
}

// TestRedisWords is what goes over the wire: nothing that was not asked for.
func TestRedisWords(t *testing.T) {
	t.Parallel()
	var mutex sync.Mutex // guards said
	var said string
	addr := testbed.Serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			mutex.Lock()
			said += line
			mutex.Unlock()
			switch {
			case strings.HasPrefix(line, "PING"):
				io.WriteString(conn, "+PONG\r\n")
			case line == "secret\r\n", line == "7\r\n":
				io.WriteString(conn, "+OK\r\n")
			}
		}
	})
	run(t, nil, "--redis", "redis://app:secret@"+addr+"/7")
	mutex.Lock()
	defer mutex.Unlock()
	const want = "*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$6\r\nsecret\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n*1\r\n$4\r\nPING\r\n"
	if said != want {
		t.Errorf("the server was sent %q, want %q", said, want)
	}
}
