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

	check(t, vars{"plain": plain.Addr(), "plainport": plain.Port, "plainsocket": plain.RedisSocket(),
		"locked": locked.Addr(), "lockedsocket": locked.RedisSocket(), "full": full.Addr(), "loading": loading.Addr(),
		"lockedLoading": lockedLoading.Addr(), "replica": replica.Addr(), "sentinel": sentinel.Addr(),
		"closed": closedAddr(t), "secret": secret, "acl": acl}, []row{
		{"--redis redis://$plain", 0, "ok    redis  redis://$plain  PONG"},
		{"--redis redis://$plain/", 0, "ok    redis  redis://$plain  PONG"},
		{"--redis valkey://localhost:$plainport", 0, "ok    redis  valkey://localhost:$plainport  PONG"},
		{"--redis redis://$plain/15", 0, "ok    redis  redis://$plain/15  PONG"},
		{"--redis redis://$plain?db=3", 0, "ok    redis  redis://$plain/3  PONG"},
		{"--redis redis://$plain/3?db=3", 0, "ok    redis  redis://$plain/3  PONG"},
		{"--redis redis://$plain/16", 1, "FAIL  redis  redis://$plain/16  reply: ERR DB index is out of range"},
		{"--redis unix://$plainsocket", 0, "ok    redis  unix://$plainsocket  PONG"},
		{"--redis unix://$plainsocket?db=1", 0, "ok    redis  unix://$plainsocket?db=1  PONG"},
		{"--redis unix:///no/such.sock", 1, "FAIL  redis  unix:///no/such.sock  connect: no such file or directory"},
		{"--redis redis://$closed", 1, "FAIL  redis  redis://$closed  connect: connection refused"},
		{"--redis redis://no..such.host", 1, "FAIL  redis  redis://no..such.host:6379  resolve: no such host"},
		{"--redis redis://:wrong@$plain", 1,
			"FAIL  redis  redis://$plain  auth: ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"},
		{"--redis redis://default:wrong@$plain", 0, "ok    redis  redis://default@$plain  PONG"}, // default has nopass

		{"--redis redis://$locked", 1, "FAIL  redis  redis://$locked  auth: NOAUTH Authentication required."},
		{"--redis redis://:wrong@$locked", 1,
			"FAIL  redis  redis://$locked  auth: WRONGPASS invalid username-password pair or user is disabled."},
		{"--redis redis://:$secret@$locked", 0, "ok    redis  redis://$locked  PONG"},
		{"--redis redis://$secret@$locked", 0, "ok    redis  redis://$locked  PONG"},
		{"--redis redis://default:$secret@$locked", 0, "ok    redis  redis://default@$locked  PONG"},
		{"--redis redis://$locked?password=$secret", 0, "ok    redis  redis://$locked  PONG"},
		{"REDISCLI_AUTH=$secret --redis redis://$locked", 0, "ok    redis  redis://$locked  PONG"},
		{"REDISCLI_AUTH=$secret --redis redis://:wrong@$locked", 1,
			"FAIL  redis  redis://$locked  auth: WRONGPASS invalid username-password pair or user is disabled."},
		{"PW=$secret --redis redis://:${PW}@$locked", 0, "ok    redis  redis://$locked  PONG"},
		{"PW=$acl --redis redis://app:${PW}@$locked/1", 0, "ok    redis  redis://app@$locked/1  PONG"},
		{"--redis unix://:$secret@$lockedsocket", 0, "ok    redis  unix://$lockedsocket  PONG"},
		{"--redis redis://pinger:$secret@$locked", 0, "ok    redis  redis://pinger@$locked  PONG"},
		{"--redis redis://pinger:$secret@$locked/1", 1,
			"FAIL  redis  redis://pinger@$locked/1  auth: NOPERM this user has no permissions to run the 'select' command"},
		{"--redis redis://mute:$secret@$locked", 1,
			"FAIL  redis  redis://mute@$locked  auth: NOPERM this user has no permissions to run the 'ping' command"},
		{"--redis redis://off:$secret@$locked", 1,
			"FAIL  redis  redis://off@$locked  auth: WRONGPASS invalid username-password pair or user is disabled."},
		{"--redis redis://nobody:$secret@$locked", 1,
			"FAIL  redis  redis://nobody@$locked  auth: WRONGPASS invalid username-password pair or user is disabled."},

		{"--redis redis://$full", 1, "FAIL  redis  redis://$full  reply: ERR max number of clients reached"},
		{"--redis redis://:$secret@$full", 1, "FAIL  redis  redis://$full  reply: ERR max number of clients reached"},
		{"--redis redis://$loading", 1,
			"FAIL  redis  redis://$loading  reply: LOADING Redis is loading the dataset in memory"},
		{"--redis redis://$loading/2", 1,
			"FAIL  redis  redis://$loading/2  reply: LOADING Redis is loading the dataset in memory"},
		{"--redis redis://:$secret@$lockedLoading", 1,
			"FAIL  redis  redis://$lockedLoading  reply: LOADING Redis is loading the dataset in memory"},
		{"--redis redis://$replica", 1,
			"FAIL  redis  redis://$replica  reply: MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."},
		{"--redis redis://$sentinel", 0, "ok    redis  redis://$sentinel  PONG"},
		{"--redis redis://$sentinel/1", 1,
			"FAIL  redis  redis://$sentinel/1  reply: ERR unknown command 'SELECT', with args beginning with: '1'"},
	})
}

// TestRedisStates are those that take the server's whole attention.
func TestRedisStates(t *testing.T) {
	t.Parallel()
	stopped := testbed.Redis(t)
	stopped.Signal(t, syscall.SIGSTOP)
	row{"--timeout 500ms --redis redis://$stopped", 1, "FAIL  redis  redis://$stopped  reply: timeout after 500ms"}.check(t, vars{"stopped": stopped.Addr()})

	busy := testbed.Redis(t)
	busy.RedisBusy(t)
	row{"--redis redis://$busy", 1,
		"FAIL  redis  redis://$busy  reply: BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."}.check(t, vars{"busy": busy.Addr()})
	busy.Stop() // it burns a core
}

func TestRedisTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := testbed.NewCA(t), testbed.NewCA(t)
	client := ca.Issue(t, testbed.Leaf{CommonName: "app"})
	open := testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{}), "tls-auth-clients no")
	mutual := testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{}), "tls-auth-clients yes", "requirepass "+testbed.Password)
	other := testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{Names: []string{"cache.example"}}), "tls-auth-clients optional")
	plain := testbed.Redis(t)
	check(t, vars{"open": open.Addr(), "openport": open.Port, "mutual": mutual.Addr(), "other": other.Addr(), "plain": plain.Addr(),
		"ca": ca.File, "stranger": stranger.File, "clientcert": client.Cert, "clientkey": client.Key, "password": testbed.Password}, []row{
		{"--tls-ca $ca --redis rediss://$open", 0, "ok    redis  rediss://$open  PONG"},
		{"--tls-ca $ca --redis valkeys://localhost:$openport/2", 0, "ok    redis  valkeys://localhost:$openport/2  PONG"},
		{"--redis rediss://$open", 1, "FAIL  redis  rediss://$open  tls: certificate signed by unknown authority (trust it with --tls-ca FILE)"},
		{"--tls-ca $stranger --redis rediss://$open", 1,
			"FAIL  redis  rediss://$open  tls: certificate signed by unknown authority…"},
		{"--tls-insecure --redis rediss://$open", 0, "ok    redis  rediss://$open  PONG"},
		{"--tls-ca $ca --redis rediss://$other", 1,
			"FAIL  redis  rediss://$other  tls: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs (accept its name with --tls-server-name NAME)"},
		{"--tls-ca $ca --tls-server-name cache.example --redis rediss://$other", 0, "ok    redis  rediss://$other  PONG"},
		// The server says why and closes; what it had not read of ours can make that a reset.
		{"--tls-ca $ca --redis rediss://$mutual", 1, "FAIL  redis  rediss://$mutual  …"},
		{"--tls-ca $ca --tls-cert $clientcert --tls-key $clientkey --redis rediss://:$password@$mutual", 0,
			"ok    redis  rediss://$mutual  PONG"},
		{"--timeout 1s --redis rediss://$plain", 1, "FAIL  redis  rediss://$plain  tls: …"},
		{"--redis redis://$open", 1, "FAIL  redis  redis://$open  reply: …"},
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
	for addr, why := range map[string]string{
		greet("-DENIED Redis is running in protected mode because protected mode is enabled.\r\n"):                  "auth: DENIED Redis is running in protected mode because protected mode is enabled.",
		greet("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"):                                                                 "reply: not Redis: it speaks SSH",
		answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"):                                             "reply: not Redis: it speaks HTTP",
		answer("E\x00\x00\x00\x93SFATAL\x00VFATAL\x00C0A000\x00Munsupported frontend protocol 10794.12597\x00\x00"): "reply: not Redis: it speaks PostgreSQL",
		answer("\x15\x03\x01\x00\x02\x02\x46"):                                                                      "reply: not Redis: it speaks TLS (use rediss://)",
		greet("220 mail.example ESMTP\r\n"):                                                                         "reply: not Redis: it speaks SMTP or FTP",
		answer("+OK\r\n"):                                                                                           `reply: PING was answered with "OK", want "PONG"`,
	} {
		check(t, vars{"addr": addr}, []row{{"--redis redis://$addr", 1, "FAIL  redis  redis://$addr  " + why}})
	}
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
