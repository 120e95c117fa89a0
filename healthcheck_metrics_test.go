//go:build linux

package main_test

import (
	"math"
	"strconv"
	"strings"
)

// value is that of a series in a scrape, as it is written there; NaN where it is missing.
func value(scrape, series string) float64 {
	for line := range strings.Lines(scrape) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return v
		}
	}
	return math.NaN()
}
