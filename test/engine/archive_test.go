package engine

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"alfred/healthcheck/test/testbed"
)

// needImage has docker load the archive, once, and puts back at the end what the
// image's name meant before.
func needImage(t *testing.T) {
	t.Helper()
	written := archive(t, runtime.GOARCH)
	loadOnce.Do(func() {
		id := func() string {
			id, _ := try("docker", "image", "inspect", "-f", "{{.Id}}", image)
			return id
		}
		before := id()
		out, err := tryWith(written, nil, "docker", "load")
		if err != nil {
			t.Fatal(err)
		}
		if want := "Loaded image: " + image; !strings.Contains(out, want) {
			t.Fatalf("docker load printed %q, want %q", out, want)
		}
		loaded := id()
		atEnd = append(atEnd, func() {
			switch {
			case id() != loaded || before == loaded: // another's by now, or the same as ever
			case before == "":
				try("docker", "rmi", image)
			default:
				try("docker", "tag", before, image)
				try("docker", "rmi", loaded)
			}
		})
	})
}

var loadOnce sync.Once

// TestDockerLoad runs what docker load makes of the archive.
func TestDockerLoad(t *testing.T) {
	needEngine(t)
	needImage(t)
	written := readArchive(t, archive(t, runtime.GOARCH))
	loaded := save(t, image)
	if !bytes.Equal(loaded.binary(t), written.binary(t)) {
		t.Error("the loaded image holds another binary than the archive")
	}
	checkConfig(t, loaded, written, runtime.GOARCH)
	runConfined(t, image)
}

// archiveFile writes the archive into a folder for programs that want a name.
func archiveFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "healthcheck-0.4.0.tar.gz")
	if err := os.WriteFile(name, archive(t, runtime.GOARCH), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestSkopeo reads the archive as either kind, and copies it blob by blob, which
// compares each with its digest.
func TestSkopeo(t *testing.T) {
	skopeo := testbed.Need(t, "skopeo")
	name := archiveFile(t)
	for _, source := range []string{
		"docker-archive:" + name, "docker-archive:" + name + ":" + image,
		"oci-archive:" + name, "oci-archive:" + name + ":0.4.0",
	} {
		var got struct {
			Architecture, Os string
			Labels           map[string]string
		}
		decode(t, []byte(do(t, skopeo, "inspect", source)), &got)
		if got.Architecture != runtime.GOARCH || got.Os != "linux" || got.Labels["org.opencontainers.image.version"] != "0.4.0" {
			t.Errorf("skopeo inspect %s: %+v", source, got)
		}
		do(t, skopeo, "copy", "--insecure-policy", "--quiet", source, "dir:"+t.TempDir())
	}
}

// TestPodman loads the archive as podman load does, and as either kind.
func TestPodman(t *testing.T) {
	testbed.Need(t, "podman")
	if os.Getuid() != 0 {
		testbed.Missing(t, "root", "podman without root needs a set-up of its own")
	}
	name := archiveFile(t)
	for _, load := range [][]string{
		{"load", "--input", name},
		{"pull", "--quiet", "docker-archive:" + name},
		{"pull", "--quiet", "oci-archive:" + name},
	} {
		t.Run(load[0]+" "+strings.TrimSuffix(load[len(load)-1], name), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "enginetest") // podman requires a short path
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			podman := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}
			do(t, "podman", append(podman, load...)...)
			out := do(t, "podman", append(podman, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")...)
			if want := "/" + image + " " + configDigest(t); !strings.HasSuffix(out, want) { // of docker.io or localhost
				t.Errorf("podman has %q, want %q at the end", out, want)
			}
		})
	}
}

// configDigest is the digest that docker and podman know the archive's image by.
func configDigest(t *testing.T) string {
	t.Helper()
	var manifest []struct{ Config string }
	decode(t, readArchive(t, archive(t, runtime.GOARCH)).blobs["manifest.json"], &manifest)
	return "sha256:" + strings.TrimPrefix(manifest[0].Config, "blobs/sha256/")
}

// TestContainerd imports the archive into a containerd of the test's own and runs it.
func TestContainerd(t *testing.T) {
	containerd, ctr := testbed.Need(t, "containerd"), testbed.Need(t, "ctr")
	testbed.Need(t, "runc")
	if os.Getuid() != 0 {
		testbed.Missing(t, "root", "containerd needs root")
	}
	dir, err := os.MkdirTemp("", "enginetest") // a short path, since it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		dir+"/root", dir+"/state", dir+"/sock")
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	server := exec.Command(containerd, "--config", dir+"/config.toml")
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Signal(os.Interrupt)
		server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	run := func(stdin []byte, args ...string) string {
		t.Helper()
		out, err := tryWith(stdin, nil, ctr, append([]string{"--address", dir + "/sock", "--namespace", "k8s.io"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	testbed.Poll(t, func() error {
		_, err := try(ctr, "--address", dir+"/sock", "version")
		return err
	})

	// containerd 1.6, Debian's, does not decompress what it imports.
	z, err := gzip.NewReader(bytes.NewReader(archive(t, runtime.GOARCH)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	run(plain, "images", "import", "--snapshotter", "native", "-")
	if out := run(nil, "images", "ls", "-q"); out != "docker.io/"+image {
		t.Errorf("ctr images ls prints %q, want docker.io/%s", out, image)
	}
	out := run(nil, "run", "--rm", "--snapshotter", "native", "docker.io/"+image, "test", "/usr/local/bin/healthcheck", "--version")
	if !strings.HasPrefix(out, "healthcheck 0.4.0 (") {
		t.Errorf("ctr run --version printed %q", out)
	}
}
