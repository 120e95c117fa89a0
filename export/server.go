// Package export serves the exported address: /metrics for Prometheus, /health and /healthz for
// orchestrators, and a status page for people at /.
//
// Each response shows the state of a [probe.Monitor] and a [supervise.Process] at the time of the
// request. Only a reading of /proc is kept, for a second.
//
// Limits: GET and HEAD only, and a request's body is ignored; headers of 8 KiB; 5 s to send a
// request and 10 s to read the answer; at most 512 connections, or half of the file descriptors if
// that is less.
package export

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"alfred/healthcheck/probe"
	"alfred/healthcheck/promtext"
	"alfred/healthcheck/supervise"
)

// Limits of the exported address. Its clients are scrapers and probes: they send a request of a few
// hundred bytes at once.
const (
	readTimeout    = 5 * time.Second   // a whole request, from its first byte or from the connection's start
	writeTimeout   = 10 * time.Second  // a whole answer
	idleTimeout    = 100 * time.Second // between two requests of one connection; most scrape intervals are shorter
	maxHeaderBytes = 8 << 10
	acceptPause    = 100 * time.Millisecond // after an accept that failed
	maxHandlers    = 4                      // requests answered at once; others wait. Reading /proc keeps a thread busy
)

// Config is what an Exporter shows.
type Config struct {
	Monitor        *probe.Monitor
	Reports        *probe.Reports     // results of probes beside the command; nil if they are not received
	Command        string             // the command's program, without its arguments; empty in a sidecar
	Signals        *supervise.Signals // counts the orphans reaped; nil in a sidecar
	Wait           probe.Limits       // how long the command's start waits for which checks, counted from New
	ServiceName    string
	ServiceVersion string // empty if it is not known
	Version        string // of healthcheck
	Revision       string // of healthcheck's source
}

// An Exporter is the HTTP handler of the exported address. It is safe for concurrent use.
type Exporter struct {
	Config
	began    time.Time
	build    [5]promtext.Label
	process  atomic.Pointer[supervise.Process]
	handlers chan struct{} // holds an element for each request that is being answered
	scrapes  sync.Pool     // of *scrape
	usage    usageCache
	conns    connections
}

// A scrape holds the buffers of one response. Later responses reuse them.
type scrape struct {
	writer promtext.Writer
	states []probe.State
}

// New returns an Exporter that does not listen yet.
func New(c Config) *Exporter {
	return &Exporter{
		Config: c,
		began:  time.Now(),
		build: [5]promtext.Label{
			label("version", c.Version), label("revision", c.Revision), label("goversion", runtime.Version()),
			label("goos", runtime.GOOS), label("goarch", runtime.GOARCH),
		},
		handlers: make(chan struct{}, maxHandlers),
		scrapes:  sync.Pool{New: func() any { return new(scrape) }},
		conns:    connections{limit: connectionLimit()},
	}
}

// SetProcess sets the command's process once the command has been started. Until then the service
// counts as waiting.
func (e *Exporter) SetProcess(p *supervise.Process) { e.process.Store(p) }

// gcPercent keeps the exporter small: with Go's default of 100 it grew to 12.4 MiB after 5,400 scrapes, with 25 to 9.4 MiB, at the
// same CPU time (tools/bench.sh init).
const gcPercent = 25

// Serve answers requests until the listener is closed. It blocks, and returns net.ErrClosed. It sets the percentage of the
// garbage collector, unless GOGC does.
func (e *Exporter) Serve(listener net.Listener) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	server := &http.Server{
		Handler:           e,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(io.Discard, "", 0), // a client's mistakes do not belong in the service's log
		ConnState:         e.conns.track,

		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * with 200
	}
	return server.Serve(retryingListener{listener})
}

// URL is the URL of the status page, by which a browser on this machine reaches it.
func URL(addr *net.TCPAddr) string {
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(addr.Port)) + "/"
}

// A retryingListener keeps accepting after an error of accept(2), such as a lack of memory or
// descriptors. net/http stops serving after some of these errors.
type retryingListener struct{ net.Listener }

func (l retryingListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		time.Sleep(acceptPause)
	}
}

// An answer is one response, rendered in full before its first byte is written.
type answer struct {
	status      int
	contentType string
	body        []byte
}

const (
	typeText = "text/plain; charset=utf-8"
	typeJSON = "application/json"
	typeHTML = "text/html; charset=utf-8"
)

// ServeHTTP answers GET and HEAD for the four paths.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.handlers <- struct{}{}
	s := e.scrapes.Get().(*scrape)
	a := e.answer(s, r)
	<-e.handlers
	defer e.scrapes.Put(s) // a.body is in its buffer
	h := w.Header()
	if a.status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET, HEAD")
	}
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'")
	w.WriteHeader(a.status)
	w.Write(a.body) // net/http leaves the body out for HEAD
}

func (e *Exporter) answer(s *scrape, r *http.Request) answer {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return answer{http.StatusMethodNotAllowed, typeText, []byte("only GET and HEAD are allowed\n")}
	}
	switch r.URL.Path {
	case "/metrics":
		return e.metrics(s, r.Header.Values("Accept"))
	case "/health", "/readyz": // Kubernetes' name for it
		return e.health()
	case "/healthz", "/livez":
		return e.liveness()
	case "/":
		return e.page()
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/health/"); ok {
		if a, ok := e.healthOfCheck(name); ok {
			return a
		}
		return answer{http.StatusNotFound, typeText, []byte("no check has this name; /health lists them\n")}
	}
	return answer{http.StatusNotFound, typeText, []byte("not found; there are /, /metrics, /health, /health/NAME, /healthz, /readyz and /livez\n")}
}
