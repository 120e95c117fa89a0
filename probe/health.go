package probe

import (
	"bytes"
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
}

// readHealth reads a JSON object as far as it goes: a document that is cut at maxBody, or breaks, counts up
// to there. It reports whether the body is an object at all.
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
		case "services", "components": // the guide's and Spring's
			if j.next() == '{' {
				h.readDependencies(j)
			} else {
				j.skip()
			}
		default:
			j.skip()
		}
	})
	return h, true
}

// readDependencies reads {"database": "ok", "cache": {"status": "UP"}} in the order in which it is written.
func (h *health) readDependencies(j *jsonReader) {
	j.object(func(name string) {
		status := ""
		if j.next() == '{' {
			j.object(func(key string) {
				if key == "status" {
					status = worseWord(status, j)
				} else {
					j.skip()
				}
			})
		} else {
			status = worseWord("", j)
		}
		if status != "" {
			h.add(Dependency{Name: name, Status: statusOf(status)})
		}
	})
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
