package supervise

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// Go's runtime makes a thread when a goroutine is ready to run and all threads are busy, for example in system calls. If the
// kernel refuses, the runtime ends the program with status 2. A thread that is no longer needed is parked, not ended, and is
// the first to be used again. So threads made before the command can use up the container's processes are a reserve.
const (
	// maxReserve is how many threads are reserved if the limit allows.
	maxReserve = 16

	// minReserve is the least that keeps the exporter running in a full container. It needs 12 threads at most, 5 of which
	// the runtime has made by then, however many clients scrape it (test/engine, TestFullContainer).
	minReserve = 10

	// leftForCommand is how many threads of a small limit are left for the command.
	leftForCommand = 2

	// maxProcs bounds GOMAXPROCS, since each processor keeps a thread busy. An init has no work for more.
	maxProcs = 2
)

// ReserveThreads makes the threads that the program needs to keep running if the command uses up the processes that
// the container's pids limit or RLIMIT_NPROC allows. It blocks for less than a millisecond.
func ReserveThreads() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), maxProcs))
	}
	reserve(reserveSize(freeThreads()))
}

// reserveSize is how many of the threads still free are reserved.
func reserveSize(free int) int {
	return min(max(free/2, minReserve), maxReserve, free-leftForCommand)
}

// reserve makes n threads. A goroutine locked to its thread does not share it, and the barrier has all of them wait at
// the same time.
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

// freeThreads is how many threads the limits still allow, or 2*maxReserve if there is no limit.
func freeThreads() int {
	free := 2 * maxReserve
	for _, dir := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/pids/"} { // cgroup v2, v1
		limit, err := strconv.Atoi(readLine(dir + "pids.max")) // "max" is none
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

// processRlimit is the soft RLIMIT_NPROC (getrlimit(2)), which does not bind root.
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
