package probe

import (
	"context"
	"net"
	"strconv"
	"strings"

	"alfred/healthcheck/wire"
)

// parseTCP reads the value of --tcp: HOST:PORT, [IPv6]:PORT.
func parseTCP(env *environment, c *Check, x expanded) error {
	if strings.Contains(x.text, "://") {
		return Usagef("as in --tcp localhost:5432, without a scheme", "a host and a port are wanted, not a URL")
	}
	host, port, err := net.SplitHostPort(x.text)
	if err != nil || host == "" || !wire.ConsistsOf(host, "._:-%") {
		return Usagef("as in --tcp localhost:5432 or --tcp [::1]:5432", "HOST:PORT is wanted")
	}
	if err := checkPort(port, true); err != nil {
		return err
	}
	address := net.JoinHostPort(host, port)
	c.Target, c.address = address, address
	c.probe = func(ctx context.Context, r *run) *failure {
		conn, f := dial(ctx, r, "tcp", address)
		if f != nil {
			return f
		}
		if err := conn.Close(); err != nil {
			return r.failIO(PhaseConnect, err)
		}
		r.Message = "connected"
		return nil
	}
	return nil
}

// badURL is the hint for what net/url does not take. Its own words hold the URL.
const badURL = "a port is a number; percent-encode what is special in user name and password, or insert them with ${VAR}"

// checkPort checks a port in decimal; whether it may be missing is given's.
func checkPort(port string, given bool) error {
	if port == "" && !given {
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Usagef("a port is a number from 1 to 65535", "the port is missing or not valid")
	}
	return nil
}
