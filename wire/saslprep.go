package wire

import "unicode/utf8"

// runeRange is an inclusive range of code points.
type runeRange struct{ lo, hi rune }

func in(table []runeRange, r rune) bool {
	for _, rr := range table {
		if rr.lo <= r && r <= rr.hi {
			return true
		}
	}
	return false
}

var (
	// mappedToSpace is RFC 3454 table C.1.2.
	mappedToSpace = []runeRange{{0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200b}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}}

	// mappedToNothing is RFC 3454 table B.1. U+200B stands in both; libpq maps it to a space.
	mappedToNothing = []runeRange{{0xad, 0xad}, {0x34f, 0x34f}, {0x1806, 0x1806}, {0x180b, 0x180d}, {0x200c, 0x200d}, {0x2060, 0x2060}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}}

	// unchangedByNFKC lists left-to-right characters that Unicode 3.2 assigns and RFC 4013 does not
	// prohibit. NFKC changes no sequence of them and of the values of changedByNFKC. ASCII is
	// first.
	unchangedByNFKC = []runeRange{
		{0x20, 0x7e},
		{0xa1, 0xa7}, {0xa9, 0xa9}, {0xab, 0xac}, {0xae, 0xae}, {0xb0, 0xb1}, {0xb6, 0xb7}, {0xbb, 0xbb}, {0xbf, 0x131},
		{0x134, 0x13e}, {0x141, 0x148}, {0x14a, 0x17e}, // Latin
		{0x386, 0x386}, {0x388, 0x38a}, {0x38c, 0x38c}, {0x38e, 0x3a1}, {0x3a3, 0x3ce}, // Greek
		{0x400, 0x481}, {0x48a, 0x4ce}, {0x4d0, 0x4f5}, // Cyrillic
		{0x2010, 0x2010}, {0x2012, 0x2016}, {0x2018, 0x2023}, {0x2027, 0x2027}, {0x2030, 0x2032}, {0x2035, 0x2035},
		{0x2038, 0x203b}, {0x203d, 0x203d}, {0x203f, 0x2046}, {0x204a, 0x2052}, // General Punctuation
		{0x2104, 0x2104}, {0x2108, 0x2108}, {0x2114, 0x2114}, {0x2117, 0x2118}, {0x211e, 0x211f}, {0x2123, 0x2123},
		{0x2125, 0x2125}, {0x2127, 0x2127}, {0x2129, 0x2129}, {0x212e, 0x212e}, {0x2132, 0x2132}, {0x213a, 0x213a},
		{0x2141, 0x2144}, {0x214a, 0x214b}, // Letterlike Symbols
		{0x3041, 0x3096}, {0x30a1, 0x30fa}, {0x4e00, 0x9fa5}, {0xac00, 0xd7a3}, // kana, Han, Hangul syllables
	}

	// changedByNFKC holds the NFKC form of each character of Latin-1, General Punctuation and
	// Letterlike Symbols that NFKC changes. It omits U+2135 to U+2138, which become Hebrew letters,
	// and characters that Unicode 3.2 does not assign. It was generated with Python's
	// unicodedata.normalize for Unicode 14; TestSASLprepLikePython compares the two. No value
	// begins with a combining character, so a value cannot compose with the character before it.
	changedByNFKC = map[rune]string{
		0xa8: " \u0308", 0xaa: "a", 0xaf: " \u0304", 0xb2: "2", 0xb3: "3", 0xb4: " \u0301", 0xb5: "\u03bc",
		0xb8: " \u0327", 0xb9: "1", 0xba: "o", 0xbc: "1\u20444", 0xbd: "1\u20442", 0xbe: "3\u20444",
		0x2011: "\u2010", 0x2017: " \u0333", 0x2024: ".", 0x2025: "..", 0x2026: "...", 0x2033: "\u2032\u2032",
		0x2034: "\u2032\u2032\u2032", 0x2036: "\u2035\u2035", 0x2037: "\u2035\u2035\u2035", 0x203c: "!!",
		0x203e: " \u0305", 0x2047: "??", 0x2048: "?!", 0x2049: "!?", 0x2057: "\u2032\u2032\u2032\u2032",
		0x2100: "a/c", 0x2101: "a/s", 0x2102: "C", 0x2103: "\u00b0C", 0x2105: "c/o", 0x2106: "c/u", 0x2107: "\u0190",
		0x2109: "\u00b0F", 0x210a: "g", 0x210b: "H", 0x210c: "H", 0x210d: "H", 0x210e: "h", 0x210f: "\u0127",
		0x2110: "I", 0x2111: "I", 0x2112: "L", 0x2113: "l", 0x2115: "N", 0x2116: "No", 0x2119: "P", 0x211a: "Q",
		0x211b: "R", 0x211c: "R", 0x211d: "R", 0x2120: "SM", 0x2121: "TEL", 0x2122: "TM", 0x2124: "Z",
		0x2126: "\u03a9", 0x2128: "Z", 0x212a: "K", 0x212b: "\u00c5", 0x212c: "B", 0x212d: "C", 0x212f: "e",
		0x2130: "E", 0x2131: "F", 0x2133: "M", 0x2134: "o", 0x2139: "i",
		0x213d: "\u03b3", 0x213e: "\u0393", 0x213f: "\u03a0", 0x2140: "\u2211", 0x2145: "D", 0x2146: "d",
		0x2147: "e", 0x2148: "i", 0x2149: "j",
	}

	// prohibited lists characters that RFC 4013 prohibits or Unicode 3.2 does not assign: controls,
	// direction marks, private use, emoji. NFKC changes none of them, with one exception below.
	prohibited = []runeRange{
		{0x01, 0x1f}, {0x7f, 0x9f}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2053, 0x2056}, {0x2058, 0x205e}, {0x2061, 0x206f},
		{0x213b, 0x213c}, // NFKC changes these two, but PostgreSQL 15 checks for unassigned characters before NFKC
		{0x214c, 0x214f}, {0xe000, 0xf8ff}, {0x1f300, 0x1faff},
	}
)

// saslprep prepares a password by RFC 4013. As in libpq, it returns a password unchanged if it is
// not UTF-8, if the RFC prohibits it, or if nothing is left of it. If the password needs Unicode
// tables that this package lacks, it returns the password unchanged and complete is false.
func saslprep(password string) (prepared string, complete bool) {
	if !utf8.ValidString(password) {
		return password, true
	}
	mapped := make([]byte, 0, len(password))
	complete = true
	for _, r := range password {
		form, changed := changedByNFKC[r]
		switch {
		case in(prohibited, r):
			return password, true
		case in(mappedToSpace, r):
			mapped = append(mapped, ' ')
		case in(mappedToNothing, r):
		case in(unchangedByNFKC, r):
			mapped = utf8.AppendRune(mapped, r)
		case changed:
			mapped = append(mapped, form...)
		default:
			complete = false
		}
	}
	if !complete || len(mapped) == 0 {
		return password, complete
	}
	return string(mapped), true
}
