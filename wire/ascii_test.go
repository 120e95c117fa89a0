package wire

import (
	"net/url"
	"testing"
)

func TestPercentEncode(t *testing.T) {
	var all []byte
	for c := range 256 {
		all = append(all, byte(c))
	}
	for _, test := range []struct{ in, keep, want string }{
		{"", "", ""},
		{"aZ09-._~", "", "aZ09-._~"},
		{"a/b:c", "", "a%2Fb%3Ac"},
		{"a/b:c", "/", "a/b%3Ac"},
		{"a/b:c", "/:", "a/b:c"},
		{"\x00 é\xff%", "", "%00%20%C3%A9%FF%25"},
	} {
		if got := PercentEncode(test.in, test.keep); got != test.want {
			t.Errorf("PercentEncode(%q, %q) = %q, want %q", test.in, test.keep, got, test.want)
		}
	}
	if back, err := url.PathUnescape(PercentEncode(string(all), "")); err != nil || back != string(all) {
		t.Errorf("every byte, encoded and decoded: %q, %v", back, err)
	}
}

func TestConsistsOf(t *testing.T) {
	for _, test := range []struct {
		in, others string
		want       bool
	}{
		{"", "", false},
		{"", "_", false},
		{"azAZ09", "", true},
		{"a_b", "", false},
		{"a_b", "_", true},
		{"__", "_", true},
		{"@", "", false}, {"[", "", false}, {"`", "", false}, {"{", "", false}, {"/", "", false}, {":", "", false}, // next to a range
		{"é", "", false},
		{"a\x00", "_", false},
	} {
		if got := ConsistsOf(test.in, test.others); got != test.want {
			t.Errorf("ConsistsOf(%q, %q) = %v, want %v", test.in, test.others, got, test.want)
		}
	}
}
