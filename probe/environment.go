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

// hintURL is the hint for a value without a scheme: the URL that was meant, where it is a host with perhaps a port and a path and has
// nothing in which a secret could hide, else an example.
func hintURL(scheme string, x expanded, example string) string {
	value, _, hasQuery := strings.Cut(x.text, "?")
	authority, path, _ := strings.Cut(value, "/")
	host, port, hasPort := authority, "", false
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host, port, hasPort = authority[:i], authority[i+1:], true
	}
	if x.refs || !wire.ConsistsOf(host, "._:[]-") || hasPort && checkPort(port, true) != nil || path != "" && !wire.ConsistsOf(path, "._~/-") {
		return "as in " + example
	}
	if hasQuery {
		value += "?…"
	}
	return "write " + scheme + value
}
