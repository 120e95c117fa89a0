package supervise

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestReserveSize(t *testing.T) {
	for _, test := range []struct{ free, want int }{
		{2 * maxReserve, maxReserve}, // no limit
		{maxReserve + leftForCommand, maxReserve},
		{maxReserve + leftForCommand - 1, maxReserve - 1},
		{leftForCommand, 0},
		{0, -leftForCommand}, // reserve makes none
	} {
		if got := reserveSize(test.free); got != test.want {
			t.Errorf("reserveSize(%d) = %d, want %d", test.free, got, test.want)
		}
	}
}

// TestReserve counts the threads that the kernel lists. A reserved thread is parked, not ended.
func TestReserve(t *testing.T) {
	threads := func() int {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(regexp.MustCompile(`Threads:\s+(\d+)`).FindStringSubmatch(string(status))[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	reserve(-1)
	reserve(0)
	const more = 5
	want := threads() + more
	reserve(want) // at least so many exist at the barrier, whatever was parked before
	if got := threads(); got < want {
		t.Errorf("%d threads after a reserve of %d, want at least as many", got, want)
	}
	if free := freeThreads(); free <= 0 {
		t.Errorf("freeThreads() = %d on a machine that runs this test", free)
	}
	if threadsOfUser() < want {
		t.Errorf("threadsOfUser() = %d, want at least this program's %d", threadsOfUser(), want)
	}
}
