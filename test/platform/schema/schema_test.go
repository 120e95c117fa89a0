// Package schema holds what examples/ has for other programs against the types of
// those programs: the compose file against Docker Compose v2's loader (Debian's
// docker-compose, which the tests beside run, is 1.29), the Kubernetes manifest
// against Kubernetes' API, the GitHub workflows against actionlint and, where it is
// installed, shellcheck.
//
// It is a module of its own, so that the project's needs nothing but the standard
// library:
//
//	cd test/platform/schema && go test ./...
package schema

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"alfred/healthcheck/test/testbed"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const examples = "../../../examples"

func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{examples + "/compose.yaml"}, cli.WithName("examples"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ranges := map[string]string{"api": `909[1-9]`, "web": `909[1-9]`, "postgres": `912[0-4]`, "redis": `912[0-4]`, "prometheus": `9100|9187`}
	if len(project.Services) != len(ranges) {
		t.Errorf("%d services, want %d", len(project.Services), len(ranges))
	}
	for name, s := range project.Services {
		if s.Labels["metrics_port"] != "9091" {
			t.Errorf("%s: label metrics_port is %q", name, s.Labels["metrics_port"])
		}
		metrics := slices.IndexFunc(s.Ports, func(p types.ServicePortConfig) bool { return p.Target == 9091 })
		if metrics < 0 || !regexp.MustCompile("^("+ranges[name]+")$").MatchString(s.Ports[metrics].Published) {
			t.Errorf("%s: ports %v", name, s.Ports)
		}
		if h := s.HealthCheck; h == nil || len(h.Test) < 2 || h.Test[0] != "CMD" || h.Test[1] != healthcheckBinary || h.Interval == nil {
			t.Errorf("%s: healthcheck %+v", name, h)
		}
		named := func(kind string) bool { return s.Environment["HEALTHCHECK_"+kind] != nil }
		if !slices.ContainsFunc([]string{"HTTP", "POSTGRES", "REDIS"}, named) {
			t.Errorf("%s: its environment names no check", name)
		}
		for dependency, d := range s.DependsOn {
			if d.Condition != types.ServiceConditionHealthy {
				t.Errorf("%s depends on %s by %s", name, dependency, d.Condition)
			}
		}
	}
	// compose replaces $$ by $, and healthcheck replaces the reference.
	want := "postgres://app:${file:/run/secrets/db_password}@localhost:5432/app"
	if got := project.Services["postgres"].Environment["HEALTHCHECK_POSTGRES"]; got == nil || *got != want {
		t.Errorf("postgres: HEALTHCHECK_POSTGRES is %v, want %s", got, want)
	}
	// A key beside a merged one wins.
	for service, want := range map[string][]string{
		"api": {"CMD", "healthcheck"},
		"web": {"CMD", "healthcheck", "--http", "http://localhost:3000/health"}, // as the guide writes it
	} {
		if got := []string(project.Services[service].HealthCheck.Test); !slices.Equal(got, want) {
			t.Errorf("%s: test %q, want %q", service, got, want)
		}
	}
}

// healthcheckBinary is the program that the probes of the compose file run.
const healthcheckBinary = "healthcheck"

func TestKubernetes(t *testing.T) {
	content, err := os.ReadFile(examples + "/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deployments := 0
	paths := map[string]int{} // of HTTP probes
	secrets := map[string]bool{}
	services := map[string]corev1.Service{}
	apps := map[string]appsv1.Deployment{}
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var kind struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatal(err)
		}
		strict := func(into any) {
			t.Helper()
			if err := yaml.UnmarshalStrict([]byte(document), into); err != nil {
				t.Errorf("%s: %v", kind.Kind, err)
			}
		}
		switch kind.Kind {
		case "Secret":
			var s corev1.Secret
			strict(&s)
			secrets[s.Name] = true
		case "Service":
			var s corev1.Service
			strict(&s)
			services[s.Name] = s
		case "Deployment":
			var d appsv1.Deployment
			strict(&d)
			apps[d.Name] = d
			deployments++
		default:
			t.Errorf("there is a %q", kind.Kind)
		}
	}
	for name, d := range apps {
		pod := d.Spec.Template
		if !within(d.Spec.Selector.MatchLabels, pod.Labels) {
			t.Errorf("%s: its selector does not select its pods", name)
		}
		volumes := map[string]bool{}
		for _, v := range pod.Spec.Volumes {
			volumes[v.Name] = true
			if v.Secret != nil && !secrets[v.Secret.SecretName] {
				t.Errorf("%s: there is no secret %s", name, v.Secret.SecretName)
			}
		}
		for _, c := range pod.Spec.Containers {
			ports := map[string]int32{}
			for _, p := range c.Ports {
				ports[p.Name] = p.ContainerPort
			}
			for _, m := range c.VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("%s: there is no volume %s", name, m.Name)
				}
			}
			for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
				switch {
				case p == nil:
				case p.HTTPGet != nil:
					paths[p.HTTPGet.Path]++
					if p.HTTPGet.Port.Type == intstr.String && ports[p.HTTPGet.Port.StrVal] == 0 {
						t.Errorf("%s: a probe asks a port %s", name, p.HTTPGet.Port.StrVal)
					}
				default:
					t.Errorf("%s: a probe that is no HTTP probe: %v", name, p)
				}
			}
			if pod.Annotations["prometheus.io/port"] != "9091" {
				t.Errorf("%s: scraped at %q", name, pod.Annotations["prometheus.io/port"])
			}
		}
	}
	for name, s := range services {
		if d, ok := apps[name]; !ok || !within(s.Spec.Selector, d.Spec.Template.Labels) {
			t.Errorf("service %s selects nothing", name)
		}
	}
	if want := map[string]int{"/healthz": 2, "/readyz": 2, "/livez": 1}; deployments != 2 || !maps.Equal(paths, want) {
		t.Errorf("%d deployments, HTTP probes of %v, want 2 and %v", deployments, paths, want)
	}
}

// within reports whether every label of a is in b.
func within(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) > 0
}

func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(examples + "/github/*.yml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d workflows in examples (%v)", len(files), err)
	}
	own, err := filepath.Glob(examples + "/../.github/workflows/*.yml")
	if err != nil || len(own) < 1 {
		t.Fatalf("%d workflows of the project (%v)", len(own), err)
	}
	for _, name := range own {
		checkPinned(t, name)
	}
	files = append(files, own...)
	testbed.Need(t, "shellcheck") // which actionlint asks about the scripts
	args := append([]string{"run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"}, files...)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkPinned wants a workflow that pins each action by commit and names its version, can only read
// the repository, has a time limit, and cancels the runs that a newer push replaces.
func checkPinned(t *testing.T, name string) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	actions := regexp.MustCompile(`(?m)^\s*(?:- )?uses: *(.*)$`).FindAllSubmatch(content, -1)
	for _, action := range actions {
		if !pinned.Match(action[1]) {
			t.Errorf("%s: uses: %s, want OWNER/NAME@COMMIT # vN.N.N", name, action[1])
		}
	}
	var w struct {
		Permissions map[string]string
		Concurrency struct {
			Group  string
			Cancel bool `json:"cancel-in-progress"`
		}
		Jobs map[string]struct {
			Permissions map[string]string
			Timeout     int `json:"timeout-minutes"`
		}
	}
	if err := yaml.Unmarshal(content, &w); err != nil {
		t.Fatal(err)
	}
	if len(actions) == 0 || len(w.Jobs) == 0 {
		t.Errorf("%s: %d actions in %d jobs", name, len(actions), len(w.Jobs))
	}
	if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
		t.Errorf("%s: permissions %v, want contents: read", name, w.Permissions)
	}
	if w.Concurrency.Group == "" || !w.Concurrency.Cancel {
		t.Errorf("%s: concurrency %+v, want a group, and cancel-in-progress", name, w.Concurrency)
	}
	for job, j := range w.Jobs {
		if j.Timeout < 1 || j.Timeout > 60 || j.Permissions != nil {
			t.Errorf("%s: job %s has timeout-minutes %d and permissions %v, want 1 to 60 and none of its own", name, job, j.Timeout, j.Permissions)
		}
	}
}
