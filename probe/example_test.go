package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"alfred/healthcheck/probe"
)

// The options that all examples share.
var options = probe.Options{Timeout: 5 * time.Second, UserAgent: "example"}

// serve is a service whose /health answers with a document.
func serve(document string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, document)
	}))
}

// check parses one check of kind for value.
func check(kind, value string) *probe.Check {
	checks, err := probe.Parse([]probe.Spec{{Type: kind, Value: value, Source: "--" + kind}}, options)
	if err != nil {
		panic(err)
	}
	return checks[0]
}

func ExampleCheck() {
	service := serve(`{"status":"ok","services":{"database":"ok"}}`)
	defer service.Close()
	result := check("http", service.URL).Run(context.Background())
	fmt.Println(result.Status, result.HTTPStatus)
	fmt.Println(result.Seen())
	// Output:
	// ok 200
	// 200 OK, status "ok", database ok
}

func ExampleResult() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	l.Close() // now nothing listens there
	result := check("redis", "redis://:secret@"+l.Addr().String()).Run(context.Background())
	fmt.Println(result.Status)
	fmt.Println(result.Phase)
	fmt.Println(result.Message)
	// Output:
	// error
	// connect
	// connection refused
}

func ExampleDependency() {
	service := serve(`{"status":"degraded","components":{"db":{"status":"UP"},"mail":{"status":"DOWN"}}}`)
	defer service.Close()
	result := check("http", service.URL).Run(context.Background())
	for _, d := range result.Dependencies {
		fmt.Println(d.Name, d.Status)
	}
	// Output:
	// db ok
	// mail error
}

func ExampleParse() {
	o := options
	o.LookupEnv = func(name string) (string, bool) { return "p@ss/word", name == "PASSWORD" }
	checks, err := probe.Parse([]probe.Spec{
		{Type: "redis", Value: "cache=redis://:${PASSWORD}@cache/1", Source: "--redis"},
		{Type: "tcp", Value: "broker:5672", Source: "--tcp"},
		{Type: "tcp", Value: "[::1]:25", Source: "--tcp"},
	}, o)
	if err != nil {
		panic(err)
	}
	for _, c := range checks {
		fmt.Println(c.Name, c.Type, c.Target)
	}
	// Output:
	// cache redis redis://cache:6379/1
	// tcp tcp broker:5672
	// tcp-2 tcp [::1]:25
}

func ExampleUsageError() {
	_, err := probe.Parse([]probe.Spec{{Type: "http", Value: "localhost:8080/health", Source: "--http"}}, options)
	var u *probe.UsageError
	if errors.As(err, &u) {
		fmt.Println(u.What)
		fmt.Println(u.Hint)
	}
	// Output:
	// --http: a URL begins with http:// or https://
	// write http://localhost:8080/health
}

func ExampleLines() {
	database := check("postgres", "database=postgres://app:secret@db/shop")
	cache := check("redis", "redis://cache")
	fmt.Print(probe.Lines([]probe.Result{
		{Check: database, Status: probe.OK, Message: "PostgreSQL 15.18, SELECT 1 answered", Duration: 4200 * time.Microsecond},
		{Check: cache, Status: probe.Failed, Phase: probe.PhaseAuth, Message: "NOAUTH Authentication required.", Duration: 900 * time.Microsecond},
	}, false, probe.MaxOutput))
	// Output:
	// ok    database  postgres://app@db/shop  PostgreSQL 15.18, SELECT 1 answered    4.2ms
	// FAIL  redis     redis://cache:6379      auth: NOAUTH Authentication required.  0.9ms
}

func ExampleJSON() {
	fmt.Print(probe.JSON([]probe.Result{{Check: check("tcp", "db:5432"), Status: probe.OK, Message: "connected", Duration: time.Millisecond}}, probe.MaxOutput))
	// Output:
	// {"status":"ok","checks":[{"name":"tcp","type":"tcp","target":"db:5432","status":"ok","message":"connected","duration_seconds":0.001}]}
}

func ExampleVerdict() {
	fmt.Println(probe.Verdict([]probe.Result{{Status: probe.OK}, {Status: probe.Degraded}}))
	// Output:
	// degraded
}

func ExampleWait() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	c := check("tcp", "broker="+l.Addr().String())
	results := probe.Wait(context.Background(), []*probe.Check{c}, probe.Limits{All: time.Minute}, func(r probe.Result) {
		fmt.Println("waiting for", r.Check.Name)
	})
	fmt.Println(results[0].Seen())
	// Output:
	// connected
}

func ExampleMonitor() {
	service := serve(`{"status":"down"}`)
	defer service.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := probe.NewMonitor([]*probe.Check{check("http", service.URL)}, probe.MonitorOptions{Interval: time.Hour, Changed: func(s probe.State) {
		fmt.Println("changed:", s.Check.Name, s.Status)
		cancel()
	}})
	m.Run(ctx)
	for _, s := range m.States(nil) {
		fmt.Println(s.Passed(), s.Failures, s.Last.Seen())
	}
	// Output:
	// changed: http error
	// false 1 reply: 200 OK, status "down"
}

func ExampleReports() {
	reports, err := probe.ListenReports() // nil unless this process is process 1 of its PID namespace
	for _, r := range reports.List() {
		fmt.Println(r.Check, r.Target, r.Status)
	}
	fmt.Println(err)
	// Output: <nil>
}
