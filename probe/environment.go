package probe

import (
	"regexp"
	"strings"
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
	if env.tls, err = o.TLS.load("--tls-ca", "--tls-cert", "--tls-key"); err != nil {
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
	result = reference.ReplaceAllStringFunc(text, func(ref string) string {
		value, e := env.resolve(ref[len("${") : len(ref)-len("}")])
		if e != nil && err == nil {
			err = e
		}
		secrets = append(secrets, value)
		return value
	})
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
		return usage("write "+option+" before it", "a %s:// URL belongs to %s", scheme, option)
	}
	return usage("write "+want, "the scheme of the URL is not one of this check")
}

// plainTarget is a host with perhaps a port and a path, and nothing in which a secret could hide.
var plainTarget = regexp.MustCompile(`^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`)

// meant is the hint for a value without a scheme: the URL meant where it can be told, else an example.
func meant(scheme, value, example string) string {
	value, _, hasQuery := strings.Cut(value, "?")
	if !plainTarget.MatchString(value) {
		return "as in " + example
	}
	if hasQuery {
		value += "?…"
	}
	return "write " + scheme + value
}
