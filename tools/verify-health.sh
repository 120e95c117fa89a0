#!/usr/bin/env bash
# Verifies that running containers follow the platform's health check pattern. --help explains the table.
set -euo pipefail

usage() {
	cat <<'END'
usage: verify-health.sh [--project NAME] [--wait SECONDS] [CONTAINER...]

Looks at each container, all that run unless some are named, and prints a table:

  HEALTH   what the engine says: healthy, unhealthy, starting, none
  PROBE    whether the container's own healthcheck test passes, run in it now
  VERDICT  the status that its /health reports: ok, degraded, starting, error,
           draining; unknown if nothing is checked; waiting if its command has
           not been started. ok and degraded are fine
  METRICS  where they are published, and the category of that port:
           core 9091-9099, infrastructure 9101-9103, database 9120-9124,
           monitoring 9100 and 9187; each port must be unique

  --project NAME   the containers of a compose project, stopped ones too
  --wait SECONDS   how long to wait, in total, for containers that are starting

Each finding is printed once, on a line below the table.
Exit: 0 if there is none, 1 if there are some, 2 for wrong usage or if the engine
does not answer.
END
}

# refuse MESSAGE HINT: ends the script for wrong usage.
refuse() {
	printf 'verify-health.sh: %s\nhint: %s\n' "$1" "$2" >&2
	exit 2
}

project='' wait=0 containers=()
while (($#)); do
	case $1 in
	-h | -help | --help)
		usage
		exit
		;;
	--project | --wait)
		[[ ${2-} ]] || refuse "$1 has no value" 'see --help'
		if [[ $1 == --project ]]; then project=$2; else wait=$2; fi
		shift
		;;
	--)
		shift
		containers+=("$@")
		break
		;;
	-*) refuse "unknown option $1" 'see --help' ;;
	*) containers+=("$1") ;;
	esac
	shift
done
[[ $wait =~ ^[0-9]{1,6}$ ]] || refuse '--wait takes whole seconds' '--wait 120'
if [[ $project ]] && ((${#containers[@]})); then
	refuse 'both --project and containers are given' 'name one of the two'
fi
command -v docker >/dev/null || refuse 'docker is not installed' 'run this where the containers run'

if ((${#containers[@]} == 0)); then
	list=(--no-trunc --format '{{.Names}} {{.ID}}')
	if [[ $project ]]; then
		list+=(--all --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False)
	fi
	found=$(docker ps "${list[@]}") || refuse 'the engine does not answer' 'docker info'
	while read -r _ id; do
		[[ ! $id ]] || containers+=("$id")
	done < <(sort <<<"$found")
fi
if ((${#containers[@]} == 0)); then
	printf 'no container%s: nothing is verified\n' "${project:+ of project $project}"
	exit 1
fi

# The fields that docker inspect prints, each terminated by a zero byte, since output and label may hold anything. The
# ports are printed as JSON: the names of their fields in Go differ between releases.
# shellcheck disable=SC2016 # these are the template's variables
template='{{$end := "\x00"}}{{$said := ""}}{{$health := "none"}}{{$test := ""}}
{{- with .State.Health}}{{$health = .Status}}{{range .Log}}{{$said = .Output}}{{end}}{{end -}}
{{.Name}}{{$end}}{{.State.Status}} ({{.State.ExitCode}}){{$end}}{{$health}}{{$end}}{{$said}}{{$end}}
{{- index .Config.Labels "metrics_port"}}{{$end}}{{.HostConfig.NetworkMode}}{{$end}}
{{- json .NetworkSettings.Ports}}{{$end}}
{{- with .Config.Healthcheck}}{{range .Test}}{{.}}{{$end}}{{end}}{{end}}'

possible='^[a-zA-Z0-9][a-zA-Z0-9_.-]*$' # a container's name

# inspect CONTAINER: sets name, state, health, said, label, network, ports and the array check.
inspect() {
	local item
	item=() check=()
	[[ $1 =~ $possible ]] || return 1
	while IFS= read -r -d '' field; do
		item+=("$field")
	done < <(docker inspect --type container --format "$template" -- "$1" 2>/dev/null)
	((${#item[@]} >= 7)) || return 1
	name=${item[0]#/} state=${item[1]} health=${item[2]} said=${item[3]} label=${item[4]} network=${item[5]} ports=${item[6]}
	# This is how the template prints a missing label.
	[[ $label != '<no value>' ]] || label=''
	check=("${item[@]:7}")
}

# line TEXT: its first line, short and without control characters.
line() {
	local text=${1%%$'\n'*}
	text=${text//[[:cntrl:]]/?}
	printf '%s' "${text:0:300}"
}

problems=() # the findings
# wrong REASON: adds a finding about the current container.
wrong() {
	problems+=("$name: $1")
}

# bounded COMMAND...: runs it, for at most 30 s if timeout is installed.
if command -v timeout >/dev/null; then
	bounded() { timeout 30 "$@"; }
else
	bounded() { "$@"; }
fi

# probe: runs the container's test in it, as the engine does; sets probed, finding to what is wrong with the test and
# the engine's verdict, and explained to yes if finding shows the failing check.
probe() {
	local argv=() out status=0
	finding='' explained=''
	case ${check[0]-} in
	CMD) argv=("${check[@]:1}") ;;
	CMD-SHELL) argv=(/bin/sh -c "${check[1]-}") ;;
	*)
		probed=-
		finding='it has no healthcheck: add test: ["CMD", "healthcheck"] to its compose entry'
		return
		;;
	esac
	out=$(bounded docker exec -- "$container" "${argv[@]}" 2>&1 </dev/null) || status=$?
	if ((status == 0)); then
		probed=ok
		case $health in
		healthy) ;;
		starting) finding='it is starting: its probe passes, but the engine has not run it yet' ;;
		*) finding="it is $health, but its probe passes now; the engine's last one: $(line "$said")" ;;
		esac
		return
	fi
	probed=FAIL
	case $status in
	124) finding='its probe did not end within 30 s' ;;
	126 | 127)
		if [[ $out == *'executable file not found'* || $out == *'no such file'* ]]; then
			finding="its probe cannot run: the image has no $(line "${argv[0]}")"
			case ${argv[0]} in
			healthcheck | */healthcheck) finding+=': copy it in the Dockerfile' ;;
			*) finding+=': use test: ["CMD", "healthcheck"]' ;;
			esac
		else
			finding="its probe cannot run: $(line "$out")"
		fi
		;;
	*)
		out=$(line "$out")
		out=${out:-exit status $status}
		explained=yes
		if [[ $health == healthy ]]; then finding="its probe fails: $out"; else finding="it is $health: $out"; fi
		;;
	esac
}

# The engine's host, as seen from here.
host=127.0.0.1
case ${DOCKER_HOST-} in
tcp://* | ssh://*)
	host=${DOCKER_HOST#*://}
	host=${host##*@}
	host=${host%%/*}
	[[ $host == *]* ]] || host=${host%:*}
	host=${host%%]:*}
	;;
esac

# address IP PORT: prints the address at which this host reaches a published port.
address() {
	case $1 in
	'' | 0.0.0.0 | ::) printf '%s:%s' "$host" "$2" ;;
	*:*) printf '[%s]:%s' "$1" "$2" ;;
	*) printf '%s:%s' "$1" "$2" ;;
	esac
}

# category PORT: prints its name in the guide's table, or nothing.
category() {
	case $1 in
	909[1-9]) echo core ;;
	910[1-3]) echo infrastructure ;;
	912[0-4]) echo database ;;
	9100 | 9187) echo monitoring ;;
	esac
}

taken=() # "PORT NAME" of each published metrics port

# locate: finds where the metrics are published; sets published ("IP PORT" each, an IP may be empty), where and kind,
# or fault to the reason why they are not.
locate() {
	local all='' mapping
	where=- kind=- fault='' published=()
	if [[ ! $label ]]; then
		fault='it has no label metrics_port: Prometheus does not find it'
		return
	fi
	if ! [[ $label =~ ^[1-9][0-9]{0,4}$ ]] || ((label > 65535)); then
		fault="its label metrics_port is not a port: $(line "$label")"
		return
	fi
	mapping="\"$label/tcp\":\[([^]]*)\]"
	if [[ $network == host ]]; then
		published=("127.0.0.1 $label")
	elif [[ $ports =~ $mapping ]]; then
		all=${BASH_REMATCH[1]}
	fi
	mapping='"HostIp":"([^"]*)","HostPort":"([0-9]+)"'
	while [[ $all =~ $mapping ]]; do
		published+=("${BASH_REMATCH[1]} ${BASH_REMATCH[2]}")
		all=${all#*"${BASH_REMATCH[0]}"}
	done
	if ((${#published[@]} == 0)); then
		fault="its metrics port $label is not published: map it to a port of the host"
		return
	fi
	where=$(address "${published[0]% *}" "${published[0]#* }")
	kind=$(category "${published[0]#* }")
	kind=${kind:--}
}

# ask: sets verdict to the status of the container's /health, or fault to the reason why there is none.
ask() {
	local text status='"?status"?:? ?"([a-z]+)"' # in JSON, and in the line of a probe
	verdict=-
	if [[ $where == - ]]; then return; fi
	if command -v curl >/dev/null; then
		if ! text=$(curl -q -fsS --noproxy '*' --max-time 10 "http://$where/metrics" 2>&1 | head -c 1000000); then
			fault="its metrics do not answer at $where: $(line "$text")"
			return
		fi
		case $'\n'$text$'\n' in
		*$'\nservice_up 1\n'*) ;;
		*$'\nservice_up 0\n'*)
			verdict=waiting
			return
			;;
		*)
			fault="what answers at $where is not healthcheck: it exports no service_up"
			return
			;;
		esac
		text=$(curl -q -sS --noproxy '*' --max-time 10 "http://$where/health" 2>&1 | head -c 100000) || true
	else # a probe inside the container answers, too, but it cannot see whether the port is published
		text=$(bounded docker exec -- "$container" healthcheck --http "http://localhost:$label/health" 2>&1 </dev/null) || true
	fi
	if [[ $text =~ $status ]]; then
		verdict=${BASH_REMATCH[1]}
	else
		fault="its /health does not answer: $(line "$text")"
	fi
}

# compare_ports: adds a finding for each published port that is in no range, or taken by a container looked at before.
compare_ports() {
	local port seen=' ' other
	for port in ${published[@]+"${published[@]#* }"}; do
		if [[ $seen == *" $port "* ]]; then continue; fi # published on several addresses
		seen+="$port "
		if [[ ! $(category "$port") ]]; then
			wrong "its metrics are published on $port, which is in no range of the guide"
		fi
		for other in ${taken[@]+"${taken[@]}"}; do
			if [[ ${other%% *} == "$port" ]]; then
				wrong "its metrics are published on $port, as are those of ${other#* }"
			fi
		done
		taken+=("$port $name")
	done
}

# probed_url: prints the URL that the container's test checks over HTTP, or an example.
probed_url() {
	local i url=http://localhost:PORT/health
	for ((i = 1; i < ${#check[@]}; i++)); do
		case ${check[i]} in
		-http=* | --http=*) url=${check[i]#*=} ;;
		-http | --http) url=${check[i + 1]-$url} ;;
		esac
	done
	line "$url"
}

# judge: adds the finding about the verdict, unless that of probe is the same.
judge() {
	case $verdict in
	unknown) wrong "its status is unknown, since nothing is checked: set HEALTHCHECK_HTTP=$(probed_url) in its environment" ;;
	waiting) wrong 'its command has not been started: healthcheck waits for a check, and docker logs shows which' ;;
	starting) [[ $explained || $health == starting ]] || wrong "its status is starting: http://$where/ shows which check has not passed yet" ;;
	error) [[ $explained ]] || wrong "its status is error: http://$where/ shows why" ;;
	draining) wrong 'its status is draining: it is being stopped' ;;
	esac
}

# The rows of the table, their cells separated by tabs, and the width of each column.
rows=() widths=()
row() {
	local i=0 cell
	for cell; do
		((${#cell} <= ${widths[i]-0})) || widths[i]=${#cell}
		((++i))
	done
	rows+=("$(printf '%s\t' "$@")")
}

row CONTAINER HEALTH PROBE VERDICT METRICS CATEGORY
bad=0 looked=()
for container in "${containers[@]}"; do
	before=${#problems[@]}
	while :; do
		found=yes verdict=-
		inspect "$container" || found=''
		if [[ ! $found || $state != running* ]]; then break; fi
		locate
		ask
		case $health$verdict in
		starting* | *starting | *waiting) ;;
		*) break ;;
		esac
		if ((SECONDS >= wait)); then break; fi
		sleep 1
	done
	[[ $found ]] || name=$(line "$container")
	if [[ " ${looked[*]-} " == *" $name "* ]]; then continue; fi # given twice, or by name and by ID
	looked+=("$name")
	if [[ ! $found ]]; then
		said='No such container'
		[[ ! $container =~ $possible ]] || said=$(docker inspect --type container -- "$container" 2>&1 >/dev/null) || true
		case $said in
		*[Nn]'o such container'*) wrong 'there is no such container' ;;
		*) refuse "docker inspect fails for $name: $(line "$said")" 'docker info' ;;
		esac
		row "$name" - - - - -
	elif [[ $state != running* ]]; then
		[[ $state == exited* ]] || state=${state%% *} # only an exited one has an exit status
		wrong "it is not running: $state"
		row "$name" "${state%% *}" - - - -
	else
		probe
		[[ ! $finding ]] || wrong "$finding"
		compare_ports
		[[ ! $fault ]] || wrong "$fault"
		judge
		row "$name" "$health" "$probed" "$verdict" "$where" "$kind"
	fi
	((${#problems[@]} == before)) || ((++bad))
done

for r in "${rows[@]}"; do
	i=0
	while IFS= read -r -d $'\t' cell; do
		if ((i)); then printf '  '; fi
		printf '%-*s' "${widths[i]}" "$cell"
		((++i))
	done <<<"$r"
	printf '\n'
done | sed 's/ *$//'

if ((${#problems[@]})); then
	printf '\n'
	printf 'FAIL  %s\n' "${problems[@]}"
	printf '\n%d of %d containers have findings\n' "$bad" "${#looked[@]}"
	exit 1
fi
printf '\n%d containers, all healthy\n' "${#looked[@]}"
