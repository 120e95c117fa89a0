package probe

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A State is what is known of one check while a Monitor runs it.
type State struct {
	Check *Check
	Last  Result    // of the last run that ended; its Check is nil before the first has
	Since time.Time // when it went to the status that it has

	Successes, Failures, Timeouts uint64 // runs by result; a timeout is no failure here
	ConsecutiveFailures           uint64 // runs without success since the last one
	LastSuccess                   time.Time
}

// Known reports whether the check has run.
func (s *State) Known() bool { return s.Last.Check != nil }

// Healthy reports whether the check's last run passed.
func (s *State) Healthy() bool { return s.Known() && s.Last.Status != Failed }

// A Monitor runs checks on an interval and keeps what they saw. Each check has a goroutine of its own, so that a slow
// one holds up no other, and none runs twice at once.
type Monitor struct {
	interval time.Duration
	changed  func(State)

	mu     sync.Mutex // guards states; never held while a check runs or changed does
	states []State

	telling sync.Mutex // held while changed runs
}

// NewMonitor returns a monitor for checks. A check that goes from healthy to failed, or back, or whose first run fails, is
// told to changed; calls come from several goroutines, one at a time.
func NewMonitor(checks []*Check, interval time.Duration, changed func(State)) *Monitor {
	m := &Monitor{interval: interval, changed: changed}
	for _, c := range checks {
		m.states = append(m.states, State{Check: c})
	}
	return m
}

// Wait is the function Wait for the monitor's checks, before Run: what they see meanwhile is kept, and told to report alone.
func (m *Monitor) Wait(ctx context.Context, limit time.Duration, report func(Result)) []Result {
	var checks []*Check
	for i := range m.states {
		checks = append(checks, m.states[i].Check) // never written to
	}
	return wait(ctx, checks, limit, report, func(results []Result) {
		for i, r := range results {
			m.note(i, r)
		}
	})
}

// Run runs the checks until ctx is done, and blocks until then. All start together; from then on each comes once in
// every interval, spread evenly over it.
func (m *Monitor) Run(ctx context.Context) {
	var running sync.WaitGroup
	for i := range m.states {
		running.Go(func() { m.runOne(ctx, i) })
	}
	running.Wait()
}

// runOne runs one check again and again. A run that takes longer than the interval makes the turns that it covers
// drop out; they are not made up for.
func (m *Monitor) runOne(ctx context.Context, i int) {
	check := m.states[i].Check // never written to
	next := time.Now().Add(m.interval * time.Duration(i+1) / time.Duration(len(m.states)))
	for {
		result := check.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if state, news := m.note(i, result); news { // it may block, on a log that nobody reads
			m.telling.Lock()
			m.changed(state)
			m.telling.Unlock()
		}
		for !next.After(time.Now()) {
			next = next.Add(m.interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
			next = next.Add(m.interval)
		}
	}
}

// note keeps a result, and reports whether it is news for the log.
func (m *Monitor) note(i int, r Result) (state State, news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.states[i]
	healthy := r.Status != Failed
	news = s.Known() && s.Healthy() != healthy || !s.Known() && !healthy
	if s.Last.Status != r.Status {
		s.Since = r.Start.Add(r.Duration)
	}
	s.Last = r
	switch {
	case healthy:
		s.Successes++
		s.LastSuccess = r.Start.Add(r.Duration)
		s.ConsecutiveFailures = 0
	case r.TimedOut:
		s.Timeouts++
		s.ConsecutiveFailures++
	default:
		s.Failures++
		s.ConsecutiveFailures++
	}
	return *s, news
}

// States returns what is known of every check, in the order given to NewMonitor, appended to dst. It never waits for a check.
func (m *Monitor) States(dst []State) []State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append(slices.Grow(dst, len(m.states)), m.states...)
}
