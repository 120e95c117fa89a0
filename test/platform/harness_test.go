package platform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

const (
	// mark names everything the tests make in the engine: it is a compose project,
	// a repository of images, and a prefix and label of containers.
	mark = "platformtest"

	// host is where containers are published: 127.0.0.0/8 is all this machine's.
	host = "127.86.72.1"

	// patience is how long something may take that others take seconds for, on a
	// machine with every core taken; commandPatience, one command: a build of five images.
	patience        = 2 * time.Minute
	commandPatience = 8 * time.Minute
)

// needEngine skips the test where no engine answers, or fails it where one is
// required. The first time it waits for other runs and clears up after killed ones.
func needEngine(t *testing.T) {
	t.Helper()
	testbed.NeedEngine(t)
	if err := alone(); err != nil {
		t.Fatal(err)
	}
}

// alone waits until no other process runs these tests.
var alone = sync.OnceValue(func() error {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "alfred.healthcheck."+mark+".lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	held = lock
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX) // the kernel lets go of it when the process ends
})

var held *os.File // kept open, as long as the process lives

// try runs a program and returns what it printed on stdout. The error holds all
// that it printed.
func try(env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// do is try that must succeed.
func do(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := try(nil, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// poll looks until until returns nil, and fails the test with its last error.
func poll(t *testing.T, what string, until func() error) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := until()
		if err == nil {
			t.Logf("%s: %.1f s", what, time.Since(start).Seconds())
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

// get returns the body and status of an HTTP answer.
func get(url string) (body string, status int, err error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), resp.StatusCode, err
}

// root is the project's folder.
const root = "../.."

// binary is healthcheck as it is shipped, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", mark)
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "healthcheck")
	_, err = try(nil, "sh", root+"/tools/build.sh", path)
	return path, err
})

// atEnd runs when all tests have: what they share outlives each of them.
var atEnd []func()

func TestMain(m *testing.M) {
	status := m.Run()
	for _, f := range slices.Backward(atEnd) {
		f()
	}
	os.Exit(status)
}

// start runs a program until the test ends, and returns a function that tells what it logged.
func start(t *testing.T, program string, args ...string) (log func() string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		file.Close()
	})
	return func() string {
		b, _ := os.ReadFile(file.Name())
		return string(b)
	}
}

// at is an address of this machine.
func at(port string) string { return net.JoinHostPort("127.0.0.1", port) }

// importHealthcheck makes an image of the binary alone, with a HEALTHCHECK that runs
// what the environment names, and wraps a healthcheck that exports on 9092. One made of
// the same binary before is taken as it is: what was built from it is still good.
func importHealthcheck(t *testing.T) (image string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image = mark + "/healthcheck:1"
	sum := fmt.Sprintf("%x", sha256.Sum256(content))
	if was, err := try(nil, "docker", "image", "inspect", "--format", "{{.Config.Labels."+mark+"}}", image); err == nil && was == sum {
		return image
	}
	var archive bytes.Buffer
	if err := tarball(&archive, "usr/local/bin/healthcheck", content); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "import",
		"--change", "LABEL "+mark+"="+sum,
		"--change", `HEALTHCHECK --interval=5s --timeout=30s --retries=1 CMD ["healthcheck"]`,
		"--change", `ENV PATH=/usr/local/bin HEALTHCHECK_INTERVAL=2s`,
		"--change", `CMD ["healthcheck", "--export-prom", ":9091", "--", "healthcheck", "--export-prom", ":9092", "--tcp", "127.0.0.1:9091"]`,
		"-", image)
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	return image
}
