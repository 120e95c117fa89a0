//go:build linux

package e2e_test

import (
	"slices"
	"strings"
	"testing"
)

// TestEarlyRegistration reads Go's own trace of the initialization: the package that registers TERM
// comes directly after os/signal, before net, crypto/tls and all other packages that are costly.
func TestEarlyRegistration(t *testing.T) {
	t.Parallel()
	got := run(t, []string{"GODEBUG=inittrace=1"}, "--version")
	var order []string
	for line := range strings.Lines(got.stderr) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "init" {
			order = append(order, f[1])
		}
	}
	at := slices.Index(order, "alfred/healthcheck/supervise/early")
	if at < 1 || order[at-1] != "os/signal" || !slices.Contains(order[at:], "net") {
		t.Errorf("initialized in the order %q, want supervise/early directly after os/signal", order)
	}
}
