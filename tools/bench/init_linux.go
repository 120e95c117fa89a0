package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"alfred/healthcheck/test/testbed"
)

const (
	maxBehindTini = 3.0 // ms to the command's first instruction
	maxResident   = 8.5 // MiB, after scrapes
	maxLater      = 9.5 // MiB, after moreScrapes more
	scrapes       = 200
	moreScrapes   = 5200 // without a pause
	ownConns      = 200  // of those, on connections of their own
	// scrapePause is between two scrapes, and in the busy row between two runs of a check: what takes 50 minutes at the default interval
	// is then done in seconds, before the runtime collects garbage by the clock, every two minutes.
	scrapePause = 20 * time.Millisecond
	repeats     = 3 // of the memory table
)

// clockSource is a command whose first act is to tell the time, and that ends on TERM if it is given an argument.
const clockSource = `
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
static void done(int sig) { _exit(0); }
int main(int argc, char **argv) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	uint64_t ns = t.tv_sec * 1000000000ull + t.tv_nsec;
	if (argc > 1) signal(SIGTERM, done);
	if (write(1, &ns, sizeof ns) != sizeof ns) return 1;
	if (argc > 1) for (;;) pause();
	return 0;
}
`

// An initProgram is a program that runs a command, and what came of it.
type initProgram struct {
	name             string
	argv             []string // the command follows
	start, stop, cpu series   // ms
	rss              series   // MiB
}

// benchInit is the second group of tables.
func benchInit(b *bed) {
	inits := []*initProgram{{name: "no init"}}
	for _, peer := range []string{"tini", "dumb-init"} {
		if path, ok := find(peer); ok {
			argv := []string{path, "--"}
			if peer == "tini" {
				argv = []string{path, "-s", "--"} // a subreaper, as healthcheck is
			}
			inits = append(inits, &initProgram{name: peer, argv: argv})
		}
	}
	inits = append(inits,
		&initProgram{name: "healthcheck", argv: []string{own("healthcheck"), "--"}},
		&initProgram{name: "healthcheck --export-prom", argv: []string{own("healthcheck"), "--export-prom", "127.0.0.1:0", "--"}})

	if compiler, ok := find("cc"); ok {
		source := own("clock.c")
		if err := os.WriteFile(source, []byte(clockSource), 0o600); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command(compiler, "-O2", "-static", "-o", own("clock"), source).CombinedOutput(); err != nil {
			b.Fatalf("cc: %v\n%s", err, out)
		}
		latency(b, inits)
	}
	memory(b)
	idling(b, inits)
}

// latency is the table of how long a command's start and end take.
func latency(b *bed, inits []*initProgram) {
	end := heading("Init: from before the fork to the command's first instruction, and from TERM to the end, %d rounds", *rounds)
	s := b.spawner()
	check := func(p *initProgram, r run) {
		if r.status != 0 || r.start == 0 {
			b.Fatalf("%s: status %d, start %d", p.name, r.status, r.start)
		}
	}
	for range *rounds {
		for _, p := range inits {
			r := s.run(b, "clock", append(slices.Clone(p.argv), own("clock"))...)
			check(p, r)
			p.start = append(p.start, float64(r.start)/1e6)
			p.cpu = append(p.cpu, float64(r.cpu)/1e6)
			p.rss = append(p.rss, float64(r.rss)/1024)
		}
	}
	for range *rounds {
		for _, p := range inits {
			r := s.run(b, "term", append(slices.Clone(p.argv), own("clock"), "wait")...)
			check(p, r)
			p.stop = append(p.stop, float64(r.wall)/1e6)
		}
	}
	fmt.Printf("%-28s %16s %17s %17s %9s\n", "", "start ms", "TERM to end ms", "CPU of a run ms", "peak MiB")
	fmt.Printf("%-28s %8s %7s  %8s %7s  %8s %7s %9s\n", "", "min", "median", "min", "median", "min", "median", "median")
	var targets []string
	tini := inits[0]
	for _, p := range inits {
		fmt.Printf("%-28s %8.2f %7.2f  %8.2f %7.2f  %8.2f %7.2f %9.1f\n", p.name, p.start.min(), p.start.median(),
			p.stop.min(), p.stop.median(), p.cpu.min(), p.cpu.median(), p.rss.median())
		switch {
		case p.name == "tini":
			tini = p
		case tini.name == "tini" && strings.HasPrefix(p.name, "healthcheck"):
			targets = append(targets, target(p.name+": median start behind tini", p.start.median()-tini.start.median(), maxBehindTini, " ms"))
		}
	}
	end()
	for _, t := range targets {
		fmt.Println("  ", t)
	}
}

// An exporter is a program that serves /metrics, running.
type exporter struct {
	cmd  *exec.Cmd
	pid  int // of the program itself, where cmd is unshare
	addr string
}

// container is what makes the rest of a command line PID 1 of a PID namespace, as a container's init is: what healthcheck reads
// of /proc is then its own command and not this machine. It is empty where that is not allowed.
func container() []string {
	argv := []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if exec.Command(argv[0], append(argv[1:], "true")...).Run() != nil {
		return nil
	}
	return argv
}

// startExporter starts a program that says on stderr or stdout where it listens: the first HOST:PORT on 127.0.0.1.
func startExporter(b *bed, inside, argv []string, env ...string) *exporter {
	argv = append(slices.Clone(inside), argv...)
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	w.Close()
	e := &exporter{cmd: cmd, pid: cmd.Process.Pid}
	b.Cleanup(e.stop)
	for lines := bufio.NewScanner(r); e.addr == "" && lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), "127.0.0.1:"); ok {
			end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
			if end < 0 {
				end = len(rest)
			}
			e.addr = net.JoinHostPort("127.0.0.1", rest[:end])
		}
	}
	if e.addr == "" {
		b.Fatalf("%s does not say where it listens", argv[len(inside)])
	}
	if len(inside) > 0 {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", e.pid))
		if err == nil {
			e.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	go func() { // ends with the program
		io.Copy(io.Discard, r)
		r.Close()
	}()
	return e
}

func (e *exporter) stop() {
	if e.cmd.ProcessState == nil {
		syscall.Kill(e.pid, syscall.SIGTERM)
		e.cmd.Wait()
	}
}

// memory is the table of how much is resident after scrapes.
func memory(b *bed) {
	const password = "bench-password-9"
	type row struct {
		name              string
		argv              []string
		limited           bool
		before, rss, anon series // MiB
		later             series // MiB, after moreScrapes more
		threads, cpu      series // CPU in µs a scrape
	}
	wrapper := func(args ...string) []string {
		return slices.Concat([]string{own("healthcheck"), "--export-prom", "127.0.0.1:0"}, args, []string{"--", "sleep", "1000"})
	}
	rows := []*row{{name: "healthcheck, no checks", argv: wrapper(), limited: true}}
	b.try(func() {
		ca := testbed.NewCA(b)
		const body = `location / { default_type application/json; return 200 '{"status":"ok","services":{"database":"ok"}}'; }`
		http := testbed.Nginx(b, body)
		https := testbed.NginxTLS(b, ca.Issue(b, testbed.Leaf{}), body)
		redis := testbed.Redis(b, "requirepass "+password)
		postgres := testbed.InitPostgres(b, ca).Start(b)
		url := "database=postgres://scram@" + postgres.Addr() + "/app?sslmode="
		rest := []string{"--tcp", "queue=" + http.Addr(), "--redis", "cache=redis://" + redis.Addr()}
		plain := append(rest, "--http", "api=http://"+http.Addr()+"/health", "--postgres", url+"disable")
		tls := append(slices.Clone(rest), "--http", "api=https://"+https.Addr()+"/health", "--postgres", url+"require", "--tls-ca", ca.File)
		rows = append(rows,
			&row{name: "healthcheck, 4 checks", limited: true, argv: wrapper(plain...)},
			&row{name: "healthcheck, 4 checks, TLS", limited: true, argv: wrapper(tls...)},
			&row{name: "healthcheck, 4 checks, busy", argv: wrapper(append(plain, "--interval", scrapePause.String())...)})
	})
	if program, ok := buildExporter(b); ok {
		rows = append(rows, &row{name: "client_golang exporter", argv: []string{program, "127.0.0.1:0"}})
	}

	inside, where := container(), "as PID 1"
	if inside == nil {
		where = "not as PID 1"
	}
	end := heading("Init: resident memory after %d scrapes, one every %v, on one connection; in busy each check runs as often; %s", scrapes, scrapePause, where)
	for range repeats {
		for _, r := range rows {
			e := startExporter(b, inside, r.argv, "REDISCLI_AUTH="+password, "PGPASSWORD="+testbed.Password)
			pid := e.pid
			time.Sleep(200 * time.Millisecond)
			r.before = append(r.before, status(b, pid, "VmRSS")/1024)
			var cpu float64
			client := &http.Client{Transport: &http.Transport{}}
			for range scrapes {
				time.Sleep(scrapePause)
				before := cpuOf(b, pid)
				scrape(b, client, e.addr)
				cpu += cpuOf(b, pid) - before
			}
			r.rss = append(r.rss, status(b, pid, "VmRSS")/1024)
			r.anon = append(r.anon, status(b, pid, "RssAnon")/1024)
			r.threads = append(r.threads, status(b, pid, "Threads"))
			r.cpu = append(r.cpu, cpu/scrapes/1000)
			for i := range moreScrapes {
				if i%(moreScrapes/ownConns) == 0 { // a connection of its own
					client.CloseIdleConnections()
				}
				scrape(b, client, e.addr)
			}
			r.later = append(r.later, status(b, pid, "VmRSS")/1024)
			client.CloseIdleConnections()
			e.stop()
		}
	}
	fmt.Printf("%-28s %9s %17s %9s %9s %9s %8s %15s\n", "", "before", "after, MiB", "", fmt.Sprint("after ", scrapes+moreScrapes), "anonymous", "", "CPU with checks")
	fmt.Printf("%-28s %9s %9s %7s %9s %10s %9s %8s %15s\n", "", "median", "min", "median", "max", "median", "median", "threads", "µs a scrape")
	var targets []string
	for _, r := range rows {
		fmt.Printf("%-28s %9.1f %9.1f %7.1f %9.1f %10.1f %9.1f %8.0f %15.0f\n", r.name, r.before.median(), r.rss.min(), r.rss.median(), r.rss.max(), r.later.median(), r.anon.median(), r.threads.median(), r.cpu.median())
		if r.limited {
			targets = append(targets, target(r.name+": median resident", r.rss.median(), maxResident, " MiB"),
				target(fmt.Sprintf("%s: after %d scrapes", r.name, scrapes+moreScrapes), r.later.median(), maxLater, " MiB"))
		}
	}
	end()
	for _, t := range targets {
		fmt.Println("  ", t)
	}
}

// scrape is one of Prometheus 3's.
func scrape(b *bed, client *http.Client, addr string) {
	req, err := http.NewRequest("GET", "http://"+addr+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"+
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	req.Header.Set("User-Agent", "Prometheus/3.5.0")
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 || resp.StatusCode != http.StatusOK {
		b.Fatalf("scrape: status %d, %d bytes, %v", resp.StatusCode, n, err)
	}
}

// status is a number of /proc/PID/status, of memory in KiB.
func status(b *bed, pid int, key string) float64 {
	return statusIn(b, fmt.Sprintf("/proc/%d/status", pid), key)
}

func statusIn(b *bed, file, key string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("%s: no %s", file, key)
	return 0
}

// cpuOf is the CPU that a process's threads have used, in ns.
func cpuOf(b *bed, pid int) (sum float64) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, task := range tasks {
		if text, err := os.ReadFile(task); err == nil {
			n, _ := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
			sum += n
		}
	}
	return sum
}

// wakeups is how often a process's threads have gone to sleep of their own will.
func wakeups(b *bed, pid int) (sum float64) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, task := range tasks {
		sum += statusIn(b, task, "voluntary_ctxt_switches")
	}
	return sum
}

// idling is the table of what inits do while there is nothing to do.
func idling(b *bed, inits []*initProgram) {
	end := heading("Init: idle for %v, no checks, no scrapes; all at the same time", *idle)
	type watched struct {
		p            *initProgram
		pid          int
		cpu, wakeups float64
	}
	var all []*watched
	for _, p := range inits {
		if p.argv == nil {
			continue
		}
		cmd := exec.Command(p.argv[0], append(slices.Clone(p.argv[1:]), "sleep", "100000")...)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		})
		all = append(all, &watched{p: p, pid: cmd.Process.Pid})
	}
	time.Sleep(3 * time.Second) // until all that starts has started
	for _, w := range all {
		w.cpu, w.wakeups = cpuOf(b, w.pid), wakeups(b, w.pid)
	}
	time.Sleep(*idle)
	fmt.Printf("%-28s %9s %9s %8s %13s\n", "", "CPU ms", "wake-ups", "threads", "resident MiB")
	var targets []string
	for _, w := range all {
		cpu, woken := (cpuOf(b, w.pid)-w.cpu)/1e6, wakeups(b, w.pid)-w.wakeups
		fmt.Printf("%-28s %9.3f %9.0f %8.0f %13.1f\n", w.p.name, cpu, woken, status(b, w.pid, "Threads"), status(b, w.pid, "VmRSS")/1024)
		if strings.HasPrefix(w.p.name, "healthcheck") {
			targets = append(targets, target(w.p.name+": wake-ups", woken, 0, ""))
		}
	}
	fmt.Println("   two a minute are the Go runtime's own: its monitor looks once a minute whether a garbage collection is due")
	end()
	for _, t := range targets {
		fmt.Println("  ", t)
	}
}
