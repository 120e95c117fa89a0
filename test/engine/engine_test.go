package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

const (
	// image is what the guide calls the image.
	image = "alfred/healthcheck:0.4.0"

	// label marks everything the tests make in the engine.
	label = "alfred.healthcheck.enginetest"

	// patience is how long one command may take: the build stage compiles what
	// it finds in no cache, on a machine with every core taken.
	patience = 5 * time.Minute
)

// prefix is the repository of the images one run makes.
var prefix = label + "/" + strconv.Itoa(os.Getpid()) + "/"

// atEnd runs when all tests have: what they share outlives each of them.
var atEnd []func()

func TestMain(m *testing.M) {
	status := m.Run()
	for _, f := range slices.Backward(atEnd) {
		f()
	}
	os.Exit(status)
}

// needEngine skips the test where no engine answers, or fails it where one is
// required. The first time it waits for other runs and clears up after killed ones.
func needEngine(t *testing.T) {
	t.Helper()
	testbed.NeedEngine(t)
	if err := haveEngine(); err != nil {
		t.Fatal(err)
	}
}

var haveEngine = sync.OnceValue(func() error {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), label+".lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // the kernel lets go of it when the process ends
		return fmt.Errorf("waiting for another run: %w", err)
	}
	sweep()
	atEnd = append(atEnd, func() {
		sweep()
		lock.Close()
	})
	return nil
})

// sweep removes whatever has the label, stages of builds among it.
func sweep() {
	for _, list := range [][]string{
		{"ps", "-aq", "--filter", "label=" + label},
		{"images", "-aq", "--filter", "label=" + label},
	} {
		ids, _ := try("docker", list...)
		remove := []string{"rm", "-fv"}
		if list[0] == "images" {
			remove = []string{"rmi", "-f"}
		}
		if ids != "" {
			try("docker", append(remove, strings.Fields(ids)...)...)
		}
	}
}

// try runs a program and returns its output, without the newline at its end.
// The error holds what it printed.
func try(program string, args ...string) (string, error) {
	return tryWith(nil, nil, program, args...)
}

// tryWith is try with something to read and additions to the environment.
func tryWith(stdin []byte, env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// do is try for what must succeed.
func do(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := try(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	return do(t, "docker", args...)
}

// A builder is one of the two that docker build may mean.
type builder struct {
	name   string
	client string // the docker that has it
	env    string
	option string // against results of an earlier run: the legacy builder has none for a new base image
}

var legacy = builder{"legacy", "docker", "DOCKER_BUILDKIT=0", "--no-cache=false"}

// needBuildKit returns BuildKit, for which newer clients want a plugin and older
// ones do not: Debian's own can be found behind another that comes first in PATH.
func needBuildKit(t *testing.T) builder {
	t.Helper()
	b, err := findBuildKit()
	if err != nil {
		testbed.Missing(t, "buildkit", "no docker in PATH has BuildKit: %v", err)
	}
	return b
}

var findBuildKit = sync.OnceValues(func() (b builder, err error) {
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		client, lookErr := exec.LookPath(filepath.Join(folder, "docker"))
		if lookErr != nil {
			continue
		}
		b = builder{"buildkit", client, "DOCKER_BUILDKIT=1", "--no-cache"}
		if _, err = b.build(prefix+"buildkit", "", "FROM scratch\nLABEL a=b\n"); err == nil {
			return b, nil
		}
	}
	return b, err
})

// build makes the image tag, without network: of the Dockerfile in the folder
// context, or of one given as text and an empty folder.
func (b builder) build(tag, context, dockerfile string, options ...string) (string, error) {
	args := []string{"build", "--network=none", b.option, "--label", label, "-t", tag}
	if context == "" {
		empty, err := os.MkdirTemp("", "enginetest")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(empty)
		context = empty
		args = append(args, "-f", "-")
	}
	args = slices.Concat(args, options, []string{context})
	return tryWith([]byte(dockerfile), []string{b.env}, b.client, args...)
}
