package probe

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// result is one as a run returns it.
func result(name, target string, status Status, phase Phase, message string, took time.Duration) Result {
	return Result{Check: &Check{Name: name, Type: "http", Target: target}, Status: status, Phase: phase, Message: message, Duration: took}
}

func TestLines(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []Result
		want string
	}{
		{"none", nil, ""},
		{"aligned", []Result{
			result("http", "http://localhost:8080/health", OK, "", `200 OK, status "ok", database ok`, 3400*time.Microsecond),
			result("cache", "redis://localhost:6379", Failed, PhaseAuth, "NOAUTH Authentication required.", 1234567),
			result("database", "postgres://app@localhost/app", Failed, PhaseConnect, "connection refused", 1500*time.Millisecond),
			result("x", "http://h", Degraded, "", `200 OK, status "warn"`, 0),
		}, `
ok    http      http://localhost:8080/health  200 OK, status "ok", database ok       3.4ms
FAIL  cache     redis://localhost:6379        auth: NOAUTH Authentication required.  1.2ms
FAIL  database  postgres://app@localhost/app  connect: connection refused            1.50s
ok    x         http://h                      degraded: 200 OK, status "warn"        0.0ms
`},
		{"a long text moves no other", []Result{
			result("a", "t", OK, "", strings.Repeat("x", 60), 0),
			result("b", "t", OK, "", "y", 0),
		}, "\nok    a  t  " + strings.Repeat("x", 60) + "  0.0ms\nok    b  t  y" + strings.Repeat(" ", 47) + "  0.0ms\n"},
		{"wide and combining", []Result{
			result("a", "t", OK, "", "200 数据库 ok", 0),
			result("b", "t", OK, "", "200 e\u0301\u0301 caf\u00e9 \U0001f600", 0),
			result("c", "t", OK, "", "200 ..........", 0),
		}, `
ok    a  t  200 数据库 ok   0.0ms
ok    b  t  200 é́ café 😀   0.0ms
ok    c  t  200 ..........  0.0ms
`},
	} {
		want := strings.TrimPrefix(test.want, "\n")
		if got := Lines(test.in, false, MaxOutput); got != want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, want)
		}
		if colour := Lines(test.in, true, MaxOutput); strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(colour) != want {
			t.Errorf("%s, in colour: %q", test.name, colour)
		}
	}
}

// A detail and a remedy stand at the end. If there is no room the message is cut first.
func TestLine(t *testing.T) {
	long := strings.Repeat("x", 400)
	for _, test := range []struct {
		r     Result
		limit int
		want  string
	}{
		{Result{Status: Failed, Phase: PhaseReply, Message: "503", Detail: "locked", Remedy: "wait"}, 100, "reply: 503: locked (wait)"},
		{Result{Status: Failed, Phase: PhaseReply, Message: long, Detail: "locked", Remedy: "wait"}, 40, "reply: xxxxxxxxxxxxxxx…: locked (wait)"},
		{Result{Status: Failed, Phase: PhaseReply, Message: "503", Detail: long}, 20, "reply: 503: xxxxx…"},
		{Result{Status: Degraded, Message: "200"}, 100, "degraded: 200"},
	} {
		if got := test.r.Line(test.limit); got != test.want {
			t.Errorf("Line(%d) of %+v is %q, want %q", test.limit, test.r, got, test.want)
		}
	}
	r := result("a", "t", Failed, PhaseReply, "503", 0)
	r.Detail, r.Remedy = "locked", "wait"
	if got := JSON([]Result{r}, MaxOutput); !strings.Contains(got, `"message":"503","detail":"locked","remedy":"wait",`) {
		t.Errorf("JSON: %s", got)
	}
}

// Whatever the peers say and however many there are, a report takes no more than its limit, is whole, and shows what failed first.
func TestReportsAreBounded(t *testing.T) {
	for _, n := range []int{1, 10, 100, 1000} {
		for name, text := range map[string]string{"short": "x", "long": strings.Repeat("x", maxMessage), "wide": strings.Repeat("数", maxMessage/3), "quotes": strings.Repeat(`"\`, maxMessage/2)} {
			for _, failing := range []int{1, n} {
				results := make([]Result, n)
				for i := range results {
					results[i] = result(fmt.Sprintf("check-%d", i), "http://"+text+"/", OK, "", text, time.Second)
					for k := range 3 * len(text) / maxMessage {
						results[i].Dependencies = append(results[i].Dependencies, Dependency{fmt.Sprint(k, text[:9]), OK})
					}
					if i >= n-failing {
						results[i].Status, results[i].Phase = Failed, PhaseReply
					}
				}
				const maxOutput = MaxOutput - 1000 // as it is after the progress of --wait
				for _, colour := range []bool{false, true} {
					lines := Lines(results, colour, maxOutput)
					if len(lines) > maxOutput || !utf8.ValidString(lines) || !strings.HasSuffix(lines, "\n") {
						t.Errorf("%d %s, %d failing: Lines of %d bytes", n, name, failing, len(lines))
					}
					if failing > 0 && !strings.Contains(lines, "FAIL") {
						t.Errorf("%d %s, %d failing: no FAIL in %q", n, name, failing, lines)
					}
				}
				doc := JSON(results, maxOutput)
				var got struct {
					Status  string
					Omitted int
					Checks  []struct{ Name, Type, Target, Status, Phase, Message string }
				}
				if err := json.Unmarshal([]byte(doc), &got); err != nil || len(doc) > maxOutput || strings.Count(doc, "\n") != 1 {
					t.Errorf("%d %s, %d failing: JSON of %d bytes: %v", n, name, failing, len(doc), err)
					continue
				}
				if len(got.Checks)+got.Omitted != n || got.Status != string(Verdict(results)) {
					t.Errorf("%d %s, %d failing: JSON of status %s with %d checks, %d omitted", n, name, failing, got.Status, len(got.Checks), got.Omitted)
				}
				if failing > 0 && n > 50 && got.Checks[0].Status != "error" {
					t.Errorf("%d %s, %d failing: JSON begins with %+v", n, name, failing, got.Checks[0])
				}
			}
		}
	}
}

func TestJSON(t *testing.T) {
	good := result("http", "http://h/", OK, "", "200 OK", 1234567)
	good.Dependencies = []Dependency{{"db", OK}, {`a"b`, Degraded}}
	bad := result("cache", "redis://h:6379", Failed, PhaseAuth, "NOAUTH \x00\xff", 2*time.Second)
	bad.Check.Type = "redis"
	for _, test := range []struct {
		in   []Result
		want string
	}{
		{nil, `{"status":"ok","checks":[]}`},
		{[]Result{good}, `{"status":"ok","checks":[{"name":"http","type":"http","target":"http://h/","status":"ok","message":"200 OK",` +
			`"duration_seconds":0.001235,"services":{"db":"ok","a\"b":"degraded"}}]}`},
		{[]Result{bad}, `{"status":"error","checks":[{"name":"cache","type":"redis","target":"redis://h:6379","status":"error","phase":"auth",` +
			`"message":"NOAUTH \u0000` + "\ufffd" + `","duration_seconds":2}]}`},
	} {
		if got := JSON(test.in, MaxOutput); got != test.want+"\n" {
			t.Errorf("JSON: %s, want %s", got, test.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, test := range []struct {
		in   time.Duration
		want string
	}{
		{0, "0.0ms"}, {49 * time.Microsecond, "0.0ms"}, {1250 * time.Microsecond, "1.2ms"}, {999 * time.Millisecond, "999.0ms"},
		{time.Second, "1.00s"}, {90 * time.Second, "90.00s"},
	} {
		if got := FormatDuration(test.in); got != test.want {
			t.Errorf("FormatDuration(%v) = %q, want %q", test.in, got, test.want)
		}
	}
}
