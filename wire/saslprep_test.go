package wire

import (
	"testing"
	"unicode"
)

func TestSASLprep(t *testing.T) {
	tests := []struct{ in, want string }{
		// RFC 4013 section 3, where it takes no normalisation.
		{"I\u00adX", "IX"},
		{"user", "user"},
		{"USER", "USER"},
		{"\u0007", "\u0007"},             // prohibited: raw
		{"\u0627\u0031", "\u0627\u0031"}, // prohibited by its direction: raw
		// RFC 4013 says "a" and "IX" by NFKC, which is not there: raw.
		{"\u00aa", "\u00aa"},
		{"\u2168", "\u2168"},

		{"", ""},
		{" pass word~!", " pass word~!"},
		{"naïve Straße", "naïve Straße"},
		{"Ελλάδα", "Ελλάδα"},
		{"Їжак", "Їжак"},

		// Mapped to a space.
		{"\u00a0", " "},
		{"a\u00a0b", "a b"},
		{"a\u1680b", "a b"},
		{"a\u2003b", "a b"},
		{"a\u200bb", "a b"},
		{"a\u202f\u205fb", "a  b"},
		{"é\u00a0", "é "},
		{"日本\u3000語", "日本 語"},
		{"한글\u00a0", "한글 "},
		// Mapped to nothing.
		{"\ufeffa\u00adb\u034fc\u1806d\u180ce\u200df\u2060g\ufe0fh", "abcdefgh"},
		// Nothing is left: raw.
		{"\u00ad", "\u00ad"},
		{"\u00ad\u200d", "\u00ad\u200d"},
		// As much as one character that is prohibited or not known to be stable: raw as a whole.
		{"\u00a0\x01", "\u00a0\x01"},
		{"a\x7f\u00a0", "a\x7f\u00a0"},
		{"e\u0301\u00a0", "e\u0301\u00a0"},           // composes
		{"\u1100\u1161\u00a0", "\u1100\u1161\u00a0"}, // jamo, compose
		{"½\u00a0", "½\u00a0"},
		{"\u0221\u00a0", "\u0221\u00a0"}, // not in Unicode 3.2
		{"\U0001f600\u00a0", "\U0001f600\u00a0"},
		{"\u05d0\u00a0", "\u05d0\u00a0"},
		{"\ue000\u00a0", "\ue000\u00a0"},
		// Not UTF-8: raw.
		{"\xff", "\xff"},
		{"a\xe9b\u00a0", "a\xe9b\u00a0"},
		{"\xed\xa0\x80\u00a0", "\xed\xa0\x80\u00a0"},
	}
	for _, tt := range tests {
		if got := saslprep(tt.in); got != tt.want {
			t.Errorf("saslprep(%+q) = %+q, want %+q", tt.in, got, tt.want)
		}
	}
}

// What Unicode 3.2 and NFKC say of the table is not in the standard library. This holds the part that is: printable,
// on its own, and left to right.
func TestUnchangedByNFKC(t *testing.T) {
	last := rune(-1)
	for _, rr := range unchangedByNFKC {
		if rr.lo <= last || rr.hi < rr.lo {
			t.Errorf("range %U-%U is not behind %U", rr.lo, rr.hi, last)
		}
		last = rr.hi
		for r := rr.lo; r <= rr.hi; r++ {
			if !unicode.IsPrint(r) || unicode.IsMark(r) || unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana) {
				t.Errorf("unchangedByNFKC holds %U", r)
			}
			if in(mappedToSpace, r) || in(mappedToNothing, r) {
				t.Errorf("unchangedByNFKC holds %U, which is mapped", r)
			}
		}
	}
}
