package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"alfred/healthcheck/promtext"
)

// accept is what Prometheus 3 sends.
const accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5," +
	"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

// handlers serve the same series.
var handlers = []struct {
	name string
	http.Handler
}{
	{"promtext", newPromtext()},
	{"client_golang", newClientGolang()},
}

func newPromtext() http.Handler {
	writers := sync.Pool{New: func() any { return new(promtext.Writer) }}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := writers.Get().(*promtext.Writer)
		defer writers.Put(w)
		format := promtext.Negotiate(r.Header.Values("Accept"))
		w.Reset(format)
		var labels [5]promtext.Label // build_info has the most
		for _, f := range families {
			if f.counter {
				w.Counter(f.name, f.help)
			} else {
				w.Gauge(f.name, f.help)
			}
			for _, s := range f.series {
				for i, name := range f.labels {
					labels[i] = promtext.Label{Name: name, Value: s.values[i]}
				}
				w.Sample(s.value, labels[:len(f.labels)]...)
			}
		}
		doc, err := w.Finish()
		if err != nil {
			panic(err)
		}
		rw.Header().Set("Content-Type", format.ContentType())
		rw.Write(doc)
	})
}

func TestSameSeries(t *testing.T) {
	for _, accept := range []string{accept, "text/plain"} {
		want := scrape(t, handlers[1], accept)
		if len(want) == 0 {
			t.Fatal("client_golang serves no series")
		}
		if got := scrape(t, handlers[0], accept); !maps.Equal(got, want) {
			t.Errorf("Accept %q: promtext serves %v, client_golang %v", accept, got, want)
		}
	}
}

// scrape returns the value of each series, and of each line of metadata 0.
func scrape(t *testing.T, h http.Handler, accept string) map[string]float64 {
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	h.ServeHTTP(rec, r)
	if wantOpen := accept != "text/plain"; strings.HasPrefix(rec.Header().Get("Content-Type"), "application/openmetrics-text; version=1.0.0") != wantOpen {
		t.Errorf("Accept %q: Content-Type %q", accept, rec.Header().Get("Content-Type"))
	}
	lines := map[string]float64{}
	for line := range strings.Lines(rec.Body.String()) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			lines[line] = 0
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Error(err)
		}
		lines[line[:at]] = value
	}
	return lines
}

func BenchmarkScrape(b *testing.B) {
	for _, h := range handlers {
		b.Run(h.name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.Header.Set("Accept", accept)
			rw := &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(rw.header)
				rw.bytes = 0
				h.ServeHTTP(rw, r)
			}
			b.ReportMetric(float64(rw.bytes), "bytes")
		})
	}
}

// A discard is a ResponseWriter that costs nothing itself.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.bytes += len(p); return len(p), nil }
