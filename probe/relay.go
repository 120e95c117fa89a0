package probe

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

// A probe that runs inside a container, such as Docker's HEALTHCHECK, relays its results to the wrapper at PID 1 over an
// abstract Unix socket of type SOCK_SEQPACKET (unix(7)). The socket is named after the PID namespace:
//
//	\0healthcheck/pid:[4026532567]
//
// Both ends read SO_PEERCRED: the probe sends only to process 1, and the wrapper receives only from processes of its own
// namespace. The kernel translates a process of another namespace to 0. A probe sends one message with all its results:
//
//	version  result, 1 to 16 times
//	┌──────┐┌────────┬─────────────┬─────┬──────┬─────┬───────┬─────┬────────┐
//	│  1   ││ status │ duration ns │ len │ type │ len │ check │ len │ target │
//	└──────┘└────────┴─────────────┴─────┴──────┴─────┴───────┴─────┴────────┘
//	 1 byte   1 byte     8 bytes   1 byte       1 byte        1 byte
//
// Numbers are unsigned and big-endian. status is an index of relayStatuses, and type is one of Types. A message that differs in
// anything is dropped as a whole.
const (
	relayVersion = 1

	maxReports = 16 // results in a message, and targets that a Reports keeps
	maxTarget  = 160
	maxRelay   = 4096 // bytes of a message; 16 results with the longest texts take 3,905
)

var relayStatuses = [...]Status{Failed, Degraded, OK}

// A Report is the last result of one target that a probe relayed. Its texts are printable and bounded.
type Report struct {
	Check, Type, Target string
	Status              Status
	Duration            time.Duration
	Received            time.Time
}

// Reports keeps the last result of each target that the probes of this container relayed, of 16 targets at most. It is safe for
// concurrent use, and a nil Reports is empty.
type Reports struct {
	mu   sync.Mutex // guards list
	list []Report   // in the order in which the targets were first received
}

// List returns a copy, in an order that later results of the same targets do not change.
func (r *Reports) List() []Report {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// receive keeps the results of a message, unless it is malformed. If there is no room, the target that was updated least
// recently is evicted.
func (r *Reports) receive(message []byte, now time.Time) error {
	received, err := decodeReports(message)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range received {
		report.Received = now
		i := slices.IndexFunc(r.list, func(known Report) bool {
			return known.Check == report.Check && known.Type == report.Type && known.Target == report.Target
		})
		if i >= 0 {
			r.list[i] = report
			continue
		}
		if len(r.list) == maxReports {
			oldest := 0
			for k := range r.list {
				if r.list[k].Received.Before(r.list[oldest].Received) {
					oldest = k
				}
			}
			r.list = slices.Delete(r.list, oldest, oldest+1)
		}
		r.list = append(r.list, report)
	}
	return nil
}

// reportsOf returns what is relayed of a probe's results: of the first 16, without messages, since those can hold a peer's
// answer and the exported address must not show one.
func reportsOf(results []Result) []Report {
	list := make([]Report, 0, maxReports)
	for _, r := range results[:min(len(results), maxReports)] {
		list = append(list, Report{Check: r.Check.Name, Type: r.Check.Type, Target: cut(r.Check.Target, maxTarget),
			Status: r.Status, Duration: r.Duration})
	}
	return list
}

// encodeReports returns the message for at most 16 reports whose texts are within the limits.
func encodeReports(list []Report) []byte {
	b := append(make([]byte, 0, maxRelay), relayVersion)
	for _, r := range list {
		b = append(b, byte(slices.Index(relayStatuses[:], r.Status)))
		b = binary.BigEndian.AppendUint64(b, uint64(max(r.Duration, 0)))
		for _, s := range []string{r.Type, r.Check, r.Target} {
			b = append(append(b, byte(len(s))), s...)
		}
	}
	return b
}

var errRelay = errors.New("malformed message")

// decodeReports reads a message. It checks and escapes every text, since any process of the container can send one.
func decodeReports(b []byte) ([]Report, error) {
	if len(b) < 2 || len(b) > maxRelay || b[0] != relayVersion {
		return nil, errRelay
	}
	var list []Report
	for b = b[1:]; len(b) > 0; {
		if len(list) == maxReports || len(b) < 1+8 || int(b[0]) >= len(relayStatuses) || b[1] > 0x7f { // time.Duration is signed
			return nil, errRelay
		}
		r := Report{Status: relayStatuses[b[0]], Duration: time.Duration(binary.BigEndian.Uint64(b[1:]))}
		b = b[1+8:]
		for _, text := range []*string{&r.Type, &r.Check, &r.Target} {
			if len(b) == 0 || len(b) < 1+int(b[0]) {
				return nil, errRelay
			}
			end := 1 + int(b[0])
			*text, b = string(b[1:end]), b[end:]
		}
		if !slices.Contains(Types, r.Type) || len(r.Check) > maxName || !isIdentifier(r.Check, "-") ||
			r.Target == "" || len(r.Target) > maxTarget || !utf8.ValidString(r.Target) {
			return nil, errRelay
		}
		r.Target = cut(escapeUnprintable(r.Target), maxTarget)
		list = append(list, r)
	}
	return list, nil
}
