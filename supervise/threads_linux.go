package supervise

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// Go's runtime creates a thread when a goroutine is ready to run and all threads are busy, for
// example in system calls. If the kernel refuses, the runtime ends the program with status 2. An
// idle thread is parked, not ended, and the runtime reuses it before it creates another. So threads
// created before the command starts are a reserve for the time when the command has used up the
// container's processes.
const (
	// maxReserve is how many threads are reserved if the limit allows. The exporter needs 12 threads at most, however many
	// clients scrape it, and the runtime has made 5 by then. With 10 none of 12 runs in a full container ended (test/engine,
	// TestFullContainer), with 7 one of three did. Each costs about 16 KiB.
	maxReserve = 10

	// leftForCommand is the number of threads that remain for the command under a small limit.
	leftForCommand = 2

	// maxProcs bounds GOMAXPROCS, since each processor keeps a thread busy. An init has no work for
	// more.
	maxProcs = 2
)

// ReserveThreads creates threads in advance, so that the program keeps running if the command uses
// up the container's pids limit or RLIMIT_NPROC. It blocks for less than a millisecond.
func ReserveThreads() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), maxProcs))
	}
	reserve(reserveSize(freeThreads()))
}

// reserveSize returns how many of the free threads to reserve.
func reserveSize(free int) int {
	return min(maxReserve, free-leftForCommand)
}

// reserve creates n threads. Each goroutine is locked to its own thread, and the barrier makes all
// of them wait at the same time.
func reserve(n int) {
	if n <= 0 {
		return
	}
	var locked, unlocked sync.WaitGroup
	locked.Add(n)
	barrier := make(chan struct{})
	for range n {
		unlocked.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			locked.Done()
			<-barrier
		})
	}
	locked.Wait()
	close(barrier)
	unlocked.Wait()
}

// freeThreads returns how many threads the limits still allow, but at most 2*maxReserve.
func freeThreads() int {
	free := 2 * maxReserve
	for _, dir := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/pids/"} { // cgroup v2, v1
		limit, err := strconv.Atoi(readLine(dir + "pids.max")) // "max" means no limit
		if err != nil {
			continue
		}
		current, err := strconv.Atoi(readLine(dir + "pids.current"))
		if err != nil {
			continue
		}
		free = min(free, limit-current)
	}
	if limit, ok := processRlimit(); ok {
		free = min(free, limit-threadsOfUser())
	}
	return free
}

func readLine(file string) string {
	return string(bytes.TrimSpace(readFile(file, make([]byte, 32))))
}

// processRlimit returns the soft RLIMIT_NPROC (getrlimit(2)). It does not limit root.
func processRlimit() (limit int, ok bool) {
	const RLIMIT_NPROC = 6
	const infinity = 1<<31 - 1 // more than any kernel's threads-max
	var r syscall.Rlimit
	if os.Getuid() == 0 || syscall.Getrlimit(RLIMIT_NPROC, &r) != nil || r.Cur > infinity {
		return 0, false
	}
	return int(r.Cur), true
}

// threadsOfUser counts the threads of this user that /proc shows.
func threadsOfUser() (n int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	buf := make([]byte, 1024)
	for _, name := range names {
		var info syscall.Stat_t
		if syscall.Stat("/proc/"+name, &info) != nil || int(info.Uid) != os.Getuid() {
			continue
		}
		if s, ok := parseStat(readFile("/proc/"+name+"/stat", buf)); ok {
			n += int(s.threads)
		}
	}
	return n
}
