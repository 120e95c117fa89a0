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

const pgOK = "PostgreSQL 1…, SELECT 1 answered"

// TestPostgres runs all tests that need a real server on one cluster.
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

// pgLogin tests every authentication method.
func pgLogin(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	check(t, vars{"s": s.Addr(), "pw": testbed.Password, "oddPassword": testbed.OddPassword, "unicodePassword": testbed.UnicodePassword,
		"mappedPassword": testbed.MappedPassword, "pgOK": pgOK}, []row{
		{"PW= --postgres postgres://trust:${PW}@$s/app", 0, "ok    postgres  postgres://trust@$s/app  $pgOK"},
		{"PW=unused --postgres postgres://trust:${PW}@$s/app", 0, "ok    postgres  postgres://trust@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://clear:${PW}@$s/app", 0, "ok    postgres  postgres://clear@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://md5:${PW}@$s/app", 0, "ok    postgres  postgres://md5@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://md5scram:${PW}@$s/app", 0, "ok    postgres  postgres://md5scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app", 0, "ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$oddPassword --postgres postgres://odd:${PW}@$s/app", 0, "ok    postgres  postgres://odd@$s/app  $pgOK"},
		{"PW=$unicodePassword --postgres postgres://unicode:${PW}@$s/app", 0,
			"ok    postgres  postgres://unicode@$s/app  $pgOK"},
		{"PW=$mappedPassword --postgres postgres://mapped:${PW}@$s/app", 0,
			"ok    postgres  postgres://mapped@$s/app  $pgOK"},
		{"'PW=soft no break' --postgres postgres://mapped:${PW}@$s/app", 0,
			"ok    postgres  postgres://mapped@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://one:${PW}@$s/app", 0, "ok    postgres  postgres://one@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://many:${PW}@$s/app", 0, "ok    postgres  postgres://many@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://limit1:${PW}@$s/app", 0, "ok    postgres  postgres://limit1@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?sslmode=disable", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?channel_binding=require", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?channel_binding=disable", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?require_auth=scram-sha-256", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://md5:${PW}@$s/app?require_auth=md5", 0, "ok    postgres  postgres://md5@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://clear:${PW}@$s/app?require_auth=!md5", 0,
			"ok    postgres  postgres://clear@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://trust:${PW}@$s/app?require_auth=none", 0,
			"ok    postgres  postgres://trust@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?target_session_attrs=read-write", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?target_session_attrs=primary", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?target_session_attrs=prefer-standby", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?application_name=probe&options=-c%20geqo%3Doff", 0,
			"ok    postgres  postgres://scram@$s/app  $pgOK"},
		{"PW=wrong --postgres postgres://clear:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://clear@$s/app  auth: FATAL 28P01: password authentication failed for user "clear"`},
		{"PW=wrong --postgres postgres://md5:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://md5@$s/app  auth: FATAL 28P01: password authentication failed for user "md5"`},
		{"PW=wrong --postgres postgres://md5scram:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://md5scram@$s/app  auth: FATAL 28P01: password authentication failed for user "md5scram"`},
		{"PW=wrong --postgres postgres://scram:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://scram@$s/app  auth: FATAL 28P01: password authentication failed for user "scram"`},
		{"PW=$pw --postgres postgres://nosecret:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://nosecret@$s/app  auth: FATAL 28P01: password authentication failed for user "nosecret"`},
		{"PW=wrong --postgres postgres://many:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://many@$s/app  auth: FATAL 28P01: password authentication failed for user "many"`},
		{"PW= --postgres postgres://clear:${PW}@$s/app", 1,
			"FAIL  postgres  postgres://clear@$s/app  auth: password: the server wants a password, and none is given"},
		{"PW= --postgres postgres://md5:${PW}@$s/app", 1,
			"FAIL  postgres  postgres://md5@$s/app  auth: md5: the server wants a password, and none is given"},
		{"PW= --postgres postgres://scram:${PW}@$s/app", 1,
			"FAIL  postgres  postgres://scram@$s/app  auth: scram-sha-256: the server wants a password, and none is given"},
		{"PW=$pw --postgres postgres://reject:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://reject@$s/app  auth: FATAL 28000: pg_hba.conf rejects connection for host "127.0.0.1", user "reject", database "app", SSL encryption`},
		{"PW=$pw --postgres postgres://stranger:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://stranger@$s/app  auth: FATAL 28000: no pg_hba.conf entry for host "127.0.0.1", user "stranger", database "app", SSL encryption`},
		{"PW= --postgres postgres://cert:${PW}@$s/app", 1,
			"FAIL  postgres  postgres://cert@$s/app  auth: FATAL 28000: connection requires a valid client certificate"},
		{"PW= --postgres postgres://trust:${PW}@$s/none", 1,
			`FAIL  postgres  postgres://trust@$s/none  reply: FATAL 3D000: database "none" does not exist`},
		{"PW= --postgres postgres://trust:${PW}@$s/closed", 1,
			`FAIL  postgres  postgres://trust@$s/closed  reply: FATAL 55000: database "closed" is not currently accepting connections`},
		{"PW= --postgres postgres://trust:${PW}@$s/crowded", 1,
			`FAIL  postgres  postgres://trust@$s/crowded  reply: FATAL 53300: too many connections for database "crowded"`},
		{"PW=$pw --postgres postgres://limit0:${PW}@$s/app", 1,
			`FAIL  postgres  postgres://limit0@$s/app  reply: FATAL 53300: too many connections for role "limit0"`},
		{"PW= --postgres postgres://trust:${PW}@$s/app?options=-c%20no_such%3D1", 1,
			`FAIL  postgres  postgres://trust@$s/app  reply: FATAL 42704: unrecognized configuration parameter "no_such"`},
		{"PW= --postgres postgres://trust:${PW}@$s/app?require_auth=scram-sha-256", 1,
			"FAIL  postgres  postgres://trust@$s/app  auth: require_auth: the server did not ask for authentication"},
		{"PW=$pw --postgres postgres://clear:${PW}@$s/app?require_auth=scram-sha-256", 1,
			"FAIL  postgres  postgres://clear@$s/app  auth: require_auth: the server asks for password"},
		{"PW=$pw --postgres postgres://md5:${PW}@$s/app?require_auth=scram-sha-256,password", 1,
			"FAIL  postgres  postgres://md5@$s/app  auth: require_auth: the server asks for md5"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?require_auth=none", 1,
			"FAIL  postgres  postgres://scram@$s/app  auth: require_auth: the server asks for scram-sha-256"},
		{"PW=$pw --postgres postgres://clear:${PW}@$s/app?channel_binding=require", 1,
			"FAIL  postgres  postgres://clear@$s/app  auth: channel_binding=require, and the server asks for password"},
		{"PW=$pw --postgres postgres://scram:${PW}@$s/app?channel_binding=require&sslmode=disable", 1,
			"FAIL  postgres  postgres://scram@$s/app  auth: channel_binding=require, and it is not possible: it needs TLS, a server that offers SCRAM-SHA-256-PLUS, and a certificate with a signature hash"},
		{"PW= --postgres postgres://trust:${PW}@$s/app?target_session_attrs=standby", 1,
			"FAIL  postgres  postgres://trust@$s/app  reply: target_session_attrs=standby: the server is a primary"},
		{"PW= --postgres postgres://trust:${PW}@$s/app?target_session_attrs=read-only", 1,
			"FAIL  postgres  postgres://trust@$s/app  reply: target_session_attrs=read-only: the server is read-write"},
	})
}

// pgURI tests the other forms in which libpq accepts the same server.
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

	gone, socket := closedAddr(t), strings.ReplaceAll(s.Dir, "/", "%2F")
	check(t, vars{"at": s.Addr(), "sport": s.Port, "sdir": s.Dir, "gone": gone, "socket": socket, "home": home, "passfile": passfile,
		"public": public, "password": testbed.Password, "pgOK": pgOK}, []row{
		{"--postgres postgresql://trust@$at/app", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"--postgres postgres://trust@localhost:$sport/app", 0,
			"ok    postgres  postgres://trust@localhost:$sport/app  $pgOK"},
		{"--postgres postgres://trust@[::1]:$sport/app", 0, "ok    postgres  postgres://trust@[::1]:$sport/app  $pgOK"},
		{"--postgres postgres://$at/app?user=trust", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"--postgres postgres://$at?user=trust&dbname=app", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"--postgres postgres:///app?user=trust&host=127.0.0.1&port=$sport", 0,
			"ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"--postgres postgres:///app?user=trust&hostaddr=127.0.0.1&port=$sport", 0,
			"ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"--postgres postgres://trust@no..such.host/app?hostaddr=127.0.0.1&port=$sport", 0,
			"ok    postgres  postgres://trust@no..such.host:$sport/app  $pgOK"},
		{"--postgres postgres://scram@$at/app?password=$password", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"--postgres postgres://postgres@$socket:$sport/postgres", 0,
			"ok    postgres  postgres://postgres@$socket:$sport/postgres  $pgOK"},
		{"--postgres postgres:///postgres?user=postgres&host=$sdir&port=$sport", 0,
			"ok    postgres  postgres://postgres@$socket:$sport/postgres  $pgOK"},
		{"--postgres postgres://trust@$gone,$at/app", 0, "ok    postgres  postgres://trust@$gone,$at/app  $pgOK"},
		{"--postgres postgres://trust@$at,$gone/app", 0, "ok    postgres  postgres://trust@$at,$gone/app  $pgOK"},
		{"--postgres postgres://trust@$gone,$gone/app", 1,
			"FAIL  postgres  postgres://trust@$gone,$gone/app  connect: $gone: connection refused; $gone: connection refused"},
		{"--postgres postgres://u:p?a#b@$at/app?user=trust", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"--postgres postgres://trust@$gone/app", 1,
			"FAIL  postgres  postgres://trust@$gone/app  connect: connection refused"},
		{"--postgres postgres://trust@no..such.host/app", 1,
			"FAIL  postgres  postgres://trust@no..such.host/app  resolve: no such host"},
		{"--postgres postgres://trust@%2Fno%2Fsuch/app", 1,
			"FAIL  postgres  postgres://trust@%2Fno%2Fsuch/app  connect: no such file or directory"},
		{"PGHOST=127.0.0.1 PGPORT=$sport PGUSER=scram PGDATABASE=app PGPASSWORD=$password --postgres postgres://", 0,
			"ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"HOME=$home --postgres postgres://scram@$at/app", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"PGPASSFILE=$passfile --postgres postgres://odd@$at/app", 0, "ok    postgres  postgres://odd@$at/app  $pgOK"},
		{"--postgres postgres://odd@$at/app?passfile=$passfile", 0, "ok    postgres  postgres://odd@$at/app  $pgOK"},
		{"--postgres postgres://scram@$at/app?passfile=$public", 1,
			"FAIL  postgres  postgres://scram@$at/app  auth: scram-sha-256: the server wants a password, and none is given; " +
				"password file $public is ignored: others may read it (chmod 600)"},
		{"DATABASE_URL=postgres://scram:$password@$at/app --postgres ${DATABASE_URL}", 0,
			"ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"PGPASSWORD=$password --postgres postgres://scram@$at/app?connect_timeout=10", 0,
			"ok    postgres  postgres://scram@$at/app  $pgOK"},
	})
}

func pgTLS(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	secure := cluster.Start(t)
	plain := cluster.Start(t, "ssl=off")
	stranger := testbed.NewCA(t)
	client, foreign := ca.Issue(t, testbed.Leaf{CommonName: "cert"}), stranger.Issue(t, testbed.Leaf{CommonName: "cert"})
	check(t, vars{"secure": secure.Port, "plain": plain.Port, "password": testbed.Password, "pgOK": pgOK, "ca": ca.File,
		"stranger": stranger.File, "cert": client.Cert, "key": client.Key, "foreigncert": foreign.Cert, "foreignkey": foreign.Key}, []row{
		{"--postgres postgres://tlsonly:$password@localhost:$secure/app?", 0,
			"ok    postgres  postgres://tlsonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://tlsonly:$password@localhost:$secure/app?sslmode=require", 0,
			"ok    postgres  postgres://tlsonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://tlsonly:$password@localhost:$secure/app?ssl=true", 0,
			"ok    postgres  postgres://tlsonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://tlsonly:$password@localhost:$secure/app?sslmode=allow", 0,
			"ok    postgres  postgres://tlsonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://tlsonly:$password@localhost:$secure/app?sslmode=disable", 1,
			`FAIL  postgres  postgres://tlsonly@localhost:$secure/app  auth: FATAL 28000: no pg_hba.conf entry for host "127.0.0.1", user "tlsonly", database "app", no encryption`},
		{"--postgres postgres://plainonly:$password@localhost:$secure/app?", 0,
			"ok    postgres  postgres://plainonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://plainonly:$password@localhost:$secure/app?sslmode=disable", 0,
			"ok    postgres  postgres://plainonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://plainonly:$password@localhost:$secure/app?sslmode=allow", 0,
			"ok    postgres  postgres://plainonly@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://plainonly:$password@localhost:$secure/app?sslmode=require", 1,
			`FAIL  postgres  postgres://plainonly@localhost:$secure/app  auth: FATAL 28000: no pg_hba.conf entry for host "127.0.0.1", user "plainonly", database "app", SSL encryption`},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-full&sslrootcert=$ca", 0,
			"ok    postgres  postgres://scram@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-ca&sslrootcert=$ca", 0,
			"ok    postgres  postgres://scram@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-full --tls-ca $ca", 0,
			"ok    postgres  postgres://scram@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-full&sslrootcert=$stranger", 1,
			"FAIL  postgres  postgres://scram@localhost:$secure/app  tls: certificate signed by unknown authority…"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-ca&sslrootcert=$stranger", 1,
			"FAIL  postgres  postgres://scram@localhost:$secure/app  tls: certificate signed by unknown authority…"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=require&sslrootcert=$stranger", 1,
			"FAIL  postgres  postgres://scram@localhost:$secure/app  tls: certificate signed by unknown authority…"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-full&sslrootcert=system", 1,
			"FAIL  postgres  postgres://scram@localhost:$secure/app  tls: certificate signed by unknown authority…"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-full&sslrootcert=$ca --tls-server-name db.example", 1,
			"FAIL  postgres  postgres://scram@localhost:$secure/app  tls: certificate is valid for localhost and 2 more, not db.example (accept its name with --tls-server-name NAME)"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-ca&sslrootcert=$ca --tls-server-name db.example", 0,
			"ok    postgres  postgres://scram@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://cert:$password@localhost:$secure/app?sslmode=require&sslcert=$cert&sslkey=$key", 0,
			"ok    postgres  postgres://cert@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://cert:$password@localhost:$secure/app?sslmode=verify-full&sslrootcert=$ca&sslcert=$cert&sslkey=$key", 0,
			"ok    postgres  postgres://cert@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://cert:$password@localhost:$secure/app? --tls-cert $cert --tls-key $key", 0,
			"ok    postgres  postgres://cert@localhost:$secure/app  $pgOK"},
		{"--postgres postgres://cert:$password@localhost:$secure/app?sslmode=require", 1,
			"FAIL  postgres  postgres://cert@localhost:$secure/app  auth: FATAL 28000: connection requires a valid client certificate"},
		{"--postgres postgres://cert:$password@localhost:$secure/app?sslmode=require&sslcert=$foreigncert&sslkey=$foreignkey", 1,
			"FAIL  postgres  postgres://cert@localhost:$secure/app  tls: the server refuses: …"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=require&sslnegotiation=direct", 1,
			"FAIL  postgres  postgres://scram@localhost:$secure/app  tls: …"}, // supported since PostgreSQL 17
		{"--postgres postgres://scram:$password@localhost:$plain/app?", 0,
			"ok    postgres  postgres://scram@localhost:$plain/app  $pgOK"},
		{"--postgres postgres://scram:$password@localhost:$plain/app?sslmode=allow", 0,
			"ok    postgres  postgres://scram@localhost:$plain/app  $pgOK"},
		{"--postgres postgres://scram:$password@localhost:$plain/app?sslmode=disable", 0,
			"ok    postgres  postgres://scram@localhost:$plain/app  $pgOK"},
		{"--postgres postgres://scram:$password@localhost:$plain/app?sslmode=require", 1,
			"FAIL  postgres  postgres://scram@localhost:$plain/app  tls: the server has no TLS, and sslmode=require wants it (use sslmode=disable)"},
		{"--postgres postgres://scram:$password@localhost:$plain/app?sslmode=verify-full&sslrootcert=$ca", 1,
			"FAIL  postgres  postgres://scram@localhost:$plain/app  tls: the server has no TLS, and sslmode=verify-full wants it"},
		{"--postgres postgres://scram:$password@localhost:$secure/app?sslmode=verify-full&sslrootcert=/no/such", 125,
			"--postgres: sslrootcert /no/such: no such file or directory"},
	}, "SSL_CERT_FILE="+stranger.File) // the system's CAs do not include ca
}

// pgStates tests servers that accept a connection but cannot serve it.
func pgStates(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	starting, standby := cluster.StartRecovering(t), cluster.StartStandby(t)
	full := cluster.Start(t, "max_connections=3", "superuser_reserved_connections=1")
	full.Login(t, "app")
	full.Login(t, "app")
	over := cluster.Start(t, "max_connections=1", "superuser_reserved_connections=0")
	over.Login(t, "app")
	live := cluster.Start(t)
	check(t, vars{"starting": starting.Addr(), "standby": standby.Addr(), "full": full.Addr(), "over": over.Addr(), "live": live.Addr(),
		"pgOK": pgOK}, []row{
		{"--postgres postgres://trust@$starting/app", 1,
			"FAIL  postgres  postgres://trust@$starting/app  reply: FATAL 57P03: the database system is starting up"},
		{"--postgres postgres://trust@$standby/app", 1,
			"FAIL  postgres  postgres://trust@$standby/app  reply: FATAL 57P03: the database system is …"},
		{"--postgres postgres://trust@$full/app", 1,
			"FAIL  postgres  postgres://trust@$full/app  reply: FATAL 53300: remaining connection slots are reserved for …"},
		{"--postgres postgres://trust@$over/app", 1,
			"FAIL  postgres  postgres://trust@$over/app  reply: FATAL 53300: sorry, too many clients already"},
		// If a host is starting up, the next one is tried.
		{"--postgres postgres://trust@$starting,$live/app", 0,
			"ok    postgres  postgres://trust@$starting,$live/app  $pgOK"},
	})
}

// pgLog checks that healthy probes leave nothing in the server's log but the end of each session.
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
		row{"--postgres $url", 0, "ok    postgres  …  $pgOK"}.check(t, vars{"url": url, "pgOK": pgOK})
	}
	testbed.Poll(t, func() error { // a session that has ended logs nothing more
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

// pgPooler tests a pooler, which accepts logins even if its database is down.
func pgPooler(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s, dying := cluster.Start(t), cluster.Start(t)
	start := func(auth string) vars {
		pooler := testbed.PgBouncer(t, auth,
			"app = user=trust host=127.0.0.1 port="+s.Port,
			"gone = user=trust host=127.0.0.1 port="+testbed.FreePort(t),
			"dying = user=trust dbname=app host=127.0.0.1 port="+dying.Port)
		return vars{"pooler": pooler.Addr(), "pw": testbed.Password, "pgOK": pgOK}
	}
	for auth, refusal := range map[string]string{"scram-sha-256": "SASL authentication failed",
		"md5": "password authentication failed", "plain": "password authentication failed"} {
		v := start(auth)
		v["refusal"] = refusal
		check(t, v, []row{
			{"--postgres postgres://app:$pw@$pooler/app", 0, "ok    postgres  postgres://app@$pooler/app  $pgOK"},
			{"--postgres postgres://app:wrong@$pooler/app", 1, "FAIL  postgres  postgres://app@$pooler/app  auth: FATAL 08P01: $refusal"},
			{"--postgres postgres://app:$pw@$pooler/none", 1,
				"FAIL  postgres  postgres://app@$pooler/none  reply: FATAL 08P01: no such database: none"},
			{"--timeout 1s --postgres postgres://app:$pw@$pooler/gone", 1, "FAIL  postgres  postgres://app@$pooler/gone  …: timeout after 1s"},
		})
	}

	// The database stops, and the pooler in front of it still accepts logins.
	v := start("scram-sha-256")
	row{"--postgres postgres://app:$pw@$pooler/dying", 0, "ok    postgres  postgres://app@$pooler/dying  $pgOK"}.check(t, v)
	dying.Stop()
	for range 2 {
		row{"--timeout 5s --postgres postgres://app:$pw@$pooler/dying", 1, "FAIL  postgres  postgres://app@$pooler/dying  reply: …"}.check(t, v)
	}
}

// pgStopped suspends the postmaster. The kernel still accepts connections, but nothing answers.
func pgStopped(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	s.Signal(t, syscall.SIGSTOP)
	row{"--timeout 500ms --postgres postgres://trust@$s/app", 1,
		"FAIL  postgres  postgres://trust@$s/app  reply: timeout after 500ms"}.check(t, vars{"s": s.Addr()})
	live := cluster.Start(t)
	row{"--postgres postgres://trust@$s,$live/app", 0, "ok    postgres  postgres://trust@$s,$live/app  $pgOK"}.check(t, vars{"s": s.Addr(), "live": live.Addr(), "pgOK": pgOK})
}

// TestPostgresPeers probes servers that do not answer with PostgreSQL's framed messages.
func TestPostgresPeers(t *testing.T) {
	t.Parallel()
	for greeting, why := range map[string]string{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n":                    "reply: not PostgreSQL: it speaks SSH",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n": "reply: not PostgreSQL: it speaks HTTP",
		"-ERR unknown command\r\n":                              "reply: not PostgreSQL: it speaks Redis",
		"\x15\x03\x01\x00\x02\x02\x46":                          "reply: not PostgreSQL: it speaks TLS",
		"J\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh":   "reply: not PostgreSQL: it speaks MySQL",
		"220 mail.example ESMTP\r\n":                            "reply: not PostgreSQL: it speaks SMTP or FTP",
		"":                                                      "reply: the server closed the connection",
		"Ecould not fork new process for connection: No memory\n\x00": "reply: could not fork new process for connection: No memory",
	} {
		addr := testbed.Serve(t, func(conn net.Conn) {
			io.CopyN(io.Discard, conn, 8) // SSLRequest, or a startup message's head
			io.WriteString(conn, greeting)
			if c, ok := conn.(*net.TCPConn); ok {
				c.CloseWrite()
			}
			io.Copy(&bytes.Buffer{}, conn)
		})
		check(t, vars{"addr": addr}, []row{{"--postgres postgres://u:secret@$addr/d", 1, "FAIL  postgres  postgres://u@$addr/d  " + why}})
	}
}
