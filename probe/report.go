package probe

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// MaxOutput is the most that a probe prints, in bytes: Docker keeps 4,096 of its standard output and standard error together.
const MaxOutput = 4095

// maxProgress is how many bytes of progress a ProgressWriter writes. The results come last, and must be among those that Docker
// keeps.
const maxProgress = 1024

// A ProgressWriter writes what Wait reports to W, whole texts only, and drops what does not fit in 1 KiB.
type ProgressWriter struct {
	W       io.Writer
	written int
	full    bool
}

func (p *ProgressWriter) Write(text []byte) (int, error) {
	if p.full = p.full || p.written+len(text) > maxProgress; p.full {
		return len(text), nil
	}
	p.written += len(text)
	return p.W.Write(text)
}

// Room is how many bytes are left for the results.
func (p *ProgressWriter) Room() int { return MaxOutput - p.written }

// maxLines is more results than a report of that length can show.
const maxLines = MaxOutput / len("FAIL  n  t  m  0.0ms\n")

// Lines is the report for people: one line for each result, aligned, in colour where that is asked for. However much the
// peers said, and however many checks there are, it takes at most maxOutput bytes: first texts are cut, then
// lines that say ok are counted, not shown.
func Lines(results []Result, colour bool, maxOutput int) string {
	for _, limit := range []int{maxMessage, 200, 120, 80, 48, 32} {
		if len(results) > maxLines {
			break
		}
		if s := lines(results, limit, colour); len(s) <= maxOutput {
			return s
		}
	}
	var failed []Result
	for _, r := range results {
		if r.Status == Failed {
			failed = append(failed, r)
		}
	}
	for n := min(len(failed), maxLines); ; {
		s := lines(failed[:n], 32, colour) + fmt.Sprintf("and %d more checks: %d FAIL, %d ok\n", len(results)-n, len(failed)-n, len(results)-len(failed))
		if len(s) <= maxOutput {
			return s
		}
		n = fewer(n, len(s), maxOutput)
	}
}

// fewer is how many results to try next where n took size bytes, which is too many.
func fewer(n, size, maxOutput int) int { return n - max(1, n*(size-maxOutput)/size) }

// lines renders the table with each text cut to limit bytes.
func lines(results []Result, limit int, colour bool) string {
	rows := make([][4]string, len(results))
	var width [4]int
	for i, r := range results {
		rows[i] = [4]string{cut(r.Check.Name, limit), cut(r.Check.Target, limit), r.Line(limit), FormatDuration(r.Duration)}
		for c, cell := range rows[i] {
			width[c] = max(width[c], columns(cell))
		}
	}
	// A long text does not push the times of all other lines to the right.
	width[2] = min(width[2], 48)
	var b strings.Builder
	for i, row := range rows {
		word, colourOn, colourOff := "ok  ", "\x1b[32m", "\x1b[0m"
		switch results[i].Status {
		case Failed:
			word, colourOn = "FAIL", "\x1b[31m"
		case Degraded:
			colourOn = "\x1b[33m"
		}
		if !colour {
			colourOn, colourOff = "", ""
		}
		b.WriteString(colourOn + word + colourOff)
		for c, cell := range row[:3] {
			b.WriteString("  " + cell + strings.Repeat(" ", max(width[c]-columns(cell), 0)))
		}
		b.WriteString("  " + row[3] + "\n")
	}
	return b.String()
}

// columns is how many columns of a terminal a printable text takes: a character of East Asia and most emoji two (Unicode Standard
// Annex #11), an accent that joins the character before it none.
func columns(s string) (n int) {
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Mn, r):
		case r >= 0x1100 && slices.ContainsFunc(wide, func(w [2]rune) bool { return w[0] <= r && r <= w[1] }):
			n += 2
		default:
			n++
		}
	}
	return n
}

// wide are the ranges of wide characters, without the rarest.
var wide = [][2]rune{{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
	{0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1faff}, {0x20000, 0x3fffd}}

// FormatDuration formats a duration as Lines does: 1.2ms, 1.20s.
func FormatDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}

// Printable escapes the control, bidi and other invisible characters of a text: \n, \x1b, \u202e.
func Printable(s string) string { return escapeUnprintable(s) }

// JSON is the report for programs, one document on one line. It takes at most maxOutput bytes, as Lines does: first texts are
// cut, then checks are counted as "omitted", not shown, the failed ones last.
func JSON(results []Result, maxOutput int) string {
	var b []byte
	for _, limit := range []int{maxMessage, 200, 120, 80, 48, 32, 0} {
		if len(results) > maxLines {
			break
		}
		if b = appendDocument(b[:0], results, len(results), limit); len(b) <= maxOutput {
			return string(b)
		}
	}
	var ranked []Result // what must be shown first
	for _, status := range []Status{Failed, Degraded, OK} {
		for _, r := range results {
			if r.Status == status {
				ranked = append(ranked, r)
			}
		}
	}
	results = ranked
	for n := min(len(results), maxLines); ; n = fewer(n, len(b), maxOutput) {
		if b = appendDocument(b[:0], results, n, 0); len(b) <= maxOutput {
			return string(b)
		}
	}
}

// appendDocument appends {"status":…,"checks":[…]} with the first n results and each text cut to limit bytes; with 0,
// without dependencies.
func appendDocument(b []byte, results []Result, n, limit int) []byte {
	member := func(name, value string) {
		b = append(b, `,"`+name+`":`...)
		b = AppendJSON(b, value)
	}
	b = append(b, `{"status":"`+string(Verdict(results))+`","checks":[`...)
	for i, r := range results[:n] {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendJSON(append(b, `{"name":`...), r.Check.Name)
		member("type", r.Check.Type)
		member("target", cut(r.Check.Target, max(limit, 64)))
		member("status", string(r.Status))
		if r.Phase != "" {
			member("phase", string(r.Phase))
		}
		member("message", cut(r.Message, limit))
		if r.Detail != "" && limit > 0 {
			member("detail", cut(r.Detail, limit))
		}
		if r.Remedy != "" && limit > 0 {
			member("remedy", r.Remedy)
		}
		b = append(b, `,"duration_seconds":`...)
		b = strconv.AppendFloat(b, r.Duration.Round(time.Microsecond).Seconds(), 'f', -1, 64)
		if len(r.Dependencies) > 0 && limit > 0 {
			b = append(b, `,"services":{`...)
			for k, d := range r.Dependencies {
				if k > 0 {
					b = append(b, ',')
				}
				b = AppendJSON(b, d.Name)
				b = AppendJSON(append(b, ':'), string(d.Status))
			}
			b = append(b, '}')
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	if omitted := len(results) - n; omitted > 0 {
		b = strconv.AppendInt(append(b, `,"omitted":`...), int64(omitted), 10)
	}
	return append(b, "}\n"...)
}
