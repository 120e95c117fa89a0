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

	// unchangedByNFKC are the characters, of those that people write left to right, of which it is known
	// that Unicode 3.2 assigns them, that they are not prohibited and that NFKC leaves them alone in any sequence of
	// each other. ASCII first.
	unchangedByNFKC = []runeRange{
		{0x20, 0x7e},
		{0xa1, 0xa7}, {0xa9, 0xa9}, {0xab, 0xac}, {0xae, 0xae}, {0xb0, 0xb1}, {0xb6, 0xb7}, {0xbb, 0xbb}, {0xbf, 0x131},
		{0x134, 0x13e}, {0x141, 0x148}, {0x14a, 0x17e}, // Latin
		{0x386, 0x386}, {0x388, 0x38a}, {0x38c, 0x38c}, {0x38e, 0x3a1}, {0x3a3, 0x3ce}, // Greek
		{0x400, 0x481}, {0x48a, 0x4ce}, {0x4d0, 0x4f5}, // Cyrillic
		{0x3041, 0x3096}, {0x30a1, 0x30fa}, {0x4e00, 0x9fa5}, {0xac00, 0xd7a3}, // kana, Han, Hangul syllables
	}
)

// saslprep prepares a password by RFC 4013 as far as it can without the tables of Unicode normalisation: where
// these could matter, and where the RFC prohibits the password, it returns it as it is, as libpq does for
// what it cannot prepare.
func saslprep(password string) string {
	if !utf8.ValidString(password) {
		return password
	}
	mapped := make([]rune, 0, len(password))
	for _, r := range password {
		switch {
		case in(mappedToSpace, r):
			mapped = append(mapped, ' ')
		case in(mappedToNothing, r):
		case in(unchangedByNFKC, r):
			mapped = append(mapped, r)
		default:
			return password
		}
	}
	if len(mapped) == 0 {
		return password
	}
	return string(mapped)
}
