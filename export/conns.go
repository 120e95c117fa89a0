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

// connectionLimit is maxConnections, or half of the file descriptors that are still free if that is
// less. The checks need the other half.
func connectionLimit() int {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) != nil || files.Cur > 1<<20 {
		return maxConnections
	}
	open, _ := os.ReadDir("/proc/self/fd") // includes the descriptor that ReadDir opens
	return max(1, min(maxConnections, (int(files.Cur)-len(open))/2))
}

// connections bounds how many clients are connected at once. Beyond the limit it closes the
// connection that has been idle longest, so idle clients cannot lock out a scraper.
type connections struct {
	limit int
	mu    sync.Mutex    // guards list
	list  []*connection // the one idle longest first
}

// A connection is the connection of one client. net/http reports StateActive before each handler
// runs, and StateIdle once the answer has been flushed.
type connection struct {
	net.Conn
	keep bool // closeIdlest skips it: a request is being answered, or it is already closed
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
	case http.StateIdle: // a response has been sent: the idle time starts again
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
