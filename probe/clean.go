package probe

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"alfred/healthcheck/wire"
)

// maxMessage is the most of a peer's text that a Result keeps, in bytes.
const maxMessage = 400

// mask stands where a secret was.
const mask = "***"

// A redactor knows what must never be shown. The zero value knows nothing.
type redactor struct {
	secrets []string // longest first
}

// add makes each secret known, as it is and in the forms in which a URL or a header carries it.
func (r *redactor) add(secrets ...string) {
	for _, s := range secrets {
		if s == "" {
			continue
		}
		b := []byte(s)
		for _, form := range []string{
			s, escapeUnprintable(s), url.QueryEscape(s), url.PathEscape(s), wire.PercentEncode(s, ""), base64.StdEncoding.EncodeToString(b),
			base64.RawStdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
		} {
			if !slices.Contains(r.secrets, form) {
				r.secrets = append(r.secrets, form)
			}
		}
	}
	slices.SortStableFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
}

// allow forgets what is shown anyway: a password that is also the name of the user.
func (r *redactor) allow(public ...string) {
	r.secrets = slices.DeleteFunc(r.secrets, func(s string) bool { return slices.Contains(public, s) })
}

// clean makes a peer's text fit to be shown: without secrets, on one line, printable, and not too long.
func (r *redactor) clean(s string) string {
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, mask)
	}
	return cut(escapeUnprintable(s), maxMessage)
}

// escapeUnprintable writes what is not printable, line ends and what turns the direction of text
// included, as Go does within quotes: \n, \x1b, \u202e.
func escapeUnprintable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
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
