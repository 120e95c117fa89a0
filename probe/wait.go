package probe

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Backoff between the tries of Wait.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = time.Second
)

// Wait runs all checks again and again until every one passes in the same round, or limit has passed, or ctx is cancelled,
// and returns the results of the last round. A check that fails is told to report, once for each change of its reason.
func Wait(ctx context.Context, checks []*Check, limit time.Duration, report func(Result)) []Result {
	return wait(ctx, checks, limit, report, func([]Result) {})
}

// wait is Wait, which shows the results of each round to seen.
func wait(ctx context.Context, checks []*Check, limit time.Duration, report func(Result), seen func([]Result)) []Result {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reasons := map[string]string{}
	var last []Result
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		results := RunAll(ctx, checks)
		if errors.Is(ctx.Err(), context.Canceled) { // what failed now says nothing of the peers
			return results
		}
		if last != nil && ctx.Err() != nil { // cut short by the limit: what was seen before says more
			merged := slices.Clone(results)
			for i, r := range results {
				if r.TimedOut {
					merged[i] = last[i]
				}
			}
			if Verdict(merged) == Failed { // else they have not all passed in one round
				results = merged
			}
		}
		seen(results)
		if Verdict(results) != Failed {
			return results
		}
		for _, r := range results {
			if r.Status == Failed && reasons[r.Check.Name] != r.Seen() {
				report(r)
			}
			reasons[r.Check.Name] = ""
			if r.Status == Failed {
				reasons[r.Check.Name] = r.Seen()
			}
		}
		last = results
		select {
		case <-ctx.Done():
			return results
		case <-time.After(backoff):
		}
		if ctx.Err() != nil {
			return results
		}
	}
}
