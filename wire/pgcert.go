package wire

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"
)

// MatchPGHost checks that a server's certificate names a host, as libpq does for
// sslmode=verify-full (fe-secure-openssl.c, fe-secure-common.c; PostgreSQL documentation 34.19.1).
// It does not check who signed the certificate.
//
//   - A dNSName matches if it equals the host, even if the host is an address. A wildcard "*.REST"
//     matches a host if REST is the part after its first label. The case of ASCII letters is
//     ignored.
//   - An iPAddress matches if the host is the same address.
//   - The first common name is compared like a dNSName if the certificate has no subjectAltName of
//     the host's type, name or address.
//
// Its error is a *PGHostError.
// It quotes a name from the certificate, which is text from the peer.
func MatchPGHost(cert *x509.Certificate, host string) error {
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil && addr.Zone() == ""
	var names []string
	for _, name := range cert.DNSNames {
		if matchDNSName(name, host) {
			return nil
		}
		names = append(names, name)
	}
	for _, ip := range cert.IPAddresses {
		certAddr, ok := netip.AddrFromSlice(ip)
		if ok && isAddr && certAddr == addr {
			return nil
		}
		names = append(names, ip.String())
	}
	if isAddr && len(cert.IPAddresses) == 0 || !isAddr && len(cert.DNSNames) == 0 {
		if name := commonName(cert); name != "" {
			if matchDNSName(name, host) {
				return nil
			}
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return pgHostErrorf("certificate names no host, wanted %s", host)
	case 1:
		return pgHostErrorf("certificate is valid for %s, not %s", names[0], host)
	}
	return pgHostErrorf("certificate is valid for %s and %d more, not %s", names[0], len(names)-1, host)
}

// A PGHostError says that a certificate does not name a host.
type PGHostError struct {
	What string // lower case, without a period; its names are the peer's bytes
}

func (e *PGHostError) Error() string { return e.What }

func pgHostErrorf(format string, args ...any) error {
	return &PGHostError{fmt.Sprintf(format, args...)}
}

// matchDNSName compares a name in a certificate with a host. A name with a zero byte matches
// nothing.
func matchDNSName(name, host string) bool {
	if strings.Contains(name, "\x00") {
		return false
	}
	name, host = lowerASCII(name), lowerASCII(host)
	if name == host {
		return true
	}
	suffix, wildcard := strings.CutPrefix(name, "*.")
	_, rest, ok := strings.Cut(host, ".")
	return wildcard && ok && suffix != "" && rest == suffix && host[0] != '.'
}

// lowerASCII converts only ASCII letters to lower case. Unlike strings.ToLower, it does not turn
// the Kelvin sign into k.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// commonName returns a certificate's first common name. Subject.CommonName would be the last.
func commonName(cert *x509.Certificate) string {
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
			name, _ := attribute.Value.(string)
			return name
		}
	}
	return ""
}
