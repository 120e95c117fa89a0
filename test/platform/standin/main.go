// Command standin makes images that stand for the official ones where no registry
// can be reached: python, node, postgres, redis and prom/prometheus, as far as
// examples/ relies on them. Their files are those of this machine's Debian
// packages, so what runs in them is real; only the entrypoints are rewritten.
//
//	go run ./test/platform/standin [-tag]
//
// It prints a line NAME_IMAGE=IMAGE for each, the build arguments of examples/.
// With -tag it also gives the images the names that examples/ has by default,
// such as python:3.11-slim, unless an image has that name already.
//
// Nothing is fetched and nothing installed. An image made once is found again by
// its name, which is a hash of the packages' versions and of this program.
// Limits: Debian and what derives from it, on the platform of the engine.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// An image stands for an official one.
type image struct {
	arg, official string
	packages      string            // of Debian, beside those of base
	files         map[string]string // content of /usr/local/bin/NAME
	config        map[string]any    // of the OCI image configuration's "config"
}

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var images = []image{
	{"PYTHON_IMAGE", "python:3.11-slim", "python3 python3-pip python3-fastapi uvicorn python3-asyncpg python3-redis", nil, map[string]any{
		// pip finds every requirement installed. Debian's packages do not always fit each other's metadata.
		"Env": []string{searchPath, "PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_NO_INDEX=1", "PIP_NO_DEPS=1"},
		"Cmd": []string{"python3"},
	}},
	{"NODE_IMAGE", "node:22-slim", "nodejs", nil, map[string]any{"Env": []string{searchPath}, "Cmd": []string{"node"}}},
	{"POSTGRES_IMAGE", "postgres:16", "postgresql", map[string]string{"docker-entrypoint.sh": postgresEntrypoint}, map[string]any{
		"Env":        []string{searchPath, "PGDATA=/var/lib/postgresql/data"},
		"Entrypoint": []string{"docker-entrypoint.sh"}, "Cmd": []string{"postgres"},
		"StopSignal": "SIGINT", "Volumes": map[string]any{"/var/lib/postgresql/data": struct{}{}},
	}},
	{"REDIS_IMAGE", "redis:7.2", "redis-server", map[string]string{"docker-entrypoint.sh": redisEntrypoint}, map[string]any{
		"Env": []string{searchPath}, "WorkingDir": "/data",
		"Entrypoint": []string{"docker-entrypoint.sh"}, "Cmd": []string{"redis-server"},
		"Volumes": map[string]any{"/data": struct{}{}},
	}},
	{"PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0", "prometheus", nil, map[string]any{
		"Env": []string{searchPath}, "User": "nobody", "WorkingDir": "/prometheus",
		"Entrypoint": []string{"/bin/prometheus"},
		"Cmd":        []string{"--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"},
		"Volumes":    map[string]any{"/prometheus": struct{}{}},
	}},
}

// Both entrypoints do what the official ones do with a command: prepare and drop
// privileges for the server, and run anything else as it stands.
const (
	postgresEntrypoint = `#!/bin/sh
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
if [ "$1" = postgres ]; then
	if [ "$(id -u)" = 0 ]; then
		mkdir -p "$PGDATA" /run/postgresql
		chown postgres: "$PGDATA" /run/postgresql
		chmod 700 "$PGDATA"
		exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
	fi
	if ! [ -s "$PGDATA/PG_VERSION" ]; then
		initdb --no-sync --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256
		echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
		echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single postgres
	fi
	shift
	set -- postgres -c listen_addresses='*' "$@"
fi
exec "$@"
`
	redisEntrypoint = `#!/bin/sh
set -eu
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
	chown redis: .
	exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi
exec "$@"
`
)

// base are the packages of every image. An image has the files of its packages and
// of all that they depend on.
const base = "base-files coreutils dash grep sed libc-bin util-linux"

// without are packages that nothing here runs, though others depend on them: they
// install and configure, are for PostgreSQL's JIT or for Prometheus' old pages. Fewer
// files matter: where the engine has no real overlayfs, a build reads them all at each step.
func without(name string) bool {
	for _, prefix := range []string{"perl", "postgresql-common", "postgresql-client-common", "libllvm", "libz3", "libjs-", "fonts-", "debconf", "adduser", "dpkg", "apt", "init-system-helpers", "locales", "ucf", "ca-certificates", "openssl", "ssl-cert", "bash",
		"python3-setuptools", "python3-pkg-resources", "python3-wheel", "python3-distutils", "python3-lib2to3", "media-types"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

const passwd = `root:x:0:0:root:/root:/bin/sh
postgres:x:999:999::/var/lib/postgresql:/bin/sh
redis:x:998:998::/data:/bin/sh
node:x:1000:1000::/:/bin/sh
nobody:x:65534:65534::/:/bin/sh
`

//go:embed main.go
var source []byte

func main() {
	tag := flag.Bool("tag", false, "give the images the official names, too, where those are free")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*tag); err != nil {
		fmt.Fprintf(os.Stderr, "standin: %v\n", err)
		os.Exit(1)
	}
}

func run(tag bool) error {
	installed, err := installedPackages()
	if err != nil {
		return err
	}
	common, err := installed.closure(base)
	if err != nil {
		return err
	}
	own := map[string][]pkg{}
	hash := sha256.New()
	hash.Write(source)
	for _, i := range images {
		if own[i.arg], err = installed.closure(i.packages); err != nil {
			return err
		}
		own[i.arg] = slices.DeleteFunc(own[i.arg], func(p pkg) bool { return slices.Contains(common, p) })
		fmt.Fprintln(hash, common, own[i.arg])
	}
	version := hex.EncodeToString(hash.Sum(nil))[:12]
	name := func(i image) string {
		return "healthcheck-standin/" + strings.ToLower(strings.TrimSuffix(i.arg, "_IMAGE")) + ":" + version
	}

	if !slices.ContainsFunc(images, func(i image) bool { return !exists(name(i)) }) {
		fmt.Fprintln(os.Stderr, "standin: the images are there already")
	} else if err := load(common, own, name); err != nil {
		return err
	}
	for _, i := range images {
		fmt.Printf("%s=%s\n", i.arg, name(i))
		if tag && !exists(i.official) {
			if err := docker(nil, "tag", name(i), i.official); err != nil {
				return err
			}
		}
	}
	return nil
}

func exists(image string) bool {
	return exec.Command("docker", "image", "inspect", image).Run() == nil
}

func docker(stdin io.Reader, args ...string) error {
	cmd := exec.Command("docker", args...)
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w\n%s", args[0], err, out)
	}
	return nil
}

type pkg struct {
	name, version, depends string
	files                  string // dpkg's list of them
}

// inventory is every installed package by its name, and those that provide a name.
type inventory struct{ named, providing map[string]pkg }

func installedPackages() (inventory, error) {
	in := inventory{map[string]pkg{}, map[string]pkg{}}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Status}\t${Package}\t${binary:Package}\t${Version}\t${Pre-Depends}, ${Depends}\t${Provides}\n").Output()
	if err != nil {
		return in, fmt.Errorf("dpkg-query: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if f[0] != "installed" {
			continue
		}
		p := pkg{f[1], f[3], f[4], "/var/lib/dpkg/info/" + f[2] + ".list"}
		if _, err := os.Stat(p.files); err != nil {
			p.files = "/var/lib/dpkg/info/" + f[1] + ".list"
		}
		in.named[p.name] = p
		for provided := range names(f[5]) {
			in.providing[provided] = p
		}
	}
	return in, nil
}

// closure returns packages, a list between spaces, and those that they depend on, sorted.
func (in inventory) closure(packages string) ([]pkg, error) {
	roots := strings.Fields(packages)
	found := map[string]pkg{}
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		p, ok := in.named[queue[0]]
		if !ok {
			p, ok = in.providing[queue[0]]
		}
		if !ok && slices.Contains(roots, queue[0]) {
			return nil, fmt.Errorf("package %s of Debian is not installed", queue[0])
		}
		if _, seen := found[p.name]; !ok || seen || without(p.name) {
			continue
		}
		found[p.name] = p
		for name := range names(p.depends) {
			queue = append(queue, name)
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b pkg) int { return strings.Compare(a.name, b.name) }), nil
}

// names yields the packages of a field like "a (>= 1), b:any | c": of a choice all
// that are installed, which is more than needed and never less.
func names(field string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, item := range strings.FieldsFunc(field, func(r rune) bool { return r == ',' || r == '|' }) {
			name, _, _ := strings.Cut(strings.TrimSpace(item), " ")
			name, _, _ = strings.Cut(name, ":")
			if name != "" && !yield(name) {
				return
			}
		}
	}
}

// load gives the engine an archive, as docker save writes them, of all images:
// they share a layer of the common packages' files, and have one of their own.
func load(common []pkg, own map[string][]pkg, name func(image) string) error {
	start := time.Now()
	temp, err := os.MkdirTemp("", "standin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	baseID, err := writeLayer(filepath.Join(temp, "base.tar"), func(l *layer) error { return l.root(common) })
	if err != nil {
		return err
	}
	archive := map[string]string{"base/layer.tar": filepath.Join(temp, "base.tar")}
	var manifest []map[string]any
	for _, i := range images {
		path := filepath.Join(temp, i.arg)
		id, err := writeLayer(path+".tar", func(l *layer) error {
			for file, content := range i.files {
				l.file("usr/local/bin/"+file, 0o755, []byte(content))
			}
			return l.packages(own[i.arg])
		})
		if err != nil {
			return err
		}
		config, err := json.Marshal(map[string]any{
			"os": "linux", "architecture": runtime.GOARCH, "created": time.Unix(0, 0).UTC(), "config": i.config,
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{baseID, id}},
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(path+".json", config, 0o600); err != nil {
			return err
		}
		archive[i.arg+".json"], archive[i.arg+"/layer.tar"] = path+".json", path+".tar"
		manifest = append(manifest, map[string]any{
			"Config": i.arg + ".json", "RepoTags": []string{name(i)},
			"Layers": []string{"base/layer.tar", i.arg + "/layer.tar"},
		})
	}
	content, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { // ends when docker load has read it all, or gone
		l := &layer{tar: tar.NewWriter(w)}
		l.file("manifest.json", 0o644, content)
		for name, path := range archive {
			l.copy(name, path)
		}
		w.CloseWithError(l.close())
	}()
	err = docker(r, "load")
	r.Close()
	if err == nil {
		fmt.Fprintf(os.Stderr, "standin: made %d images in %.0f s\n", len(images), time.Since(start).Seconds())
	}
	return err
}

// writeLayer writes a tar file and returns its digest.
func writeLayer(path string, fill func(*layer) error) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	l := &layer{tar: tar.NewWriter(io.MultiWriter(f, hash)), seen: map[string]bool{}}
	if err := fill(l); err != nil {
		return "", err
	}
	if err := l.close(); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), f.Close()
}

// A layer is a tar archive being written. Its first error sticks.
type layer struct {
	tar  *tar.Writer
	seen map[string]bool
	err  error
}

func (l *layer) close() error {
	if l.err != nil {
		return l.err
	}
	return l.tar.Close()
}

// root writes the files of the common packages, and those that an installation would make.
func (l *layer) root(common []pkg) error {
	l.file("etc/passwd", 0o644, []byte(passwd))
	l.file("etc/group", 0o644, []byte(groups()))
	l.file("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\n"))
	for _, dir := range []string{"tmp", "var/tmp"} {
		l.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o1777})
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "etc", "root", "data", "prometheus", "var/lib/postgresql", "usr/local/bin"} {
		l.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, Uid: map[string]int{"prometheus": 65534}[dir], Gid: map[string]int{"prometheus": 65534}[dir]})
	}
	// Links and caches that no package lists.
	for _, path := range []string{"/bin", "/sbin", "/lib", "/lib64", "/usr/bin/sh", "/usr/bin/which", "/etc/ld.so.cache"} {
		l.add(path)
	}
	return l.packages(common)
}

// packages writes the packages' files.
func (l *layer) packages(list []pkg) error {
	for _, p := range list {
		files, err := os.ReadFile(p.files)
		if err != nil {
			return err
		}
		for path := range strings.Lines(string(files)) {
			l.add(strings.TrimSuffix(path, "\n"))
		}
	}
	return l.err
}

func groups() string {
	var b strings.Builder
	for line := range strings.Lines(passwd) {
		f := strings.Split(line, ":")
		fmt.Fprintf(&b, "%s:x:%s:\n", f[0], f[3])
	}
	return b.String()
}

// add copies a file, folder or link of this machine, but for what a slim image leaves out.
func (l *layer) add(path string) {
	for _, dir := range []string{"/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/", "/usr/include/", "/usr/share/prometheus/"} {
		if strings.HasPrefix(path, dir) {
			return
		}
	}
	// dpkg's lists have /bin/bash where /bin is a link to usr/bin.
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return // removed by hand, or a file that a package has and another diverts
	}
	path = filepath.Join(dir, filepath.Base(path))
	info, err := os.Lstat(path)
	if err != nil || path == "/" {
		return
	}
	name := strings.TrimPrefix(path, "/")
	switch {
	case info.Mode().IsRegular():
		l.copy(name, path)
	case info.IsDir():
		l.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm())})
	case info.Mode()&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return
		}
		l.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
		if strings.HasPrefix(target, "/etc/alternatives/") {
			l.add(target)
		}
	}
}

// copy adds a file's content, as root's.
func (l *layer) copy(name, path string) {
	f, err := os.Open(path)
	if err != nil {
		l.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		l.fail(err)
		return
	}
	if l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size()}) {
		_, err = io.Copy(l.tar, f)
		l.fail(err)
	}
}

func (l *layer) file(name string, mode int64, content []byte) {
	if l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}) {
		_, err := io.Copy(l.tar, bytes.NewReader(content))
		l.fail(err)
	}
}

// header begins a member. It reports false where the name is there already.
func (l *layer) header(h *tar.Header) bool {
	key := strings.TrimSuffix(h.Name, "/")
	if l.err != nil || l.seen[key] {
		return false
	}
	if l.seen != nil {
		l.seen[key] = true
	}
	l.fail(l.tar.WriteHeader(h))
	return l.err == nil
}

func (l *layer) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}
