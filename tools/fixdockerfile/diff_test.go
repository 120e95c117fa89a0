package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestUnified(t *testing.T) {
	tests := []struct{ before, after, want string }{
		{"a\n", "a\n", ""},
		{"", "a\n", "@@ -0,0 +1 @@\n+a\n"},
		{"a\n", "", "@@ -1 +0,0 @@\n-a\n"},
		{"a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		{"a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\nx\n",
			"@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -7,3 +8,4 @@\n 7\n 8\n 9\n+x\n"},
		{"1\n2\n3\n4\n5\n6\n", "0\n1\n2\n3\n4\n5\n6\nx\n",
			"@@ -1,6 +1,8 @@\n+0\n 1\n 2\n 3\n 4\n 5\n 6\n+x\n"},
	}
	for _, tt := range tests {
		want := tt.want
		if want != "" {
			want = "--- F\n+++ F\n" + want
		}
		if got := unified("F", []byte(tt.before), []byte(tt.after)); got != want {
			t.Errorf("unified(%q, %q) = %q, want %q", tt.before, tt.after, got, want)
		}
	}
}

// A change too large for the table is shown as one.
func TestUnifiedLarge(t *testing.T) {
	a := strings.Repeat("a\n", 3000)
	b := strings.Repeat("b\n", 3000)
	if got := applyDiff(t, []byte("x\n"+a+"y\n"), unified("F", []byte("x\n"+a+"y\n"), []byte("x\n"+b+"y\n"))); string(got) != "x\n"+b+"y\n" {
		t.Errorf("the diff of a large change does not lead to it")
	}
}

// applyDiff does what patch does, and minds every line and number.
func applyDiff(t *testing.T, before []byte, diff string) []byte {
	t.Helper()
	if diff == "" {
		return before
	}
	old := lines(before)
	var out []string
	pos := 0 // in old
	var start, n, m, put int
	ended := func() bool { return pos == start+n && put == m }
	for i, line := range lines([]byte(diff)) {
		switch {
		case i < 2:
		case strings.HasPrefix(line, "@@ "):
			if i > 2 && !ended() {
				t.Fatalf("hunk before line %d of %q has other lengths than it says", i+1, diff)
			}
			var a, b string
			if _, err := fmt.Sscanf(line, "@@ -%s +%s @@\n", &a, &b); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			n, m, put = 1, 1, 0
			fmt.Sscanf(a, "%d,%d", &start, &n)
			first := 0
			fmt.Sscanf(b, "%d,%d", &first, &m)
			if n > 0 {
				start--
			}
			out = append(out, old[pos:start]...)
			if pos = start; m > 0 {
				first--
			}
			if len(out) != first {
				t.Fatalf("%q: the hunk begins at line %d of the new file", line, len(out)+1)
			}
		case line == "\\ No newline at end of file\n":
			if last := lines([]byte(diff))[i-1]; last[0] != '-' {
				out[len(out)-1] = strings.TrimSuffix(out[len(out)-1], "\n")
			}
		default:
			bare := strings.TrimSuffix(line[1:], "\n")
			if line[0] != '+' {
				if strings.TrimSuffix(old[pos], "\n") != bare {
					t.Fatalf("line %d of the diff is %q, the file has %q", i+1, line, old[pos])
				}
				pos++
			}
			if line[0] != '-' {
				out = append(out, line[1:])
				put++
			}
		}
	}
	if !ended() {
		t.Fatalf("the last hunk of %q has other lengths than it says", diff)
	}
	return []byte(strings.Join(append(out, old[pos:]...), ""))
}
