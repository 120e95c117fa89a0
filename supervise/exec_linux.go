package supervise

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// defaultPath stands in for an unset PATH, as musl's execvp has it.
const defaultPath = "/usr/local/bin:/bin:/usr/bin"

// exec starts the command as execvp(3) would execute it, and returns its process ID or a *StartError.
func (p *Process) exec() (pid int, err error) {
	args := p.command.Args
	if len(args) == 0 || args[0] == "" {
		return 0, &StartError{127, `""`, "the command is empty", syscall.ENOENT}
	}
	attr := &syscall.ProcAttr{
		Env:   syscall.Environ(),
		Files: []uintptr{0, 1, 2},
		// If the program's group is the terminal's foreground group, the child puts its own group
		// there before the exec. The command is then never stopped for reading the terminal. The
		// child blocks all signals meanwhile, including TTOU.
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: p.terminal.front, Ctty: p.terminal.fd},
	}
	if os.Getpid() != 1 { // with PID 1 the kernel ends its whole namespace
		attr.Sys.Pdeathsig = syscall.SIGTERM
	}

	name := args[0]
	path, inPath := os.LookupEnv("PATH")
	if !inPath {
		path = defaultPath
	}
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = strings.Split(path, ":")
		for i, dir := range candidates {
			candidates[i] = cmp.Or(dir, ".") + "/" + name
		}
	}

	// As in execvp, one that may not be executed does not end the search, but is the answer if no other is found.
	failed, failure := "", syscall.ENOENT
	for _, file := range candidates {
		pid, err = start(file, args, attr)
		switch err {
		case nil:
			return pid, nil
		case syscall.ENOENT, syscall.ENOTDIR:
			if _, err := os.Stat(file); err == nil && failed == "" {
				failed = file // there, so it is its interpreter that is not
			}
			continue
		case syscall.EACCES:
			if failure != syscall.EACCES {
				failed, failure = file, syscall.EACCES
			}
			continue
		}
		failed, failure = file, err.(syscall.Errno)
		break
	}
	e := &StartError{Status: 126, Command: ProgramName(name), Reason: failure.Error(), Err: failure}
	switch {
	case failed == "" && strings.Contains(name, "/"):
		e.Status, e.Reason = 127, "not found"+hint(name)
	case failed == "":
		quoted := strconv.Quote(path)
		e.Status, e.Reason = 127, "not found in PATH ("+quoted[1:len(quoted)-1]+")"+hint(name)
	default:
		if _, err := os.Stat(failed); err == nil && failed != name {
			e.Command += " (" + ProgramName(failed) + ")"
		}
		if failure == syscall.ENOENT {
			e.Status = 127
		}
		if reason := explain(failed, failure); reason != "" {
			e.Reason = reason
		} else {
			e.Reason += hint(name)
		}
	}
	return 0, e
}

// hint returns a hint to append to the reason if the name holds arguments or a variable by mistake.
func hint(name string) string {
	fields := strings.Fields(name)
	switch {
	case len(fields) > 0 && strings.Contains(fields[0], "="):
		return "; a variable goes behind env, as in: -- env NAME=value PROGRAM"
	case len(fields) != 1 || fields[0] != name:
		return "; program and arguments are separate words, as in: -- PROGRAM ARGUMENT"
	}
	return ""
}

// start starts a file, through /bin/sh if it is a script without a #! line. err is a syscall.Errno.
func start(file string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	// A look before the fork: most candidates do not exist.
	if err = syscall.Access(file, 1 /* X_OK */); err != nil {
		return 0, err
	}
	pid, err = syscall.ForkExec(file, args, attr)
	if err == syscall.ENOEXEC && isScript(head(file)) {
		pid, err = syscall.ForkExec("/bin/sh", append([]string{"/bin/sh", file}, args[1:]...), attr)
		if err == syscall.ENOENT {
			err = syscall.ENOEXEC // the file is there; explain says what is not
		}
	}
	return pid, err
}

// headSize is enough for a #! line (BINPRM_BUF_SIZE, execve(2)) and for the program headers of an ELF file.
const headSize = 4096

func head(file string) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, headSize)
	n, _ := f.Read(b)
	return b[:n]
}

const elfMagic = "\x7fELF"

// isScript reports whether a file the kernel does not know is one for the shell. execvp takes any file for one;
// a foreign program fed to the shell would be an odd syntax error, so as in bash there must be no NUL in the first line.
func isScript(head []byte) bool {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return !bytes.HasPrefix(head, []byte(elfMagic)) && bytes.IndexByte(line, 0) < 0
}

// explain puts into words why a file that exists could not be executed, or returns "" where the error says it all.
func explain(file string, failure syscall.Errno) string {
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	b := head(file)
	switch failure {
	case syscall.EACCES:
		switch {
		case info.IsDir():
			return "is a directory"
		case info.Mode()&0o111 == 0:
			return fmt.Sprintf("permission denied: the file is not executable (mode %04o)", info.Mode().Perm())
		case mountedNoexec(file):
			return "permission denied: its file system is mounted noexec"
		case interpreter(b) != "":
			return fmt.Sprintf("permission denied: the file or its interpreter %q may not be executed", interpreter(b))
		}
	case syscall.ENOENT:
		if i := interpreter(b); i != "" {
			return fmt.Sprintf("its interpreter %q was not found", i)
		}
		if i := loader(b); i != "" {
			return fmt.Sprintf("its loader %q was not found: it is a dynamic program built for another C library than this image has", i)
		}
	case syscall.ENOEXEC:
		if isScript(b) {
			return "exec format error: it has no #! line, and there is no /bin/sh to run it"
		}
		if m := machine(b); m != "" && m != uname() {
			return "exec format error: the file is for " + m + ", this machine is " + uname()
		}
		return "exec format error: not a program of this system, or a damaged one"
	}
	return ""
}

func mountedNoexec(file string) bool {
	const ST_NOEXEC = 8 // statfs(2)
	var fs syscall.Statfs_t
	return syscall.Statfs(file, &fs) == nil && fs.Flags&ST_NOEXEC != 0
}

// interpreter is the program a script's first line names: everything to the first blank, the CR of a file from Windows with it.
func interpreter(head []byte) string {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	rest, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(bytes.TrimLeft(rest, " \t"), []byte(" "))
	return string(name)
}

// An ELF file (elf(5)), with offsets for 32 and 64 bits:
//
//	0  magic   4  class (1, 2)   5  data (1 little, 2 big)   18  machine
//	28/32  offset of the program headers   42/54  their size   44/56  their number
//
// and in a program header of type 3, PT_INTERP, the loader's name at
//
//	4/8  offset   16/32  length

// machine is the architecture an ELF file is for, by uname's name for it, or "" if it is no ELF file.
func machine(head []byte) string {
	if len(head) < 20 || !bytes.HasPrefix(head, []byte(elfMagic)) {
		return ""
	}
	n := elfOrder(head).Uint16(head[18:])
	names := map[uint16]string{3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64"}
	return cmp.Or(names[n], fmt.Sprintf("ELF machine %d", n))
}

// loader is the dynamic loader an ELF file asks for, or "".
func loader(head []byte) string {
	if len(head) < 64 || !bytes.HasPrefix(head, []byte(elfMagic)) {
		return ""
	}
	order := elfOrder(head)
	word := func(at32, at64 uint64) uint64 {
		if head[4] == 1 && at32+4 <= uint64(len(head)) {
			return uint64(order.Uint32(head[at32:]))
		}
		if head[4] == 2 && at64+8 <= uint64(len(head)) {
			return order.Uint64(head[at64:])
		}
		return 0
	}
	at, size, number := word(28, 32), order.Uint16(head[42:]), order.Uint16(head[44:])
	if head[4] == 2 {
		size, number = order.Uint16(head[54:]), order.Uint16(head[56:])
	}
	for range number {
		if at > uint64(len(head))-4 { // the file's own figures: it may lie
			return ""
		}
		if order.Uint32(head[at:]) == 3 {
			from, length := word(at+4, at+8), word(at+16, at+32)
			if from > uint64(len(head)) || length > uint64(len(head))-from {
				return ""
			}
			return string(bytes.TrimRight(head[from:from+length], "\x00"))
		}
		at += uint64(size)
	}
	return ""
}

func elfOrder(head []byte) binary.ByteOrder {
	if head[5] == 2 {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// uname is this machine's architecture, as uname -m prints it.
func uname() string {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return "another"
	}
	var name []byte
	for _, c := range u.Machine {
		if c == 0 {
			break
		}
		name = append(name, byte(c))
	}
	return string(name)
}
