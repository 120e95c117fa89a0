package wire

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// FuzzParsePGURI holds that nothing shows a password: neither an error, whatever stands where, nor any
// printed form; and that what String prints parses to the same parameters without the password.
func FuzzParsePGURI(f *testing.F) {
	const mark = "hunter-2!" // as part of a name, not one that is shown
	for _, tt := range pgURIs {
		f.Add(tt.in, "")
		if before, after, ok := strings.Cut(tt.in, "pw@"); ok {
			f.Add(before, "@"+after)
		}
	}
	for _, tt := range badPGURIs {
		before, after, _ := strings.Cut(tt.in, "hunter-2")
		f.Add(before, after)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		s := before + mark + after
		u, err := ParsePGURI(s)
		if err != nil {
			var uriErr *PGURIError
			if !errors.As(err, &uriErr) || strings.Contains(fmt.Sprintf("%+v", *uriErr), mark) {
				t.Fatalf("ParsePGURI(%q) = %#v, want a *PGURIError without %q", s, err, mark)
			}
			if u, err = ParsePGURI(before + after); err != nil {
				return
			}
		}
		public := maps.Clone(u.values)
		delete(public, "password")
		delete(public, "sslpassword")
		printed := u.String()
		if len(printed) > 3*len(s)+len("sslmode=require") {
			t.Fatalf("String(%q) has %d bytes, want at most three times as many as the URI", s, len(printed))
		}
		if !strings.Contains(uriFields(public), mark) {
			for _, shown := range []string{printed, u.Target(), fmt.Sprintf("%v %+v %#v %s %v", u, u, u, *u, *u)} {
				if strings.Contains(shown, mark) || strings.Contains(shown, PercentEncode(mark, "")) {
					t.Fatalf("%q is shown as %q", s, shown)
				}
			}
		}
		if len(printed) > MaxPGURI {
			return // encoding made it too long to be parsed again
		}
		again, err := ParsePGURI(printed)
		if err != nil {
			t.Fatalf("ParsePGURI(%q), printed from %q, = %v", printed, s, err)
		}
		if !maps.Equal(again.values, public) {
			t.Fatalf("ParsePGURI(%q), printed from %q, = %q, want %q", printed, s, uriFields(again.values), uriFields(public))
		}
		if hosts, err := u.Hosts(); err == nil {
			target, err := ParsePGURI(u.Target())
			if err != nil {
				t.Fatalf("ParsePGURI(%q), the target of %q, = %v", u.Target(), s, err)
			}
			if n, err := target.Hosts(); err != nil || len(n) != len(hosts) {
				t.Fatalf("Hosts(%q), the target of %q, = %v, %v, want %v", u.Target(), s, n, err, hosts)
			}
		}
	})
}
