// Package wire speaks just enough of two protocols to learn whether a server can do its work: RESP2, as Redis and
// Valkey speak it, and version 3 of PostgreSQL's frontend/backend protocol up to the answer of one simple query.
// It also reads the two notations that belong to PostgreSQL's clients, the connection URI and the password file.
//
// Specifications:
//   - RESP2: redis.io/docs/reference/protocol-spec, simple strings and errors only;
//   - PostgreSQL 15 documentation, chapter 55: 55.2.1 (start-up), 55.2.10 (SSL), 55.3 (SASL), 55.7 (message formats), 55.8 (error fields);
//   - SCRAM-SHA-256 and -PLUS: RFC 5802 and RFC 7677, channel binding tls-server-end-point by RFC 5929 section 4.1,
//     passwords prepared by RFC 4013 as far as the standard library goes;
//   - libpq's connection URIs: section 34.1.1.2, and its password file: section 34.16.
//
// Limits: everything here runs over an io.ReadWriter that the caller has dialled and put a deadline on; nothing
// dials, keeps time or reads the environment. Every length that a peer sends is compared with a constant before it
// is used, and a connection holds less than 256 KiB whatever the peer does.
package wire

import (
	"bytes"
	"errors"
	"io"
)

// A ProtocolError says that the peer seems to speak the protocol, and broke it.
type ProtocolError struct {
	What string // lower case, without a period; holds no byte that the peer sent
}

func (e *ProtocolError) Error() string { return e.What }

// A ForeignError says that the peer speaks something else.
type ForeignError struct {
	Want string // the protocol asked for: "Redis", "PostgreSQL"
	Got  string // the protocol recognised: "HTTP", "SSH", …; empty where it is none that is known here
}

func (e *ForeignError) Error() string {
	if e.Got == "" {
		return "not " + e.Want + ": the answer is not of its protocol"
	}
	return "not " + e.Want + ": it speaks " + e.Got
}

// ErrClosed is what a peer's orderly close between two messages is reported as.
var ErrClosed = errors.New("the server closed the connection")

// closed turns the io.EOF of a read between two messages into ErrClosed; other errors stay.
func closed(err error) error {
	if err == io.EOF {
		return ErrClosed
	}
	return err
}

// endOnly reports whether a read that failed tells no more than that the connection has ended. Behind a Write that failed, any
// other error says why: with TLS 1.3 the alert to a client that is refused comes as late as that.
func endOnly(err error) bool {
	return err == nil || errors.Is(err, ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF)
}

// greetings are the first bytes by which a server of another kind gives itself away.
var greetings = []struct{ prefix, protocol string }{
	{"HTTP/", "HTTP"},
	{"SSH-", "SSH"},
	{"\x15\x03", "TLS"}, // alert record, RFC 8446 section 5.1
	{"\x16\x03", "TLS"}, // handshake record
	{"E\x00\x00", "PostgreSQL"},
	{"R\x00\x00", "PostgreSQL"},
	{"-ERR ", "Redis"},
	{"-NOAUTH ", "Redis"},
	{"-DENIED ", "Redis"},
	{"ERROR\r", "memcached"},
	{"AMQP", "AMQP"},
	{"220 ", "SMTP or FTP"},
	{"220-", "SMTP or FTP"},
}

// greetingSize is how many bytes recognise needs to see.
const greetingSize = 8

// recognise names the protocol whose server would open with b, or returns "".
func recognise(b []byte) string {
	// MySQL's first packet: length in 3 bytes, sequence 0, then version 10 and text, or 0xff and a code below 0x2000,
	// low byte first. It goes before the table, as the length may look like PostgreSQL's letter.
	if len(b) > 4 && b[2] == 0 && b[3] == 0 && (b[4] == 0x0a && (len(b) == 5 || b[5] >= ' ') || b[4] == 0xff && len(b) > 6 && b[6] < ' ') {
		return "MySQL"
	}
	for _, g := range greetings {
		if bytes.HasPrefix(b, []byte(g.prefix)) {
			return g.protocol
		}
	}
	return ""
}
