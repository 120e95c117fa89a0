package wire

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pgURIs are URIs that are accepted, with the parameters they hold, in the order of pgParams.
var pgURIs = []struct{ in, want string }{
	// nothing, and empty parts
	{"postgres://", ""},
	{"postgresql://", ""},
	{"postgres:///", ""},
	{"postgres://?", ""},
	{"postgres:///?", ""},
	{"postgres://@", ""},
	{"postgres://:@", ""},
	{"postgres://:", ""},
	{"postgres://@:/", ""},
	{"postgres://:@:/?", ""},
	{"postgres:///?host=", "host="},
	{"postgres://?user=&password=&dbname=&host=&port=&hostaddr=", "host= hostaddr= port= dbname= user= password="},

	// user and password
	{"postgres://app@", "user=app"},
	{"postgres://app:@", "user=app"},
	{"postgres://:pw@", "password=pw"},
	{"postgres://app:pw@", "user=app password=pw"},
	{"postgres://app:pw@db", "host=db user=app password=pw"},
	{"postgres://app:pw@db:5433/shop", "host=db port=5433 dbname=shop user=app password=pw"},
	{"postgresql://app:pw@db:5433/shop?sslmode=require", "host=db port=5433 dbname=shop user=app password=pw sslmode=require"},
	{"postgres://app@/shop", "dbname=shop user=app"},
	{"postgres://app@:5433", "port=5433 user=app"},
	{"postgres://app@?host=/run/pg", "host=/run/pg user=app"},
	{"postgres://app@/?host=/run/pg", "host=/run/pg user=app"},
	{"postgres://app@:5433/shop?host=/run/pg", "host=/run/pg port=5433 dbname=shop user=app"},
	{"postgres://@db", "host=db"},
	{"postgres://app:a#b@db", "host=db user=app password=a#b"},
	{"postgres://app:a?b@db", "host=db user=app password=a?b"},
	{"postgres://app:a?b#c?d=e@db/x?user=u", "host=db dbname=x user=u password=a?b#c?d=e"},
	{"postgres://app:?@db", "host=db user=app password=?"},
	{"postgres://app:a:b:c@db", "host=db user=app password=a:b:c"},
	{"postgres://app::@db", "host=db user=app password=:"},
	{"postgres://app:a[b]c@db", "host=db user=app password=a[b]c"},
	{"postgres://app:[@db", "host=db user=app password=["},
	{"postgres://app:a,b@db", "host=db user=app password=a,b"},
	{"postgres://app:a&b=c@db", "host=db user=app password=a&b=c"},
	{"postgres://app:a+b@db", "host=db user=app password=a+b"},
	{"postgres://app:p%40ss%2Fw%3A%25@db", "host=db user=app password=p@ss/w:%"},
	{"postgres://us%40er%3a:pw@db", "host=db user=us@er: password=pw"},
	{"postgres://a%2Fb%3Fc@db", "host=db user=a/b?c"},
	{"postgres://a,b@db", "host=db user=a,b"},
	{"postgres://a#b@db", "host=db user=a#b"},
	{"postgres://app:%E2%82%AC@db", "host=db user=app password=€"},
	{"postgres://app:€@db", "host=db user=app password=€"},
	{"postgres://app:%ff%FE@db", `host=db user=app password="\xff\xfe"`},
	{"postgres://app:%01@db", `host=db user=app password="\x01"`},
	{"postgres://app:a%20b@db", `host=db user=app password="a b"`},
	{"postgres://app:a b@db", `host=db user=app password="a b"`},
	{"postgres://app:%0d%0a@db", `host=db user=app password="\r\n"`},
	{"postgres://app:%2B@db", "host=db user=app password=+"},

	// one host
	{"postgres://db", "host=db"},
	{"postgres://db/", "host=db"},
	{"postgres://db:", "host=db"},
	{"postgres://db:/", "host=db"},
	{"postgres://db?", "host=db"},
	{"postgres://db/?", "host=db"},
	{"postgres://db:?", "host=db"},
	{"postgres://db:5433", "host=db port=5433"},
	{"postgres://db:5433/", "host=db port=5433"},
	{"postgres://db:5433?", "host=db port=5433"},
	{"postgres://db:1", "host=db port=1"},
	{"postgres://db:65535", "host=db port=65535"},
	{"postgres://db:%35433", "host=db port=5433"},
	{"postgres://db:05433", "host=db port=05433"},
	{"postgres://db:+5433", "host=db port=+5433"},
	{"postgres://db:%205433%20", `host=db port=" 5433 "`},
	{"postgres://:5433", "port=5433"},
	{"postgres://:5433/", "port=5433"},
	{"postgres://:5433/shop", "port=5433 dbname=shop"},
	{"postgres://:5433?host=/run/pg", "host=/run/pg port=5433"},
	{"postgres://:5433/shop?host=/run/pg", "host=/run/pg port=5433 dbname=shop"},
	{"postgres://10.0.0.5/shop", "host=10.0.0.5 dbname=shop"},
	{"postgres://%64b/shop", "host=db dbname=shop"},
	{"postgres://DB.Example.COM.", "host=DB.Example.COM."},
	{"postgres://a#b", "host=a#b"},
	{"postgres://a=b&c", "host=a=b&c"},
	{"postgres://b%C3%BCcher.example", "host=bücher.example"},
	{"postgres://db#frag/shop", "host=db#frag dbname=shop"},

	// IPv6
	{"postgres://[::1]", "host=::1"},
	{"postgres://[::1]/", "host=::1"},
	{"postgres://[::1]:", "host=::1"},
	{"postgres://[::1]?", "host=::1"},
	{"postgres://[::1]/shop", "host=::1 dbname=shop"},
	{"postgres://[::1]:5433/shop", "host=::1 port=5433 dbname=shop"},
	{"postgres://app:pw@[2001:db8::7]:5433/shop", "host=2001:db8::7 port=5433 dbname=shop user=app password=pw"},
	{"postgres://[fe80::1%25eth0]:5433", "host=fe80::1%eth0 port=5433"},
	{"postgres://[fe80::1%25]", "host=fe80::1%"}, // the resolver judges the zone
	{"postgres://[fe80::1%25%30]", "host=fe80::1%0"},
	{"postgres://[not:an:address]", "host=not:an:address"},
	{"postgres://[200z::1]", "host=200z::1"},
	{"postgres://[db]", "host=db"},
	{"postgres://[a/b]:1", "host=a/b port=1"},
	{"postgres://[a?b]", "host=a?b"},
	{"postgres://[[]", "host=["},
	{"postgres://db]", "host=db]"},
	{"postgres://%3A%3A1/", "host=::1"},
	{"postgres://d[b", "host=d[b"},

	// lists
	{"postgres://a,b", "host=a,b port=,"},
	{"postgres://a,b/shop", "host=a,b port=, dbname=shop"},
	{"postgres://a:1,b:2", "host=a,b port=1,2"},
	{"postgres://a:1,b", "host=a,b port=1,"},
	{"postgres://a,b:2", "host=a,b port=,2"},
	{"postgres://a:1,b,:3/", "host=a,b, port=1,,3"},
	{"postgres://app:pw@a:1,b:2/shop?target_session_attrs=primary", "host=a,b port=1,2 dbname=shop user=app password=pw target_session_attrs=primary"},
	{"postgres://[::1]:1,[::2]:2/", "host=::1,::2 port=1,2"},
	{"postgres://[::1],b:2,%2Frun", "host=::1,b,/run port=,2,"},
	{"postgres://,", "host=, port=,"},
	{"postgres://,,", "host=,, port=,,"},
	{"postgres://:1,:2", "host=, port=1,2"},
	{"postgres://,b", "host=,b port=,"},
	{"postgres://a,?sslmode=allow", "host=a, port=, sslmode=allow"},
	{"postgres://a%2Cb", "host=a,b"},
	{"postgres://a%2Cb:1", "host=a,b port=1"},
	{"postgres://a%2Cb:1%2c2", "host=a,b port=1,2"},
	{"postgres://[a,b]", "host=a,b"},
	{"postgres://a,b?port=5433", "host=a,b port=5433"},
	{"postgres://a,b?port=1,2", "host=a,b port=1,2"},
	{"postgres://?host=a,b", "host=a,b"},
	{"postgres://?host=a,b&port=5433", "host=a,b port=5433"},
	{"postgres://?host=a,b&port=1,2", "host=a,b port=1,2"},
	{"postgres://?host=::1,b&port=1,2", "host=::1,b port=1,2"},
	{"postgres://a,b?port=", "host=a,b port="},
	{"postgres://?port=1,2", "port=1,2"}, // for a PGHOST of two
	{"postgres://?hostaddr=10.0.0.5", "hostaddr=10.0.0.5"},
	{"postgres://db?hostaddr=10.0.0.5", "host=db hostaddr=10.0.0.5"},
	{"postgres://a,b?hostaddr=10.0.0.5,fd00::5", "host=a,b hostaddr=10.0.0.5,fd00::5 port=,"},
	{"postgres://a:1,b:2?hostaddr=,::1", "host=a,b hostaddr=,::1 port=1,2"},
	{"postgres://?hostaddr=10.0.0.5,10.0.0.6&port=1,2", "hostaddr=10.0.0.5,10.0.0.6 port=1,2"},
	{"postgres://?hostaddr=fe80::1%25z", "hostaddr=fe80::1%z"},
	{"postgres://db?hostaddr=fe80::1%25eth0", "host=db hostaddr=fe80::1%eth0"},

	// socket directories
	{"postgres://%2Fvar%2Frun%2Fpostgresql", "host=/var/run/postgresql"},
	{"postgres://%2frun%2fpg:5433/shop", "host=/run/pg port=5433 dbname=shop"},
	{"postgres://app:pw@%2Frun%2Fpg/shop", "host=/run/pg dbname=shop user=app password=pw"},
	{"postgres://?host=/run/pg", "host=/run/pg"},
	{"postgres:///shop?host=/run/pg", "host=/run/pg dbname=shop"},
	{"postgres:///shop?host=/run/pg&port=5433", "host=/run/pg port=5433 dbname=shop"},
	{"postgres:///?host=@abstract", "host=@abstract"},
	{"postgres://%40abstract/shop", "host=@abstract dbname=shop"},
	{"postgres://%2Frun,db:5433/shop", "host=/run,db port=,5433 dbname=shop"},

	// database
	{"postgres:///shop", "dbname=shop"},
	{"postgres://db/shop", "host=db dbname=shop"},
	{"postgres://db//shop", "host=db dbname=/shop"},
	{"postgres://db/a/b", "host=db dbname=a/b"},
	{"postgres://db/a%2Fb%3Fc%40d", "host=db dbname=a/b?c@d"},
	{"postgres://db/a:b,c", "host=db dbname=a:b,c"},
	{"postgres://db/shop#frag", "host=db dbname=shop#frag"},
	{"postgres://db/a=b&c", "host=db dbname=a=b&c"},
	{"postgres:///postgres%3A%2F%2Fother%2Fx", "dbname=postgres://other/x"},
	{"postgres:///?dbname=postgres://other/x", "dbname=postgres://other/x"},
	{"postgres:///?dbname=host%3Dother", "dbname=host=other"},

	// query: override, repeat, decode
	{"postgres://a:1/b?host=c&port=2&dbname=d&user=e&password=f", "host=c port=2 dbname=d user=e password=f"},
	{"postgres://u:p@a/b?user=&password=&dbname=", "host=a dbname= user= password="},
	{"postgres://db/?user=a&user=b", "host=db user=b"},
	{"postgres://db:99999/?port=5433", "host=db port=5433"},
	{"postgres://db?sslmode=nonsense&sslmode=require", "host=db sslmode=require"},
	{"postgres://db?u%73er=app", "host=db user=app"},
	{"postgres://db?%75%73%65%72=app", "host=db user=app"},
	{"postgres://db/shop?password=p?q", "host=db dbname=shop password=p?q"},
	{"postgres://db/shop?password=p@q/r:s", "host=db dbname=shop password=p@q/r:s"},
	{"postgres://db/shop?password=a+b", "host=db dbname=shop password=a+b"},
	{"postgres://db/shop?password=%3D%26%25", "host=db dbname=shop password==&%"},
	{"postgres://db?user=a&", "host=db user=a"},
	{"postgres://db?ssl=true", "host=db sslmode=require"},
	{"postgres://db?ss%6C=tru%65", "host=db sslmode=require"},
	{"postgres://db?ssl=true&sslmode=verify-full", "host=db sslmode=verify-full"},
	{"postgres://db?sslmode=verify-full&ssl=true", "host=db sslmode=require"},

	// each parameter and value
	{"postgres://?sslmode=disable", "sslmode=disable"},
	{"postgres://?sslmode=allow", "sslmode=allow"},
	{"postgres://?sslmode=prefer", "sslmode=prefer"},
	{"postgres://?sslmode=verify-ca", "sslmode=verify-ca"},
	{"postgres://?sslmode=verify-full&sslrootcert=/ca.pem", "sslmode=verify-full sslrootcert=/ca.pem"},
	{"postgres://?sslrootcert=system", "sslrootcert=system"},
	{"postgres://?sslrootcert=&sslcert=&sslkey=&passfile=", "passfile= sslrootcert= sslcert= sslkey="},
	{"postgres://?sslcert=/c.pem&sslkey=/k.pem", "sslcert=/c.pem sslkey=/k.pem"},
	{"postgres://?sslnegotiation=postgres", "sslnegotiation=postgres"},
	{"postgres://?sslnegotiation=direct&sslmode=require", "sslmode=require sslnegotiation=direct"},
	{"postgres://?channel_binding=disable", "channel_binding=disable"},
	{"postgres://?channel_binding=prefer", "channel_binding=prefer"},
	{"postgres://?channel_binding=require", "channel_binding=require"},
	{"postgres://?require_auth=", "require_auth="},
	{"postgres://?require_auth=scram-sha-256", "require_auth=scram-sha-256"},
	{"postgres://?require_auth=password,md5,gss,sspi,oauth,none", "require_auth=password,md5,gss,sspi,oauth,none"},
	{"postgres://?require_auth=!password,!md5", "require_auth=!password,!md5"},
	{"postgres://?target_session_attrs=any", "target_session_attrs=any"},
	{"postgres://?target_session_attrs=read-write", "target_session_attrs=read-write"},
	{"postgres://?target_session_attrs=read-only", "target_session_attrs=read-only"},
	{"postgres://?target_session_attrs=standby", "target_session_attrs=standby"},
	{"postgres://?target_session_attrs=prefer-standby", "target_session_attrs=prefer-standby"},
	{"postgres://?connect_timeout=10", "connect_timeout=10"},
	{"postgres://?connect_timeout=0", "connect_timeout=0"},
	{"postgres://?connect_timeout=-1", "connect_timeout=-1"},
	{"postgres://?connect_timeout=%2010%20", `connect_timeout=" 10 "`},
	{"postgres://?connect_timeout=2147483647", "connect_timeout=2147483647"},
	{"postgres://?passfile=/run/secrets/pgpass", "passfile=/run/secrets/pgpass"},
	{"postgres://?application_name=my%20app&options=-c%20geqo%3Doff", `application_name="my app" options="-c geqo=off"`},
	{"postgres://?options=", "options="},
	{"postgres://?service=shop", "service=shop"},
	{"postgres://?ssl_min_protocol_version=tlsv1.3&ssl_max_protocol_version=", "ssl_min_protocol_version=tlsv1.3 ssl_max_protocol_version="},
	{"postgres://?sslcrl=a&sslcrldir=b&sslpassword=c&sslsni=1&requirepeer=root&gssencmode=prefer",
		"sslpassword=c sslcrl=a sslcrldir=b sslsni=1 requirepeer=root gssencmode=prefer"},
	{"postgres://?keepalives=1&keepalives_idle=9&keepalives_interval=9&keepalives_count=9&tcp_user_timeout=0&client_encoding=auto",
		"client_encoding=auto keepalives=1 keepalives_idle=9 keepalives_interval=9 keepalives_count=9 tcp_user_timeout=0"},
	{"postgres://?fallback_application_name=x&sslcompression=0&krbsrvname=a&gsslib=b&replication=database",
		"fallback_application_name=x sslcompression=0 krbsrvname=a gsslib=b replication=database"},
	{"postgres://?sslcertmode=require&gssdelegation=1&load_balance_hosts=random", "sslcertmode=require gssdelegation=1 load_balance_hosts=random"},
	{"postgres://?min_protocol_version=3.0&max_protocol_version=latest", "min_protocol_version=3.0 max_protocol_version=latest"},
}

// uriFields prints parameters as the tables hold them.
func uriFields(values map[string]string) string {
	var list []string
	for _, p := range pgParams {
		v, ok := values[p.name]
		if !ok {
			continue
		}
		if q := strconv.Quote(v); strings.ContainsAny(v, " \\") || q != `"`+v+`"` {
			v = q
		}
		list = append(list, p.name+"="+v)
	}
	return strings.Join(list, " ")
}

func TestParsePGURI(t *testing.T) {
	for _, tt := range pgURIs {
		u, err := ParsePGURI(tt.in)
		if err != nil {
			t.Errorf("ParsePGURI(%q) = %v, want %q", tt.in, err, tt.want)
			continue
		}
		if got := uriFields(u.values); got != tt.want {
			t.Errorf("ParsePGURI(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// What libpq does with a URI that ParsePGURI refuses.
const (
	refuses  = "refuses"  // when it parses
	connects = "connects" // refuses when it connects
	accepts  = "accepts"  // does not refuse: we alone do
	unasked  = "unasked"  // the libpq at hand may be too old to know
)

var badPGURIs = []struct{ in, want, libpq string }{
	// scheme
	{"", "the URI: no scheme", unasked},
	{"db:5432/shop", "the URI: no scheme", unasked},
	{"app:hunter-2@db/shop", "the URI: no scheme", unasked},
	{"host=db dbname=shop", "the URI: keyword=value pairs are not a URI", unasked},
	{"postgres:/db", "the URI: no scheme", unasked},
	{"postgres", "the URI: no scheme", unasked},
	{"postgre://db", "scheme: not PostgreSQL's", refuses},
	{"pg://db", "scheme: not PostgreSQL's", refuses},
	{"http://db", "scheme: not PostgreSQL's", refuses},
	{"hunter-2://db", "scheme: not PostgreSQL's", refuses},
	{"://db", "scheme: not PostgreSQL's", refuses},
	{" postgres://db", "scheme: not PostgreSQL's", refuses},
	{"Postgres://db", "scheme: not in lower case", refuses},
	{"POSTGRESQL://db", "scheme: not in lower case", refuses},
	{"postgresql+asyncpg://app:pw@db/shop", "scheme: names a driver", refuses},
	{"postgres+psycopg2://db", "scheme: names a driver", refuses},
	{"jdbc:postgresql://db/shop", "scheme: jdbc: before it", refuses},

	// hosts
	{"postgres://[::1", "host 1: [ without a ]", refuses},
	{"postgres://[", "host 1: [ without a ]", refuses},
	{"postgres://[::1/db", "host 1: [ without a ]", refuses},
	{"postgres://[]", "host 1: nothing between [ and ]", refuses},
	{"postgres://a,[]:1", "host 2: nothing between [ and ]", refuses},
	{"postgres://[::1]z", "host 1: neither a port nor a / follows the ]", refuses},
	{"postgres://[::1]5432", "host 1: neither a port nor a / follows the ]", refuses},
	{"postgres://[::1]]", "host 1: neither a port nor a / follows the ]", refuses},
	{"postgres://[fe80::1%eth0]", "host: a % without two hexadecimal digits after it", refuses},

	// percent-encoding
	{"postgres://%", "host: a % without two hexadecimal digits after it", refuses},
	{"postgres://%4", "host: a % without two hexadecimal digits after it", refuses},
	{"postgres://%zz", "host: a % without two hexadecimal digits after it", refuses},
	{"postgres://%4g", "host: a % without two hexadecimal digits after it", refuses},
	{"postgres://%+4", "host: a % without two hexadecimal digits after it", refuses},
	{"postgres://a%2,b0", "host: a % without two hexadecimal digits after it", refuses},
	{"postgres://db:%5/", "port: a % without two hexadecimal digits after it", refuses},
	{"postgres://a%00b", "host: %00 is not allowed", refuses},
	{"postgres://app%00:pw@db", "user: %00 is not allowed", refuses},
	{"postgres://app:hunter-2%@db", "password: a % without two hexadecimal digits after it", refuses},
	{"postgres://app:hunter-2%00@db", "password: %00 is not allowed", refuses},
	{"postgres://db/%xx", "dbname: a % without two hexadecimal digits after it", refuses},
	{"postgres://db?dbname=%XX", "parameter 1 of the query: a % without two hexadecimal digits after it", refuses},
	{"postgres://db?user=a&%u=b", "parameter 2 of the query: a % without two hexadecimal digits after it", refuses},

	// query
	{"postgres://db?user", "parameter 1 of the query: has no =", refuses},
	{"postgres://db?user=a&hunter-2", "parameter 2 of the query: has no =", refuses},
	{"postgres://db?&user=a", "parameter 1 of the query: has no =", refuses},
	{"postgres://db?user=a&&port=1", "parameter 2 of the query: has no =", refuses},
	{"postgres://db?&", "parameter 1 of the query: has no =", refuses},
	{"postgres://db?user=a=b", "parameter 1 of the query: has more than one =", refuses},
	{"postgres://db?user==", "parameter 1 of the query: has more than one =", refuses},
	{"postgres://db?=", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://db?uzer=a", "parameter uzer: unknown", refuses},
	{"postgres://db?u%7aer=a", "parameter uzer: unknown", refuses},
	{"postgres://db?USER=a", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://db?pool_max_conns=4", "parameter pool_max_conns: unknown", refuses},
	{"postgres://db?pgbouncer=true", "parameter pgbouncer: unknown", refuses},
	{"postgres://db?keepalive=1", "parameter keepalive: unknown", refuses},
	{"postgres://db?sslpassword=hunter&two=x", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://db?gssencmode=require", "parameter gssencmode: require: encryption by GSSAPI is not supported", accepts},
	{"postgres://db?gssencmode=maybe", "parameter gssencmode: unknown value", connects},
	{"postgres://db?sslsni=2", "parameter sslsni: unknown value", accepts},
	{"postgres://db?ssl_min_protocol_version=TLSv1.4", "parameter ssl_min_protocol_version: unknown value", connects},
	{"postgres://db?ssl_max_protocol_version=SSLv3", "parameter ssl_max_protocol_version: unknown value", connects},
	{"postgres://db?requiressl=1", "parameter requiressl: unknown", accepts},
	{"postgres://db? user=a", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://db?" + strings.Repeat("a", maxIdentifier) + "=b", "parameter " + strings.Repeat("a", maxIdentifier) + ": unknown", refuses},
	{"postgres://db?" + strings.Repeat("a", maxIdentifier+1) + "=b", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://db?password=hunter&two=x", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://db?ssl=false", "parameter ssl: may only be true", refuses},
	{"postgres://db?ssl=True", "parameter ssl: may only be true", refuses},
	{"postgres://db?ssl=", "parameter ssl: may only be true", refuses},

	// values
	{"postgres://127.0.0.1:0", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:65536", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:-1", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:postgres", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:5432x", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:99999999999", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:%20", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:1:2", "port of host 1: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1:1,127.0.0.1:x", "port of host 2: not a number from 1 to 65535", connects},
	{"postgres://127.0.0.1?port=1,2", "port: 2 ports for 1 hosts", connects},
	{"postgres://a,b,c?port=1,2", "port: 2 ports for 3 hosts", connects},
	{"postgres://?host=a,b&port=1,2,3", "port: 3 ports for 2 hosts", connects},
	{"postgres://a,b?hostaddr=127.0.0.1", "hostaddr: 1 addresses for 2 hosts", connects},
	{"postgres://a?hostaddr=127.0.0.1,127.0.0.1", "hostaddr: 2 addresses for 1 hosts", connects},
	{"postgres://?hostaddr=db", "hostaddr 1: not an IP address", connects},
	{"postgres://?hostaddr=127.0.0.1,[::1]", "hostaddr 2: not an IP address", connects},
	{"postgres://?hostaddr=fe80::1%25", "hostaddr 1: not an IP address", connects},
	{"postgres://?hostaddr=127.0.0.1%25lo", "hostaddr 1: not an IP address", connects},
	{"postgres://?hostaddr=127.1", "hostaddr 1: not an IP address", accepts}, // inet_aton's notation
	{"postgres://?sslmode=", "parameter sslmode: unknown value", connects},
	{"postgres://?sslmode=on", "parameter sslmode: unknown value", connects},
	{"postgres://?sslmode=Require", "parameter sslmode: unknown value", connects},
	{"postgres://?sslmode=%20require", "parameter sslmode: unknown value", connects},
	{"postgres://?channel_binding=", "parameter channel_binding: unknown value", connects},
	{"postgres://?channel_binding=on", "parameter channel_binding: unknown value", connects},
	{"postgres://?target_session_attrs=", "parameter target_session_attrs: unknown value", connects},
	{"postgres://?target_session_attrs=master", "parameter target_session_attrs: unknown value", connects},
	{"postgres://127.0.0.1:1?connect_timeout=", "parameter connect_timeout: not a whole number of seconds", connects},
	{"postgres://127.0.0.1:1?connect_timeout=5s", "parameter connect_timeout: not a whole number of seconds", connects},
	{"postgres://127.0.0.1:1?connect_timeout=1.5", "parameter connect_timeout: not a whole number of seconds", connects},
	{"postgres://127.0.0.1:1?connect_timeout=2147483648", "parameter connect_timeout: not a whole number of seconds", connects},
	{"postgres://?sslnegotiation=", "parameter sslnegotiation: unknown value", unasked},
	{"postgres://?sslnegotiation=tls", "parameter sslnegotiation: unknown value", unasked},
	{"postgres://?require_auth=scram", "parameter require_auth: unknown method", unasked},
	{"postgres://?require_auth=md5,", "parameter require_auth: unknown method", unasked},
	{"postgres://?require_auth=!", "parameter require_auth: unknown method", unasked},
	{"postgres://?require_auth=md5,!password", "parameter require_auth: some methods have a !, others do not", unasked},
	{"postgres://?require_auth=!md5,password", "parameter require_auth: some methods have a !, others do not", unasked},
	{"postgres://?require_auth=md5,password,md5", "parameter require_auth: a method stands in it twice", unasked},
	{"postgres://?require_auth=!none,!none", "parameter require_auth: a method stands in it twice", unasked},

	// part of a password where it would be shown
	{"postgres://app:hunt@er-2@db", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://app@x@db", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://app:12/er-2@db/shop", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://app:/hunter-2@db/shop", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://app:hunt@e/r-2@db/shop", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://app:pw@db:1@x", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://db?password=hunt@er-2", "the URI: the query stands before an @", accepts},
	{"postgres://db:5433?password=hunt@er-2", "the URI: the query stands before an @", accepts},
	{"postgres://db:5433?sslmode=require&password=hunt@er-2", "the URI: the query stands before an @", accepts},
	{"postgres://[::1]?application_name=a@b", "the URI: the query stands before an @", accepts},
	{"postgres://app:12?er=/x@db", "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://app:hunter/2@db", "the URI: an @ stands where the host or the database is", accepts},
	{"postgres://app:hunter/2", "port of host 1: not a number from 1 to 65535", unasked},

	{"postgres://db\x00", "the URI: holds a zero byte", unasked},
	{"postgres://?=" + strings.Repeat("a", MaxPGURI-len("postgres://?=")), "parameter: unknown, and its name not fit to show", refuses},
	{"postgres://?=" + strings.Repeat("a", MaxPGURI-len("postgres://?=")+1), "the URI: longer than 65536 bytes", refuses},
}

func TestParsePGURIErrors(t *testing.T) {
	for _, tt := range badPGURIs {
		u, err := ParsePGURI(tt.in)
		var uriErr *PGURIError
		if !errors.As(err, &uriErr) {
			t.Errorf("ParsePGURI(%.100q) = %v, %v, want %q", tt.in, u, err, tt.want)
			continue
		}
		if got := err.Error(); got != tt.want {
			t.Errorf("ParsePGURI(%.100q) = %q, want %q", tt.in, got, tt.want)
		}
		if uriErr.Hint == "" || strings.Contains(fmt.Sprintf("%+v", *uriErr), "hunter") {
			t.Errorf("ParsePGURI(%.100q) = %+v, want a hint, and nothing of the password", tt.in, *uriErr)
		}
	}
}

func TestPGURISchemeHints(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"Postgres://db", "write postgres://…"},
		{"postgresql+asyncpg://db", "leave out the + and the driver's name: postgresql://…"},
		{"postgres+psycopg2://db", "leave out the + and the driver's name: postgres://…"},
		{"jdbc:postgresql://db", "leave out jdbc: and write postgresql://…"},
		{"db:5432", "write postgres://user@host:5432/dbname"},
		{"host=db", "write postgres://user@host:5432/dbname"},
		{"mysql://db", "write postgres://user@host:5432/dbname"},
	} {
		_, err := ParsePGURI(tt.in)
		var uriErr *PGURIError
		if !errors.As(err, &uriErr) || uriErr.Hint != tt.want {
			t.Errorf("ParsePGURI(%q) = %+v, want hint %q", tt.in, err, tt.want)
		}
	}
}

func TestPGURIString(t *testing.T) {
	for _, tt := range []struct{ in, want, target string }{
		{"postgresql://", "postgres://", "postgres://"},
		{"postgres://app:pw@db:5433/shop?sslmode=require", "postgres://app@db:5433/shop?sslmode=require", "postgres://app@db:5433/shop"},
		{"postgres://db?user=app&password=pw", "postgres://app@db", "postgres://app@db"},
		{"postgres://:pw@db", "postgres://db", "postgres://db"},
		{"postgres://[fe80::1%25eth0]:1", "postgres://[fe80::1%25eth0]:1", "postgres://[fe80::1%25eth0]:1"},
		{"postgres://a:1,b,[::1]:3/", "postgres://a:1,b,[::1]:3", "postgres://a:1,b,[::1]:3"},
		{"postgres://?host=a,b&port=5433", "postgres://?host=a,b&port=5433", "postgres://a:5433,b:5433"},
		{"postgres://?host=a,b", "postgres://?host=a,b", "postgres://a,b"},
		{"postgres://?hostaddr=::1", "postgres://?hostaddr=::1", "postgres://[::1]"},
		{"postgres:///shop?host=/run/pg", "postgres://%2Frun%2Fpg/shop", "postgres://%2Frun%2Fpg/shop"},
		{"postgres://?user=&host=&port=&dbname=", "postgres://?host=&port=&dbname=&user=", "postgres://"},
		{"postgres://a%40b:pw@db/c%40d?application_name=e%40f", "postgres://a%40b@db/c%40d?application_name=e%40f", "postgres://a%40b@db/c%40d"},
		{"postgres://?port=1,2", "postgres://?port=1,2", "postgres://"},
		{"postgres://db:%205433", "postgres://db:%205433", "postgres://db:5433"},
	} {
		u, err := ParsePGURI(tt.in)
		if err != nil {
			t.Errorf("ParsePGURI(%q) = %v", tt.in, err)
			continue
		}
		if got := u.String(); got != tt.want {
			t.Errorf("String(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if got := u.Target(); got != tt.target {
			t.Errorf("Target(%q) = %q, want %q", tt.in, got, tt.target)
		}
	}
}

func TestPGURIHosts(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"postgres://", "tcp :5432"},
		{"postgres://db", "tcp db:5432"},
		{"postgres://:5433", "tcp :5433"},
		{"postgres://[::1]:5433", "tcp [::1]:5433"},
		{"postgres://[fe80::1%25eth0]", "tcp [fe80::1%eth0]:5432"},
		{"postgres://a:1,b,:3/", "tcp a:1; tcp b:5432; tcp :3"},
		{"postgres://a,b?port=5433", "tcp a:5433; tcp b:5433"},
		{"postgres://a,b?port=", "tcp a:5432; tcp b:5432"},
		{"postgres://a:1,b:2?hostaddr=,::1", "tcp a:1; tcp [::1]:2"},
		{"postgres://%2Frun?hostaddr=10.0.0.5", "tcp 10.0.0.5:5432"},
		{"postgres://?hostaddr=10.0.0.5,10.0.0.6&port=1,2", "tcp 10.0.0.5:1; tcp 10.0.0.6:2"},
		{"postgres://?host=/run/pg", "unix /run/pg/.s.PGSQL.5432"},
		{"postgres://%2Frun%2Fpg:5433", "unix /run/pg/.s.PGSQL.5433"},
		{"postgres://%40pg", "unix @pg/.s.PGSQL.5432"},
	} {
		u, err := ParsePGURI(tt.in)
		if err != nil {
			t.Errorf("ParsePGURI(%q) = %v", tt.in, err)
			continue
		}
		hosts, err := u.Hosts()
		if err != nil {
			t.Errorf("Hosts(%q) = %v", tt.in, err)
		}
		var list []string
		for _, h := range hosts {
			network, address := h.Address()
			list = append(list, network+" "+address)
		}
		if got := strings.Join(list, "; "); got != tt.want {
			t.Errorf("Hosts(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestPGURISetDefault(t *testing.T) {
	for _, tt := range []struct{ in, param, value, want string }{
		{"postgres://", "host", "a,b", "host=a,b"},
		{"postgres://db", "host", "a,b", "host=db"},
		{"postgres://?host=", "host", "a", "host="},
		{"postgres://", "user", "", ""},
		{"postgres://", "sslmode", "", ""},
		{"postgres://", "password", "pw", "password=pw"},
		{"postgres://:pw@", "password", "other", "password=pw"},
		{"postgres://a,b", "port", "5433", "host=a,b port=,"}, // as in libpq: the ports are given, as two empty ones
		{"postgres://", "sslmode", "on", "parameter sslmode: unknown value"},
		{"postgres://?sslmode=require", "sslmode", "on", "parameter sslmode: unknown value"},
		{"postgres://", "port", "x", "port of host 1: not a number from 1 to 65535"},
		{"postgres://", "user", "a\x00b", "parameter user: holds a zero byte"},
		{"postgres://", "ssl", "true", "parameter ssl: may only be true"},
		{"postgres://", "PGHOST", "db", "parameter: unknown, and its name not fit to show"},
	} {
		u, err := ParsePGURI(tt.in)
		if err != nil {
			t.Errorf("ParsePGURI(%q) = %v", tt.in, err)
			continue
		}
		got := ""
		if err := u.SetDefault(tt.param, tt.value); err != nil {
			got = err.Error()
		} else {
			got = uriFields(u.values)
		}
		if got != tt.want {
			t.Errorf("SetDefault(%q, %q, %q) = %q, want %q", tt.in, tt.param, tt.value, got, tt.want)
		}
	}
	var zero PGURI
	if err := zero.SetDefault("user", "app"); err != nil || zero.Get("user") != "app" {
		t.Errorf("SetDefault of a zero PGURI = %v, %q, want %q", err, zero.Get("user"), "app")
	}
}

func TestPGURICheck(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"postgres://", ""},
		{"postgres://?sslnegotiation=postgres", ""},
		{"postgres://?sslnegotiation=direct&sslmode=require", ""},
		{"postgres://?sslnegotiation=direct&sslrootcert=system", ""},
		{"postgres://?sslnegotiation=direct", "parameter sslnegotiation: direct is at odds with an sslmode that allows plain text"},
		{"postgres://?sslnegotiation=direct&sslmode=disable", "parameter sslnegotiation: direct is at odds with an sslmode that allows plain text"},
		{"postgres://?sslrootcert=system&sslmode=verify-full", ""},
		{"postgres://?sslrootcert=system&sslmode=verify-ca", "parameter sslrootcert: system is at odds with an sslmode other than verify-full"},
		{"postgres://?port=1,2", "port: 2 ports for 1 hosts"},
	} {
		u, err := ParsePGURI(tt.in)
		if err != nil {
			t.Errorf("ParsePGURI(%q) = %v", tt.in, err)
			continue
		}
		got := ""
		if err := u.Check(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("Check(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestPGURIAllowsAuth(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "password md5 gss sspi scram-sha-256 oauth none"},
		{"md5", "md5"},
		{"none", "none"},
		{"scram-sha-256,none", "scram-sha-256 none"},
		{"!password", "md5 gss sspi scram-sha-256 oauth none"},
		{"!none,!password,!md5", "gss sspi scram-sha-256 oauth"},
	} {
		var u PGURI
		if err := u.SetDefault("require_auth", tt.in); err != nil {
			t.Errorf("SetDefault(require_auth, %q) = %v", tt.in, err)
			continue
		}
		allowed := slices.DeleteFunc(slices.Clone(authMethods), func(m string) bool { return !u.AllowsAuth(m) })
		if got := strings.Join(allowed, " "); got != tt.want {
			t.Errorf("AllowsAuth(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestPGURIConnectTimeout(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration
	}{
		{"", 0}, {"0", 0}, {"-3", 0}, {"1", time.Second}, {" 10 ", 10 * time.Second}, {"2147483647", 2147483647 * time.Second},
	} {
		var u PGURI
		if err := u.SetDefault("connect_timeout", tt.in); err != nil {
			t.Errorf("SetDefault(connect_timeout, %q) = %v", tt.in, err)
		}
		if got := u.ConnectTimeout(); got != tt.want {
			t.Errorf("ConnectTimeout(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
}
