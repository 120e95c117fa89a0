package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"alfred/healthcheck/test/testbed"
)

// A prober is a program that probes, and what came of it.
type prober struct {
	name          string
	argv          []string
	ours          string  // the name of our probe that it is beside; empty for ours
	limit         float64 // ours is to take at most so much of its CPU; 0: no target
	cpu, wall     series  // ms
	rss           series  // MiB
	status, other int64   // an exit status that is not 0, and how many
}

const maxPeak = 12.0 // MiB, of any probe of ours

// benchProbe is the first table: a probe, whole process, beside Debian's own clients.
func benchProbe(b *bed) {
	const password = "bench-password-9"
	var probers []*prober
	ours := func(name string, args ...string) {
		probers = append(probers, &prober{name: "healthcheck " + name, argv: append([]string{own("healthcheck")}, args...)})
	}
	peer := func(ours string, limit float64, program string, args ...string) {
		if path, ok := find(program); ok {
			name := program[strings.LastIndexByte(program, '/')+1:]
			probers = append(probers, &prober{name: name, argv: append([]string{path}, args...), ours: "healthcheck " + ours, limit: limit})
		}
	}
	ca := testbed.NewCA(b)
	b.try(func() {
		const body = `location / { default_type application/json; return 200 '{"status":"ok","services":{"database":"ok"}}'; }`
		plain := testbed.Nginx(b, body)
		url := "http://" + plain.Addr() + "/health"
		ours("--http", "--http", url)
		peer("--http", 0.6, "curl", "-fsS", "-o", "/dev/null", url)
		peer("--http", 0, "wget", "-q", "-O", "/dev/null", url)
		secure := testbed.NginxTLS(b, ca.Issue(b, testbed.Leaf{}), body)
		url = "https://" + secure.Addr() + "/health"
		ours("--http, TLS", "--http", url, "--tls-ca", ca.File)
		peer("--http, TLS", 0, "curl", "-fsS", "--cacert", ca.File, "-o", "/dev/null", url)
		ours("--tcp", "--tcp", plain.Addr())
	})
	b.try(func() {
		redis := testbed.Redis(b, "requirepass "+password)
		ours("--redis", "--redis", "redis://"+redis.Addr())
		peer("--redis", 0.8, "redis-cli", "-h", "127.0.0.1", "-p", redis.Port, "PING")
	})
	b.try(func() {
		cluster := testbed.InitPostgres(b, ca)
		for _, c := range []struct{ name, server, mode string }{{"--postgres", "ssl=off", "disable"}, {"--postgres, TLS", "ssl=on", "require"}} {
			server := cluster.Start(b, c.server)
			url := "postgres://scram@" + server.Addr() + "/app?sslmode=" + c.mode
			ours(c.name, "--postgres", url)
			limit := 0.8
			if c.mode != "disable" {
				limit = 0
			}
			peer(c.name, limit, postgresOwn(b, "psql"), "-XAtqc", "SELECT 1", url)
			if c.mode == "disable" {
				peer(c.name, 0, postgresOwn(b, "pg_isready"), "-q", "-d", url)
			}
		}
	})

	end := heading("Probe: whole process, %d rounds, one run of each program a round; Redis with AUTH, PostgreSQL with SCRAM and SELECT 1", *rounds)
	s := b.spawner("REDISCLI_AUTH="+password, "PGPASSWORD="+testbed.Password)
	for range *rounds {
		for _, p := range probers {
			r := s.run(b, "run", p.argv...)
			p.cpu = append(p.cpu, float64(r.cpu)/1e6)
			p.wall = append(p.wall, float64(r.wall)/1e6)
			p.rss = append(p.rss, float64(r.rss)/1024)
			if r.status != 0 {
				p.status = r.status
				p.other++
			}
		}
	}
	floor := s.run(b, "peak")

	fmt.Printf("%-28s %15s %17s %15s   %s\n", "", "CPU ms", "wall ms", "peak MiB", "CPU, ours / its")
	fmt.Printf("%-28s %7s %7s  %8s %8s %7s %7s   %7s %7s\n", "", "min", "median", "min", "median", "median", "max", "min", "median")
	var targets []string
	byName := map[string]*prober{}
	for _, p := range probers {
		byName[p.name] = p
		name, ratio := p.name, ""
		if o := byName[p.ours]; o != nil {
			name = "  " + name
			ratio = fmt.Sprintf("   %7.2f %7.2f", o.cpu.min()/p.cpu.min(), o.cpu.median()/p.cpu.median())
			if p.limit > 0 {
				targets = append(targets, target(fmt.Sprintf("%s: median CPU / %s's", o.name, p.name), o.cpu.median()/p.cpu.median(), p.limit, ""))
			}
		} else {
			targets = append(targets, target(p.name+": peak", p.rss.max(), maxPeak, " MiB"))
		}
		fmt.Printf("%-28s %7.2f %7.2f  %8.2f %8.2f %7.1f %7.1f%s\n", name, p.cpu.min(), p.cpu.median(), p.wall.min(), p.wall.median(), p.rss.median(), p.rss.max(), ratio)
	}
	fmt.Printf("   peaks below %.1f MiB, spawn's own, would not show; psql and pg_isready are PostgreSQL's own, without Debian's wrapper\n", float64(floor.rss)/1024)
	end()
	for _, t := range targets {
		fmt.Println("  ", t)
	}
	for _, p := range probers {
		if p.other > 0 {
			b.Fatalf("%s ended with status %d, %d times", strings.Join(p.argv, " "), p.status, p.other)
		}
	}
}

// postgresOwn returns a client program of PostgreSQL itself: Debian's in PATH are a script in Perl, which would be unfair.
func postgresOwn(b *bed, program string) string {
	server, err := filepath.EvalSymlinks(testbed.Need(b, "postgres"))
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(filepath.Dir(server), program)
}
