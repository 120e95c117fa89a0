package probe

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
)

// TLSOptions are the --tls-* options, for https, rediss and postgres alike.
type TLSOptions struct {
	CA, Cert, Key string // files in PEM
	ServerName    string // for SNI and for verification; default the host of the URL
	Insecure      bool   // verify nothing
}

// A tlsSetup is TLSOptions with the files read.
type tlsSetup struct {
	roots        *x509.CertPool // nil: the system's
	certificates []tls.Certificate
	serverName   string
	insecure     bool
}

// load reads the files, named by what they are called where they were given.
func (o TLSOptions) load(caName, certName, keyName string) (tlsSetup, error) {
	s := tlsSetup{serverName: o.ServerName, insecure: o.Insecure}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return s, Usagef("check the path, and that the user of this container may read it", "%s: %v", caName, reason(err))
		}
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM(pem) {
			return s, Usagef("it must hold one or more certificates in PEM", "%s: no certificate in the file", caName)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return s, Usagef("give both, or a file that holds both twice", "%s and %s: one without the other", certName, keyName)
	}
	if o.Cert != "" {
		cert, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return s, Usagef("both must be in PEM, readable, and belong together", "%s, %s: %s", certName, keyName, strings.TrimPrefix(reason(err).Error(), "tls: "))
		}
		s.certificates = []tls.Certificate{cert}
	}
	return s, nil
}

// config is the client's configuration for a connection to host.
func (s tlsSetup) config(host string) *tls.Config {
	return &tls.Config{
		RootCAs:            s.roots,
		Certificates:       s.certificates,
		ServerName:         cmp.Or(s.serverName, host),
		InsecureSkipVerify: s.insecure,
		MinVersion:         tls.VersionTLS12,
	}
}

// handshake puts TLS on conn, which carries the deadline, and notes when the certificates end.
func handshake(r *run, conn net.Conn, config *tls.Config) (*tls.Conn, *failure) {
	t := tls.Client(conn, config)
	if err := t.Handshake(); err != nil {
		conn.Close()
		return nil, r.failIO(PhaseTLS, err)
	}
	for _, cert := range t.ConnectionState().PeerCertificates {
		if r.CertExpiry.IsZero() || cert.NotAfter.Before(r.CertExpiry) {
			r.CertExpiry = cert.NotAfter
		}
	}
	return t, nil
}
