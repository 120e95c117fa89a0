package promtext_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"alfred/healthcheck/promtext"
)

// hostileScrape writes every escape and every value there is a test for, and
// returns what the Python client should read.
// The names are such that promtool's linter has nothing to say.
func hostileScrape(t *testing.T, format promtext.Format) (doc []byte, want []family) {
	var w promtext.Writer
	w.Reset(format)
	for _, tt := range escapeTests {
		name := "escape_" + strings.NewReplacer(" ", "_", "-", "_").Replace(tt.name)
		w.Gauge(name, tt.in)
		w.Sample(1, label("x", tt.in), label("y", tt.in))
		want = append(want, family{name, "gauge", repair(strings.TrimSpace(tt.in)), []sample{
			{name, labels("x", repair(tt.in), "y", repair(tt.in)), 1},
		}})
	}
	gauge := family{name: "values", typ: "gauge", help: "Values of every kind."}
	w.Gauge(gauge.name, gauge.help)
	for _, tt := range valueTests {
		in := strconv.FormatFloat(tt.in, 'g', -1, 64)
		w.Sample(tt.in, label("in", in))
		gauge.samples = append(gauge.samples, sample{gauge.name, labels("in", in), tt.in + 0}) // -0 is written as 0
	}
	counter := family{name: "runs_total", typ: "counter", help: "Runs so far."}
	w.Counter(counter.name, counter.help)
	for i, result := range []string{"success", "failure", "timeout"} {
		v := float64(i) / 2
		w.Sample(v, label("result", result))
		counter.samples = append(counter.samples, sample{counter.name, labels("result", result), v})
	}
	counter.name = "runs" // what OpenMetrics writes, and Python's text parser makes of it
	return finish(t, &w), append(want, gauge, counter)
}

func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		missing(t, "promtool (Debian: prometheus)")
	}
	doc, _ := hostileScrape(t, text) // promtool reads no OpenMetrics
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(doc)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v, %s\n%s", err, out, doc)
	}
}

// The parsers of the Python client; that of OpenMetrics is the reference one.
const pythonParser = `
import json, sys
if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse
print(json.dumps([
    dict(name=f.name, type=f.type, help=f.documentation, samples=[
        dict(name=s.name, labels=s.labels, value=repr(float(s.value))) for s in f.samples])
    for f in parse(sys.stdin.buffer.read().decode("utf-8"))]))
`

func TestPythonParser(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's own: one earlier on PATH lacks Debian's modules
	if exec.Command(python, "-c", "import prometheus_client").Run() != nil {
		missing(t, python+" with prometheus_client (Debian: python3-prometheus-client)")
	}
	for format, parser := range map[promtext.Format]string{open: "openmetrics", text: "text"} {
		doc, want := hostileScrape(t, format)
		cmd := exec.Command(python, "-c", pythonParser, parser)
		cmd.Stdin = bytes.NewReader(doc)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v, %s\n%s", parser, err, &stderr, doc)
			continue
		}
		var got []struct {
			Name, Type, Help string
			Samples          []struct {
				Name   string
				Labels map[string]string
				Value  string
			}
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d families, want %d", parser, len(got), len(want))
		}
		for i, g := range got {
			f := family{name: g.Name, typ: g.Type, help: g.Help}
			for _, s := range g.Samples {
				v, err := strconv.ParseFloat(s.Value, 64)
				if err != nil {
					t.Error(err)
				}
				f.samples = append(f.samples, sample{s.Name, s.Labels, v})
			}
			if !f.equal(want[i]) {
				t.Errorf("%s: read back %+v, want %+v", parser, f, want[i])
			}
		}
	}
}

// missing skips a test for want of a tool, or fails it where all tools are required.
func missing(t *testing.T, tool string) {
	t.Helper()
	if os.Getenv("HEALTHCHECK_REQUIRE") == "all" {
		t.Fatalf("missing: %s", tool)
	}
	t.Skipf("missing: %s", tool)
}
