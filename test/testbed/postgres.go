package testbed

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The passwords of the cluster's roles.
const (
	Password        = "Zx9-secret-Zx9"           // every role's but those below
	OddPassword     = `p@ss:w/r?d#1%41&é=" '\`   // role odd
	UnicodePassword = "pässwörd-日本"              // role unicode
	MappedPassword  = "so\u00adft no\u00a0break" // role mapped: SASLprep drops the one, makes the other a space
)

// A Cluster is PostgreSQL's data before any server runs on it. Servers started
// from it work on copies.
//
// Its roles log in over TCP by the method pg_hba.conf has for their name:
//
//	trust                  without a password
//	clear                  password, in the clear
//	md5                    md5, from an md5 secret
//	md5scram               hba method md5, a SCRAM secret: SCRAM
//	scram                  scram-sha-256; so do odd, unicode, mapped,
//	one, many              whose secrets have 1 and 300,000 iterations,
//	nosecret               which has no password, and
//	limit0, limit1         which may have so many connections
//	tlsonly, plainonly     scram-sha-256 in hostssl and in hostnossl lines alone
//	cert                   a client certificate whose common name is cert
//	reject                 never
//	stranger               never: no line of pg_hba.conf names it
//
// Databases: app, closed (allow_connections=false), crowded (connection limit 0)
// and postgres.
type Cluster struct {
	ca   *CA
	pair Pair
	bin  string // the folder of postgres and initdb
	data string
	cred *syscall.Credential
}

// roles are the statements that follow initdb, one a line as single-user mode wants it.
var roles = `
CREATE ROLE trust LOGIN
CREATE ROLE nosecret LOGIN
CREATE ROLE reject LOGIN
CREATE ROLE stranger LOGIN
CREATE ROLE cert LOGIN
CREATE ROLE clear LOGIN PASSWORD ` + literal(Password) + `
CREATE ROLE md5scram LOGIN PASSWORD ` + literal(Password) + `
CREATE ROLE scram LOGIN PASSWORD ` + literal(Password) + `
CREATE ROLE tlsonly LOGIN PASSWORD ` + literal(Password) + `
CREATE ROLE plainonly LOGIN PASSWORD ` + literal(Password) + `
CREATE ROLE limit0 LOGIN CONNECTION LIMIT 0 PASSWORD ` + literal(Password) + `
CREATE ROLE limit1 LOGIN CONNECTION LIMIT 1 PASSWORD ` + literal(Password) + `
CREATE ROLE odd LOGIN PASSWORD ` + literal(OddPassword) + `
CREATE ROLE unicode LOGIN PASSWORD ` + literal(UnicodePassword) + `
CREATE ROLE mapped LOGIN PASSWORD ` + literal(MappedPassword) + `
CREATE ROLE one LOGIN PASSWORD ` + literal(verifier(Password, 1)) + `
CREATE ROLE many LOGIN PASSWORD ` + literal(verifier(Password, 300_000)) + `
SET password_encryption = 'md5'
CREATE ROLE md5 LOGIN PASSWORD ` + literal(Password) + `
CREATE DATABASE app
CREATE DATABASE closed ALLOW_CONNECTIONS false
CREATE DATABASE crowded CONNECTION LIMIT 0
`

const hba = `
local   all postgres                          trust
hostssl all tlsonly                       all scram-sha-256
hostnossl all plainonly                   all scram-sha-256
hostssl all cert                          all cert
host    all postgres,trust                all trust
host    all clear                         all password
host    all md5,md5scram                  all md5
host    all scram,odd,unicode,mapped      all scram-sha-256
host    all one,many,nosecret,limit0,limit1 all scram-sha-256
host    all reject                        all reject
`

// InitPostgres makes a cluster, which takes a second or two. Servers from it
// present a certificate of ca for localhost, and accept ca's client certificates.
func InitPostgres(t testing.TB, ca *CA) *Cluster {
	t.Helper()
	c := &Cluster{
		ca:   ca,
		pair: ca.Issue(t, Leaf{CommonName: "postgres"}),
		bin:  filepath.Dir(Need(t, "postgres")),
		cred: unprivileged(t),
	}
	c.data = filepath.Join(tempDir(t, c.cred), "data")
	c.run(t, "", "initdb", "-D", c.data, "-U", "postgres", "-A", "reject", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	writeFile(t, filepath.Join(c.data, "pg_hba.conf"), hba, c.cred)
	copyFile(t, ca.File, filepath.Join(c.data, "ca.crt"), c.cred)
	out := c.run(t, strings.TrimPrefix(roles, "\n"), "postgres", "--single", "-D", c.data, "-c", "fsync=off", "postgres")
	if strings.Contains(out, "ERROR") || strings.Contains(out, "FATAL") {
		t.Fatalf("making the roles: %s", out)
	}
	return c
}

// Presenting returns the same cluster with another certificate for its servers.
func (c Cluster) Presenting(pair Pair) *Cluster {
	c.pair = pair
	return &c
}

// Start runs a server on a copy of the cluster, with TLS. Each setting is
// NAME=VALUE of postgresql.conf; ssl=off makes it one without TLS.
func (c *Cluster) Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return c.start(t, "", "ready to accept connections", settings)
}

// StartRecovering runs a server that waits for ever for its archive to deliver
// a file, and answers 57P03, "starting up", meanwhile.
func (c *Cluster) StartRecovering(t testing.TB) *Server {
	t.Helper()
	// Runs in the data folder. It ends with the server, however that ends.
	const never = `while kill -0 $(head -n 1 postmaster.pid); do sleep 0.2; done 2>/dev/null; false`
	return c.start(t, "recovery.signal", "database system was shut down", []string{"restore_command=" + never})
}

// StartStandby runs a standby that answers 57P03, as it takes no connections.
func (c *Cluster) StartStandby(t testing.TB) *Server {
	t.Helper()
	return c.start(t, "standby.signal", "entering standby mode", []string{"hot_standby=off"})
}

func (c *Cluster) start(t testing.TB, signalFile, readyLine string, settings []string) *Server {
	t.Helper()
	return start(t, program{
		path: filepath.Join(c.bin, "postgres"),
		user: c.cred,
		quit: syscall.SIGQUIT, // immediate shutdown
		setup: func(s *Server) []string {
			data := filepath.Join(s.Dir, "data")
			if out, err := exec.Command("cp", "-a", c.data, data).CombinedOutput(); err != nil {
				t.Fatalf("copying the cluster: %v: %s", err, out)
			}
			copyFile(t, c.pair.Cert, filepath.Join(data, "server.crt"), c.cred)
			copyFile(t, c.pair.Key, filepath.Join(data, "server.key"), c.cred)
			if signalFile != "" {
				writeFile(t, filepath.Join(data, signalFile), "", c.cred)
			}
			listen := "127.0.0.1"
			if HasIPv6() {
				listen += ",::1"
			}
			args := []string{"-D", data}
			for _, setting := range append([]string{
				"listen_addresses=" + listen,
				"port=" + s.Port,
				"unix_socket_directories=" + s.Dir,
				"ssl=on",
				"ssl_ca_file=ca.crt",
				"fsync=off",
				"autovacuum=off",
				"shared_buffers=2MB",
				"max_connections=30",
				"max_wal_senders=0",
				"log_timezone=UTC",
			}, settings...) {
				args = append(args, "-c", setting)
			}
			return args
		},
		ready: logged(readyLine),
	})
}

// run runs a program of PostgreSQL's and returns what it printed.
func (c *Cluster) run(t testing.TB, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = childAttr(c.cred)
	var out []byte
	err := onLastingThread(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// Login opens a session of role trust and keeps it until the test ends, so that
// it counts for max_connections.
func (s *Server) Login(t testing.TB, database string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	parameters := "user\x00trust\x00database\x00" + database + "\x00\x00"
	startup := binary.BigEndian.AppendUint32(nil, uint32(8+len(parameters)))
	startup = binary.BigEndian.AppendUint32(startup, 3<<16) // protocol 3.0
	if _, err := conn.Write(append(startup, parameters...)); err != nil {
		t.Fatal(err)
	}
	for kind := byte(0); kind != 'Z'; {
		var header [5]byte // type, length of the rest with itself
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			t.Fatal(err)
		}
		kind = header[0]
		body := make([]byte, binary.BigEndian.Uint32(header[1:])-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			t.Fatal(err)
		}
		if kind == 'E' {
			t.Fatalf("login: %q", body)
		}
	}
	conn.SetDeadline(time.Time{})
	return conn
}

// verifier is what pg_authid holds for a password, with an iteration count that
// PostgreSQL 15 would not choose:
//
//	SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey  (RFC 5802, section 3)
func verifier(password string, iterations int) string {
	salt := []byte("0123456789abcdef")
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		panic(err) // only in FIPS mode, for a short salt
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac("Server Key")))
}

// literal quotes a string for SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// PgBouncer starts a pgbouncer whose user app has the Password. auth is its
// auth_type; each database is a line such as "app = host=127.0.0.1 port=5432".
// Settings of pgbouncer itself may follow a line "[pgbouncer]".
func PgBouncer(t testing.TB, auth string, databases ...string) *Server {
	t.Helper()
	cred := unprivileged(t)
	return start(t, program{
		path: Need(t, "pgbouncer"),
		user: cred,
		setup: func(s *Server) []string {
			users := filepath.Join(s.Dir, "users.txt")
			writeFile(t, users, `"app" "`+Password+`"`+"\n", cred)
			conf := filepath.Join(s.Dir, "pgbouncer.ini")
			writeFile(t, conf, "[databases]\n"+strings.Join(databases, "\n")+"\n[pgbouncer]\n"+strings.Join([]string{
				"listen_addr = 127.0.0.1",
				"listen_port = " + s.Port,
				"unix_socket_dir =",
				"auth_type = " + auth,
				"auth_file = " + users,
			}, "\n")+"\n", cred)
			return []string{conf}
		},
		ready: listens,
	})
}
