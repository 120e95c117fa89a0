// Package testbed starts the servers that tests of healthcheck talk to:
// PostgreSQL, pgbouncer, Redis, nginx and peers scripted in the test.
//
// A server runs in a temp folder on a free port until the test that started
// it ends. It also ends when the test process dies, however that happens.
// A test whose program is not installed is skipped by that program's name;
// HEALTHCHECK_REQUIRE=all, or a list such as HEALTHCHECK_REQUIRE=postgres,nginx,
// turns the skip into a failure.
//
// Limits: the servers listen on the loopback addresses alone, with small
// memory settings and without durability. They are for tests only.
package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience is how long a server may take to come up before the test fails.
	// A machine with every core taken needs several seconds for PostgreSQL.
	patience = 60 * time.Second

	// pollEvery is the pause between two looks at a condition.
	pollEvery = 5 * time.Millisecond

	// The ports servers get. They lie below Linux's ip_local_port_range
	// (32768 to 60999), so no client's socket takes one in the meantime.
	lowPort, highPort = 12000, 32000
)

// Need returns the path of an installed program. It looks in PATH, in /usr/sbin
// and in Debian's PostgreSQL folders, the newest release first. Where the program
// is missing it skips the test, or fails it under HEALTHCHECK_REQUIRE.
func Need(t testing.TB, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(folders)
	for _, folder := range append(folders, "/usr/sbin", "/usr/local/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return path
		}
	}
	Missing(t, program, "%s is not installed", program)
	return ""
}

// Missing skips the test for want of what HEALTHCHECK_REQUIRE may ask for by name,
// and says why; it fails the test under HEALTHCHECK_REQUIRE. It does not return.
func Missing(t testing.TB, name, why string, args ...any) {
	t.Helper()
	required := strings.Split(os.Getenv("HEALTHCHECK_REQUIRE"), ",")
	if slices.Contains(required, "all") || slices.Contains(required, name) {
		t.Fatalf(why+", and HEALTHCHECK_REQUIRE asks for "+name, args...)
	}
	t.Skipf(why, args...)
}

// NeedEngine skips the test, or fails it under HEALTHCHECK_REQUIRE, where no Docker
// Engine answers. It is called docker there. Tests with an engine are not -short.
func NeedEngine(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short")
	}
	docker := Need(t, "docker")
	if out, err := exec.Command(docker, "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		Missing(t, "docker", "no Docker Engine answers: %s", out)
	}
}

// FreePort returns a port that nothing listens on, at 127.0.0.1 and at ::1.
// It is given out once in this process.
func FreePort(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := strconv.Itoa(lowPort + rand.IntN(highPort-lowPort))
		if !ports.given[port] && free("127.0.0.1", port) && (!HasIPv6() || free("::1", port)) {
			ports.given[port] = true
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// ports holds those FreePort gave out. The mutex guards the map.
var ports = struct {
	sync.Mutex
	given map[string]bool
}{given: map[string]bool{}}

// HasIPv6 reports whether this machine has the address ::1.
func HasIPv6() bool { return free("::1", "0") }

func free(host, port string) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// Poll looks until until returns nil, and fails the test with its last error
// when a minute has gone by.
func Poll(t testing.TB, until func() error) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(pollEvery) {
		err := until()
		if err == nil {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("after %v: %v", patience, err)
		}
	}
}

// A Server is a running program.
type Server struct {
	Port string // the TCP port, at 127.0.0.1 and, for all but pgbouncer, at ::1
	Dir  string // its temp folder

	cmd  *exec.Cmd
	quit syscall.Signal // what ends it and what it started
	done chan struct{}  // closed once it has been waited for
	stop sync.Once
}

// Addr returns 127.0.0.1:PORT.
func (s *Server) Addr() string { return "127.0.0.1:" + s.Port }

// Log returns what the server has logged so far.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

func (s *Server) logFile() string { return filepath.Join(s.Dir, "log") }

// Signal sends a signal to the server's own process, such as SIGSTOP.
func (s *Server) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server and waits until it is gone. Stopping twice is fine.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.cmd.Process.Signal(s.quit)
		s.cmd.Process.Signal(syscall.SIGCONT)
		select {
		case <-s.done:
		case <-time.After(patience):
		}
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
	})
}

// A program is how to start a Server.
type program struct {
	path  string
	user  *syscall.Credential // nil: the user the test runs as
	quit  syscall.Signal      // zero: SIGKILL
	setup func(s *Server) []string
	ready func(s *Server) error // nil once the server answers; looked at in a loop
}

// start runs p in a temp folder of its own. setup is told the folder and the
// port and returns the arguments. Should another process take the port first,
// start tries a few others.
func start(t testing.TB, p program) *Server {
	t.Helper()
	for range 5 {
		s := &Server{Port: FreePort(t), Dir: tempDir(t, p.user), quit: p.quit, done: make(chan struct{})}
		if s.quit == 0 {
			s.quit = syscall.SIGKILL
		}
		s.cmd = exec.Command(p.path, p.setup(s)...)
		s.cmd.Dir = s.Dir
		s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC"}
		s.cmd.SysProcAttr = childAttr(p.user)
		log, err := os.Create(s.logFile())
		if err != nil {
			t.Fatal(err)
		}
		s.cmd.Stdout, s.cmd.Stderr = log, log
		err = onLastingThread(s.cmd.Start)
		log.Close()
		if err != nil {
			t.Fatalf("starting %s: %v", p.path, err)
		}
		go func() { // ends with the server, which Stop ends
			s.cmd.Wait()
			close(s.done)
		}()
		t.Cleanup(s.Stop)

		err = s.waitReady(p.ready)
		if err == nil {
			return s
		}
		s.Stop()
		logged := s.Log(t)
		if !strings.Contains(strings.ToLower(logged), "address already in use") {
			t.Fatalf("%s did not come up: %v\n%s", p.path, err, logged)
		}
	}
	t.Fatalf("%s found each of five ports taken", p.path)
	return nil
}

var errExited = errors.New("it exited")

func (s *Server) waitReady(ready func(*Server) error) error {
	for start := time.Now(); ; {
		err := ready(s)
		if err == nil {
			return nil
		}
		if time.Since(start) > patience {
			return fmt.Errorf("after %v: %w", patience, err)
		}
		select {
		case <-s.done:
			return errExited
		case <-time.After(pollEvery):
		}
	}
}

// listens is the ready of servers that answer as soon as they listen.
func listens(s *Server) error {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// logged makes a ready of a line in the server's log.
func logged(lines ...string) func(*Server) error {
	return func(s *Server) error {
		log, err := os.ReadFile(s.logFile())
		if err != nil {
			return err
		}
		for _, line := range lines {
			if bytes.Contains(log, []byte(line)) {
				return nil
			}
		}
		return fmt.Errorf("the log holds none of %q", lines)
	}
}

// onLastingThread calls f on an operating system thread that lives as long as
// the process does: a parent-death signal is sent when the thread that started
// the child ends (prctl(2), PR_SET_PDEATHSIG), not when the process does.
func onLastingThread(f func() error) error {
	startThread()
	result := make(chan error)
	toThread <- func() { result <- f() }
	return <-result
}

var toThread = make(chan func())

var startThread = sync.OnceFunc(func() {
	go func() { // ends with the process, by design
		runtime.LockOSThread()
		for f := range toThread {
			f()
		}
	}()
})

// tempDir makes a folder with a short name, as sockets' paths must be short,
// that cred (nil: only this user) owns. t.TempDir is closed to other users.
func tempDir(t testing.TB, cred *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "testbed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing a server's folder: %v", err)
		}
	})
	give(t, dir, cred)
	return dir
}

// give makes cred the owner of a file.
func give(t testing.TB, path string, cred *syscall.Credential) {
	t.Helper()
	if cred == nil {
		return
	}
	if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
		t.Fatal(err)
	}
}

// writeFile writes a file for cred's eyes only.
func writeFile(t testing.TB, path, content string, cred *syscall.Credential) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, path, cred)
}

// unprivileged returns who runs a server that refuses root: nil unless we are root.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("no user postgres or nobody to run a server that refuses root")
	return nil
}
