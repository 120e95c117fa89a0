package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

const (
	exporterModule = "tools/bench/exporter" // a module of its own, for client_golang
	minFaster      = 5.0
	scrapeRuns     = 6
)

// buildExporter builds the client_golang exporter. That needs its modules; without them it is left out.
func buildExporter(b *bed) (path string, ok bool) {
	path = own("exporter")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Dir = exporterModule
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Printf("left out: the client_golang exporter does not build: %v\n%s", err, out)
		return "", false
	}
	return path, true
}

// A result is a Go benchmark's: of each unit, the numbers of all runs.
type result struct {
	name  string
	units map[string]series
}

// goBench runs a package's benchmarks.
func goBench(b *bed, dir, pkg string) (results []*result) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-count", strconv.Itoa(scrapeRuns), "-benchtime", "300ms", pkg)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		fmt.Printf("left out: %s %s: %v\n%s", dir, pkg, err, out)
		return nil
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(words[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of CPUs
			name = name[:i]
		}
		i := slices.IndexFunc(results, func(r *result) bool { return r.name == name })
		if i < 0 {
			i = len(results)
			results = append(results, &result{name, map[string]series{}})
		}
		for at := 2; at+1 < len(words); at += 2 {
			n, err := strconv.ParseFloat(words[at], 64)
			if err != nil {
				b.Fatalf("go test -bench: %q", line)
			}
			results[i].units[words[at+1]] = append(results[i].units[words[at+1]], n)
		}
	}
	return results
}

// benchScrape is the third table.
func benchScrape(b *bed) {
	end := heading("Scrape: the same series through an http.Handler, and the writer alone, %d runs", scrapeRuns)
	results := slices.Concat(goBench(b, exporterModule, "."), goBench(b, ".", "./promtext"))
	fmt.Printf("%-28s %9s %9s %9s %9s\n", "", "ns min", "median", "B", "allocs")
	var targets []string
	var ours float64
	for _, r := range results {
		ns, allocs := r.units["ns/op"], r.units["allocs/op"]
		if ns == nil || allocs == nil {
			b.Fatalf("%s: no time or no allocations", r.name)
		}
		fmt.Printf("%-28s %9.0f %9.0f %9.0f %9.0f\n", r.name, ns.min(), ns.median(), r.units["B/op"].median(), allocs.median())
		switch {
		case r.name == "Scrape/promtext":
			ours = ns.median()
		case r.name == "Scrape/client_golang" && ours > 0:
			targets = append(targets, target("a scrape's median time / client_golang's", ours/ns.median(), 1/minFaster, ""),
				fmt.Sprintf("that is %.1f times as fast", ns.median()/ours))
		case strings.HasPrefix(r.name, "Writer/"):
			targets = append(targets, target(r.name+": allocations", allocs.max(), 0, ""))
		}
	}
	end()
	for _, t := range targets {
		fmt.Println("  ", t)
	}
}
