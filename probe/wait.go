package probe

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Backoff between the tries of Wait, and of a Monitor's check that is starting.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = time.Second
)

// Limits is how long to wait for checks to pass.
type Limits struct {
	All   time.Duration            // for checks that are not in Named; if 0, they are not waited for
	Named map[string]time.Duration // by the check's name
}

// None reports whether there is no check to wait for.
func (l Limits) None() bool { return l.All == 0 && len(l.Named) == 0 }

// Check returns a *UsageError if a limit names none of the checks.
func (l Limits) Check(checks []*Check) error {
	for name := range l.Named {
		if !slices.ContainsFunc(checks, func(c *Check) bool { return c.Name == name }) {
			return Usagef("write the name of a check, as in --redis cache=redis://cache --wait cache=60s", "--wait: no check has the name before =")
		}
	}
	return nil
}

// Of returns the limit of one check, or 0 if it is not waited for.
func (l Limits) Of(c *Check) time.Duration {
	if limit, ok := l.Named[c.Name]; ok {
		return limit
	}
	return l.All
}

// Wait repeats the checks that limits name until all pass in the same round, one still fails at its
// limit, or ctx is cancelled. It returns the results of the last round. It calls report for each
// failure whose reason is new.
func Wait(ctx context.Context, checks []*Check, limits Limits, report func(Result)) []Result {
	return wait(ctx, checks, limits, report, func(Result) {})
}

// A waiting is a check that is waited for.
type waiting struct {
	check  *Check
	ctx    context.Context // ends at the check's own limit, or at the longest of all once it has passed
	last   Result          // of the previous round
	reason string          // the failure reported last
}

// wait is Wait, and passes every result to note.
func wait(ctx context.Context, checks []*Check, limits Limits, report, note func(Result)) []Result {
	var list []*waiting
	longest := time.Duration(0)
	for _, c := range checks {
		if limit := limits.Of(c); limit > 0 {
			limited, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			list = append(list, &waiting{check: c, ctx: limited})
			longest = max(longest, limit)
		}
	}
	whole, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		results := runRound(list)
		if ctx.Err() != nil { // the failure may be that of ctx, not of a peer
			return results
		}
		first := whole // of the contexts of failing checks, the one that ends first
		for i, w := range list {
			r := results[i]
			note(r)
			w.last = r
			if r.Status != Failed {
				w.ctx, w.reason = whole, ""
				continue
			}
			if seen := r.Seen(); seen != w.reason {
				report(r)
				w.reason = seen
			}
			if endsBefore(w.ctx, first) {
				first = w.ctx
			}
		}
		if Verdict(results) != Failed {
			return results
		}
		select {
		case <-first.Done():
		case <-time.After(backoff):
		}
		if isOver(first) {
			return results
		}
	}
}

func endsBefore(a, b context.Context) bool {
	at, _ := a.Deadline()
	bt, _ := b.Deadline()
	return at.Before(bt)
}

// isOver reports whether a context's deadline has passed. Its Err is nil until its timer has fired, which may be a little later than
// a dial that has already given up because of the deadline.
func isOver(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return ctx.Err() != nil || !time.Now().Before(deadline)
}

// runRound runs every check once. If a limit interrupts a run, the check's result of the previous
// round is returned. It is not if all checks would then have passed, since they did not pass in the
// same round.
func runRound(list []*waiting) []Result {
	results := make([]Result, len(list))
	var running sync.WaitGroup
	for i, w := range list {
		running.Go(func() { results[i] = w.check.Run(w.ctx) })
	}
	running.Wait()
	merged := slices.Clone(results)
	for i, w := range list {
		if results[i].TimedOut && isOver(w.ctx) && w.last.Check != nil {
			merged[i] = w.last
		}
	}
	if Verdict(merged) == Failed {
		return merged
	}
	return results
}
