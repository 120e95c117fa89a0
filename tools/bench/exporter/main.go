// Exporter serves the series healthcheck exports, by client_golang: what
// healthcheck is measured against. It is a module of its own, so that
// healthcheck itself depends on nothing.
//
//	go run . 127.0.0.1:9099                  # serve /metrics; port 0 picks one
//	go test -run '^$' -bench . -count 6      # a scrape by each, through an http.Handler
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: exporter ADDR")
	}
	ln, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fail(err)
	}
	fmt.Printf("listening on %s\n", ln.Addr())
	http.Handle("/metrics", newClientGolang())
	fail(http.Serve(ln, nil))
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "exporter:", why)
	os.Exit(1)
}

// newClientGolang returns promhttp's handler over a registry that holds the
// families and nothing else.
func newClientGolang() http.Handler {
	reg := prometheus.NewRegistry()
	for _, f := range families {
		if f.counter {
			v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.name, Help: f.help}, f.labels)
			for _, s := range f.series {
				v.WithLabelValues(s.values...).Add(s.value)
			}
			reg.MustRegister(v)
			continue
		}
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.name, Help: f.help}, f.labels)
		for _, s := range f.series {
			v.WithLabelValues(s.values...).Set(s.value)
		}
		reg.MustRegister(v)
	}
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
