package wire

import (
	"encoding/hex"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
		{"\u00aa", "a"},
		// RFC 4013 maps it to "IX" by NFKC, but the tables do not cover it: raw.
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
		{"x²½µ…™", "x21\u20442\u03bc...TM"},
		{"a´\u00a0", "a \u0301 "},
		{"“½”", "“1\u20442”"},
		{"½\u2168", "½\u2168"},
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
		if got, _ := saslprep(tt.in); got != tt.want {
			t.Errorf("saslprep(%+q) = %+q, want %+q", tt.in, got, tt.want)
		}
	}
}

// complete is false only if the password may need more than the tables of this package.
func TestSASLprepComplete(t *testing.T) {
	for in, want := range map[string]bool{
		"": true, "secret": true, "pässwörd": true, "\u00ad": true, "½…": true, "\xff": true, "a\x07": true,
		"😀": true, "e\u0301😀": true, "\ue000": true,
		"e\u0301": false, "\u2168": false, "\u05d0": false, "€": false, "ﬁ": false,
	} {
		if _, got := saslprep(in); got != want {
			t.Errorf("saslprep(%+q) is complete: %t, want %t", in, got, want)
		}
	}
}

// pythonSASLprep prints the SASLprep form of "aXb", with X as each code point of the three blocks
// and of some others. If SASLprep prohibits the text, it prints the text itself.
const pythonSASLprep = `
import stringprep as s, unicodedata
banned = [s.in_table_c12, s.in_table_c21_c22, s.in_table_c3, s.in_table_c4, s.in_table_c5, s.in_table_c6, s.in_table_c7, s.in_table_c8, s.in_table_c9]
def prepare(text):
    out = "".join(" " if s.in_table_c12(c) or c == "\u200b" else "" if s.in_table_b1(c) else c for c in text)
    out = unicodedata.normalize("NFKC", out)
    right, left = [s.in_table_d1(c) for c in out], [s.in_table_d2(c) for c in out]
    if any(f(c) for f in banned for c in out) or any(s.in_table_a1(c) for c in text + out):
        return text
    if any(right) and (any(left) or not right[0] or not right[-1]):
        return text
    return out
for c in [*range(1, 0x180), *range(0x2000, 0x2070), *range(0x2100, 0x2150), *range(0xe000, 0xe010), *range(0x1f300, 0x1fb00)]:
    print("%x %s" % (c, prepare("a" + chr(c) + "b").encode().hex()))
`

func TestSASLprepLikePython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("HEALTHCHECK_REQUIRE") == "all" {
			t.Fatal("python3 is missing, and HEALTHCHECK_REQUIRE=all")
		}
		t.Skip("python3 is missing")
	}
	out, err := exec.Command(python, "-c", pythonSASLprep).Output()
	if err != nil {
		t.Fatal(err)
	}
	compared, left := 0, 0
	for line := range strings.Lines(string(out)) {
		code, encoded, _ := strings.Cut(strings.TrimSpace(line), " ")
		r, err1 := strconv.ParseInt(code, 16, 32)
		want, err2 := hex.DecodeString(encoded)
		if err1 != nil || err2 != nil {
			t.Fatalf("python3 wrote %q", line)
		}
		got, complete := saslprep("a" + string(rune(r)) + "b")
		if !complete {
			left++
			continue
		}
		compared++
		if got != string(want) {
			t.Errorf("saslprep(a%cb), %U, = %+q, Python: %+q", rune(r), r, got, want)
		}
	}
	if compared < 2500 || left > 20 {
		t.Errorf("compared %d characters and skipped %d, want at least 2500 and at most 20", compared, left)
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
