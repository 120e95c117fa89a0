package supervise

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc: 100 on every architecture Go supports (times(2)).
const ticksPerSecond = 100

var (
	errForeignProc = errors.New("/proc is not mounted, or is another PID namespace's")
	errHiddenProc  = errors.New("/proc hides the command: it is another user's") // hidepid, proc(5)
	pageSize       = int64(os.Getpagesize())
)

// reapedBefore is the CPU time of children reaped before main: if an entrypoint script starts the
// program with exec, the commands that the script ran.
var reapedBefore = func() (r syscall.Rusage) {
	syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r)
	return r
}()

// descendants accounts for the program's descendants. /proc and getrusage(2) report on the whole
// program, so one account serves every command.
var descendants accounts

// accounts is the state that Usage keeps between calls.
type accounts struct {
	mu           sync.Mutex // guards all of it; held while /proc is read
	names, file  []byte     // buffers: directory entries, a file's content
	stats        []stat
	ours         map[int64]bool // process IDs of the program and its descendants
	user, system float64        // maximum so far

	began time.Time // when the last reading began, and its result
	last  Usage
	err   error
}

// Usage reads the resource usage of the command and its descendants from /proc. If the command is
// not running, it counts the other descendants of the program, if any.
//
// It fails if /proc is missing, belongs to another PID namespace, or hides the command. A process
// that ends during the reading is not counted. Concurrent callers share one reading, so a hundred
// at once cost no more than two.
func (p *Process) Usage() (Usage, error) {
	a := &descendants
	called := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.began.After(called) {
		a.began = time.Now()
		a.last, a.err = a.usage(p)
	}
	return a.last, a.err
}

// usage is Usage for one caller, which holds the lock.
func (a *accounts) usage(p *Process) (Usage, error) {
	if a.names == nil {
		a.names, a.file, a.ours = make([]byte, 8192), make([]byte, 4096), map[int64]bool{}
	}
	self := os.Getpid()
	if link, err := os.Readlink("/proc/self"); err != nil || link != strconv.Itoa(self) {
		return Usage{}, errForeignProc
	}

	// Read the CPU time of reaped children first. A process that ends in between is then missing
	// from this reading, and the maximum below covers the gap. In the other order it would be
	// counted twice, and the maximum would keep the error.
	var reaped syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &reaped); err != nil {
		return Usage{}, err
	}
	if err := a.read(); err != nil {
		return Usage{}, err
	}
	a.descend(int64(self))

	u := Usage{MaxFDs: -1}
	user, system := seconds(reaped.Utime)-seconds(reapedBefore.Utime), seconds(reaped.Stime)-seconds(reapedBefore.Stime)
	for i := range a.stats {
		s := &a.stats[i]
		if s.pid == int64(self) || !a.ours[s.pid] {
			continue
		}
		u.Processes++
		u.Threads += s.threads
		u.ResidentBytes += s.resident * pageSize
		u.VirtualBytes += s.virtual
		user += float64(s.user+s.childrenUser) / ticksPerSecond
		system += float64(s.system+s.childrenSystem) / ticksPerSecond
		if u.OpenFDs >= 0 && s.state != 'Z' && s.state != 'X' { // one that has ended has none, which only root may see
			switch n, err := a.openFDs(s.pid); {
			case err == nil:
				u.OpenFDs += n
			case err != syscall.ENOENT && err != syscall.ESRCH:
				u.OpenFDs = -1
			}
		}
	}
	if pid := int64(p.id()); pid != 0 {
		if !a.ours[pid] && int64(p.id()) == pid {
			return Usage{}, errHiddenProc
		}
		u.MaxFDs = a.maxFDs(pid)
	}
	a.user, a.system = max(a.user, user), max(a.system, system)
	u.UserSeconds, u.SystemSeconds = a.user, a.system
	return u, nil
}

// Self returns the resource usage of the program itself.
func Self() SelfUsage {
	u := SelfUsage{Started: started, ResidentBytes: -1}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPUSeconds = seconds(r.Utime) + seconds(r.Stime)
	}
	buf := make([]byte, 1024)
	if s, ok := parseStat(readFile("/proc/self/stat", buf)); ok && s.pid == int64(os.Getpid()) {
		u.ResidentBytes = s.resident * pageSize
	}
	return u
}

func seconds(t syscall.Timeval) float64 { return time.Duration(t.Nano()).Seconds() }

// read reads the stat of every process into a.stats.
func (a *accounts) read() error {
	dir, err := syscall.Open("/proc", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	a.stats = a.stats[:0]
	return eachName(dir, a.names, func(name []byte) {
		if name[0] < '1' || name[0] > '9' {
			return
		}
		if s, ok := parseStat(readFile("/proc/"+string(name)+"/stat", a.file)); ok {
			a.stats = append(a.stats, s)
		}
	})
}

// descend fills a.ours with root and its descendants. /proc mostly lists a parent before its
// children, so the second round usually finds nothing new and ends the loop.
func (a *accounts) descend(root int64) {
	clear(a.ours)
	a.ours[root] = true
	for found := true; found; {
		found = false
		for i := range a.stats {
			if s := &a.stats[i]; a.ours[s.parent] && !a.ours[s.pid] {
				a.ours[s.pid] = true
				found = true
			}
		}
	}
}

// openFDs counts a process's open descriptors. From Linux 6.2 they are the size of the directory,
// which also tells them of another user's process.
func (a *accounts) openFDs(pid int64) (n int64, err error) {
	path := "/proc/" + strconv.FormatInt(pid, 10) + "/fd"
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Size > 0 {
		return st.Size, err
	}
	dir, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(dir)
	err = eachName(dir, a.names, func([]byte) { n++ })
	return n, err
}

// maxFDs is the soft limit of open files from /proc/PID/limits, whose lines are a name in words and then the numbers.
func (a *accounts) maxFDs(pid int64) int64 {
	b := readFile("/proc/"+strconv.FormatInt(pid, 10)+"/limits", a.file)
	_, line, _ := bytes.Cut(b, []byte("\nMax open files"))
	soft, _, ok := bytes.Cut(bytes.TrimLeft(line, " "), []byte(" "))
	if n, err := strconv.ParseInt(string(soft), 10, 64); ok && err == nil {
		return n
	}
	return -1
}

// stat is what is wanted of /proc/PID/stat. Times are in ticks.
type stat struct {
	state                        byte // R, S, Z …
	pid, parent                  int64
	user, system                 int64
	childrenUser, childrenSystem int64 // of descendants waited for
	threads                      int64
	virtual                      int64 // bytes
	resident                     int64 // pages
}

// parseStat reads a line of proc_pid_stat(5), here with the fields' numbers. The name is the program's own choice
// and may hold blanks and parentheses, but nothing behind it does: it ends at the last.
//
//	1 (2 comm) 3 4 … 14    15     16       17       … 20      … 23      24
//	pid   state parent user system c. user c. system threads   virtual resident
func parseStat(line []byte) (s stat, ok bool) {
	open, shut := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 1 || shut < open {
		return stat{}, false
	}
	if s.pid, ok = number(line[:open-1]); !ok || s.pid < 1 {
		return stat{}, false
	}
	rest := bytes.TrimLeft(line[shut+1:], " ")
	for field := 3; field <= 24; field++ {
		var value []byte
		value, rest, _ = bytes.Cut(rest, []byte(" "))
		var to *int64
		switch field {
		case 3:
			if len(value) != 1 {
				return stat{}, false
			}
			s.state = value[0]
			continue
		case 4:
			to = &s.parent
		case 14:
			to = &s.user
		case 15:
			to = &s.system
		case 16:
			to = &s.childrenUser
		case 17:
			to = &s.childrenSystem
		case 20:
			to = &s.threads
		case 23:
			to = &s.virtual
		case 24:
			to = &s.resident
		default:
			continue
		}
		if *to, ok = number(value); !ok {
			return stat{}, false
		}
	}
	return s, true
}

// number reads digits and nothing else, up to the largest int64.
func number(b []byte) (n int64, ok bool) {
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(b) > 0
}

// readFile reads what fits into buf, and nothing of a file that is gone. The kernel writes these files whole into one read.
func readFile(path string, buf []byte) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	n, err := syscall.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// eachName calls f with the name of each entry of a directory but "." and "..". Package os would allocate each.
func eachName(dir int, buf []byte, f func(name []byte)) error {
	// linux_dirent64, getdents(2): inode and offset of 8 bytes, length of the record 2, type 1, then the name with its NUL.
	const lengthAt, nameAt = 16, 19
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n == 0 {
			return err
		}
		for b := buf[:n]; len(b) > nameAt; {
			length := int(*(*uint16)(unsafe.Pointer(&b[lengthAt])))
			name, _, _ := bytes.Cut(b[nameAt:length], []byte{0})
			if string(name) != "." && string(name) != ".." {
				f(name)
			}
			b = b[length:]
		}
	}
}
