package probe

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMessage is the most of a peer's text that a Result keeps, in bytes.
const maxMessage = 400

// escapeUnprintable writes what is not printable, line ends and what turns the direction of text included, as Go does
// within quotes: \n, \x1b, \u202e.
func escapeUnprintable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !isVisible(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		case isVisible(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// isVisible reports whether a character shows on a screen. Unicode counts the fillers of Hangul and Khmer, Mongolian variation
// selectors, the empty Braille pattern and the grapheme joiner as printable, and all of them are invisible.
func isVisible(r rune) bool {
	switch r {
	case '\u034f', '\u115f', '\u1160', '\u17b4', '\u17b5', '\u180b', '\u180c', '\u180d', '\u180f', '\u2800', '\u3164', '\uffa0':
		return false
	}
	return unicode.IsPrint(r)
}

// cut shortens s to at most n bytes, between characters, and marks that it did.
func cut(s string, n int) string {
	const ellipsis = "…"
	if len(s) <= n {
		return s
	}
	n = max(n-len(ellipsis), 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + ellipsis
}
