package probe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// maxFile is the largest file that an option, a URL or a variable may name, in bytes: a
// certificate, a key, a password file, a service file, a secret. Kubernetes and Docker limit a
// secret to 1 MiB and 500 KB. Debian's CA bundle is a fifth of maxFile.
const maxFile = 1 << 20

// maxFileWait is how long a file of /proc, such as /proc/kmsg, may keep a reader waiting.
const maxFileWait = time.Second

// errNotRegular is the reason why readRegularFile refuses a device, a FIFO, a socket or a
// directory.
var errNotRegular = errors.New("not a regular file")

// readRegularFile reads a whole file of at most max bytes. It never blocks on a FIFO and never
// reads a device, which may be endless. Its error holds the reason without the path.
func readRegularFile(path string, max int64) ([]byte, error) {
	content, _, err := readFileMode(path, max)
	return content, err
}

// readFileMode is readRegularFile, and also returns the file's permissions, even if the file is too
// large or cannot be read.
func readFileMode(path string, max int64) (content []byte, mode fs.FileMode, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, syscall.ENXIO) { // a socket, which cannot be opened at all
			err = errNotRegular
		}
		return nil, 0, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errNotRegular
	}
	f.SetReadDeadline(time.Now().Add(maxFileWait))      // for a file of /proc that waits for content; others have no deadline and do not wait
	content, err = io.ReadAll(io.LimitReader(f, max+1)) // Size cannot bound it: it is 0 for files of /proc
	if err != nil {
		return nil, info.Mode().Perm(), reason(err)
	}
	if int64(len(content)) > max {
		return nil, info.Mode().Perm(), fmt.Errorf("larger than %d KiB", max>>10)
	}
	return content, info.Mode().Perm(), nil
}
