package engine

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestService builds services as the guide says, FROM the loaded archive and in
// images of each kind, runs them until they are healthy, and stops them.
func TestService(t *testing.T) {
	needEngine(t)
	needImage(t)
	for _, test := range []struct {
		name    string
		base    func(*testing.T, string)
		builder func(*testing.T) builder
		command string
		status  int // of the service's own on TERM
	}{
		{"glibc", glibc, needLegacy, `"service"`, 7},
		{"musl", musl, needBuildKit, `"service"`, 7},
		{"busybox", busybox, needLegacy, `"httpd", "-f", "-p", "8080", "-h", "/www"`, 128 + 15},
	} {
		t.Run(test.name, func(t *testing.T) {
			base, tag := prefix+"base-"+test.name, prefix+"service-"+test.name
			t.Cleanup(func() { try("docker", "rmi", "-f", tag, base) })
			test.base(t, base)
			// The binary runs without chmod, for a user who owns nothing.
			_, err := test.builder(t).build(tag, "", fmt.Sprintf(`FROM %s AS healthcheck
FROM %s
COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/
USER 1000:1000
RUN ["healthcheck", "--version"]
EXPOSE 8080
EXPOSE 9091
HEALTHCHECK --interval=1s --timeout=20s --retries=5 --start-period=45s CMD ["healthcheck", "--http", "http://localhost:8080/health"]
CMD ["healthcheck", "--export-prom", ":9091", "--", %s]
`, image, base, test.command))
			if err != nil {
				t.Fatal(err)
			}
			since := strconv.FormatInt(time.Now().Unix(), 10)
			id := docker(t, "run", "-d", "--label", label, "--network=none", "--read-only", "--cap-drop=ALL",
				"--security-opt=no-new-privileges", tag)
			t.Cleanup(func() { try("docker", "rm", "-f", id) })
			waitHealthy(t, id, since)
			for _, path := range []string{"health", "healthz", "metrics"} {
				docker(t, "exec", id, "healthcheck", "--http", "http://localhost:9091/"+path)
			}
			stop(t, id, test.status)
		})
	}
}

// waitHealthy waits until Docker says that a container is healthy.
func waitHealthy(t *testing.T, id, since string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events := exec.CommandContext(ctx, "docker", "events", "--since", since,
		"--filter", "container="+id, "--filter", "event=health_status", "--format", "{{.Action}}")
	stdout, err := events.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		events.Wait()
	}()
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "health_status: healthy\n" {
		out, _ := try("docker", "inspect", "-f", "{{json .State}}", id)
		t.Fatalf("docker events says %q, want health_status: healthy; the state is %s", line, out)
	}
}

// stop wants docker stop to end a container at once and with its service's status.
// Docker needs some of the time for itself, more on a busy machine: the best of
// five counts.
func stop(t *testing.T, id string, status int) {
	t.Helper()
	var took []time.Duration
	for range 5 {
		start := time.Now()
		docker(t, "stop", id)
		took = append(took, time.Since(start))
		if got := docker(t, "inspect", "-f", "{{.State.ExitCode}}", id); got != strconv.Itoa(status) {
			t.Fatalf("the container ended with status %s, want the service's own, %d\n%s", got, status, logs(id))
		}
		if took[len(took)-1] < time.Second {
			t.Logf("docker stop took %v", took)
			return
		}
		docker(t, "start", id)
		// The service is there, and its handler with it, once a probe passes.
		docker(t, "exec", id, "healthcheck", "--wait", "30s", "--http", "http://localhost:8080/health")
	}
	t.Errorf("docker stop took %v, want under a second", took)
}

func logs(id string) string {
	out, err := exec.Command("docker", "logs", id).CombinedOutput()
	return strings.TrimSpace(fmt.Sprint(string(out), err))
}
