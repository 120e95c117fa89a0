package testbed

import "syscall"

// childAttr makes a server the leader of its own process group, and has the
// kernel kill it when the test process dies without having stopped it.
func childAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
