package wire

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scramServer is the server's side of RFC 5802, written apart from the client. The hooks let it lie.
type scramServer struct {
	password   string // prepared
	salt       string
	iterations int
	nonce      string // the server's part

	first func(string) string // of the server-first-message
	final func(string) string // of the server-final-message

	gs2Header, bare, serverFirst string // what was said so far
}

// begin takes a client-first-message and returns the server-first-message.
func (s *scramServer) begin(clientFirst string) string {
	i := strings.Index(clientFirst, "n=")
	s.gs2Header, s.bare = clientFirst[:i], clientFirst[i:]
	_, nonce, _ := strings.Cut(s.bare, ",r=")
	s.serverFirst = "r=" + nonce + s.nonce + ",s=" + base64.StdEncoding.EncodeToString([]byte(s.salt)) + ",i=" + strconv.Itoa(s.iterations)
	if s.first != nil {
		s.serverFirst = s.first(s.serverFirst)
	}
	return s.serverFirst
}

// finish takes a client-final-message and returns the server-final-message; ok says whether the client's channel
// binding and proof are right.
func (s *scramServer) finish(clientFinal string, binding []byte) (final string, ok bool) {
	salted, err := pbkdf2.Key(sha256.New, s.password, []byte(s.salt), s.iterations, 32)
	if err != nil {
		panic(err)
	}
	clientKey := testHMAC(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	withoutProof, proof, _ := strings.Cut(clientFinal, ",p=")
	authMessage := s.bare + "," + s.serverFirst + "," + withoutProof
	signature := testHMAC(storedKey[:], authMessage)
	for i := range signature {
		signature[i] ^= clientKey[i]
	}
	nonce, _, _ := strings.Cut(s.serverFirst, ",s=")
	want := "c=" + base64.StdEncoding.EncodeToString([]byte(s.gs2Header+string(binding))) + "," + nonce
	ok = withoutProof == want && proof == base64.StdEncoding.EncodeToString(signature)
	final = "v=" + base64.StdEncoding.EncodeToString(testHMAC(testHMAC(salted, "Server Key"), authMessage))
	if s.final != nil {
		final = s.final(final)
	}
	return final, ok
}

func testHMAC(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// RFC 7677 section 3.
const (
	rfcNonce       = "rOprNGfwEbeRWgbNEkqO"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func rfcClient() *SCRAM {
	return &SCRAM{user: "user", password: "pencil", gs2Header: "n,,", nonce: rfcNonce}
}

func TestSCRAMExample(t *testing.T) {
	c := rfcClient()
	if got, want := c.First(), "n,,n=user,r="+rfcNonce; got != want {
		t.Errorf("First() = %q, want %q", got, want)
	}
	got, err := c.Final(t.Context(), rfcServerFirst)
	if got != rfcClientFinal || err != nil {
		t.Errorf("Final = %q, %v, want %q", got, err, rfcClientFinal)
	}
	if err := c.Verify(rfcServerFinal); err != nil {
		t.Errorf("Verify(%q) = %v", rfcServerFinal, err)
	}
}

func TestSCRAMRoundTrip(t *testing.T) {
	hash := []byte("\x00\x01 hash of a certificate \xff")
	for _, tt := range []struct {
		header     string
		binding    []byte
		iterations int
	}{
		{"n,,", nil, 1},
		{"y,,", nil, 2},
		{"p=tls-server-end-point,,", hash, 4096},
		{"n,,", nil, interruptEvery},
		{"n,,", nil, 3*interruptEvery + 1},
	} {
		server := scramServer{password: "s3cret", salt: "salt", iterations: tt.iterations, nonce: "%)server"}
		c := NewSCRAM("s3cret", tt.header, tt.binding)
		clientFinal, err := c.Final(t.Context(), server.begin(c.First()))
		if err != nil {
			t.Errorf("%q, %d iterations: Final: %v", tt.header, tt.iterations, err)
			continue
		}
		serverFinal, ok := server.finish(clientFinal, tt.binding)
		if !ok || server.gs2Header != tt.header {
			t.Errorf("%q, %d iterations: the server refuses %q", tt.header, tt.iterations, clientFinal)
		}
		if err := c.Verify(serverFinal); err != nil {
			t.Errorf("%q, %d iterations: Verify: %v", tt.header, tt.iterations, err)
		}
	}
}

func TestSCRAMNonce(t *testing.T) {
	a, b := NewSCRAM("", "n,,", nil), NewSCRAM("", "n,,", nil)
	if a.nonce == b.nonce || len(a.nonce) != 24 || strings.Contains(a.nonce, ",") {
		t.Errorf("nonces %q and %q", a.nonce, b.nonce)
	}
}

const (
	wrongNonce   = "SCRAM: the server's nonce does not extend ours"
	unprintable  = "SCRAM: the server's nonce is not printable"
	wrongSalt    = "SCRAM: the salt is not base64"
	wrongCount   = "SCRAM: the iteration count is not a positive number"
	malformed    = "SCRAM: malformed message"
	extension    = "SCRAM: the server demands an extension that is not known"
	misplacedR   = "SCRAM: attribute r is not where it belongs"
	misplacedS   = "SCRAM: attribute s is not where it belongs"
	misplacedI   = "SCRAM: attribute i is not where it belongs"
	notSignature = "SCRAM: the server's signature is not 32 bytes in base64"
	badSignature = "SCRAM: the server's signature is wrong: it does not know the password"
)

// serverFirsts are answers to a client whose nonce is "abc".
var serverFirsts = []struct{ in, want string }{
	{"r=abcX,s=c2FsdA==,i=1", ""},
	{"r=abc~!X,s=c2FsdA==,i=1,x=an optional extension,y=", ""},

	{"r=Xabc,s=c2FsdA==,i=1", wrongNonce},
	{"r=ABCx,s=c2FsdA==,i=1", wrongNonce},
	{"r=abc,s=c2FsdA==,i=1", wrongNonce},
	{"r=ab,s=c2FsdA==,i=1", wrongNonce},
	{"r=,s=c2FsdA==,i=1", wrongNonce},
	{"r=abc\x01,s=c2FsdA==,i=1", unprintable},
	{"r=abc\x00X,s=c2FsdA==,i=1", unprintable},
	{"r=abc X,s=c2FsdA==,i=1", unprintable},
	{"r=abcX\x7f,s=c2FsdA==,i=1", unprintable},
	{"r=abcé,s=c2FsdA==,i=1", unprintable},
	{"r=abc\n,s=c2FsdA==,i=1", unprintable},

	{"", malformed},
	{",", malformed},
	{"r", malformed},
	{"r=abcX", "SCRAM: attribute s is missing"},
	{"r=abcX,s=c2FsdA==", "SCRAM: attribute i is missing"},
	{"r=abcX,s=c2FsdA==,", malformed},
	{"r=abcX,,s=c2FsdA==,i=1", malformed},
	{"r=abcX,s=c2FsdA==,i=1,", malformed},
	{"r=abcX,s=c2FsdA==,i=1,xx=1", malformed},
	{"r=abcX,s=c2FsdA==,i=1,x", malformed},
	{"s=c2FsdA==,r=abcX,i=1", misplacedR},
	{"r=abcX,i=1,s=c2FsdA==", misplacedS},
	{"r=abcX,s=c2FsdA==,s=c2FsdA==,i=1", misplacedI},
	{"R=abcX,s=c2FsdA==,i=1", misplacedR},
	{"e=other-error", misplacedR},
	{"v=" + strings.Repeat("A", 43) + "=", misplacedR},
	{"m=1,r=abcX,s=c2FsdA==,i=1", extension},
	{"r=abcX,s=c2FsdA==,i=1,m=1", extension},
	{"r=abcX,m,s=c2FsdA==,i=1", extension},

	{"r=abcX,s=,i=1", wrongSalt},
	{"r=abcX,s=c2FsdA,i=1", wrongSalt},
	{"r=abcX,s=c2FsdB==,i=1", wrongSalt},
	{"r=abcX,s=c2Fs dA==,i=1", wrongSalt},
	{"r=abcX,s=c2Fs\ndA==,i=1", wrongSalt},
	{"r=abcX,s=\nc2FsdA==,i=1", wrongSalt},
	{"r=abcX,s=c2FsdA==\r\n,i=1", wrongSalt},
	{"r=abcX,s=c2Fs-_==,i=1", wrongSalt},
	{"r=abcX,s=====,i=1", wrongSalt},

	{"r=abcX,s=c2FsdA==,i=", wrongCount},
	{"r=abcX,s=c2FsdA==,i=0", wrongCount},
	{"r=abcX,s=c2FsdA==,i=-5", wrongCount},
	{"r=abcX,s=c2FsdA==,i=+5", wrongCount},
	{"r=abcX,s=c2FsdA==,i=01", wrongCount},
	{"r=abcX,s=c2FsdA==,i= 1", wrongCount},
	{"r=abcX,s=c2FsdA==,i=1_000", wrongCount},
	{"r=abcX,s=c2FsdA==,i=0x10", wrongCount},
	{"r=abcX,s=c2FsdA==,i=1\x00", wrongCount},
	{"r=abcX,s=c2FsdA==,i=4096.0", wrongCount},
	{"r=abcX,s=c2FsdA==,i=2147483648", wrongCount},
	{"r=abcX,s=c2FsdA==,i=99999999999999999999", wrongCount},
}

func TestSCRAMServerFirst(t *testing.T) {
	for _, tt := range serverFirsts {
		c := &SCRAM{password: "secret", gs2Header: "n,,", nonce: "abc"}
		got, err := c.Final(t.Context(), tt.in)
		if tt.want == "" && err == nil {
			continue
		}
		if !isError(err, &ProtocolError{tt.want}) || got != "" {
			t.Errorf("Final(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
		if err := c.Verify("v=" + strings.Repeat("A", 43) + "="); err == nil {
			t.Errorf("Verify after Final(%q) = nil", tt.in)
		}
	}
}

func TestSCRAMServerFinal(t *testing.T) {
	signature, _ := base64.StdEncoding.DecodeString(rfcServerFinal[2:])
	tests := []struct {
		in   string
		want error
	}{
		{rfcServerFinal, nil},
		{rfcServerFinal + ",x=an optional extension", nil},
		{"e=invalid-proof", &SCRAMError{"invalid-proof"}},
		{"e=", &SCRAMError{""}},
		{"", &ProtocolError{malformed}},
		{"v", &ProtocolError{malformed}},
		{rfcServerFinal + ",", &ProtocolError{malformed}},
		{"v=", &ProtocolError{notSignature}},
		{"v=" + base64.StdEncoding.EncodeToString(signature[:31]), &ProtocolError{notSignature}},
		{"v=" + base64.StdEncoding.EncodeToString(append(slices.Clone(signature), 0)), &ProtocolError{notSignature}},
		{strings.TrimSuffix(rfcServerFinal, "="), &ProtocolError{notSignature}},
		{strings.Replace(rfcServerFinal, "G4=", "G5=", 1), &ProtocolError{notSignature}}, // the same 32 bytes, spare bits set
		{rfcServerFinal + "\n", &ProtocolError{notSignature}},
		{"v=" + strings.Repeat("A", 43) + "=", &ProtocolError{badSignature}},
		{strings.Replace(rfcServerFinal, "6rri", "6rrj", 1), &ProtocolError{badSignature}},
		{"V=" + rfcServerFinal[2:], &ProtocolError{"SCRAM: attribute v is not where it belongs"}},
		{"x=1," + rfcServerFinal, &ProtocolError{"SCRAM: attribute v is not where it belongs"}},
		{"m=1," + rfcServerFinal, &ProtocolError{extension}},
		{rfcServerFirst, &ProtocolError{"SCRAM: attribute v is not where it belongs"}},
	}
	for _, tt := range tests {
		c := rfcClient()
		if _, err := c.Final(t.Context(), rfcServerFirst); err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(tt.in); !isError(err, tt.want) || c.verified != (tt.want == nil) {
			t.Errorf("Verify(%q) = %v, verified %t, want %v", tt.in, err, c.verified, tt.want)
		}
	}
}

func TestSCRAMOrder(t *testing.T) {
	c := rfcClient()
	if err := c.Verify(rfcServerFinal); !isError(err, &ProtocolError{"SCRAM: the server finished before the client's proof"}) {
		t.Errorf("Verify before Final = %v", err)
	}
	c.Final(t.Context(), rfcServerFirst)
	if _, err := c.Final(t.Context(), rfcServerFirst); !isError(err, &ProtocolError{"SCRAM: a second server-first-message"}) {
		t.Errorf("a second Final = %v", err)
	}
	if err := c.Verify(rfcServerFinal); err != nil {
		t.Errorf("Verify = %v", err)
	}
	if err := c.Verify(rfcServerFinal); !isError(err, &ProtocolError{"SCRAM: a second server-final-message"}) {
		t.Errorf("a second Verify = %v", err)
	}
}

// expiring is a context that is over from its nth look on.
type expiring struct {
	context.Context
	looks int
}

func (c *expiring) Err() error {
	c.looks--
	if c.looks < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func TestSCRAMInterrupted(t *testing.T) {
	c := &SCRAM{password: "secret", gs2Header: "n,,", nonce: "abc"}
	ctx := &expiring{t.Context(), 5}
	start := time.Now()
	_, err := c.Final(ctx, "r=abcX,s=c2FsdA==,i=2147483647")
	if !isError(err, &IterationsError{2147483647, context.DeadlineExceeded}) || !isError(err, context.DeadlineExceeded) {
		t.Errorf("Final of 2147483647 iterations = %v", err)
	}
	if ctx.looks < -2 { // once in the loop, once for the error
		t.Errorf("Final looked %d times at a context that was over", -ctx.looks)
	}
	// The deadline is met within the time between two looks, a sixth of what passed here.
	if passed := time.Since(start) / 6; passed > 100*time.Millisecond {
		t.Errorf("between two looks at the context passed %v, want at most 100ms", passed)
	}
	if c.Verify("v="+strings.Repeat("A", 43)+"=") == nil {
		t.Error("Verify after an interrupted Final = nil")
	}
}

// Final checks the context before each iteration whose number is a multiple of interruptEvery.
func TestSCRAMInterruptEvery(t *testing.T) {
	for _, tt := range []struct {
		iterations, looks int // looks: checks of the context before it is done
		want              error
	}{
		{interruptEvery, 0, nil},
		{interruptEvery + 1, 0, context.DeadlineExceeded},
		{2 * interruptEvery, 1, nil},
		{2*interruptEvery + 1, 1, context.DeadlineExceeded},
		{2*interruptEvery + 1, 2, nil},
	} {
		c := &SCRAM{password: "secret", gs2Header: "n,,", nonce: "abc"}
		_, err := c.Final(&expiring{t.Context(), tt.looks}, "r=abcX,s=c2FsdA==,i="+strconv.Itoa(tt.iterations))
		if !isError(err, tt.want) {
			t.Errorf("Final of %d iterations, context done after %d checks = %v, want %v", tt.iterations, tt.looks, err, tt.want)
		}
	}
}

func TestEndpointHash(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	tests := []struct {
		key  crypto.Signer
		in   x509.SignatureAlgorithm
		want crypto.Hash
	}{
		{rsaKey, x509.SHA256WithRSA, crypto.SHA256},
		{rsaKey, x509.SHA384WithRSA, crypto.SHA384},
		{rsaKey, x509.SHA512WithRSA, crypto.SHA512},
		{rsaKey, x509.SHA256WithRSAPSS, crypto.SHA256},
		{rsaKey, x509.SHA384WithRSAPSS, crypto.SHA384},
		{rsaKey, x509.SHA512WithRSAPSS, crypto.SHA512},
		{ecKey, x509.ECDSAWithSHA256, crypto.SHA256},
		{ecKey, x509.ECDSAWithSHA384, crypto.SHA384},
		{ecKey, x509.ECDSAWithSHA512, crypto.SHA512},
		{edKey, x509.PureEd25519, 0},
		// x509 does not sign with these any more.
		{nil, x509.MD5WithRSA, crypto.SHA256},
		{nil, x509.SHA1WithRSA, crypto.SHA256},
		{nil, x509.ECDSAWithSHA1, crypto.SHA256},
		{nil, x509.UnknownSignatureAlgorithm, 0},
	}
	for _, tt := range tests {
		cert := &x509.Certificate{Raw: []byte("certificate"), SignatureAlgorithm: tt.in}
		if tt.key != nil {
			template := &x509.Certificate{SerialNumber: big.NewInt(1), SignatureAlgorithm: tt.in}
			der, err := x509.CreateCertificate(rand.Reader, template, template, tt.key.Public(), tt.key)
			if err != nil {
				t.Fatal(err)
			}
			if cert, err = x509.ParseCertificate(der); err != nil {
				t.Fatal(err)
			}
		}
		var want []byte
		if tt.want != 0 {
			h := tt.want.New()
			h.Write(cert.Raw)
			want = h.Sum(nil)
		}
		got, err := EndpointHash(cert)
		if string(got) != string(want) || (err == nil) != (tt.want != 0) {
			t.Errorf("EndpointHash of %v = %x, %v, want %x", tt.in, got, err, want)
		}
	}
}

// FuzzSCRAM holds that a server that does not know the password is never verified, whatever it says.
func FuzzSCRAM(f *testing.F) {
	for _, tt := range serverFirsts {
		f.Add(tt.in, rfcServerFinal)
	}
	f.Add(rfcServerFirst, rfcServerFinal)
	f.Add("r=abcX,s=c2FsdA==,i=4096", "e=other-error")
	// For the empty key, so that a client that takes one is found out.
	f.Add("r=abcX,s=c2FsdA==,i=1", "v="+base64.StdEncoding.EncodeToString(testHMAC(testHMAC(nil, "Server Key"), "")))
	f.Fuzz(func(t *testing.T, serverFirst, serverFinal string) {
		c := &SCRAM{password: "kept from the fuzzer", gs2Header: "n,,", nonce: "abc"}
		final, err := c.Final(&expiring{Context: t.Context()}, serverFirst)
		if (final == "") != (err != nil) || !strings.HasPrefix(serverFirst, "r=abc") && err == nil {
			t.Errorf("Final = %q, %v", final, err)
		}
		if err := c.Verify(serverFinal); err == nil || c.verified {
			t.Errorf("Verify = nil")
		}
	})
}
