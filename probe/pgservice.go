package probe

import (
	"errors"
	"path/filepath"
	"strings"

	"alfred/healthcheck/wire"
)

// pgSystemConfig is the folder of the system's service file if PGSYSCONFDIR is not set. Debian and
// the official images build libpq with this folder.
const pgSystemConfig = "/etc/postgresql-common"

// setService sets the parameters of the service that the URI or PGSERVICE names. As in libpq
// (PostgreSQL documentation 34.17), it searches PGSERVICEFILE, by default ~/.pg_service.conf, and
// then the system's file.
func (t *pgTarget) setService(env *environment, home string) error {
	service := t.uri.Get("service")
	if service == "" {
		service = env.get("PGSERVICE")
	}
	if service == "" {
		return nil
	}
	files := []struct {
		path     string
		required bool
	}{{env.get("PGSERVICEFILE"), true}, {filepath.Join(pgSystemConfig, "pg_service.conf"), false}}
	if files[0].path == "" && home != "" {
		files[0].path, files[0].required = filepath.Join(home, ".pg_service.conf"), false
	}
	if dir := env.get("PGSYSCONFDIR"); dir != "" {
		files[1].path = filepath.Join(dir, "pg_service.conf")
	}
	var looked []string
	for _, f := range files {
		if f.path == "" {
			continue
		}
		looked = append(looked, t.show(f.path))
		if !f.required && !exists(f.path) {
			continue
		}
		where := "service file " + t.show(f.path) + ": "
		text, err := readRegularFile(f.path, maxFile)
		if err != nil {
			return Usagef("check the path, and that the user of this container may read it", "%s%v", where, err)
		}
		found, err := t.uri.SetService(string(text), service)
		var e *wire.PGServiceError
		if errors.As(err, &e) {
			return Usagef(e.Hint, "%s%v", where, e)
		}
		if found {
			return nil
		}
	}
	return Usagef("define it there as [NAME] and lines of parameter=value, or name another file in PGSERVICEFILE",
		"service %s is not defined in %s", t.show(service), strings.Join(looked, ", "))
}
