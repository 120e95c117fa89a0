package promtext

import (
	"strconv"
	"strings"
)

// A Format is one of the two formats a Writer can write.
type Format uint8

const (
	Text004        Format = iota // Prometheus text, version 0.0.4
	OpenMetrics100               // OpenMetrics, version 1.0.0
)

// ContentType returns the exact value of the Content-Type header for f.
func (f Format) ContentType() string {
	if f == OpenMetrics100 {
		return "application/openmetrics-text; version=1.0.0; charset=utf-8" // OM "Overall Structure"
	}
	return "text/plain; version=0.0.4; charset=utf-8" // exposition formats, "Basic info"
}

// Negotiate picks the format for a request from the values of its Accept
// header, by RFC 9110, sections 12.4.2 (weights) and 12.5.1 (Accept).
//
// OpenMetrics is the answer only where it is asked for by name, in version
// 1.0.0 or in none, with a weight no lower than that of text 0.0.4. In all
// other cases the answer is Text004, even if it was refused: a scrape has to
// be answered. A weight that is not a number from 0 to 1 counts as 0. Other
// parameters, such as escaping, do not matter to what a Writer writes.
func Negotiate(accept []string) Format {
	var text, open preference
	for _, line := range accept {
		for r := range strings.SplitSeq(line, ",") {
			media, version, q := parseRange(r)
			switch {
			case is(media, "*/*"):
				text.note(1, q)
			case is(media, "text/*"):
				text.note(2, q)
			case is(media, "text/plain") && version == "":
				text.note(3, q)
			case is(media, "text/plain") && version == "0.0.4":
				text.note(4, q)
			case is(media, "application/openmetrics-text") && version == "":
				open.note(3, q)
			case is(media, "application/openmetrics-text") && version == "1.0.0":
				open.note(4, q)
			}
		}
	}
	if open.q > 0 && open.q >= text.q {
		return OpenMetrics100
	}
	return Text004
}

// A preference is the weight of the most specific media range that matches a format.
type preference struct {
	specificity int
	q           float64
}

func (p *preference) note(specificity int, q float64) {
	if specificity > p.specificity || specificity == p.specificity && q > p.q {
		*p = preference{specificity, q}
	}
}

// parseRange splits one media range: application/openmetrics-text;version=1.0.0;q=0.6
func parseRange(s string) (media, version string, q float64) {
	media, params, _ := strings.Cut(s, ";")
	q = 1
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		value = strings.Trim(value, " \t\"")
		switch {
		case is(name, "version"):
			version = value
		case is(name, "q"):
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil || !(0 <= q && q <= 1) {
				q = 0
			}
		}
	}
	return media, version, q
}

// is compares tokens: their case and the space around them do not count.
func is(token, name string) bool {
	return strings.EqualFold(strings.TrimSpace(token), name)
}
