package probe

import "strings"

// knownTexts are standard messages of the servers that are checked. Each * matches a name or an
// address. The other words are never masked, since a mask would reveal that one of them is the
// password.
var knownTexts = []string{
	// Redis and Valkey, error replies without the leading -
	"DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode *",
	"DENIED Redis is running in protected mode because protected mode is enabled, no bind address was specified, no authentication password is requested to clients. In this mode *",
	"DENIED Redis is running in protected mode",
	"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
	"ERR Client sent AUTH, but no password is set",
	"ERR DB index is out of range",
	"ERR SELECT is not allowed in cluster mode",
	"ERR invalid DB index",
	"ERR invalid password",
	"ERR max number of clients + cluster connections reached",
	"ERR max number of clients reached",
	"ERR operation not permitted",
	"ERR wrong number of arguments for 'auth' command",
	"BUSY Redis is busy running a module command.",
	"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
	"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
	"BUSY Valkey is busy running a module command.",
	"BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
	"BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
	"CLUSTERDOWN Hash slot not served",
	"CLUSTERDOWN The cluster is down",
	"LOADING Redis is loading the dataset in memory",
	"LOADING Valkey is loading the dataset in memory",
	"MASTERDOWN Link with MASTER is down",
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
	"MASTERDOWN Link with MASTER is down and slave-serve-stale-data is set to 'no'.",
	"NOAUTH Authentication required.",
	"NOPERM this user has no permissions to run the '*' command",
	"NOPERM this user has no permissions to run the '*' command or its subcommand",
	"NOPERM User * has no permissions to run the '*' command",
	"NOREPLICAS Not enough good replicas to write.",
	"OOM command not allowed when used memory > 'maxmemory'.",
	"READONLY You can't write against a read only replica.",
	"READONLY You can't write against a read only slave.",
	"WRONGPASS invalid username-password pair",
	"WRONGPASS invalid username-password pair or user is disabled.",

	// PostgreSQL, messages without severity and SQLSTATE
	`"trust" authentication failed for user "*"`,
	`BSD authentication failed for user "*"`,
	`GSSAPI authentication failed for user "*"`,
	`Ident authentication failed for user "*"`,
	`LDAP authentication failed for user "*"`,
	`OAuth bearer authentication failed for user "*"`,
	`PAM authentication failed for user "*"`,
	`Peer authentication failed for user "*"`,
	`RADIUS authentication failed for user "*"`,
	`SSPI authentication failed for user "*"`,
	`certificate authentication failed for user "*"`,
	`password authentication failed for user "*"`,
	`authentication failed for user "*": host rejected`,
	`authentication failed for user "*": invalid authentication method`,
	`canceling authentication due to timeout`,
	`certificate authentication failed for user "*": client certificate contains no user name`,
	`connection requires a valid client certificate`,
	`database "*" does not exist`,
	`database "*" is not currently accepting connections`,
	`empty password returned by client`,
	`no PostgreSQL user name specified in startup packet`,
	`no pg_hba.conf entry for host "*", user "*", database "*", SSL encryption`,
	`no pg_hba.conf entry for host "*", user "*", database "*", SSL off`,
	`no pg_hba.conf entry for host "*", user "*", database "*", SSL on`,
	`no pg_hba.conf entry for host "*", user "*", database "*", no encryption`,
	`pg_hba.conf rejects connection for host "*", user "*", database "*", SSL encryption`,
	`pg_hba.conf rejects connection for host "*", user "*", database "*", SSL off`,
	`pg_hba.conf rejects connection for host "*", user "*", database "*", SSL on`,
	`pg_hba.conf rejects connection for host "*", user "*", database "*", no encryption`,
	`permission denied for database "*"`,
	`permission denied for database *`,
	`remaining connection slots are reserved for non-replication superuser connections`,
	`remaining connection slots are reserved for roles with privileges of the "pg_use_reserved_connections" role`,
	`remaining connection slots are reserved for roles with the SUPERUSER attribute`,
	`role "*" does not exist`,
	`role "*" is not permitted to log in`,
	`sorry, too many clients already`,
	`terminating connection due to administrator command`,
	`the database system is in recovery mode`,
	`the database system is not accepting connections`,
	`the database system is not yet accepting connections`,
	`the database system is shutting down`,
	`the database system is starting up`,
	`too many connections for database "*"`,
	`too many connections for role "*"`,

	// pgbouncer
	`SASL authentication failed`,
	`SSL required`,
	`auth failed`,
	`bouncer config error`,
	`certificate authentication failed`,
	`client_idle_timeout`,
	`client_login_timeout (server down)`,
	`client_login_timeout`,
	`database "*" is disabled`,
	`login rejected`,
	`no more connections allowed (max_client_conn)`,
	`no such database: *`,
	`no such user: *`,
	`password authentication failed`,
	`pgbouncer cannot connect to server`,
	`query_wait_timeout`,
	`server login has been failing, try again later (server_login_retry)`,
	`server login has been failing, cached error: * (server_login_retry)`,
	`unix socket login rejected`,
	`unsupported startup parameter: *`,

	// crypto/x509
	`certificate signed by unknown authority`,
}

// knownText reports whether s is a standard message of a server, and returns it with secrets masked
// only in its names.
func (r *redactor) knownText(s string) (text string, ok bool) {
	if s == "" {
		return "", false
	}
	for _, pattern := range knownTexts {
		if pattern[0] != s[0] {
			continue
		}
		if names, ok := matchNames(pattern, s); ok {
			return r.fillNames(pattern, names), true
		}
	}
	return "", false
}

// matchNames reports whether s is pattern with a text in place of each *, and returns the texts.
func matchNames(pattern, s string) (names []string, ok bool) {
	before, rest, more := strings.Cut(pattern, "*")
	if s, ok = strings.CutPrefix(s, before); !ok {
		return nil, false
	}
	for more {
		before, rest, more = strings.Cut(rest, "*")
		end := strings.Index(s, before)
		if !more {
			end = len(s) - len(before)
		}
		if end < 0 || s[end:end+len(before)] != before {
			return nil, false
		}
		names = append(names, s[:end])
		s = s[end+len(before):]
	}
	return names, s == ""
}

// fillNames puts the names in place of each *.
func (r *redactor) fillNames(pattern string, names []string) string {
	var b strings.Builder
	for _, name := range names {
		before, rest, _ := strings.Cut(pattern, "*")
		b.WriteString(before + r.redact(name))
		pattern = rest
	}
	return b.String() + pattern
}
