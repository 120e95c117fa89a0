package e2e_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

const (
	hostileTimeout = time.Second            // --timeout of every check of a hostile peer
	hostileGrace   = 100 * time.Millisecond // how long after it healthcheck must have ended
	hostileMemory  = 32 << 10               // the most it may hold, in KiB
)

// A hostile peer is a script, and the exact verdict on it.
type hostile struct {
	name   string
	script func(net.Conn)
	seen   string // the last column of the line, without the duration
	query  string // the end of the URL
	ok     bool   // the check passes
}

// checkHostilePeers runs a check of each peer. In args and target, $addr is replaced by the peer's
// address. target is the check as the report shows it: type and URL.
func checkHostilePeers(t *testing.T, args, target string, peers []hostile) {
	t.Helper()
	for _, p := range peers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			v := vars{"addr": testbed.Serve(t, p.script)}
			verdict := "FAIL  "
			if p.ok {
				verdict = "ok    "
			}
			checkHostile(t, verdict+v.expand(t, target)+"  "+p.seen, words(v.expand(t, args)+p.query)...)
		})
	}
}

// checkHostile compares the line and the exit status, and limits the run time and the peak memory.
// If a run takes too long, it is repeated, since a loaded machine starts a process late.
func checkHostile(t *testing.T, line string, args ...string) {
	t.Helper()
	want, status := lines(line), 1
	if strings.HasPrefix(line, "ok") {
		status = 0
	}
	args = append([]string{"--timeout", hostileTimeout.String()}, args...)
	begun := time.Now()
	var fastest, fastestIdle time.Duration
	for try := 1; ; try++ {
		got, peak := measure(t, args...)
		if got.status != status || !want.MatchString(got.stdout) || got.stderr != "" {
			t.Errorf("healthcheck %s\nstatus %d, stdout %q, stderr %q, want status %d and %s", strings.Join(args, " "), got.status, got.stdout, got.stderr, status, line)
		}
		if peak >= hostileMemory {
			t.Errorf("healthcheck %s: %d KiB at its peak, want under %d", strings.Join(args, " "), peak, hostileMemory)
		}
		// A loaded machine starts and runs a process late. So the time of a process that does
		// nothing is subtracted. Of both, the fastest of all tries counts, so one late try does not
		// fail the test.
		idle, _ := measure(t, "--version")
		if try == 1 {
			fastest, fastestIdle = got.took, idle.took
		}
		fastest, fastestIdle = min(fastest, got.took), min(fastestIdle, idle.took)
		late := fastest - fastestIdle - hostileTimeout
		if late < hostileGrace || t.Failed() {
			return
		}
		if slow := fastestIdle > hostileGrace; try >= 5 && (!slow || time.Since(begun) > patience) {
			t.Errorf("healthcheck %s ended %v after its deadline, the least of %d tries, want %v; a process that does nothing took %v",
				strings.Join(args, " "), late, try, hostileGrace, fastestIdle)
			return
		}
	}
}

// measure runs the binary and also returns its peak of memory in KiB, 0 where
// GNU time is missing. What wait4 says of a child that the test itself
// started is no use: on Linux it counts the test's own memory up to execve.
func measure(t *testing.T, args ...string) (got outcome, peak int) {
	t.Helper()
	timer, err := exec.LookPath("time")
	if err != nil {
		return run(t, nil, args...), 0
	}
	file := filepath.Join(t.TempDir(), "peak")
	cmd := exec.Command(timer, append([]string{"-q", "-f", "%M", "-o", file, built}, args...)...)
	cmd.Env = []string{}
	got = finish(t, cmd)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if peak, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		t.Fatal(err)
	}
	return got, peak
}

// TestMeasure fails where memory cannot be measured and should be.
func TestMeasure(t *testing.T) {
	t.Parallel()
	testbed.Need(t, "time")
	if _, peak := measure(t, "--version"); peak < 500 || peak > 12<<10 {
		t.Errorf("healthcheck --version took %d KiB at its peak", peak)
	}
}

// silent sends nothing.
func silent(conn net.Conn) { io.Copy(io.Discard, conn) }

// sends is a peer that sends text and then waits until the client disconnects.
func sends(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		silent(conn)
	}
}

// endless is a peer that sends text, and then repeats more without an end.
func endless(text, more string) func(net.Conn) {
	return func(conn net.Conn) {
		go silent(conn) // ends with the connection
		more := strings.Repeat(more, 1+(16<<10)/len(more))
		for _, err := io.WriteString(conn, text); err == nil; {
			_, err = io.WriteString(conn, more)
		}
	}
}

// dripping is a peer that sends one byte per second, too slowly for any deadline.
func dripping(text string) func(net.Conn) {
	return func(conn net.Conn) {
		go silent(conn) // ends with the connection
		drip := time.NewTicker(time.Second)
		defer drip.Stop()
		for i := range text {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			<-drip.C
		}
	}
}

const late = "timeout after 1s"

func TestHostileRedis(t *testing.T) {
	t.Parallel()
	checkHostilePeers(t, "--redis redis://$addr", "redis  redis://$addr", []hostile{
		{name: "silence", script: silent, seen: "reply: " + late},
		{name: "a byte a second", script: dripping("+PONG\r\n"), seen: "reply: " + late},
		{name: "endless line", script: endless("+", "x"), seen: "reply: reply line longer than 4096 bytes"},
		{name: "endless error", script: endless("-ERR ", "x"), seen: "reply: reply line longer than 4096 bytes"},
		{name: "endless replies", script: endless("", "+OK\r\n"), seen: "reply: the server sent more than was asked"},
		{name: "endless zeros", script: endless("", "\x00"), seen: "reply: not Redis: the answer is not of its protocol"},
		{name: "bulk of 1 GiB", script: endless("$1073741824\r\n", "x"), seen: `reply: unexpected reply of type "$", want a simple string`},
		{name: "bulk of 4 GiB", script: endless("$4294967296\r\n", "x"), seen: `reply: unexpected reply of type "$", want a simple string`},
		{name: "bulk of a negative length", script: sends("$-5\r\n"), seen: `reply: unexpected reply of type "$", want a simple string`},
		{name: "array of 1 Gi", script: sends("*1073741824\r\n"), seen: `reply: unexpected reply of type "*", want a simple string`},
		{name: "nested arrays", script: endless("", "*1\r\n"), seen: `reply: unexpected reply of type "*", want a simple string`},
		{name: "push types", script: endless("", ">2\r\n+message\r\n+x\r\n"), seen: `reply: unexpected reply of type ">", want a simple string`},
		{name: "closes", script: func(conn net.Conn) { bufio.NewReader(conn).ReadString('G') }, seen: "reply: the server closed the connection"},
		{name: "AUTH: silence", script: silent, query: "/?password=secret", seen: "auth: " + late},
		{name: "AUTH: endless line", script: endless("+", "x"), query: "/?password=secret", seen: "auth: reply line longer than 4096 bytes"},
	})
	checkHostilePeers(t, "--redis rediss://$addr", "redis  rediss://$addr", []hostile{
		{name: "TLS: silence", script: silent, seen: "tls: " + late + " (use redis:// if it does not speak TLS)"},
		{name: "TLS: a byte a second", script: dripping("\x16\x03\x03\x40\x00\x02\xff\xff\xff"), seen: "tls: " + late + " (use redis:// if it does not speak TLS)"},
		{name: "TLS: endless handshake", script: endless("", "\x16\x03\x03\x00\x04\x02\xff\xff\xff"), seen: "tls: handshake message of length 16777215 bytes exceeds maximum of 65536 bytes"},
		{name: "TLS: endless records", script: endless("", "\x16\x03\x03\x00\x00"), seen: "tls: unexpected message"},
		{name: "TLS: endless text", script: endless("", "hello"), seen: "tls: the server does not speak TLS (use redis://)"},
	})
}

func TestHostileHTTP(t *testing.T) {
	t.Parallel()
	const ok, typeJSON = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	checkHostilePeers(t, "--http http://$addr/", "http  http://$addr/", []hostile{
		{name: "silence", script: silent, seen: "reply: " + late},
		{name: "a byte a second", script: dripping(ok + "\r\n"), seen: "reply: " + late},
		{name: "endless status line", script: endless("HTTP/1.1 200 ", "x"), seen: "reply: the answer's header is longer than 64 KiB"},
		{name: "endless header", script: endless(ok+"X: ", "x"), seen: "reply: the answer's header is longer than 64 KiB"},
		{name: "endless headers", script: endless(ok, "X: x\r\n"), seen: "reply: the answer's header is longer than 64 KiB"},
		{name: "endless interim answers", script: endless("", "HTTP/1.1 100 Continue\r\n\r\n"), seen: "reply: the answer's header is longer than 64 KiB"},
		{name: "silence after the header", script: sends(typeJSON + "Content-Length: 100\r\n\r\n"), seen: "reply: " + late},
		{name: "slow body", script: func(conn net.Conn) {
			io.WriteString(conn, typeJSON+"\r\n")
			dripping(`{"status":"ok"}`)(conn)
		}, seen: "reply: " + late},
		{name: "endless object", script: endless(typeJSON+"\r\n"+`{"status":"error","x":"`, "x"), seen: `reply: 200 OK, status "error"`},
		{name: "endless object without a status", script: endless(typeJSON+"\r\n{", `"x":{},`), seen: "200 OK", ok: true},
		{name: "endless nesting", script: endless(typeJSON+"\r\n", `{"x":[`), seen: "200 OK", ok: true},
		{name: "endless dependencies", script: endless(typeJSON+"\r\n"+`{"status":"fail","services":{`, `"x":"ok",`), seen: `reply: 200 OK, status "fail", x ok`},
		{name: "endless text", script: endless(ok+"Content-Type: text/plain\r\n\r\n", "x"), seen: "200 OK", ok: true},
		{name: "endless white space", script: endless(typeJSON+"\r\n", " "), seen: "200 OK", ok: true},
		{name: "a body of 4 GiB", script: sends(typeJSON + "Content-Length: 4294967296\r\n\r\n{\"status\":\"down\"}"), seen: "reply: " + late},
		{name: "a body longer than any", script: sends(ok + "Content-Length: 99999999999999999999\r\n\r\n"), seen: "reply: the answer's header is malformed"},
		{name: "chunked garbage", script: sends(typeJSON + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{\"status\":\"ok\"}\r\n"), seen: "reply: 200 OK, then the answer's body is malformed"},
		{name: "a chunk of 4 GiB", script: endless(typeJSON+"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{", `"x":{},`), seen: "200 OK", ok: true},
		{name: "endless chunk extension", script: endless(typeJSON+"Transfer-Encoding: chunked\r\n\r\n1;", "x"), seen: "reply: 200 OK, then the answer's body is malformed"},
		{name: "endless trailers", script: endless(typeJSON+"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", "X: x\r\n"), seen: "reply: 200 OK, then the answer's body is malformed"},
		{name: "garbage", script: endless("", "\x00\xff"), seen: "reply: the answer's header is longer than 64 KiB"},
		{name: "closes in the body", script: func(conn net.Conn) {
			bufio.NewReader(conn).ReadString('\n')
			io.WriteString(conn, typeJSON+"Content-Length: 100\r\n\r\n{")
		}, seen: "reply: the server closed the connection in the middle of its answer"},
		{name: "SSH", script: sends("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), seen: "reply: the answer is not HTTP"},
		{name: "Redis", script: sends("-ERR unknown command 'GET'\r\n"), seen: "reply: the answer is not HTTP"},
	})
	body := testbed.Serve(t, endless(ok+"\r\n", "x"))
	checkHostile(t, "FAIL  http  http://"+body+"  reply: 200 OK, body does not match --http-body", "--http-body", "y", "--http", "http://"+body)
}

// message is one of PostgreSQL's: type, length of the rest with itself, body.
func message(kind byte, body string) string { return claim(kind, uint32(4+len(body))) + body }

// claim is the head of a message that claims a length.
func claim(kind byte, length uint32) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, length))
}

// auth is an Authentication message with a code (PostgreSQL documentation 55.7).
func auth(code byte, more string) string { return message('R', "\x00\x00\x00"+string(rune(code))+more) }

var (
	authOK    = auth(0, "")
	ready     = message('Z', "I")
	welcome   = authOK + message('S', "server_version\x0015.0\x00") + message('K', "12345678") + ready
	rowHead   = message('T', "\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00")
	rowOne    = message('D', "\x00\x01\x00\x00\x00\x011")
	rowsEnd   = message('C', "SELECT 1\x00") + ready
	sasl      = auth(10, "SCRAM-SHA-256\x00\x00")
	signature = "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// answers is a PostgreSQL server that answers each message of the client's, the
// startup message first, with the next text. It has no TLS.
func answers(texts ...string) func(net.Conn) {
	return func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for i, text := range texts {
			if _, err := packet(in, i > 0); err != nil {
				return
			}
			io.WriteString(conn, text)
		}
		io.Copy(io.Discard, in)
	}
}

// packet reads one message of the client's, with or without a type in front.
func packet(in *bufio.Reader, typed bool) (string, error) {
	if typed {
		if _, err := in.ReadByte(); err != nil {
			return "", err
		}
	}
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return "", err
	}
	body := make([]byte, binary.BigEndian.Uint32(length[:])-4)
	_, err := io.ReadFull(in, body)
	return string(body), err
}

// scram is a server that goes as far as server-first-message; first makes it
// from the client's nonce.
func scram(first func(nonce string) string, then ...string) func(net.Conn) {
	return func(conn net.Conn) {
		in := bufio.NewReader(conn)
		packet(in, false)
		io.WriteString(conn, sasl)
		initial, err := packet(in, true)
		if err != nil {
			return
		}
		_, nonce, _ := strings.Cut(initial, ",r=")
		io.WriteString(conn, auth(11, first(nonce)))
		for _, text := range then {
			packet(in, true)
			io.WriteString(conn, text)
		}
		io.Copy(io.Discard, in)
	}
}

func TestHostilePostgres(t *testing.T) {
	t.Parallel()
	const salt = ",s=MDEyMzQ1Njc4OWFiY2RlZg=="
	rounds := func(i string) func(string) string {
		return func(nonce string) string { return "r=" + nonce + "more" + salt + ",i=" + i }
	}
	fixed := func(text string) func(string) string { return func(string) string { return text } }
	after := func(texts ...string) func(net.Conn) { // the client's startup message
		return func(conn net.Conn) {
			packet(bufio.NewReader(conn), false)
			endless(texts[0], texts[1])(conn)
		}
	}
	query := func(result string) func(net.Conn) { return answers(welcome, result) }
	peers := []hostile{
		{name: "silence", script: silent, seen: "reply: " + late},
		{name: "silence after the login", script: answers(authOK), seen: "reply: " + late},
		{name: "silence after the query", script: answers(welcome), seen: "reply: " + late},
		{name: "a byte a second", script: dripping(welcome), seen: "reply: " + late},
		{name: "garbage", script: endless("", "\xff\x00"), seen: "reply: not PostgreSQL: the answer is not of its protocol"},
		{name: "closes in a message", script: func(conn net.Conn) {
			packet(bufio.NewReader(conn), false)
			io.WriteString(conn, authOK[:6])
		}, seen: "reply: the server closed the connection in the middle of its answer"},

		{name: "endless notices", script: after("", message('N', "SNOTICE\x00C00000\x00Mhello\x00\x00")), seen: "auth: more than 1000 messages or 256 KiB without an end"},
		{name: "endless parameters", script: after(authOK, message('S', "a\x00b\x00")), seen: "reply: more than 1000 messages or 256 KiB without an end"},
		{name: "large parameters", script: after(authOK, message('S', "a\x00"+strings.Repeat("b", 20000)+"\x00")), seen: "reply: more than 1000 messages or 256 KiB without an end"},
		{name: "endless versions", script: after("", message('v', "\x00\x03\x00\x00\x00\x00\x00\x00")), seen: "auth: a second NegotiateProtocolVersion"},
		{name: "endless readiness", script: after(authOK, ready), seen: "reply: the query yielded 0 rows, want 1"},
		{name: "endless authentication", script: after("", authOK), seen: `reply: unexpected message of type "R"`},
		{name: "endless error", script: after(claim('E', 29000), "x"), seen: "auth: malformed ErrorResponse"},

		{name: "authentication skipped", script: answers(welcome), query: "&require_auth=scram-sha-256", seen: "auth: require_auth: the server did not ask for authentication"},
		{name: "password asked for in the clear", script: answers(auth(3, "")), query: "&require_auth=scram-sha-256", seen: "auth: require_auth: the server asks for password"},
		{name: "ready before authentication", script: answers(ready), seen: "reply: not PostgreSQL: the answer is not of its protocol"},
		{name: "a second authentication", script: answers(authOK + auth(3, "")), seen: `reply: unexpected message of type "R"`},
		{name: "md5 with a short salt", script: answers(auth(5, "abc")), seen: "auth: md5: the salt is not 4 bytes"},
		{name: "md5 with a long salt", script: answers(auth(5, "abcde")), seen: "auth: md5: the salt is not 4 bytes"},

		{name: "SASL without a mechanism", script: answers(auth(10, "\x00")), seen: "auth: the list of SASL mechanisms does not end"},
		{name: "SASL with another mechanism", script: answers(auth(10, "OAUTHBEARER\x00\x00")), seen: "auth: the server asks for SASL by OAUTHBEARER; supported are SCRAM-SHA-256 and, with a certificate to bind to, SCRAM-SHA-256-PLUS"},
		{name: "SASL list without an end", script: answers(auth(10, "SCRAM-SHA-256")), seen: "auth: the list of SASL mechanisms does not end"},
		{name: "SCRAM continued before it began", script: answers(auth(11, "r=a,s=b,i=1")), seen: "auth: AuthenticationSASLContinue without AuthenticationSASL"},
		{name: "SCRAM finished before it began", script: answers(auth(12, signature)), seen: "auth: AuthenticationSASLFinal without AuthenticationSASL"},
		{name: "SCRAM ended at once", script: answers(sasl, welcome), seen: "auth: SCRAM: AuthenticationOk without a verified signature of the server"},
		{name: "SCRAM finished at once", script: answers(sasl, auth(12, signature)+welcome), seen: "auth: SCRAM: the server finished before the client's proof"},
		{name: "SCRAM with the final message skipped", script: scram(rounds("4096"), welcome), seen: "auth: SCRAM: AuthenticationOk without a verified signature of the server"},
		{name: "SCRAM with a bad signature", script: scram(rounds("4096"), auth(12, signature)+welcome), seen: "auth: SCRAM: the server's signature is wrong: it does not know the password"},
		{name: "SCRAM with a short signature", script: scram(rounds("4096"), auth(12, "v=AAAA")+welcome), seen: "auth: SCRAM: the server's signature is not 32 bytes in base64"},
		{name: "SCRAM with an error", script: scram(rounds("4096"), auth(12, "e=other-error")), seen: "auth: SCRAM: the server says other-error"},
		{name: "SCRAM, 0 iterations", script: scram(rounds("0")), seen: "auth: SCRAM: the iteration count is not a positive number"},
		{name: "SCRAM, -5 iterations", script: scram(rounds("-5")), seen: "auth: SCRAM: the iteration count is not a positive number"},
		{name: "SCRAM, 2147483647 iterations", script: scram(rounds("2147483647")), seen: "auth: timeout after 1s, in the SCRAM key derivation of 2147483647 iterations"},
		{name: "SCRAM, more iterations than any", script: scram(rounds("99999999999999999999")), seen: "auth: SCRAM: the iteration count is not a positive number"},
		{name: "SCRAM with another nonce", script: scram(fixed("r=another" + salt + ",i=4096")), seen: "auth: SCRAM: the server's nonce does not extend ours"},
		{name: "SCRAM with our own nonce", script: scram(func(nonce string) string { return "r=" + nonce + salt + ",i=4096" }), seen: "auth: SCRAM: the server's nonce does not extend ours"},
		{name: "SCRAM without a salt", script: scram(func(nonce string) string { return "r=" + nonce + "more,s=,i=4096" }), seen: "auth: SCRAM: the salt is not base64"},
		{name: "SCRAM with an extension", script: scram(func(nonce string) string { return "m=x,r=" + nonce + "more" + salt + ",i=4096" }), seen: "auth: SCRAM: the server demands an extension that is not known"},
		{name: "SCRAM out of order", script: scram(func(nonce string) string { return "r=" + nonce + "more,i=4096" + salt }), seen: "auth: SCRAM: attribute s is not where it belongs"},
		{name: "SCRAM with nothing", script: scram(fixed("")), seen: "auth: SCRAM: malformed message"},

		{name: "another value", script: query(rowHead + message('D', "\x00\x01\x00\x00\x00\x012") + rowsEnd), seen: `reply: SELECT 1 was answered with "2"`},
		{name: "no row", script: query(rowHead + rowsEnd), seen: "reply: the query yielded 0 rows, want 1"},
		{name: "two rows", script: query(rowHead + rowOne + rowOne + rowsEnd), seen: "reply: the query yielded 2 rows, want 1"},
		{name: "a null", script: query(rowHead + message('D', "\x00\x01\xff\xff\xff\xff") + rowsEnd), seen: "reply: DataRow whose column is not as long as it says"},
		{name: "a value longer than its message", script: query(rowHead + message('D', "\x00\x01\x7f\xff\xff\xff1") + rowsEnd), seen: "reply: DataRow whose column is not as long as it says"},
		{name: "65535 columns", script: query(rowHead + message('D', "\xff\xff\x00\x00\x00\x011") + rowsEnd), seen: "reply: DataRow of other than one column"},
		{name: "a copy", script: query(message('G', "\x00\x00\x00")), seen: `reply: unexpected message of type "G"`},
		{name: "endless rows", script: func(conn net.Conn) {
			in := bufio.NewReader(conn)
			packet(in, false)
			io.WriteString(conn, welcome)
			packet(in, true)
			endless(rowHead, rowOne)(conn)
		}, seen: "reply: more than 1000 messages or 256 KiB without an end"},
		{name: "an error in the query", script: query(message('E', "SERROR\x00C57014\x00Mcanceling statement\x00\x00") + ready), seen: "reply: ERROR 57014: canceling statement"},
		{name: "healthy", script: query(rowHead + rowOne + rowsEnd), seen: "PostgreSQL 15.0, SELECT 1 answered", ok: true},
	}
	for code, method := range map[byte]string{1: "Kerberos 4", 2: "Kerberos 5", 4: "crypt", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI",
		13: "a method that is not known here, number 13", 99: "a method that is not known here, number 99"} {
		peers = append(peers, hostile{name: fmt.Sprintf("authentication %d", code), script: answers(auth(code, "")),
			seen: "auth: the server asks for " + method + "; supported are trust, password, md5 and scram-sha-256"})
	}
	for _, length := range []uint32{0, 3, 1 << 30, 1<<32 - 1} {
		for _, kind := range "RENSKZv" {
			before := ""
			if strings.ContainsRune("SKZ", kind) {
				before = authOK
			}
			peers = append(peers, hostile{name: fmt.Sprintf("a length of %d in %c", length, kind), script: after(before+claim(byte(kind), length), "x"),
				seen: fmt.Sprintf("reply: message of type %q with a length of %d", string(kind), length)})
		}
		for _, kind := range "TDCEZ" {
			peers = append(peers, hostile{name: fmt.Sprintf("a length of %d in %c of the result", length, kind),
				script: query(claim(byte(kind), length) + strings.Repeat("x", 100<<10)),
				seen:   fmt.Sprintf("reply: message of type %q with a length of %d", string(kind), length)})
		}
	}
	checkHostilePeers(t, "--postgres postgres://u:secret@$addr/d?sslmode=disable", "postgres  postgres://u@$addr/d", peers)

	// Before TLS, by SSLRequest.
	request := func(answer string, more string) func(net.Conn) {
		return func(conn net.Conn) {
			packet(bufio.NewReader(conn), false)
			if more == "" {
				sends(answer)(conn)
			} else {
				endless(answer, more)(conn)
			}
		}
	}
	checkHostilePeers(t, "--postgres postgres://u:secret@$addr/d?sslmode=require", "postgres  postgres://u@$addr/d", []hostile{
		{name: "TLS: silence", script: silent, seen: "reply: " + late},
		{name: "TLS: silence after the answer", script: request("S", ""), seen: "tls: " + late},
		{name: "TLS: bytes stuffed behind the answer", script: request("S"+welcome, ""), seen: "tls: the server sent bytes behind its answer to SSLRequest, before TLS began (CVE-2021-23222)"},
		{name: "TLS: endless bytes behind the answer", script: request("S", "x"), seen: "tls: the server sent bytes behind its answer to SSLRequest, before TLS began (CVE-2021-23222)"},
		{name: "TLS: an error", script: request(message('E', "SFATAL\x00C53300\x00Mlook here\x00\x00"), ""), seen: "tls: the server answers the request for TLS with an error"},
		{name: "TLS: an endless error", script: request("E", "x"), seen: "tls: the server answers the request for TLS with an error"},
		{name: "TLS: another answer", script: request("X", ""), seen: "reply: not PostgreSQL: the answer is not of its protocol"},
		{name: "TLS: endless handshake", script: request("S", "\x16\x03\x03\x00\x04\x02\xff\xff\xff"), seen: "tls: handshake message of length 16777215 bytes exceeds maximum of 65536 bytes"},
	})
	checkHostilePeers(t, "--postgres postgres://u:secret@$addr/d", "postgres  postgres://u@$addr/d", []hostile{
		{name: "prefer: silence after the answer", script: request("S", ""), seen: "tls: " + late},
		{name: "prefer: an endless error", script: request("E", "x"), seen: "reply: " + strings.Repeat("x", 390) + "…"},
		{name: "prefer: an error of 4 GiB", script: request(claim('E', 1<<32-1), "x"), seen: `reply: message of type "E" with a length of 4294967295`},
		{name: "prefer: no, then endless notices", script: request("N", message('N', "SNOTICE\x00C00000\x00Mhello\x00\x00")), seen: "auth: more than 1000 messages or 256 KiB without an end"},
	})
}

// TestHostileStopped stops an nginx; PostgreSQL and Redis are stopped elsewhere.
func TestHostileStopped(t *testing.T) {
	t.Parallel()
	s := testbed.Nginx(t, "")
	s.Signal(t, syscall.SIGSTOP)
	checkHostile(t, "FAIL  http  http://"+s.Addr()+"  reply: "+late, "--http", "http://"+s.Addr())
	checkHostile(t, "FAIL  http  https://"+s.Addr()+"  tls: "+late, "--http", "https://"+s.Addr())
}
