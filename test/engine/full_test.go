package engine

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"alfred/healthcheck/test/testbed"
)

// scrapeFor is how long each container is scraped. Without a reserve of threads the exporter ended
// within one second.
const scrapeFor = 4 * time.Second

// TestFullContainer scrapes the exporter while the command uses up every process that the container
// may have.
func TestFullContainer(t *testing.T) {
	needEngine(t)
	needImage(t)
	filler := filepath.Join(t.TempDir(), "filler")
	do(t, testbed.Need(t, "musl-gcc"), "-static", "-Os", "-Wall", "-Werror", "-pthread", "-o", filler, "testdata/filler.c")
	base, tag := prefix+"base-filler", prefix+"filler"
	t.Cleanup(func() { try("docker", "rmi", "-f", tag, base) })
	importImage(t, base, func(r *root) { r.file("usr/bin/filler", filler) })
	_, err := needLegacy(t).build(tag, "", fmt.Sprintf(`FROM %s AS healthcheck
FROM %s
COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/
CMD ["healthcheck", "--export-prom", ":9091", "--interval", "100ms", "--tcp", "localhost:1", "--http", "http://localhost:2/", "--", "/usr/bin/filler"]
`, image, base))
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{"20", "50", "100"} {
		for _, scrapers := range []int{4, 32} {
			t.Run(fmt.Sprintf("%s processes, %d scrapers", limit, scrapers), func(t *testing.T) {
				id := docker(t, "run", "-d", "--label", label, "--pids-limit", limit, tag)
				t.Cleanup(func() { try("docker", "rm", "-f", id) })
				testbed.Poll(t, func() error {
					if log := docker(t, "logs", id); !strings.Contains(log, "full\n") && !strings.HasSuffix(log, "full") {
						return fmt.Errorf("the container is not full yet: %s", log)
					}
					return nil
				})
				address := docker(t, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", id)
				answered := scrape(t, "http://"+address+":9091/metrics", scrapers)
				state := docker(t, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", id)
				if state != "running 0" || answered == 0 {
					log, _ := try("docker", "logs", id)
					t.Errorf("after %d answers the container is %s, want running 0:\n%s", answered, state, log)
				}
			})
		}
	}
}

// scrape runs clients that request url without a pause, each request on a new connection. It
// returns the number of complete responses.
func scrape(t *testing.T, url string, clients int) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scrapeFor)
	defer cancel()
	var answered atomic.Int64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for ctx.Err() == nil {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				response, err := client.Do(request)
				if err != nil {
					continue
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err == nil && response.StatusCode == http.StatusOK {
					answered.Add(1)
				}
			}
		})
	}
	running.Wait()
	return answered.Load()
}
