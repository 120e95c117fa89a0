package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var healthTests = []struct {
	in           string
	status       string
	dependencies string // name=status, in order
	isObject     bool
}{
	{``, "", "", false},
	{`null`, "", "", false},
	{`"ok"`, "", "", false},
	{`[{"status":"ok"}]`, "", "", false},
	{`{}`, "", "", true},
	{"\ufeff\r\n\t {}", "", "", true},
	{`{"status":"ok","version":"1.0.0","services":{"database":"ok","cache":"error","queue":"degraded"}}`, "ok", "database=ok cache=error queue=degraded", true},
	{`{"services":{},"components":{ },"status":"down"}`, "down", "", true},
	{`{"services":{"a":{},"b":"ok"},"status":"down"}`, "down", "b=ok", true},
	{`{"services":{"b":"ok","a":"ok"},"status":"UP"}`, "UP", "b=ok a=ok", true},
	{`{"status":"DOWN","components":{"db":{"status":"DOWN","details":{"status":"UP","error":"x"}},"ping":{"details":{},"status":"UP"}},"groups":["liveness"]}`, "DOWN", "db=error ping=ok", true},
	{`{"status":503}`, "", "", true},
	{`{"status":null,"status":"ok"}`, "ok", "", true},
	{`{"status":{"status":"down"},"services":[1,{"a":"b"}]}`, "", "", true},
	{`{"status":["down"],"services":"down","components":null}`, "", "", true},
	{`{"services":{"a":{"status":{"status":"x"},"status":"warn"},"b":{"status":1},"c":{},"d":[],"e":null,"f":true,"g":-1.5e+3,"h":"ok"}}`, "", "a=degraded h=ok", true},
	{`{"a":{"b":[{"c":"}]\"{"},[[]]],"d":{}},"e":-1.5E-7,"f":false,"status":"ok"}`, "ok", "", true},
	{`{"\u0073tatus":"\u006f\/\"\\\b\f\n\r\t\u00e9\ud83d\ude00\ud83d\u0041\ude00"}`, "o/\"\\\b\f\n\r\té😀\ufffdA\ufffd", "", true},
	{`{"status" : "ok" , "services" : { "a" : "ok" } }`, "ok", "a=ok", true},
	{`{"services":{"a":{"status":"down","status":"up"},"b":{"status":"warn","status":"ok"}}}`, "", "a=error b=degraded", true},
	{`{"status":"ok"} trailing`, "ok", "", true},
	// application/health+json, MicroProfile, Terminus, ASP.NET.
	{`{"status":"warn","version":"1","checks":{"db:responseTime":[{"componentType":"datastore","status":"pass"},{"status":"warn"}],"cpu":[{"status":"fail"},{"observedValue":85}],"uptime":[{"observedValue":1}],"mem":[]}}`,
		"warn", "db:responseTime=degraded cpu=error", true},
	{`{"status":"DOWN","checks":[{"name":"db","status":"DOWN","data":{"status":"UP"}},{"status":"UP","name":"mq"},{"name":"x"},{"status":"DOWN"},"y",[{"name":"z","status":"UP"}],{}]}`, "DOWN", "db=error mq=ok", true},
	{`{"status":"error","info":{"a":{"status":"up"}},"error":{"b":{"status":"down"}},"details":{"a":{"status":"up"},"b":{"status":"down","message":"x"}}}`, "error", "a=ok b=error", true},
	{`{"status":"Unhealthy","totalDuration":"00:00:00.01","entries":{"sql":{"data":{},"status":"Unhealthy","tags":[]},"mq":{"status":"Degraded"},"x":{"status":"Healthy"}}}`, "Unhealthy", "sql=error mq=degraded x=ok", true},
	{`{"checks":{"db":"ok","mq":{"status":"down"}},"details":{"region":"eu","db":{"status":"down"}},"entries":"down"}`, "", "db=ok mq=error db=error", true},
	{`{"checks":[],"status":"ok"}`, "ok", "", true},
	{`{"checks":[{"name":"a","name":1,"status":"up","status":"down"}],"status":"ok"}`, "ok", "a=error", true},
	{`{"checks":[{"name":"a","status":"down"}`, "", "a=error", true},
	{`{"checks":[{"name":"a","status":"down"`, "", "a=error", true},
	{`{"checks":[,,{"name":"a","status":"down"}],"status":"ok"}`, "ok", "a=error", true},
	// Broken or cut: what comes before counts.
	{`{"status":"ok","services":{"a":"ok","b":"do`, "ok", "a=ok", true},
	{`{"status":"ok","services":{"a":"ok"`, "ok", "a=ok", true},
	{`{"status":"ok","services":{"a":"ok",`, "ok", "a=ok", true},
	{`{"status":"o`, "", "", true},
	{`{"status":"ok\`, "", "", true},
	{`{"status"`, "", "", true},
	{`{"status":`, "", "", true},
	{`{"a":"\`, "", "", true},
	{`{"a":[`, "", "", true},
	{`{"a":tru`, "", "", true},
	{`{status:"ok"}`, "", "", true},
	{`{"a":1 "status":"ok"}`, "", "", true},
	{"{\"a\":\x00,\"status\":\"ok\"}", "", "", true},
	{`{"a":]],"status":"ok"}`, "", "", true},
	{`{"a":,"status":"ok"}`, "ok", "", true},
}

func dependencies(h health) string {
	var list []string
	for _, d := range h.dependencies {
		list = append(list, d.Name+"="+string(d.Status))
	}
	return strings.Join(list, " ")
}

func TestReadHealth(t *testing.T) {
	for _, test := range healthTests {
		h, ok := readHealth([]byte(test.in))
		if ok != test.isObject || h.status != test.status || dependencies(h) != test.dependencies {
			t.Errorf("readHealth(%q) = %q, %q, %v, want %q, %q, %v", test.in, h.status, dependencies(h), ok, test.status, test.dependencies, test.isObject)
		}
	}
}

// What a document says of a failure: the first of message, error, detail and reason.
func TestReason(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`{}`, ""},
		{`{"reason":"r","detail":"d","error":"e","message":"m"}`, "m"},
		{`{"reason":"r","detail":"d","error":"e","message":""}`, "e"},
		{`{"reason":"r","detail":"d","error":null}`, "d"},
		{`{"reason":"r","detail":[{"message":"x"}]}`, "r"},
		{`{"message":" \n","reason":" r "}`, "r"},
		{`{"message":5,"error":true,"detail":{"code":7},"reason":{"reason":"r"}}`, "r"},
		{`{"error":{"code":5,"detail":"d","message":"m"}}`, "m"},
		{`{"error":{"error":{"message":"too deep"}},"detail":"d"}`, "d"},
		{`{"error":{"db":{"message":"a dependency's"}}}`, ""},
		{`{"error":"first","error":"second"}`, "first"},
		{`{"error":"cut`, ""},
		{`{"status":"down","error":{"message":"m"`, "m"},
	} {
		if h, _ := readHealth([]byte(test.in)); h.reason() != test.want {
			t.Errorf("the reason of %s is %q, want %q", test.in, h.reason(), test.want)
		}
	}
}

// A document takes time in proportion to its length, and no stack: 256 KiB of each take some 2 ms.
func TestReadHealthIsLinear(t *testing.T) {
	const size = 256 << 10
	for name, in := range map[string]string{
		"open objects":   strings.Repeat(`{"a":`, size/5),
		"open arrays":    `{"a":` + strings.Repeat(`[`, size),
		"closed":         `{"a":` + strings.Repeat(`]`, size),
		"members":        `{` + strings.Repeat(`"status":"x",`, size/13),
		"services":       `{` + strings.Repeat(`"services":{"a":"ok"},`, size/22),
		"names":          `{"services":{` + strings.Repeat(`"a":"",`, size/7),
		"nested":         `{"services":{"a":` + strings.Repeat(`{"status":`, size/10),
		"escapes":        `{"status":"` + strings.Repeat(`\u0041`, size/6) + `"}`,
		"backslashes":    `{"a":"` + strings.Repeat(`\`, size),
		"quotes":         `{"a":` + strings.Repeat(`"`, size),
		"spaces":         `{` + strings.Repeat(" ", size) + `"status":"ok"}`,
		"numbers":        `{"a":[` + strings.Repeat(`1,`, size/2),
		"one number":     `{"a":` + strings.Repeat(`1`, size),
		"colons":         `{"a":` + strings.Repeat(`:`, size),
		"unfinished":     `{` + strings.Repeat(`"a":{`, size/5),
		"arrays of one":  `{"checks":{"a":` + strings.Repeat(`[{"status":"x"},`, size/16),
		"named":          `{"checks":[` + strings.Repeat(`{"name":"a","status":"x"},`, size/26),
		"nested arrays":  `{"checks":` + strings.Repeat(`[`, size),
		"commas":         `{"checks":[` + strings.Repeat(`,`, size),
		"reasons":        `{` + strings.Repeat(`"error":{"message":""},`, size/23),
		"nested reasons": strings.Repeat(`{"error":`, size/9),
		"half surrogate": `{"a":"` + strings.Repeat(`\ud800`, size/6),
	} {
		start := time.Now()
		readHealth([]byte(in))
		if took := time.Since(start); took > patient/3 { // quadratic, it would be an hour
			t.Errorf("%s: %v for %d bytes", name, took, len(in))
		}
	}
}

// readReference reads a health document with encoding/json, member by member so that the order and doubles count.
func readReference(in []byte) (h health) {
	entry := func(value json.RawMessage, known string) (status, name string) {
		members(value, func(key string, value json.RawMessage) {
			switch key {
			case "status":
				known = worse(known, text(value))
			case "name":
				if value[0] == '"' {
					name = text(value)
				}
			}
		})
		return known, name
	}
	members(in, func(key string, value json.RawMessage) {
		switch key {
		case "status":
			h.status = worse(h.status, text(value))
		case "services", "components", "details", "entries", "checks":
			members(value, func(name string, value json.RawMessage) {
				status, _ := entry(value, "")
				if key != "details" && key != "entries" {
					status = worse(status, text(value))
				}
				elements(value, func(value json.RawMessage) { status, _ = entry(value, status) })
				if status != "" {
					h.add(Dependency{name, statusOf(status)})
				}
			})
			if key != "checks" {
				break
			}
			elements(value, func(value json.RawMessage) {
				if status, name := entry(value, ""); status != "" && name != "" {
					h.add(Dependency{name, statusOf(status)})
				}
			})
		default:
			i := slices.Index(reasonKeys[:], key)
			if i < 0 || h.reasons[i] != "" {
				break
			}
			h.reasons[i] = strings.TrimSpace(text(value))
			for _, inner := range reasonKeys {
				members(value, func(key string, value json.RawMessage) {
					if key == inner && h.reasons[i] == "" {
						h.reasons[i] = strings.TrimSpace(text(value))
					}
				})
			}
		}
	})
	return h
}

// worse is the worse of two words of a document, the first if they are alike.
func worse(a, b string) string {
	if a == "" || Worse(statusOf(a), statusOf(b)) != statusOf(a) {
		return b
	}
	return a
}

// members calls f for each member of an object.
func members(in []byte, f func(key string, value json.RawMessage)) {
	d := json.NewDecoder(bytes.NewReader(in))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return
	}
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return
		}
		f(key.(string), value)
	}
}

// elements calls f for each element of an array.
func elements(in []byte, f func(value json.RawMessage)) {
	d := json.NewDecoder(bytes.NewReader(in))
	if open, err := d.Token(); err != nil || open != json.Delim('[') {
		return
	}
	for d.More() {
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return
		}
		f(value)
	}
}

// text is a string's value, "" for anything else.
func text(value []byte) (s string) {
	json.Unmarshal(value, &s)
	return s
}

// Of too many dependencies those are kept that are not ok.
func TestTooManyDependencies(t *testing.T) {
	var b strings.Builder
	for i := range 3 * maxDependencies {
		fmt.Fprintf(&b, `,"d%d":"%s"`, i, []string{"ok", "ok", "down"}[i%3])
	}
	h, _ := readHealth([]byte(`{"services":{` + b.String()[1:] + `}}`))
	for i, d := range h.dependencies {
		if want := fmt.Sprintf("d%d", 3*i+2); d.Name != want || d.Status != Failed {
			t.Fatalf("dependency %d is %v, want %s that is down", i, d, want)
		}
	}
	if n := len(h.dependencies); n != maxDependencies {
		t.Errorf("%d dependencies, want %d", n, maxDependencies)
	}
}

// In valid JSON it finds what encoding/json does; in anything else it ends, without panic.
func FuzzReadHealth(f *testing.F) {
	for _, test := range healthTests {
		f.Add([]byte(test.in))
	}
	f.Add([]byte(`{"error":{"message":{"message":"a"},"reason":"b"},"detail":"c","message":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, ok := readHealth(in)
		if in = trimJSON(in); !json.Valid(in) {
			return
		}
		if isObject := in[0] == '{'; ok != isObject {
			t.Errorf("readHealth(%q): an object: %v, want %v", in, ok, isObject)
		}
		want := readReference(in)
		// encoding/json mends invalid UTF-8, which here is escaped later.
		mend := func(s string) string { return string([]rune(s)) }
		got.status = mend(got.status)
		for i := range got.dependencies {
			got.dependencies[i].Name = mend(got.dependencies[i].Name)
		}
		for i := range got.reasons {
			got.reasons[i] = mend(got.reasons[i])
		}
		if got.status != want.status || got.reasons != want.reasons || !slices.Equal(got.dependencies, want.dependencies) {
			t.Errorf("readHealth(%q) = %+v, want %+v", in, got, want)
		}
	})
}

var appendJSONTests = []struct{ in, want string }{
	{"", `""`}, {"a", `"a"`}, {`"\/`, `"\"\\/"`}, {"\x00\n\x1f\x7f", `"\u0000\u000a\u001f\u007f"`}, {"é\u2028😀", "\"é\u2028😀\""}, {"\xff", "\"\ufffd\""},
}

func TestAppendJSON(t *testing.T) {
	for _, test := range appendJSONTests {
		if got := string(AppendJSON([]byte("x"), test.in)); got != "x"+test.want {
			t.Errorf("AppendJSON(%q) = %s, want %s", test.in, got, test.want)
		}
	}
}

// What is appended reads back as what went in, of one line, whoever reads it.
func FuzzAppendJSON(f *testing.F) {
	for _, test := range appendJSONTests {
		f.Add(test.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		b := AppendJSON(nil, in)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != string([]rune(in)) {
			t.Errorf("AppendJSON(%q) = %s, read as %q, %v", in, b, got, err)
		}
		if ours, ok := (&jsonReader{b: b}).str(); !ok || ours != got {
			t.Errorf("AppendJSON(%q) = %s, read by ourselves as %q", in, b, ours)
		}
		if i := slices.IndexFunc(b, func(c byte) bool { return c < ' ' || c == 0x7f }); i >= 0 {
			t.Errorf("AppendJSON(%q) = %q holds a control byte", in, b)
		}
	})
}
