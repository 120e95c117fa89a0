package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// document is the report of --json.
type document struct {
	Status Status          `json:"status"`
	Checks []documentCheck `json:"checks"`
}

type documentCheck struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Target   string   `json:"target"`
	Status   Status   `json:"status"`
	Phase    Phase    `json:"phase,omitempty"`
	Message  string   `json:"message"`
	Duration float64  `json:"duration_seconds"`
	Services services `json:"services,omitempty"`
}

// services is a map that keeps the order of the health document it came from.
type services []Dependency

func (s services) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, d := range s {
		name, err := json.Marshal(d.Name)
		if err != nil {
			return nil, err
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		fmt.Fprintf(&b, "%s:%q", name, string(d.Status))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// JSON is the report for programs, one document on one line. Texts are cut so that it stays under 4,096 bytes, as long
// as the number of checks allows it.
func JSON(results []Result) string {
	var s string
	for _, limit := range []int{maxMessage, 200, 120, 80, 48, 32, 0} {
		doc := document{Status: Verdict(results), Checks: []documentCheck{}}
		for _, r := range results {
			c := documentCheck{r.Check.Name, r.Check.Type, cut(r.Check.Target, max(limit, 64)), r.Status, r.Phase, cut(r.Message, limit), r.Duration.Round(time.Microsecond).Seconds(), r.Dependencies}
			if limit == 0 {
				c.Services = nil
			}
			doc.Checks = append(doc.Checks, c)
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.Encode(doc)
		if s = b.String(); len(s) <= maxOutput {
			break
		}
	}
	return s
}
