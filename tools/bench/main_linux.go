// Bench measures healthcheck beside the programs it takes the place of. tools/bench.sh builds what it needs and runs it.
//
//	bench -dir DIR [-rounds N] [-idle DURATION] [-early DURATION] [probe|init|early|scrape]...
//
// DIR holds the programs healthcheck and spawn. Runs of different programs alternate, so that a busy machine is unfair
// to none; each table says how busy it was. Minimum and median are of all runs.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	dir    = flag.String("dir", "", "folder of the programs healthcheck and spawn")
	rounds = flag.Int("rounds", 100, "runs of each program")
	idle   = flag.Duration("idle", time.Minute, "how long to watch idle inits")
	early  = flag.Duration("early", 4750*time.Microsecond, "until how long after the exec to send TERM")
)

func main() {
	flag.Parse()
	tables := []struct {
		name string
		run  func(*bed)
	}{{"probe", benchProbe}, {"init", benchInit}, {"early", benchEarly}, {"scrape", benchScrape}}
	words := flag.Args()
	for i, word := range words { // flags may stand behind words, too
		if strings.HasPrefix(word, "-") {
			flag.CommandLine.Parse(words[i:])
			words = slices.Concat(words[:i], flag.Args())
			break
		}
	}
	for _, word := range words {
		known := false
		for _, t := range tables {
			known = known || word == t.name
		}
		if !known {
			fmt.Fprintf(os.Stderr, "bench: %q is none of probe, init, early, scrape\n", word)
			os.Exit(2)
		}
	}
	failed := false
	for _, t := range tables {
		if len(words) == 0 || slices.Contains(words, t.name) {
			failed = !with(t.run) || failed
		}
	}
	if failed {
		os.Exit(1)
	}
}

// A bed is a testing.TB outside a test, for package testbed: it lives as long as one table's servers.
type bed struct {
	testing.TB // nil: what is not below is not called
	cleanups   []func()
}

// A stopped is what ends the work on a bed, or on a part of it that can be left out.
type stopped struct {
	why     string
	skipped bool
}

func (b *bed) Helper()                   {}
func (b *bed) Cleanup(f func())          { b.cleanups = append(b.cleanups, f) }
func (b *bed) Errorf(f string, a ...any) { fmt.Fprintf(os.Stderr, "bench: "+f+"\n", a...) }
func (b *bed) Fatal(a ...any)            { panic(stopped{why: fmt.Sprint(a...)}) }
func (b *bed) Fatalf(f string, a ...any) { panic(stopped{why: fmt.Sprintf(f, a...)}) }
func (b *bed) Skipf(f string, a ...any)  { panic(stopped{why: fmt.Sprintf(f, a...), skipped: true}) }

// with calls f with a bed and takes it down again. It reports whether f could do its work.
func with(f func(*bed)) (ok bool) {
	b := &bed{}
	defer func() {
		for _, cleanup := range slices.Backward(b.cleanups) {
			cleanup()
		}
	}()
	defer func() {
		if r := recover(); r != nil {
			s, expected := r.(stopped)
			if !expected {
				panic(r)
			}
			fmt.Fprintln(os.Stderr, "bench:", s.why)
			ok = s.skipped
		}
	}()
	f(b)
	return true
}

// try calls f and reports whether all that it needs is installed; what is not it names.
func (b *bed) try(f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			s, expected := r.(stopped)
			if !expected || !s.skipped {
				panic(r)
			}
			fmt.Println("left out:", s.why)
		}
	}()
	f()
	return true
}

// find returns the path of an installed program, or says that it is left out.
func find(program string) (path string, ok bool) {
	path, err := exec.LookPath(program)
	if err != nil {
		fmt.Printf("left out: %s is not installed\n", program)
	}
	return path, err == nil
}

// own is the path of a program that bench.sh built.
func own(name string) string { return filepath.Join(*dir, name) }

// A spawner is the program spawn, running.
type spawner struct {
	in  io.Writer
	out *bufio.Reader
}

func (b *bed) spawner(env ...string) *spawner {
	cmd := exec.Command(own("spawn"))
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C.UTF-8"}, env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &spawner{in, bufio.NewReader(out)}
}

// A run is what spawn saw of one.
type run struct {
	status, wall, cpu, rss, start int64 // nanoseconds, KiB
}

func (s *spawner) run(b *bed, mode string, argv ...string) (r run) {
	words := []string{mode}
	if len(argv) > 0 {
		words = append(append(words, argv[0]), argv...)
	}
	fmt.Fprintln(s.in, strings.Join(words, "\t"))
	line, err := s.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &r.status, &r.wall, &r.cpu, &r.rss, &r.start)
	}
	if err != nil {
		b.Fatalf("%s: %v", argv, err)
	}
	return r
}

// A series is one number of each run.
type series []float64

func (s series) min() float64 { return slices.Min(s) }

func (s series) max() float64 { return slices.Max(s) }

func (s series) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// target marks a number that should be at most limit.
func target(what string, got, limit float64, unit string) string {
	mark := "met"
	if got > limit {
		mark = "MISSED"
	}
	return fmt.Sprintf("%s %.3g%s, target at most %.3g%s: %s", what, got, unit, limit, unit, mark)
}

// heading begins a table. Its function ends it with the load at either end.
func heading(format string, args ...any) func() {
	fmt.Printf("\n== "+format+"\n", args...)
	began, before := time.Now(), load()
	return func() {
		fmt.Printf("   %s, %.0f s; load %s before, %s after\n", began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(began).Seconds(), before, load())
	}
}

// load is the machine's, over one minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
