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
			if h.status, ok = j.str(); !ok {
				j.skip()
			}
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
		status, ok := j.str()
		if !ok && j.next() == '{' {
			j.object(func(key string) {
				if key == "status" {
					status, ok = j.str()
				}
				if key != "status" || !ok {
					j.skip()
				}
			})
		} else if !ok {
			j.skip()
		}
		if status != "" {
			h.add(Dependency{Name: name, Status: statusOf(status)})
		}
	})
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
	case "error", "fail", "down", "unhealthy", "critical":
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
