package promtext_test

import (
	"strings"
	"testing"

	"alfred/healthcheck/promtext"
)

const (
	text = promtext.Text004
	open = promtext.OpenMetrics100
)

var negotiateTests = []struct {
	in   string // values separated by |
	want promtext.Format
}{
	// Prometheus 3
	{"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", open},
	// Prometheus 2.40 and later with native histograms
	{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", open},
	// Prometheus 2.42
	{"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", open},
	// Prometheus 2.10
	{"application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", text},
	// Prometheus 2.0
	{"text/plain;version=0.0.4;q=1,*/*;q=0.1", text},
	// A browser
	{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", text},
	// curl, and no header
	{"*/*", text},
	{"", text},

	// Versions.
	{"application/openmetrics-text", open},
	{"application/openmetrics-text;version=1.0.0", open},
	{`application/openmetrics-text;version="1.0.0"`, open},
	{"application/openmetrics-text;version=0.0.1", text},
	{"application/openmetrics-text;version=2.0.0", text},
	{"application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1", open},
	{"text/plain;version=1.0.0;q=0.9,application/openmetrics-text;q=0.5", open},
	{"text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5", text},

	// Weights.
	{"application/openmetrics-text;q=0.5,text/plain;q=0.6", text},
	{"application/openmetrics-text;q=0.6,text/plain;q=0.5", open},
	{"text/plain,application/openmetrics-text", open},
	{"application/openmetrics-text;q=0.001", open},
	{"application/openmetrics-text;q=0", text},
	{"application/openmetrics-text;q=0.000,*/*;q=0", text},
	{"text/plain;q=0,application/openmetrics-text;q=0.1", open},
	{"text/plain;q=0", text},
	{"*/*;q=0", text},

	// The most specific range counts, wherever it stands.
	{"application/openmetrics-text;version=1.0.0;q=0,application/openmetrics-text", text},
	{"application/openmetrics-text,application/openmetrics-text;version=1.0.0;q=0", text},
	{"*/*;q=0.9,text/plain;q=0.1,application/openmetrics-text;q=0.5", open},
	{"text/*;q=0.1,*/*;q=0.9,application/openmetrics-text;q=0.5", open},
	{"text/*;q=0.9,application/openmetrics-text;q=0.5", text},
	{"*/*;q=0.9,application/openmetrics-text;q=0.5", text},
	{"application/openmetrics-text;q=0.1,application/openmetrics-text;q=0.9,text/plain;q=0.5", open},

	// OpenMetrics has to be named.
	{"application/*", text},
	{"application/*,text/plain;q=0.1", text},

	// Spelling.
	{"Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.5 , TEXT/plain;q=0.4", open},
	{"\tapplication/openmetrics-text\t;\tq=1", open},
	{"text/plain;q=0.5|application/openmetrics-text;q=0.6", open},
	{"text/plain;q=0.5||", text},

	// The bounds of a weight, RFC 9110 section 12.4.2.
	{"application/openmetrics-text;q=1.000,text/plain;q=0.999", open},
	{"application/openmetrics-text;q=0.999,text/plain;q=1.000", text},
	{"application/openmetrics-text;q=0.001,text/plain;q=0.001", open},
	{"application/openmetrics-text;q=0.001,text/plain;q=0.002", text},
	{"application/openmetrics-text;q=0.,text/plain;q=0.", text},
	{"application/openmetrics-text;q=1.,text/plain;q=1.", open},
	{"application/openmetrics-text;q=0.0001", open}, // the RFC allows three digits; more are accepted
	{"application/openmetrics-text;q=1.0001", text},
	{"application/openmetrics-text;q=-0.001", text},
	{"application/openmetrics-text;q=0,application/openmetrics-text;version=1.0.0;q=0.001", open},
	{"application/openmetrics-text;q=0.9,application/openmetrics-text;q=0.1,text/plain;q=0.5", open},
	{"application/openmetrics-text;q=0.5,text/plain;q=0.9,text/plain;q=0.1", text},

	// Garbage.
	{"application/openmetrics-text;q=", text},
	{"application/openmetrics-text;q", text},
	{"application/openmetrics-text;q=high", text},
	{"application/openmetrics-text;q=NaN", text},
	{"application/openmetrics-text;q=Inf", text},
	{"application/openmetrics-text;q=-1", text},
	{"application/openmetrics-text;q=1.1", text},
	{"application/openmetrics-text;q=1e999", text},
	{"text/plain;q=2,application/openmetrics-text;q=0.1", open},
	{"application/openmetrics-text;;;=;q=0.5;", open},
	{";q=1,;,=,/,*", text},
	{"openmetrics-text", text},
	{"application/openmetrics-texts", text},
	{"\x00\xff,application/openmetrics-text", open},
}

func TestNegotiate(t *testing.T) {
	for _, tt := range negotiateTests {
		if got := promtext.Negotiate(strings.Split(tt.in, "|")); got != tt.want {
			t.Errorf("Negotiate(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
	if got := promtext.Negotiate(nil); got != text {
		t.Errorf("Negotiate(nil) = %v, want %v", got, text)
	}
}

// OpenMetrics is never the answer to a client that has not named it, nor to
// one that has refused it in whatever else it said.
func FuzzNegotiate(f *testing.F) {
	for _, tt := range negotiateTests {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		named := strings.Contains(strings.ToLower(in), "application/openmetrics-text")
		if promtext.Negotiate([]string{in}) == open && !named {
			t.Errorf("Negotiate(%q) = OpenMetrics, which is not named", in)
		}
		if strings.Contains(in, "1.0.0") {
			return // may outdo the refusal below
		}
		if promtext.Negotiate([]string{in, "application/openmetrics-text;version=1.0.0;q=0"}) == open {
			t.Errorf("Negotiate(%q and a refusal) = OpenMetrics", in)
		}
	})
}
