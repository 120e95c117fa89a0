package wire

import (
	"slices"
	"strings"
	"testing"
)

func only(methods ...string) func(string) bool {
	return func(method string) bool { return slices.Contains(methods, method) }
}

// What the client's owner demands, against servers that would do with less.
func TestPGLoginDemands(t *testing.T) {
	cleartext, md5, sasl := authMsg(authCleartext, ""), authMsg(authMD5, "salt"), authMsg(authSASL, "SCRAM-SHA-256\x00\x00")
	saslPlus := authMsg(authSASL, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00")
	noBinding := &AuthError{"channel_binding=require, and it is not possible: it needs TLS, a server that offers SCRAM-SHA-256-PLUS, and a certificate with a signature hash"}
	tests := []struct {
		in    string
		login Login
		want  error
	}{
		{welcome, Login{RequireAuth: only("none")}, nil},
		{welcome, Login{RequireAuth: only("md5", "scram-sha-256")}, &AuthError{"require_auth: the server did not ask for authentication"}},
		{cleartext + welcome, Login{RequireAuth: only("password")}, nil},
		{cleartext + welcome, Login{RequireAuth: only("none")}, &AuthError{"require_auth: the server asks for password"}},
		{cleartext, Login{RequireAuth: only("scram-sha-256")}, &AuthError{"require_auth: the server asks for password"}},
		{md5 + welcome, Login{RequireAuth: only("md5")}, nil},
		{md5, Login{RequireAuth: only("password")}, &AuthError{"require_auth: the server asks for md5"}},
		{sasl, Login{RequireAuth: only("md5")}, &AuthError{"require_auth: the server asks for scram-sha-256"}},
		{sasl, Login{RequireAuth: only("scram-sha-256")}, ErrClosed},
		{welcome, Login{Binding: "require"}, &AuthError{"channel_binding=require, and the server authenticated without it"}},
		{cleartext, Login{Binding: "require"}, &AuthError{"channel_binding=require, and the server asks for password"}},
		{md5, Login{Binding: "require"}, &AuthError{"channel_binding=require, and the server asks for md5"}},
		{sasl, Login{Binding: "require"}, noBinding},
		{sasl, Login{Binding: "require", Encrypted: true, EndpointHash: []byte("hash")}, noBinding},
		{saslPlus, Login{Binding: "require", Encrypted: true}, noBinding},
		{authMsg(authSASL, "SCRAM-SHA-256-PLUS\x00\x00"), Login{Encrypted: true}, errMechanism("SCRAM-SHA-256-PLUS")},
		{authMsg(authSASL, "SCRAM-SHA-256-PLUS\x00\x00"), Login{Encrypted: true, EndpointHash: []byte("hash"), Binding: "disable"}, errMechanism("SCRAM-SHA-256-PLUS")},
		{cleartext, Login{Password: noPassword}, ErrNoPassword},
		{md5, Login{Password: noPassword}, ErrNoPassword},
		{sasl, Login{Password: noPassword}, ErrNoPassword},
		{welcome, Login{Password: noPassword}, nil},
	}
	for _, tt := range tests {
		if tt.login.Password == nil {
			tt.login.Password = secret
		}
		p := &peer{unread: tt.in}
		if _, err := NewPG(p, p).Login(t.Context(), tt.login); !isError(err, tt.want) {
			t.Errorf("Login after %q = %v, want %v", tt.in, err, tt.want)
		}
		if strings.Contains(string(p.sent), "s3cret") && tt.want != nil {
			t.Errorf("Login after %q sent %q", tt.in, p.sent)
		}
	}
	p := &peer{unread: cleartext}
	if _, err := NewPG(p, p).Login(t.Context(), Login{}); !isError(err, ErrNoPassword) {
		t.Errorf("Login without Password = %v", err)
	}
}

// pgServer is a server that authenticates by SCRAM, as a peer's answer.
type pgServer struct {
	scram     scramServer
	offered   string // mechanisms, each with its zero
	hash      string // of its certificate
	skip      bool   // AuthenticationSASLFinal
	mechanism string
	said      int
}

func (s *pgServer) answer(sent []byte) string {
	s.said++
	switch s.said {
	case 1: // StartupMessage
		return authMsg(authSASL, s.offered+"\x00")
	case 2: // SASLInitialResponse
		mechanism, rest, _ := strings.Cut(string(sent[5:]), "\x00")
		s.mechanism = mechanism
		return authMsg(authSASLContinue, s.scram.begin(rest[4:]))
	case 3: // SASLResponse
		var binding string
		if s.mechanism == scramSHA256Plus {
			binding = s.hash
		}
		final, ok := s.scram.finish(string(sent[5:]), []byte(binding))
		switch {
		case !ok:
			return msg('E', badLogin)
		case s.skip:
			return welcome
		}
		return authMsg(authSASLFinal, final) + welcome
	}
	return one
}

func TestPGLoginSCRAM(t *testing.T) {
	const plain, plus = "SCRAM-SHA-256\x00", "SCRAM-SHA-256-PLUS\x00"
	hash := []byte("the certificate's hash")
	tests := []struct {
		name    string
		login   Login
		offered string
		header  string // the gs2-header wanted
		lie     func(*pgServer)
		want    error
	}{
		{"plain", Login{}, plain, "n,,", nil, nil},
		{"require_auth", Login{RequireAuth: only("scram-sha-256")}, plain, "n,,", nil, nil},
		{"among others", Login{}, "SCRAM-SHA-1\x00" + plain + "OAUTHBEARER\x00", "n,,", nil, nil},
		{"TLS, not offered", Login{Encrypted: true, EndpointHash: hash}, plain, "y,,", nil, nil},
		{"TLS, offered", Login{Encrypted: true, EndpointHash: hash}, plus + plain, "p=tls-server-end-point,,", nil, nil},
		{"TLS, offered last", Login{Encrypted: true, EndpointHash: hash, Binding: "prefer"}, plain + plus, "p=tls-server-end-point,,", nil, nil},
		{"TLS, nothing else", Login{Encrypted: true, EndpointHash: hash}, plus, "p=tls-server-end-point,,", nil, nil},
		{"TLS, required", Login{Encrypted: true, EndpointHash: hash, Binding: "require", RequireAuth: only("scram-sha-256")}, plus + plain, "p=tls-server-end-point,,", nil, nil},
		{"TLS, disabled", Login{Encrypted: true, EndpointHash: hash, Binding: "disable"}, plus + plain, "n,,", nil, nil},
		{"TLS, disabled, not offered", Login{Encrypted: true, EndpointHash: hash, Binding: "disable"}, plain, "n,,", nil, nil},
		{"TLS, Ed25519", Login{Encrypted: true}, plus + plain, "n,,", nil, nil},
		{"TLS, Ed25519, not offered", Login{Encrypted: true}, plain, "n,,", nil, nil},
		{"hash without TLS", Login{EndpointHash: hash}, plain, "n,,", nil, nil},

		{"wrong password", Login{}, plain, "n,,", func(s *pgServer) { s.scram.password = "other" }, errBadLogin},
		{"man in the middle", Login{Encrypted: true, EndpointHash: []byte("another hash")}, plus + plain, "p=tls-server-end-point,,", nil, errBadLogin},
		{"final skipped", Login{}, plain, "n,,", func(s *pgServer) { s.skip = true },
			&AuthError{"SCRAM: AuthenticationOk without a verified signature of the server"}},
		{"bad signature", Login{}, plain, "n,,", func(s *pgServer) { s.scram.final = func(string) string { return "v=" + strings.Repeat("A", 43) + "=" } },
			&ProtocolError{badSignature}},
		{"server error", Login{}, plain, "n,,", func(s *pgServer) { s.scram.final = func(string) string { return "e=invalid-proof" } },
			&SCRAMError{"invalid-proof"}},
		{"wrong nonce", Login{}, plain, "n,,", func(s *pgServer) { s.scram.first = func(m string) string { return "r=x" + m[2:] } },
			&ProtocolError{wrongNonce}},
		{"same nonce", Login{}, plain, "n,,", func(s *pgServer) { s.scram.nonce = "" }, &ProtocolError{wrongNonce}},
		{"no iterations", Login{}, plain, "n,,", func(s *pgServer) {
			s.scram.first = func(m string) string { return strings.Replace(m, "i=10", "i=0", 1) }
		},
			&ProtocolError{wrongCount}},
	}
	for _, tt := range tests {
		s := &pgServer{scram: scramServer{password: "s3cret", salt: "\x00salt\xff", iterations: 10, nonce: "+server"}, offered: tt.offered, hash: string(hash)}
		if tt.lie != nil {
			tt.lie(s)
		}
		tt.login.Password = secret
		p := &peer{answer: s.answer}
		c := NewPG(p, p)
		authed, err := c.Login(t.Context(), tt.login)
		if authed != (tt.want == nil) || !isError(err, tt.want) {
			t.Errorf("%s: Login = %t, %v, want %v", tt.name, authed, err, tt.want)
		}
		if s.scram.gs2Header != tt.header || (s.mechanism == scramSHA256Plus) != strings.HasPrefix(tt.header, "p=") {
			t.Errorf("%s: Login chose %s with %q, want %q", tt.name, s.mechanism, s.scram.gs2Header, tt.header)
		}
		if err == nil {
			if got, err := c.Query("SELECT 1"); got != "1" || err != nil {
				t.Errorf("%s: Query = %q, %v, want 1", tt.name, got, err)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		in   error
		want string
	}{
		{errStartingUp, "FATAL 57P03: the database system is starting up"},
		{&PGError{"FATAL", "", "no"}, "FATAL: no"},
		{&PGError{"", "28000", "no"}, "28000: no"},
		{&PGError{Message: "could not fork"}, "could not fork"},
		{errMechanism("OAUTHBEARER"), "the server asks for SASL by OAUTHBEARER; supported are SCRAM-SHA-256 and, with a certificate to bind to, SCRAM-SHA-256-PLUS"},
		{&SCRAMError{"invalid-proof"}, "SCRAM: the server says invalid-proof"},
		{&IterationsError{Iterations: 2147483647}, "SCRAM key derivation of 2147483647 iterations"},
		{&RedisError{"NOAUTH Authentication required."}, "NOAUTH Authentication required."},
		{foreignToPG("HTTP"), "not PostgreSQL: it speaks HTTP"},
		{foreignToRedis(""), "not Redis: the answer is not of its protocol"},
	} {
		if got := tt.in.Error(); got != tt.want {
			t.Errorf("%#v.Error() = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestPGGreeted(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want bool
	}{
		{"", false},
		{"HTTP/1.1 400 Bad Request\r\n", false},
		{"Ecould not fork\n", false},
		{notice, true},
		{msg('E', startingUp), true},
		{authMsg(authCleartext, ""), true},
	} {
		p := &peer{unread: tt.in}
		c := NewPG(p, p)
		c.Login(t.Context(), app())
		if got := c.Greeted(); got != tt.want {
			t.Errorf("Greeted after %q = %t, want %t", tt.in, got, tt.want)
		}
	}
}
