package probe

import (
	"errors"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"alfred/healthcheck/wire"
)

// An expanded value is a check's value after ${VAR}, ${VAR:-default} and ${file:…} were replaced.
type expanded struct {
	text    string
	refs    bool     // something was inserted
	whole   bool     // all of it was inserted
	user    bool     // something was inserted in the name of the user
	secrets []string // what was inserted where secrets stand, in user-info and query
	inPath  []string // what was inserted in the path
}

// A piece of a value is plain text, or a reference: ${VAR}, ${VAR:-default} or ${file:/path}.
type piece struct {
	text  string // as written
	name  string // what stands between ${ and }
	isRef bool
}

// pieces splits a value. Its error is a ${ without its }.
func pieces(value string) (list []piece, err error) {
	for value != "" {
		start := strings.Index(value, "${")
		if start < 0 {
			return append(list, piece{text: value}), nil
		}
		length := strings.IndexByte(value[start:], '}') + 1
		if length == 0 {
			return nil, Usagef(referenceForms, "a ${ without its }")
		}
		if start > 0 {
			list = append(list, piece{text: value[:start]})
		}
		ref := value[start : start+length]
		list = append(list, piece{text: ref, name: ref[len("${") : length-1], isRef: true})
		value = value[start+length:]
	}
	return list, nil
}

// referenceForms is the hint for a reference that is malformed.
const referenceForms = "write ${VAR}, ${VAR:-default} or ${file:/path}"

// expand replaces the references in the value of a check. Which characters delimit the parts of a URL is decided before
// anything is inserted, so that nothing inserted can move them:
//
//   - inside user-info and query values it is taken literally, whatever it holds;
//   - inside a path too, where "/" keeps its meaning;
//   - elsewhere (scheme, host, port) it may hold only what a host and port hold;
//   - a value that is one reference and nothing else is replaced as a whole, and then read like one on the command line.
func (env *environment) expand(kind, value string) (expanded, error) {
	list, err := pieces(value)
	if err != nil {
		return expanded{}, err
	}
	if len(list) == 1 && list[0].isRef {
		text, err := env.resolve(list[0].name)
		if err == nil && text == "" {
			err = emptyReference(list[0].name)
		}
		return expanded{text: text, refs: true, whole: true}, err
	}
	// The same length with nothing in the references that could be taken for a delimiter.
	var blank strings.Builder
	for _, p := range list {
		if p.isRef {
			p.text = strings.Repeat("x", len(p.text))
		}
		blank.WriteString(p.text)
	}
	masked := blank.String()
	userinfo, path, query := splitURL(kind, masked)
	if beginsWithDollar(value[userinfo[0]:userinfo[1]], value[query:]) {
		return expanded{}, Usagef("write ${VAR} to insert a variable; a $ that belongs to the password is written %24", "a user name or password begins with a $")
	}
	var result expanded
	at := 0
	for _, p := range list {
		text := p.text
		if p.isRef {
			if text, err = env.resolve(p.name); err != nil {
				return expanded{}, err
			}
			result.refs = true
			inHost := at < path && (at < userinfo[0] || at >= userinfo[1])
			switch {
			case text == "" && inHost && isWholePart(masked, at, at+len(p.text)):
				return expanded{}, emptyReference(p.name)
			case text == "":
			case userinfo[0] <= at && at < userinfo[1], at >= query:
				result.secrets = append(result.secrets, text)
				result.user = result.user || isUser(masked, userinfo, at)
				text = wire.PercentEncode(text, "")
			case at >= path:
				result.inPath = append(result.inPath, text)
				text = wire.PercentEncode(text, "/")
			case !wire.ConsistsOf(text, "._:,[]-"):
				return expanded{}, Usagef("a host or a port goes there; a whole URL can be inserted only as the whole value", "%s: it holds a character that no host or port has", showReference(p.name))
			}
		}
		result.text += text
		at += len(p.text)
	}
	return result, nil
}

// beginsWithDollar reports whether a password that is written out begins with a $, as $PASS does if no shell replaces it. userinfo
// and query are parts of the value as it was written.
func beginsWithDollar(userinfo, query string) bool {
	dollar := func(s string) bool { return strings.HasPrefix(s, "$") && !strings.HasPrefix(s, "${") }
	_, password, _ := strings.Cut(userinfo, ":")
	if dollar(userinfo) || dollar(password) {
		return true
	}
	for pair := range strings.SplitSeq(strings.TrimPrefix(query, "?"), "&") {
		if name, value, _ := strings.Cut(pair, "="); secretName(name) && dollar(value) {
			return true
		}
	}
	return false
}

// isWholePart reports whether s[from:to] is a whole host or port.
func isWholePart(s string, from, to int) bool {
	return (from == 0 || strings.IndexByte("/@,:[", s[from-1]) >= 0) && (to == len(s) || strings.IndexByte("/?#,:]", s[to]) >= 0)
}

// emptyReference is the error for a reference that stands for nothing where something is needed.
func emptyReference(name string) error {
	if strings.HasPrefix(name, "file:") {
		return Usagef("write the value into the file", "%s: the file is empty", showReference(name))
	}
	return Usagef("set it where healthcheck runs, or write a default as in ${VAR:-default}", "%s: the variable is empty", showReference(name))
}

// showReference is a reference as an error shows it: without the default, which may be a secret.
func showReference(name string) string {
	if !strings.HasPrefix(name, "file:") {
		name, _, _ = strings.Cut(name, ":-")
	}
	return "${" + escapeUnprintable(name) + "}"
}

// isUser reports whether the name of the user is at a place of a URL: before the : in user-info, or in the parameter user.
func isUser(s string, userinfo [2]int, at int) bool {
	if at < userinfo[1] {
		return !strings.Contains(s[userinfo[0]:at], ":")
	}
	name, _, _ := strings.Cut(s[strings.LastIndexAny(s[:at], "?&")+1:], "=")
	return name == "user" || name == "username"
}

// splitURL finds where in a URL user-info stands, and where its path and its query begin. For postgres that is by libpq's
// rules, where # and ? may stand in a password; otherwise by RFC 3986's.
func splitURL(kind, s string) (userinfo [2]int, path, query int) {
	path, query = len(s), len(s)
	start := strings.Index(s, "://")
	if start < 0 {
		return
	}
	start += len("://")
	rest := s[start:]
	authority := strings.IndexAny(rest, "/?#")
	if kind == "postgres" {
		authority = 0
		if at := strings.IndexAny(rest, "@/"); at >= 0 && rest[at] == '@' {
			userinfo = [2]int{start, start + at}
			authority = at + 1
		}
		if i := strings.IndexAny(rest[authority:], "/?"); i >= 0 {
			authority += i
		} else {
			authority = len(rest)
		}
	} else {
		if authority < 0 {
			authority = len(rest)
		}
		if at := strings.LastIndexByte(rest[:authority], '@'); at >= 0 {
			userinfo = [2]int{start, start + at}
		}
	}
	path = start + authority
	if i := strings.IndexByte(s[path:], '?'); i >= 0 {
		query = path + i
	}
	return
}

// resolve returns what a reference stands for: an environment variable, its default if it is unset or empty, or a file's content
// without its last line end.
func (env *environment) resolve(ref string) (string, error) {
	path, isFile := strings.CutPrefix(ref, "file:")
	if !isFile {
		name, fallback, hasFallback := strings.Cut(ref, ":-")
		if !isIdentifier(name, "") {
			return "", Usagef(referenceForms, "a ${…} that holds no variable's name")
		}
		if strings.ContainsAny(fallback, "{}") {
			return "", Usagef("write a default without braces, as in ${VAR:-default}", "%s: its default holds a brace", showReference(ref))
		}
		text, ok := env.lookup(name)
		switch {
		case text == "" && hasFallback:
			return fallback, nil
		case !ok:
			return "", Usagef("set it where healthcheck runs, or use ${file:/path}", "%s: the variable is not set", showReference(ref))
		}
		return text, nil
	}
	content, err := readRegularFile(path, maxFile)
	if err != nil {
		return "", Usagef("check that the file is mounted and that the user of this container may read it", "%s: %v", showReference(ref), err)
	}
	text := strings.TrimSuffix(string(content), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

// reason is an error of the os package without the path, which the caller has named.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// maskQuery is the query of x with every value masked, as in a target that is shown.
func (x *expanded) maskQuery(raw string) string {
	if raw == "" {
		return ""
	}
	var pairs []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || !ok || plain != name {
			name = "" // not of the form name=value: all of it may be a secret
		}
		if len(name) >= minToken && strings.Trim(value, "=") == "" {
			name = "" // perhaps not a name, but a token in base64
		}
		if name == "" || slices.ContainsFunc(x.secrets, func(s string) bool { return strings.Contains(name, s) }) {
			pairs = append(pairs, mask)
		} else {
			pairs = append(pairs, name+"="+mask)
		}
	}
	return "?" + strings.Join(pairs, "&")
}
