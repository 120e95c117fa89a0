package testbed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Redis starts a Redis 7 server on a TCP port and on the unix socket
// DIR/redis.sock. It is ready once it answers a PING, be it with an error such
// as LOADING. Each setting is a line of redis.conf.
func Redis(t testing.TB, settings ...string) *Server {
	t.Helper()
	return start(t, redis(t, settings))
}

// RedisTLS starts one that speaks TLS, and nothing else, on its TCP port.
// tls-auth-clients yes makes it ask for the client's certificate.
func RedisTLS(t testing.TB, ca *CA, pair Pair, settings ...string) *Server {
	t.Helper()
	p := redis(t, append([]string{
		"tls-ca-cert-file " + ca.File,
		"tls-cert-file " + pair.Cert,
		"tls-key-file " + pair.Key,
	}, settings...))
	plain := p.setup
	p.setup = func(s *Server) []string {
		return append(plain(s), "--port", "0", "--tls-port", s.Port)
	}
	return start(t, p)
}

// RedisLoading starts one that takes minutes to load its data set, and answers
// LOADING meanwhile.
func RedisLoading(t testing.TB, settings ...string) *Server {
	t.Helper()
	p := redis(t, append([]string{
		"key-load-delay 20000", // microseconds a key
		"loading-process-events-interval-bytes 1024",
	}, settings...))
	empty := p.setup
	p.setup = func(s *Server) []string {
		writeFile(t, filepath.Join(s.Dir, "dump.rdb"), rdb(10_000), nil)
		return empty(s)
	}
	return start(t, p)
}

// Sentinel starts a Redis Sentinel. It watches a master that is not there.
func Sentinel(t testing.TB) *Server {
	t.Helper()
	p := redis(t, []string{"sentinel monitor gone 127.0.0.1 " + FreePort(t) + " 1"})
	single := p.setup
	p.setup = func(s *Server) []string { return append(single(s), "--sentinel") }
	return start(t, p)
}

// redis is a server whose configuration is the defaults below and settings.
func redis(t testing.TB, settings []string) program {
	return program{
		path: Need(t, "redis-server"),
		setup: func(s *Server) []string {
			bind := "bind 127.0.0.1"
			if HasIPv6() {
				bind += " ::1"
			}
			conf := append([]string{
				bind,
				"port " + s.Port,
				"unixsocket " + s.RedisSocket(),
				"dir " + s.Dir,
				"daemonize no",
				"always-show-logo no",
				`save ""`,
			}, settings...)
			// Sentinel refuses what it does not know.
			for _, line := range settings {
				if strings.HasPrefix(line, "sentinel ") {
					conf = append(conf[:4:4], settings...)
				}
			}
			file := filepath.Join(s.Dir, "redis.conf")
			writeFile(t, file, strings.Join(conf, "\n")+"\n", nil)
			return []string{file}
		},
		ready: func(s *Server) error {
			conn, err := net.DialTimeout("unix", s.RedisSocket(), time.Second)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = command(conn, "PING")
			return err
		},
	}
}

// RedisSocket returns the path of a Redis server's unix socket.
func (s *Server) RedisSocket() string { return filepath.Join(s.Dir, "redis.sock") }

// RedisConn connects to the server's unix socket and gives it each command, for
// tests that need the server in a certain state. The connection stays until the
// test ends, and counts for maxclients.
func (s *Server) RedisConn(t testing.TB, commands ...string) net.Conn {
	t.Helper()
	var conn net.Conn
	Poll(t, func() (err error) {
		conn, err = net.Dial("unix", s.RedisSocket())
		if err != nil {
			return err
		}
		// The server may not have noticed yet that an earlier connection is gone.
		reply, err := command(conn, "PING")
		if err == nil && strings.HasPrefix(reply, "-ERR max number of clients") {
			err = errors.New(reply)
		}
		if err != nil {
			conn.Close()
		}
		return err
	})
	t.Cleanup(func() { conn.Close() })
	for _, c := range commands {
		reply, err := command(conn, c)
		if err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		if strings.HasPrefix(reply, "-") {
			t.Fatalf("%s: %s", c, reply)
		}
	}
	return conn
}

// RedisBusy keeps the server in a Lua script that never ends, so that it
// answers BUSY. It burns a core until the server stops.
func (s *Server) RedisBusy(t testing.TB) {
	t.Helper()
	s.RedisConn(t, "CONFIG SET busy-reply-threshold 10") // milliseconds
	conn := s.RedisConn(t)
	if _, err := io.WriteString(conn, "EVAL \"while true do end\" 0\r\n"); err != nil {
		t.Fatal(err)
	}
	Poll(t, func() error {
		probe, err := net.Dial("unix", s.RedisSocket())
		if err != nil {
			return err
		}
		defer probe.Close()
		reply, err := command(probe, "PING")
		if err == nil && !strings.HasPrefix(reply, "-BUSY") {
			err = fmt.Errorf("PING: %q, want -BUSY", reply)
		}
		return err
	})
}

// command sends an inline command and returns the first line of the reply.
func command(conn net.Conn, line string) (string, error) {
	conn.SetDeadline(time.Now().Add(patience))
	defer conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		return "", err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	if reply = strings.TrimRight(reply, "\r\n"); reply == "" {
		return "", errors.New("an empty reply")
	}
	return reply, nil
}

// rdb is a Redis dump of so many keys with a value of 1 KiB each:
//
//	"REDIS0010"  then for each key  00 len key len value  then  FF and a checksum of 0: none
//
// A length under 64 is one byte; one under 16,384 is two, big endian, with bit 14 set.
func rdb(keys int) string {
	var b strings.Builder
	b.WriteString("REDIS0010")
	value := strings.Repeat("v", 1024)
	for i := range keys {
		fmt.Fprintf(&b, "\x00\x08%08d\x44\x00%s", i, value)
	}
	b.WriteString("\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	return b.String()
}
