package probe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var cutNameTests = []struct {
	in, name, rest string
	invalid        bool
}{
	{"redis://localhost", "", "redis://localhost", false},
	{"cache=redis://localhost", "cache", "redis://localhost", false},
	{"_a-1=x", "_a-1", "x", false},
	{"a=b=c", "a", "b=c", false},
	{"a=", "a", "", false},
	{"db=${URL}", "db", "${URL}", false},
	{"db=${file:/run/a@b}", "db", "${file:/run/a@b}", false},
	{"${A=B}", "", "${A=B}", false},
	{"http://h/?a=b", "", "http://h/?a=b", false},
	{"h:80?a=b", "", "h:80?a=b", false},
	{"h#a=b", "", "h#a=b", false},
	{"=redis://localhost", "", "redis://localhost", true},
	{"1a=redis://localhost", "", "1a=redis://localhost", true},
	{"-a=redis://localhost", "", "-a=redis://localhost", true},
	{"a b=redis://localhost", "", "a b=redis://localhost", true},
	{"a.b=redis://u:p@h", "", "a.b=redis://u:p@h", true},
	{"a b=c", "", "a b=c", false},
	{"c2VjcmV0==@host:6379", "", "c2VjcmV0==@host:6379", false}, // a password that was not encoded
	{"", "", "", false},
}

func TestCutName(t *testing.T) {
	for _, test := range cutNameTests {
		if name, rest, invalid := cutName(test.in); name != test.name || rest != test.rest || invalid != test.invalid {
			t.Errorf("cutName(%q) = %q, %q, %v, want %q, %q, %v", test.in, name, rest, invalid, test.name, test.rest, test.invalid)
		}
	}
}

// Names of checks, in the order in which they are written.
func TestParseNames(t *testing.T) {
	long := strings.Repeat("n", maxName)
	for _, test := range []struct {
		in   string // kind value, one a word pair
		want string // names, or the usage error
	}{
		{"tcp a:1", "tcp"},
		{"tcp a:1 tcp b:1 redis redis://c tcp d:1", "tcp tcp-2 redis tcp-3"},
		{"tcp x=a:1 tcp b:1 tcp y-2=c:1", "x tcp y-2"},
		{"tcp a:1 tcp tcp-2=b:1 tcp c:1", "--tcp: two checks are named tcp-2\ngive each check a name of its own, as in --tcp NAME=…"},
		{"tcp db=a:1 redis db=redis://b", "--redis: two checks are named db\ngive each check a name of its own, as in --redis NAME=…"},
		{"redis 1=redis://b", "--redis: the name before = is not valid\na name is a letter or _ and then letters, digits, _ and -, as in --redis main_db=…"},
		{"redis =redis://b", "--redis: the name before = is not valid\na name is a letter or _ and then letters, digits, _ and -, as in --redis main_db=…"},
		{"tcp " + long + "=a:1", long},
		{"tcp n" + long + "=a:1", "--tcp: the name before = is longer than 64 characters\nchoose a shorter one"},
	} {
		words := strings.Fields(test.in)
		var specs []Spec
		for i := 0; i < len(words); i += 2 {
			specs = append(specs, Spec{Type: words[i], Value: words[i+1], Source: "--" + words[i]})
		}
		checks, err := Parse(specs, Options{Timeout: patient})
		got := usageOf(t, err)
		if err == nil {
			var names []string
			for _, c := range checks {
				names = append(names, c.Name)
			}
			got = strings.Join(names, " ")
		}
		if got != test.want {
			t.Errorf("Parse(%q): %q, want %q", test.in, got, test.want)
		}
	}
}

// Targets as they are shown: what is not there is filled in where a user would ask, and no secret is in them.
var targetTests = []struct{ kind, in, want string }{
	{"http", "http://localhost", "http://localhost"},
	{"http", "HTTP://localhost:8080/health", "http://localhost:8080/health"},
	{"http", "https://app:s3cr3t@h/a?token=s3cr3t&b&c=d%20e&%66=g#frag", "https://h/a?token=***&***&c=***&***"},
	{"http", "http://[::1]:80/", "http://[::1]:80/"},
	{"http", "http://h?x=s3cr3t", "http://h?x=***"},
	{"http", "http://h/%40me/a%2Fb", "http://h/%40me/a%2Fb"},
	{"http", "http://h/?mail=a@b", "http://h/?mail=***"},
	{"http", "http+unix://%2Frun%2Fapp.sock/health?a=b", "http+unix://%2Frun%2Fapp.sock/health?a=***"},
	{"http", "http+unix://u:s3cr3t@%2Frun%2Fapp.sock", "http+unix://%2Frun%2Fapp.sock"},
	{"http", "http://b\u00fccher.example/\u202e", "http://b\u00fccher.example/%E2%80%AE"},
	{"http", "http://h/?\u202ea=b", `http://h/?\u202ea=***`},
	{"http", "http://h\xff/", `http://h\xff/`},
	{"http", "http://${HOST}:${PORT}/${PATH}/x?${NAME}=${VALUE}&y=${VALUE}", "http://db.local:8080/***/x?***&y=***"},
	{"http", "http://h/${EMPTY}health", "http://h/health"},
	{"http", "http://u:${EMPTY}@h/", "http://h/"},
	{"http", "${URL}", "http://h/p"},
	{"tcp", "localhost:80", "localhost:80"},
	{"tcp", "[::1]:80", "[::1]:80"},
	{"tcp", "[fe80::1%eth0]:80", "[fe80::1%eth0]:80"},
	{"tcp", "a_b-c.d:65535", "a_b-c.d:65535"},
	{"tcp", "${HOST}:${PORT}", "db.local:8080"},
	{"redis", "redis://", "redis://localhost:6379"},
	{"redis", "redis://s3cr3t@h", "redis://h:6379"},
	{"redis", "redis://:s3cr3t@h:1/2", "redis://h:1/2"},
	{"redis", "redis://app:s3cr3t@h", "redis://app@h:6379"},
	{"redis", "redis://s3cr3t:s3cr3t@h", "redis://s3cr3t@h:6379"}, // the name is shown anyway
	{"redis", "rediss://h?db=3&password=s3cr3t", "rediss://h:6379/3"},
	{"redis", "valkey://[::1]/0", "valkey://[::1]:6379"},
	{"redis", "VALKEYS://h/07", "valkeys://h:6379/7"},
	{"redis", "unix:///run/redis.sock", "unix:///run/redis.sock"},
	{"redis", "unix://app:s3cr3t@/run/redis.sock?db=1", "unix://app@/run/redis.sock?db=1"},
	{"redis", "redis://:${PW}@${HOST}:${PORT}/1", "redis://db.local:8080/1"},
	{"redis", "redis://${PW}@h", "redis://h:6379"},
	{"redis", "redis://${HOST}:${PW}@h", "redis://***@h:6379"},
	{"redis", "redis://${HOST}:pw@h/1", "redis://***@h:6379/1"},
	{"redis", "unix://u${HOST}:pw@/run/a%40b.sock", "unix://***@/run/a%40b.sock"},
	{"postgres", "postgres://${HOST}:${PW}@h", "postgres://***@h/***"},
	{"postgres", "postgres://${HOST}:pw@h/shop", "postgres://***@h/shop"},
	{"postgres", "postgres://h/shop?user=${HOST}&password=${PW}", "postgres://***@h/shop"},
	{"postgres", "postgres://app:${PW}@${HOST}/${HOST}", "postgres://app@db.local/db.local"},
	{"http", "${HOOK}", "http://h/hooks/***/***?id=***"},
	{"http", "http://h/?c2VjcmV0cGFzcw==", "http://h/?***"},
	{"redis", "redis://h?password=${PW}&db=1", "redis://h:6379/1"},
	{"postgres", "postgres://app:s3cr3t@h/shop", "postgres://app@h/shop"},
	{"postgres", "postgresql://app@h1:1,h2/?password=s3cr3t", "postgres://app@h1:1,h2/app"},
	{"postgres", "postgres://app:s3cr3t@%2Frun%2Fpg/shop?application_name=x", "postgres://app@%2Frun%2Fpg/shop"},
	{"postgres", "postgres://app:#?${PW}@h/shop", "postgres://app@h/shop"},
	{"postgres", "postgres://h/shop?user=app&password=${PW}&sslcert=", "postgres://app@h/shop"},
	{"postgres", "postgres://h?user=app&password=${PW}&passfile=/x", "postgres://app@h/app"}, // the / is the query's
	{"postgres", "postgres://app:${PW}@h1,h2", "postgres://app@h1,h2/app"},
}

// What is inserted is taken literally, whatever it holds.
var insertions = env{
	"HOST": "db.local", "PORT": "8080", "EMPTY": "", "PATH": "s3cr3t/../?#@", "NAME": "s3cr3t", "VALUE": "s3cr3t&=x",
	"PW": "s3cr3t@evil.example:1/x?y#z%41 ${HOST}\\", "URL": "http://u:s3cr3t@h/p", "HOOK": "http://h/hooks/T0123456/xYz%2F9876?id=1",
}

func TestTargets(t *testing.T) {
	for _, test := range targetTests {
		c, err := parseOne(Options{LookupEnv: insertions.lookup}, test.kind, test.in)
		if err != nil {
			t.Errorf("Parse(--%s %q): %q", test.kind, test.in, usageOf(t, err))
		} else if c.Target != test.want {
			t.Errorf("Parse(--%s %q): target %q, want %q", test.kind, test.in, c.Target, test.want)
		}
	}
}

// What a usage error says, behind "--kind name: ", and its hint.
var usageTests = []struct{ kind, in, want string }{
	{"http", "", "a URL begins with http:// or https://\nas in --http http://localhost:8080/health"},
	{"http", "localhost:8080/health", "a URL begins with http:// or https://\nwrite http://localhost:8080/health"},
	{"http", "localhost", "a URL begins with http:// or https://\nwrite http://localhost"},
	{"http", "[::1]:80", "a URL begins with http:// or https://\nwrite http://[::1]:80"},
	{"http", "localhost/x?token=MARK", "a URL begins with http:// or https://\nwrite http://localhost/x?…"},
	{"http", "user:MARK@h", "a URL begins with http:// or https://\nas in --http http://localhost:8080/health"},
	{"http", "h:MARK", "a URL begins with http:// or https://\nas in --http http://localhost:8080/health"},
	{"http", "${MARK}", "a URL begins with http:// or https://\nas in --http http://localhost:8080/health"},
	{"http", "h/${MARK}", "a URL begins with http:// or https://\nas in --http http://localhost:8080/health"},
	{"http", "redis://:MARK@h", "a redis:// URL belongs to --redis\nwrite --redis before it"},
	{"http", "MARK://h", "the scheme of the URL is not one of this check\nwrite http://, https:// or http+unix://"},
	{"http", "http://u:MA RK@h", space},
	{"http", "http://h/a MARK", space},
	{"http", "http://h --timeout MARK", space},
	{"http", "http://h/ ", space},
	{"http", "${SPACED}", space},
	{"tcp", "h:80 g:80", space},
	{"redis", "redis://h\tMARK", space},
	{"postgres", "postgres://h/d --timeout MARK", space},
	{"http", `"http://h/MARK"`, quote},
	{"redis", `'redis://:MARK@h'`, quote},
	{"tcp", `"`, quote},
	{"redis", "redis://:$MARK@h", dollar},
	{"redis", "redis://$MARK@h", dollar},
	{"redis", "redis://u:$${MARK}@h", dollar},
	{"redis", "redis://h?password=$MARK", dollar},
	{"http", "http://u:$MARK@h/", dollar},
	{"postgres", "postgres://u:$MARK@h/d", dollar},
	{"postgres", "postgres://u@h/d?password=$MARK", dollar},
	{"http", "${EMPTY}", empty},
	{"http", "http://${EMPTY}/", empty},
	{"http", "http://h:${EMPTY}/", empty},
	{"http", "http://u:p@${EMPTY}:80", empty},
	{"http", "${EMPTY}://h", empty},
	{"redis", "redis://${EMPTY}", empty},
	{"redis", "redis://:${MARK}@${EMPTY}/1", empty},
	{"postgres", "postgres://u@h,${EMPTY}/d", empty},
	{"tcp", "${EMPTY}:80", empty},
	{"tcp", "h:${EMPTY:-}", empty},
	{"http", "${UNSET:-}", strings.Replace(empty, "EMPTY", "UNSET", 1)},
	{"http", "${file:/dev/null}", "${file:/dev/null}: not a regular file\ncheck that the file is mounted and that the user of this container may read it"},
	{"http", "http://h/${UNSET:-${MARK}}", "${UNSET}: its default holds a brace\nwrite a default without braces, as in ${VAR:-default}"},
	{"http", "http://h/${MARK:-{}", "${MARK}: its default holds a brace\nwrite a default without braces, as in ${VAR:-default}"},
	{"http", "http://${UNSET:-MARK/x}/", "${UNSET}: it holds a character that no host or port has\na host or a port goes there; a whole URL can be inserted only as the whole value"},
	{"http", "http://u:MARK%zz@h", "the URL is not valid\na port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"},
	{"http", "http://u:MARK#1@h", "the URL is not valid\na port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"},
	{"http", "http://u:1#MARK@h", atSign},
	{"http", "http://u:1/MARK@h", atSign},
	{"http", "http://corp/bob:MARK@h/x", atSign},
	{"http", "http://MARK/x@h", atSign},
	{"http", "http://u:p@MARK/x@h", atSign},
	{"http", "http:///health", "the URL has no host\nas in http://localhost:8080/health"},
	{"http", "http://:80/", "the URL has no host\nas in http://localhost:8080/health"},
	{"http", "http://::1/", "the URL is not valid\na port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"},
	{"http", "http://h:0/", badPort},
	{"http", "http://h:65536/", badPort},
	{"http", "http://h:/MARK@x", badPort},
	{"http", "http+unix:///run/x.sock", "the socket's path must stand percent-encoded where a host would\nas in http+unix://%2Frun%2Fapp.sock/health"},
	{"http", "http+unix://run/x", "the socket's path must stand percent-encoded where a host would\nas in http+unix://%2Frun%2Fapp.sock/health"},
	{"http", "http://h/${", "a ${ without its }\nwrite ${VAR}, ${VAR:-default} or ${file:/path}"},
	{"http", "http://h/${MARK-}", "a ${…} that holds no variable's name\nwrite ${VAR}, ${VAR:-default} or ${file:/path}"},
	{"http", "http://h/${1A}", "a ${…} that holds no variable's name\nwrite ${VAR}, ${VAR:-default} or ${file:/path}"},
	{"http", "http://h/${}", "a ${…} that holds no variable's name\nwrite ${VAR}, ${VAR:-default} or ${file:/path}"},
	{"http", "http://u:${UNSET}@h", "${UNSET}: the variable is not set\nset it where healthcheck runs, or use ${file:/path}"},
	{"http", "http://u:${file:/no/such}@h", "${file:/no/such}: no such file or directory\ncheck that the file is mounted and that the user of this container may read it"},
	{"http", "http://u:${file:/dev}@h", "${file:/dev}: not a regular file\ncheck that the file is mounted and that the user of this container may read it"},
	{"http", "http://u:${file:/dev/zero}@h", "${file:/dev/zero}: not a regular file\ncheck that the file is mounted and that the user of this container may read it"},
	{"http", "http://${ODD}/", "${ODD}: it holds a character that no host or port has\na host or a port goes there; a whole URL can be inserted only as the whole value"},
	{"tcp", "", notHostPort},
	{"tcp", "localhost", notHostPort},
	{"tcp", ":80", notHostPort},
	{"tcp", "::1:80", notHostPort},
	{"tcp", "MARK@h:80", notHostPort},
	{"tcp", "u:MARK@h:80", notHostPort},
	{"tcp", "h:80/MARK", "the port is missing or not valid\na port is a number from 1 to 65535"},
	{"tcp", "h:", badPort},
	{"tcp", "h:http", badPort},
	{"tcp", "h:+80", badPort},
	{"tcp", "h:65536", badPort},
	{"tcp", "http://u:MARK@h", "a host and a port are wanted, not a URL\nas in --tcp localhost:5432, without a scheme"},
	{"tcp", "${ODD}:80", "${ODD}: it holds a character that no host or port has\na host or a port goes there; a whole URL can be inserted only as the whole value"},
	{"redis", "", "a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
	{"redis", "localhost:6379/1", "a URL begins with redis://, rediss:// or unix://\nwrite redis://localhost:6379/1"},
	{"redis", ":MARK@h", "a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
	{"redis", "MARK==@h", "a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
	{"redis", "${MARK}", "a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
	{"redis", "postgres://:MARK@h", "a postgres:// URL belongs to --postgres\nwrite --postgres before it"},
	{"redis", "MARK://h", "the scheme of the URL is not one of this check\nwrite redis://, rediss://, valkey://, valkeys:// or unix://"},
	{"redis", "redis://:MA/RK@h", "the URL is not valid\na port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"},
	{"redis", "redis://:1/MARK@h", redisAtSign},
	{"redis", "redis://h:x", "the URL is not valid\na port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"},
	{"redis", "redis://h:0", badPort},
	{"redis", "redis://h1:1,h2:2", "one host is wanted, not a list\ngive each server a check of its own"},
	{"redis", "redis://::1", "an IPv6 address stands between [ and ]\nas in redis://[::1]:6379"},
	{"redis", "redis://h1,h2", "one host is wanted, not a list\ngive each server a check of its own"},
	{"redis", "redis://:MARK@h1:1,h2:2/0", "one host is wanted, not a list\ngive each server a check of its own"},
	{"redis", "redis://h#", "a URL of Redis has no # part\npercent-encode a # as %23, or insert the password with ${VAR}"},
	{"redis", "redis://:1#MARK@h", "a URL of Redis has no # part\npercent-encode a # as %23, or insert the password with ${VAR}"},
	{"redis", "redis://h/x", "the database is not a number\nas in redis://localhost:6379/1"},
	{"redis", "redis://h/-1", "the database is not a number\nas in redis://localhost:6379/1"},
	{"redis", "redis://h/1/", "the database is not a number\nas in redis://localhost:6379/1"},
	{"redis", "redis://h/4294967296", "the database is not a number\nas in redis://localhost:6379/1"},
	{"redis", "redis://h/1?db=2", "the database in the path and the one in ?db= differ\nwrite it once"},
	{"redis", "redis://h?db=1&db=2", "db stands twice behind ?\nwrite it once"},
	{"redis", "redis://h?MARK=1", "an unknown parameter behind ?\nknown are db and password"},
	{"redis", "redis://h?db=1;x", "the part behind ? is not valid\nas in ?db=1"},
	{"redis", "redis://:MARK@h?password=other", "the password before @ and the one in ?password= differ\nwrite it once"},
	{"redis", "unix://", "the path of a socket is wanted\nas in unix:///run/redis.sock?db=1"},
	{"redis", "unix://run/redis.sock", "the path of a socket is wanted\nas in unix:///run/redis.sock?db=1"},
	// What cannot be meant, and would show a part of a password.
	{"redis", "redis://u:12?password=MARK@h/", redisAtSign},
	{"redis", "redis://u:MA?RK@h/", "the URL is not valid\na port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"},
	{"redis", "unix:///:MARK@/run/redis.sock", redisAtSign},
	{"redis", "unix:///run/redis.sock&password=MARK", inPath},
	{"redis", "unix:///run/redis.sock;password=MARK", inPath},
	{"redis", "redis://h&password=MARK", badHost},
	{"redis", "MARK", "a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
	{"redis", "MARK/MARK", "a URL begins with redis://, rediss:// or unix://\nas in --redis redis://localhost:6379"},
	{"http", "http://admin:47?MARK@h/", atSign},
	{"http", "http://admin:47/x?a=MARK@h/", atSign},
	{"http", "http://h/x?MARK@h/", atSign},
	{"http", "http://h/x&password=MARK", inPath},
	{"http", "http://h/x;a=b;token=MARK", inPath},
	{"http", "http://h;password=MARK", badHost},
	{"http", "http://${CREDS}@h/", colonInUser},
	{"http", "http://u%3AMARK@h/", colonInUser},
	{"postgres", "postgres://${CREDS}@h/d", colonInUser},
	{"postgres", "postgres://u%3AMARK@h/d", colonInUser},
	{"postgres", "postgres://h/d?user=u:MARK", colonInUser},
	{"postgres", "postgres://u@h/d&password=MARK", pgInPath},
	{"postgres", "postgres://u@h/d;password=MARK", pgInPath},
	{"postgres", "postgres://u@h&password=MARK", pgInPath},
	{"postgres", "postgres://u;password=MARK@h", pgInPath},

	{"postgres", "", "the URI: no scheme\nwrite postgres://user@host:5432/dbname"},
	{"postgres", "${MARK}", "the URI: no scheme\nwrite postgres://user@host:5432/dbname"},
	{"postgres", "postgresql+asyncpg://u:MARK@h/d", "scheme: names a driver\nleave out the + and the driver's name: postgresql://…"},
	{"postgres", "postgres://u:MARK/x@h/d", "the URI: an @ stands where the host or the database is\nwrite %40 for an @ in a user, password, host or database name, and %2F for a /"},
	{"postgres", "postgres://u:p@MARK@h/d", "the URI: an @ stands where the host or the database is\nwrite %40 for an @ in a user, password, host or database name, and %2F for a /"},
	{"postgres", "postgres://h/d?sslmode=never", "parameter sslmode: unknown value\nwrite one of disable, allow, prefer, require, verify-ca, verify-full"},
	{"postgres", "postgres://h/d?sslmode=verify-full", "sslmode=verify-full needs a CA to verify with\nadd sslrootcert=FILE or --tls-ca FILE, or sslrootcert=system for the CAs of this system"},
	{"postgres", "postgres://h/d?sslrootcert=/no/such", "sslrootcert /no/such: no such file or directory\ncheck the path, and that the user of this container may read it"},
	{"postgres", "postgres://h/d?sslcert=/no/such", "sslcert and sslkey: one without the other\ngive both, or a file that holds both twice"},
	{"postgres", "postgres://h/d?sslnegotiation=direct", "parameter sslnegotiation: direct is at odds with an sslmode that allows plain text\nadd sslmode=require, verify-ca or verify-full"},
}

const (
	space       = "the value holds a space\nwrite %20 for a space in a URL; other checks and options are words of their own, in a variable lines of their own"
	quote       = "the value begins with a quote\nleave out the quotes that are part of it: in a file of variables NAME=value, in YAML NAME: \"value\" or [\"--option\", \"value\"]"
	dollar      = "a user name or password begins with a $\nwrite ${VAR} to insert a variable; a $ that belongs to the password is written %24"
	empty       = "${EMPTY}: the variable is empty\nset it where healthcheck runs, or write a default as in ${VAR:-default}"
	atSign      = "an @ stands behind the host\npercent-encode what is special in user name and password, or insert them with ${VAR}; an @ in the path or query is written %40"
	redisAtSign = "an @ stands behind the host\nas in redis://user:password@localhost:6379 or unix://user:password@/run/redis.sock; percent-encode what is special in the password, or insert it with ${VAR}"
	inPath      = "a parameter stands in the path\nparameters begin with a ?"
	pgInPath    = "the URI: a parameter stands before the query\nbegin the query with a ?; in a name & is written %26, ; %3B, = %3D"
	badHost     = "the host holds a character that no host has\nparameters begin with a ?; percent-encode what is special in user name and password, or insert them with ${VAR}"
	colonInUser = "the user name holds a :, and there is no password\ninsert user and password one by one, as in ${USER}:${PASSWORD}@, or the whole URL with a single ${VAR}"
	badPort     = "the port is missing or not valid\na port is a number from 1 to 65535"
	notHostPort = "HOST:PORT is wanted\nas in --tcp localhost:5432 or --tcp [::1]:5432"
)

func TestUsageErrors(t *testing.T) {
	vars := env{"MARK": "MARK", "ODD": "a/b", "CREDS": "u:MARK", "EMPTY": "", "SPACED": "http://h/ MARK"}
	for _, test := range usageTests {
		_, err := parseOne(Options{LookupEnv: vars.lookup}, test.kind, test.in)
		got := usageOf(t, err)
		if want := "--" + test.kind + ": " + test.want; got != want {
			t.Errorf("Parse(--%s %q):\n got %q\nwant %q", test.kind, test.in, got, want)
		}
		if strings.Contains(strings.ReplaceAll(test.want, "${MARK", ""), "MARK") {
			t.Errorf("Parse(--%s %q): %q holds a secret", test.kind, test.in, got)
		}
	}
}

// Options that all checks share.
func TestOptionErrors(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("MARK"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{HTTPMethod: "GET MARK"}, "--http-method: not a method's name\nas in --http-method HEAD"},
		{Options{HTTPHeaders: []string{"MARK"}}, "--http-header: no name and colon in front\nas in --http-header 'Accept: application/json'"},
		{Options{HTTPHeaders: []string{"MA RK: x"}}, "--http-header: no name and colon in front\nas in --http-header 'Accept: application/json'"},
		{Options{HTTPHeaders: []string{": MARK"}}, "--http-header: no name and colon in front\nas in --http-header 'Accept: application/json'"},
		{Options{HTTPHeaders: []string{"X: ${UNSET}"}}, "--http-header X: ${UNSET}: the variable is not set\nset it where healthcheck runs, or use ${file:/path}"},
		{Options{HTTPHeaders: []string{"X: ${EMPTY}"}, LookupEnv: env{"EMPTY": ""}.lookup}, "--http-header X: ${EMPTY}: the variable is empty\nset it where healthcheck runs, or write a default as in ${VAR:-default}"},
		{Options{HTTPHeaders: []string{"X: ${MARK"}}, "--http-header X: a ${ without its }\nwrite ${VAR}, ${VAR:-default} or ${file:/path}"},
		{Options{HTTPHeaders: []string{"X: MARK\r\nY: z"}}, "--http-header X: a control character in the value\na header is one line of text"},
		{Options{HTTPStatus: "MARK"}, "--http-status: not a list of statuses and ranges\nas in --http-status 200-299,401"},
		{Options{HTTPStatus: "200,"}, "--http-status: not a list of statuses and ranges\nas in --http-status 200-299,401"},
		{Options{HTTPStatus: "299-200"}, "--http-status: not a list of statuses and ranges\nas in --http-status 200-299,401"},
		{Options{HTTPStatus: "99-1000"}, "--http-status: not a list of statuses and ranges\nas in --http-status 200-299,401"},
		{Options{HTTPBody: "(MARK"}, "--http-body: not a regular expression\nsee https://golang.org/s/re2syntax"},
		{Options{TLS: TLSOptions{CA: "/no/such"}}, "--tls-ca /no/such: no such file or directory\ncheck the path, and that the user of this container may read it"},
		{Options{TLS: TLSOptions{CA: junk}}, "--tls-ca " + junk + ": no certificate in the file\nit must hold one or more certificates in PEM"},
		{Options{TLS: TLSOptions{Key: junk}}, "--tls-cert and --tls-key: one without the other\ngive both, or a file that holds both twice"},
		{Options{TLS: TLSOptions{Cert: junk, Key: junk}}, "--tls-cert " + junk + ": no certificate in the file\nit must hold the client's certificate in PEM"},
	} {
		_, err := parseOne(test.o, "tcp", "h:1")
		if got := usageOf(t, err); got != test.want {
			t.Errorf("Parse(%+v):\n got %q\nwant %q", test.o, got, test.want)
		}
	}
}
