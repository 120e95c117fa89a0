package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// peer is the other end of a connection, in memory. What it has said is unread until the client reads it; behind
// that stands end, or io.EOF.
type peer struct {
	unread   string
	answer   func(sent []byte) string // says more in answer to a Write; nil for a peer that only ever talks
	end      error
	writeErr error // what every Write fails with
	chunk    int   // most bytes of one Read; 0 for any number

	sent []byte // all that the client wrote
	read int    // bytes that the client has read
}

func (p *peer) Read(b []byte) (int, error) {
	if p.unread == "" {
		if p.end != nil {
			return 0, p.end
		}
		return 0, io.EOF
	}
	if p.chunk > 0 && len(b) > p.chunk {
		b = b[:p.chunk]
	}
	n := copy(b, p.unread)
	p.unread = p.unread[n:]
	p.read += n
	return n, nil
}

func (p *peer) Write(b []byte) (int, error) {
	if p.writeErr != nil {
		return 0, p.writeErr
	}
	p.sent = append(p.sent, b...)
	if p.answer != nil {
		p.unread += p.answer(b)
	}
	return len(b), nil
}

// isError says whether got is want: the same value, one that wraps it, or of the same type with the same fields.
func isError(got, want error) bool {
	return errors.Is(got, want) || reflect.DeepEqual(got, want)
}

func foreignToRedis(got string) error { return &ForeignError{Want: "Redis", Got: got} }

var errNoCRLF = &ProtocolError{"reply line does not end in CR LF"}

var redisReplies = []struct {
	in, want string
	err      error
}{
	{in: "+PONG\r\n", want: "PONG"},
	{in: "+\r\n", want: ""},
	{in: "+" + strings.Repeat("x", maxRedisLine-3) + "\r\n", want: strings.Repeat("x", maxRedisLine-3)},

	{in: "-NOAUTH Authentication required.\r\n", err: &RedisError{"NOAUTH Authentication required."}},
	{in: "-WRONGPASS invalid username-password pair or user is disabled.\r\n", err: &RedisError{"WRONGPASS invalid username-password pair or user is disabled."}},
	{in: "-LOADING Redis is loading the dataset in memory\r\n", err: &RedisError{"LOADING Redis is loading the dataset in memory"}},
	{in: "-ERR max number of clients reached\r\n", err: &RedisError{"ERR max number of clients reached"}},
	{in: "-DENIED Redis is running in protected mode.\r\n", err: &RedisError{"DENIED Redis is running in protected mode."}},
	{in: "-\r\n", err: &RedisError{""}},

	// Lines.
	{in: "", err: ErrClosed},
	{in: "+", err: io.ErrUnexpectedEOF},
	{in: "+PONG", err: io.ErrUnexpectedEOF},
	{in: "+PONG\r", err: io.ErrUnexpectedEOF},
	{in: "+PONG\n", err: errNoCRLF},
	{in: "+\n", err: errNoCRLF},
	{in: "-NOAUTH\n", err: errNoCRLF},
	{in: "+" + strings.Repeat("x", maxRedisLine-2) + "\r\n", err: &ProtocolError{"reply line longer than 4096 bytes"}},
	{in: "+" + strings.Repeat("\r", 1<<20), err: &ProtocolError{"reply line longer than 4096 bytes"}},

	// Types that no command of a probe has.
	{in: ":1\r\n", err: errType(':')},
	{in: "$4\r\nPONG\r\n", err: errType('$')},
	{in: "$-1\r\n", err: errType('$')},
	{in: "*1\r\n+PONG\r\n", err: errType('*')},
	{in: "*2147483647\r\n" + strings.Repeat("*1\r\n", 10000), err: errType('*')},
	{in: "_\r\n", err: errType('_')},
	{in: "#t\r\n", err: errType('#')},
	{in: ",1.5\r\n", err: errType(',')},
	{in: "(12345678901234567890\r\n", err: errType('(')},
	{in: "!5\r\nERR a\r\n", err: errType('!')},
	{in: "=8\r\ntxt:PONG\r\n", err: errType('=')},
	{in: "%1\r\n+a\r\n+b\r\n", err: errType('%')},
	{in: "~1\r\n+PONG\r\n", err: errType('~')},
	{in: "|1\r\n+a\r\n+b\r\n+PONG\r\n", err: errType('|')},
	{in: ">2\r\n+invalidate\r\n*0\r\n", err: errType('>')},
	{in: "* OK IMAP4rev1 ready\r\n", err: errType('*')},

	// Peers of another kind.
	{in: "HTTP/1.1 400 Bad Request\r\n\r\n", err: foreignToRedis("HTTP")},
	{in: "HTTP/1.1", err: foreignToRedis("HTTP")},
	{in: "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", err: foreignToRedis("SSH")},
	{in: "\x15\x03\x01\x00\x02\x02\x28", err: foreignToRedis("TLS")},
	{in: "\x16\x03\x03\x00\x5a\x02\x00\x00\x56", err: foreignToRedis("TLS")},
	{in: "E\x00\x00\x00\x8bSFATAL\x00VFATAL\x00C08P01\x00Minvalid length of startup packet\x00\x00", err: foreignToRedis("PostgreSQL")},
	{in: "E\x00\x00\x00\xffSFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting up\x00", err: foreignToRedis("PostgreSQL")},
	{in: "J\x00\x00\x00\x0a5.7.44\x00\x08\x00\x00\x00", err: foreignToRedis("MySQL")},
	{in: "R\x00\x00\x00\x0a8.0.36-debian\x00", err: foreignToRedis("MySQL")},
	{in: "E\x00\x00\x00\xff\x6a\x04Host '172.17.0.3' is not allowed to connect to this MySQL server", err: foreignToRedis("MySQL")},
	{in: "ERROR\r\n", err: foreignToRedis("memcached")},
	{in: "220 mail.example ESMTP\r\n", err: foreignToRedis("SMTP or FTP")},
	{in: "220-ftp.example\r\n220 ready\r\n", err: foreignToRedis("SMTP or FTP")},
	{in: "AMQP\x00\x00\x09\x01", err: foreignToRedis("AMQP")},
	{in: "hello, who is there?", err: foreignToRedis("")},
	{in: "PONG\r\n", err: foreignToRedis("")},
	{in: "\r\n", err: foreignToRedis("")},
	{in: "\n", err: foreignToRedis("")},
	{in: strings.Repeat("\x00", 1<<20), err: foreignToRedis("")},
}

func errType(kind rune) error {
	return &ProtocolError{fmt.Sprintf("unexpected reply of type %q, want a simple string", string(kind))}
}

func TestRedisReply(t *testing.T) {
	for _, tt := range redisReplies {
		for _, chunk := range []int{0, 1, 3} {
			p := &peer{unread: tt.in, chunk: chunk}
			got, err := NewRedis(p).Do("PING")
			if got != tt.want || !isError(err, tt.err) {
				t.Errorf("Do after %.60q, %d bytes a read = %.60q, %v, want %.60q, %v", tt.in, chunk, got, err, tt.want, tt.err)
			}
			most := maxRedisLine
			if _, foreign := tt.err.(*ForeignError); foreign && chunk == 1 {
				most = greetingSize
			}
			if p.read > most {
				t.Errorf("Do after %.60q, %d bytes a read, read %d bytes, want at most %d", tt.in, chunk, p.read, most)
			}
		}
	}
}

func TestRedisCommand(t *testing.T) {
	p := &peer{unread: "+OK\r\n"}
	NewRedis(p).Do("AUTH", "", "pä ss\r\nword")
	want := "*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$12\r\npä ss\r\nword\r\n"
	if string(p.sent) != want {
		t.Errorf("Do wrote %q, want %q", p.sent, want)
	}
}

func TestRedisSequence(t *testing.T) {
	tests := []struct {
		replies []string // to one command each
		err     error    // of the last one
	}{
		{[]string{"+OK\r\n", "+OK\r\n", "+PONG\r\n"}, nil},
		{[]string{"-NOPERM this user has no permissions\r\n", "+PONG\r\n"}, nil},
		{[]string{"+OK\r\n", "-LOADING Redis is loading the dataset in memory\r\n"}, &RedisError{"LOADING Redis is loading the dataset in memory"}},
		{[]string{"+OK\r\n", ""}, ErrClosed},
		{[]string{"+OK\r\n", "HTTP/1.1 400 Bad Request\r\n"}, &ProtocolError{"reply does not begin with a RESP type"}},
		{[]string{"+OK\r\n+PONG\r\n", ""}, errUnasked},
		{[]string{"-ERR no such user\r\n+OK\r\n", ""}, errUnasked},
		{[]string{"+PONG\r\n+PONG\r\n"}, errUnasked},
		{[]string{"+PONG\r\nHTTP/1.1 400 Bad Request\r\n"}, errUnasked},
		{[]string{"-ERR max number of clients reached\r\n-ERR twice\r\n"}, &RedisError{"ERR max number of clients reached"}},
	}
	for _, tt := range tests {
		left := tt.replies
		p := &peer{answer: func([]byte) string {
			reply := left[0]
			left = left[1:]
			return reply
		}}
		c := NewRedis(p)
		var err error
		for range tt.replies {
			_, err = c.Do("PING")
		}
		if !isError(err, tt.err) {
			t.Errorf("the last Do of %q = %v, want %v", tt.replies, err, tt.err)
		}
	}
}

// A server that refuses a client speaks first and closes: what it said counts for more than the broken pipe, but
// an answer to what was never sent is none.
func TestRedisWriteFails(t *testing.T) {
	tests := []struct {
		in  string
		err error
	}{
		{"-ERR max number of clients reached\r\n", &RedisError{"ERR max number of clients reached"}},
		{"-DENIED protected mode\r\n", &RedisError{"DENIED protected mode"}},
		{"SSH-2.0-OpenSSH_9.2\r\n", foreignToRedis("SSH")},
		{"220 mail.example ESMTP\r\n", foreignToRedis("SMTP or FTP")},
		{"", syscall.EPIPE},
		{"-ERR max num", syscall.EPIPE},
		{"+PONG\r\n", syscall.EPIPE},
	}
	for _, tt := range tests {
		_, err := NewRedis(&peer{unread: tt.in, writeErr: syscall.EPIPE}).Do("PING")
		if !isError(err, tt.err) {
			t.Errorf("Do with a failing Write after %q = %v, want %v", tt.in, err, tt.err)
		}
	}
	if _, err := NewRedis(&peer{writeErr: syscall.EPIPE, end: errAlert}).Do("PING"); err != errAlert {
		t.Errorf("Do with a failing Write and a refusal to read = %v, want %v", err, errAlert)
	}
}

// errAlert stands for crypto/tls's word that the peer has refused the client.
var errAlert = errors.New("remote error: tls: unknown certificate authority")

// At the deadline, what came until then still tells who is there.
func TestRedisDeadline(t *testing.T) {
	tests := []struct {
		in  string
		err error
	}{
		{"", os.ErrDeadlineExceeded},
		{"+PON", os.ErrDeadlineExceeded},
		{"-", os.ErrDeadlineExceeded},
		{"\x15\x03\x01\x00\x02\x02\x28", foreignToRedis("TLS")},
		{"220 ", foreignToRedis("SMTP or FTP")},
		{"x", foreignToRedis("")},
	}
	for _, tt := range tests {
		_, err := NewRedis(&peer{unread: tt.in, end: os.ErrDeadlineExceeded}).Do("PING")
		if !isError(err, tt.err) {
			t.Errorf("Do with %q at the deadline = %v, want %v", tt.in, err, tt.err)
		}
	}
}

func TestRedisErrorCode(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"NOAUTH Authentication required.", "NOAUTH"},
		{"LOADING", "LOADING"},
		{"", ""},
	} {
		if got := (&RedisError{tt.in}).Code(); got != tt.want {
			t.Errorf("RedisError{%q}.Code() = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// FuzzRedisReply holds that a reply is accepted only where it is a whole simple string, that no more than one line
// is read, and that no error but the server's own words holds what the peer sent.
func FuzzRedisReply(f *testing.F) {
	for _, tt := range redisReplies {
		f.Add([]byte(tt.in[:min(len(tt.in), 8192)]), uint8(0))
		f.Add([]byte(tt.in[:min(len(tt.in), 8192)]), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		p := &peer{unread: string(in), chunk: int(chunk)}
		got, err := NewRedis(p).Do("PING")
		if p.read > maxRedisLine {
			t.Errorf("read %d bytes, want at most %d", p.read, maxRedisLine)
		}
		switch e := err.(type) {
		case nil:
			if !bytes.HasPrefix(in, []byte("+"+got+"\r\n")) || strings.Contains(got, "\n") {
				t.Errorf("Do = %q", got)
			}
		case *RedisError:
			if !bytes.HasPrefix(in, []byte("-"+e.Line+"\r\n")) {
				t.Errorf("Do = error %q", e.Line)
			}
		case *ForeignError, *ProtocolError:
			if !slices.ContainsFunc(redisReplies, func(known struct {
				in, want string
				err      error
			}) bool {
				return isError(err, known.err)
			}) && !isError(err, errUnasked) {
				t.Errorf("Do = %v, an error that no case of redisReplies has", err)
			}
		default:
			if err != ErrClosed && err != io.ErrUnexpectedEOF {
				t.Errorf("Do = %v", err)
			}
		}
	})
}
