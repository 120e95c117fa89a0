package probe

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Further statuses of a check that a Monitor runs.
const (
	Starting Status = "starting" // it has never passed, and its start period is not over
	Unknown  Status = "unknown"  // there is no check
)

// maxHistory is how many runs of a check a Monitor remembers.
const maxHistory = 60

// relogAfter is the shortest time after which a failing check is logged again because its reason
// has changed.
const relogAfter = time.Minute

// A State is what is known of one check while a Monitor runs it.
type State struct {
	Check  *Check
	Status Status    // Starting, OK, Degraded or Failed; Failed only after MonitorOptions.Retries failures in a row
	Since  time.Time // when Status last changed, zero before the first change
	Last   Result    // of the last run that ended; its Check is nil before the first has

	// Runs by result; a timeout is not counted as a failure. Failures while the check is starting
	// are not counted.
	Successes, Failures, Timeouts uint64
	ConsecutiveFailures           uint64 // counted failures and timeouts since the last success
	LastSuccess                   time.Time
}

// Known reports whether the check has been judged: it has passed, or it has failed after its start
// period.
func (s *State) Known() bool { return s.Status != Starting }

// Passed reports whether the check's last run passed.
func (s *State) Passed() bool { return s.Known() && s.Last.Status != Failed }

// A Run is one run of a check as its history keeps it.
type Run struct {
	Start    time.Time
	Duration time.Duration
	Status   Status
	Seen     string // as Result.Seen
}

// MonitorOptions configures how a Monitor runs its checks and when a check counts as failed.
type MonitorOptions struct {
	Interval    time.Duration // between two runs of a check
	StartPeriod time.Duration // from Run on, for checks that have never passed
	Retries     int           // failures in a row before a check counts as failed; 0 means 1

	// Changed is called when a check changes from ok to failed or back. It is also called when the
	// reason of a failure changes, at most once a minute. Several goroutines call it, one at a
	// time. If it blocks, the results so far are available, but the next run of the check waits.
	Changed func(State)
}

// A Monitor runs checks on an interval and keeps what they saw. Each check has its own goroutine,
// so a slow check delays no other, and two runs of a check never overlap.
//
// A check is starting until it passes once, or fails after its start period:
//
//	          passes                 fails Retries times in a row
//	starting ────────▶ ok, degraded ─────────────────────────────▶ failed
//	    │                    ▲                passes                 │ ▲
//	    │                    └───────────────────────────────────────┘ │
//	    └──────────────────────────────────────────────────────────────┘
//	 fails after the start period, Retries times in a row with the start period
type Monitor struct {
	options MonitorOptions

	mu       sync.Mutex // guards the fields below; not held while a check or Changed runs
	states   []State
	failing  []int // runs of each check that failed in a row, those while it was starting included
	logs     []logState
	history  [][]Run   // of each check, oldest first
	startEnd time.Time // when the start period ends, zero before Run
	quiet    bool

	changing sync.Mutex // held while Changed runs
}

// A logState is what was last logged about one check.
type logState struct {
	at     time.Time
	reason string
}

// NewMonitor returns a Monitor for checks, all in status Starting.
func NewMonitor(checks []*Check, o MonitorOptions) *Monitor {
	o.Retries = max(o.Retries, 1)
	m := &Monitor{options: o, logs: make([]logState, len(checks)), failing: make([]int, len(checks)), history: make([][]Run, len(checks))}
	for _, c := range checks {
		m.states = append(m.states, State{Check: c, Status: Starting})
	}
	return m
}

// Wait calls the function Wait for the Monitor's checks. It must return before Run is called. The
// Monitor keeps the results, and calls only report, not Changed.
func (m *Monitor) Wait(ctx context.Context, limits Limits, report func(Result)) []Result {
	var checks []*Check
	for i := range m.states {
		checks = append(checks, m.states[i].Check) // never written to
	}
	return wait(ctx, checks, limits, report, m.noteOf)
}

// Quiet prevents further calls of Changed. It is called when the command is being stopped.
func (m *Monitor) Quiet() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quiet = true
}

// Run runs the checks until ctx is done, and blocks until then. The first runs start together. A
// check in status Starting is retried with the back-off of Wait. Any other check runs once per
// interval, and the checks are spread evenly over the interval.
func (m *Monitor) Run(ctx context.Context) {
	m.mu.Lock()
	m.startEnd = time.Now().Add(m.options.StartPeriod)
	m.mu.Unlock()
	var running sync.WaitGroup
	for i := range m.states {
		running.Go(func() { m.runOne(ctx, i) })
	}
	running.Wait()
}

// runOne runs one check repeatedly. If a run overruns the interval, the missed ticks are skipped.
func (m *Monitor) runOne(ctx context.Context, i int) {
	check := m.states[i].Check // never written to
	interval := m.options.Interval
	next := time.Now().Add(interval * time.Duration(i+1) / time.Duration(len(m.states)))
	backoff := minBackoff
	for {
		result := check.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		state, log := m.note(i, result)
		if log { // Changed may block if nobody reads the log
			m.changing.Lock()
			m.options.Changed(state)
			m.changing.Unlock()
		}
		now := time.Now()
		for !next.After(now) {
			next = next.Add(interval)
		}
		pause := next.Sub(now)
		if state.Status == Starting && now.Before(m.startEnd) {
			pause = min(pause, backoff, m.startEnd.Sub(now))
			backoff = min(2*backoff, maxBackoff)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// noteOf calls note for the check that r is a result of.
func (m *Monitor) noteOf(r Result) {
	m.note(slices.IndexFunc(m.states, func(s State) bool { return s.Check == r.Check }), r)
}

// note keeps a result, and reports whether it must be logged.
func (m *Monitor) note(i int, r Result) (state State, log bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.states[i]
	s.Last = r
	ended := r.Start.Add(r.Duration)
	failed := r.Status == Failed
	if m.failing[i]++; !failed {
		m.failing[i] = 0
	}
	if failed && s.Status == Starting && (m.startEnd.IsZero() || ended.Before(m.startEnd)) {
		return *s, false
	}
	m.history[i] = append(m.history[i], Run{r.Start, r.Duration, r.Status, r.Seen()})
	if len(m.history[i]) > maxHistory {
		m.history[i] = slices.Delete(m.history[i], 0, 1)
	}
	switch {
	case !failed:
		s.Successes++
		s.LastSuccess = ended
		s.ConsecutiveFailures = 0
	case r.TimedOut:
		s.Timeouts++
		s.ConsecutiveFailures++
	default:
		s.Failures++
		s.ConsecutiveFailures++
	}
	before := s.Status
	switch {
	case !failed:
		s.Status = r.Status
	case m.failing[i] >= m.options.Retries:
		s.Status = Failed
	}
	if s.Status != before {
		s.Since = ended
	}
	return *s, m.toLog(i, before, ended) && !m.quiet
}

// toLog reports whether check i must be logged. before is the status that it had before its last
// result.
func (m *Monitor) toLog(i int, before Status, now time.Time) bool {
	s, last := &m.states[i], &m.logs[i]
	switch {
	case s.Status == Failed && before != Failed:
	case s.Status == Failed && s.Last.Status == Failed && s.Last.Line(MaxLine) != last.reason && now.Sub(last.at) >= relogAfter:
	case s.Status != Failed && before == Failed:
	default:
		return false
	}
	*last = logState{now, s.Last.Line(MaxLine)}
	return true
}

// States returns what is known of every check, in the order given to NewMonitor, appended to dst. It never waits for a check.
func (m *Monitor) States(dst []State) []State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append(slices.Grow(dst, len(m.states)), m.states...)
}

// History returns the last runs of every check, at most 60 of each, oldest first. Failures while a
// check was starting are not among them.
func (m *Monitor) History() [][]Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([][]Run, len(m.history))
	for i, runs := range m.history {
		list[i] = slices.Clone(runs)
	}
	return list
}
