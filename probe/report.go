package probe

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxOutput is the most that a report takes, in bytes: Docker keeps 4,096 of a probe's output.
const maxOutput = 4095

// Lines is the report for people: one line for each result, aligned, in colour where that is asked for. However much the
// peers said, and however many checks there are, it stays under 4,096 bytes: first texts are cut, then
// lines that say ok are counted, not shown.
func Lines(results []Result, colour bool) string {
	for _, limit := range []int{maxMessage, 200, 120, 80, 48, 32} {
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
	for n := len(failed); ; n-- {
		s := lines(failed[:n], 32, colour) + fmt.Sprintf("and %d more checks: %d FAIL, %d ok\n", len(results)-n, len(failed)-n, len(results)-len(failed))
		if len(s) <= maxOutput {
			return s
		}
	}
}

// lines renders the table with each text cut to limit bytes.
func lines(results []Result, limit int, colour bool) string {
	rows := make([][4]string, len(results))
	var width [4]int
	for i, r := range results {
		rows[i] = [4]string{cut(r.Check.Name, limit), cut(r.Check.Target, limit), cut(r.Seen(), limit), duration(r.Duration)}
		for c, cell := range rows[i] {
			width[c] = max(width[c], utf8.RuneCountInString(cell))
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
			b.WriteString("  " + cell + strings.Repeat(" ", max(width[c]-utf8.RuneCountInString(cell), 0)))
		}
		b.WriteString("  " + row[3] + "\n")
	}
	return b.String()
}

// duration is a time as the lines show it.
func duration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.2fs", d.Seconds())
}

// JSON is the report for programs, one document on one line. Texts are cut so that it stays under 4,096 bytes, as long
// as the number of checks allows it.
func JSON(results []Result) string {
	var b []byte
	for _, limit := range []int{maxMessage, 200, 120, 80, 48, 32, 0} {
		if b = appendDocument(b[:0], results, limit); len(b) <= maxOutput {
			break
		}
	}
	return string(b)
}

// appendDocument appends {"status":…,"checks":[…]} with each text cut to limit bytes; with 0, without dependencies.
func appendDocument(b []byte, results []Result, limit int) []byte {
	member := func(name, value string) {
		b = append(b, `,"`+name+`":`...)
		b = AppendJSON(b, value)
	}
	b = append(b, `{"status":"`+string(Verdict(results))+`","checks":[`...)
	for i, r := range results {
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
	return append(b, "]}\n"...)
}
