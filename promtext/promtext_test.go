package promtext_test

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"alfred/healthcheck/promtext"
)

// label keeps the tables short.
func label(name, value string) promtext.Label {
	return promtext.Label{Name: name, Value: value}
}

var valueTests = []struct {
	in   float64
	want string
}{
	{0, "0"},
	{math.Copysign(0, -1), "0"},
	{1, "1"},
	{-1, "-1"},
	{0.5, "0.5"},
	{1.7e9, "1700000000"},
	{1700000000.123, "1700000000.123"},
	{1 << 53, "9007199254740992"},
	{1<<53 + 2, "9007199254740994"},
	{-1 << 53, "-9007199254740992"},
	{9223372036854774784, "9223372036854774784"}, // the last below 1<<63
	{1 << 63, "9.223372036854776e+18"},
	{-9223372036854774784, "-9223372036854774784"},
	{-1 << 63, "-9.223372036854776e+18"},
	{1e300, "1e+300"},
	{math.MaxFloat64, "1.7976931348623157e+308"},
	{0.1, "0.1"},
	{1.0 / 3, "0.3333333333333333"},
	{1234567.25, "1234567.25"},
	{0.000123, "0.000123"},
	{1e-6, "0.000001"},
	{math.Nextafter(1e-6, 0), "9.999999999999997e-07"},
	{-1e-6, "-0.000001"},
	{9.99e-7, "9.99e-07"},
	{-2.5e-7, "-2.5e-07"},
	{math.SmallestNonzeroFloat64, "5e-324"},
	{math.NaN(), "NaN"},
	{math.Inf(1), "+Inf"},
	{math.Inf(-1), "-Inf"},
}

func TestValue(t *testing.T) {
	for _, tt := range valueTests {
		var w promtext.Writer
		w.Gauge("x", "X.")
		w.Sample(tt.in)
		doc, err := w.Finish()
		got, ok := strings.CutPrefix(string(doc), "# TYPE x gauge\n# HELP x X.\nx ")
		if want := tt.want + "\n"; err != nil || !ok || got != want {
			t.Errorf("Sample(%v) = %q, %v, want %q", tt.in, got, err, want)
		}
	}
}

var escapeTests = []struct {
	name            string
	in              string
	value           string // as a label's value, in both formats
	help004, helpOM string
}{
	{"plain", `a b`, `a b`, `a b`, `a b`},
	{"backslash", `C:\new`, `C:\\new`, `C:\\new`, `C:\\new`},
	{"quote", `"a" b`, `\"a\" b`, `"a" b`, `\"a\" b`},
	{"newline", "a\nb", `a\nb`, `a\nb`, `a\nb`},
	{"backslash n", `a\nb`, `a\\nb`, `a\\nb`, `a\\nb`},
	{"carriage return", "a\r\nb", "a\r\\nb", "a\r\\nb", "a\r\\nb"},
	{"nul", "a\x00b", "a\x00b", "a\x00b", "a\x00b"},
	{"end of label", `a"} 1 # {`, `a\"} 1 # {`, `a"} 1 # {`, `a\"} 1 # {`},
	{"comment", "a\n# EOF\n", `a\n# EOF\n`, `a\n# EOF`, `a\n# EOF`},
	{"last backslash", `a\`, `a\\`, `a\\`, `a\\`},
	{"utf-8", "größe \u2028 🩺", "größe \u2028 🩺", "größe \u2028 🩺", "größe \u2028 🩺"},
	{"byte order mark", "\ufeffa", "\ufeffa", "\ufeffa", "\ufeffa"},
	{"invalid utf-8", "a\xff\xfeb", "a\ufffd\ufffdb", "a\ufffd\ufffdb", "a\ufffd\ufffdb"},
	{"cut utf-8", "a\xf0\x9f\xa9", "a\ufffd\ufffd\ufffd", "a\ufffd\ufffd\ufffd", "a\ufffd\ufffd\ufffd"},
	{"surrogate", "a\xed\xa0\x80", "a\ufffd\ufffd\ufffd", "a\ufffd\ufffd\ufffd", "a\ufffd\ufffd\ufffd"},
	{"space around", " a \r\n", ` a ` + "\r" + `\n`, `a`, `a`},
}

func TestEscape(t *testing.T) {
	for _, tt := range escapeTests {
		for format, help := range map[promtext.Format]string{text: tt.help004, open: tt.helpOM} {
			var w promtext.Writer
			w.Reset(format)
			w.Gauge("x", tt.in)
			w.Sample(1, label("l", tt.in))
			doc, err := w.Finish()
			want := "# TYPE x gauge\n# HELP x " + help + "\nx{l=\"" + tt.value + "\"} 1\n"
			if format == open {
				want += "# EOF\n"
			}
			if string(doc) != want || err != nil {
				t.Errorf("%s, format %v: got %q, %v, want %q", tt.name, format, doc, err, want)
			}
		}
	}
}

var writerTests = []struct {
	name    string
	write   func(w *promtext.Writer)
	text004 string
	open100 string
	err     string
}{
	{
		"nothing", func(w *promtext.Writer) {},
		"", "# EOF\n", "",
	},
	{
		"counter", func(w *promtext.Writer) { w.Counter("a_total", "A."); w.Sample(0.5) },
		"# TYPE a_total counter\n# HELP a_total A.\na_total 0.5\n",
		"# TYPE a counter\n# HELP a A.\na_total 0.5\n# EOF\n", "",
	},
	{
		"ends of the ranges in names", func(w *promtext.Writer) { w.Gauge("azAZ09_", "A."); w.Sample(1, label("Z", "1"), label("z", "2")) },
		"# TYPE azAZ09_ gauge\n# HELP azAZ09_ A.\nazAZ09_{Z=\"1\",z=\"2\"} 1\n",
		"# TYPE azAZ09_ gauge\n# HELP azAZ09_ A.\nazAZ09_{Z=\"1\",z=\"2\"} 1\n# EOF\n", "",
	},
	{
		"no samples", func(w *promtext.Writer) { w.Counter("a_total", "A."); w.Gauge("b", "B.") },
		"", "# EOF\n", "",
	},
	{
		"labels by name", func(w *promtext.Writer) {
			w.Gauge("a", "A.")
			w.Sample(1, label("y", "1"), label("x", "2"))
			w.Sample(2, label("x", "1"), label("y", "2"))
		},
		"# TYPE a gauge\n# HELP a A.\na{x=\"2\",y=\"1\"} 1\na{x=\"1\",y=\"2\"} 2\n",
		"# TYPE a gauge\n# HELP a A.\na{x=\"2\",y=\"1\"} 1\na{x=\"1\",y=\"2\"} 2\n# EOF\n", "",
	},
	{
		"empty value", func(w *promtext.Writer) { w.Gauge("a", "A."); w.Sample(1, label("x", ""), label("y", "1")) },
		"# TYPE a gauge\n# HELP a A.\na{y=\"1\"} 1\n",
		"# TYPE a gauge\n# HELP a A.\na{y=\"1\"} 1\n# EOF\n", "",
	},
	{
		"same series in two families", func(w *promtext.Writer) {
			w.Gauge("a", "A.")
			w.Sample(1, label("x", "1"))
			w.Gauge("b", "B.")
			w.Sample(1, label("x", "1"))
		},
		"# TYPE a gauge\n# HELP a A.\na{x=\"1\"} 1\n# TYPE b gauge\n# HELP b B.\nb{x=\"1\"} 1\n",
		"# TYPE a gauge\n# HELP a A.\na{x=\"1\"} 1\n# TYPE b gauge\n# HELP b B.\nb{x=\"1\"} 1\n# EOF\n", "",
	},
}

func TestWriter(t *testing.T) {
	var w promtext.Writer
	for _, tt := range writerTests {
		for format, want := range map[promtext.Format]string{text: tt.text004, open: tt.open100} {
			w.Reset(format)
			tt.write(&w)
			doc, err := w.Finish()
			if string(doc) != want || err != nil {
				t.Errorf("%s, format %v: got %q, %v, want %q", tt.name, format, doc, err, want)
			}
		}
	}
}

var refuseTests = []struct {
	name  string
	write func(w *promtext.Writer)
	want  string // how the error goes on after `metric family "bad…": `
}{
	{"family twice", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Gauge("bad", "A."); w.Sample(1) }, "given twice"},
	{"family twice, as a counter", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Counter("bad_total", "A."); w.Sample(1) }, "given twice"},
	{"empty name", func(w *promtext.Writer) { w.Gauge("", "A."); w.Sample(1) }, "bad name"},
	{"digit first", func(w *promtext.Writer) { w.Gauge("1bad", "A."); w.Sample(1) }, "bad name"},
	{"underscore first", func(w *promtext.Writer) { w.Gauge("_bad", "A."); w.Sample(1) }, "bad name"},
	{"colon", func(w *promtext.Writer) { w.Gauge("bad:rate", "A."); w.Sample(1) }, "bad name"},
	{"hyphen", func(w *promtext.Writer) { w.Gauge("bad-name", "A."); w.Sample(1) }, "bad name"},
	{"newline in the name", func(w *promtext.Writer) { w.Gauge("bad\nx 1", "A."); w.Sample(1) }, "bad name"},
	{"not ASCII", func(w *promtext.Writer) { w.Gauge("bäd", "A."); w.Sample(1) }, "bad name"},
	{"only the suffix", func(w *promtext.Writer) { w.Counter("_total", "A."); w.Sample(1) }, "bad name"},
	{"counter without suffix", func(w *promtext.Writer) { w.Counter("bad", "A."); w.Sample(1) }, "a counter's name ends in _total"},
	{"gauge with suffix", func(w *promtext.Writer) { w.Gauge("bad_total", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"created", func(w *promtext.Writer) { w.Gauge("bad_created", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"sum of a counter", func(w *promtext.Writer) { w.Counter("bad_sum_total", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"count", func(w *promtext.Writer) { w.Gauge("bad_count", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"bucket", func(w *promtext.Writer) { w.Gauge("bad_bucket", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"gcount", func(w *promtext.Writer) { w.Gauge("bad_gcount", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"gsum", func(w *promtext.Writer) { w.Gauge("bad_gsum", "A."); w.Sample(1) }, "name ends in a suffix of another type"},
	{"below 0", func(w *promtext.Writer) { w.Gauge("bad/", "A."); w.Sample(1) }, "bad name"},
	{"below A", func(w *promtext.Writer) { w.Gauge("bad@", "A."); w.Sample(1) }, "bad name"},
	{"above Z", func(w *promtext.Writer) { w.Gauge("bad[", "A."); w.Sample(1) }, "bad name"},
	{"below a", func(w *promtext.Writer) { w.Gauge("bad`", "A."); w.Sample(1) }, "bad name"},
	{"above z", func(w *promtext.Writer) { w.Gauge("bad{", "A."); w.Sample(1) }, "bad name"},
	{"no help", func(w *promtext.Writer) { w.Gauge("bad", ""); w.Sample(1) }, "no help text"},
	{"blank help", func(w *promtext.Writer) { w.Gauge("bad", " \n"); w.Sample(1) }, "no help text"},
	{"label name empty", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Sample(1, label("", "v")) }, `bad label name ""`},
	{"label name with a hyphen", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Sample(1, label("x-y", "v")) }, `bad label name "x-y"`},
	{"label name reserved", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Sample(1, label("__name__", "v")) }, `bad label name "__name__"`},
	{"label of a histogram", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Sample(1, label("le", "1")) }, `bad label name "le"`},
	{"label of a summary", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Sample(1, label("quantile", "1")) }, `bad label name "quantile"`},
	{"label twice", func(w *promtext.Writer) {
		w.Gauge("bad", "A.")
		w.Sample(1, label("x", "1"), label("y", "2"), label("x", "3"))
	}, `label "x" given twice`},
	{"label twice, once empty", func(w *promtext.Writer) { w.Gauge("bad", "A."); w.Sample(1, label("x", "1"), label("x", "")) }, `label "x" given twice`},
	{"counter below zero", func(w *promtext.Writer) { w.Counter("bad_total", "A."); w.Sample(-1) }, "counter below zero or NaN"},
	{"counter NaN", func(w *promtext.Writer) { w.Counter("bad_total", "A."); w.Sample(math.NaN()) }, "counter below zero or NaN"},
	{"no family", func(w *promtext.Writer) { w.Sample(1) }, "sample outside of a family"},
}

// What is refused leaves no trace in the document, and does not hurt its neighbours.
func TestRefuse(t *testing.T) {
	for _, tt := range refuseTests {
		for _, format := range []promtext.Format{text, open} {
			var w promtext.Writer
			w.Reset(format)
			tt.write(&w)
			w.Gauge("good", "Good.")
			w.Sample(1)
			doc, err := w.Finish()
			if want := "# TYPE good gauge\n# HELP good Good.\ngood 1\n"; strings.TrimSuffix(string(doc), "# EOF\n") != want {
				t.Errorf("%s, format %v: got %q, want %q", tt.name, format, doc, want)
			}
			if err == nil || !regexp.MustCompile(`^metric family "[^"]*": `+regexp.QuoteMeta(tt.want)+`$`).MatchString(err.Error()) {
				t.Errorf("%s, format %v: error %v, want %q", tt.name, format, err, tt.want)
			}
		}
	}
}

func TestRefuseSeriesTwice(t *testing.T) {
	tests := []struct {
		name          string
		first, second []promtext.Label
	}{
		{"no labels", nil, nil},
		{"same", []promtext.Label{label("x", "1")}, []promtext.Label{label("x", "1")}},
		{"other order", []promtext.Label{label("x", "1"), label("y", "2")}, []promtext.Label{label("y", "2"), label("x", "1")}},
		{"empty value", nil, []promtext.Label{label("x", "")}},
		{"same once repaired", []promtext.Label{label("x", "\xff")}, []promtext.Label{label("x", "\xfe")}},
	}
	for _, tt := range tests {
		var w promtext.Writer
		w.Gauge("x", "X.")
		w.Sample(1, label("other", "1"))
		w.Sample(2, tt.first...)
		w.Sample(3, label("other", "2"))
		once := string(finish(t, &w))

		w.Reset(text)
		w.Gauge("x", "X.")
		w.Sample(1, label("other", "1"))
		w.Sample(2, tt.first...)
		w.Sample(4, tt.second...)
		w.Sample(3, label("other", "2"))
		doc, err := w.Finish()
		if string(doc) != once {
			t.Errorf("%s: got %q, want %q", tt.name, doc, once)
		}
		if err == nil || !strings.HasPrefix(err.Error(), `metric family "x": series given twice: `) {
			t.Errorf("%s: error %v, want one that names family and series", tt.name, err)
		}
	}
}

// The first error stays, and Reset forgets it and everything else.
func TestReset(t *testing.T) {
	var w promtext.Writer
	w.Gauge("first", "")
	w.Gauge("second", "")
	w.Gauge("third", "Third.")
	w.Sample(1)
	if _, err := w.Finish(); err == nil || err.Error() != `metric family "first": no help text` {
		t.Errorf("error %v, want the first", err)
	}
	w.Reset(text)
	w.Sample(1)
	if doc, err := w.Finish(); len(doc) > 0 || err == nil {
		t.Errorf("Sample after Reset = %q, %v, want an error", doc, err)
	}
	w.Reset(text)
	w.Gauge("third", "Third.")
	w.Sample(1)
	finish(t, &w)
}

// FuzzRoundTrip claims that an independent parser reads back exactly what was
// written, and that what may be refused is refused, and nothing else.
func FuzzRoundTrip(f *testing.F) {
	for _, tt := range escapeTests {
		f.Add("x", tt.in, "l", tt.in, tt.in+"2", 1.0)
		f.Add("x_total", tt.in, "l", tt.in, tt.in, 1.0)
	}
	for _, tt := range valueTests {
		f.Add("x", "X.", "l", "a", "b", tt.in)
		f.Add("x_total", "X.", "l", "a", "b", tt.in)
	}
	for _, name := range []string{"", "_x", "x:y", "1x", "x_sum", "x_sum_total", "x\ny", "le", "__name__", "good"} {
		f.Add(name, "X.", "l", "a", "b", 1.0)
		f.Add("x", "X.", name, "a", "b", 1.0)
	}
	familyName := regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]*$`)
	suffixed := regexp.MustCompile(`_(total|created|count|sum|bucket|gcount|gsum)$`)

	f.Fuzz(func(t *testing.T, name, help, labelName, a, b string, value float64) {
		base, counter := strings.CutSuffix(name, "_total")
		valid := familyName.MatchString(base) && !suffixed.MatchString(base) && base != "good" &&
			strings.TrimSpace(help) != "" &&
			familyName.MatchString(labelName) && labelName != "le" && labelName != "quantile" && labelName != "fixed" &&
			!(counter && !(value >= 0)) &&
			repair(a) != repair(b)
		if value == 0 {
			value = 0 // -0 is written as 0
		}

		for _, format := range []promtext.Format{text, open} {
			var w promtext.Writer
			w.Reset(format)
			w.Gauge("good", "Good.")
			w.Sample(1)
			if counter {
				w.Counter(name, help)
			} else {
				w.Gauge(name, help)
			}
			w.Sample(value, label(labelName, a), label("fixed", b))
			w.Sample(value, label("fixed", b), label(labelName, b))
			doc, err := w.Finish()
			if (err == nil) != valid {
				t.Fatalf("error %v, want valid = %v", err, valid)
			}
			got, perr := parse(string(doc), format)
			if perr != nil {
				t.Fatalf("%v in %q", perr, doc)
			}
			want := family{name, "gauge", repair(strings.TrimSpace(help)), []sample{
				{name, labels(labelName, repair(a), "fixed", repair(b)), value},
				{name, labels(labelName, repair(b), "fixed", repair(b)), value},
			}}
			if counter {
				want.typ = "counter"
				if format == open {
					want.name = base
				}
			}
			if valid && (len(got) != 2 || !got[1].equal(want)) {
				t.Fatalf("format %v: read back %+v, want %+v", format, got, want)
			}
			if len(got) == 0 || !got[0].equal(family{"good", "gauge", "Good.", []sample{{"good", labels(), 1}}}) {
				t.Fatalf("format %v: the family before it was changed: %+v", format, got)
			}
		}
	})
}

// repair replaces each invalid byte.
func repair(s string) string {
	return string([]rune(s))
}

// labels makes a label set of name and value pairs, without the empty ones.
func labels(pairs ...string) map[string]string {
	set := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			set[pairs[i]] = pairs[i+1]
		}
	}
	return set
}

type family struct {
	name, typ, help string
	samples         []sample
}

type sample struct {
	name   string
	labels map[string]string
	value  float64
}

func (f family) equal(g family) bool {
	if f.name != g.name || f.typ != g.typ || f.help != g.help || len(f.samples) != len(g.samples) {
		return false
	}
	for i, s := range f.samples {
		r := g.samples[i]
		same := math.Float64bits(s.value) == math.Float64bits(r.value) || math.IsNaN(s.value) && math.IsNaN(r.value)
		if s.name != r.name || !maps.Equal(s.labels, r.labels) || !same {
			return false
		}
	}
	return true
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)$`)
	helpLine   = regexp.MustCompile(`^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?s:.+))$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?s:.+))\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?s:[^\\"]|\\.)*)"(,|$)`)
)

// parse reads a document by the grammar, strictly, and shares nothing with the Writer.
func parse(doc string, format promtext.Format) ([]family, error) {
	if format == open {
		var ok bool
		if doc, ok = strings.CutSuffix(doc, "# EOF\n"); !ok {
			return nil, fmt.Errorf("no # EOF at the end")
		}
	}
	var families []family
	seen := map[string]bool{}
	for line := range strings.Lines(doc) {
		line, ok := strings.CutSuffix(line, "\n")
		if !ok || strings.HasSuffix(line, "\r") {
			return nil, fmt.Errorf("bad end of line after %q", line)
		}
		if m := typeLine.FindStringSubmatch(line); m != nil {
			families = append(families, family{name: m[1], typ: m[2]})
			if seen[m[1]] {
				return nil, fmt.Errorf("family %q twice", m[1])
			}
			seen[m[1]] = true
			continue
		}
		if len(families) == 0 {
			return nil, fmt.Errorf("line %q before the first family", line)
		}
		f := &families[len(families)-1]
		if m := helpLine.FindStringSubmatch(line); m != nil && m[1] == f.name && f.help == "" && len(f.samples) == 0 {
			var err error
			if f.help, err = unescape(m[2], format == open); err != nil {
				return nil, err
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		want := f.name
		if format == open && f.typ == "counter" {
			want += "_total"
		}
		if m == nil || m[1] != want {
			return nil, fmt.Errorf("bad line %q in family %q", line, f.name)
		}
		set := map[string]string{}
		for rest := m[2]; rest != ""; {
			l := labelPair.FindStringSubmatch(rest)
			if l == nil || rest == "," {
				return nil, fmt.Errorf("bad labels %q", m[2])
			}
			if _, twice := set[l[1]]; twice {
				return nil, fmt.Errorf("label %q twice", l[1])
			}
			value, err := unescape(rest[len(l[1])+2:len(l[0])-len(l[3])-1], true)
			if err != nil {
				return nil, err
			}
			set[l[1]] = value
			rest = rest[len(l[0]):]
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, err
		}
		series := fmt.Sprintf("%q %q", m[1], set)
		if seen[series] {
			return nil, fmt.Errorf("series %s twice", series)
		}
		seen[series] = true
		f.samples = append(f.samples, sample{m[1], set, value})
	}
	return families, nil
}

func unescape(s string, quotes bool) (string, error) {
	var b strings.Builder
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, `\\`):
			b.WriteByte('\\')
			s = s[2:]
		case strings.HasPrefix(s, `\n`):
			b.WriteByte('\n')
			s = s[2:]
		case quotes && strings.HasPrefix(s, `\"`):
			b.WriteByte('"')
			s = s[2:]
		case s[0] == '\\', s[0] == '"' && quotes:
			return "", fmt.Errorf("bad escape at %q", s)
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return b.String(), nil
}

func finish(t testing.TB, w *promtext.Writer) []byte {
	t.Helper()
	doc, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// A scrape writes 100 families of five samples with three labels each.
type scrape struct {
	names  [100]string
	values [5]string
}

func newScrape() *scrape {
	var s scrape
	for i := range s.names {
		s.names[i] = fmt.Sprintf("healthcheck_family_%d_total", i)
	}
	for i := range s.values {
		s.values[i] = fmt.Sprintf("postgres://db-%d:5432/app", i)
	}
	return &s
}

func (s *scrape) render(w *promtext.Writer, f promtext.Format) ([]byte, error) {
	w.Reset(f)
	for i, name := range s.names {
		w.Counter(name, "Checks run so far, by result.")
		for j, v := range s.values {
			w.Sample(float64(i)+float64(j)/8, label("type", "postgres"), label("check", "database"), label("target", v))
		}
	}
	return w.Finish()
}

func TestNoAllocations(t *testing.T) {
	s := newScrape()
	for _, format := range []promtext.Format{text, open} {
		var w promtext.Writer
		n := testing.AllocsPerRun(10, func() { // which runs once before it counts
			if _, err := s.render(&w, format); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("format %v: %v allocations in a scrape, want 0", format, n)
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	s := newScrape()
	for _, format := range []promtext.Format{text, open} {
		b.Run([]string{text: "text004", open: "openmetrics100"}[format], func(b *testing.B) {
			var w promtext.Writer
			doc, _ := s.render(&w, format)
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				s.render(&w, format)
			}
		})
	}
}
