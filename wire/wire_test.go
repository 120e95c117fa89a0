package wire

import "testing"

// The table holds the shortest recognised form of each greeting, and that form less its last byte.
func TestRecognise(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"HTTP/", "HTTP"},
		{"HTTP", ""},
		{"SSH-", "SSH"},
		{"SSH", ""},
		{"\x15\x03", "TLS"},
		{"\x15", ""},
		{"\x16\x03", "TLS"},
		{"\x16", ""},
		{"E\x00\x00", "PostgreSQL"},
		{"E\x00", ""},
		{"R\x00\x00", "PostgreSQL"},
		{"R\x00", ""},
		{"-ERR ", "Redis"},
		{"-ERR", ""},
		{"-NOAUTH ", "Redis"},
		{"-NOAUTH", ""},
		{"-DENIED ", "Redis"},
		{"-DENIED", ""},
		{"ERROR\r", "memcached"},
		{"ERROR", ""},
		{"AMQP", "AMQP"},
		{"AMQ", ""},
		{"220 ", "SMTP or FTP"},
		{"220-", "SMTP or FTP"},
		{"220", ""},

		// MySQL sends a version in printable text, or an error whose code is below 0x2000.
		{"J\x00\x00\x00\x0a", "MySQL"},
		{"J\x00\x00\x00", ""},
		{"J\x00\x00\x00\x0a ", "MySQL"},
		{"J\x00\x00\x00\x0a\x1f", ""},
		{"J\x00\x00\x00\x0b5", ""},
		{"J\x00\x00\x01\x0a5", ""},
		{"J\x00\x01\x00\x0a5", ""},
		{"J\x00\x00\x00\xff\xff\x1f", "MySQL"},
		{"J\x00\x00\x00\xff\x00\x20", ""},
		{"J\x00\x00\x00\xff\xff", ""},
		{"E\x00\x00\x00\xff\x00\x20", "PostgreSQL"},
	} {
		if got := recognise([]byte(tt.in)); got != tt.want {
			t.Errorf("recognise(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	for _, g := range greetings {
		if len(g.prefix) > greetingSize {
			t.Errorf("greeting %q is longer than greetingSize, %d bytes", g.prefix, greetingSize)
		}
	}
}
