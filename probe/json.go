package probe

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A jsonReader walks through a JSON text (RFC 8259) that may be cut anywhere, in constant memory and without recursion.
// It is here because encoding/json and its use of reflect cost 283 KB of the binary, and would refuse a document
// that was cut at the most that a probe reads. It does not validate what it skips.
type jsonReader struct {
	b []byte
	i int
}

// next skips white space and returns the byte at which it stops, 0 at the end.
func (j *jsonReader) next() byte {
	for ; j.i < len(j.b); j.i++ {
		switch c := j.b[j.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take consumes c if it is next.
func (j *jsonReader) take(c byte) bool {
	if j.next() != c {
		return false
	}
	j.i++
	return true
}

// object calls member for each member of an object, once its key and colon are consumed; member consumes the value. It
// stops where the text is not an object, breaks, or ends.
func (j *jsonReader) object(member func(key string)) {
	if !j.take('{') || j.take('}') {
		return
	}
	for {
		key, ok := j.str()
		if !ok || !j.take(':') {
			return
		}
		member(key)
		if !j.take(',') {
			j.take('}')
			return
		}
	}
}

// array calls element for each element of an array; element consumes it. It stops where the text is not an array, breaks, or
// ends.
func (j *jsonReader) array(element func()) {
	if !j.take('[') || j.take(']') {
		return
	}
	for {
		element()
		if !j.take(',') {
			j.take(']')
			return
		}
	}
}

// str consumes a string and returns it without its escapes. It reports whether there was a whole one.
func (j *jsonReader) str() (s string, ok bool) {
	if !j.take('"') {
		return "", false
	}
	start := j.i
	for ; j.i < len(j.b); j.i++ {
		switch j.b[j.i] {
		case '\\':
			j.i++
		case '"':
			j.i++
			return unescapeJSON(j.b[start : j.i-1]), true
		}
	}
	return "", false
}

// skip consumes any value. It counts brackets rather than check that they match.
func (j *jsonReader) skip() {
	for depth := 0; ; {
		switch j.next() {
		case 0:
			return
		case '"':
			if _, ok := j.str(); !ok {
				return
			}
		case '{', '[':
			depth++
			j.i++
		case '}', ']':
			if depth--; depth < 0 { // the end of what holds the value
				return
			}
			j.i++
		case ',', ':':
			if depth == 0 {
				return
			}
			j.i++
		default: // a number, true, false, null
			if n := bytes.IndexAny(j.b[j.i:], " \t\r\n,:]}[{\""); n > 0 {
				j.i += n
			} else {
				j.i = len(j.b)
			}
		}
		if depth == 0 {
			return
		}
	}
}

// unescapeJSON resolves the escapes of RFC 8259 section 7. Half a surrogate pair becomes U+FFFD, as in encoding/json.
func unescapeJSON(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			r, n := hexRune(b[i+1:]), 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if bytes.HasPrefix(b[min(i+5, len(b)):], []byte(`\u`)) {
					low = hexRune(b[i+7:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					n = 10
				}
			}
			if r >= 0 {
				out = utf8.AppendRune(out, r)
				i += n
			}
		default: // " \ /
			out = append(out, c)
		}
	}
	return string(out)
}

// hexRune reads four hexadecimal digits, -1 where there are none.
func hexRune(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 32)
	if err != nil {
		return -1
	}
	return rune(n)
}

// AppendJSON appends s as a JSON string.
func AppendJSON(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // invalid UTF-8 becomes U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
