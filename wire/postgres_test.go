package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// msg is a message from the server.
func msg(kind byte, body string) string { return rawMsg(kind, uint32(4+len(body)), body) }

// rawMsg is one whose length is a lie.
func rawMsg(kind byte, length uint32, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, length)) + body
}

func authMsg(code uint32, data string) string {
	return msg('R', string(binary.BigEndian.AppendUint32(nil, code))+data)
}

// fields is the body of an ErrorResponse or NoticeResponse.
func fields(f ...string) string { return strings.Join(f, "\x00") + "\x00\x00" }

func param(name, value string) string { return msg('S', name+"\x00"+value+"\x00") }

var (
	notice  = msg('N', fields("SNOTICE", "VNOTICE", "C00000", "Mhello"))
	keyData = msg('K', "\x00\x00\x12\x34\xde\xad\xbe\xef")
	ready   = msg('Z', "I")
	welcome = authMsg(authOK, "") + param("server_version", "15.18") + keyData + ready
	one     = msg('T', "\x00\x01?column?\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00") +
		msg('D', "\x00\x01\x00\x00\x00\x011") + msg('C', "SELECT 1\x00") + ready

	startingUp = fields("SFATAL", "VFATAL", "C57P03", "Mthe database system is starting up", "Fpostmaster.c", "L2285")
	badLogin   = fields("SFATAL", "VFATAL", "C28P01", `Mpassword authentication failed for user "app"`)
	tooMany    = fields("SFATAL", "VFATAL", "C53300", "Msorry, too many clients already")

	errStartingUp = &PGError{"FATAL", "57P03", "the database system is starting up"}
	errBadLogin   = &PGError{"FATAL", "28P01", `password authentication failed for user "app"`}
	errTooMany    = &PGError{"FATAL", "53300", "sorry, too many clients already"}
	errFlood      = &ProtocolError{"more than 1000 messages or 256 KiB without an end"}
)

// longText fills a message of maxMessage bytes, together with a name of one byte and two zero
// bytes.
var longText = strings.Repeat("x", maxMessage-minMessage-3)

// notices returns notices whose lengths add up to n bytes.
func notices(n int) string {
	var b strings.Builder
	for n > 0 {
		length := min(n, maxMessage)
		b.WriteString(msg('N', strings.Repeat("x", length-minMessage)))
		n -= length
	}
	return b.String()
}

func foreignToPG(got string) error { return &ForeignError{Want: "PostgreSQL", Got: got} }

func secret() (string, bool)     { return "s3cret", true }
func noPassword() (string, bool) { return "", false }

func app() Login { return Login{User: "app", Database: "db", Password: secret} }

// pgLogins are servers that say the same whatever they hear. None of them may be taken for one that authenticated
// itself by SCRAM.
var pgLogins = []struct {
	name, in string
	authed   bool
	err      error
}{
	{"trust", welcome, true, nil},
	{"cleartext", authMsg(authCleartext, "") + welcome, true, nil},
	{"md5", authMsg(authMD5, "\x01\x00\xff\x04") + welcome, true, nil},
	{"negotiation", msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00") + welcome, true, nil},
	{"negotiation in between", authMsg(authCleartext, "") + msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00") + welcome, true, nil},
	{"notices", notice + authMsg(authCleartext, "") + notice + authMsg(authOK, "") + notice + keyData + notice + ready, true, nil},
	{"notification", authMsg(authOK, "") + msg('A', "\x00\x00\x00\x01channel\x00payload\x00") + ready, true, nil},
	{"no key", authMsg(authOK, "") + ready, true, nil},
	{"long key", authMsg(authOK, "") + msg('K', strings.Repeat("k", 4+256)) + ready, true, nil},

	// Refusals.
	{"starting up", msg('E', startingUp), false, errStartingUp},
	{"bad password", authMsg(authCleartext, "") + msg('E', badLogin), false, errBadLogin},
	{"too many after ok", authMsg(authOK, "") + msg('E', tooMany), true, errTooMany},
	{"too many after parameters", authMsg(authOK, "") + param("a", "b") + keyData + msg('E', tooMany), true, errTooMany},
	{"second error", msg('E', badLogin) + msg('E', startingUp), false, errBadLogin},
	{"error after notice", notice + msg('E', startingUp), false, errStartingUp},
	{"without V", msg('E', fields("SFATAL", "C08P01", "Mno such database: db")), false, &PGError{"FATAL", "08P01", "no such database: db"}},
	{"localised", msg('E', fields("SFATAL", "VFATAL", "SFATALE", "C28000", "Mnein")), false, &PGError{"FATAL", "28000", "nein"}},
	{"V first", msg('E', fields("VFATAL", "SFATALE", "C28000", "Mnein")), false, &PGError{"FATAL", "28000", "nein"}},
	{"message only", msg('E', fields("Moh no")), false, &PGError{"", "", "oh no"}},
	{"empty error", msg('E', "\x00\x00\x00\x00"), false, &PGError{}},
	{"unframed", "Ecould not fork new process for connection: Cannot allocate memory\n\x00", false,
		&PGError{Message: "could not fork new process for connection: Cannot allocate memory"}},
	{"unframed, translated", "EКонец\n\x00", false, &PGError{Message: "Конец"}},
	{"unframed, no end", "Esorry, too many clients already", false, &PGError{Message: "sorry, too many clients already"}},
	{"unframed, byte 0x1f", "E\x1fabc", false, errLength("E", 0x1f616263)},
	{"unframed, byte 0x20", "E abc", false, &PGError{Message: " abc"}},
	{"unframed, byte 0x7e", "E~abc", false, &PGError{Message: "~abc"}},
	{"unframed, byte 0x7f", "E\x7fabc", false, errLength("E", 0x7f616263)},
	{"unframed, byte 0xf7", "E\xf7abc", false, &PGError{Message: "\xf7abc"}},
	{"unframed, byte 0xf8", "E\xf8abc", false, errLength("E", 0xf8616263)},
	{"unframed, short", "Eno", false, &PGError{Message: "no"}},
	{"unframed, maxUnframedError", "E" + strings.Repeat("x", maxUnframedError) + "\n", false, &PGError{Message: strings.Repeat("x", maxUnframedError)}},
	{"unframed, one more", "E" + strings.Repeat("x", maxUnframedError) + "y\n", false, &PGError{Message: strings.Repeat("x", maxUnframedError)}},
	{"unframed, endless", "E" + strings.Repeat("x", 1<<20), false, &PGError{Message: strings.Repeat("x", maxUnframedError)}},

	// Authentication.
	{"kerberos", authMsg(2, ""), false, &AuthError{"the server asks for Kerberos 5; supported are trust, password, md5 and scram-sha-256"}},
	{"gssapi", authMsg(7, ""), false, &AuthError{"the server asks for GSSAPI; supported are trust, password, md5 and scram-sha-256"}},
	{"sspi", authMsg(9, ""), false, &AuthError{"the server asks for SSPI; supported are trust, password, md5 and scram-sha-256"}},
	{"unknown method", authMsg(4294967295, ""), false, &AuthError{"the server asks for a method that is not known here, number 4294967295; supported are trust, password, md5 and scram-sha-256"}},
	{"short salt", authMsg(authMD5, "abc"), false, &ProtocolError{"md5: the salt is not 4 bytes"}},
	{"long salt", authMsg(authMD5, "abcde"), false, &ProtocolError{"md5: the salt is not 4 bytes"}},
	{"no salt", authMsg(authMD5, ""), false, &ProtocolError{"md5: the salt is not 4 bytes"}},
	{"continue first", authMsg(authSASLContinue, "r=a,s=YQ==,i=1"), false, &ProtocolError{"AuthenticationSASLContinue without AuthenticationSASL"}},
	{"final first", authMsg(authSASLFinal, "v=AAAA"), false, &ProtocolError{"AuthenticationSASLFinal without AuthenticationSASL"}},
	{"final before continue", authMsg(authSASL, "SCRAM-SHA-256\x00\x00") + authMsg(authSASLFinal, "v=AAAA"), false,
		&ProtocolError{"SCRAM: the server finished before the client's proof"}},
	{"ok without continue", authMsg(authSASL, "SCRAM-SHA-256\x00\x00") + welcome, false,
		&AuthError{"SCRAM: AuthenticationOk without a verified signature of the server"}},
	{"md5 twice", authMsg(authMD5, "salt") + authMsg(authMD5, "tlas"), false, errSecond},
	{"cleartext after md5", authMsg(authMD5, "salt") + authMsg(authCleartext, ""), false, errSecond},
	{"cleartext after SASL", authMsg(authSASL, "SCRAM-SHA-256\x00\x00") + authMsg(authCleartext, ""), false, errSecond},
	{"SASL after cleartext", authMsg(authCleartext, "") + authMsg(authSASL, "SCRAM-SHA-256\x00\x00"), false, errSecond},
	{"SASL twice", strings.Repeat(authMsg(authSASL, "SCRAM-SHA-256\x00\x00"), 2), false, errSecond},
	{"ok twice", authMsg(authOK, "") + authMsg(authOK, ""), true, &ProtocolError{`unexpected message of type "R"`}},
	{"cleartext after ok", authMsg(authOK, "") + authMsg(authCleartext, ""), true, &ProtocolError{`unexpected message of type "R"`}},
	{"mechanisms do not end", authMsg(authSASL, "SCRAM-SHA-256"), false, &ProtocolError{"the list of SASL mechanisms does not end"}},
	{"mechanisms end once", authMsg(authSASL, "SCRAM-SHA-256\x00"), false, &ProtocolError{"the list of SASL mechanisms does not end"}},
	{"no list", authMsg(authSASL, ""), false, &ProtocolError{"the list of SASL mechanisms does not end"}},
	{"other mechanisms", authMsg(authSASL, "SCRAM-SHA-1\x00OAUTHBEARER\x00\x00"), false, errMechanism("OAUTHBEARER, SCRAM-SHA-1")},
	{"no mechanism", authMsg(authSASL, "\x00\x00"), false, errMechanism("a mechanism that is not known here")},
	{"PLUS without TLS", authMsg(authSASL, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"), false, &AuthError{"the server offers SCRAM-SHA-256-PLUS without TLS"}},

	// Order and shape.
	{"second negotiation", strings.Repeat(msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00"), 2), false, &ProtocolError{"a second NegotiateProtocolVersion"}},
	{"late negotiation", authMsg(authOK, "") + msg('v', "\x00\x03\x00\x00\x00\x00\x00\x00"), true, &ProtocolError{`unexpected message of type "v"`}},
	{"parameter before ok", notice + param("a", "b"), false, &ProtocolError{`unexpected message of type "S"`}},
	{"ready before ok", notice + ready, false, &ProtocolError{`unexpected message of type "Z"`}},
	{"unknown type", authMsg(authOK, "") + msg('\xf0', ""), true, &ProtocolError{`unexpected message of type "\u00f0"`}},
	{"row in login", authMsg(authOK, "") + msg('D', "\x00\x00"), true, &ProtocolError{`unexpected message of type "D"`}},
	{"short key", authMsg(authOK, "") + msg('K', "1234567"), true, &ProtocolError{"BackendKeyData of a wrong length"}},
	{"empty ready", authMsg(authOK, "") + msg('Z', ""), true, &ProtocolError{"ReadyForQuery of a wrong length"}},
	{"long ready", authMsg(authOK, "") + msg('Z', "II"), true, &ProtocolError{"ReadyForQuery of a wrong length"}},
	{"parameter without value", authMsg(authOK, "") + msg('S', "name\x00"), true, &ProtocolError{"malformed ParameterStatus"}},
	{"parameter with more", authMsg(authOK, "") + msg('S', "name\x00value\x00more\x00"), true, &ProtocolError{"malformed ParameterStatus"}},
	{"empty parameter", authMsg(authOK, "") + msg('S', ""), true, &ProtocolError{"malformed ParameterStatus"}},
	{"error does not end", msg('E', "SFATAL\x00Mno"), false, &ProtocolError{"malformed ErrorResponse"}},
	{"error without end", msg('E', "SFATAL\x00"), false, &ProtocolError{"malformed ErrorResponse"}},

	// Lengths.
	{"R of minAuthMessage", authMsg(authOK, "") + ready, true, nil},
	{"R one shorter", rawMsg('R', minAuthMessage-1, "\x00\x00\x00"), false, errLength("R", minAuthMessage-1)},
	{"R of maxAuthMessage", authMsg(authOK, strings.Repeat("x", maxAuthMessage-minAuthMessage)) + ready, true, nil},
	{"R one longer", authMsg(authOK, strings.Repeat("x", maxAuthMessage-minAuthMessage+1)), false, errLength("R", maxAuthMessage+1)},
	{"v one shorter", rawMsg('v', minAuthMessage-1, "\x00\x00\x00"), false, errLength("v", minAuthMessage-1)},
	{"v of maxAuthMessage", msg('v', strings.Repeat("x", maxAuthMessage-minMessage)) + welcome, true, nil},
	{"v one longer", msg('v', strings.Repeat("x", maxAuthMessage-minMessage+1)), false, errLength("v", maxAuthMessage+1)},
	{"N of minMessage", msg('N', "") + welcome, true, nil},
	{"N one shorter", rawMsg('N', minMessage-1, ""), false, errLength("N", minMessage-1)},
	{"E of minMessage", msg('E', ""), false, &ProtocolError{"malformed ErrorResponse"}},
	{"E one shorter", rawMsg('E', minMessage-1, ""), false, errLength("E", minMessage-1)},
	{"E of maxMessage", msg('E', fields("M"+longText)), false, &PGError{Message: longText}},
	{"E one longer", msg('E', fields("M"+longText+"x")), false, errLength("E", maxMessage+1)},
	{"S of maxMessage", authMsg(authOK, "") + param("a", longText) + ready, true, nil},
	{"S one longer", authMsg(authOK, "") + param("a", longText+"x"), true, errLength("S", maxMessage+1)},
	{"R of 0", rawMsg('R', 0, "\x00\x00\x00\x00"), false, errLength("R", 0)},
	{"R of 1 GiB", rawMsg('R', 1<<30, ""), false, errLength("R", 1<<30)},
	{"R of 4 GiB", rawMsg('R', 1<<32-1, ""), false, errLength("R", 1<<32-1)},
	{"R with the sign bit", rawMsg('R', 1<<31, ""), false, errLength("R", 1<<31)},
	{"N of 1 GiB", rawMsg('N', 1<<30, ""), false, errLength("N", 1<<30)},
	{"E of 1 GiB", rawMsg('E', 1<<30, ""), false, errLength("E", 1<<30)},
	{"E of 4 GiB", rawMsg('E', 1<<32-1, ""), false, errLength("E", 1<<32-1)},
	{"E of 4 GiB later", notice + rawMsg('E', 1<<32-1, ""), false, errLength("E", 1<<32-1)},
	{"S of 0", authMsg(authOK, "") + rawMsg('S', 0, ""), true, errLength("S", 0)},
	{"S of 1 GiB", authMsg(authOK, "") + rawMsg('S', 1<<30, ""), true, errLength("S", 1<<30)},
	{"Z of 4 GiB", authMsg(authOK, "") + rawMsg('Z', 1<<32-1, ""), true, errLength("Z", 1<<32-1)},

	// Floods.
	{"maxPhaseMessages", strings.Repeat(msg('N', ""), maxPhaseMessages-2) + authMsg(authOK, "") + ready, true, nil},
	{"one message more", strings.Repeat(msg('N', ""), maxPhaseMessages-1) + authMsg(authOK, "") + ready, true, errFlood},
	{"maxPhaseBytes", notices(maxPhaseBytes-8-5) + authMsg(authOK, "") + ready, true, nil},
	{"one byte more", notices(maxPhaseBytes-8-4) + authMsg(authOK, "") + ready, true, errFlood},
	{"notices", strings.Repeat(msg('N', ""), 100000), false, errFlood},
	{"big notices", strings.Repeat(msg('N', strings.Repeat("x", 29000)), 100), false, errFlood},
	{"parameters", authMsg(authOK, "") + strings.Repeat(param("a", "b"), 100000), true, errFlood},
	{"big parameters", authMsg(authOK, "") + strings.Repeat(param("server_version", strings.Repeat("x", 29000)), 100), true, errFlood},
	{"keys", authMsg(authOK, "") + strings.Repeat(keyData, 100000), true, errFlood},

	// Ends.
	{"silence", "", false, ErrClosed},
	{"end of type", authMsg(authOK, "") + "Z", true, io.ErrUnexpectedEOF},
	{"end of length", authMsg(authOK, "") + "Z\x00\x00\x00", true, io.ErrUnexpectedEOF},
	{"end of body", "R\x00\x00\x00\x08\x00\x00\x00", false, io.ErrUnexpectedEOF},
	{"end before ready", authMsg(authOK, "") + keyData, true, ErrClosed},

	// Peers of another kind.
	{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", false, foreignToPG("HTTP")},
	{"SSH", "SSH-2.0-OpenSSH_9.2p1\r\n", false, foreignToPG("SSH")},
	{"TLS alert", "\x15\x03\x01\x00\x02\x02\x28", false, foreignToPG("TLS")},
	{"Redis", "-ERR unknown command\r\n", false, foreignToPG("Redis")},
	{"Redis, protected", "-DENIED Redis is running in protected mode\r\n", false, foreignToPG("Redis")},
	{"MySQL", "J\x00\x00\x00\x0a5.7.44\x00", false, foreignToPG("MySQL")},
	{"MySQL with an R", "R\x00\x00\x00\x0a8.0.36-debian\x00", false, foreignToPG("MySQL")},
	{"MySQL refusing", "E\x00\x00\x00\xff\x6a\x04Host '172.17.0.3' is not allowed to connect to this MySQL server", false, foreignToPG("MySQL")},
	{"memcached", "ERROR\r\n", false, foreignToPG("memcached")},
	{"SMTP", "220 mail.example ESMTP\r\n", false, foreignToPG("SMTP or FTP")},
	{"text", "hello, who is there?\r\n", false, foreignToPG("")},
	{"zeroes", strings.Repeat("\x00", 1<<20), false, foreignToPG("")},
	{"a lone E", "E", false, foreignToPG("")},
}

var (
	errSecond = &ProtocolError{"the server asks for a second authentication"}
)

func errMechanism(names string) error {
	return &AuthError{"the server asks for SASL by " + names + "; supported are SCRAM-SHA-256 and, with a certificate to bind to, SCRAM-SHA-256-PLUS"}
}

func errLength(kind string, length uint32) error {
	return &ProtocolError{fmt.Sprintf("message of type %q with a length of %d", kind, length)}
}

func TestPGLogin(t *testing.T) {
	for _, tt := range pgLogins {
		for _, chunk := range []int{0, 1} {
			p := &peer{unread: tt.in, chunk: chunk}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			authed, err := NewPG(p, p).Login(t.Context(), app())
			runtime.ReadMemStats(&after)
			if authed != tt.authed || !isError(err, tt.err) {
				t.Errorf("%s: Login = %t, %v, want %t, %v", tt.name, authed, err, tt.authed, tt.err)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > maxLoginMemory {
				t.Errorf("%s: Login allocated %d bytes, want at most %d", tt.name, allocated, maxLoginMemory)
			}
		}
	}
}

// maxLoginMemory is what one login may allocate in all, whatever the server says.
const maxLoginMemory = 1 << 20

// startup is what the client app sends first.
const startup = "\x00\x00\x00\x1e\x00\x03\x00\x00user\x00app\x00database\x00db\x00\x00"

func TestPGLoginSends(t *testing.T) {
	tests := []struct {
		name, in string
		login    func(*Login)
		want     string
	}{
		{"trust", welcome, nil, startup},
		{"cleartext", authMsg(authCleartext, "") + welcome, nil, startup + "p\x00\x00\x00\x0bs3cret\x00"},
		{"md5", authMsg(authMD5, "\x01\x00\xff\x04") + welcome, func(l *Login) { l.Password = func() (string, bool) { return "secret", true } },
			startup + "p\x00\x00\x00\x28md5921d03093f8427b9aec7fa76e09d795b\x00"},
		{"options", welcome, func(l *Login) { l.Options = [][2]string{{"application_name", "x"}, {"options", "-c a=b"}} },
			"\x00\x00\x00\x40\x00\x03\x00\x00user\x00app\x00database\x00db\x00application_name\x00x\x00options\x00-c a=b\x00\x00"},
		{"short salt", authMsg(authMD5, "abc"), nil, startup},
		{"zero byte", welcome, func(l *Login) { l.User = "app\x00replication\x00true" }, ""},
		{"require_auth", authMsg(authCleartext, ""), func(l *Login) { l.RequireAuth = only("md5") }, startup},
	}
	for _, tt := range tests {
		l := app()
		if tt.login != nil {
			tt.login(&l)
		}
		p := &peer{unread: tt.in}
		_, err := NewPG(p, p).Login(t.Context(), l)
		if string(p.sent) != tt.want {
			t.Errorf("%s: Login sent %q, want %q; %v", tt.name, p.sent, tt.want, err)
		}
	}
}

func TestPGParams(t *testing.T) {
	p := &peer{unread: authMsg(authOK, "") + param("server_version", "15.18") + param("in_hot_standby", "off") + param("in_hot_standby", "on") +
		param("TimeZone", "UTC") + param("default_transaction_read_only", "") + ready}
	c := NewPG(p, p)
	if _, err := c.Login(t.Context(), app()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"server_version": "15.18", "in_hot_standby": "on", "default_transaction_read_only": ""}
	if !maps.Equal(c.Params, want) {
		t.Errorf("Params = %q, want %q", c.Params, want)
	}
}

func TestPGQuery(t *testing.T) {
	described, complete := msg('T', "\x00\x01?column?\x00"), msg('C', "SELECT 1\x00")
	row := func(body string) string { return described + msg('D', body) + complete + ready }
	longValue := strings.Repeat("x", maxMessage-minMessage-6) // fills a DataRow of maxMessage bytes
	notOne, lie := &ProtocolError{"DataRow of other than one column"}, &ProtocolError{"DataRow whose column is not as long as it says"}
	tests := []struct {
		in, want string
		err      error
	}{
		{one, "1", nil},
		{row("\x00\x01\x00\x00\x00\x00"), "", nil},
		{notice + described + param("a", "b") + msg('D', "\x00\x01\x00\x00\x00\x02on") + msg('A', "\x00\x00\x00\x01a\x00\x00") + complete + ready, "on", nil},
		{described + complete + ready, "", &ProtocolError{"the query yielded 0 rows, want 1"}},
		{described + strings.Repeat(msg('D', "\x00\x01\x00\x00\x00\x011"), 2) + complete + ready, "", &ProtocolError{"the query yielded 2 rows, want 1"}},
		{ready, "", &ProtocolError{"the query yielded 0 rows, want 1"}},
		{msg('E', fields("SERROR", "VERROR", "C57P01", "Mterminating connection")) + ready, "", &PGError{"ERROR", "57P01", "terminating connection"}},
		{described + msg('D', "\x00\x01\x00\x00\x00\x011") + msg('E', startingUp), "", errStartingUp},
		{row(""), "", notOne},
		{row("\x00"), "", notOne},
		{row("\x00\x00"), "", notOne},
		{row("\x00\x00\x00\x00\x00\x00"), "", notOne},
		{row("\x00\x02\x00\x00\x00\x011\x00\x00\x00\x011"), "", notOne},
		{row("\xff\xff\x00\x00\x00\x011"), "", notOne},
		{row("\x00\x01\x00\x00\x00\x021"), "", lie},
		{row("\x00\x01\x00\x00\x00\x0111"), "", lie},
		{row("\x00\x01\xff\xff\xff\xff"), "", lie}, // NULL
		{row("\x00\x01\x7f\xff\xff\xff1"), "", lie},
		{rawMsg('D', 1<<30, ""), "", errLength("D", 1<<30)},
		{row("\x00\x01" + string(binary.BigEndian.AppendUint32(nil, uint32(len(longValue)))) + longValue), longValue, nil},
		{rawMsg('D', maxMessage+1, ""), "", errLength("D", maxMessage+1)},
		{strings.Repeat(msg('N', ""), maxPhaseMessages-4) + one, "1", nil},
		{strings.Repeat(msg('N', ""), maxPhaseMessages-3) + one, "", errFlood},
		{notices(maxPhaseBytes-len(one)+4) + one, "1", nil},
		{notices(maxPhaseBytes-len(one)+4+1) + one, "", errFlood},
		{msg('I', "") + ready, "", &ProtocolError{`unexpected message of type "I"`}},
		{msg('G', "\x00\x00\x00") + ready, "", &ProtocolError{`unexpected message of type "G"`}},
		{authMsg(authOK, "") + one, "", &ProtocolError{`unexpected message of type "R"`}},
		{strings.Repeat(msg('D', "\x00\x01\x00\x00\x00\x011"), 100000), "", errFlood},
		{strings.Repeat(described, 100000), "", errFlood},
		{"", "", ErrClosed},
		{described, "", ErrClosed},
		{"D\x00", "", io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		p := &peer{unread: welcome + tt.in}
		c := NewPG(p, p)
		if _, err := c.Login(t.Context(), app()); err != nil {
			t.Fatal(err)
		}
		p.sent = nil
		got, err := c.Query("SELECT 1")
		if got != tt.want || !isError(err, tt.err) {
			t.Errorf("Query answered by %.60q = %q, %v, want %q, %v", tt.in, got, err, tt.want, tt.err)
		}
		if want := "Q\x00\x00\x00\x0dSELECT 1\x00"; string(p.sent) != want {
			t.Errorf("Query sent %q, want %q", p.sent, want)
		}
	}
}

func TestPGTerminate(t *testing.T) {
	p := &peer{}
	if err := NewPG(p, p).Terminate(); err != nil || string(p.sent) != "X\x00\x00\x00\x04" {
		t.Errorf("Terminate = %v, sent %q", err, p.sent)
	}
}

func TestReadSSLAnswer(t *testing.T) {
	tests := []struct {
		in     string
		answer byte
		err    error
		unread string
	}{
		{"S", 'S', nil, ""},
		{"N", 'N', nil, ""},
		{"Sstuffed", 'S', nil, "stuffed"},
		{"N" + welcome, 'N', nil, welcome},
		{msg('E', startingUp), 'E', errStartingUp, ""},
		{"Ecould not fork new process\n\x00", 'E', &PGError{Message: "could not fork new process"}, ""},
		{rawMsg('E', 1<<30, ""), 'E', errLength("E", 1<<30), ""},
		{"E", 'E', foreignToPG(""), ""},
		{"ERROR\r\n", 'E', foreignToPG("memcached"), ""},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", 'H', foreignToPG("HTTP"), ""},
		{"-ERR unknown command\r\n", '-', foreignToPG("Redis"), ""},
		{"\x15\x03\x01\x00\x02\x02\x28", 0x15, foreignToPG("TLS"), ""},
		{"s", 's', foreignToPG(""), ""},
		{"\x00", 0, foreignToPG(""), ""},
		{"", 0, ErrClosed, ""},
	}
	for _, tt := range tests {
		p := &peer{unread: tt.in}
		answer, err := ReadSSLAnswer(p)
		if answer != tt.answer || !isError(err, tt.err) || p.unread != tt.unread {
			t.Errorf("ReadSSLAnswer of %q = %q, %v and %q unread, want %q, %v and %q", tt.in, answer, err, p.unread, tt.answer, tt.err, tt.unread)
		}
		if want := "\x00\x00\x00\x08\x04\xd2\x16\x2f"; string(p.sent) != want {
			t.Errorf("ReadSSLAnswer sent %q, want %q", p.sent, want)
		}
	}
}

func TestTLSRecord(t *testing.T) {
	stuffed := &ProtocolError{"the server sent bytes behind its answer to SSLRequest, before TLS began (CVE-2021-23222)"}
	for _, tt := range []struct {
		in   string
		want error
	}{
		{"", nil},
		{"\x16\x03\x03\x00\x5a", nil},
		{"\x15\x03\x01\x00\x02", nil},
		{"SH-2.0-OpenSSH", foreignToPG("SSH")},
		{"S", foreignToPG("SSH")},
		{"SHx", stuffed},
		{welcome, stuffed},
		{"\x17\x03\x03", stuffed},
		{"\x00", stuffed},
	} {
		if err := TLSRecord([]byte(tt.in)); !isError(err, tt.want) {
			t.Errorf("TLSRecord(%q) = %v, want %v", tt.in, err, tt.want)
		}
	}
}

// A server may say why and close before the client has written.
func TestPGWriteFails(t *testing.T) {
	sasl := authMsg(authSASL, "SCRAM-SHA-256\x00\x00")
	tests := []struct {
		first, then string // unread before Writes fail, and what is there to read afterwards
		err         error
	}{
		{"", msg('E', tooMany), errTooMany},
		{"", notice + msg('E', tooMany), errTooMany},
		{"", "Esorry, too many clients already\n", &PGError{Message: "sorry, too many clients already"}},
		{"", "SSH-2.0-OpenSSH_9.2\r\n", foreignToPG("SSH")},
		{"", welcome, syscall.EPIPE},
		{"", "", syscall.EPIPE},
		{authMsg(authCleartext, ""), msg('E', badLogin), errBadLogin},
		{authMsg(authMD5, "salt"), msg('E', badLogin), errBadLogin},
		{sasl, msg('E', badLogin), errBadLogin},
		{sasl, "", syscall.EPIPE},
	}
	for _, tt := range tests {
		p := &peer{unread: tt.first + tt.then, writeErr: syscall.EPIPE}
		w := &peer{writeErr: syscall.EPIPE}
		c := NewPG(p, w)
		if tt.first != "" { // StartupMessage still goes out
			w.writeErr = nil
			w.answer = func([]byte) string { w.writeErr = syscall.EPIPE; return "" }
		}
		if _, err := c.Login(t.Context(), app()); !isError(err, tt.err) {
			t.Errorf("Login with a failing Write after %q, %q = %v, want %v", tt.first, tt.then, err, tt.err)
		}
	}
	refused := &peer{writeErr: syscall.ECONNRESET, end: errAlert}
	if _, err := NewPG(refused, refused).Login(t.Context(), app()); err != errAlert {
		t.Errorf("Login with a failing Write and a refusal to read = %v, want %v", err, errAlert)
	}
	p := &peer{unread: welcome + msg('E', startingUp)}
	c := NewPG(p, p)
	if _, err := c.Login(t.Context(), app()); err != nil {
		t.Fatal(err)
	}
	p.writeErr = syscall.EPIPE
	if _, err := c.Query("SELECT 1"); !isError(err, errStartingUp) {
		t.Errorf("Query with a failing Write = %v, want %v", err, errStartingUp)
	}
}

func TestPGDeadline(t *testing.T) {
	for _, tt := range []struct {
		in  string
		err error
	}{
		{"", os.ErrDeadlineExceeded},
		{"R", os.ErrDeadlineExceeded},
		{"R\x00\x00\x00\x08\x00\x00", os.ErrDeadlineExceeded},
		{authMsg(authOK, "") + keyData, os.ErrDeadlineExceeded},
		{"Esorry", &PGError{Message: "sorry"}},
		{"HTTP/", foreignToPG("HTTP")},
		{"220 ", foreignToPG("SMTP or FTP")},
	} {
		p := &peer{unread: tt.in, end: os.ErrDeadlineExceeded}
		if _, err := NewPG(p, p).Login(t.Context(), app()); !isError(err, tt.err) {
			t.Errorf("Login with %q at the deadline = %v, want %v", tt.in, err, tt.err)
		}
	}
}

// FuzzPGServer holds that a server that does not know the password never passes for one that does, that it learns
// the password only where it asked for it in cleartext, and that it costs a bounded amount of memory.
func FuzzPGServer(f *testing.F) {
	for _, tt := range pgLogins {
		f.Add([]byte(tt.in[:min(len(tt.in), 8192)]), false, uint8(0))
		f.Add([]byte(tt.in[:min(len(tt.in), 8192)]), true, uint8(1))
	}
	f.Add([]byte(welcome+one), false, uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, requireSCRAM bool, chunk uint8) {
		l := app()
		if requireSCRAM {
			l.RequireAuth = only("scram-sha-256")
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := &peer{unread: string(in), chunk: int(chunk)}
		c := NewPG(p, p)
		_, err := c.Login(&expiring{Context: t.Context()}, l)
		if err == nil && requireSCRAM {
			t.Error("Login = nil without SCRAM")
		}
		if err == nil {
			if value, err := c.Query("SELECT 1"); err == nil && !bytes.Contains(in, []byte("\x00\x01"+string(binary.BigEndian.AppendUint32(nil, uint32(len(value))))+value)) {
				t.Errorf("Query = %q", value)
			}
		}
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 2*maxLoginMemory {
			t.Errorf("allocated %d bytes, want at most %d", allocated, 2*maxLoginMemory)
		}
		asked := strings.Contains(string(in), authMsg(authCleartext, "")[5:])
		if bytes.Contains(p.sent, []byte("s3cret")) && (!asked || requireSCRAM) {
			t.Errorf("Login sent the password: %q", p.sent)
		}
	})
}
