package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// TestProtocols compares verdicts on one cluster with those of psql. libpq is the reference.
func TestProtocols(t *testing.T) {
	t.Parallel()
	ca := testbed.NewCA(t)
	cluster := testbed.InitPostgres(t, ca)
	for name, test := range map[string]func(*testing.T, *testbed.Cluster, *testbed.CA){
		"client certificate": pgClientCertificate,
		"certificate name":   pgCertificateName,
		"service":            pgService,
		"security parameter": pgSecurityParameters,
		"normalisation":      pgNormalisation,
		"password file":      pgPasswordFile,
		"TLS file":           pgTLSFiles,
		"pgbouncer":          pgBouncerErrors,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, cluster, ca)
		})
	}
}

// checkLikePsql is check for rows whose last word is a PostgreSQL URL, and also compares the
// verdict with psql's in the same environment.
func checkLikePsql(t *testing.T, v vars, rows []row) {
	t.Helper()
	psql := testbed.Need(t, "psql")
	check(t, v, rows)
	for _, r := range rows {
		t.Run("psql "+strings.ReplaceAll(r.line, "/", "∕"), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			args := words(r.line)
			for i := range args {
				args[i] = v.expand(t, args[i])
			}
			cmd := exec.CommandContext(ctx, psql, "-w", "-X", "-c", "SELECT 1", args[len(args)-1])
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/no/such/home"}
			for len(args) > 0 && assignment.MatchString(args[0]) {
				cmd.Env, args = append(cmd.Env, args[0]), args[1:]
			}
			if out, err := cmd.CombinedOutput(); (err == nil) != (r.status == 0) {
				t.Errorf("psql %s: %v, want the verdict of healthcheck, status %d\n%s", r.line, err, r.status, out)
			}
		})
	}
}

// folder creates a folder of files with the given contents and mode 0600, and returns its path.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pgClientCertificate presents a certificate of a CA that is not in the server's list. The server
// must receive and refuse it.
func pgClientCertificate(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	stranger := testbed.NewCA(t)
	foreign := stranger.Issue(t, testbed.Leaf{CommonName: "cert"})
	s := cluster.Start(t)
	v := vars{"at": "localhost:" + s.Port, "password": testbed.Password, "cert": foreign.Cert, "key": foreign.Key, "ca": ca.File, "pgOK": pgOK}
	checkLikePsql(t, v, []row{
		{"--postgres postgres://scram:$password@$at/app?sslmode=require&sslcert=$cert&sslkey=$key", 1,
			"FAIL  postgres  postgres://scram@$at/app  tls: the server refuses: …"},
		{"--postgres postgres://scram:$password@$at/app?sslmode=require", 0, "ok    postgres  …  $pgOK"},
	})

	named := x509.NewCertPool()
	pem, err := os.ReadFile(ca.File)
	if err != nil || !named.AppendCertsFromPEM(pem) {
		t.Fatal("no CA", err)
	}
	got := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "client certificate of %s", r.TLS.PeerCertificates[0].Subject.CommonName)
	}
	https := start(t, got, &tls.Config{ClientAuth: tls.RequireAnyClientCert, ClientCAs: named,
		Certificates: []tls.Certificate{ca.Issue(t, testbed.Leaf{}).TLS(t)}})
	v["https"], v["rediss"] = https.URL, testbed.RedisTLS(t, ca, ca.Issue(t, testbed.Leaf{}), "tls-auth-clients optional").Addr()
	check(t, v, []row{
		{"--tls-ca $ca --tls-cert $cert --tls-key $key --http-body 'certificate of cert' --http $https", 0, "ok    http  $https  200 OK"},
		{"--tls-ca $ca --tls-cert $cert --tls-key $key --redis rediss://$rediss", 1,
			"FAIL  redis  rediss://$rediss  tls: the server refuses: …"},
	})
}

// pgCertificateName connects to servers whose certificates hold the host name in different fields.
func pgCertificateName(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	for _, test := range []struct {
		leaf  testbed.Leaf
		hosts map[string]string // host to the expected failure, "" if the check passes
	}{
		{testbed.Leaf{CommonName: "DB.example.org", Names: []string{}}, map[string]string{
			"db.example.org": "",
			"db.example.com": "tls: certificate is valid for DB.example.org, not db.example.com (accept its name with --tls-server-name NAME)",
		}},
		{testbed.Leaf{CommonName: "*.example.org", Names: []string{}}, map[string]string{
			"db.example.org":   "",
			"a.db.example.org": "tls: certificate is valid for *.example.org, not a.db.example.org (accept its name with --tls-server-name NAME)",
			"example.org":      "tls: certificate is valid for *.example.org, not example.org (accept its name with --tls-server-name NAME)",
		}},
		{testbed.Leaf{CommonName: "127.0.0.1", Names: []string{"db.example.org"}}, map[string]string{
			"db.example.org": "",
			"127.0.0.1":      "", // libpq compares the common name with an address if no SAN is one
			"db.example.com": "tls: certificate is valid for db.example.org, not db.example.com (accept its name with --tls-server-name NAME)",
		}},
		{testbed.Leaf{CommonName: "db.example.org", Names: []string{"127.0.0.1", "db.example.com"}}, map[string]string{
			"127.0.0.1":      "",
			"db.example.com": "",
			"db.example.org": "tls: certificate is valid for …, not db.example.org (accept its name with --tls-server-name NAME)",
		}},
	} {
		s := cluster.Presenting(ca.Issue(t, test.leaf)).Start(t)
		for host, want := range test.hosts {
			url := "postgres://trust@" + host + ":$port/app?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=$ca"
			r := row{"--postgres " + url, 0, "ok    postgres  …  $pgOK"}
			if want != "" {
				r.status, r.want = 1, "FAIL  postgres  …  "+want
			}
			checkLikePsql(t, vars{"port": s.Port, "ca": ca.File, "pgOK": pgOK}, []row{r})
		}
	}
}

func pgService(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s, plain := cluster.Start(t), cluster.Start(t, "ssl=off")
	at := "host=127.0.0.1\nport=" + s.Port + "\n"
	home := folder(t, map[string]string{".pg_service.conf": "# services\n[shop]\n" + at + "dbname=app\nuser=scram\npassword=" + testbed.Password + "\n\n" +
		"[bare]\nuser=trust\ndbname=app\n[plain]\nhost=127.0.0.1\nport=" + plain.Port + "\nuser=trust\ndbname=app\nsslmode=require\n"})
	system := folder(t, map[string]string{"pg_service.conf": "[shop]\nport=1\n[system]\n" + at + "user=trust\ndbname=app\nkeepalives=0\n"})
	file := folder(t, map[string]string{
		"good":    "  [shop] \n\t" + strings.ReplaceAll(at, "\n", "  \r\n") + "user=trust\nuser=nobody\ndbname=app\n[other]\nnonsense\n",
		"unknown": "[shop]\nhost=127.0.0.1\nusr=app\n",
		"blank":   "[shop]\nhost = 127.0.0.1\n",
		"nested":  "[shop]\nservice=other\n",
		"ldap":    "[shop]\nldap://ldap.example.org/dc=example?description?one?(cn=db)\n",
		"noequal": "[shop]\nhost\n",
		"value":   "[shop]\nsslmode=sometimes\n",
	})
	v := vars{"home": home, "system": system, "file": file, "at": s.Addr(), "port": s.Port, "sdir": s.Dir, "plain": plain.Addr(), "pgOK": pgOK, "password": testbed.Password}
	checkLikePsql(t, v, []row{
		{"HOME=$home --postgres postgres://?service=shop", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"HOME=$home PGSERVICE=shop --postgres postgres://", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"HOME=$home PGSERVICE=none --postgres postgres://?service=shop", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"PGSERVICEFILE=$file/good PGSERVICE=shop --postgres postgres://", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"HOME=$home PGSERVICEFILE=$file/good --postgres postgres://?service=shop", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"PGSYSCONFDIR=$system --postgres postgres://?service=system", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"HOME=$home PGSYSCONFDIR=$system --postgres postgres://?service=system", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"HOME=$home PGSYSCONFDIR=$system --postgres postgres://?service=shop", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		// The URI overrides the service, and the service overrides the environment.
		{"HOME=$home --postgres postgres://trust@/?service=shop", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"HOME=$home PGUSER=nobody PGPORT=1 PGPASSWORD=wrong --postgres postgres://?service=shop", 0, "ok    postgres  postgres://scram@$at/app  $pgOK"},
		{"HOME=$home PGHOST=127.0.0.1 PGPORT=$port --postgres postgres://?service=bare", 0, "ok    postgres  postgres://trust@$at/app  $pgOK"},
		{"HOME=$home --postgres postgres://?service=plain", 1, "FAIL  postgres  postgres://trust@$plain/app  tls: the server has no TLS…"},

		{"HOME=$home --postgres postgres://?service=none", 125,
			"--postgres: service none is not defined in $home/.pg_service.conf…\n…"},
		{"PGSERVICE=none PGSERVICEFILE=$file/good PGSYSCONFDIR=$system --postgres postgres://", 125,
			"--postgres: service none is not defined in $file/good, $system/pg_service.conf\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/missing --postgres postgres://", 125,
			"--postgres: service file $file/missing: no such file or directory\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/unknown --postgres postgres://", 125,
			"--postgres: service file $file/unknown: line 3: parameter usr: unknown\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/blank --postgres postgres://", 125, "--postgres: service file $file/blank: line 2: …\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/nested --postgres postgres://", 125,
			"--postgres: service file $file/nested: line 2: a service inside a service\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/noequal --postgres postgres://", 125, "--postgres: service file $file/noequal: line 2: …\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/ldap --postgres postgres://", 125, "--postgres: service file $file/ldap: line 2: an LDAP lookup…\n…"},
		{"PGSERVICE=shop PGSERVICEFILE=$file/value --postgres postgres://", 125,
			"--postgres: service file $file/value: line 2: parameter sslmode: unknown value\n…"},
	})
}

// pgSecurityParameters tests parameters that tighten security, and parameters that are ignored.
func pgSecurityParameters(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s, plain := cluster.Start(t, "ssl_max_protocol_version=TLSv1.2"), cluster.Start(t, "ssl=off")
	owner := "root"
	if info, err := os.Stat(s.Dir); err == nil && info.Sys().(*syscall.Stat_t).Uid != 0 {
		owner = "postgres"
	}
	crl := folder(t, map[string]string{".postgresql/root.crl": "-----BEGIN X509 CRL-----\n", ".postgresql/root.crt": "", "none": ""})
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(crl, ".postgresql/root.crt"), pem, 0o600); err != nil {
		t.Fatal(err)
	}
	v := vars{"at": s.Addr(), "plain": plain.Addr(), "sdir": s.Dir, "port": s.Port, "owner": owner, "ca": ca.File, "crl": crl, "pgOK": pgOK,
		"cert": ca.Issue(t, testbed.Leaf{}).Cert}
	checkLikePsql(t, v, []row{
		{"PGREQUIRESSL=1 --postgres postgres://trust@$plain/app", 1, "FAIL  postgres  …  tls: the server has no TLS, and sslmode=require wants it (use sslmode=disable)"},
		{"PGREQUIRESSL=0 --postgres postgres://trust@$plain/app", 0, "ok    postgres  …  $pgOK"},
		{"PGREQUIRESSL=1 PGSSLMODE=prefer --postgres postgres://trust@$plain/app", 0, "ok    postgres  …  $pgOK"},
		{"PGREQUIREPEER=$owner --postgres postgres://postgres@:$port/postgres?host=$sdir", 0, "ok    postgres  …  $pgOK"},
		{"PGREQUIREPEER=daemon --postgres postgres://postgres@:$port/postgres?host=$sdir", 1,
			"FAIL  postgres  …  auth: requirepeer=daemon: the server runs as $owner"},
		{"--postgres postgres://postgres@:$port/postgres?host=$sdir&requirepeer=daemon", 1,
			"FAIL  postgres  …  auth: requirepeer=daemon: the server runs as $owner"},
		{"--postgres postgres://trust@$at/app?requirepeer=daemon", 0, "ok    postgres  …  $pgOK"}, // it concerns sockets alone
		{"--postgres postgres://trust@$at/app?sslmode=require&ssl_min_protocol_version=TLSv1.3", 1, "FAIL  postgres  …  tls: …version…"},
		{"PGSSLMINPROTOCOLVERSION=TLSv1.3 --postgres postgres://trust@$at/app?sslmode=require", 1, "FAIL  postgres  …  tls: …version…"},
		{"--postgres postgres://trust@$at/app?sslmode=require&ssl_max_protocol_version=TLSv1.2&sslsni=0", 0, "ok    postgres  …  $pgOK"},
		{"--postgres postgres://trust@$at/app?sslmode=require&ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", 125,
			"--postgres: parameter ssl_min_protocol_version: …"},
		{"--postgres postgres://trust@$at/app?gssencmode=require", 125, "--postgres: parameter gssencmode: …"},
		{"PGGSSENCMODE=require --postgres postgres://trust@$at/app", 125, "--postgres: PGGSSENCMODE: parameter gssencmode: …"},
		{"PGGSSENCMODE=disable PGKRBSRVNAME=x --postgres postgres://trust@$at/app", 0, "ok    postgres  …  $pgOK"},
		{"--postgres postgres://trust@$at/app?keepalives=1&keepalives_idle=9&keepalives_interval=9&keepalives_count=9&tcp_user_timeout=0&client_encoding=UTF8&sslcompression=0&krbsrvname=postgres&gssencmode=prefer&fallback_application_name=x", 0,
			"ok    postgres  …  $pgOK"},
	})
	// psql differs here: it accepts a revocation list, which healthcheck refuses, and psql 15 does
	// not know sslcertmode.
	check(t, v, []row{
		{"PGSSLCRL=/no/such --postgres postgres://trust@$at/app?sslmode=verify-ca&sslrootcert=$ca", 125, "--postgres: PGSSLCRL: …"},
		{"PGSSLCRLDIR=/no/such --postgres postgres://trust@$at/app?sslmode=verify-ca&sslrootcert=$ca", 125, "--postgres: PGSSLCRLDIR: …"},
		{"--postgres postgres://trust@$at/app?sslmode=verify-ca&sslrootcert=$ca&sslcrl=/no/such", 125, "--postgres: parameter sslcrl: …"},
		{"HOME=$crl --postgres postgres://trust@$at/app?sslmode=verify-ca", 125, "--postgres: $crl/.postgresql/root.crl: …"},
		{"PGSSLCRL=/no/such --postgres postgres://trust@$at/app?sslmode=disable", 0, "ok    postgres  …  $pgOK"},
		{"--postgres postgres://trust@$at/app?sslmode=require&sslcertmode=disable&sslcert=$cert&sslkey=/no/such", 0, "ok    postgres  …  $pgOK"},
		{"--postgres postgres://trust@$plain/app?sslcertmode=require", 1, "FAIL  postgres  …  tls: sslcertmode=require…"},
	})
}

// pgNormalisation logs in with passwords that NFKC changes.
//
// every holds each character that the table of package wire changes.
func pgNormalisation(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	psql := testbed.Need(t, "psql")
	v := vars{"at": s.Addr(), "pgOK": pgOK}
	const every = "\u00a8\u00aa\u00af\u00b2\u00b3\u00b4\u00b5\u00b8\u00b9\u00ba\u00bc\u00bd\u00be\u2011\u2017\u2024\u2025\u2026\u2033\u2034\u2036\u2037\u203c\u203e\u2047\u2048\u2049\u2057\u2100\u2101\u2102\u2103\u2105\u2106\u2107\u2109\u210a\u210b\u210c\u210d" +
		"\u210e\u210f\u2110\u2111\u2112\u2113\u2115\u2116\u2119\u211a\u211b\u211c\u211d\u2120\u2121\u2122\u2124\u2126\u2128\u212a\u212b\u212c\u212d\u212f\u2130\u2131\u2133\u2134\u2139\u213d\u213e\u213f\u2140\u2145\u2146\u2147\u2148\u2149"
	for _, test := range []struct {
		password, login string
		status          int
		want            string
	}{
		{every, every, 0, "$pgOK"},
		{"\u213b", "\u213b", 0, "$pgOK"}, // not in Unicode 3.2: taken as it is
		{"x²y", "x²y", 0, "$pgOK"},
		{"x²y", "x2y", 0, "$pgOK"},
		{"½µ´¨ªº¯¸", "½µ´¨ªº¯¸", 0, "$pgOK"},
		{"wait…™ ‼ ℃ Å №", "wait…™ ‼ ℃ Å №", 0, "$pgOK"},
		{"“quoted” – €", "“quoted” – €", 0, "$pgOK"}, // the euro sign is of no table, and NFKC leaves it alone
		{"e\u0301te\u0301", "e\u0301te\u0301", 1,
			`auth: FATAL 28P01: password authentication failed for user "scram"; the password may need Unicode normalisation, which healthcheck does not do`},
		{"plain", "wrong", 1, `auth: FATAL 28P01: password authentication failed for user "scram"`},
		{"😀", "😀", 0, "$pgOK"}, // not in Unicode 3.2: taken as it is
		{"😀", "😀😀", 1, `auth: FATAL 28P01: password authentication failed for user "scram"`},
	} {
		cmd := exec.Command(psql, "-X", "-h", s.Dir, "-p", s.Port, "-U", "postgres", "-c", "ALTER ROLE scram PASSWORD '"+test.password+"'")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGCLIENTENCODING=UTF8"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		v["pw"] = test.login
		line := "ok    postgres  postgres://scram@$at/app  " + test.want
		if test.status != 0 {
			line = "FAIL  postgres  postgres://scram@$at/app  " + test.want
		}
		t.Run(test.login, func(t *testing.T) {
			row{"PW=$pw --postgres postgres://scram:${PW}@$at/app", test.status, line}.check(t, v)
		})
	}
}

func pgPasswordFile(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	good := "*:*:*:*:" + testbed.Password + "\n"
	files := folder(t, map[string]string{"good": good, "public": good, "long": "other:*:*:*:" + strings.Repeat("x", 20_000) + "\n" + good,
		"large": strings.Repeat("#\n", 1<<19) + good, "home/.pgpass": good, "public home/.pgpass": good, "empty home/x": ""})
	for _, name := range []string{"public", "public home/.pgpass"} {
		if err := os.Chmod(filepath.Join(files, name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(files, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := vars{"at": s.Addr(), "files": files, "pgOK": pgOK, "password": testbed.Password,
		"none": "auth: scram-sha-256: the server wants a password, and none is given"}
	checkLikePsql(t, v, []row{
		{"HOME=$files/home --postgres postgres://scram@$at/app?passfile=", 0, "ok    postgres  …  $pgOK"},
		{"PGPASSFILE=$files/long --postgres postgres://scram@$at/app", 0, "ok    postgres  …  $pgOK"},
		{"'HOME=$files/empty home' --postgres postgres://scram@$at/app", 1, "FAIL  postgres  …  $none"},
		{"PGPASSFILE=$files/public --postgres postgres://scram@$at/app", 1,
			"FAIL  postgres  …  $none; password file $files/public is ignored: others may read it (chmod 600)"},
		{"--postgres postgres://scram@$at/app?passfile=$files/public", 1,
			"FAIL  postgres  …  $none; password file $files/public is ignored: others may read it (chmod 600)"},
		{"'HOME=$files/public home' --postgres postgres://scram@$at/app", 1,
			"FAIL  postgres  …  $none; password file $files/public home/.pgpass is ignored: others may read it (chmod 600)"},
		{"PGPASSFILE=/no/such --postgres postgres://scram@$at/app", 1,
			"FAIL  postgres  …  $none; password file /no/such is ignored: no such file or directory"},
		{"PGPASSFILE=$files --postgres postgres://scram@$at/app", 1,
			"FAIL  postgres  …  $none; password file $files is ignored: not a regular file"},
		{"PGPASSFILE=$files/fifo --postgres postgres://scram@$at/app", 1,
			"FAIL  postgres  …  $none; password file $files/fifo is ignored: not a regular file"},
		// If no password is missing, the password file is not reported.
		{"PGPASSFILE=$files/public --postgres postgres://trust@$at/app", 0, "ok    postgres  …  $pgOK"},
		{"PGPASSFILE=$files/public --postgres postgres://scram:wrong@$at/app", 1,
			`FAIL  postgres  …  auth: FATAL 28P01: password authentication failed for user "scram"`},
		{"PGPASSFILE=/no/such --postgres postgres://trust@$at/none", 1, `FAIL  postgres  …  reply: FATAL 3D000: database "none" does not exist`},
	})
	check(t, v, []row{{"PGPASSFILE=$files/large --postgres postgres://scram@$at/app", 1,
		"FAIL  postgres  …  $none; password file $files/large is ignored: larger than 1024 KiB"}})
}

func pgTLSFiles(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	openssl := testbed.Need(t, "openssl")
	s := cluster.Start(t)
	pair := ca.Issue(t, testbed.Leaf{CommonName: "cert"})
	files := folder(t, map[string]string{"ca/.postgresql/root.crt": "nonsense", "key/.postgresql/postgresql.key": "nonsense",
		"pair/.postgresql/postgresql.crt": "nonsense", "pair/.postgresql/postgresql.key": "nonsense"})
	for name, args := range map[string]string{
		"pkcs8.key":  "pkcs8 -topk8 -in " + pair.Key + " -passout pass:secret",
		"legacy.key": "ec -aes256 -in " + pair.Key + " -passout pass:secret",
	} {
		if out, err := exec.Command(openssl, append(strings.Fields(args), "-out", filepath.Join(files, name))...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", args, err, out)
		}
	}
	v := vars{"at": "localhost:" + s.Port, "port": s.Port, "sdir": s.Dir, "files": files, "cert": pair.Cert, "ca": ca.File, "pgOK": pgOK,
		"password": testbed.Password}
	checkLikePsql(t, v, []row{
		{"--postgres postgres://postgres@:$port/postgres?host=$sdir&sslrootcert=/no/such&sslcert=/no/such&sslkey=/no/such", 0, "ok    postgres  …  $pgOK"},
		{"HOME=$files/ca --postgres postgres://postgres@:$port/postgres?host=$sdir", 0, "ok    postgres  …  $pgOK"},
		{"--postgres postgres://postgres@:$port/postgres?host=$sdir&sslmode=verify-full", 0, "ok    postgres  …  $pgOK"},
		{"HOME=$files/ca --postgres postgres://scram:$password@$at/app?sslmode=verify-ca", 125,
			"--postgres: sslrootcert $files/ca/.postgresql/root.crt: no certificate in the file\n…"},
		{"HOME=$files/pair --postgres postgres://scram:$password@$at/app?sslmode=require", 125,
			"--postgres: sslcert $files/pair/.postgresql/postgresql.crt: no certificate in the file\n…"},
		{"HOME=$files/key --postgres postgres://scram:$password@$at/app?sslmode=require", 0, "ok    postgres  …  $pgOK"}, // a key alone is not used
		{"--postgres postgres://scram:$password@$at/app?sslmode=verify-ca&sslrootcert=$files", 125,
			"--postgres: sslrootcert $files: not a regular file\n…"},
	})
	check(t, v, []row{
		{"--tls-ca $files --http https://localhost/", 125, "--tls-ca $files: not a regular file\n…"},
		{"--tls-ca /no/such --http https://localhost/", 125, "--tls-ca /no/such: no such file or directory\n…"},
		{"--tls-cert $cert --tls-key /no/such --http https://localhost/", 125, "--tls-key /no/such: no such file or directory\n…"},
		{"--tls-cert $cert --tls-key $cert --http https://localhost/", 125, "--tls-key $cert: no private key in the file\n…"},
		{"--tls-cert $cert --tls-key $files/pkcs8.key --http https://localhost/", 125,
			"--tls-key $files/pkcs8.key: the key is encrypted\n…openssl pkey…"},
		{"--tls-cert $cert --tls-key $files/legacy.key --http https://localhost/", 125,
			"--tls-key $files/legacy.key: the key is encrypted\n…openssl pkey…"},
		{"--postgres postgres://cert@$at/app?sslmode=require&sslcert=$cert&sslkey=$files/pkcs8.key", 125,
			"--postgres: sslkey $files/pkcs8.key: the key is encrypted\n…openssl pkey…"},
		{"'HEALTHCHECK_TLS_KEY=-----BEGIN PRIVATE KEY-----' HEALTHCHECK_TLS_CERT=$cert --http https://localhost/", 125,
			"--tls-key: …\n…not its content…"},
	})
	long := "/" + strings.Repeat("d", 200)
	check(t, vars{"long": long}, []row{
		{"--postgres postgres://app@/app?host=$long", 1, "FAIL  postgres  …  connect: the socket's path is longer than 107 bytes"},
		{"--redis unix://$long", 1, "FAIL  redis  …  connect: the socket's path is longer than 107 bytes"},
	})
}

// pgBouncerErrors tests the errors that a real pgbouncer sends before login, all with the same
// SQLSTATE.
func pgBouncerErrors(t *testing.T, cluster *testbed.Cluster, ca *testbed.CA) {
	s := cluster.Start(t)
	databases := []string{
		"app = user=trust host=127.0.0.1 port=" + s.Port,
		"refused = user=clear password=wrong dbname=app host=127.0.0.1 port=" + s.Port,
	}
	for _, auth := range []string{"scram-sha-256", "md5", "plain", "any"} {
		pooler := testbed.PgBouncer(t, auth, databases...)
		v := vars{"pooler": pooler.Addr(), "pw": testbed.Password, "pgOK": pgOK}
		rows := []row{
			{"--postgres postgres://app:$pw@$pooler/app", 0, "ok    postgres  …  $pgOK"},
			{"--postgres postgres://app:$pw@$pooler/none", 1, "FAIL  postgres  …  reply: FATAL 08P01: …"},
			{"--postgres postgres://app:$pw@$pooler/app?options=-c%20geqo%3Doff", 1,
				"FAIL  postgres  …  reply: FATAL 08P01: unsupported startup parameter: options"},
		}
		if auth != "any" {
			rows = append(rows,
				row{"--postgres postgres://app:wrong@$pooler/app", 1, "FAIL  postgres  …  auth: FATAL 08P01: …authentication failed"},
				row{"--postgres postgres://nobody:$pw@$pooler/app", 1, "FAIL  postgres  …  auth: FATAL 08P01: …"})
		}
		checkLikePsql(t, v, rows)

		// pgbouncer may report its own failed login at the server only to the second client.
		testbed.Poll(t, func() error {
			got := run(t, nil, "--timeout", "1s", "--postgres", v.expand(t, "postgres://app:$pw@$pooler/refused"))
			if got.status != 1 || !strings.Contains(got.stdout, `  auth: FATAL 08P01: password authentication failed for user "clear"`) {
				return fmt.Errorf("%s: status %d, %q", auth, got.status, got.stdout)
			}
			return nil
		})
	}
}
