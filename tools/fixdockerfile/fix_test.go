package main

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

var wanted = options{image: "alfred/healthcheck:0.4.0", port: 9091}

// What a golden file cannot show: line ends and the file's last byte.
func TestFixBytes(t *testing.T) {
	const from = "FROM alfred/healthcheck:0.4.0 AS healthcheck"
	const copied = "COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/"
	const wrapped = `CMD ["healthcheck", "--export-prom", ":9091", "--", "app"]`
	const bom = "\xef\xbb\xbf"
	tests := []struct{ in, want string }{
		{"FROM a\nCMD [\"app\"]", from + "\nFROM a\n" + copied + "\nEXPOSE 9091\n" + wrapped},
		{"FROM a\r\nCMD [\"app\"]\r\n", from + "\r\nFROM a\r\n" + copied + "\r\nEXPOSE 9091\r\n" + wrapped + "\r\n"},
		{"FROM a\r\nCMD [ \\\r\n\"app\"]", from + "\r\nFROM a\r\n" + copied + "\r\nEXPOSE 9091\r\nCMD [ \\\r\n" + wrapped[5:]},
		{bom + "FROM a\nCMD [\"app\"]\n", bom + from + "\nFROM a\n" + copied + "\nEXPOSE 9091\n" + wrapped + "\n"},
		{bom + "# escape=`\r\nFROM a\r\nCMD [\"app\"]\r\n", bom + "# escape=`\r\n" + from + "\r\nFROM a\r\n" + copied + "\r\nEXPOSE 9091\r\n" + wrapped + "\r\n"},
		{"FROM a AS b\nCMD [\"app\"]\nFROM b", from + "\nFROM a AS b\nCMD [\"app\"]\nFROM b\n" + copied + "\nEXPOSE 9091\n" + wrapped},
		{"\n\n  FROM a \t\n\tCMD app  \n\n# end", "\n\n" + from + "\n  FROM a \t\n" + copied + "\nEXPOSE 9091\n\tCMD [\"healthcheck\", \"--export-prom\", \":9091\", \"--\", \"/bin/sh\", \"-c\", \"exec app\"]  \n\n# end"},
		{"FROM a\nRUN echo \xff\nCMD [\"app\"]\n", from + "\nFROM a\n" + copied + "\nRUN echo \xff\nEXPOSE 9091\n" + wrapped + "\n"},
		{"FROM a\nCMD [\"app\"] \\", from + "\nFROM a\n" + copied + "\nEXPOSE 9091\n" + wrapped + " \\"},
	}
	for _, tt := range tests {
		got, _, err := fix([]byte(tt.in), wanted)
		if err != nil || string(got) != tt.want {
			t.Errorf("fix(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestFixRefusesInvalidUTF8(t *testing.T) {
	_, _, err := fix([]byte("FROM a\nCMD echo \xff\n"), wanted)
	if p := new(problem); !errors.As(err, &p) || p.line != 2 {
		t.Errorf("fix of a command in Latin-1: %v, want a problem on line 2", err)
	}
}

// A stage that is a target of its own, built on the one that had the COPY.
func TestFixWarnsOfOtherTargets(t *testing.T) {
	const src = "FROM debian:12 AS base\nCOPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n" +
		"FROM base AS worker\nCMD [\"healthcheck\", \"--\", \"work\"]\nFROM base AS api\nCMD [\"app\"]\n"
	const want = "COPY moved from line 2 to the final stage (the stage on line 3 starts healthcheck and has it no more)"
	if _, changes, err := fix([]byte(src), wanted); err != nil || !slices.Contains(changes, want) {
		t.Errorf("fix(%q): %q, %v, want %q among them", src, changes, err, want)
	}
}

func TestIsHealthcheck(t *testing.T) {
	tests := []struct {
		image string
		want  bool
	}{
		{"alfred/healthcheck", true},
		{"alfred/healthcheck:latest", true},
		{"ghcr.io/locotoki/alfred/healthcheck:0.3.0", true},
		{"localhost:5000/alfred/healthcheck", true},
		{"alfred/healthcheck:0.4.0@sha256:00", true},
		{"registry.example:5000/health:2", true},
		{"registry.example:5000/healthy", false},
		{"healthcheck:0.4.0", false},
		{"malfred/healthcheck", false},
		{"alfred/healthcheck-ui:0.4.0", false},
		{"alfred/healthcheck/ui", false},
		{"", false},
	}
	for _, tt := range tests {
		if got := isHealthcheck(tt.image, "registry.example:5000/health:1.0"); got != tt.want {
			t.Errorf("isHealthcheck(%q) = %v, want %v", tt.image, got, tt.want)
		}
	}
}

func TestDispatcher(t *testing.T) {
	tests := []struct{ image, want string }{
		{"redis", "docker-entrypoint.sh"},
		{"postgres:15-alpine", "docker-entrypoint.sh"},
		{"docker.io/library/mysql:8", "docker-entrypoint.sh"},
		{"docker.io/nginx", "/docker-entrypoint.sh"},
		{"mirror.gcr.io/library/mongo", "docker-entrypoint.sh"},
		{"valkey/valkey:8", "docker-entrypoint.sh"},
		{"docker.io/pgvector/pgvector:pg16", "docker-entrypoint.sh"},
		{"nginx:1.27", "/docker-entrypoint.sh"},
		{"supabase/postgres:15", ""},
		{"bitnami/redis", ""},
		{"node:20", ""},
	}
	for _, tt := range tests {
		if got := dispatcher(tt.image); got != tt.want {
			t.Errorf("dispatcher(%q) = %q, want %q", tt.image, got, tt.want)
		}
	}
}

func TestParsePort(t *testing.T) {
	tests := []struct {
		in     string
		lo, hi int
		ok     bool
	}{
		{"9091", 9091, 9091, true},
		{"9091/tcp", 9091, 9091, true},
		{"9091/TCP", 9091, 9091, true},
		{"9091/", 9091, 9091, true},
		{"9090-9095", 9090, 9095, true},
		{"9090-9095/tcp", 9090, 9095, true},
		{"80:9091", 9091, 9091, true},
		{"127.0.0.1:80:9091/tcp", 9091, 9091, true},
		{"[::1]:80:9091", 9091, 9091, true},
		{"9091/udp", 9091, 9091, false},
		{"9091/sctp", 9091, 9091, false},
		{"9095-9090", 9095, 9090, false},
		{"", 0, 0, false},
		{"$PORT", 0, 0, false},
		{"9091-", 9091, 0, false},
	}
	for _, tt := range tests {
		lo, hi, ok := parsePort(tt.in)
		if lo != tt.lo || hi != tt.hi || ok != tt.ok {
			t.Errorf("parsePort(%q) = %d, %d, %v, want %d, %d, %v", tt.in, lo, hi, ok, tt.lo, tt.hi, tt.ok)
		}
	}
}

func TestExposeChain(t *testing.T) {
	const head = "FROM alfred/healthcheck:0.4.0 AS healthcheck\nFROM a\nCOPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/\n"
	const tail = "\nCMD [\"healthcheck\", \"--export-prom\", \":9091\", \"--\", \"app\"]\n"
	tests := []struct{ in, want string }{
		{"EXPOSE 9091", "EXPOSE 9091"},
		{"EXPOSE 80", "EXPOSE 80\nEXPOSE 9091"},
		{"EXPOSE 9091 9091 80 9091", "EXPOSE 9091 80"},
		{"EXPOSE 9091/udp", "EXPOSE 9091/udp\nEXPOSE 9091"},
		{"EXPOSE 9090-9095\nEXPOSE 9091", "EXPOSE 9090-9095"},
		{"EXPOSE 9091\nEXPOSE 9090-9095", "EXPOSE 9091\nEXPOSE 9090-9095"},
		{"ENV P=9091\nEXPOSE 80 ${P}", "ENV P=9091\nEXPOSE 80 ${P}"},
		{"ENV P 9091\nEXPOSE $P\nEXPOSE 9091", "ENV P 9091\nEXPOSE $P"},
		{"ARG P=1\nENV P=9091 Q=$P\nEXPOSE $Q", "ARG P=1\nENV P=9091 Q=$P\nEXPOSE $Q\nEXPOSE 9091"},
		{"ARG P=9091\nEXPOSE 9091\nEXPOSE $P", "ARG P=9091\nEXPOSE 9091\nEXPOSE $P"},
		{"ARG P=9091\nENV Q=$P\nEXPOSE $Q\nEXPOSE 9091\nEXPOSE 9091", "ARG P=9091\nENV Q=$P\nEXPOSE $Q\nEXPOSE 9091"},
		{"EXPOSE ${P:-9091}", "EXPOSE ${P:-9091}"},
		{"EXPOSE ${P%1}", "EXPOSE ${P%1}\nEXPOSE 9091"},
		{"EXPOSE \"9091\"", "EXPOSE \"9091\""},
		{"EXPOSE 9091 \\\n 9091 \\\n 80\nEXPOSE 9091", "EXPOSE 9091 \\\n 80"},
		{"EXPOSE 80\nEXPOSE 9091 9091", "EXPOSE 80\nEXPOSE 9091"},
	}
	for _, tt := range tests {
		got, _, err := fix([]byte(head+tt.in+tail), wanted)
		if want := head + tt.want + tail; err != nil || string(got) != want {
			t.Errorf("fix(%q) = %q, %v, want %q", tt.in, got, err, want)
		}
	}
}

func TestReplaceArray(t *testing.T) {
	tests := []struct {
		in   string
		want []string
		out  string
	}{
		{`CMD ["a"]`, []string{"x", "a"}, `CMD ["x", "a"]`},
		{`CMD ["a" , "b"]`, []string{"a", "c"}, `CMD ["a" , "c"]`},
		{`CMD ["a" , "b"]`, []string{"b"}, `CMD ["b"]`},
		{`CMD ["a" , "b"]`, []string{"a"}, `CMD ["a"]`},
		{`CMD ["a" , "b"]`, []string{"a", "b", "c"}, `CMD ["a" , "b", "c"]`},
		{`CMD [ "a" ]`, nil, `CMD []`},
		{`CMD [ ]`, []string{"<a>"}, `CMD ["<a>"]`},
		{"CMD [\"a\", \\\n# c\n \"b\"]", []string{"x", "b"}, "CMD [\"x\", \\\n# c\n \"b\"]"},
		{"CMD [\"a\\u0062\", \"b\\\n c\"]", []string{"ab", "d"}, "CMD [\"a\\u0062\", \"d\"]"},
	}
	for _, tt := range tests {
		f, err := dockerfile.Parse([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		e := editor{File: f}
		have, _ := f.Instructions[0].Array()
		e.replaceArray(f.Instructions[0], have, tt.want)
		if out, err := e.apply(); err != nil || string(out) != tt.out {
			t.Errorf("replaceArray(%q, %q) = %q, %v, want %q", tt.in, tt.want, out, err, tt.out)
		}
	}
}

// untouched are the instructions that no change is ever made to.
func untouched(src []byte) (raw []string) {
	f, err := dockerfile.Parse(src)
	if err != nil {
		return nil
	}
	for _, in := range f.Instructions {
		switch in.Name {
		case "FROM", "COPY", "EXPOSE", "CMD", "ENTRYPOINT", "RUN", "HEALTHCHECK":
		default:
			raw = append(raw, strings.TrimRight(string(src[in.Start:in.End]), "\r\n"))
		}
	}
	return raw
}

// FuzzFix: an error leaves nothing half done; a result is fixed by the standard
// of a second run, holds every instruction that is not part of the pattern, byte
// for byte and in order, and its diff leads from the one to the other.
func FuzzFix(f *testing.F) {
	for _, g := range readGoldens(f) {
		f.Add([]byte(g.in))
		f.Add([]byte(strings.ReplaceAll(g.in, "\n", "\r\n")))
	}
	for _, s := range []string{
		"FROM a\nEXPOSE 9091\\ 9091\nCMD 0",
		"FROM a\nEXPOSE 9091 \\ 9091\nCMD 0",
		"FROM a\nEXPOSE 9091\\\n 9091\nCMD 0",
		"FROM a\nCOPY --from=01 0 0\nCMD 0",
		"FROM heAlthCheCk\nCMD 0",
		"FROM a\nCMD sh -c \"healthcheck - -export-prom #00\"",
		"FROM --platform=\x82 a\nCMD 0",
		"FROM 0\xff",
		"FROM 0\nCOPY --from=healthcheck [\"healthcheck\",\"\"]\nhealthcheck 0\nCMD 0",
		"FROM 0\nCOPY --from=healthcheck [\"/healthcheck\",\"/a b\"]\nRUN /a b\nCMD 0",
		"FROM a\nCOPY --from=healthcheck /healthcheck /\xff\nRUN \xff\nFROM a\nCMD 0",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before := bytes.Clone(src)
		out, changes, err := fix(src, wanted)
		if !bytes.Equal(src, before) {
			t.Fatalf("fix(%q) changed its argument", before)
		}
		if err != nil {
			if p := new(problem); errors.As(err, &p) && strings.HasPrefix(p.what, "the result would not hold") {
				t.Fatalf("fix(%q): %v", src, err)
			}
			return
		}
		if (len(changes) == 0) != bytes.Equal(src, out) {
			t.Fatalf("fix(%q): %q, but the result is %q", src, changes, out)
		}
		again, more, err := fix(out, wanted)
		if err != nil || len(more) > 0 || !bytes.Equal(again, out) {
			t.Fatalf("fix(fix(%q)) = %q, %q, %v", src, again, more, err)
		}
		if a, b := untouched(src), untouched(out); !slices.Equal(a, b) {
			t.Fatalf("fix(%q) changed %q to %q", src, a, b)
		}
		if got := applyDiff(t, src, unified("x", src, out)); !bytes.Equal(got, out) {
			t.Fatalf("the diff of fix(%q) leads to %q, not %q", src, got, out)
		}
	})
}
