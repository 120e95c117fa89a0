package probe

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// receiver listens under a name of the test's own.
func receiver(t testing.TB) (name string, reports *Reports) {
	t.Helper()
	name = fmt.Sprintf("@healthcheck-test/%d/%s", os.Getpid(), t.Name())
	reports, listener, err := listenReports(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return name, reports
}

// self is this process, which is the receiver here.
var self = int32(os.Getpid())

// oneReport is a message with one result of the check.
func oneReport(check string) []byte {
	return encodeReports([]Report{{Check: check, Type: "tcp", Target: "a:1", Status: OK, Duration: time.Millisecond}})
}

// waitReport waits until the check has been reported.
func waitReport(t testing.TB, reports *Reports, check string) {
	t.Helper()
	testbed.Poll(t, func() error {
		for _, r := range reports.List() {
			if r.Check == check {
				return nil
			}
		}
		return fmt.Errorf("%s is not among %v", check, reports.List())
	})
}

// TestRelay: a message arrives though its sender has gone. Malformed ones before it, and silent senders, do no harm.
func TestRelay(t *testing.T) {
	name, reports := receiver(t)
	if _, _, err := listenReports(name); err == nil {
		t.Error("the name can be bound twice")
	}
	for _, b := range [][]byte{{}, {0}, {relayVersion}, make([]byte, maxRelay+1), make([]byte, 64<<10), append(oneReport("bad"), 0)} {
		if err := relay(name, b, self); err != nil {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	next := oneReport("next")
	next[0]++
	if err := relay(name, next, self); err != nil {
		t.Error(err)
	}
	if err := relay(name, oneReport("good"), self); err != nil {
		t.Error(err)
	}
	waitReport(t, reports, "good")
	if n := len(reports.List()); n != 1 {
		t.Errorf("%d reports, want one: %v", n, reports.List())
	}
	if err := relay(name+"nobody", oneReport("good"), self); err == nil {
		t.Error("a message was sent to nobody")
	}
}

// TestRelayToAnother: nothing is sent to a process other than the one wanted.
func TestRelayToAnother(t *testing.T) {
	name := "@healthcheck-test/" + t.Name()
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := relay(name, oneReport("api"), self+1); err == nil {
		t.Error("the message was sent to another process")
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("it received %d bytes, %v", n, err)
	}
}

// TestRelayFlood: senders that keep silent are bounded, and neither they nor a burst cost a report.
func TestRelayFlood(t *testing.T) {
	name, reports := receiver(t)
	_, files := resources(t)
	const silent = 200
	for range silent {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if err := relay(name, oneReport("after"), self); err != nil {
		t.Fatal(err)
	}
	waitReport(t, reports, "after")
	if _, f := resources(t); f > files+silent+maxSenders+1 {
		t.Errorf("%d descriptors with %d silent senders, were %d", f, silent, files)
	}
	late, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	testbed.Poll(t, func() error { // a sender that is late is received, too, until its deadline
		if _, err := late.Write(oneReport("late")); err != nil {
			late.Close()
			if late, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"}); err != nil {
				return err
			}
		}
		for _, r := range reports.List() {
			if r.Check == "late" {
				return nil
			}
		}
		return fmt.Errorf("%v", reports.List())
	})
}

// TestRelayBurst: of messages that wait all at once, as after a wrapper that was stopped, none is lost.
func TestRelayBurst(t *testing.T) {
	name := "@healthcheck-test/" + t.Name()
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for i := range 1000 {
		if err := relay(name, oneReport(fmt.Sprintf("c%d", i%maxReports)), self); err != nil {
			t.Fatal(i, err)
		}
	}
	reports := new(Reports)
	go reports.accept(listener) // ends when the listener is closed
	for i := range maxReports {
		waitReport(t, reports, fmt.Sprintf("c%d", i))
	}
}

// TestRelayFullBacklog: a receiver that does not accept, since it was stopped, never blocks a probe.
func TestRelayFullBacklog(t *testing.T) {
	name := "@healthcheck-test/" + t.Name()
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for range 1 << 16 { // more than any backlog
		if err = relay(name, oneReport("api"), self); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("the backlog has no end")
	}
}

// BenchmarkRelay is what a probe takes longer if a wrapper listens.
func BenchmarkRelay(b *testing.B) {
	name, _ := receiver(b)
	message := oneReport("api")
	for b.Loop() {
		if _, err := relayName(); err != nil {
			b.Fatal(err)
		}
		if err := relay(name, message, self); err != nil && err.Error() != "resource temporarily unavailable" {
			b.Fatal(err)
		}
	}
}
