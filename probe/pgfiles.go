package probe

import (
	"cmp"
	"path/filepath"
	"strconv"
	"strings"

	"alfred/healthcheck/wire"
)

// setTLS reads the certificate files that the parameters name or that exist in the home directory.
// It reads nothing if no connection can use TLS. As in libpq, an existing CA file is used under
// every sslmode.
func (t *pgTarget) setTLS(env *environment, home string) (err error) {
	mode := t.uri.SSLMode()
	if !t.usesTLS() {
		return nil
	}
	verifying := mode == "verify-ca" || mode == "verify-full"
	files := TLSOptions{ServerName: env.opts.ServerName}
	files.CA, _ = t.file("sslrootcert", home, "root.crt")
	if t.uri.Get("sslcertmode") != "disable" {
		fromHome := false
		files.Cert, _ = t.file("sslcert", home, "postgresql.crt")
		files.Key, fromHome = t.file("sslkey", home, "postgresql.key")
		if files.Cert == "" && fromHome {
			files.Key = "" // nothing to use it with
		}
	}
	system := files.CA == "system"
	if files.CA == "" && verifying {
		return Usagef("add sslrootcert=FILE or --tls-ca FILE, or sslrootcert=system for the CAs of this system", "sslmode=%s needs a CA to verify with", mode)
	}
	if system {
		files.CA = ""
	}
	if t.tls, err = files.load("sslrootcert", "sslcert", "sslkey", t.show); err != nil {
		return err
	}
	t.verify = verifying || t.tls.roots != nil && !env.opts.Insecure
	if mode == "verify-full" && files.ServerName == "" {
		for i, h := range t.hosts {
			if h.Host == "" && h.Addr != "" {
				return Usagef("add host=NAME, the name in the server's certificate, beside hostaddr",
					"sslmode=verify-full needs a name to verify, and host %d has only an address in hostaddr", i+1)
			}
		}
	}
	return t.refuseCRL(home)
}

// usesTLS reports whether any host is reached by TCP with an sslmode that permits TLS.
func (t *pgTarget) usesTLS() bool {
	if t.uri.SSLMode() == "disable" {
		return false
	}
	for _, h := range t.hosts {
		if network, _ := t.address(h); network != "unix" {
			return true
		}
	}
	return false
}

// file returns the path that a parameter names. If the parameter is missing, it returns the path of
// a file in the home directory, if that file exists. As in libpq, an empty parameter counts as
// missing.
func (t *pgTarget) file(param, home, name string) (path string, fromHome bool) {
	if path = t.uri.Get(param); path != "" || home == "" {
		return path, false
	}
	if path = filepath.Join(home, ".postgresql", name); !exists(path) {
		return "", false
	}
	return path, true
}

// refuseCRL refuses a certificate revocation list if certificates are verified. healthcheck does
// not read such lists, so a check could pass while the application fails.
func (t *pgTarget) refuseCRL(home string) error {
	if !t.verify {
		return nil
	}
	where := ""
	for _, param := range []string{"sslcrl", "sslcrldir"} {
		if t.uri.Get(param) != "" {
			where = cmp.Or(t.source[param], "parameter "+param)
		}
	}
	if path := filepath.Join(home, ".postgresql", "root.crl"); where == "" && home != "" && exists(path) {
		where = t.show(path)
	}
	if where == "" {
		return nil
	}
	return Usagef("leave it out for healthcheck, or check the port with --tcp", "%s: certificate revocation lists are not supported", where)
}

// setPasswords sets each host's password: from the URI, its service or the environment, otherwise
// from the password file. As in libpq, an unusable password file is not an error. The reason is
// kept, and shown if a login then fails without a password.
func (t *pgTarget) setPasswords(home string) {
	path, explicit := t.uri.Get("passfile"), true
	if path == "" && home != "" {
		path, explicit = filepath.Join(home, ".pgpass"), false
	}
	var text string
	read := false
	for _, h := range t.hosts {
		password := t.uri.Get("password")
		if password == "" && path != "" && t.passfileProblem == "" {
			if !read {
				text, t.passfileProblem = t.readPassfile(path, explicit)
				read = true
			}
			var err error
			if password, err = t.lookUpPassword(text, h); err != nil {
				t.passfileProblem = t.passfileFailure(path, err.Error())
			}
		}
		t.passwords = append(t.passwords, password)
	}
}

func (t *pgTarget) lookUpPassword(text string, h wire.PGHost) (string, error) {
	port := strconv.Itoa(int(cmp.Or(h.Port, wire.DefaultPGPort)))
	return wire.LookupPassword(strings.NewReader(text),
		wire.PassfileKey{Host: cmp.Or(h.Host, h.Addr), Port: port, Database: t.login.Database, User: t.login.User, SocketDir: pgSocketDirs[0]})
}

// readPassfile reads a password file. If the file is ignored, problem is the reason. As in libpq, a
// file that others may read is ignored. A missing file is a problem only if it was named
// explicitly.
func (t *pgTarget) readPassfile(path string, explicit bool) (text, problem string) {
	content, mode, err := readFileMode(path, maxFile)
	switch {
	case err != nil && !explicit && !exists(path):
		return "", ""
	case err != nil:
		return "", t.passfileFailure(path, err.Error())
	case mode&0o077 != 0:
		return "", t.passfileFailure(path, "others may read it (chmod 600)")
	}
	return string(content), ""
}

func (t *pgTarget) passfileFailure(path, reason string) string {
	return "password file " + t.show(path) + " is ignored: " + reason
}
