package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// maxSenders is how many senders that have not sent their message yet may be connected.
	maxSenders = 16

	// relayTimeout is how long a sender may take. A probe sends at once, but a container that has used up its CPU quota
	// can pause it for some periods of 100 ms.
	relayTimeout = time.Second

	relayPause = 100 * time.Millisecond // after an accept that failed, for want of descriptors or memory
)

// RelayReports sends the results of a probe to the wrapper if that is process 1 of the probe's own PID namespace. It never
// blocks. Its errors are dropped, since the verdict does not depend on them.
func RelayReports(results []Result) {
	if name, err := relayName(); err == nil && os.Getpid() != 1 {
		relay(name, encodeReports(reportsOf(results)), 1)
	}
}

// relayName is the name of the socket, with @ for the NUL of an abstract name.
func relayName() (string, error) {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	return "@healthcheck/" + namespace, err
}

// relay sends one message to the process that listens under name, if that is the process receiver.
func relay(name string, message []byte, receiver int32) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: name}); err != nil { // EAGAIN if the backlog is full
		return err
	}
	peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return err
	}
	if peer.Pid != receiver {
		return fmt.Errorf("process %d listens, want process %d", peer.Pid, receiver)
	}
	_, err = syscall.SendmsgN(fd, message, nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	return err
}

// ListenReports starts to receive what the probes of this PID namespace relay. It returns an error if another process listens
// under the same name. If this process is not process 1 of its namespace, no probe would send, and it returns nil.
func ListenReports() (*Reports, error) {
	if os.Getpid() != 1 {
		return nil, nil
	}
	name, err := relayName()
	if err != nil {
		return nil, err
	}
	reports, _, err := listenReports(name)
	return reports, err
}

func listenReports(name string) (*Reports, *net.UnixListener, error) {
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		return nil, nil, err
	}
	reports := new(Reports)
	go reports.accept(listener) // ends when the listener is closed, in the wrapper with the process
	return reports, listener, nil
}

// accept receives the messages of all senders. A message that is there is read at once. A sender that has sent nothing yet may
// wait in one of a ring of places, until it is the oldest and the place is needed.
func (r *Reports) accept(listener *net.UnixListener) {
	var waiting [maxSenders]*net.UnixConn
	next := 0
	buf := make([]byte, maxRelay+1) // a longer message is cut to this length, which is too long
	for {
		conn, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(relayPause)
			continue
		}
		n, err := readNow(conn, buf)
		if err == nil {
			r.receive(buf[:n], time.Now())
		}
		if err != syscall.EAGAIN {
			conn.Close()
			continue
		}
		if old := waiting[next]; old != nil {
			old.Close()
		}
		waiting[next] = conn
		next = (next + 1) % maxSenders
		go r.await(conn) // ends when the sender sends or hangs up, when the place is needed, or at the deadline
	}
}

// readNow reads a message from a process of this PID namespace. It returns EAGAIN if there is none yet.
func readNow(conn *net.UnixConn, buf []byte) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) {
		var peer *syscall.Ucred
		if peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err != nil {
			return
		}
		if peer.Pid == 0 {
			err = syscall.EPERM
			return
		}
		n, err = syscall.Read(int(fd), buf) // the descriptor does not block
	})
	if failed != nil {
		return 0, failed
	}
	return n, err
}

// await receives the message of one sender.
func (r *Reports) await(conn *net.UnixConn) {
	defer conn.Close()
	buf := make([]byte, maxRelay+1)
	conn.SetReadDeadline(time.Now().Add(relayTimeout))
	if n, err := conn.Read(buf); err == nil {
		r.receive(buf[:n], time.Now())
	}
}
