package wire

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"hash"
	"strconv"
	"strings"
)

// The mechanisms of RFC 7677 as they appear in AuthenticationSASL.
const (
	scramSHA256     = "SCRAM-SHA-256"
	scramSHA256Plus = "SCRAM-SHA-256-PLUS"
)

// nonceSize is how many random bytes go into the client's nonce, as in libpq (SCRAM_RAW_NONCE_LEN).
const nonceSize = 18

// interruptEvery is how many iterations of the key derivation pass between two looks at the context: some 200 µs.
const interruptEvery = 1024

// SCRAM is the client's side of one SCRAM-SHA-256 exchange (RFC 5802 section 5, with the hash of RFC 7677).
//
//	C: First        gs2-header n=,r=<client nonce>
//	S: server-first r=<client nonce + server nonce>,s=<salt>,i=<iterations>
//	C: Final        c=<channel binding>,r=<nonce>,p=<proof>
//	S: server-final v=<signature>    judged by Verify
//
// The user name stays empty, as PostgreSQL ignores it and takes the one of the startup message.
type SCRAM struct {
	user      string // empty, except in the RFC's example
	password  string
	unsure    bool   // saslprep could not prepare the password completely
	gs2Header string // "n,,", "y,," or "p=tls-server-end-point,,"
	binding   []byte // channel binding data, where gs2Header begins with p
	nonce     string

	serverSignature []byte // what Verify compares with; nil until Final
	verified        bool
}

// NewSCRAM returns a client for one exchange. The gs2Header is RFC 5802's: "n,," where the client cannot bind, "y,,"
// where it could and the server did not offer to, "p=tls-server-end-point,," with binding, the hash of EndpointHash.
func NewSCRAM(password, gs2Header string, binding []byte) *SCRAM {
	raw := make([]byte, nonceSize)
	rand.Read(raw) // never fails since Go 1.24
	prepared, complete := saslprep(password)
	return &SCRAM{
		password:  prepared,
		unsure:    !complete,
		gs2Header: gs2Header,
		binding:   binding,
		nonce:     base64.StdEncoding.EncodeToString(raw),
	}
}

// First returns the client-first-message.
func (s *SCRAM) First() string { return s.gs2Header + s.firstBare() }

func (s *SCRAM) firstBare() string { return "n=" + s.user + ",r=" + s.nonce }

// Final takes the server-first-message and returns the client-final-message. It computes for as long as the
// iteration count in it demands, or until ctx is done: then the error is an *IterationsError.
func (s *SCRAM) Final(ctx context.Context, serverFirst string) (string, error) {
	if s.serverSignature != nil {
		return "", &ProtocolError{"SCRAM: a second server-first-message"}
	}
	nonce, salt, iterations, err := s.parseServerFirst(serverFirst)
	if err != nil {
		return "", err
	}
	salted, err := saltedPassword(ctx, s.password, salt, iterations)
	if err != nil {
		return "", &IterationsError{Iterations: iterations, Err: err}
	}
	binding := base64.StdEncoding.EncodeToString(append([]byte(s.gs2Header), s.binding...))
	withoutProof := "c=" + binding + ",r=" + nonce
	authMessage := s.firstBare() + "," + serverFirst + "," + withoutProof

	// RFC 5802 section 3.
	clientKey := mac(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	proof := mac(storedKey[:], authMessage)
	subtle.XORBytes(proof, proof, clientKey)
	s.serverSignature = mac(mac(salted, "Server Key"), authMessage)
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// parseServerFirst checks every attribute before anything is computed from it (RFC 5802 section 7).
func (s *SCRAM) parseServerFirst(message string) (nonce string, salt []byte, iterations int, err error) {
	broken := func(what string) (string, []byte, int, error) {
		return "", nil, 0, &ProtocolError{"SCRAM: " + what}
	}
	attrs, err := scramAttributes(message, "r", "s", "i")
	if err != nil {
		return "", nil, 0, err
	}
	nonce = attrs[0]
	if !strings.HasPrefix(nonce, s.nonce) || len(nonce) == len(s.nonce) {
		return broken("the server's nonce does not extend ours")
	}
	for i := range len(nonce) {
		if nonce[i] < 0x21 || nonce[i] > 0x7e { // "printable" of section 7; the comma cannot occur here
			return broken("the server's nonce is not printable")
		}
	}
	salt, err = decodeBase64(attrs[1])
	if err != nil || len(salt) == 0 {
		return broken("the salt is not base64")
	}
	// posit-number of section 7: no sign, no leading zero. The upper bound is PostgreSQL's int; what is
	// absurd below it is stopped by the context.
	count, err := strconv.ParseInt(attrs[2], 10, 32)
	if err != nil || count < 1 || attrs[2] != strconv.FormatInt(count, 10) {
		return broken("the iteration count is not a positive number")
	}
	return nonce, salt, int(count), nil
}

// Verify takes the server-final-message. Only after it has returned nil has the server proved to know the password.
func (s *SCRAM) Verify(serverFinal string) error {
	if s.serverSignature == nil {
		return &ProtocolError{"SCRAM: the server finished before the client's proof"}
	}
	if s.verified {
		return &ProtocolError{"SCRAM: a second server-final-message"}
	}
	if strings.HasPrefix(serverFinal, "e=") {
		return &SCRAMError{Reason: serverFinal[2:]}
	}
	attrs, err := scramAttributes(serverFinal, "v")
	if err != nil {
		return err
	}
	signature, err := decodeBase64(attrs[0])
	if err != nil || len(signature) != sha256.Size {
		return &ProtocolError{"SCRAM: the server's signature is not 32 bytes in base64"}
	}
	if !hmac.Equal(signature, s.serverSignature) {
		return &ProtocolError{"SCRAM: the server's signature is wrong: it does not know the password"}
	}
	s.verified = true
	return nil
}

// A SCRAMError is the server-error of a server-final-message, "e=invalid-proof".
type SCRAMError struct {
	Reason string // the peer's bytes
}

func (e *SCRAMError) Error() string { return "SCRAM: the server says " + e.Reason }

// An IterationsError says that the key derivation was interrupted.
type IterationsError struct {
	Iterations int   // what the server asked for
	Err        error // the context's
}

func (e *IterationsError) Error() string {
	return "SCRAM key derivation of " + strconv.Itoa(e.Iterations) + " iterations"
}

func (e *IterationsError) Unwrap() error { return e.Err }

// scramAttributes splits a message into the values of the attributes want, in that order. Optional extensions
// behind them are ignored, as RFC 5802 section 5.1 has it; a mandatory one ("m=") is an error.
func scramAttributes(message string, want ...string) ([]string, error) {
	parts := strings.Split(message, ",")
	values := make([]string, 0, len(want))
	for i, part := range parts {
		name, value, ok := strings.Cut(part, "=")
		switch {
		case name == "m":
			return nil, &ProtocolError{"SCRAM: the server demands an extension that is not known"}
		case !ok || len(name) != 1:
			return nil, &ProtocolError{"SCRAM: malformed message"}
		case i < len(want) && name != want[i]:
			return nil, &ProtocolError{"SCRAM: attribute " + want[i] + " is not where it belongs"}
		case i < len(want):
			values = append(values, value)
		}
	}
	if len(values) < len(want) {
		return nil, &ProtocolError{"SCRAM: attribute " + want[len(values)] + " is missing"}
	}
	return values, nil
}

// decodeBase64 is as strict as section 7's grammar: encoding/base64 skips CR and LF wherever they are.
func decodeBase64(s string) ([]byte, error) {
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		return nil, base64.CorruptInputError(i)
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// saltedPassword is Hi() of RFC 5802 section 2.2, which is PBKDF2 with one block. crypto/pbkdf2 does the same
// and cannot be interrupted.
func saltedPassword(ctx context.Context, password string, salt []byte, iterations int) ([]byte, error) {
	prf := hmac.New(sha256.New, []byte(password))
	prf.Write(salt)
	prf.Write([]byte{0, 0, 0, 1})
	u := prf.Sum(nil)
	result := append([]byte(nil), u...)
	for i := 1; i < iterations; i++ {
		if i%interruptEvery == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		prf.Reset()
		prf.Write(u)
		u = prf.Sum(u[:0])
		subtle.XORBytes(result, result, u)
	}
	return result, nil
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// errNoEndpointHash says that a certificate's signature has no hash of its own.
var errNoEndpointHash = errors.New("the server's certificate has no signature hash to bind to")

// EndpointHash returns the tls-server-end-point channel binding data of a server's certificate: its hash by
// its own signature's algorithm, MD5 and SHA-1 raised to SHA-256 (RFC 5929 section 4.1). Where the signature has no
// separate hash, as with Ed25519, that is an error and binding is not possible.
func EndpointHash(cert *x509.Certificate) ([]byte, error) {
	var h hash.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		h = sha256.New()
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = sha512.New384()
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = sha512.New()
	default:
		return nil, errNoEndpointHash
	}
	h.Write(cert.Raw)
	return h.Sum(nil), nil
}
