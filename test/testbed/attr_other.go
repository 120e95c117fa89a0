//go:build unix && !linux

package testbed

import "syscall"

// childAttr makes a server the leader of its own process group. Only Linux has
// a parent-death signal.
func childAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true}
}
