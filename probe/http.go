package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"alfred/healthcheck/wire"
)

const (
	// maxBody is how much of a body is read, in bytes.
	maxBody = 64 << 10
	// maxHeader is how much of an answer's header is read, in bytes.
	maxHeader = 64 << 10
	// maxRedirects is how many redirects are followed, as Kubernetes' probes do.
	maxRedirects = 10
	// minToken is the least length of a word that may be a token, in bytes: a mask over "a" or "verbose" would spoil every text.
	minToken = 8
)

var (
	errNotHTTP = &wire.ProtocolError{What: "the answer is not HTTP"}
	errHeader  = &wire.ProtocolError{What: "the answer's header is malformed"}
	errBody    = &wire.ProtocolError{What: "the answer's body is malformed"}

	errTLS = &wire.ForeignError{Want: "HTTP", Got: "TLS"}

	errLongHeader = &wire.ProtocolError{What: "the answer's header is longer than " + strconv.Itoa(maxHeader>>10) + " KiB"}
)

// An httpSetup is the --http-* options, checked.
type httpSetup struct {
	method  string
	header  http.Header
	host    string // the Host header, where one is given
	secrets []string
	encoded []string      // of which the encodings are secret
	status  []statusRange // nil: 2xx
	body    *regexp.Regexp
}

type statusRange struct{ from, to int }

// isToken is RFC 9110's token (section 5.6.2), which a method and a header's name are.
func isToken(s string) bool { return wire.ConsistsOf(s, "!#$%&'*+-.^_`|~") }

// prepareHTTP checks the --http-* options. Whole headers may be secrets: no error shows one.
func (env *environment) prepareHTTP(o Options) (h httpSetup, err error) {
	h = httpSetup{method: cmp.Or(o.HTTPMethod, http.MethodGet), header: http.Header{}}
	if !isToken(h.method) {
		return h, Usagef("as in --http-method HEAD", "--http-method: not a method's name")
	}
	h.header.Set("User-Agent", o.UserAgent)
	for _, line := range o.HTTPHeaders {
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if !ok || !isToken(name) {
			return h, Usagef("as in --http-header 'Accept: application/json'", "--http-header: no name and colon in front")
		}
		var inserted []string
		value, inserted, err = env.insert(strings.TrimSpace(value))
		if err != nil {
			return h, Within("--http-header "+name, err)
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return h, Usagef("a header is one line of text", "--http-header %s: a control character in the value", name)
		}
		h.secrets = append(h.secrets, inserted...)
		if secretName(name) {
			whole, encoded := headerSecrets(name, value)
			h.secrets, h.encoded = append(h.secrets, whole...), append(h.encoded, encoded...)
		}
		if strings.EqualFold(name, "Host") {
			h.host = value
			continue
		}
		if textproto.CanonicalMIMEHeaderKey(name) == "User-Agent" {
			h.header.Del(name)
		}
		h.header.Add(name, value)
	}
	if h.status, err = parseStatusRanges(o.HTTPStatus); err != nil {
		return h, err
	}
	if o.HTTPBody != "" {
		if h.body, err = regexp.Compile(o.HTTPBody); err != nil {
			return h, Usagef("see https://golang.org/s/re2syntax", "--http-body: not a regular expression")
		}
	}
	return h, nil
}

// secretName reports whether a header or query parameter of this name usually holds a secret.
func secretName(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains([]string{"code", "jwt", "pass", "pw", "pwd", "sid", "sig"}, name) ||
		slices.ContainsFunc([]string{"auth", "cookie", "token", "key", "secret", "session", "passw", "credential", "signature"},
			func(part string) bool { return strings.Contains(name, part) })
}

// headerSecrets is a secret header's value, and those parts of it that may be echoed alone: in an Authorization what stands behind
// the word Bearer or Basic, the password in that, a cookie's value. encoded is what is a secret only in base64.
func headerSecrets(name, value string) (list, encoded []string) {
	list = []string{value}
	scheme := strings.HasSuffix(strings.ToLower(name), "authorization")
	fields := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" \t,;", r) })
	for i, field := range fields {
		_, v, ok := strings.Cut(field, "=")
		if i == 0 && len(fields) > 1 && !ok && scheme {
			continue
		}
		list = append(list, field)
		if len(v) >= 4 {
			list = append(list, strings.Trim(v, `"`))
		}
		if plain, err := base64.StdEncoding.DecodeString(field); err == nil {
			if _, password, ok := strings.Cut(string(plain), ":"); ok {
				list = append(list, password)
				encoded = append(encoded, string(plain))
			}
		}
	}
	return list, encoded
}

// atInQuery reports whether an @ in the query of a URL may be the end of its user-info: http://admin:47?11@host/. In
// http://host/path?mail=a@b it cannot.
func atInQuery(u *url.URL) bool {
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		before, _, ok := strings.Cut(pair, "@")
		if ok && (u.Path == "" || !strings.Contains(before, "=")) {
			return true
		}
	}
	return (u.Port() != "" || u.User != nil) && strings.Contains(u.RawQuery, "@")
}

// errColonInUser is for what was inserted or encoded as the user, and is user and password.
var errColonInUser = Usagef("insert user and password one by one, as in ${USER}:${PASSWORD}@, or the whole URL with a single ${VAR}",
	"the user name holds a :, and there is no password")

// parseStatusRanges reads "200-299,401".
func parseStatusRanges(s string) (list []statusRange, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 100 || b > 999 || a > b {
			return nil, Usagef("as in --http-status 200-299,401", "--http-status: not a list of statuses and ranges")
		}
		list = append(list, statusRange{a, b})
	}
	return list, nil
}

func (h *httpSetup) accepts(status int) bool {
	if h.status == nil {
		return status >= 200 && status <= 299
	}
	return slices.ContainsFunc(h.status, func(r statusRange) bool { return r.from <= status && status <= r.to })
}

// parseHTTP reads the value of --http: http, https, or http+unix with the socket's path percent-encoded as host.
func parseHTTP(env *environment, c *Check, x expanded) error {
	scheme, rest, ok := strings.Cut(x.text, "://")
	if !ok {
		return Usagef(hintURL("http://", x, "--http http://localhost:8080/health"), "a URL begins with http:// or https://")
	}
	scheme = strings.ToLower(scheme)
	socket := ""
	switch scheme {
	case "http", "https":
	case "http+unix":
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		authority := rest[:end]
		at := strings.LastIndexByte(authority, '@') + 1
		path, err := url.PathUnescape(authority[at:])
		if err != nil || !strings.HasPrefix(path, "/") {
			return Usagef("as in http+unix://%2Frun%2Fapp.sock/health", "the socket's path must stand percent-encoded where a host would")
		}
		socket = path
		rest = authority[:at] + socketHost + rest[end:]
	default:
		return wrongScheme("http", scheme, "http://, https:// or http+unix://")
	}
	u, err := url.Parse(strings.TrimSuffix(scheme, "+unix") + "://" + rest)
	if err != nil { // never shown: it holds the URL
		return Usagef(badURL, "the URL is not valid")
	}
	if u.Hostname() == "" {
		return Usagef("as in http://localhost:8080/health", "the URL has no host")
	}
	if err := checkHost(u.Host); err != nil {
		return err
	}
	if err := checkPort(u.Port(), u.Port() != "" || strings.HasSuffix(u.Host, ":")); err != nil {
		return err
	}
	path := u.EscapedPath()
	if strings.Contains(path+u.Fragment, "@") || atInQuery(u) { // user-info ended before it was meant to
		return Usagef("percent-encode what is special in user name and password, or insert them with ${VAR}; an @ in the path or query is written %40", "an @ stands behind the host")
	}
	if err := checkPath(path); err != nil {
		return err
	}
	u.Fragment, u.RawFragment = "", ""
	for _, inserted := range x.inPath { // a webhook's token, say
		path = strings.ReplaceAll(path, wire.PercentEncode(inserted, "/"), mask)
	}
	c.redact.add(x.inPath...)
	if x.whole { // so may be part of a URL that was inserted
		segments := strings.Split(path, "/")
		for i, segment := range segments {
			if looksLikeToken(segment) {
				plain, _ := url.PathUnescape(segment)
				c.redact.add(segment, plain)
				segments[i] = mask
			}
		}
		path = strings.Join(segments, "/")
	}
	host := u.Host
	if socket != "" {
		host = wire.PercentEncode(socket, "")
	}
	c.Target = escapeUnprintable(scheme + "://" + host + path + x.maskQuery(u.RawQuery))

	c.redact.add(env.http.secrets...)
	c.redact.addEncoded(env.http.encoded...)
	c.redact.show(u.Hostname())
	if u.User != nil {
		name := u.User.Username()
		if password, _ := u.User.Password(); password != "" {
			c.redact.add(password)
			c.redact.addEncoded(name + ":" + password)
		} else if strings.Contains(name, ":") {
			return errColonInUser
		} else if name != "" {
			c.redact.add(name, name+":") // a token alone
		}
	}
	for name, values := range u.Query() {
		for _, value := range values {
			if secretName(name) || x.whole && len(value) >= minToken {
				c.redact.add(value)
			}
			if strings.Trim(value, "=") == "" && len(name) >= minToken { // perhaps not a name, but a token alone
				c.redact.add(name)
			}
		}
	}
	switch {
	case scheme == "https":
		c.plain = "use http://"
	case scheme == "http":
		c.secure = "use https://"
	}
	if socket == "" {
		c.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ports[u.Scheme]))
	}
	c.probe = func(ctx context.Context, r *run) *failure { return probeHTTP(ctx, r, env, u, socket) }
	return nil
}

// probeHTTP sends one request and judges the answer.
func probeHTTP(ctx context.Context, r *run, env *environment, target *url.URL, socket string) *failure {
	setup := &env.http
	resp, f := fetch(ctx, r, env, target, socket)
	if f != nil {
		return f
	}
	defer resp.Body.Close()
	r.HTTPStatus = resp.StatusCode
	accepted := setup.accepts(resp.StatusCode)
	code := strconv.Itoa(resp.StatusCode)
	reason := strings.TrimSpace(strings.TrimPrefix(resp.Status, code))
	if usual := http.StatusText(resp.StatusCode); reason == "" || reason == usual {
		reason = usual
	} else {
		reason = r.clean(reason)
	}
	seen := strings.TrimSpace(code+" "+reason) + r.redirected(target, resp.Request.URL, socket)
	body, err := readBody(resp, setup.body != nil, !accepted)
	if err != nil && accepted {
		return r.failIO(PhaseReply, fmt.Errorf("%s, then %w", seen, err))
	}
	health, ok := readHealth(body)
	if err != nil { // a part of a document is no verdict, but may say why
		health.status, health.dependencies = "", nil
	}
	if health.status != "" {
		word := strings.TrimSpace(health.status)
		if statusOf(word) == OK { // else it is one of the words known here
			word = r.clean(word)
		}
		seen += `, status "` + word + `"`
	}
	for _, d := range health.dependencies {
		d.Name = cut(r.clean(d.Name), maxName)
		same := slices.IndexFunc(r.Dependencies, func(o Dependency) bool { return o.Name == d.Name })
		switch {
		case d.Name == "":
		case same >= 0:
			r.Dependencies[same].Status = Worse(d.Status, r.Dependencies[same].Status)
		default:
			r.Dependencies = append(r.Dependencies, d)
		}
	}
	for _, d := range r.Dependencies {
		seen += ", " + d.Name + " " + string(d.Status)
	}
	switch {
	case !accepted:
	case setup.body != nil && !matches(ctx, setup.body, body):
		if err := ctx.Err(); err != nil {
			return r.failIO(PhaseReply, err)
		}
		seen += ", body does not match --http-body"
	case ok && statusOf(health.status) == Failed:
	default:
		r.Status = statusOf(health.status)
		r.Message = seen
		return nil
	}
	f = fail(PhaseReply, seen)
	f.detail = r.detail(health.reasons[:], resp, body)
	if resp.StatusCode == http.StatusBadRequest && resp.Request.URL == target && wantsTLS(body) {
		f.remedy = r.Check.secure
	}
	return f
}

// redirected is where redirects led, behind the status of the answer: " after redirect to /login". It is empty without a redirect.
func (r *run) redirected(from, to *url.URL, socket string) string {
	if to == from {
		return ""
	}
	place := cmp.Or(to.EscapedPath(), "/")
	if from.Scheme != to.Scheme || !sameService(from, to, socket != "") {
		place = to.Scheme + "://" + to.Host + to.EscapedPath()
	}
	return " after redirect to " + cut(r.clean(place), maxDetail)
}

// maxDetail is the longest detail of a failure, in bytes.
const maxDetail = 120

// detail is what an answer says of a failure: the reason that its document gives, or else the first line of a text. What is no
// more than the status is left out.
func (r *run) detail(reasons []string, resp *http.Response, body []byte) string {
	media, _, _ := strings.Cut(strings.ToLower(resp.Header.Get("Content-Type")), ";")
	if text := trimJSON(body); strings.TrimSpace(media) == "text/plain" && !bytes.HasPrefix(text, []byte("{")) {
		reasons = []string{string(text)}
	}
	for _, reason := range reasons {
		reason = strings.TrimSpace(r.Check.redact.withoutSecrets(reason)) // before it is cut, since a secret may have several lines
		reason, _, _ = strings.Cut(reason, "\n")
		reason = strings.TrimSpace(reason)
		bare := strings.TrimSpace(strings.TrimPrefix(reason, strconv.Itoa(resp.StatusCode)))
		if reason != "" && !strings.EqualFold(bare, http.StatusText(resp.StatusCode)) {
			return cut(escapeUnprintable(reason), maxDetail)
		}
	}
	return ""
}

// wantsTLS reports whether a server says in an answer to plain HTTP that it wants TLS: nginx, Go, Apache and Tomcat do.
func wantsTLS(body []byte) bool {
	return slices.ContainsFunc([]string{"plain HTTP request was sent to HTTPS port", "an HTTP request to an HTTPS server",
		"speaking plain HTTP to an SSL-enabled server port", "combination of host and port requires TLS"},
		func(text string) bool { return bytes.Contains(body, []byte(text)) })
}

// matches reports whether a pattern matches a text. It reports false once ctx is done: the time that package regexp takes is
// linear in the text, but a large pattern can take a millisecond for each of its bytes.
func matches(ctx context.Context, pattern *regexp.Regexp, text []byte) bool {
	return pattern.MatchReader(&boundReader{ctx, bytes.NewReader(text)}) && ctx.Err() == nil
}

// A boundReader ends once its context is done.
type boundReader struct {
	ctx context.Context
	*bytes.Reader
}

func (r *boundReader) ReadRune() (rune, int, error) {
	if r.ctx.Err() != nil {
		return 0, 0, io.EOF
	}
	return r.Reader.ReadRune()
}

// fetch sends the request, and another for as long as the answer is a redirect, and returns the final answer. It does so in the
// goroutine of its caller: http.Client's transport has others, which end some time after the check has, and logs what a
// peer sends unasked.
func fetch(ctx context.Context, r *run, env *environment, target *url.URL, socket string) (*http.Response, *failure) {
	setup := &env.http
	req := &http.Request{Method: setup.method, URL: target, Header: setup.header.Clone(), Host: setup.host, Close: true}
	if u := target.User; u != nil && req.Header.Get("Authorization") == "" {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	// Of a failure behind a redirect the target is innocent: the text names who is not, and another scheme is no remedy.
	failed := func(f *failure) (*http.Response, *failure) {
		if req.URL != target {
			f.text += r.redirected(target, req.URL, socket)
			if f.remedy == r.Check.plain || f.remedy == r.Check.secure {
				f.remedy = ""
			}
		}
		return nil, f
	}
	for redirects := 0; ; redirects++ {
		conn, f := open(ctx, r, env, req.URL, socket)
		if f != nil {
			return failed(f)
		}
		resp, err := exchange(conn, req)
		if err != nil {
			return failed(r.failIO(PhaseReply, err))
		}
		location := resp.Header.Get("Location")
		switch resp.StatusCode { // RFC 9110 section 15.4
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
			if req.Method != http.MethodHead && location != "" {
				req.Method = http.MethodGet
			}
		case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, nil
		}
		if location == "" || setup.status != nil && setup.accepts(resp.StatusCode) {
			return resp, nil
		}
		resp.Body.Close()
		if redirects == maxRedirects {
			return nil, fail(PhaseReply, "more than "+strconv.Itoa(maxRedirects)+" redirects")
		}
		next, err := req.URL.Parse(location)
		if err != nil || ports[next.Scheme] == "" || next.Hostname() == "" {
			return nil, fail(PhaseReply, "a redirect to a URL that is not of HTTP")
		}
		if !sameService(target, next, socket != "") {
			req.Header = http.Header{"User-Agent": setup.header["User-Agent"]} // secrets are for the host they were given for
			req.Host = ""
		}
		req.URL = next
	}
}

// socketHost is the host of a request to a Unix socket.
const socketHost = "localhost"

// ports are the defaults of the schemes that are spoken here.
var ports = map[string]string{"http": "80", "https": "443"}

// sameService reports whether a redirect leads from a to the same host and port, or from its plain default port to the one with TLS.
// From a Unix socket every other port is of TCP.
func sameService(a, b *url.URL, socket bool) bool {
	if socket && b.Scheme != a.Scheme {
		return false
	}
	from, to := cmp.Or(a.Port(), ports[a.Scheme]), cmp.Or(b.Port(), ports[b.Scheme])
	return strings.EqualFold(a.Hostname(), b.Hostname()) && (a.Scheme == b.Scheme && from == to ||
		b.Scheme == "https" && (from == to || from == ports["http"] && to == ports["https"]))
}

// open connects to where a request goes, the first or one that a redirect led to.
func open(ctx context.Context, r *run, env *environment, u *url.URL, socket string) (net.Conn, *failure) {
	network, address := "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), ports[u.Scheme]))
	if socket != "" && sameService(&url.URL{Scheme: "http", Host: socketHost}, u, true) {
		network, address = "unix", socket
	}
	conn, f := dial(ctx, r, network, address)
	if f != nil || u.Scheme == "http" {
		return conn, f
	}
	return handshake(r, conn, env.tls.config(u.Hostname())) // a nil *tls.Conn comes with a failure
}

// exchange sends a request on conn and reads the answer, whose body owns conn. Its errors, and those of the body, are the
// connection's or in words of ours: net/http quotes what it was sent.
func exchange(conn net.Conn, req *http.Request) (*http.Response, error) {
	werr := req.Write(conn) // a server that refuses early has said why, in an answer or an alert
	in := &answerReader{conn: conn}
	resp, err := in.response(req)
	if err != nil {
		conn.Close()
		if werr != nil && (err == io.EOF || err == io.ErrUnexpectedEOF) {
			err = werr
		}
		return nil, err
	}
	body := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{readerFunc(func(p []byte) (int, error) {
		n, err := body.Read(p)
		return n, in.reason(err, errBody)
	}), conn}
	return resp, nil
}

// An answerReader reads one HTTP answer from a connection.
type answerReader struct {
	conn   net.Conn
	failed error // of the connection: to net/http what came before it is a line, if half of one
}

func (a *answerReader) Read(p []byte) (n int, err error) {
	n, err = a.conn.Read(p)
	a.failed = err
	return n, err
}

// reason is an error of net/http as a check reports it: the connection's own, or else malformed.
func (a *answerReader) reason(err, malformed error) error {
	switch {
	case err == nil, err == io.EOF, err == io.ErrUnexpectedEOF:
		return err
	case a.failed == nil, a.failed == io.EOF:
		return malformed
	}
	return a.failed
}

// response reads an answer up to its body, and what informational ones come before it (RFC 9110 section 15.2).
func (a *answerReader) response(req *http.Request) (*http.Response, error) {
	limited := &io.LimitedReader{R: a, N: maxHeader}
	r := bufio.NewReader(limited)
	for {
		if _, err := r.Peek(1); err != nil {
			return nil, err
		}
		if start, _ := r.Peek(2); string(start) == "\x15\x03" { // an alert (RFC 8446 section 5.1)
			return nil, errTLS
		}
		resp, err := http.ReadResponse(r, req)
		switch {
		case err != nil && limited.N <= 0:
			return nil, errLongHeader
		case err != nil && strings.HasPrefix(err.Error(), "malformed HTTP"):
			return nil, a.reason(err, errNotHTTP)
		case err != nil:
			return nil, a.reason(err, errHeader)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			limited.N = math.MaxInt64
			return resp, nil
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// readBody reads what the verdict needs: all of it up to maxBody where a pattern must match or a JSON object begins, otherwise
// nothing beyond the first bytes, or of a failing answer the first maxLead; and of a body that is no text nothing at all. With an
// error comes what was read before it.
func readBody(resp *http.Response, all, failing bool) ([]byte, error) {
	if resp.ContentLength == 0 || resp.Request.Method == http.MethodHead || !all && !maybeJSON(resp.Header.Get("Content-Type")) {
		return nil, nil
	}
	body := make([]byte, 0, 512)
	for len(body) < maxBody {
		if len(body) == cap(body) {
			body = slices.Grow(body, len(body))
		}
		n, err := resp.Body.Read(body[len(body):min(cap(body), maxBody)])
		body = body[:len(body)+n]
		if start := trimJSON(body); !all && len(start) > 0 && start[0] != '{' && (!failing || len(body) >= maxLead) {
			return body, nil
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return body, err
		}
	}
	return body, nil
}

// maxLead is how much is read of a failing answer that is no JSON object, in bytes: a reason stands in its first line.
const maxLead = 1 << 10

// maybeJSON reports whether a body of this type can hold a health document. Frameworks label one as text now and then, and
// some not at all.
func maybeJSON(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	return media == "" || strings.Contains(media, "json") || strings.HasPrefix(media, "text/") && media != "text/event-stream"
}
