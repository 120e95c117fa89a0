package main

import (
	"bytes"
	"fmt"
	"strings"
)

// contextLines stand around each change, as in diff -u.
const contextLines = 3

// maxCells bounds the table of diffLines: what is larger is shown as one change.
const maxCells = 4 << 20

// unified returns the difference between two versions of a file as diff -u
// prints it, without time stamps; "" where there is none.
func unified(name string, before, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	a, b := lines(before), lines(after)
	ops := diffLines(a, b)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", name, name)
	for start := 0; ; {
		for start < len(ops) && ops[start].kind == ' ' {
			start++
		}
		if start == len(ops) {
			return out.String()
		}
		// the hunk ends where more equal lines follow than two contexts hold
		end, equal := start, 0
		for i := start; i < len(ops) && equal <= 2*contextLines; i++ {
			if equal++; ops[i].kind != ' ' {
				end, equal = i+1, 0
			}
		}
		hunk := ops[max(0, start-contextLines):min(len(ops), end+contextLines)]
		var body strings.Builder
		na, nb := 0, 0
		for _, op := range hunk {
			if op.kind != '+' {
				na++
			}
			if op.kind != '-' {
				nb++
			}
			fmt.Fprintf(&body, "%c%s", op.kind, op.line)
			if !strings.HasSuffix(op.line, "\n") {
				body.WriteString("\n\\ No newline at end of file\n")
			}
		}
		fmt.Fprintf(&out, "@@ -%s +%s @@\n%s", span(hunk[0].a, na), span(hunk[0].b, nb), body.String())
		start = end
	}
}

// span is a hunk's first line, from 1, and its length. An empty one begins at
// the line before it.
func span(first, n int) string {
	if n > 0 {
		first++
	}
	if n == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d,%d", first, n)
}

// lines splits a file behind each newline.
func lines(b []byte) []string {
	s := strings.SplitAfter(string(b), "\n")
	if s[len(s)-1] == "" {
		s = s[:len(s)-1]
	}
	return s
}

// A diffOp keeps (' '), removes or adds a line; a and b are how many lines of
// the two versions stand before it.
type diffOp struct {
	kind byte
	line string
	a, b int
}

// diffLines finds a longest common subsequence of lines.
func diffLines(a, b []string) []diffOp {
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	ma, mb := a[head:len(a)-tail], b[head:len(b)-tail]
	var common [][]int // common[i][j]: how many lines ma[i:] and mb[j:] share
	if len(ma)*len(mb) <= maxCells {
		common = make([][]int, len(ma)+1)
		for i := range common {
			common[i] = make([]int, len(mb)+1)
		}
		for i := len(ma) - 1; i >= 0; i-- {
			for j := len(mb) - 1; j >= 0; j-- {
				if common[i][j] = max(common[i+1][j], common[i][j+1]); ma[i] == mb[j] {
					common[i][j] = common[i+1][j+1] + 1
				}
			}
		}
	}
	var ops []diffOp
	i, j := 0, 0
	put := func(kind byte, line string) {
		ops = append(ops, diffOp{kind, line, i, j})
		if kind != '+' {
			i++
		}
		if kind != '-' {
			j++
		}
	}
	for i < len(a) || j < len(b) {
		x, y := i-head, j-head
		switch {
		case i < head || i >= head+len(ma) && j >= head+len(mb):
			put(' ', a[i])
		case x == len(ma):
			put('+', b[j])
		case y == len(mb):
			put('-', a[i])
		case common != nil && a[i] == b[j]:
			put(' ', a[i])
		case common == nil || common[x+1][y] >= common[x][y+1]:
			put('-', a[i])
		default:
			put('+', b[j])
		}
	}
	return ops
}
