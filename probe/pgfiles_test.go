package probe

import (
	"path/filepath"
	"strings"
	"testing"
)

// If ${…} inserts the name of a file or a service into the URL, errors mask that name.
func TestPostgresFilesMasked(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ query, want string }{
		{"sslrootcert=${PLACE}", "sslrootcert ***: no such file or directory"},
		{"sslmode=require&sslcert=${PLACE}&sslkey=${PLACE}", "sslcert ***: no such file or directory"},
		{"service=${PLACE}", "service *** is not defined in " + filepath.Join(dir, "pg_service.conf")},
	} {
		lookup := env{"PLACE": "/no/such/MARK", "PGSYSCONFDIR": dir}.lookup
		_, err := parseOne(Options{LookupEnv: lookup}, "postgres", "postgres://h/d?"+test.query)
		got, _, _ := strings.Cut(usageOf(t, err), "\n")
		if got != "--postgres: "+test.want {
			t.Errorf("%s: %q, want %q", test.query, got, test.want)
		}
	}
}
