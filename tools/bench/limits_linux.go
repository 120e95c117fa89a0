package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	limitRuns = 10    // runs that must all succeed at a limit
	limitMost = 100   // the largest limit tried
	limitUser = 54321 // a user without other processes, since RLIMIT_NPROC counts all of a user's
)

// benchLimits finds the least RLIMIT_NPROC and RLIMIT_NOFILE (getrlimit(2)) with which each program
// succeeds, and measures its peak resident memory. It needs root to run the programs as a separate
// user.
func benchLimits(b *bed) {
	if os.Getuid() != 0 {
		b.Skipf("left out: limits needs root")
	}
	prlimit, ok := find("prlimit")
	if !ok {
		return
	}
	if err := os.Chmod(*dir, 0o755); err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	healthcheck := own("healthcheck")
	programs := [][]string{
		{healthcheck, "--tcp", listener.Addr().String()},
		{healthcheck, "--", "/bin/true"},
		{healthcheck, "--export-prom", "127.0.0.1:0", "--", "/bin/true"},
	}
	if tini, ok := find("tini"); ok {
		programs = append(programs, []string{tini, "-s", "--", "/bin/true"})
	}

	spawn := b.spawner()
	end := heading("limits: the least with which %d of %d runs succeed", limitRuns, limitRuns)
	defer end()
	fmt.Printf("%-42s %10s %12s %9s\n", "", "processes", "descriptors", "peak MiB")
	for _, argv := range programs {
		name := filepath.Base(argv[0])
		for _, word := range argv[1:] {
			if word == listener.Addr().String() {
				word = "HOST:PORT"
			}
			name += " " + word
		}
		fmt.Printf("%-42s %10s %12s %9.1f\n", name, least(prlimit, "--nproc=", argv), least(prlimit, "--nofile=", argv), float64(spawn.run(b, "run", argv...).rss)/1024)
	}
}

// least returns the smallest limit at which every run succeeds.
func least(prlimit, option string, argv []string) string {
	for limit := 1; limit <= limitMost; limit++ {
		failed := false
		for range limitRuns {
			cmd := asUser(append([]string{prlimit, option + strconv.Itoa(limit)}, argv...))
			if failed = cmd.Run() != nil; failed {
				break
			}
		}
		if !failed {
			return strconv.Itoa(limit)
		}
	}
	return "over " + strconv.Itoa(limitMost)
}

func asUser(argv []string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: limitUser, Gid: limitUser}}
	return cmd
}
