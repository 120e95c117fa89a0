package probe

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// All checks start together; from then on each has its turn once in every interval, and the turns are spread over it.
func TestMonitorSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 3400 * time.Millisecond
		start := time.Now()
		var mu sync.Mutex
		turns := map[string][]time.Duration{}
		var checks []*Check
		for i := range 4 {
			checks = append(checks, fake(fmt.Sprint(i), time.Second, func(ctx context.Context, r *run) *failure {
				mu.Lock()
				defer mu.Unlock()
				turns[r.Check.Name] = append(turns[r.Check.Name], time.Since(start))
				return nil
			}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		NewMonitor(checks, time.Second, func(s State) { t.Errorf("%s changed", s.Check.Name) }).Run(ctx)
		for i := range checks {
			want := []time.Duration{0}
			for at := time.Duration(i+1) * 250 * time.Millisecond; at < limit; at += time.Second {
				want = append(want, at)
			}
			if got := turns[fmt.Sprint(i)]; !slices.Equal(got, want) {
				t.Errorf("check %d ran at %v, want %v", i, got, want)
			}
		}
	})
}

// A check never runs beside itself; the turns that a slow run covers drop out, and the next is on time.
func TestMonitorSlowCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var running atomic.Int32
		var turns []time.Duration
		slow := fake("slow", time.Minute, func(ctx context.Context, r *run) *failure {
			if running.Add(1) != 1 {
				t.Error("two runs at once")
			}
			defer running.Add(-1)
			turns = append(turns, time.Since(start))
			time.Sleep(2500 * time.Millisecond)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		NewMonitor([]*Check{slow}, time.Second, func(State) {}).Run(ctx)
		if want := []time.Duration{0, 3 * time.Second, 6 * time.Second, 9 * time.Second}; !slices.Equal(turns, want) {
			t.Errorf("ran at %v, want %v", turns, want)
		}
	})
}

// What is told, and what is counted, of a series of results.
func TestMonitorStates(t *testing.T) {
	const down, timeout, warn = 'f', 't', 'd'
	for _, test := range []struct {
		series string
		told   string // healthy or not, at which run
		state  State  // its counters at the end
		since  int    // the run at which the last status began
	}{
		{"ooo", "", State{Successes: 3}, 0},
		{"f", "0:down", State{Failures: 1, ConsecutiveFailures: 1}, 0},
		{"ffto", "0:down 3:up", State{Successes: 1, Failures: 2, Timeouts: 1}, 3},
		{"oodto", "3:down 4:up", State{Successes: 4, Timeouts: 1}, 4},
		{"ofoftt", "1:down 2:up 3:down", State{Successes: 2, Failures: 2, Timeouts: 2, ConsecutiveFailures: 3}, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			c := fake("x", 500*time.Millisecond, func(ctx context.Context, r *run) *failure {
				if n == len(test.series) {
					cancel()
					return nil
				}
				n++
				switch test.series[n-1] {
				case down:
					return fail(PhaseConnect, "down")
				case timeout:
					<-ctx.Done()
					return r.failIO(PhaseConnect, ctx.Err())
				case warn:
					r.Status = Degraded
				}
				return nil
			})
			told := ""
			m := NewMonitor([]*Check{c}, time.Second, func(s State) {
				told += fmt.Sprintf(" %d:%s", n-1, map[bool]string{true: "up", false: "down"}[s.Healthy()])
			})
			if s := m.States(nil)[0]; s.Known() || s.Healthy() {
				t.Errorf("%s: known before it ran: %+v", test.series, s)
			}
			m.Run(ctx)
			s := m.States(nil)[0]
			if want := " " + test.told; told != want && told+test.told != "" {
				t.Errorf("%s: told%s, want%s", test.series, told, want)
			}
			if s.Successes != test.state.Successes || s.Failures != test.state.Failures || s.Timeouts != test.state.Timeouts ||
				s.ConsecutiveFailures != test.state.ConsecutiveFailures {
				t.Errorf("%s: %d ok, %d failures, %d timeouts, %d at the end, want %+v", test.series, s.Successes, s.Failures, s.Timeouts, s.ConsecutiveFailures, test.state)
			}
			if at := s.Since.Sub(start).Truncate(time.Second); at != time.Duration(test.since)*time.Second {
				t.Errorf("%s: since %v, want run %d", test.series, at, test.since)
			}
			if (s.Successes > 0) == s.LastSuccess.IsZero() {
				t.Errorf("%s: last success %v", test.series, s.LastSuccess)
			}
		})
	}
}

// What is seen while waiting is known, and told to nobody but the wait.
func TestMonitorWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		up := fake("up", 0, func(ctx context.Context, r *run) *failure { return nil })
		late := fake("late", 0, func(ctx context.Context, r *run) *failure {
			if n++; n < 3 {
				return fail(PhaseConnect, "down")
			}
			return nil
		})
		m := NewMonitor([]*Check{up, late}, time.Hour, func(s State) { t.Errorf("told of %s", s.Check.Name) })
		told := ""
		results := m.Wait(t.Context(), time.Minute, func(r Result) {
			told += r.Check.Name
			if s := m.States(nil); !s[0].Healthy() || !s[1].Known() || s[1].Healthy() {
				t.Errorf("while it waits: %+v", s)
			}
		})
		if s := m.States(nil); Verdict(results) != OK || told != "late" || s[0].Successes != 3 || s[1].Failures != 2 || s[1].Successes != 1 || s[1].ConsecutiveFailures != 0 {
			t.Errorf("%v, told %q, states %+v", results, told, s)
		}
	})
}

// A log that nobody reads holds up no scrape.
func TestMonitorBlockedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		broken := fake("x", time.Second, func(ctx context.Context, r *run) *failure { return fail(PhaseConnect, "broken") })
		blocked := make(chan bool)
		m := NewMonitor([]*Check{broken}, time.Second, func(State) { <-blocked })
		go m.Run(ctx) // ends with ctx
		synctest.Wait()
		if s := m.States(nil)[0]; s.Failures != 1 {
			t.Errorf("%d failures, want 1", s.Failures)
		}
		cancel()
		close(blocked)
	})
}

func TestMonitorWithoutChecks(t *testing.T) {
	NewMonitor(nil, time.Second, nil).Run(context.Background())
}
