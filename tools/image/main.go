// Image writes the healthcheck image as an archive, without Docker: for machines
// that no registry reaches.
//
//	go run ./tools/image                # tools/healthcheck-0.4.0.tar.gz
//	go run ./tools/image -arch arm64    # tools/healthcheck-0.4.0-arm64.tar.gz
//
// The archive is read by docker load, by podman load, and as docker-archive: and
// oci-archive: by podman and skopeo. containerd before 2.0 does not decompress:
//
//	gunzip -c tools/healthcheck-0.4.0.tar.gz | ctr -n k8s.io images import -
//
// It holds what the Dockerfile builds: the binary is the same to the bit where both
// used one Go release, since both run tools/build.sh.
//
// One source, one -revision and one Go release give one archive, whoever writes it, where and
// when: entries are sorted, owned by root, and dated 2026-01-01 unless
// SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch) says otherwise.
//
// Exit status: 0 when the archive is written, 1 when it could not be, 2 for a
// usage error.
package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const usage = `usage: go run ./tools/image [-arch ARCH] [-revision REVISION] [-o FILE]

Writes the healthcheck image as an archive, without Docker.

  -arch ARCH           amd64 (default) or arm64
  -revision REVISION   the commit that healthcheck_build_info reports, as
                       git rev-parse HEAD prints it; default: none
  -o FILE              default tools/healthcheck-VERSION.tar.gz in the project's
                       root, with -ARCH behind the version if it is not amd64
`

// defaultEpoch dates everything in the archive: 2026-01-01 00:00:00 UTC.
const defaultEpoch = 1767225600

var arches = []string{"amd64", "arm64"}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	var arch, revision, out string
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&arch, "arch", arches[0], "")
	fs.StringVar(&revision, "revision", "", "")
	fs.StringVar(&out, "o", "", "")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(stdout, usage)
		return 0
	case err == nil && fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case err == nil && !slices.Contains(arches, arch):
		err = fmt.Errorf("-arch %s: want one of %s", arch, strings.Join(arches, ", "))
	}
	created, epochErr := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err := cmp.Or(err, epochErr); err != nil {
		fmt.Fprintf(stderr, "image: %v\nhint: go run ./tools/image [-arch ARCH] [-revision REVISION] [-o FILE]; -h says more\n", err)
		return 2
	}
	if err := write(arch, revision, out, created, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "image: %v\n", err)
		return 1
	}
	return 0
}

// sourceDate reads a value of SOURCE_DATE_EPOCH, seconds since 1970. Its upper
// bound is what a ustar header holds: 11 octal digits.
func sourceDate(value string) (time.Time, error) {
	if value == "" {
		return time.Unix(defaultEpoch, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || seconds < 0 || seconds >= 1<<33 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", value)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// write builds the binary and writes the archive of it.
func write(arch, revision, out string, created time.Time, stdout, stderr io.Writer) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	version, err := sourceVersion(filepath.Join(root, "main.go"))
	if err != nil {
		return err
	}
	if out == "" {
		suffix := ""
		if arch != arches[0] {
			suffix = "-" + arch
		}
		out = filepath.Join(root, "tools", "healthcheck-"+version+suffix+".tar.gz")
	}
	binary, err := build(root, arch, revision, stderr)
	if err != nil {
		return err
	}
	img := newImage(binary, version, arch, created)
	var archive bytes.Buffer
	if err := img.writeArchive(&archive); err != nil {
		return err
	}
	if err := writeFile(out, archive.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s  %d bytes  sha256:%x\n", out, archive.Len(), sha256.Sum256(archive.Bytes()))
	fmt.Fprintf(stdout, "%s  linux/%s  manifest %s  config %s\n", img.name(), arch, digest(img.manifest), digest(img.config))
	return nil
}

// moduleRoot returns the folder of the module that the current directory is in.
func moduleRoot() (string, error) {
	cmd := exec.Command("go", "env", "GOMOD")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(root, "tools", "build.sh")); err != nil {
		return "", errors.New("this is not the healthcheck checkout\nhint: cd to the project's root, then go run ./tools/image")
	}
	return root, nil
}

// sourceVersion returns the constant Version of a Go file: a binary for another
// platform cannot be asked.
func sourceVersion(name string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	for _, decl := range file.Decls {
		constants, ok := decl.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, spec := range constants.Specs {
			spec := spec.(*ast.ValueSpec)
			for i, ident := range spec.Names {
				if ident.Name != "Version" || i >= len(spec.Values) {
					continue
				}
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					return strconv.Unquote(lit.Value)
				}
			}
		}
	}
	return "", fmt.Errorf("%s: no constant Version that is a string", name)
}

// build returns the binary that tools/build.sh makes for linux on arch. An empty
// revision is none. tools/build.sh refuses a malformed one, on stderr.
func build(root, arch, revision string, stderr io.Writer) ([]byte, error) {
	dir, err := os.MkdirTemp("", "healthcheck-image")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "healthcheck")
	cmd := exec.Command("sh", filepath.Join(root, "tools", "build.sh"), binary, revision)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch)
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("tools/build.sh: %w", err)
	}
	return os.ReadFile(binary)
}

// writeFile writes through a temporary file, so that a name holds a whole archive or none.
func writeFile(name string, content []byte) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file that could be replaced", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err := cmp.Or(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
