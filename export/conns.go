package export

import (
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
)

// maxConnections is how many clients may be connected at once.
const maxConnections = 512

// connectionLimit is maxConnections, or half of the file descriptors that are still free if that is less: the checks need
// the other half.
func connectionLimit() int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil || files.Cur > 1<<20 {
		return maxConnections
	}
	open, _ := os.ReadDir("/proc/self/fd") // the descriptor that reads it is one of them
	return max(1, min(maxConnections, (int(files.Cur)-len(open))/2))
}

// connections bounds how many clients are connected at once. Beyond the limit the connection idle longest is closed, so
// that clients which keep theirs open do not shut a scraper out.
type connections struct {
	limit int
	mu    sync.Mutex    // guards list
	list  []*connection // the one idle longest first
}

// A connection is one client's. net/http reports StateActive before each handler runs, and StateIdle once the answer has
// been flushed.
type connection struct {
	net.Conn
	keep bool // it is being answered, or has been closed already
}

// track is http.Server's ConnState hook.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		c.list = append(c.list, &connection{Conn: conn})
		if len(c.list) > c.limit {
			c.closeIdlest()
		}
		return
	}
	i := slices.IndexFunc(c.list, func(known *connection) bool { return known.Conn == conn })
	if i < 0 {
		return
	}
	known := c.list[i]
	switch state {
	case http.StateActive:
		known.keep = true
	case http.StateIdle: // the client has spoken: the idle time starts again
		known.keep = false
		c.list = append(slices.Delete(c.list, i, i+1), known)
	case http.StateClosed, http.StateHijacked:
		c.list = slices.Delete(c.list, i, i+1)
	}
}

// closeIdlest closes the connection idle longest. net/http then reports StateClosed for it.
func (c *connections) closeIdlest() {
	for _, old := range c.list {
		if !old.keep {
			old.keep = true
			old.Close()
			return
		}
	}
}
