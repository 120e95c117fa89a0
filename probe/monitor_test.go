package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
		NewMonitor(checks, MonitorOptions{Interval: time.Second, Changed: func(s State) { t.Errorf("%s changed", s.Check.Name) }}).Run(ctx)
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
		NewMonitor([]*Check{slow}, MonitorOptions{Interval: time.Second, Changed: func(State) {}}).Run(ctx)
		if want := []time.Duration{0, 3 * time.Second, 6 * time.Second, 9 * time.Second}; !slices.Equal(turns, want) {
			t.Errorf("ran at %v, want %v", turns, want)
		}
	})
}

// TestMonitorStates runs one check once a second, whose results are a series: o ok, d degraded, f failed, g failed for another
// reason, t timed out.
func TestMonitorStates(t *testing.T) {
	for _, test := range []struct {
		name    string
		series  string
		o       MonitorOptions
		logged  string // status after each run that is logged
		state   State  // status and counters at the end
		since   int    // the run that brought the status, -1 if none did
		history int
	}{
		{"passes", "ooo", MonitorOptions{}, "", State{Status: OK, Successes: 3}, 0, 3},
		{"fails at once", "f", MonitorOptions{}, "0:error", State{Status: Failed, Failures: 1, ConsecutiveFailures: 1}, 0, 1},
		{"recovers", "ffto", MonitorOptions{}, "0:error 3:ok", State{Status: OK, Successes: 1, Failures: 2, Timeouts: 1}, 3, 4},
		{"degraded is healthy", "oodto", MonitorOptions{}, "3:error 4:ok", State{Status: OK, Successes: 4, Timeouts: 1}, 4, 5},
		{"flaps", "ofoftt", MonitorOptions{}, "1:error 2:ok 3:error", State{Status: Failed, Successes: 2, Failures: 2, Timeouts: 2, ConsecutiveFailures: 3}, 3, 6},
		{"fewer failures than retries", "offdft", MonitorOptions{Retries: 3}, "", State{Status: Degraded, Successes: 2, Failures: 3, Timeouts: 1, ConsecutiveFailures: 2}, 3, 6},
		{"as many failures as retries", "offfo", MonitorOptions{Retries: 3}, "3:error 4:ok", State{Status: OK, Successes: 2, Failures: 3}, 4, 5},
		{"never passed, fewer failures than retries", "ff", MonitorOptions{Retries: 3}, "", State{Status: Starting, Failures: 2, ConsecutiveFailures: 2}, -1, 2},
		{"never passed, as many", "fff", MonitorOptions{Retries: 3}, "2:error", State{Status: Failed, Failures: 3, ConsecutiveFailures: 3}, 2, 3},
		{"another reason within a minute", "ofgf", MonitorOptions{}, "1:error", State{Status: Failed, Successes: 1, Failures: 3, ConsecutiveFailures: 3}, 1, 4},
		{"another reason after a minute", "of" + strings.Repeat("f", 60) + "gf", MonitorOptions{}, "1:error 62:error",
			State{Status: Failed, Successes: 1, Failures: 63, ConsecutiveFailures: 63}, 1, 60},
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
				case 'f':
					return fail(PhaseConnect, "down")
				case 'g':
					return fail(PhaseReply, "503 Service Unavailable")
				case 't':
					<-ctx.Done()
					return r.failIO(PhaseConnect, ctx.Err())
				case 'd':
					r.Status = Degraded
				}
				return nil
			})
			var logged []string
			test.o.Interval = time.Second
			test.o.Changed = func(s State) { logged = append(logged, fmt.Sprintf("%d:%s", n-1, s.Status)) }
			m := NewMonitor([]*Check{c}, test.o)
			if s := m.States(nil)[0]; s.Known() || s.Passed() || s.Status != Starting {
				t.Errorf("%s: before the first run: %+v", test.name, s)
			}
			m.Run(ctx)
			s := m.States(nil)[0]
			if got := strings.Join(logged, " "); got != test.logged {
				t.Errorf("%s: logged %q, want %q", test.name, got, test.logged)
			}
			if s.Status != test.state.Status || s.Successes != test.state.Successes || s.Failures != test.state.Failures ||
				s.Timeouts != test.state.Timeouts || s.ConsecutiveFailures != test.state.ConsecutiveFailures {
				t.Errorf("%s: %s, %d ok, %d failures, %d timeouts, %d in a row, want %+v", test.name,
					s.Status, s.Successes, s.Failures, s.Timeouts, s.ConsecutiveFailures, test.state)
			}
			if at := s.Since.Sub(start).Truncate(time.Second); test.since >= 0 && at != time.Duration(test.since)*time.Second {
				t.Errorf("%s: since %v, want run %d", test.name, at, test.since)
			}
			if (s.Successes > 0) == s.LastSuccess.IsZero() {
				t.Errorf("%s: last success %v", test.name, s.LastSuccess)
			}
			if n := len(m.History()[0]); n != test.history {
				t.Errorf("%s: %d runs remembered, want %d", test.name, n, test.history)
			}
		})
	}
}

// TestMonitorStarting has a check fail until upAt.
func TestMonitorStarting(t *testing.T) {
	for _, test := range []struct {
		name        string
		startPeriod time.Duration
		upAt        time.Duration
		runs        []int  // when the first runs are, in milliseconds
		logged      string // when, and the status
		failures    uint64
	}{
		{"comes up", 30 * time.Second, 2 * time.Second, []int{0, 100, 300, 700, 1500, 2500, 15000}, "", 0},
		{"passes at once", 30 * time.Second, 0, []int{0, 15000}, "", 0},
		{"never comes up", 3 * time.Second, time.Hour, []int{0, 100, 300, 700, 1500, 2500, 3000, 15000}, "3s:error", 3},
		{"comes up after its start period", 1 * time.Second, 20 * time.Second, []int{0, 100, 300, 700, 1000, 15000, 30000}, "1s:error 30s:ok", 2},
		{"no start period", 0, 1 * time.Second, []int{0, 15000}, "0s:error 15s:ok", 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 31*time.Second)
			defer cancel()
			var runs []int
			c := fake("x", time.Second, func(context.Context, *run) *failure {
				runs = append(runs, int(time.Since(start).Milliseconds()))
				if time.Since(start) < test.upAt {
					return fail(PhaseConnect, "connection refused")
				}
				return nil
			})
			var logged []string
			m := NewMonitor([]*Check{c}, MonitorOptions{Interval: 15 * time.Second, StartPeriod: test.startPeriod, Changed: func(s State) {
				logged = append(logged, fmt.Sprintf("%v:%s", time.Since(start), s.Status))
			}})
			go func() {
				time.Sleep(time.Millisecond) // of the clock of synctest: after the first run
				s := m.States(nil)[0]
				if want := Starting; test.upAt > 0 && test.startPeriod > 0 && (s.Status != want || s.Known() || s.Failures != 0) {
					t.Errorf("%s: %+v after the first run, want it starting", test.name, s)
				}
			}()
			m.Run(ctx)
			if got := strings.Join(logged, " "); got != test.logged {
				t.Errorf("%s: logged %q, want %q", test.name, got, test.logged)
			}
			if len(runs) < len(test.runs) || !slices.Equal(runs[:len(test.runs)], test.runs) {
				t.Errorf("%s: ran at %v ms, want %v", test.name, runs, test.runs)
			}
			if got := m.States(nil)[0].Failures; got != test.failures {
				t.Errorf("%s: %d failures counted, want %d", test.name, got, test.failures)
			}
		})
	}
}

// TestMonitorQuiet has the checks of a command that is stopping fail.
func TestMonitorQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		n := 0
		var m *Monitor
		c := fake("x", time.Second, func(context.Context, *run) *failure {
			if n++; n == 1 {
				return nil
			}
			m.Quiet()
			return fail(PhaseConnect, "connection refused")
		})
		m = NewMonitor([]*Check{c}, MonitorOptions{Interval: time.Second, Changed: func(s State) { t.Errorf("logged %s", s.Last.Seen()) }})
		m.Run(ctx)
		if s := m.States(nil)[0]; s.Status != Failed {
			t.Errorf("status %s, want %s", s.Status, Failed)
		}
	})
}

// TestMonitorWait has one check come up in the third round. What the wait sees is kept, and its failures are not counted.
func TestMonitorWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		up := fake("up", time.Second, func(ctx context.Context, r *run) *failure { return nil })
		late := fake("late", time.Second, func(ctx context.Context, r *run) *failure {
			if n++; n < 3 {
				return fail(PhaseConnect, "down")
			}
			return nil
		})
		own := fake("own", time.Second, func(ctx context.Context, r *run) *failure {
			t.Error("a check that is not waited for was run")
			return nil
		})
		m := NewMonitor([]*Check{up, late, own}, MonitorOptions{Interval: time.Hour, Changed: func(s State) { t.Errorf("logged %s", s.Check.Name) }})
		reported := ""
		results := m.Wait(t.Context(), Limits{Named: map[string]time.Duration{"up": time.Minute, "late": time.Minute}}, func(r Result) {
			reported += r.Check.Name
			if s := m.States(nil); s[0].Status != OK || s[1].Status != Starting || s[1].Last.Seen() != "connect: down" || s[2].Status != Starting {
				t.Errorf("while it waits: %+v", s)
			}
		})
		s := m.States(nil)
		if Verdict(results) != OK || reported != "late" || s[0].Successes != 3 || s[1].Failures != 0 || s[1].Successes != 1 {
			t.Errorf("%v, reported %q, states %+v", results, reported, s)
		}
	})
}

// A log that nobody reads holds up no scrape.
func TestMonitorBlockedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		broken := fake("x", time.Second, func(ctx context.Context, r *run) *failure { return fail(PhaseConnect, "broken") })
		blocked := make(chan bool)
		m := NewMonitor([]*Check{broken}, MonitorOptions{Interval: time.Second, Changed: func(State) { <-blocked }})
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
	NewMonitor(nil, MonitorOptions{Interval: time.Second}).Run(context.Background())
}
