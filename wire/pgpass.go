package wire

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// The password file, PostgreSQL documentation 34.16, one entry a line:
//
//	hostname:port:database:username:password
//
// Each of the first four fields may be a lone *, which matches anything. A backslash takes the character after
// it literally, so that : and \ can stand in a field. A line that begins with # is a comment.
// What follows a fifth colon is ignored. The first line that matches counts.

const (
	// maxPassfile is how much of a password file is read, in bytes. One with a line for
	// each of 10,000 databases fits.
	maxPassfile = 1 << 20

	// maxPassfileLine is the longest line that may match, in bytes with its newline. A longer line
	// is an error if it matches, and is skipped otherwise. Tokens that cloud services issue as
	// passwords reach about 4 KiB.
	maxPassfileLine = 16 << 10
)

// A PassfileKey says whose password to look for.
type PassfileKey struct {
	Host     string // the host as given, or its hostaddr where no host is; a socket directory keeps its / or @
	Port     string // empty means 5432
	Database string
	User     string

	// SocketDir is the directory that an empty Host stands for. It and an empty Host match
	// lines for localhost, as in libpq; other directories match their own path.
	SocketDir string
}

// A PassfileError says what is wrong with a password file. It holds nothing of the file.
type PassfileError struct {
	Line   int // counted from 1
	Reason string
}

func (e *PassfileError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// LookupPassword returns the password of the first line in a password file that matches, "" where none
// does. It reads no further than that line, and at most 1 MiB. Its error is a *PassfileError or r's own.
// That others may read the file is for the caller to find: libpq then ignores it.
func LookupPassword(r io.Reader, key PassfileKey) (string, error) {
	if key.Database == "" || key.User == "" {
		return "", nil
	}
	if key.Host == "" || key.Host == key.SocketDir {
		key.Host = "localhost"
	}
	if key.Port == "" {
		key.Port = fmt.Sprint(DefaultPGPort)
	}
	br := bufio.NewReaderSize(r, maxPassfileLine)
	size := 0
	for n := 1; ; n++ {
		b, err := br.ReadSlice('\n')
		size += len(b)
		password, matches := key.match(strings.TrimRight(string(b), "\r\n"))
		if err == bufio.ErrBufferFull && matches {
			return "", &PassfileError{n, fmt.Sprintf("longer than %d bytes", maxPassfileLine)}
		}
		for err == bufio.ErrBufferFull && size <= maxPassfile {
			b, err = br.ReadSlice('\n')
			size += len(b)
		}
		switch {
		case size > maxPassfile:
			return "", &PassfileError{n, fmt.Sprintf("the file is larger than %d bytes", maxPassfile)}
		case err != nil && err != io.EOF:
			return "", fmt.Errorf("line %d: %w", n, err)
		case matches:
			return password, nil
		}
		if err == io.EOF {
			return "", nil
		}
	}
}

// match returns the password of a line that matches.
func (k PassfileKey) match(line string) (password string, ok bool) {
	if strings.HasPrefix(line, "#") {
		return "", false
	}
	rest := line
	for _, want := range []string{k.Host, k.Port, k.Database, k.User} {
		if rest, ok = matchField(rest, want); !ok {
			return "", false
		}
	}
	var b strings.Builder
	for i := 0; i < len(rest) && rest[i] != ':'; i++ {
		if rest[i] == '\\' && i+1 < len(rest) {
			i++
		}
		b.WriteByte(rest[i])
	}
	return b.String(), true
}

// matchField returns what follows the first field of a line and its colon, if the field is want or a lone *. As
// in libpq (fe-connect.c, pwdfMatchesString) a colon of want may stand there without a backslash:
// the line ::1:5432:shop:app:secret is found for ::1.
func matchField(line, want string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(line, "*:"); ok {
		return rest, true
	}
	for i := range len(want) {
		line = strings.TrimPrefix(line, `\`)
		if line == "" || line[0] != want[i] {
			return "", false
		}
		line = line[1:]
	}
	return strings.CutPrefix(line, ":")
}

// isSocketDir reports whether a host is a socket directory, in the file system or abstract (PostgreSQL
// documentation 34.1.2, host).
func isSocketDir(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@")
}
