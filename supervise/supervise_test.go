//go:build linux

package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen. It only shows when something is broken.
const patience = time.Minute

// roles are what the test binary is when its first argument names one. @init is healthcheck in small; the rest are commands for it.
var roles = map[string]func(args []string){
	"@init":     roleInit,
	"@each":     roleEach,
	"@early":    roleEarly,
	"@foreign":  roleForeign,
	"@kept":     roleKept,
	"@leaver":   roleLeaver,
	"@nokill":   roleNoKill,
	"@orphans":  roleOrphans,
	"@signals":  roleSignals,
	"@stopping": roleStopping,
	"@usage":    roleUsage,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			role(os.Args[2:])
			os.Exit(0)
		}
	}
	// A handler here is the default action in what is started, where the caller ignores these, as nohup does.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	os.Setenv("GORACE", "atexit_sleep_ms=0") // not a second for each process
	os.Exit(m.Run())
}

// roleInit supervises the command in args as the SUPERVISE_ variables say.
func roleInit(args []string) {
	signals := Listen()
	c := Command{Args: args}
	for key, set := range map[string]func(string) error{
		"KILL_AFTER": func(v string) (err error) { c.KillAfter, err = time.ParseDuration(v); return },
		"SUCCESS":    func(v string) error { n, err := strconv.Atoi(v); c.SuccessStatus = []int{n}; return err },
		"GROUP":      func(string) error { c.SignalGroup = true; return nil },
		"LOG":        func(string) error { c.Log = func(s string) { fmt.Fprintln(os.Stderr, "log:", s) }; return nil },
		"STOP": func(v string) error {
			came, sent, err := ParseStopSignal(v)
			c.StopSignals = map[syscall.Signal]syscall.Signal{came: sent}
			return err
		},
		"MOUNT_PROC": func(string) error { return mountProc() },
		"NOISE":      func(string) error { fmt.Fprintln(os.Stderr, "noise"); return nil },
	} {
		if v := os.Getenv("SUPERVISE_" + key); v != "" {
			if err := set(v); err != nil {
				fmt.Fprintln(os.Stderr, key, err)
				os.Exit(125)
			}
		}
	}
	p, err := c.Start(signals)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(err.(*StartError).Status)
	}
	status := p.Wait()
	if os.Getenv("SUPERVISE_REPORT") != "" {
		fmt.Println("orphans", signals.Orphans())
		for name, n := range p.Forwarded() {
			fmt.Println("forwarded", name, n)
		}
		_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		fmt.Println("children", err != syscall.ECHILD)
	}
	signals.Exit(status)
}

// roleEach supervises the shell's line once for each number, all in one process, and prints every status.
func roleEach(args []string) {
	signals := Listen()
	for _, n := range args[1:] {
		c := Command{Args: []string{"/bin/sh", "-c", args[0], n}}
		if args[0] == "" { // the quickest commands there are
			c.Args = []string{[]string{"true", "false"}[len(n)%2]}
		}
		p, err := c.Start(signals)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.Wait())
	}
}

func mountProc() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("proc", "/proc", "proc", 0, "")
}

// initCommand is the test binary as an init of args, with SUPERVISE_ settings.
func initCommand(settings string, args ...string) *exec.Cmd {
	cmd := exec.Command(self(), append([]string{"@init"}, args...)...)
	cmd.Env = os.Environ()
	for _, s := range strings.Fields(settings) {
		cmd.Env = append(cmd.Env, "SUPERVISE_"+s)
	}
	return cmd
}

// asPID1 makes it PID 1 of a new namespace.
func asPID1(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		skip(t, "root for a PID namespace")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	cmd.Env = append(cmd.Env, "SUPERVISE_MOUNT_PROC=1")
	return cmd
}

// bothWays runs a test of an init as PID 1 and as a subreaper.
func bothWays(t *testing.T, settings string, args []string, test func(t *testing.T, cmd *exec.Cmd)) {
	t.Helper()
	t.Run("PID 1", func(t *testing.T) { test(t, asPID1(t, initCommand(settings, args...))) })
	t.Run("subreaper", func(t *testing.T) { test(t, initCommand(settings, args...)) })
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

// skip skips a test for want of something, or fails it where HEALTHCHECK_REQUIRE=all.
func skip(t testing.TB, name string) {
	t.Helper()
	if os.Getenv("HEALTHCHECK_REQUIRE") == "all" {
		t.Fatalf("needs %s", name)
	}
	t.Skipf("needs %s", name)
}

// run runs cmd to its end and returns its status and output.
func run(t testing.TB, cmd *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	begin(t, cmd)
	status = wait(t, cmd)
	return status, out.String(), errs.String()
}

func begin(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Process.Wait()
	})
}

func wait(t testing.TB, cmd *exec.Cmd) (status int) {
	t.Helper()
	watchdog := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		t.Fatalf("ended by signal %v (%v is this test's patience)", ws.Signal(), patience)
	}
	return ws.ExitStatus()
}

// until polls a condition that must come true.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

func TestExitStatus(t *testing.T) {
	var args []string
	for n := range 256 {
		args = append(args, strconv.Itoa(n))
	}
	_, stdout, stderr := run(t, exec.Command(self(), append([]string{"@each", `exit $0`}, args...)...))
	if got := strings.Fields(stdout); strings.Join(got, " ") != strings.Join(args, " ") {
		t.Errorf("exit statuses 0 to 255 came back as %v\n%s", got, stderr)
	}
}

func TestDeathBySignal(t *testing.T) {
	var args, want []string
	for n := 1; n <= maxSignal; n++ {
		switch SignalName(syscall.Signal(n)) {
		case "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "WINCH", "32", "33":
			continue // not deadly, or not for a shell to send
		}
		args = append(args, strconv.Itoa(n))
		want = append(want, strconv.Itoa(128+n))
	}
	_, stdout, stderr := run(t, exec.Command(self(), append([]string{"@each", `ulimit -c 0; kill -$0 $$`}, args...)...))
	if got := strings.Fields(stdout); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("death by signals %v gave %v\n%s", args, got, stderr)
	}
}

func TestThousandShortRuns(t *testing.T) {
	const runs = 1000
	var args, want []string
	for i := range runs {
		args = append(args, strings.Repeat("x", i%2+2))
		want = append(want, strconv.Itoa(i%2))
	}
	_, stdout, stderr := run(t, exec.Command(self(), append([]string{"@each", ""}, args...)...))
	if got := strings.Fields(stdout); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%d runs of true and false in turn gave %d statuses: %v\n%s", runs, len(got), got, stderr)
	}
}

func TestShortRunsEachInItsProcess(t *testing.T) {
	for i := range 40 {
		cmd := initCommand("", []string{"true", "false"}[i%2])
		if i >= 20 {
			asPID1(t, cmd)
		}
		if got, _, stderr := run(t, cmd); got != i%2 {
			t.Fatalf("run %d: status %d, want %d\n%s", i, got, i%2, stderr)
		}
	}
}

func TestSuccessStatus(t *testing.T) {
	for _, tt := range []struct {
		script   string
		settings string
		want     int
	}{
		{"kill -TERM $$", "SUCCESS=143", 0},
		{"exit 143", "SUCCESS=143", 0},
		{"exit 142", "SUCCESS=143", 142},
		{"exit 0", "SUCCESS=143", 0},
	} {
		if got, _, stderr := run(t, initCommand(tt.settings, "/bin/sh", "-c", tt.script)); got != tt.want {
			t.Errorf("%s of %q: status %d, want %d\n%s", tt.settings, tt.script, got, tt.want, stderr)
		}
	}
}

// What the command finds is what it would have found without healthcheck in between.
func TestInherits(t *testing.T) {
	const script = `pwd -P; cat; cat <&3; env | sort; echo "$#|$1|$2"; ulimit -n; ls /proc/self/fd; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; echo err >&2`
	args := []string{"/bin/sh", "-c", script, "sh", "a b", ""}
	dir := t.TempDir()
	inherited := func(cmd *exec.Cmd) string {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		w.WriteString("from descriptor 3\n")
		w.Close()
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "A=1 2")
		cmd.Stdin = strings.NewReader("from stdin\n")
		cmd.ExtraFiles = []*os.File{r}
		_, stdout, stderr := run(t, cmd)
		return stdout + stderr
	}
	want := inherited(exec.Command(args[0], args[1:]...))
	if !strings.Contains(want, "from descriptor 3\n") || !strings.Contains(want, "from stdin\n") {
		t.Fatalf("the script is broken: %q", want)
	}
	if got := inherited(initCommand("", args...)); got != want {
		t.Errorf("inherited\n%s\nwant\n%s", got, want)
	}
}

func TestScriptWithoutShebang(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ content, want string }{
		{"#!/bin/sh\necho with $0 $1\n", "with " + dir + "/script arg\n"},
		{"echo without $0 $1\n", "without " + dir + "/script arg\n"},
		{"# caf\xe9\necho $1\n", "arg\n"},
		{"", ""},
	} {
		if err := os.WriteFile(dir+"/script", []byte(tt.content), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{dir + "/script", "script"} { // by path and through PATH
			cmd := initCommand("", name, "arg")
			cmd.Env = append(cmd.Env, "PATH=/nowhere:"+dir+":"+os.Getenv("PATH"))
			if status, got, stderr := run(t, cmd); status != 0 || got != tt.want {
				t.Errorf("%s of %q: status %d, %q, want %q\n%s", name, tt.content, status, got, tt.want, stderr)
			}
		}
	}
}

// PATH is searched as by execvp(3): an empty element is the current directory, and a file that may not be executed is passed over.
func TestPathLookup(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"a/cmd": 0o644, "b/cmd": 0o755, "c/only": 0o644, "here": 0o755} {
		os.MkdirAll(filepath.Dir(dir+"/"+name), 0o755)
		if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\necho $0\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		path, command string
		status        int
		want          string
	}{
		{dir + "/a:" + dir + "/b", "cmd", 0, dir + "/b/cmd\n"},
		{dir + "/c:" + dir + "/b", "only", 126, ""},
		{"/nowhere::" + dir + "/b", "here", 0, "./here\n"},
		{"", "here", 0, "./here\n"},
		{"/nowhere", "here", 127, ""},
		{dir + ":" + dir + "/b", "b", 126, ""}, // a directory
	} {
		cmd := initCommand("", tt.command)
		cmd.Dir = dir
		cmd.Env = append(cmd.Env, "PATH="+tt.path)
		if status, got, stderr := run(t, cmd); status != tt.status || got != tt.want {
			t.Errorf("%s in PATH=%s: status %d, %q, want %d, %q\n%s", tt.command, tt.path, status, got, tt.status, tt.want, stderr)
		}
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := dir + "/" + name
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// An ELF header: 64 bits, little endian, for the given machine.
	elf := func(machine byte) string {
		return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00" + string([]byte{machine}) + "\x00" + strings.Repeat("\x00", 44)
	}
	foreign, name := byte(183), "aarch64"
	if uname() == name {
		foreign, name = 62, "x86_64"
	}
	missing := dir + "/missing"
	searched := ": not found in PATH (" + os.Getenv("PATH") + ")"
	for _, tt := range []struct {
		command string
		status  int
		want    string // after the command
	}{
		{"", 127, `"": the command is empty`},
		{missing, 127, ": not found"},
		{"no-such-command", 127, searched},
		{write("plain", "#!/bin/sh\n", 0o644), 126, ": permission denied: the file is not executable (mode 0644)"},
		{dir, 126, ": is a directory"},
		{dir + "/plain/below", 127, ": not found"},
		{write("foreign", elf(foreign), 0o755), 126, ": exec format error: the file is for " + name + ", this machine is " + uname()},
		{write("odd", elf(250), 0o755), 126, ": exec format error: the file is for ELF machine 250, this machine is " + uname()},
		{write("macho", "\xcf\xfa\xed\xfe\x0c\x00\x00\x01", 0o755), 126, ": exec format error: not a program of this system, or a damaged one"},
		{write("interpreter", "#!"+missing+" -x\n", 0o755), 127, `: its interpreter "` + missing + `" was not found`},
		{write("windows", "#!/bin/sh\r\n", 0o755), 127, `: its interpreter "/bin/sh\r" was not found`},
		{write("denied", "#!"+dir+"/plain\n", 0o755), 126, `: permission denied: the file or its interpreter "` + dir + `/plain" may not be executed`},
	} {
		status, _, stderr := run(t, initCommand("", tt.command))
		if want := tt.command + tt.want + "\n"; status != tt.status || stderr != want {
			t.Errorf("%q: status %d and %q, want %d and %q", tt.command, status, stderr, tt.status, want)
		}
	}
}

// An error names the program, but shows neither its arguments nor the value of a variable.
func TestStartErrorsHideArguments(t *testing.T) {
	searched := ": not found in PATH (/nowhere)"
	const words = "; program and arguments are separate words, as in: -- PROGRAM ARGUMENT"
	const variable = "; a variable goes behind env, as in: -- env NAME=value PROGRAM"
	long := strings.Repeat("x", maxProgramName)
	for _, tt := range []struct{ command, want string }{
		{"no such command", "no" + searched + words},
		{"mysqld --password=secret", "mysqld" + searched + words},
		{"mysqld\t--password=secret", "mysqld" + searched + words},
		{" mysqld\n--password=secret", "mysqld" + searched + words},
		{"/none/mysqld --password=a/b", "/none/mysqld: not found" + words},
		{"DB_PASSWORD=secret", "DB_PASSWORD=…" + searched + variable},
		{"DB_PASSWORD=secret app", "DB_PASSWORD=…" + searched + variable},
		{"DB_URL=a/b", "DB_URL=…: not found" + variable},
		{"--password=secret", "--password=…" + searched + variable},
		{"--version", "--version" + searched},
		{"--SECRET", "-…" + searched},
		{"-psecret", "-…" + searched},
		{"postgres://u:secret@db/app", "postgres…: not found"},
		{"TOKEN:secret", "TOKEN…" + searched},
		{"redis-server;requirepass,secret", "redis-server…" + searched},
		{"\x1b[2J\u202e\xff", "…" + searched},
		{" ", `""` + searched + words},
		{long, long + searched},
		{long + "é", long + "…" + searched},
	} {
		cmd := initCommand("", tt.command)
		cmd.Env = append(cmd.Env, "PATH=/nowhere")
		if status, _, stderr := run(t, cmd); status != 127 || stderr != tt.want+"\n" {
			t.Errorf("%q: status %d and %q, want 127 and %q", tt.command, status, stderr, tt.want)
		}
	}
	// The name is too long for the system, so exec fails before it has searched all of PATH.
	cmd := initCommand("", "mysqld "+strings.Repeat("secret", 1000))
	if status, _, stderr := run(t, cmd); status != 126 || stderr != "mysqld: file name too long"+words+"\n" {
		t.Errorf("too long: status %d and %q", status, stderr)
	}
}
