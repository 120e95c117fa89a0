package wire

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxRedisLine is the longest reply line accepted, in bytes with its CR LF. Redis itself writes no error longer than
// a few hundred bytes.
const maxRedisLine = 4096

// A RedisError is an error reply, "-CODE text".
type RedisError struct {
	Line string // the reply without "-" and CR LF, as sent: the peer's bytes
}

func (e *RedisError) Error() string { return e.Line }

// Code is the first word of the reply: "NOAUTH", "WRONGPASS", "LOADING", "ERR", …
func (e *RedisError) Code() string {
	code, _, _ := strings.Cut(e.Line, " ")
	return code
}

// Redis is a client of one RESP2 connection. It reads one reply for each command, and only the two kinds that
// the commands of a probe can have:
//
//	+text\r\n    simple string
//	-CODE text\r\n    error
type Redis struct {
	rw      io.ReadWriter
	buf     [maxRedisLine]byte
	r, w    int  // buf[r:w] is read and not yet consumed
	greeted bool // a first reply has been seen, so the peer is Redis
}

// NewRedis returns a client over rw, which the caller has dialled and given a deadline.
func NewRedis(rw io.ReadWriter) *Redis { return &Redis{rw: rw} }

// Do sends one command and returns the text of its simple-string reply. It blocks until the reply is there or
// reading fails. Errors are *RedisError, *ProtocolError, *ForeignError or the connection's own.
func (c *Redis) Do(args ...string) (string, error) {
	if c.r < c.w {
		return "", errUnasked
	}
	_, werr := c.rw.Write(appendCommand(nil, args))
	// A server that refuses a client (too many, protected mode) says so and closes: the write fails, the words
	// are still there to read.
	line, err := c.readLine()
	if err != nil {
		var broken *ProtocolError
		if werr != nil && (endOnly(err) || errors.As(err, &broken)) {
			return "", werr
		}
		return "", err
	}
	c.greeted = true
	kind, text := line[0], string(line[1:])
	switch {
	case kind == '-':
		return "", &RedisError{Line: text}
	case werr != nil: // what came answers nothing
		return "", werr
	case kind == '+' && c.r < c.w:
		return "", errUnasked
	case kind == '+':
		return text, nil
	}
	return "", &ProtocolError{"unexpected reply of type " + strconv.QuoteToASCII(string(rune(kind))) + ", want a simple string"}
}

// errUnasked says that there is something behind the one reply that a command has.
var errUnasked = &ProtocolError{"the server sent more than was asked"}

// appendCommand appends args as an array of bulk strings, the form in which clients send commands.
func appendCommand(dst []byte, args []string) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(len(args)), 10)
	dst = append(dst, "\r\n"...)
	for _, arg := range args {
		dst = append(dst, '$')
		dst = strconv.AppendInt(dst, int64(len(arg)), 10)
		dst = append(dst, "\r\n"...)
		dst = append(dst, arg...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// readLine returns the next line with its type byte and without CR LF. The slice is good until the next read.
func (c *Redis) readLine() ([]byte, error) {
	c.w = copy(c.buf[:], c.buf[c.r:c.w])
	c.r = 0
	seen := 0 // bytes of buf already searched for a line feed
	for {
		if i := bytes.IndexByte(c.buf[seen:c.w], '\n'); i >= 0 {
			end := seen + i + 1
			if err := c.checkType(true); err != nil {
				return nil, err
			}
			if end < 3 || c.buf[end-2] != '\r' {
				return nil, &ProtocolError{"reply line does not end in CR LF"}
			}
			c.r = end
			return c.buf[:end-2], nil
		}
		seen = c.w
		if seen == len(c.buf) {
			return nil, &ProtocolError{"reply line longer than " + strconv.Itoa(maxRedisLine) + " bytes"}
		}
		n, err := c.rw.Read(c.buf[c.w:])
		c.w += n
		if cerr := c.checkType(err != nil); cerr != nil {
			return nil, cerr
		}
		if n == 0 && err != nil {
			if c.w > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, closed(err)
		}
	}
}

// checkType refuses, as soon as it can be told, a peer whose first bytes are not RESP. Unless last is set it waits
// for enough of them to name what the peer speaks.
func (c *Redis) checkType(last bool) error {
	if c.w == 0 || bytes.IndexByte([]byte("+-:$*_#,(!=%>~|"), c.buf[0]) >= 0 {
		return nil
	}
	if c.w < greetingSize && !last {
		return nil
	}
	if c.greeted {
		return &ProtocolError{"reply does not begin with a RESP type"}
	}
	return &ForeignError{Want: "Redis", Got: recognise(c.buf[:c.w])}
}
