package wire

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Lengths that the server may name, in bytes and counting the length field itself, as libpq has them in
// fe-connect.c (MAX_ERRLEN and the checks of PQconnectPoll) and fe-protocol3.c (VALID_LONG_MESSAGE_TYPE).
const (
	minMessage     = 4
	minAuthMessage = 8
	maxAuthMessage = 2000
	maxMessage     = 30000
)

// Bounds of one phase, the login or one query, as a whole: a server that floods is cut off long before the
// deadline. A login of PostgreSQL takes some 25 messages and 1 KiB.
const (
	maxPhaseMessages = 1000
	maxPhaseBytes    = 256 << 10
)

// maxUnframedError is how much is read of an error that comes as plain text (see readUnframedError).
const maxUnframedError = 1024

const (
	protocolVersion = 3 << 16 // 3.0: pgbouncer and pgpool answer 3.2 with an error
	sslRequestCode  = 1234<<16 | 5679
)

// A PGError is an ErrorResponse (section 55.8). Its texts are the peer's bytes.
type PGError struct {
	Severity string // "FATAL", "ERROR", …; not localised where the server sends field V
	Code     string // SQLSTATE; empty where the server sent none
	Message  string
}

func (e *PGError) Error() string {
	head := strings.TrimSpace(e.Severity + " " + e.Code)
	if head == "" {
		return e.Message
	}
	return head + ": " + e.Message
}

// ErrNoPassword is returned by Login when the server wants a password and none is there.
var ErrNoPassword = errors.New("the server wants a password, and none is given")

// errZeroByte says that a startup parameter cannot be sent as it is.
var errZeroByte = errors.New("a startup parameter holds a zero byte")

// An AuthError says that the server's way to authenticate is not acceptable.
type AuthError struct {
	What string // lower case; holds no byte that the peer sent
}

func (e *AuthError) Error() string { return e.What }

// ReadSSLAnswer sends SSLRequest over rw and returns the one byte that answers it (section 55.2.10): 'S' to begin
// TLS at once, 'N' to go on without. It reads that byte and nothing behind it. Where it is 'E', err is what
// the server said, read up to a bound; it came from before TLS, so that only a caller who would go on without TLS may show it.
func ReadSSLAnswer(rw io.ReadWriter) (answer byte, err error) {
	request := binary.BigEndian.AppendUint32(nil, 8)
	request = binary.BigEndian.AppendUint32(request, sslRequestCode)
	if _, err := rw.Write(request); err != nil {
		return 0, err
	}
	var b [1]byte
	if _, err := io.ReadFull(rw, b[:]); err != nil {
		return 0, closed(err)
	}
	switch b[0] {
	case 'S', 'N':
		return b[0], nil
	}
	p := NewPG(io.MultiReader(strings.NewReader(string(b[:])), rw), nil)
	if b[0] != 'E' {
		return b[0], p.foreign()
	}
	_, _, err = p.receive()
	return 'E', err
}

// TLSRecord judges the first bytes that come behind an 'S': they must open a TLS record, a handshake or an alert.
// What was there before TLS began is otherwise refused (CVE-2021-23222).
func TLSRecord(b []byte) error {
	switch {
	case len(b) == 0 || b[0] == 0x15 || b[0] == 0x16:
		return nil
	case strings.HasPrefix("SH-", string(b[:min(len(b), 3)])): // the rest of "SSH-"
		return &ForeignError{Want: "PostgreSQL", Got: "SSH"}
	}
	return &ProtocolError{"the server sent bytes behind its answer to SSLRequest, before TLS began (CVE-2021-23222)"}
}

// PG is a client of one connection, from StartupMessage to Terminate. Messages from the server are
//
//	+------+----------------+-----------------+
//	| type |     length     |      body       |
//	| 1    | 4, big endian  | length-4 bytes  |
//	+------+----------------+-----------------+
type PG struct {
	r    *bufio.Reader
	w    io.Writer
	body []byte

	greeted         bool // a whole message has come, so the peer is PostgreSQL
	unsure          bool // SCRAM used a password that saslprep could not prepare completely
	messages, bytes int  // received in this phase

	// Params are the ParameterStatus values that came so far: "server_version", "in_hot_standby", …
	Params map[string]string
}

// NewPG returns a client that reads from r and writes to w, the same connection, which the caller has dialled and
// given a deadline.
func NewPG(r io.Reader, w io.Writer) *PG {
	return &PG{r: bufio.NewReaderSize(r, 2048), w: w, Params: make(map[string]string)}
}

// Greeted reports whether a whole message has come, so that the peer is known to be PostgreSQL or a pooler before it.
func (p *PG) Greeted() bool { return p.greeted }

// Unnormalised reports whether a login used SCRAM with a password that saslprep could not prepare
// completely. The server may have stored a key of its normalised form.
func (p *PG) Unnormalised() bool { return p.unsure }

// Login says who logs in and what is acceptable on the way.
type Login struct {
	User, Database string
	Options        [][2]string // further startup parameters, as the URI asks for: application_name, options

	// Password is asked for at most once, when the server wants one; nil where there is none.
	Password func() (password string, ok bool)

	// RequireAuth accepts a method by its name in require_auth: password, md5, scram-sha-256, none; nil
	// accepts all (libpq, section 34.1.2).
	RequireAuth func(method string) bool

	// Encrypted says that the connection is under TLS. EndpointHash is then the channel binding data of the
	// server's certificate, nil where it has none.
	Encrypted    bool
	EndpointHash []byte
	// Binding is channel_binding: disable, prefer (or empty), require.
	Binding string
}

// Login sends the StartupMessage, authenticates, and returns when the server is ready for a query. It blocks on the
// connection, and computes a key for as long as ctx allows. Errors are *PGError, *AuthError, *ProtocolError,
// *ForeignError, *SCRAMError, ErrNoPassword, ctx's, or the connection's own. The bool says whether the server's
// demand for authentication was met before the error came.
func (p *PG) Login(ctx context.Context, l Login) (authenticated bool, err error) {
	startup := binary.BigEndian.AppendUint32(nil, protocolVersion)
	for _, kv := range append([][2]string{{"user", l.User}, {"database", l.Database}}, l.Options...) {
		if strings.Contains(kv[0]+kv[1], "\x00") { // it would begin another parameter
			return false, errZeroByte
		}
		startup = append(append(startup, kv[0]...), 0)
		startup = append(append(startup, kv[1]...), 0)
	}
	if err := p.send(0, append(startup, 0)); err != nil {
		return false, p.lastWords(err)
	}
	p.messages, p.bytes = 0, 0
	if err := p.authenticate(ctx, l); err != nil {
		return false, err
	}
	for {
		kind, body, err := p.receive('K', 'Z')
		if err != nil {
			return true, err
		}
		switch {
		case kind == 'Z' && len(body) != 1:
			return true, &ProtocolError{"ReadyForQuery of a wrong length"}
		case kind == 'Z':
			return true, nil
		}
		// BackendKeyData: 4 bytes of process, and a key that is longer than 4 since protocol 3.2.
		if len(body) < 8 {
			return true, &ProtocolError{"BackendKeyData of a wrong length"}
		}
	}
}

// Authentication request codes, section 55.7.
const (
	authOK           = 0
	authCleartext    = 3
	authMD5          = 5
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// authNames are the methods that exist and that this package does not speak.
var authNames = map[uint32]string{1: "Kerberos 4", 2: "Kerberos 5", 4: "crypt", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}

// authenticate runs from the first answer to AuthenticationOk.
func (p *PG) authenticate(ctx context.Context, l Login) error {
	method := "none" // what the server asked for and was given, by its name in require_auth
	var scram *SCRAM
	negotiated := false
	for {
		kind, body, err := p.receive('R', 'v')
		if err != nil {
			return err
		}
		if kind == 'v' { // NegotiateProtocolVersion: the server has 3.0, and nothing optional was asked
			if negotiated {
				return &ProtocolError{"a second NegotiateProtocolVersion"}
			}
			negotiated = true
			continue
		}
		code, data := binary.BigEndian.Uint32(body), body[4:]
		if method != "none" && (code == authCleartext || code == authMD5 || code == authSASL) {
			return &ProtocolError{"the server asks for a second authentication"}
		}
		switch code {
		case authOK:
			return l.accept(method, scram)
		case authCleartext:
			method = "password"
			password, err := l.password(method)
			if err != nil {
				return err
			}
			err = p.sendPassword(password)
			if err != nil {
				return err
			}
		case authMD5:
			if len(data) != 4 {
				return &ProtocolError{"md5: the salt is not 4 bytes"}
			}
			method = "md5"
			salt := [4]byte(data)
			password, err := l.password(method)
			if err != nil {
				return err
			}
			inner := md5Hex(password + l.User)
			if err := p.sendPassword("md5" + md5Hex(inner+string(salt[:]))); err != nil {
				return err
			}
		case authSASL:
			method = "scram-sha-256"
			scram, err = p.startSCRAM(l, data)
			if err != nil {
				return err
			}
		case authSASLContinue:
			if scram == nil {
				return &ProtocolError{"AuthenticationSASLContinue without AuthenticationSASL"}
			}
			final, err := scram.Final(ctx, string(data))
			if err != nil {
				return err
			}
			if err := p.send('p', []byte(final)); err != nil {
				return p.lastWords(err)
			}
		case authSASLFinal:
			if scram == nil {
				return &ProtocolError{"AuthenticationSASLFinal without AuthenticationSASL"}
			}
			if err := scram.Verify(string(data)); err != nil {
				return err
			}
		default:
			name := authNames[code]
			if name == "" {
				name = "a method that is not known here, number " + strconv.FormatUint(uint64(code), 10)
			}
			return &AuthError{"the server asks for " + name + "; supported are trust, password, md5 and scram-sha-256"}
		}
	}
}

// accept judges an AuthenticationOk that came after method.
func (l *Login) accept(method string, scram *SCRAM) error {
	switch {
	case scram != nil && !scram.verified:
		return &AuthError{"SCRAM: AuthenticationOk without a verified signature of the server"}
	case l.Binding == "require" && (scram == nil || scram.binding == nil):
		return &AuthError{"channel_binding=require, and the server authenticated without it"}
	case l.RequireAuth != nil && !l.RequireAuth(method):
		if method == "none" {
			return &AuthError{"require_auth: the server did not ask for authentication"}
		}
		return &AuthError{"require_auth: the server asked for " + method}
	}
	return nil
}

// password returns the password to answer method with, once both sides of the contract allow to send it.
func (l *Login) password(method string) (string, error) {
	if l.RequireAuth != nil && !l.RequireAuth(method) {
		return "", &AuthError{"require_auth: the server asks for " + method}
	}
	if l.Binding == "require" && method != "scram-sha-256" {
		return "", &AuthError{"channel_binding=require, and the server asks for " + method}
	}
	if l.Password != nil {
		if password, ok := l.Password(); ok {
			return password, nil
		}
	}
	return "", fmt.Errorf("%s: %w", method, ErrNoPassword)
}

// startSCRAM picks a mechanism from the server's list, names ended by zeroes, and opens the exchange.
func (p *PG) startSCRAM(l Login, list []byte) (*SCRAM, error) {
	if len(list) < 2 || string(list[len(list)-2:]) != "\x00\x00" {
		return nil, &ProtocolError{"the list of SASL mechanisms does not end"}
	}
	offered := strings.Split(string(list[:len(list)-2]), "\x00")
	plus := slices.Contains(offered, scramSHA256Plus)
	if plus && !l.Encrypted {
		return nil, &AuthError{"the server offers SCRAM-SHA-256-PLUS without TLS"}
	}
	canBind := l.Encrypted && l.EndpointHash != nil && l.Binding != "disable"
	mechanism, header, binding := scramSHA256, "n,,", []byte(nil)
	switch {
	case plus && canBind:
		mechanism, header, binding = scramSHA256Plus, "p=tls-server-end-point,,", l.EndpointHash
	case l.Binding == "require":
		return nil, &AuthError{"channel_binding=require, and it is not possible: it needs TLS, a server that offers SCRAM-SHA-256-PLUS, and a certificate with a signature hash"}
	case !slices.Contains(offered, scramSHA256):
		return nil, &AuthError{"the server asks for SASL by " + saslNames(offered) + "; supported are SCRAM-SHA-256 and, with a certificate to bind to, SCRAM-SHA-256-PLUS"}
	case canBind:
		header = "y,,"
	}
	password, err := l.password("scram-sha-256")
	if err != nil {
		return nil, err
	}
	scram := NewSCRAM(password, header, binding)
	p.unsure = scram.unsure
	first := scram.First()
	// SASLInitialResponse: mechanism, length of the response, response.
	body := append([]byte(mechanism), 0)
	body = binary.BigEndian.AppendUint32(body, uint32(len(first)))
	if err := p.send('p', append(body, first...)); err != nil {
		return nil, p.lastWords(err)
	}
	return scram, nil
}

// saslNames names, of the mechanisms offered, those that exist (IANA's registry) and that this package does not speak.
func saslNames(offered []string) string {
	var known []string
	for _, name := range []string{"OAUTHBEARER", "GSSAPI", "GSS-SPNEGO", scramSHA256Plus, "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS", "EXTERNAL", "PLAIN"} {
		if slices.Contains(offered, name) {
			known = append(known, name)
		}
	}
	if known == nil {
		return "a mechanism that is not known here"
	}
	return strings.Join(known, ", ")
}

// sendPassword sends a PasswordMessage.
func (p *PG) sendPassword(s string) error {
	if err := p.send('p', append([]byte(s), 0)); err != nil {
		return p.lastWords(err)
	}
	return nil
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Query runs one simple query (section 55.2.3) and returns the one column of the one row it yields, as text. It blocks
// until the server is ready again. Errors are as Login's.
func (p *PG) Query(sql string) (value string, err error) {
	p.messages, p.bytes = 0, 0
	if err := p.send('Q', append([]byte(sql), 0)); err != nil {
		return "", p.lastWords(err)
	}
	rows := 0
	complete := false
	for {
		kind, body, err := p.receive('T', 'D', 'C', 'Z')
		if err != nil {
			return "", err
		}
		switch kind {
		case 'D': // DataRow: number of columns, then length and bytes of each
			if len(body) < 6 || binary.BigEndian.Uint16(body) != 1 {
				return "", &ProtocolError{"DataRow of other than one column"}
			}
			if uint64(binary.BigEndian.Uint32(body[2:])) != uint64(len(body)-6) {
				return "", &ProtocolError{"DataRow whose column is not as long as it says"}
			}
			value = string(body[6:])
			rows++
		case 'C':
			complete = true
		case 'Z':
			if !complete || rows != 1 {
				return "", &ProtocolError{"the query yielded " + strconv.Itoa(rows) + " rows, want 1"}
			}
			return value, nil
		}
	}
}

// Terminate says goodbye, so that the server logs nothing of a lost connection. The caller closes the connection.
func (p *PG) Terminate() error { return p.send('X', nil) }

// send writes one message in one Write; kind 0 is the StartupMessage, which has no type byte.
func (p *PG) send(kind byte, body []byte) error {
	message := make([]byte, 0, 5+len(body))
	if kind != 0 {
		message = append(message, kind)
	}
	message = binary.BigEndian.AppendUint32(message, uint32(4+len(body)))
	_, err := p.w.Write(append(message, body...))
	return err
}

// lastWords is for a Write that failed: a server that refuses a client says why and closes, and what it said may
// still be there to read.
func (p *PG) lastWords(err error) error {
	var want []byte
	if !p.greeted {
		want = []byte{'R'} // so that a peer of another kind is named
	}
	var broken *ProtocolError
	if _, _, rerr := p.receive(want...); !endOnly(rerr) && !errors.As(rerr, &broken) {
		return rerr
	}
	return err
}

// receive returns the next message whose type is one of want. What may stand anywhere is taken in on the way:
// NoticeResponse, ParameterStatus (except before AuthenticationOk, where only an authentication message may be wanted) and
// NotificationResponse. An ErrorResponse is returned as a *PGError. The body is good until the next call.
func (p *PG) receive(want ...byte) (kind byte, body []byte, err error) {
	for {
		kind, err := p.r.ReadByte()
		if err != nil {
			return 0, nil, closed(err)
		}
		login := slices.Contains(want, 'R')
		if login && !p.greeted {
			p.r.UnreadByte()
			b, _ := p.r.Peek(greetingSize) // no first message is shorter
			if !slices.Contains([]byte("RvNE"), kind) || recognise(b) == "MySQL" {
				return 0, nil, p.foreign()
			}
			p.r.Discard(1)
		}
		head, err := p.r.Peek(4)
		if len(head) < 4 {
			if kind == 'E' && !p.greeted {
				return 0, nil, p.readUnframedError()
			}
			return 0, nil, unexpected(err)
		}
		length := binary.BigEndian.Uint32(head)
		if kind == 'E' && !p.greeted && length > maxMessage && isText(head) {
			return 0, nil, p.readUnframedError()
		}
		low, high := uint32(minMessage), uint32(maxMessage)
		if kind == 'R' || kind == 'v' {
			low, high = minAuthMessage, maxAuthMessage
		}
		if length < low || length > high {
			return 0, nil, &ProtocolError{"message of type " + quoteType(kind) + " with a length of " + strconv.FormatUint(uint64(length), 10)}
		}
		p.messages++
		p.bytes += int(length)
		if p.messages > maxPhaseMessages || p.bytes > maxPhaseBytes {
			return 0, nil, &ProtocolError{"more than " + strconv.Itoa(maxPhaseMessages) + " messages or " + strconv.Itoa(maxPhaseBytes>>10) + " KiB without an end"}
		}
		p.r.Discard(4)
		if int(length) > cap(p.body) {
			p.body = make([]byte, length)
		}
		body := p.body[:length-4]
		if _, err := io.ReadFull(p.r, body); err != nil {
			return 0, nil, unexpected(err)
		}
		p.greeted = true
		switch {
		case slices.Contains(want, kind):
			return kind, body, nil
		case kind == 'E':
			return 0, nil, parseError(body)
		case kind == 'N':
		case kind == 'S' && !login:
			name, rest, _ := strings.Cut(string(body), "\x00")
			value, end, ok := strings.Cut(rest, "\x00")
			if !ok || end != "" {
				return 0, nil, &ProtocolError{"malformed ParameterStatus"}
			}
			switch name { // those that a caller asks for; a server may send any number
			case "server_version", "in_hot_standby", "default_transaction_read_only":
				p.Params[name] = value
			}
		case kind == 'A' && !login:
		default:
			return 0, nil, &ProtocolError{"unexpected message of type " + quoteType(kind)}
		}
	}
}

func quoteType(kind byte) string { return strconv.QuoteToASCII(string(rune(kind))) }

// unexpected is for reads inside a message, where even an orderly close is not.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// isText says whether b may be of a text in UTF-8, without control bytes.
func isText(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c == 0x7f || c > 0xf7 })
}

// foreign looks at the bytes that cannot be PostgreSQL's.
func (p *PG) foreign() error {
	b, _ := p.r.Peek(greetingSize)
	return &ForeignError{Want: "PostgreSQL", Got: recognise(b)}
}

// readUnframedError reads an 'E' whose length is none: before protocol 3 begins a server that cannot even
// fork says so in plain text that a zero or its close ends.
func (p *PG) readUnframedError() error {
	var text []byte
	for len(text) < maxUnframedError {
		b, err := p.r.ReadByte()
		if err != nil && err != io.EOF && len(text) == 0 {
			return err
		}
		if err != nil || b == 0 || b == '\n' {
			break
		}
		text = append(text, b)
	}
	if protocol := recognise(append([]byte("E"), text...)); protocol != "" || len(text) == 0 {
		return &ForeignError{Want: "PostgreSQL", Got: protocol}
	}
	return &PGError{Message: string(text)}
}

// parseError reads the fields of an ErrorResponse: a type byte and a string ended by a zero, each; then a zero.
func parseError(body []byte) error {
	e := &PGError{}
	rest := string(body)
	for rest != "" && rest[0] != 0 {
		value, after, ok := strings.Cut(rest[1:], "\x00")
		if !ok {
			return &ProtocolError{"malformed ErrorResponse"}
		}
		switch rest[0] {
		case 'S':
			if e.Severity == "" {
				e.Severity = value
			}
		case 'V': // pgbouncer omits it; where it is there it is not localised
			e.Severity = value
		case 'C':
			e.Code = value
		case 'M':
			e.Message = value
		}
		rest = after
	}
	if rest == "" {
		return &ProtocolError{"malformed ErrorResponse"}
	}
	return e
}
