package probe

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"

	"alfred/healthcheck/wire"
)

// TLSOptions are the --tls-* options, for https, rediss and postgres alike.
type TLSOptions struct {
	CA, Cert, Key string // files in PEM
	ServerName    string // for SNI and for verification; default the host of the URL
	Insecure      bool   // verify nothing
}

// A tlsSetup is TLSOptions with the files read.
type tlsSetup struct {
	roots       *x509.CertPool   // nil: the system's
	certificate *tls.Certificate // nil: none
	serverName  string
	insecure    bool
}

// load reads the files. Its errors name each by the option or parameter that gave it, and by its path as show makes it fit to
// be shown.
func (o TLSOptions) load(caName, certName, keyName string, show func(path string) string) (tlsSetup, error) {
	s := tlsSetup{serverName: o.ServerName, insecure: o.Insecure}
	if o.CA != "" {
		content, err := readPEM(caName, o.CA, show)
		if err != nil {
			return s, err
		}
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(content) {
			return s, Usagef("it must hold one or more certificates in PEM", "%s %s: no certificate in the file", caName, show(o.CA))
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return s, Usagef("give both, or a file that holds both twice", "%s and %s: one without the other", certName, keyName)
	}
	if o.Cert == "" {
		return s, nil
	}
	cert, err := readPEM(certName, o.Cert, show)
	if err != nil {
		return s, err
	}
	if !hasBlock(cert, "CERTIFICATE") {
		return s, Usagef("it must hold the client's certificate in PEM", "%s %s: no certificate in the file", certName, show(o.Cert))
	}
	key, err := readPEM(keyName, o.Key, show)
	if err != nil {
		return s, err
	}
	switch {
	case isEncrypted(key):
		return s, Usagef("decrypt it for healthcheck alone, as in openssl pkey -in KEY -out PLAINKEY, with mode 0600",
			"%s %s: the key is encrypted", keyName, show(o.Key))
	case !hasBlock(key, "PRIVATE KEY"):
		return s, Usagef("it must hold the certificate's key in PEM", "%s %s: no private key in the file", keyName, show(o.Key))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return s, Usagef("the key must be the certificate's", "%s %s, %s %s: %s", certName, show(o.Cert), keyName, show(o.Key),
			strings.TrimPrefix(err.Error(), "tls: "))
	}
	s.certificate = &pair
	return s, nil
}

// readPEM reads a file that an option or a parameter names.
func readPEM(name, path string, show func(path string) string) ([]byte, error) {
	if strings.Contains(path, "-----BEGIN") { // which must not be shown: it may be a key
		return nil, Usagef("give the path of the file, not its content", "%s: not a path", name)
	}
	content, err := readRegularFile(path, maxFile)
	if err != nil {
		return nil, Usagef("check the path, and that the user of this container may read it", "%s %s: %v", name, show(path), err)
	}
	return content, nil
}

// showPath makes a path that holds no secret fit to be shown.
func showPath(path string) string { return cut(escapeUnprintable(path), maxMessage) }

// hasBlock reports whether a file holds a PEM block whose type ends with kind, as "EC PRIVATE KEY" does.
func hasBlock(content []byte, kind string) bool {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, kind) {
			return true
		}
	}
	return false
}

// isEncrypted reports whether a file holds an encrypted key: by PKCS #8 (RFC 5958 section 3), or as OpenSSL wrote it before,
// by RFC 1421 section 4.6.1.1.
func isEncrypted(content []byte) bool {
	return hasBlock(content, "ENCRYPTED PRIVATE KEY") || bytes.Contains(content, []byte("Proc-Type: 4,ENCRYPTED"))
}

// config is the client's configuration for a connection to host.
func (s tlsSetup) config(host string) *tls.Config {
	config := &tls.Config{
		RootCAs:            s.roots,
		ServerName:         cmp.Or(s.serverName, host),
		InsecureSkipVerify: s.insecure,
		MinVersion:         tls.VersionTLS12,
	}
	if s.certificate != nil {
		// Certificates would send it only if the server names its issuer. OpenSSL, and so the application, always sends it.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.certificate, nil }
	}
	return config
}

// handshake puts TLS on conn, which carries the deadline, and notes when the certificates end.
func handshake(r *run, conn net.Conn, config *tls.Config) (*tls.Conn, *failure) {
	t := tls.Client(conn, config)
	if err := t.Handshake(); err != nil {
		conn.Close()
		f := r.failIO(PhaseTLS, err)
		f.remedy = cmp.Or(f.remedy, certificateRemedy(err, config))
		if f.timedOut && r.Check.Type == "redis" { // a ClientHello has no line end, so Redis without TLS waits for the rest of a command
			f.remedy = r.Check.plain + " if it does not speak TLS"
		}
		return nil, f
	}
	for _, cert := range t.ConnectionState().PeerCertificates {
		if r.CertExpiry.IsZero() || cert.NotAfter.Before(r.CertExpiry) {
			r.CertExpiry = cert.NotAfter
		}
	}
	return t, nil
}

// certificateRemedy is what to do about a certificate that does not verify; "" if that is not obvious.
func certificateRemedy(err error, config *tls.Config) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		pgHost    *wire.PGHostError
	)
	switch {
	case errors.As(err, &authority) && config.RootCAs == nil: // else it is not of the CA that was given
		return "trust it with --tls-ca FILE"
	case errors.As(err, &host), errors.As(err, &pgHost):
		return "accept its name with --tls-server-name NAME"
	}
	return ""
}
