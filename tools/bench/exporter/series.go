package main

// A family of the metrics healthcheck exports.
type family struct {
	name, help string
	counter    bool
	labels     []string // names
	series     []series
}

type series struct {
	values []string // of the labels
	value  float64
}

// families are those of healthcheck with four checks and a command, all of
// whose values are known.
var families = []family{
	gauge("service_up", "1 while the command runs.", 1),
	gauge("service_health", "Verdict over all checks: 1 ok, 0.5 degraded, 0 error.", 0.5),
	{"probe_success", "Whether the last check passed.", false, checkType, each(1, 1, 0, 1)},
	{"probe_duration_seconds", "Time the last check took.", false, checkType, each(0.004217, 0.000381, 5, 0.011902)},
	{"probe_http_status_code", "Status of the last HTTP check.", false, []string{"check"}, []series{{[]string{"api"}, 200}}},
	{"probe_ssl_earliest_cert_expiry", "Earliest expiry of the certificates seen, in Unix time.", false, []string{"check"}, []series{
		{[]string{"api"}, 1798761599}, {[]string{"database"}, 1830297599},
	}},
	{"healthcheck_check_info", "What each check looks at.", false, []string{"check", "type", "target"}, []series{
		{[]string{"api", "http", "https://api.internal:8443/health"}, 1},
		{[]string{"queue", "tcp", "queue.internal:5672"}, 1},
		{[]string{"cache", "redis", "redis://cache.internal:6379/0"}, 1},
		{[]string{"database", "postgres", "postgres://app@database.internal:5432/app"}, 1},
	}},
	{"healthcheck_check_runs_total", "Checks run, by result.", true, []string{"check", "type", "result"}, []series{
		{[]string{"api", "http", "success"}, 5741}, {[]string{"api", "http", "failure"}, 12}, {[]string{"api", "http", "timeout"}, 3},
		{[]string{"queue", "tcp", "success"}, 5756}, {[]string{"queue", "tcp", "failure"}, 0}, {[]string{"queue", "tcp", "timeout"}, 0},
		{[]string{"cache", "redis", "success"}, 5702}, {[]string{"cache", "redis", "failure"}, 1}, {[]string{"cache", "redis", "timeout"}, 53},
		{[]string{"database", "postgres", "success"}, 5756}, {[]string{"database", "postgres", "failure"}, 0}, {[]string{"database", "postgres", "timeout"}, 0},
	}},
	{"healthcheck_check_consecutive_failures", "Failures since the last success.", false, checkType, each(0, 0, 53, 0)},
	{"healthcheck_check_last_success_timestamp_seconds", "Unix time of the last success.", false, checkType,
		each(1767225600.123, 1767225600.119, 1767224805.5, 1767225600.131)},
	{"healthcheck_dependency_health", "What a check reports of a dependency: 1 ok, 0.5 degraded, 0 error.", false, []string{"check", "dependency"}, []series{
		{[]string{"api", "database"}, 1}, {[]string{"api", "search"}, 0.5}, {[]string{"api", "mail"}, 1},
	}},
	gauge("healthcheck_command_up", "1 while the command runs.", 1),
	gauge("healthcheck_command_start_time_seconds", "Unix time at which the command started.", 1767139201.25),
	gauge("healthcheck_command_processes", "Processes of the command.", 9),
	gauge("healthcheck_command_threads", "Threads of the command.", 41),
	gauge("healthcheck_command_open_fds", "File descriptors the command has open.", 212),
	gauge("healthcheck_command_max_fds", "File descriptors the command may have open.", 1048576),
	gauge("healthcheck_command_resident_memory_bytes", "Resident memory of the command.", 412340224),
	gauge("healthcheck_command_virtual_memory_bytes", "Virtual memory of the command.", 6442450944),
	{"healthcheck_command_cpu_seconds_total", "CPU time the command used.", true, []string{"mode"}, []series{
		{[]string{"user"}, 1834.71}, {[]string{"system"}, 202.03},
	}},
	counter("healthcheck_orphans_reaped_total", "Orphans reaped.", 17),
	{"healthcheck_signals_forwarded_total", "Signals passed on to the command.", true, []string{"signal"}, []series{
		{[]string{"HUP"}, 2}, {[]string{"USR1"}, 5},
	}},
	counter("healthcheck_process_cpu_seconds_total", "CPU time healthcheck used.", 9.42),
	gauge("healthcheck_process_resident_memory_bytes", "Resident memory of healthcheck.", 7155712),
	gauge("healthcheck_process_start_time_seconds", "Unix time at which healthcheck started.", 1767139201.21),
	{"healthcheck_build_info", "How healthcheck was built.", false, []string{"version", "revision", "goversion", "goos", "goarch"}, []series{
		{[]string{"0.4.0", "0123456789abcdef0123456789abcdef01234567", "go1.26", "linux", "amd64"}, 1},
	}},
}

var checkType = []string{"check", "type"}

// each gives a value to each of the four checks.
func each(api, queue, cache, database float64) []series {
	return []series{
		{[]string{"api", "http"}, api},
		{[]string{"queue", "tcp"}, queue},
		{[]string{"cache", "redis"}, cache},
		{[]string{"database", "postgres"}, database},
	}
}

func gauge(name, help string, value float64) family {
	return family{name, help, false, nil, []series{{nil, value}}}
}

func counter(name, help string, value float64) family {
	return family{name, help, true, nil, []series{{nil, value}}}
}
