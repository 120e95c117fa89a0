package wire

import (
	"strings"
	"testing"
)

func TestSetService(t *testing.T) {
	exact := "application_name=" + strings.Repeat("x", maxServiceLine-len("application_name=")-1)
	for _, test := range []struct {
		uri, text string
		found     bool
		want      string // the URI with the service's parameters, or the error
	}{
		{"postgres://", "", false, "postgres://"},
		{"postgres://", "[shop]\nhost=db\nport=5433\ndbname=shop\nuser=app\n", true, "postgres://app@db:5433/shop"},
		{"postgres://me@/?application_name=", "[shop]\nuser=app\nhost=db\napplication_name=x", true, "postgres://me@db?application_name="},
		{"postgres://", "[other]\nhost=a\n[shop]\nhost=b\n[shop]\nhost=c\n", true, "postgres://b"},
		{"postgres://", "[other]\nhost=a\n", false, "postgres://"},
		{"postgres://", "[shopping]\nhost=a\n", false, "postgres://"},
		{"postgres://", "host=a\n", false, "postgres://"},
		{"postgres://", "[shop] # ours\r\n\t host=a \r\nhost=b\n\n # none\n#port=1", true, "postgres://a"},
		{"postgres://", "[shop]\nuser= a=b \n", true, "postgres://%20a%3Db@"},
		{"postgres://", "[shop]\nhost=\nkeepalives=\n", true, "postgres://?host=&keepalives="},
		{"postgres://", "[shop]\npassword=secret\nsslpassword=secret", true, "postgres://"},
		{"postgres://", "nonsense\n[shop]\n[other]\nnonsense", true, "postgres://"},
		{"postgres://", "[shop]\n" + exact + "\nuser=a", true, "postgres://a@?" + exact},
		{"postgres://", "[shop]\n" + exact + "x\nuser=a", true, "line 2: longer than 1022 bytes"},

		{"postgres://", "[shop]\n\nhost\n", true, "line 3: has no ="},
		{"postgres://", "[shop]\nhost = db\n", true, "line 2: parameter: unknown, and its name not fit to show"},
		{"postgres://", "[shop]\nHost=db\n", true, "line 2: parameter: unknown, and its name not fit to show"},
		{"postgres://", "[shop]\nsecret&word=db\n", true, "line 2: parameter: unknown, and its name not fit to show"},
		{"postgres://", "[shop]\nservice=other\n", true, "line 2: a service inside a service"},
		{"postgres://", "[shop]\nldap://ldap.example/o=x?cn?one?(cn=x)\n", true, "line 2: an LDAP lookup is not supported"},
		{"postgres://", "[shop]\nsslmode=sometimes\n", true, "line 2: parameter sslmode: unknown value"},
		{"postgres://", "[shop]\nport=1,x\n", true, "line 2: port of host 2: not a number from 1 to 65535"},
		{"postgres://", "[shop]\nuser=a\x00b\n", true, "line 2: parameter user: holds a zero byte"},
	} {
		u, err := ParsePGURI(test.uri)
		if err != nil {
			t.Fatal(err)
		}
		found, err := u.SetService(test.text, "shop")
		got := u.String()
		if err != nil {
			got = err.Error()
		}
		if got != test.want || found != test.found {
			t.Errorf("%s with %.60q: %t, %q, want %t, %q", test.uri, test.text, found, got, test.found, test.want)
		}
	}
}
