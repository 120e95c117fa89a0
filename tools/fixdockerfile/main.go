// Fixdockerfile makes Dockerfiles follow the platform's health check pattern
// and changes nothing else in them:
//
//	FROM alfred/healthcheck:0.4.0 AS healthcheck
//	FROM python:3.11-slim
//	COPY --from=healthcheck /usr/local/bin/healthcheck /usr/local/bin/
//	…
//	EXPOSE 9091
//	CMD ["healthcheck", "--export-prom", ":9091", "--", "…"]
//
// It is run as ./fix-dockerfile-healthcheck.sh DOCKERFILE... at the project's root.
//
// What it decides where there is a choice:
//
//   - The last stage is the service. What it runs is found as Docker finds it, through
//     the stages it is built on. ENTRYPOINT is wrapped where there is one, else CMD; a
//     wrapper that stands in CMD behind an ENTRYPOINT moves to the front.
//   - A shell form goes through its shell, with exec before its last command where that is
//     sure to change nothing but who gets the signals: see exec.go.
//   - A wrapper in a script is cut out and the script stays, with its shells; where
//     that may change what it does, or a script that is made elsewhere in the file has
//     a wrapper, that is an error.
//   - A wrapper's port becomes :9091, its other options stay. A HEALTHCHECK of the old
//     port follows.
//   - COPYs of the binary and EXPOSE 9091 in other stages are removed; a stage whose
//     RUN uses the binary, or whose files are copied, keeps its COPY, or it would not build.
//   - Images whose entrypoint looks at its first word, as those of databases do, have
//     it called once more behind the wrapper: see dispatching in command.go.
//   - The healthcheck stage has the --platform of the final stage.
//   - What the base image alone knows, it does not guess: see -cmd.
//
// A result is parsed and fixed once more before it is written: if a second run
// would change it, or Docker would read another Dockerfile, it is not written.
//
// Exit status: 0 when every Dockerfile follows the pattern now, 1 when one could
// not be fixed or, with -check, does not follow it, 2 for a usage error.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"alfred/healthcheck/tools/fixdockerfile/dockerfile"
)

// defaultImage is the image of the checkout's version. fix-dockerfile-healthcheck.sh
// reads the version from the root's main.go and sets it: -ldflags "-X main.defaultImage=…".
var defaultImage string

const usage = `usage: fix-dockerfile-healthcheck.sh [OPTION...] DOCKERFILE...

Makes Dockerfiles follow the health check pattern: the healthcheck stage first, its
binary copied into the last stage, EXPOSE 9091, and ENTRYPOINT or CMD wrapped.

  -check         change nothing; show what would change and exit 1
  -cmd COMMAND   what a service runs whose Dockerfile has neither CMD nor ENTRYPOINT:
                 'nginx -g "daemon off;"' or '["nginx", "-g", "daemon off;"]'
  -image IMAGE   the healthcheck image (default %s)
  -port PORT     the metrics port (default 9091)
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program. It returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	o := options{image: defaultImage, port: 9091}
	check, files, err := parseArgs(&o, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, usage, cmp.Or(defaultImage, "none: run fix-dockerfile-healthcheck.sh"))
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "fixdockerfile: %v\nhint: fix-dockerfile-healthcheck.sh [-check] DOCKERFILE...; -h shows every option\n", err)
		return 2
	}
	status := 0
	for _, name := range files {
		changes, diff, err := fixFile(name, o, !check)
		switch {
		case err != nil:
			report(stderr, name, err)
			status = 1
		case len(changes) == 0:
			fmt.Fprintf(stdout, "%s: ok\n", name)
		case check:
			fmt.Fprintf(stdout, "%s: to fix: %s\n%s", name, strings.Join(changes, ", "), diff)
			status = 1
		default:
			fmt.Fprintf(stdout, "%s: fixed: %s\n", name, strings.Join(changes, ", "))
		}
	}
	return status
}

// parseArgs reads options and files in any order: an option behind a file must
// not be taken for another file.
func parseArgs(o *options, args []string) (check bool, files []string, err error) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&check, "check", false, "")
	fs.StringVar(&o.image, "image", o.image, "")
	fs.IntVar(&o.port, "port", o.port, "")
	fs.Func("cmd", "", func(s string) (err error) {
		o.command, o.script, err = parseCommand(s)
		return err
	})
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return false, nil, err
		}
		rest := fs.Args()
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			files = append(files, rest...)
			break
		}
		if args = nil; len(rest) > 0 {
			files, args = append(files, rest[0]), rest[1:]
		}
	}
	switch {
	case o.port < 1 || o.port > 65535:
		return false, nil, fmt.Errorf("-port %d: want 1 to 65535", o.port)
	case repository(o.image) == "" || strings.ContainsAny(o.image, " \t\r\n$\\`\"'"):
		return false, nil, fmt.Errorf("-image %q: want NAME:TAG", o.image)
	case len(files) == 0:
		return false, nil, errors.New("no Dockerfile given")
	}
	return check, files, nil
}

// parseCommand reads the value of -cmd: a JSON array, a line of plain words, or
// a line that a shell must run.
func parseCommand(s string) (words []string, script string, err error) {
	if s = strings.TrimSpace(s); strings.HasPrefix(s, "[") {
		if err := json.Unmarshal([]byte(s), &words); err != nil || len(words) == 0 {
			return nil, "", errors.New("no JSON array of strings")
		}
		return words, "", nil
	}
	if s == "" || strings.ContainsAny(s, "\n\r") || !valid([]string{s}) {
		return nil, "", errors.New("want one line")
	}
	if words, ok := simpleCommand(s); ok {
		return words, "", nil
	}
	if _, err := shellTokens(s); err != nil {
		return nil, "", err
	}
	return nil, s, nil
}

// report prints why a file was not fixed: what and where, then what to do.
func report(w io.Writer, name string, err error) {
	var mine *problem
	var parse *dockerfile.Error
	var file *os.PathError
	switch {
	case errors.As(err, &mine):
		fmt.Fprintf(w, "fixdockerfile: %s:%d: %s\nhint: %s\n", name, mine.line, mine.what, mine.hint)
	case errors.As(err, &parse):
		fmt.Fprintf(w, "fixdockerfile: %s:%d: %s\nhint: %s\n", name, parse.Line, parse.What, parse.Hint)
	case errors.As(err, &file):
		fmt.Fprintf(w, "fixdockerfile: %s: %v\nhint: give the path of a Dockerfile that can be read, in a folder that can be written\n", name, file.Err)
	default:
		fmt.Fprintf(w, "fixdockerfile: %s: %v\nhint: give the path of a Dockerfile\n", name, err)
	}
}

// fixFile fixes one file, or only says what it would change, with a diff.
func fixFile(name string, o options, write bool) (changes []string, diff string, err error) {
	// through a symbolic link to the file itself, which rename would replace
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, "", err
	}
	info, err := os.Stat(target)
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() {
		return nil, "", errors.New("not a regular file")
	}
	before, err := os.ReadFile(target)
	if err != nil {
		return nil, "", err
	}
	after, changes, err := fix(before, o)
	if err != nil || len(changes) == 0 {
		return nil, "", err
	}
	if !write {
		return changes, unified(name, before, after), nil
	}
	return changes, "", replaceFile(target, info, after)
}

// replaceFile puts a new file in the place of target, in one step: whoever
// reads it sees the old content or the new. Mode and, where allowed, owner stay.
func replaceFile(target string, info os.FileInfo, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		tmp.Chown(int(owner.Uid), int(owner.Gid)) // only root can; then the file is the user's
	}
	if err := tmp.Chmod(info.Mode()); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), target)
}
