package wire

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"testing"
)

func TestMatchPGHost(t *testing.T) {
	type names struct {
		cn  []string
		dns []string
		ip  []string
	}
	for _, test := range []struct {
		names names
		host  string
		want  string // the error
	}{
		{names{dns: []string{"db.example"}}, "db.example", ""},
		{names{dns: []string{"DB.example"}}, "db.EXAMPLE", ""},
		{names{dns: []string{"other", "db.example"}}, "db.example", ""},
		{names{dns: []string{"db.example"}}, "db.example.", "certificate is valid for db.example, not db.example."},
		{names{dns: []string{"\u212a.example"}}, "k.example", "certificate is valid for \u212a.example, not k.example"},
		{names{dns: []string{"db.example\x00.evil"}}, "db.example", "certificate is valid for db.example\x00.evil, not db.example"},

		{names{dns: []string{"*.example.org"}}, "db.example.org", ""},
		{names{dns: []string{"*.EXAMPLE.org"}}, "DB.example.ORG", ""},
		{names{dns: []string{"*.example.org"}}, "a.db.example.org", "certificate is valid for *.example.org, not a.db.example.org"},
		{names{dns: []string{"*.example.org"}}, "example.org", "certificate is valid for *.example.org, not example.org"},
		{names{dns: []string{"*.example.org"}}, ".example.org", "certificate is valid for *.example.org, not .example.org"},
		{names{dns: []string{"d*.example.org"}}, "db.example.org", "certificate is valid for d*.example.org, not db.example.org"},
		{names{dns: []string{"db.*.org"}}, "db.example.org", "certificate is valid for db.*.org, not db.example.org"},
		{names{dns: []string{"*"}}, "db", "certificate is valid for *, not db"},
		{names{dns: []string{"*."}}, "db.", "certificate is valid for *., not db."},
		{names{dns: []string{"*.org"}}, "example.org", ""}, // libpq does not require a second dot

		{names{ip: []string{"10.0.0.5"}}, "10.0.0.5", ""},
		{names{ip: []string{"fd00::5"}}, "fd00:0::5", ""},
		{names{ip: []string{"10.0.0.5"}}, "10.0.0.6", "certificate is valid for 10.0.0.5, not 10.0.0.6"},
		{names{ip: []string{"fe80::1"}}, "fe80::1%eth0", "certificate is valid for fe80::1, not fe80::1%eth0"},
		{names{dns: []string{"10.0.0.5"}}, "10.0.0.5", ""}, // libpq compares every dNSName as text

		// The common name.
		{names{cn: []string{"db.example"}}, "DB.example", ""},
		{names{cn: []string{"*.example"}}, "db.example", ""},
		{names{cn: []string{"10.0.0.5"}}, "10.0.0.5", ""},
		{names{cn: []string{"first", "second"}}, "first", ""},
		{names{cn: []string{"first", "second"}}, "second", "certificate is valid for first, not second"},
		{names{cn: []string{"db.example"}, dns: []string{"other"}}, "db.example", "certificate is valid for other, not db.example"},
		{names{cn: []string{"db.example"}, ip: []string{"10.0.0.5"}}, "db.example", ""},
		{names{cn: []string{"10.0.0.5"}, dns: []string{"db.example"}}, "10.0.0.5", ""},
		{names{cn: []string{"10.0.0.5"}, ip: []string{"10.0.0.6"}}, "10.0.0.5", "certificate is valid for 10.0.0.6, not 10.0.0.5"},
		{names{}, "db.example", "certificate names no host, wanted db.example"},
		{names{dns: []string{"a", "b"}, ip: []string{"10.0.0.5"}}, "db", "certificate is valid for a and 2 more, not db"},
	} {
		cert := &x509.Certificate{DNSNames: test.names.dns}
		for _, ip := range test.names.ip {
			parsed := net.ParseIP(ip)
			if v4 := parsed.To4(); v4 != nil { // as x509 parses it
				parsed = v4
			}
			cert.IPAddresses = append(cert.IPAddresses, parsed)
		}
		for _, cn := range test.names.cn {
			cert.Subject.Names = append(cert.Subject.Names,
				pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "organisation"},
				pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn})
		}
		got := ""
		if err := MatchPGHost(cert, test.host); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+q, %s: %q, want %q", test.names, test.host, got, test.want)
		}
	}
}
