package probe

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"alfred/healthcheck/wire"
)

const (
	// mask is written in place of a secret.
	mask = "***"
	// maxText is how much of a peer's text is examined, in bytes. No text from a peer is longer.
	maxText = 64 << 10
	// minPiece is the length of the shortest piece of a secret that is masked, in bytes.
	minPiece = 8
	// minEncoded is the length of the shortest secret that is also searched for in base64 and hex,
	// in bytes. The encoding of a shorter secret occurs by chance too often.
	minEncoded = 3
	// maxDecodings is how often a text is decoded: JSON within JSON takes two, a percent-encoded
	// URL in it one more.
	maxDecodings = 3
)

// A redactor masks secrets in a peer's text. The zero value knows none. add and show must not be
// called after clean.
//
// A text is searched in several views: as it is, and decoded once, twice and three times. A
// decoding resolves percent-encoding, the escapes of C, Go and JSON, and HTML's character
// references. So a secret is found in any of these encodings, and in several at once. The search
// ignores the case of ASCII letters and treats control characters and + as blanks.
//
// Every piece of a secret that is minPiece bytes long is masked, so a secret that the peer has cut
// is masked too. A secret that is shorter than minPiece is masked only as a whole.
type redactor struct {
	secrets []string
	encoded []string // only their base64 and hex are secret, for example those of "user:password"
	public  []string // what the target shows

	once  sync.Once
	long  []string // folded forms; each piece of them is masked
	short []string // folded forms shorter than a piece
}

// add adds secrets to mask.
func (r *redactor) add(secrets ...string) { r.secrets = append(r.secrets, secrets...) }

// addEncoded adds texts whose base64 and hex are masked.
func (r *redactor) addEncoded(texts ...string) { r.encoded = append(r.encoded, texts...) }

// show exempts text that a target shows anyway. A mask over it would reveal that a secret has the
// same text.
func (r *redactor) show(public ...string) {
	for _, p := range public {
		if p != "" {
			r.public = append(r.public, p)
		}
	}
}

// clean prepares a peer's text for output: it masks secrets, and returns one printable line of
// limited length. In a standard message of a server, only names are masked.
func (r *redactor) clean(s string) string {
	return cut(escapeUnprintable(r.withoutSecrets(s)), maxMessage)
}

// withoutSecrets is clean without the escapes and the cut.
func (r *redactor) withoutSecrets(s string) string {
	s = s[:min(len(s), maxText)]
	if text, ok := r.knownText(s); ok {
		return text
	}
	return r.redact(s)
}

// redact masks the secrets that were added, and text that has the shape of a secret.
func (r *redactor) redact(s string) string {
	r.once.Do(r.prepare)
	var secrets, shapes cover
	v := view{text: s}
	for range maxDecodings + 1 {
		r.findSecrets(&v, &secrets, len(s))
		findShapes(&v, &shapes, len(s))
		var changed bool
		if v, changed = v.decode(); !changed {
			break
		}
	}
	spans := slices.DeleteFunc(secrets.spans(), func(p span) bool { return r.isPublic(s, p) })
	spans = merge(append(spans, shapes.spans()...))
	if len(spans) == 0 {
		return s
	}
	var b strings.Builder
	at := 0
	for _, p := range spans {
		for p.to-p.from > 1 && s[p.from] == ' ' { // the span may begin with a blank before the secret
			p.from++
		}
		for p.from > at && !utf8.RuneStart(s[p.from]) {
			p.from--
		}
		for p.to < len(s) && !utf8.RuneStart(s[p.to]) {
			p.to++
		}
		b.WriteString(s[at:p.from] + mask)
		at = p.to
	}
	b.WriteString(s[at:])
	return b.String()
}

// prepare computes the forms of every secret.
func (r *redactor) prepare() {
	seen := map[string]bool{}
	add := func(form string) {
		form = fold(form)
		if form == "" || seen[form] {
			return
		}
		seen[form] = true
		if len(form) < minPiece {
			r.short = append(r.short, form)
		} else {
			r.long = append(r.long, form)
		}
	}
	for _, s := range r.secrets {
		if slices.Contains(r.public, s) {
			continue
		}
		add(s)
		add(strings.TrimSpace(s))
		addEncodings(s, add)
		v := view{text: s} // a peer's text is decoded, so escapes in the secret itself are decoded as well
		for range maxDecodings {
			var changed bool
			if v, changed = v.decode(); !changed {
				break
			}
			add(v.text)
			add(strings.TrimSpace(v.text))
		}
	}
	for _, s := range r.encoded {
		addEncodings(s, add)
	}
}

// addEncodings adds s in hex and in base64, where s begins at each of the three offsets within a
// group of 3 bytes.
func addEncodings(s string, add func(string)) {
	if len(s) < minEncoded {
		return
	}
	add(hex.EncodeToString([]byte(s)))
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		add(e.EncodeToString([]byte(s)))
		add(e.WithPadding(base64.NoPadding).EncodeToString([]byte(s)))
		for offset, mixed := range []int{0, 2, 3} { // this many characters also depend on the bytes before s
			end := (offset + len(s)) * 8 / 6 // the character there also depends on the bytes after s
			if piece := e.EncodeToString([]byte("\x00\x00"[:offset] + s))[mixed:end]; len(piece) >= minPiece {
				add(piece)
			}
		}
	}
}

// findSecrets covers each piece of a long form, and each short form, in a view.
func (r *redactor) findSecrets(v *view, c *cover, size int) {
	if len(r.short)+len(r.long) == 0 {
		return
	}
	text := fold(v.text)
	for _, form := range r.short {
		for at := 0; ; at++ {
			i := strings.Index(text[at:], form)
			if i < 0 {
				break
			}
			at += i
			c.add(v.span(at, at+len(form)), size)
		}
	}
	if len(text) < minPiece || len(r.long) == 0 {
		return
	}
	// first maps each piece of the text to its first place. next[place-1] is the next place of the
	// same piece, 0 if there is none. Places are counted from 1.
	piece := func(s string, i int) uint64 { return binary.LittleEndian.Uint64([]byte(s[i : i+minPiece])) }
	last := len(text) - minPiece
	first, next := make(map[uint64]int32, last+1), make([]int32, last+1)
	for i := last; i >= 0; i-- {
		p := piece(text, i)
		next[i] = first[p]
		first[p] = int32(i + 1)
	}
	for _, form := range r.long {
		for i := range len(form) - minPiece + 1 {
			p := piece(form, i)
			place, ok := first[p]
			if !ok {
				continue
			}
			delete(first, p) // covers each place only once
			for ; place > 0; place = next[place-1] {
				c.add(v.span(int(place-1), int(place-1)+minPiece), size)
			}
		}
	}
}

// isPublic reports whether a part of s lies within a text that the target shows.
func (r *redactor) isPublic(s string, p span) bool {
	return slices.ContainsFunc(r.public, func(public string) bool {
		n := len(public)
		return n >= p.to-p.from && strings.Contains(s[max(0, p.to-n):min(len(s), p.from+n)], public)
	})
}

// holds reports whether text is a part of a secret, however short.
func (r *redactor) holds(text string) bool {
	return slices.ContainsFunc(r.secrets, func(s string) bool { return strings.Contains(fold(s), fold(text)) })
}

// fold converts ASCII letters to lower case, and control characters and + to blanks. Servers
// replace these characters with one another when they echo a text.
func fold(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case c < ' ', c == 0x7f, c == '+':
			b[i] = ' '
		}
	}
	return string(b)
}

// A span is a part of a text, in bytes.
type span struct{ from, to int }

// A cover collects spans of one text, in any order. The zero value is empty.
type cover struct{ delta []int32 } // at each place, the number of spans that begin minus those that end

func (c *cover) add(p span, size int) {
	if c.delta == nil {
		c.delta = make([]int32, size+1)
	}
	c.delta[p.from]++
	c.delta[p.to]--
}

// spans returns the covered spans, in order.
func (c *cover) spans() (list []span) {
	var open int32
	for i, d := range c.delta {
		if open == 0 && d > 0 {
			list = append(list, span{from: i})
		}
		if open > 0 && open+d == 0 {
			list[len(list)-1].to = i
		}
		open += d
	}
	return list
}

// merge joins spans that touch or overlap.
func merge(list []span) (merged []span) {
	slices.SortFunc(list, func(a, b span) int { return a.from - b.from })
	for _, p := range list {
		if n := len(merged); n > 0 && p.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, p.to)
		} else {
			merged = append(merged, p)
		}
	}
	return merged
}

// A view is a text, or the result of decoding it.
type view struct {
	text     string
	from, to []int32 // the span of the original text that each byte was decoded from; nil if nothing was decoded
}

// span returns the part of the original text from which bytes i to j of the view were decoded.
func (v *view) span(i, j int) span {
	if v.from == nil {
		return span{i, j}
	}
	return span{int(v.from[i]), int(v.to[j-1])}
}

// decode resolves every escape once, and reports whether there was one.
func (v *view) decode() (decoded view, changed bool) {
	if !strings.ContainsAny(v.text, `%\&`) {
		return *v, false
	}
	b := make([]byte, 0, len(v.text))
	decoded.from = make([]int32, 0, len(v.text))
	decoded.to = make([]int32, 0, len(v.text))
	for i := 0; i < len(v.text); {
		before := len(b)
		size := 0
		b, size = appendUnescaped(b, v.text[i:])
		changed = changed || size > 1
		source := v.span(i, i+size)
		for range len(b) - before {
			decoded.from = append(decoded.from, int32(source.from))
			decoded.to = append(decoded.to, int32(source.to))
		}
		i += size
	}
	decoded.text = string(b)
	return decoded, changed
}

// entities are HTML's character references that an escaping function writes by name.
var entities = map[string]string{"amp": "&", "lt": "<", "gt": ">", "quot": `"`, "apos": "'", "nbsp": " ", "sol": "/", "num": "#", "plus": "+", "equals": "="}

// appendUnescaped appends the first character of s, decoded if it is an escape, and returns its
// size in s.
func appendUnescaped(b []byte, s string) ([]byte, int) {
	number := func(digits string, base int) (n rune, ok bool) {
		u, err := strconv.ParseUint(digits, base, 21)
		return rune(u), err == nil
	}
	switch {
	case s[0] == '%' && len(s) >= 3:
		if n, ok := number(s[1:3], 16); ok {
			return append(b, byte(n)), 3
		}
	case s[0] == '&':
		name, _, ok := strings.Cut(s[1:min(len(s), 11)], ";")
		if !ok {
			break
		}
		size := len("&") + len(name) + len(";")
		if text, ok := entities[strings.ToLower(name)]; ok {
			return append(b, text...), size
		}
		digits, base := strings.TrimPrefix(name, "#"), 10
		if len(digits) > 1 && digits[0]|0x20 == 'x' {
			digits, base = digits[1:], 16
		}
		if n, ok := number(digits, base); ok && name[0] == '#' {
			return utf8.AppendRune(b, n), size
		}
	case s[0] == '\\' && len(s) >= 2:
		c := s[1]
		if len(s) >= 4 && strings.Trim(s[1:4], "01234567") == "" { // octal, as bytea and the shell have it
			if n, ok := number(s[1:4], 8); ok && n < 0x100 {
				return append(b, byte(n)), 4
			}
		}
		if i := strings.IndexByte(`abfnrtve0`, c); i >= 0 {
			return append(b, "\a\b\f\n\r\t\v\x1b\x00"[i]), 2
		}
		size := 0
		switch c {
		case 'x':
			size = 4
		case 'u':
			size = 6
		case 'U':
			size = 10
		}
		switch {
		case size > 0 && size <= len(s):
			if n, ok := number(s[2:size], 16); ok && c == 'x' {
				return append(b, byte(n)), size
			} else if ok {
				if low, isLow := lowSurrogate(s[size:]); isLow && 0xd800 <= n && n < 0xdc00 {
					return utf8.AppendRune(b, (n-0xd800)<<10+low-0xdc00+0x10000), 2 * size
				}
				return utf8.AppendRune(b, n), size
			}
		case size == 0 && c < utf8.RuneSelf && !wire.ConsistsOf(s[1:2], ""):
			return append(b, c), 2
		}
	}
	return append(b, s[0]), 1
}

// lowSurrogate reads the second half of JSON's escape of a character beyond U+FFFF.
func lowSurrogate(s string) (low rune, ok bool) {
	if len(s) < 6 || s[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil && 0xdc00 <= n && n < 0xe000
}

// findShapes covers text that is a secret by its position: the user-info of a URL, and the value
// after = or : that follows a name such as password, token, secret or key.
func findShapes(v *view, c *cover, size int) {
	s := v.text
	at, end, lastAt := 0, 0, 0 // end of the URL with the text joined to it, and its last @
	for {
		i := strings.Index(s[at:], "://")
		if i < 0 {
			break
		}
		at += i + len("://")
		if at > end {
			end = at + indexAny(s[at:], " \t\r\n\"'`<>")
			lastAt = strings.LastIndexByte(s[:end], '@')
		}
		authority := s[at : at+indexAny(s[at:end], "/?#")]
		_, port, hasPort := strings.Cut(authority, ":")
		// A password may hold an unencoded /, so the user-info ends at the last @. If the part
		// before the first / holds neither an @ nor a port that is not a number, the @ belongs to
		// the path.
		if lastAt > at && (strings.Contains(authority, "@") || hasPort && strings.Trim(port, "0123456789") != "") {
			c.add(v.span(at, lastAt), size)
			at = lastAt
		}
	}
	for at = 0; ; {
		i := strings.IndexAny(s[at:], "=:")
		if i < 0 {
			return
		}
		from, to := namedSecret(s, at+i)
		if from < to {
			c.add(v.span(from, to), size)
		}
		at = max(at+i+1, to)
	}
}

// indexAny is strings.IndexAny, or the length of s.
func indexAny(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}

// maxSecretName is the longest name that is examined, in bytes.
const maxSecretName = 64

// namedSecret returns the position of the value after the = or : at i, if the name before it is one
// that secrets have. Quotes and blanks may surround name and value.
func namedSecret(s string, i int) (from, to int) {
	const blanksAndQuotes = " \t\"'`]"
	name := strings.TrimRight(s[max(0, i-maxSecretName):i], blanksAndQuotes)
	start := len(name)
	for start > 0 && wire.ConsistsOf(name[start-1:start], "_-") {
		start--
	}
	if start == len(name) {
		return 0, 0
	}
	name = strings.ToLower(name[start:])
	has := func(word string) bool { return strings.Contains(name, word) }
	line := has("authorization") || has("cookie") // its value has several words
	bare := strings.TrimRight(name, "0123456789")
	if !line && !slices.ContainsFunc([]string{"passw", "passphrase", "pwd", "token", "secret", "credential", "apikey", "accesskey", "accountkey", "privatekey", "sharedkey"}, has) &&
		!slices.ContainsFunc([]string{"key", "keys", "pass", "pw"}, func(word string) bool {
			before, ok := strings.CutSuffix(bare, word)
			return ok && (before == "" || strings.HasSuffix(before, "_") || strings.HasSuffix(before, "-"))
		}) {
		return 0, 0
	}
	from = i + 1
	for from < len(s) && strings.IndexByte("=:> \t[", s[from]) >= 0 {
		from++
	}
	end := " \t\r\n\"'`,;&)}]>"
	if line {
		end = "\r\n\"'`"
	}
	if from < len(s) && strings.IndexByte("\"'`", s[from]) >= 0 {
		end = s[from : from+1]
		from++
	}
	return from, from + indexAny(s[from:], end)
}
