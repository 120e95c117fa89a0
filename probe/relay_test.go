package probe

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// someReports are reports whose texts are as long as they may be.
func someReports(n int) (list []Report) {
	for i := range n {
		list = append(list, Report{Check: fmt.Sprintf("%0*d", maxName, i)[1:], Type: Types[i%len(Types)], Status: relayStatuses[i%len(relayStatuses)],
			Target: strings.Repeat("é", maxTarget/2), Duration: 1<<63 - 1 - time.Duration(i)})
		list[i].Check = "c" + list[i].Check
	}
	return list
}

func TestRelayFrame(t *testing.T) {
	for _, n := range []int{1, maxReports} {
		want := someReports(n)
		b := encodeReports(want)
		if got, err := decodeReports(b); err != nil || !reflect.DeepEqual(got, want) || len(b) > maxRelay {
			t.Errorf("%d reports, %d bytes: decoded %v, %v", n, len(b), got, err)
		}
		for cut := range len(b) { // no part of a message is one, unless it ends between two results
			if got, err := decodeReports(b[:cut]); err == nil && !bytes.Equal(encodeReports(got), b[:cut]) {
				t.Fatalf("%d of %d bytes were decoded as %v", cut, len(b), got)
			}
		}
	}
	one := func(change func(r *Report)) []byte {
		r := Report{Check: "api", Type: "http", Target: "http://api/", Status: OK, Duration: time.Second}
		change(&r)
		return encodeReports([]Report{r})
	}
	valid := one(func(*Report) {})
	patched := func(at int, c byte) []byte { b := bytes.Clone(valid); b[at] = c; return b }
	for _, tt := range []struct {
		name    string
		message []byte
	}{
		{"empty", nil},
		{"version alone", valid[:1]},
		{"next version", patched(0, relayVersion+1)},
		{"unknown status", patched(1, byte(len(relayStatuses)))},
		{"status that is none of a probe's", one(func(r *Report) { r.Status = Starting })},
		{"negative duration", patched(2, 0x80)},
		{"a text longer than the message", patched(10, 255)},
		{"one byte more", append(bytes.Clone(valid), 0)},
		{"unknown type", one(func(r *Report) { r.Type = "icmp" })},
		{"no type", one(func(r *Report) { r.Type = "" })},
		{"no name", one(func(r *Report) { r.Check = "" })},
		{"a name that no check can have", one(func(r *Report) { r.Check = "a b" })},
		{"long name", one(func(r *Report) { r.Check = strings.Repeat("a", maxName+1) })},
		{"type of 255 bytes", one(func(r *Report) { r.Type = strings.Repeat("a", 255) })}, // with its length it is 256
		{"target of 255 bytes", one(func(r *Report) { r.Target = strings.Repeat("a", 255) })},
		{"no target", one(func(r *Report) { r.Target = "" })},
		{"long target", one(func(r *Report) { r.Target = strings.Repeat("a", maxTarget+1) })},
		{"invalid UTF-8", one(func(r *Report) { r.Target = "a\xff" })},
		{"too many", encodeReports(someReports(maxReports + 1))},
		{"too long", make([]byte, maxRelay+1)},
	} {
		reports := new(Reports)
		if err := reports.receive(tt.message, time.Now()); err == nil || reports.List() != nil {
			t.Errorf("%s: %v, %v, want an error and nothing kept", tt.name, err, reports.List())
		}
	}
	got, err := decodeReports(one(func(r *Report) { r.Target = "a\n\x1b[2J\u202eb" }))
	if want := `a\n\x1b[2J\u202eb`; err != nil || got[0].Target != want {
		t.Errorf("decoded %v, %v, want target %s", got, err, want)
	}
}

// TestReportsOf: a probe relays what fits, and nothing that a peer said.
func TestReportsOf(t *testing.T) {
	results := make([]Result, maxReports+4)
	for i := range results {
		results[i] = Result{Check: &Check{Name: fmt.Sprintf("c%d", i), Type: "tcp", Target: strings.Repeat("t", 1000)}, Status: Failed,
			Phase: PhaseReply, Message: "peer's words", Duration: time.Second}
	}
	b := encodeReports(reportsOf(results))
	got, err := decodeReports(b)
	if err != nil || len(got) != maxReports || got[15].Check != "c15" || len(got[15].Target) != maxTarget || bytes.Contains(b, []byte("words")) {
		t.Errorf("relayed %v, %v", got, err)
	}
}

// TestReportsKept: the target that was updated least recently is evicted, and the order stays.
func TestReportsKept(t *testing.T) {
	reports := new(Reports)
	now := time.Unix(1, 0)
	send := func(name string) {
		t.Helper()
		now = now.Add(time.Second)
		if err := reports.receive(encodeReports([]Report{{Check: name, Type: "tcp", Target: "a:1", Status: OK}}), now); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (list []string) {
		for _, r := range reports.List() {
			list = append(list, r.Check)
		}
		return list
	}
	var want []string
	for i := range maxReports {
		want = append(want, fmt.Sprintf("c%d", i))
		send(want[i])
	}
	send("c0")
	if got := names(); !reflect.DeepEqual(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	send("other") // evicts c1, since c0 was updated later
	want = append(append([]string{"c0"}, want[2:]...), "other")
	if got := names(); !reflect.DeepEqual(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	for i := range 5000 {
		send(fmt.Sprintf("flood%d", i))
		if i%10 == 0 {
			send("c0")
		}
	}
	if got := names(); len(got) != maxReports || got[0] != "c0" {
		t.Errorf("kept %v after a flood, want %d with c0, which is still updated", got, maxReports)
	}
	if r := (*Reports)(nil).List(); r != nil {
		t.Errorf("no Reports has %v", r)
	}
}

// FuzzDecodeReports: what is decoded is bounded, printable and encoded as the same message again.
func FuzzDecodeReports(f *testing.F) {
	f.Add(encodeReports(someReports(1)))
	f.Add(encodeReports(someReports(maxReports)))
	f.Add(encodeReports([]Report{{Check: "api", Type: "http", Target: "a\n\x1b\u202e", Status: OK}}))
	f.Add(encodeReports([]Report{{Check: "api", Type: "http", Target: strings.Repeat("a", 255), Status: OK}}))
	f.Add([]byte{relayVersion, 2, 0, 0, 0, 0, 0, 0, 0, 1, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeReports(b)
		if err != nil {
			if list != nil {
				t.Fatalf("%q: %v beside the error %v", b, list, err)
			}
			return
		}
		if len(list) == 0 || len(list) > maxReports {
			t.Fatalf("%q: %d reports", b, len(list))
		}
		for _, r := range list {
			if len(r.Check) > maxName || len(r.Target) > maxTarget || escapeUnprintable(r.Target) != r.Target || r.Duration < 0 {
				t.Fatalf("%q: %+v", b, r)
			}
		}
		if again, err := decodeReports(encodeReports(list)); err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%q: decoded %v, encoded and decoded again %v, %v", b, list, again, err)
		}
	})
}
