package testbed

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A CA is a certificate authority that only its tests trust.
type CA struct {
	File string // its certificate, PEM

	dir    string
	cert   *x509.Certificate
	key    crypto.Signer
	serial int64
}

// A Leaf says what a certificate is issued for.
type Leaf struct {
	CommonName string   // for PostgreSQL's cert method, the role
	Names      []string // host names and IP addresses; none: localhost, 127.0.0.1 and ::1
	Expired    bool     // its time ended an hour ago
	Ed25519    bool     // an Ed25519 key in place of ECDSA P-256
}

// A Pair is a certificate and its key, as PEM files.
type Pair struct{ Cert, Key string }

// NewCA makes a CA whose files live as long as the test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{dir: tempDir(t, nil)}
	ca.cert = &x509.Certificate{
		Subject:               pkix.Name{CommonName: "testbed CA"},
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	ca.File, ca.key = ca.sign(t, "ca", ca.cert, newKey(t, false))
	return ca
}

// Issue makes a certificate that serves a server and a client alike.
func (ca *CA) Issue(t testing.TB, leaf Leaf) Pair {
	t.Helper()
	cert := &x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.CommonName},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if leaf.Names == nil {
		leaf.Names = []string{"localhost", "127.0.0.1", "::1"}
	}
	for _, name := range leaf.Names {
		if ip := net.ParseIP(name); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, name)
		}
	}
	if leaf.Expired {
		cert.NotAfter = time.Now().Add(-time.Hour)
	}
	name := "leaf" + strconv.FormatInt(ca.serial, 10)
	file, key := ca.sign(t, name, cert, newKey(t, leaf.Ed25519))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Cert: file, Key: ca.write(t, name+".key", "PRIVATE KEY", der)}
}

// TLS reads the pair for a server that the test itself scripts.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// sign completes cert, signs it with ca's key (its own, when ca has none yet)
// and writes it.
func (ca *CA) sign(t testing.TB, name string, cert *x509.Certificate, key crypto.Signer) (string, crypto.Signer) {
	t.Helper()
	ca.serial++
	cert.SerialNumber = big.NewInt(ca.serial)
	cert.NotBefore = time.Now().Add(-24 * time.Hour)
	if cert.NotAfter.IsZero() {
		cert.NotAfter = time.Now().Add(24 * time.Hour)
	}
	signer := ca.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return ca.write(t, name+".crt", "CERTIFICATE", der), key
}

func (ca *CA) write(t testing.TB, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(ca.dir, name)
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})), nil)
	return path
}

func newKey(t testing.TB, edwards bool) (key crypto.Signer) {
	t.Helper()
	var err error
	if edwards {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// copyFile copies a PEM file to where a server run as cred can read it.
func copyFile(t testing.TB, from, to string, cred *syscall.Credential) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, string(content), cred)
}
