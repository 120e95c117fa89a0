// Package promtext writes metrics in the two text formats Prometheus scrapes:
//
//   - text 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/,
//     "Text format details";
//   - OpenMetrics 1.0: https://prometheus.io/docs/specs/om/open_metrics_spec/,
//     "ABNF", "Overall Structure" and "MetricFamily", below cited as OM.
//
// A [Writer] renders one scrape into a buffer it reuses, so that a scrape no
// larger than those before it does not allocate; the caller then writes the
// buffer once. [Negotiate] picks the format from a request's Accept header.
//
// A document is the same in both formats but for the TYPE and HELP lines of a
// counter (without _total in OpenMetrics), quotes in HELP (escaped in
// OpenMetrics), and OpenMetrics' last line:
//
//	# TYPE app_runs counter
//	# HELP app_runs Runs so far.
//	app_runs_total{job="a",result="ok"} 3
//	# EOF
//
// What the Writer cannot write correctly in both formats it refuses in both,
// and leaves out: the document stays valid, and Finish returns the first error.
// Labels are written in the order of their names. A label with an empty value
// is the same as no label (OM "Label") and is not written. Invalid UTF-8 in a
// label value or help text becomes U+FFFD, one for each byte.
//
// Limits: counters and gauges only; no timestamps, exemplars, UNIT lines or
// created samples; names are ASCII, as every version of Prometheus reads them.
package promtext

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Writer renders one scrape at a time: Reset, then for each family Gauge or
// Counter followed by its samples, then Finish. The zero Writer is ready to
// write Text004. A Writer must not be used by two goroutines at once.
type Writer struct {
	format   Format
	buf      []byte
	err      error    // the first refusal
	families []string // their names without _total, sorted

	// The family being written.
	name     string
	base     string // name without a counter's _total
	typ      string
	help     string
	accepted bool
	series   []span  // its series as rendered, sorted; the header is written with the first
	labels   []Label // of the sample being written, sorted by name
}

// A Label is a name and its value, which may be any string.
type Label struct {
	Name, Value string
}

// A span is the part of a Writer's buffer that holds a series: name and labels.
type span struct {
	start, end int
}

const (
	typeCounter = "counter"
	typeGauge   = "gauge"
	totalSuffix = "_total"
)

// reservedSuffixes make sample names of other types (OM "Suffixes"). A family
// that ends in one could clash with another family. _info is left out: as
// gauges, info metrics are common in text 0.0.4 and clash with nothing here.
var reservedSuffixes = []string{totalSuffix, "_created", "_count", "_sum", "_bucket", "_gcount", "_gsum"}

// Reset starts a new scrape in the format f. It invalidates what Finish returned.
func (w *Writer) Reset(f Format) {
	w.format = f
	w.buf = w.buf[:0]
	w.err = nil
	w.families = w.families[:0]
	w.name = ""
	w.accepted = false
}

// Gauge starts a family of type gauge. It is written with its first sample, so
// that a family without samples leaves no trace. The help text is required;
// space around it is cut off.
func (w *Writer) Gauge(name, help string) {
	w.family(name, name, typeGauge, help)
}

// Counter starts a family of type counter, otherwise as Gauge does. The name
// is that of its samples, x_total, in both formats.
func (w *Writer) Counter(name, help string) {
	w.family(name, strings.TrimSuffix(name, totalSuffix), typeCounter, help)
}

func (w *Writer) family(name, base, typ, help string) {
	w.name, w.base, w.typ, w.help = name, base, typ, strings.TrimSpace(help)
	w.series = w.series[:0]
	w.accepted = false
	at, twice := slices.BinarySearch(w.families, base)
	switch {
	case typ == typeCounter && base == name:
		w.refuse("a counter's name ends in " + totalSuffix)
	case !validName(base):
		w.refuse("bad name")
	case slices.ContainsFunc(reservedSuffixes, func(s string) bool { return strings.HasSuffix(base, s) }):
		w.refuse("name ends in a suffix of another type")
	case w.help == "":
		w.refuse("no help text")
	case twice:
		w.refuse("given twice")
	default:
		w.families = slices.Insert(w.families, at, base)
		w.accepted = true
	}
}

// Sample writes one series of the current family. It refuses a series given
// twice, whatever the order of its labels, and a counter below zero or NaN.
func (w *Writer) Sample(value float64, labels ...Label) {
	if !w.accepted {
		w.refuse("sample outside of a family") // a family refused has said why already
		return
	}
	if w.typ == typeCounter && !(value >= 0) { // OM "Counter"
		w.refuse("counter below zero or NaN")
		return
	}
	w.labels = append(w.labels[:0], labels...)
	for i := range w.labels { // a handful; slices.SortFunc would be 20 KB of the binary
		for k := i; k > 0 && w.labels[k].Name < w.labels[k-1].Name; k-- {
			w.labels[k], w.labels[k-1] = w.labels[k-1], w.labels[k]
		}
	}
	for i, l := range w.labels {
		switch {
		case !validName(l.Name) || l.Name == "le" || l.Name == "quantile": // those two are a histogram's and a summary's
			w.refuse("bad label name " + strconv.Quote(l.Name))
			return
		case i > 0 && l.Name == w.labels[i-1].Name:
			w.refuse("label " + strconv.Quote(l.Name) + " given twice")
			return
		}
	}

	if len(w.series) == 0 {
		w.appendHeader()
	}
	start := len(w.buf)
	w.appendSeries()
	at, twice := slices.BinarySearchFunc(w.series, w.buf[start:], func(s span, series []byte) int {
		return bytes.Compare(w.buf[s.start:s.end], series)
	})
	if twice {
		w.refuse("series given twice: " + strconv.Quote(string(w.buf[start:])))
		w.buf = w.buf[:start]
		return
	}
	w.series = slices.Insert(w.series, at, span{start, len(w.buf)})
	w.buf = append(w.buf, ' ')
	w.buf = appendValue(w.buf, value)
	w.buf = append(w.buf, '\n')
}

// Finish ends the document and returns it, with the first error if anything
// was left out. The bytes are a valid document in either case, and are the
// caller's until the next Reset, before which nothing else may be written.
func (w *Writer) Finish() ([]byte, error) {
	if w.format == OpenMetrics100 {
		w.buf = append(w.buf, "# EOF\n"...)
	}
	return w.buf, w.err
}

func (w *Writer) refuse(reason string) {
	if w.err == nil {
		w.err = errors.New("metric family " + strconv.Quote(w.name) + ": " + reason)
	}
}

// appendHeader writes the metadata in the order of OM "MetricFamily metadata".
func (w *Writer) appendHeader() {
	name := w.name
	if w.format == OpenMetrics100 {
		name = w.base
	}
	w.buf = append(w.buf, "# TYPE "...)
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, ' ')
	w.buf = append(w.buf, w.typ...)
	w.buf = append(w.buf, "\n# HELP "...)
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, ' ')
	w.buf = appendEscaped(w.buf, w.help, w.format == OpenMetrics100)
	w.buf = append(w.buf, '\n')
}

// appendSeries writes the family's name and w.labels: x{a="1",b="2"}.
func (w *Writer) appendSeries() {
	w.buf = append(w.buf, w.name...)
	sep := byte('{')
	for _, l := range w.labels {
		if l.Value == "" {
			continue
		}
		w.buf = append(w.buf, sep)
		w.buf = append(w.buf, l.Name...)
		w.buf = append(w.buf, `="`...)
		w.buf = appendEscaped(w.buf, l.Value, true)
		w.buf = append(w.buf, '"')
		sep = ','
	}
	if sep == ',' {
		w.buf = append(w.buf, '}')
	}
}

// validName reports whether s may name a metric or a label: [a-zA-Z][a-zA-Z0-9_]*.
// A colon is for recording rules, a leading underscore reserved (OM "Name", "Label").
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// appendEscaped escapes what would end s early. Every other character, NUL and
// CR too, stands for itself: neither format has an escape for it.
func appendEscaped(dst []byte, s string, quotes bool) []byte {
	for _, r := range s { // an invalid byte yields utf8.RuneError, U+FFFD
		switch {
		case r == '\\':
			dst = append(dst, `\\`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '"' && quotes:
			dst = append(dst, `\"`...)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// appendValue writes integers plain as far as an int64 goes, other values with
// as many digits as identify them, and an exponent only where zeros would be many.
func appendValue(dst []byte, v float64) []byte {
	const maxPlain = 1 << 63 // all above are integers, with zeros at the end
	const minPlain = 1e-6    // a microsecond
	abs := math.Abs(v)
	switch {
	case v == math.Trunc(v) && abs < maxPlain:
		return strconv.AppendInt(dst, int64(v), 10)
	case minPlain <= abs && abs < maxPlain:
		return strconv.AppendFloat(dst, v, 'f', -1, 64)
	default: // with NaN, +Inf and -Inf
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
}
