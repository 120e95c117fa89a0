package dockerfile

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func Example() {
	f, err := Parse([]byte("# escape=`\nFROM debian AS base\nCMD [ `\n  # the service\n  \"app\", \"-v\" ]\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, in := range f.Instructions {
		fmt.Println(in.Line, in.Name, in.Args.Text)
	}
	elements, _ := f.Instructions[1].Array()
	start, end := f.Instructions[1].Span(elements[1])
	fmt.Printf("%s stands at byte %d\n", f.Src[start:end], start)
	// Output:
	// 2 FROM debian AS base
	// 3 CMD [   "app", "-v" ]
	// "-v" stands at byte 64
}

func ExampleFile_Expand() {
	f := &File{Escape: '\\'}
	lookup := func(name string) (string, bool) { return "9091", name == "PORT" }
	fmt.Println(f.Expand("${PORT}/tcp", lookup))
	fmt.Println(f.Expand("$OTHER", lookup))
	// Output:
	// 9091/tcp true
	//  false
}

func ExampleError() {
	_, err := Parse([]byte("FROM debian\nRUN <<EOF\n"))
	e := err.(*Error)
	fmt.Println(e.Line, e.What)
	// Output: 2 the here-document "EOF" never ends
}

// shape shows a file as its instructions: line, name, arguments, here-documents.
func shape(f *File) string {
	var s []string
	for _, in := range f.Instructions {
		s = append(s, strings.Join(append([]string{fmt.Sprint(in.Line), in.Name, in.Args.Text}, in.Heredocs...), " "))
	}
	return strings.Join(s, "|")
}

func TestParse(t *testing.T) {
	tests := []struct{ in, want string }{
		{"FROM a", "1 FROM a"},
		{"\n\n# c\n from a \t\n", "4 FROM a"},
		{"FROM a\nRUN b \\\n c", "1 FROM a|2 RUN b  c"},
		{"FROM a\nRUN b \\ \t\n# c\n\n  # d\n e\nUSER f", "1 FROM a|2 RUN b  e|7 USER f"},
		{"FROM a\nRUN b\\\\\nUSER c", `1 FROM a|2 RUN b\\|3 USER c`},
		{"FROM a\nRUN b \\", "1 FROM a|2 RUN b"},
		{"FROM a\n\\\nRUN b", "1 FROM a|2 RUN b"},
		{"FROM a\r\nRUN b \\\r\n c\r\n", "1 FROM a|2 RUN b  c"},
		{"FROM a\nRUN <<E b\nFROM c\nE\nUSER d", "1 FROM a|2 RUN <<E b E|5 USER d"},
		{"FROM a\nRUN <<-'E F' <<\"G\"\n\t\tE F\n\tG\nG\nUSER d", "1 FROM a|2 RUN <<-'E F' <<\"G\" E F G|6 USER d"},
		{"FROM a\nRUN 3<<E\nE\nUSER d", "1 FROM a|2 RUN 3<<E E|4 USER d"},
		{"FROM a\nRUN b << E\nE\nUSER d", "1 FROM a|2 RUN b << E E|4 USER d"},
		{"FROM a\r\nRUN <<E\r\nE\r\nUSER d", "1 FROM a|2 RUN <<E E|4 USER d"},
		{"FROM a\nCOPY <<E /b\nE\nADD <<E /b\nE", "1 FROM a|2 COPY <<E /b E|4 ADD <<E /b E"},
		{"FROM a\nONBUILD RUN <<E\nE\nUSER d", "1 FROM a|2 ONBUILD RUN <<E E|4 USER d"},
		{"FROM a\nRUN b <<<E\nUSER d", "1 FROM a|2 RUN b <<<E|3 USER d"},
		{"FROM a\nRUN echo '<<E'\nRUN echo \"<<E\" \\<<E\nUSER d", "1 FROM a|2 RUN echo '<<E'|3 RUN echo \"<<E\" \\<<E|4 USER d"},
		{"FROM a\nRUN echo 'b <<E\nUSER d", "1 FROM a|2 RUN echo 'b <<E|3 USER d"},
		{"FROM a\nRUN echo $((1<<2))\nUSER d", "1 FROM a|2 RUN echo $((1<<2))|3 USER d"},
		{"FROM a\nRUN [\"b\", \"<<E\"]\nONBUILD RUN [\"<<E\"]\nUSER d", "1 FROM a|2 RUN [\"b\", \"<<E\"]|3 ONBUILD RUN [\"<<E\"]|4 USER d"},
		{"FROM a\nCMD b <<E\nUSER d", "1 FROM a|2 CMD b <<E|3 USER d"},
		{"FROM a\nRUN ${A[0]} <<E\nUSER d", "1 FROM a|2 RUN ${A[0]} <<E|3 USER d"},
		{"FROM a\nRUN ${A:-b c} <<E\nE\nUSER d", "1 FROM a|2 RUN ${A:-b c} <<E E|4 USER d"},
		{"FROM --platform=\"b c\" a\nCOPY --from=a --chmod=1 -- --b c", "1 FROM a|2 COPY --b c"},
	}
	for _, tt := range tests {
		f, err := Parse([]byte(tt.in))
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
		} else if got := shape(f); got != tt.want {
			t.Errorf("Parse(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestParseError(t *testing.T) {
	tests := []struct {
		in   string
		line int
		want string
	}{
		{"", 1, "no instruction in the file"},
		{"# a\n\n", 2, "no instruction in the file"},
		{"FROM a\nFOO b", 2, `unknown instruction "FOO"`},
		{"FROM a\nRUN <<E\n E\n", 2, `the here-document "E" never ends`},
		{"FROM a b", 1, "FROM wants one argument, or three"},
		{"FROM a as 1b", 1, `no name for a stage: "1b"`},
		{"FROM", 1, "too few arguments for FROM"},
		{"FROM a\nCOPY b", 2, "too few arguments for COPY"},
		{"FROM a\nCOPY [\"b\"]", 2, "too few arguments for COPY"},
		{"FROM a\nCMD", 2, "too few arguments for CMD"},
		{"FROM a\nCMD [\"a\", 1]", 2, "the JSON array of CMD holds something that is no string"},
		{"FROM a\nENTRYPOINT --a b", 2, `ENTRYPOINT takes no flags, Docker refuses "--a"`},
		{"FROM a\nSHELL bash -c", 2, "SHELL wants a JSON array"},
		{"FROM a\nSHELL []", 2, "SHELL wants a JSON array"},
		{"# escape=x\nFROM a", 1, "the escape directive wants ` or \\"},
		{"# syntax=a\n# SYNTAX=b\nFROM a", 2, "a second syntax directive"},
		{"FROM a\nRUN " + strings.Repeat("b", maxLine), 2, "the line is longer than Docker reads (65,535 bytes)"},
		{"FROM a\n" + strings.Repeat("b", 60), 2, `unknown instruction "` + strings.Repeat("B", 40) + `…"`},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(tt.in))
		if e, ok := err.(*Error); !ok || e.Line != tt.line || e.What != tt.want || e.Hint == "" {
			t.Errorf("Parse(%.60q): %#v, want line %d: %s", tt.in, err, tt.line, tt.want)
		}
	}
}

func TestDirectives(t *testing.T) {
	tests := []struct {
		in     string
		n      int
		escape byte
	}{
		{"FROM a", 0, '\\'},
		{"# syntax=docker/dockerfile:1\nFROM a", 1, '\\'},
		{"#escape=`\nFROM a", 1, '`'},
		{"  #\tESCAPE = ` \nFROM a", 1, '`'},
		{"# syntax=a\n# check=b\n# escape=`\nFROM a", 3, '`'},
		{"\xef\xbb\xbf# escape=`\r\nFROM a", 1, '`'},
		{"# a comment\n# escape=`\nFROM a", 0, '\\'},
		{"\n# escape=`\nFROM a", 0, '\\'},
		{"# unknown=a\n# escape=`\nFROM a", 0, '\\'},
		{"FROM a\n# escape=`", 0, '\\'},
		{"#!/usr/bin/env x\n# escape=`\nFROM a", 0, '\\'},
	}
	for _, tt := range tests {
		f, err := Parse([]byte(tt.in))
		if err != nil || f.Directives != tt.n || f.Escape != tt.escape {
			t.Errorf("Parse(%q): %d directives, escape %c, %v, want %d, %c", tt.in, f.Directives, f.Escape, err, tt.n, tt.escape)
		}
	}
}

// lead shows the comment of the last instruction.
func TestLead(t *testing.T) {
	tests := []struct {
		in     string
		lead   string
		header bool
	}{
		{"FROM a", "", false},
		{"# b\n# c\nFROM a", "# b\n# c\n", true},
		{"# syntax=x\n# b\nFROM a", "# b\n", true},
		{"# b\n\n# c\nFROM a", "# c\n", false},
		{"# b\n\nFROM a", "", false},
		{"FROM a\n# b\n  # c\nUSER d", "# b\n  # c\n", false},
		{"RUN a \\\n# b\n c\nUSER d", "", false},
		{"RUN <<E\n# b\nE\nUSER d", "", false},
	}
	for _, tt := range tests {
		f, err := Parse([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		in := f.Instructions[len(f.Instructions)-1]
		if got := string(f.Src[in.Lead:in.Start]); got != tt.lead || in.Header != tt.header {
			t.Errorf("Parse(%q): lead %q, header %v, want %q, %v", tt.in, got, in.Header, tt.lead, tt.header)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "EMPTY": "", "B_2": "x y"}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	tests := []struct {
		in, want string
		ok       bool
	}{
		{"a", "a", true},
		{"$A", "1", true},
		{"${A}b$A.", "1b1.", true},
		{`"$A" '$A' \$A`, "1 $A $A", true},
		{`"a\"b\c"`, `a"b\c`, true},
		{"$B_2", "x y", true},
		{"$C", "", false},
		{"${C:-d$A}e", "d1e", true},
		{"${EMPTY:-d}${EMPTY-e}", "d", true},
		{"${A:+d}${C+e}", "d", true},
		{"${A:?no}", "", false},
		{"${A%1}", "", false},
		{"${A/1/2}", "", false},
		{"${A", "", false},
		{"${}", "", false},
		{"'a", "", false},
		{"$", "$", true},
	}
	for _, tt := range tests {
		f := &File{Escape: '\\'}
		if got, ok := f.Expand(tt.in, lookup); got != tt.want || ok != tt.ok {
			t.Errorf("Expand(%q) = %q, %v, want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestAssignments(t *testing.T) {
	tests := []struct {
		in   string
		want []Assignment
	}{
		{"ARG A", []Assignment{{"A", "", false}}},
		{"ARG A=b C", []Assignment{{"A", "b", true}, {"C", "", false}}},
		{"ARG A=", []Assignment{{"A", "", true}}},
		{"ENV A b c ", []Assignment{{"A", "b c", true}}},
		{"ENV A\tb=c", []Assignment{{"A", "b=c", true}}},
		{`ENV A="b c" D=e\ f  G='h "i'`, []Assignment{{"A", `"b c"`, true}, {"D", `e\ f`, true}, {"G", `'h "i'`, true}}},
	}
	for _, tt := range tests {
		f, err := Parse([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Assignments(f.Instructions[0]); !slices.Equal(got, tt.want) {
			t.Errorf("Assignments(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
	}
}

// FuzzParse: the instructions' lines do not overlap, and every byte of an
// instruction's text is the byte of the file it says.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"heredoc", "continuations", "escape", "cmd-multiline"} {
		b, err := os.ReadFile("../testdata/" + name + ".txt")
		if err != nil {
			f.Fatal(err)
		}
		_, in, _ := strings.Cut(string(b), "-- in --\n")
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse(src)
		if err != nil {
			if e, ok := err.(*Error); !ok || e.Line < 1 || e.Line > 1+strings.Count(string(src), "\n") {
				t.Fatalf("Parse(%q): %#v", src, err)
			}
			return
		}
		pos := 0
		for _, in := range file.Instructions {
			if in.Lead < pos || in.Start < in.Lead || in.End <= in.Start {
				t.Fatalf("%q: %s has lines [%d:%d:%d) behind %d", src, in.Name, in.Lead, in.Start, in.End, pos)
			}
			pos = in.End
			if line := 1 + strings.Count(string(src[:in.Start]), "\n"); line != in.Line {
				t.Fatalf("%q: %s is on line %d, not %d", src, in.Name, line, in.Line)
			}
			for i := range len(in.Text) {
				if at := in.at[i]; at < in.Start || at >= in.End || src[at] != in.Text[i] {
					t.Fatalf("%q: byte %d of %q is not at %d", src, i, in.Text, at)
				}
			}
		}
	})
}
