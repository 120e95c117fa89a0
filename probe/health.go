package probe

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// maxDependencies is how many entries of a health document are reported; those that are not ok go
// before.
const maxDependencies = 64

// A health document is what the body of an answer says.
type health struct {
	status       string // "" where there is none, or it is no string
	dependencies []Dependency
	reasons      [len(reasonKeys)]string // what the document says of a failure, by its key
}

// reasonKeys are the members of a JSON object in which services say why they fail, the first one that is there counts.
var reasonKeys = [...]string{"message", "error", "detail", "reason"}

// reason is what the document says of a failure; "" if it says nothing.
func (h *health) reason() string { return cmp.Or(h.reasons[:]...) }

// readHealth reads a JSON object as far as it goes: a document that is cut at maxBody, or breaks, counts up
// to there. It reports whether the body is an object at all. The dependencies are those of
//
//	"services":   {"db": "ok"}                                    the platform's guide
//	"components": {"db": {"status": "UP"}}                        Spring Boot
//	"details":    {"db": {"status": "up"}}                        Terminus, Spring Boot 1
//	"entries":    {"db": {"status": "Healthy"}}                   ASP.NET
//	"checks":     {"db:responseTime": [{"status": "pass"}, …]}    application/health+json
//	"checks":     [{"name": "db", "status": "UP"}, …]             MicroProfile
func readHealth(body []byte) (h health, ok bool) {
	body = trimJSON(body)
	if len(body) == 0 || body[0] != '{' {
		return h, false
	}
	j := &jsonReader{b: body}
	j.object(func(key string) {
		switch key {
		case "status":
			h.status = worseWord(h.status, j)
		case "services", "components":
			h.readDependencies(j, true)
		case "details", "entries": // of other documents, too: a word alone may be anything
			h.readDependencies(j, false)
		case "checks":
			if j.next() == '[' {
				h.readNamed(j)
			} else {
				h.readDependencies(j, true)
			}
		default:
			h.readReason(j, key)
		}
	})
	return h, true
}

// readDependencies reads {"database": "ok", "cache": {"status": "UP"}, "queue": [{"status": "pass"}]} in the order in which it is
// written, and skips any other value. A word counts only if words is true.
func (h *health) readDependencies(j *jsonReader, words bool) {
	if j.next() != '{' {
		j.skip()
		return
	}
	j.object(func(name string) {
		status := ""
		switch j.next() {
		case '{':
			status, _ = readEntry(j, "")
		case '[':
			j.array(func() { status, _ = readEntry(j, status) })
		default:
			if word := worseWord("", j); words {
				status = word
			}
		}
		if status != "" {
			h.add(Dependency{Name: name, Status: statusOf(status)})
		}
	})
}

// readNamed reads [{"name": "database", "status": "UP"}].
func (h *health) readNamed(j *jsonReader) {
	j.array(func() {
		if status, name := readEntry(j, ""); status != "" && name != "" {
			h.add(Dependency{Name: name, Status: statusOf(status)})
		}
	})
}

// readEntry reads one {"name": "database", "status": "UP"}, and skips any other value. The status is the worse of its own and the
// known one.
func readEntry(j *jsonReader, known string) (status, name string) {
	if j.next() != '{' {
		j.skip()
		return known, ""
	}
	j.object(func(key string) {
		switch key {
		case "status":
			known = worseWord(known, j)
		case "name":
			if word, ok := j.str(); ok {
				name = word
			} else {
				j.skip()
			}
		default:
			j.skip()
		}
	})
	return known, name
}

// readReason reads the value of a member: a reason if its key is that of one, as in {"message": "database is locked"} and
// {"error": {"code": 5, "message": "database is locked"}}.
func (h *health) readReason(j *jsonReader, key string) {
	i := slices.Index(reasonKeys[:], key)
	switch {
	case i >= 0 && j.next() == '"':
		word, _ := j.str()
		h.reasons[i] = cmp.Or(h.reasons[i], strings.TrimSpace(word))
	case i >= 0 && j.next() == '{':
		var inner health
		j.object(func(key string) {
			if j.next() == '{' {
				j.skip()
			} else {
				inner.readReason(j, key)
			}
		})
		h.reasons[i] = cmp.Or(h.reasons[i], inner.reason())
	default:
		j.skip()
	}
}

// worseWord reads a value and returns the worse of two status words, so that a second key "status" cannot hide a bad first one.
// A value that is no string is skipped.
func worseWord(known string, j *jsonReader) string {
	word, ok := j.str()
	if !ok {
		j.skip()
		return known
	}
	if known == "" || Worse(statusOf(word), statusOf(known)) != statusOf(known) {
		return word
	}
	return known
}

// add keeps a dependency if there is room for it, or can be made.
func (h *health) add(d Dependency) {
	if len(h.dependencies) == maxDependencies {
		if d.Status == OK {
			return
		}
		for i, o := range slices.Backward(h.dependencies) {
			if o.Status == OK {
				h.dependencies = slices.Delete(h.dependencies, i, i+1)
				break
			}
		}
	}
	if len(h.dependencies) < maxDependencies {
		h.dependencies = append(h.dependencies, d)
	}
}

// statusOf reads the word of a health document. What is not known to be bad is good.
func statusOf(word string) Status {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "error", "fail", "failed", "down", "out_of_service", "unavailable", "unhealthy", "critical":
		return Failed
	case "degraded", "warn":
		return Degraded
	}
	return OK
}

// trimJSON drops a byte order mark and JSON's white space from the front.
func trimJSON(b []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\ufeff")), " \t\r\n")
}
