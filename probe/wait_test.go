package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Tries are 100 ms apart, then twice as long each time, up to a second.
// A check that passes, and is cut short in the last round by the limit, has not failed.
func TestWaitCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := fake("up", time.Minute, func(ctx context.Context, r *run) *failure {
			select {
			case <-time.After(50 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return r.failIO(PhaseConnect, ctx.Err())
			}
		})
		down := fake("down", time.Minute, func(ctx context.Context, r *run) *failure { return fail(PhaseConnect, "broken") })
		told := ""
		results := Wait(t.Context(), []*Check{up, down}, Limits{All: 180 * time.Millisecond}, func(r Result) { told += r.Check.Name })
		if results[0].Status != OK || results[1].Status != Failed || told != "down" {
			t.Errorf("results %+v, told of %q", results, told)
		}
	})
}

func TestWaitBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var tries []time.Duration
		c := fake("x", time.Second, func(ctx context.Context, r *run) *failure {
			tries = append(tries, time.Since(start))
			return fail(PhaseConnect, "down")
		})
		results := Wait(t.Context(), []*Check{c}, Limits{All: 4 * time.Second}, func(Result) {})
		var want []time.Duration
		for _, ms := range []int{0, 100, 300, 700, 1500, 2500, 3500} {
			want = append(want, time.Duration(ms)*time.Millisecond)
		}
		if !slices.Equal(tries, want) {
			t.Errorf("tried at %v, want %v", tries, want)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("took %v, want 4s", took)
		}
		if len(results) != 1 || results[0].Seen() != "connect: down" {
			t.Errorf("results: %+v", results)
		}
	})
}

// What is reported and how it ends, for checks that answer as their series say: o is healthy, t silence, any other letter
// a reason. The last letter goes on.
func TestWaitReports(t *testing.T) {
	for _, test := range []struct {
		name   string
		series []string
		want   string // reports, then the results
	}{
		{"healthy at once", []string{"o", "o"}, "| ok ok"},
		{"once for each change", []string{"aaabbao"}, "0:a 0:b 0:a | ok"},
		{"again after it was healthy", []string{"aoao", "bbbo"}, "0:a 1:b 0:a | ok ok"},
		{"all in the same round", []string{"oaoo", "aooo"}, "1:a 0:a | ok ok"},
		{"never", []string{"a", "o"}, "0:a | a ok"},
		{"silent", []string{"t"}, "0:timeout after 1s | timeout after 1s"},
		{"silent after a reason", []string{"at"}, "0:a 0:timeout after 1s | timeout after 1s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var checks []*Check
			for i, series := range test.series {
				n := 0
				checks = append(checks, fake(fmt.Sprint(i), time.Second, func(ctx context.Context, r *run) *failure {
					letter := series[min(n, len(series)-1)]
					n++
					switch letter {
					case 'o':
						return nil
					case 't':
						<-ctx.Done()
						return r.failIO(PhaseConnect, ctx.Err())
					}
					return fail(PhaseConnect, string(letter))
				}))
			}
			var b strings.Builder
			results := Wait(t.Context(), checks, Limits{All: 5 * time.Second}, func(r Result) { b.WriteString(r.Check.Name + ":" + r.Message + " ") })
			b.WriteString("|")
			for _, r := range results {
				if r.Message == "" {
					r.Message = string(r.Status)
				}
				b.WriteString(" " + r.Message)
			}
			if got := b.String(); got != test.want {
				t.Errorf("%s: %q, want %q", test.name, got, test.want)
			}
		})
	}
}

// When the limit cuts a run short, the reason seen before says more than that.
func TestWaitKeepsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := fake("x", time.Minute, func(ctx context.Context, r *run) *failure {
			if n++; n == 1 {
				return fail(PhaseConnect, "down")
			}
			<-ctx.Done()
			return r.failIO(PhaseConnect, ctx.Err())
		})
		reports := 0
		results := Wait(t.Context(), []*Check{c}, Limits{All: time.Second}, func(Result) { reports++ })
		if results[0].Message != "down" || reports != 1 {
			t.Errorf("%q after %d reports, want down after 1", results[0].Message, reports)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := fake("x", time.Minute, func(ctx context.Context, r *run) *failure { <-ctx.Done(); return r.failIO(PhaseConnect, ctx.Err()) })
		results := Wait(t.Context(), []*Check{c}, Limits{All: 300 * time.Millisecond}, func(Result) {})
		if results[0].Message != "timeout after 300ms" {
			t.Errorf("the first run, cut: %q", results[0].Message)
		}
	})
}

// A signal that ends the wait is no reason to report.
func TestWaitCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := fake("x", time.Minute, func(ctx context.Context, r *run) *failure { <-ctx.Done(); return r.failIO(PhaseConnect, ctx.Err()) })
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		Wait(ctx, []*Check{c}, Limits{All: time.Minute}, func(r Result) { t.Errorf("reported %q", r.Seen()) })
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := fake("x", time.Minute, func(ctx context.Context, r *run) *failure { return fail(PhaseConnect, "down") })
		time.AfterFunc(50*time.Millisecond, cancel)
		start := time.Now()
		Wait(ctx, []*Check{c}, Limits{All: time.Minute}, func(r Result) {})
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("took %v between two tries, want 50ms", took)
		}
	})
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		in   []Status
		want Status
	}{
		{nil, OK}, {[]Status{OK, OK}, OK}, {[]Status{OK, Degraded, OK}, Degraded}, {[]Status{Degraded, Failed}, Failed}, {[]Status{Failed, Degraded}, Failed},
	} {
		var results []Result
		for _, s := range test.in {
			results = append(results, Result{Status: s})
		}
		if got := Verdict(results); got != test.want {
			t.Errorf("Verdict(%v) = %s, want %s", test.in, got, test.want)
		}
	}
}
