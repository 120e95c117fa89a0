package probe

import (
	"strings"

	"alfred/healthcheck/wire"
)

// An environment is Options, checked, with their files read: what every check of one command line shares.
type environment struct {
	lookup func(string) (string, bool)
	http   httpSetup
	tls    tlsSetup
	opts   TLSOptions // as given, for what a postgres URL leaves out
}

func (o Options) prepare() (*environment, error) {
	env := &environment{lookup: o.LookupEnv, opts: o.TLS}
	if env.lookup == nil {
		env.lookup = func(string) (string, bool) { return "", false }
	}
	var err error
	if env.tls, err = o.TLS.load("--tls-ca", "--tls-cert", "--tls-key", showPath); err != nil {
		return nil, err
	}
	if env.http, err = env.prepareHTTP(o); err != nil {
		return nil, err
	}
	return env, nil
}

// get is an environment variable's value; an empty one counts as unset.
func (env *environment) get(name string) string {
	value, _ := env.lookup(name)
	return value
}

// insert replaces the references in a text that is no URL, a header's value.
func (env *environment) insert(text string) (result string, secrets []string, err error) {
	list, err := pieces(text)
	for _, p := range list {
		if p.isRef {
			if p.text, err = env.resolve(p.name); err != nil {
				return "", nil, err
			}
			secrets = append(secrets, p.text)
		}
		result += p.text
	}
	if result == "" && len(list) > 0 {
		return "", nil, emptyReference(list[0].name)
	}
	return result, secrets, err
}

// schemes are the URL schemes of which an error may repeat the name, and the option that takes them.
var schemes = map[string]string{
	"http": "--http", "https": "--http", "http+unix": "--http",
	"redis": "--redis", "rediss": "--redis", "valkey": "--redis", "valkeys": "--redis", "unix": "--redis",
	"postgres": "--postgres", "postgresql": "--postgres",
}

// wrongScheme is the error for a URL of another scheme than an option takes.
func wrongScheme(kind, scheme, want string) error {
	if option := schemes[scheme]; option != "" && option != "--"+kind {
		return Usagef("write "+option+" before it", "a %s:// URL belongs to %s", scheme, option)
	}
	return Usagef("write "+want, "the scheme of the URL is not one of this check")
}

// hintURL is the hint for a value without a scheme: the URL that was meant, if it can be nothing but a host with a port or localhost,
// and perhaps a path, else an example. A word alone may be a password.
func hintURL(scheme string, x expanded, example string) string {
	value, _, hasQuery := strings.Cut(x.text, "?")
	authority, path, _ := strings.Cut(value, "/")
	host, port, hasPort := authority, "", false
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host, port, hasPort = authority[:i], authority[i+1:], true
	}
	isHost := host == "localhost" || hasPort && wire.ConsistsOf(host, "._:[]-") && checkPort(port, true) == nil
	if hasPort && checkPort(port, true) != nil {
		isHost = false
	}
	if x.refs || !isHost || path != "" && !wire.ConsistsOf(path, "._~/-") || looksLikeToken(path) {
		return "as in " + example
	}
	if hasQuery {
		value += "?…"
	}
	return "write " + scheme + value
}

// looksLikeToken reports whether a word of a URL may be a secret: long, and not made of lower-case letters alone, as the words of
// people are.
func looksLikeToken(word string) bool {
	return len(word) >= minToken && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz._~/-") != ""
}

// checkSpaces refuses a space. In a URI of PostgreSQL libpq takes one, except in front of what must be the next option.
func checkSpaces(kind, value string) error {
	if strings.Contains(value, " -") || kind != "postgres" && strings.ContainsAny(value, " \t\r\n") {
		return Usagef("write %20 for a space in a URL; other checks and options are words of their own, in a variable lines of their own",
			"the value holds a space")
	}
	return nil
}

// checkHost refuses what no host holds, but the rest of a password or a parameter does. The host is shown.
func checkHost(host string) error {
	if strings.ContainsAny(host, "&;=!$'()*+,\"`{}|\\^") {
		return Usagef("parameters begin with a ?; percent-encode what is special in user name and password, or insert them with ${VAR}",
			"the host holds a character that no host has")
	}
	return nil
}

// checkPath refuses a path in which a parameter for a secret stands, as it does if the ? before it was forgotten. The path is shown.
func checkPath(path string) error {
	for i := range len(path) {
		if path[i] != '&' && path[i] != ';' {
			continue
		}
		name, _, ok := strings.Cut(path[i+1:], "=")
		if ok && secretName(name) {
			return Usagef("parameters begin with a ?", "a parameter stands in the path")
		}
	}
	return nil
}
