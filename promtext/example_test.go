package promtext_test

import (
	"fmt"
	"os"

	"alfred/healthcheck/promtext"
)

func ExampleWriter() {
	var w promtext.Writer // keep it: its buffers are used again
	w.Reset(promtext.Text004)
	w.Gauge("probe_success", "Whether the last check passed.")
	w.Sample(1, promtext.Label{Name: "check", Value: "database"})
	w.Sample(0, promtext.Label{Name: "check", Value: "cache"})
	w.Counter("orphans_reaped_total", "Orphans reaped.")
	w.Sample(12)
	doc, err := w.Finish()
	if err != nil {
		fmt.Println(err)
	}
	os.Stdout.Write(doc)
	// Output:
	// # TYPE probe_success gauge
	// # HELP probe_success Whether the last check passed.
	// probe_success{check="database"} 1
	// probe_success{check="cache"} 0
	// # TYPE orphans_reaped_total counter
	// # HELP orphans_reaped_total Orphans reaped.
	// orphans_reaped_total 12
}

// What cannot be written is left out and named, the rest stands.
func ExampleWriter_Finish() {
	var w promtext.Writer
	w.Reset(promtext.OpenMetrics100)
	w.Counter("runs_total", "Runs so far.")
	w.Sample(-1, promtext.Label{Name: "result", Value: "failure"})
	w.Sample(3, promtext.Label{Name: "result", Value: "success"})
	doc, err := w.Finish()
	fmt.Printf("%serror: %v\n", doc, err)
	// Output:
	// # TYPE runs counter
	// # HELP runs Runs so far.
	// runs_total{result="success"} 3
	// # EOF
	// error: metric family "runs_total": counter below zero or NaN
}

func ExampleLabel() {
	var w promtext.Writer
	w.Gauge("check_info", "What is checked.")
	w.Sample(1, promtext.Label{Name: "target", Value: `C:\"new`}, promtext.Label{Name: "unset"})
	doc, _ := w.Finish()
	os.Stdout.Write(doc)
	// Output:
	// # TYPE check_info gauge
	// # HELP check_info What is checked.
	// check_info{target="C:\\\"new"} 1
}

func ExampleFormat() {
	fmt.Println(promtext.Text004.ContentType())
	fmt.Println(promtext.OpenMetrics100.ContentType())
	// Output:
	// text/plain; version=0.0.4; charset=utf-8
	// application/openmetrics-text; version=1.0.0; charset=utf-8
}

func ExampleNegotiate() {
	accept := []string{"application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"}
	fmt.Println(promtext.Negotiate(accept).ContentType())
	// Output:
	// application/openmetrics-text; version=1.0.0; charset=utf-8
}
