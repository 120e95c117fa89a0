package testbed

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Nginx starts an nginx that answers plain HTTP at Addr and on the unix socket
// DIR/http.sock. body goes into its server block: locations and the like.
func Nginx(t testing.TB, body string) *Server {
	t.Helper()
	return nginx(t, "", body)
}

// NginxTLS starts one that speaks HTTPS, and nothing else, with the pair's certificate.
func NginxTLS(t testing.TB, pair Pair, body string) *Server {
	t.Helper()
	return nginx(t, " ssl", "ssl_certificate "+pair.Cert+"; ssl_certificate_key "+pair.Key+";\n"+body)
}

// HTTPSocket returns the path of nginx's unix socket.
func (s *Server) HTTPSocket() string { return filepath.Join(s.Dir, "http.sock") }

func nginx(t testing.TB, listenOption, body string) *Server {
	t.Helper()
	return start(t, program{
		path: Need(t, "nginx"),
		setup: func(s *Server) []string {
			conf := nginxConf
			if !HasIPv6() {
				conf = strings.Replace(conf, "listen [::1]:PORT;", "", 1)
			}
			conf = strings.NewReplacer("PORT;", s.Port+listenOption+";", "SOCKET", s.HTTPSocket(), "DIR", s.Dir, "BODY", body).Replace(conf)
			file := filepath.Join(s.Dir, "nginx.conf")
			writeFile(t, file, conf, nil)
			return []string{"-p", s.Dir, "-e", "stderr", "-c", file}
		},
		ready: func(s *Server) error {
			conn, err := net.DialTimeout("unix", s.HTTPSocket(), time.Second)
			if err != nil {
				return err
			}
			conn.Close()
			return listens(s)
		},
	})
}

const nginxConf = `
daemon off;
master_process off;
pid DIR/nginx.pid;
events { worker_connections 64; }
http {
	access_log DIR/access.log;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	default_type text/plain;
	server {
		listen 127.0.0.1:PORT;
		listen [::1]:PORT;
		listen unix:SOCKET;
		BODY
	}
}
`
