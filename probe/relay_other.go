//go:build !linux

package probe

// RelayReports does nothing: PID namespaces are Linux's.
func RelayReports([]Result) {}

// ListenReports returns nil, since there are no reports.
func ListenReports() (*Reports, error) { return nil, nil }
