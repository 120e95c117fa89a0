package probe

import (
	"net/netip"
	"testing"
)

func TestConnectsTo(t *testing.T) {
	for _, test := range []struct {
		kind, value, listener string
		want                  bool
	}{
		{"http", "http://localhost:9091/health", "[::]:9091", true},
		{"http", "http://127.0.0.1:9091", "[::]:9091", true},
		{"http", "http://[::1]:9091", "127.0.0.1:9091", true},
		{"http", "http://10.0.0.5:9091", "10.0.0.5:9091", true},
		{"http", "http://LOCALHOST.", "[::]:80", true},
		{"http", "https://localhost", "[::]:443", true},
		{"tcp", "0.0.0.0:9091", "[::]:9091", true},
		{"http", "http://localhost:8080/health", "[::]:9091", false},
		{"http", "http://other:9091/health", "[::]:9091", false},
		{"http", "http://10.0.0.6:9091", "10.0.0.5:9091", false},
		{"http", "http+unix://%2Frun%2Fapp.sock/", "[::]:80", false},
		{"redis", "redis://localhost:9091", "[::]:9091", false},
	} {
		c := mustParse(t, Options{}, test.kind, test.value)
		if got := c.ConnectsTo(netip.MustParseAddrPort(test.listener)); got != test.want {
			t.Errorf("--%s %s: ConnectsTo(%s) = %v, want %v", test.kind, test.value, test.listener, got, test.want)
		}
	}
}
