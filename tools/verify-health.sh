#!/usr/bin/env bash
# Verifies that running containers follow the platform's health check pattern. --help says how.
set -euo pipefail

usage() {
	cat <<'END'
usage: verify-health.sh [--project NAME] [--wait SECONDS] [CONTAINER...]

Looks at each container, all that run unless some are named, and prints a table:

  HEALTH   what the engine says: healthy, unhealthy, starting, none
  PROBE    whether the container's own healthcheck test passes, run in it now
  VERDICT  service_health of its metrics: ok, degraded (which is fine), error
  METRICS  where they are published, and the category of that port:
           core 9091-9099, infrastructure 9101-9103, database 9120-9124,
           monitoring 9100 and 9187; no two containers on the same port

  --project NAME   the containers of a compose project, stopped ones too
  --wait SECONDS   let containers that are starting take that long together

Below the table stands a line for each thing that is wrong.
Exit: 0 all is well, 1 something is wrong, 2 wrong usage or no answer of the engine.
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
	printf 'no container %s: nothing is verified\n' "${project:+of project $project }is there"
	exit 1
fi

# What is asked of the engine, each item closed by a zero byte: the last output and the label may hold anything. The
# ports come as JSON: their fields have other names in Go, and not the same ones in every release.
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
	# The template's engine says so where a container has no such label.
	[[ $label != '<no value>' ]] || label=''
	check=("${item[@]:7}")
}

# line TEXT: its first line, short and without control characters.
line() {
	local text=${1%%$'\n'*}
	text=${text//[[:cntrl:]]/?}
	printf '%s' "${text:0:300}"
}

problems=() # lines for below the table
# wrong REASON: notes it against the container looked at.
wrong() {
	problems+=("$name: $1")
}

# bounded COMMAND...: runs it, for half a minute at most where that can be had.
if command -v timeout >/dev/null; then
	bounded() { timeout 30 "$@"; }
else
	bounded() { "$@"; }
fi

# probe: runs the container's test in it, as the engine does, and sets probed.
probe() {
	local argv=() out status=0
	case ${check[0]-} in
	CMD) argv=("${check[@]:1}") ;;
	CMD-SHELL) argv=(/bin/sh -c "${check[1]-}") ;;
	*)
		probed=-
		wrong 'it has no healthcheck: add the one of the guide to its compose entry'
		return
		;;
	esac
	out=$(bounded docker exec -- "$container" "${argv[@]}" 2>&1 </dev/null) || status=$?
	probed=ok
	((status)) || return 0
	probed=FAIL
	case $status in
	124) wrong "the probe in it did not end within 30 s" ;;
	126 | 127)
		if [[ $out == *'executable file not found'* || $out == *'no such file'* ]]; then
			wrong "the probe in it cannot run: $(line "${argv[0]}") is not there (healthcheck is, once the Dockerfile copies it)"
		else
			wrong "the probe in it cannot run: $(line "$out")"
		fi
		;;
	*) wrong "the probe in it fails with status $status: $(line "$out")" ;;
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

# address IP PORT: how to reach a published port.
address() {
	case $1 in
	'' | 0.0.0.0 | ::) printf '%s:%s' "$host" "$2" ;;
	*:*) printf '[%s]:%s' "$1" "$2" ;;
	*) printf '%s:%s' "$1" "$2" ;;
	esac
}

# category PORT: its name in the guide's table, or nothing.
category() {
	case $1 in
	909[1-9]) echo core ;;
	910[1-3]) echo infrastructure ;;
	912[0-4]) echo database ;;
	9100 | 9187) echo monitoring ;;
	esac
}

taken=() # "PORT NAME" of each published metrics port

# metrics: looks at the label, the published port and what answers there; sets verdict, where and kind.
metrics() {
	local all='' mapping port seen=' ' other text published=() # "IP PORT" each, an IP may be empty
	verdict=- where=- kind=-
	if [[ ! $label ]]; then
		wrong 'it has no label metrics_port: Prometheus does not find it'
		return
	fi
	if ! [[ $label =~ ^[1-9][0-9]{0,4}$ ]] || ((label > 65535)); then
		wrong "its label metrics_port is no port: $(line "$label")"
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
		wrong "its metrics port $label is not published: map it to a port of the host"
		return
	fi
	where=$(address "${published[0]% *}" "${published[0]#* }")
	kind=$(category "${published[0]#* }")
	kind=${kind:--}
	for port in "${published[@]#* }"; do
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

	if command -v curl >/dev/null; then
		if ! text=$(curl -q -fsS --noproxy '*' --max-time 10 "http://$where/metrics" 2>&1 | head -c 1000000); then
			wrong "its metrics do not answer at $where: $(line "$text")"
			return
		fi
	else # from inside, then, where the port's mapping is not seen
		if ! text=$(bounded docker exec -- "$container" healthcheck --http "http://localhost:$label/metrics" --http-body '(?m)^service_up ' 2>&1 </dev/null); then
			wrong "its metrics do not answer: $(line "$text")"
		else
			verdict='?'
		fi
		return
	fi
	if [[ $'\n'$text != *$'\nservice_up '* ]]; then
		wrong "what answers at $where is not healthcheck: it has no service_up"
		return
	fi
	case $'\n'$text$'\n' in
	*$'\nservice_up 0\n'*) verdict=waiting && wrong 'service_up is 0: its command does not run' ;;
	*$'\nservice_health 1\n'*) verdict=ok ;;
	*$'\nservice_health 0.5\n'*) verdict=degraded ;;
	*$'\nservice_health 0\n'*) verdict=error && wrong "service_health is 0: http://$where/ says why" ;;
	*) verdict='?' && wrong "no service_health among the metrics at $where" ;;
	esac
}

# Rows of the table, cells apart by a tab, and the width that each column needs.
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
		found=yes
		inspect "$container" || found=''
		if [[ ! $found || $health != starting || $state != running* ]] || ((SECONDS >= wait)); then break; fi
		sleep 1 # between two looks; the deadline decides
	done
	[[ $found ]] || name=$(line "$container")
	if [[ " ${looked[*]-} " == *" $name "* ]]; then continue; fi # given twice, or by name and by ID
	looked+=("$name")
	if [[ ! $found ]]; then
		said='No such container'
		[[ ! $container =~ $possible ]] || said=$(docker inspect --type container -- "$container" 2>&1 >/dev/null) || true
		case $said in
		*[Nn]'o such container'*) wrong 'there is no such container' ;;
		*) refuse "docker does not tell of $name: $(line "$said")" 'docker info' ;;
		esac
		row "$name" - - - - -
	elif [[ $state != running* ]]; then
		[[ $state == exited* ]] || state=${state%% *} # the status means something only there
		wrong "it does not run: $state"
		row "$name" "${state%% *}" - - - -
	else
		case $health in
		healthy) ;;
		none) ;; # probe says so
		starting) wrong 'it is starting, and has not passed its first check' ;;
		*) wrong "it is $health: $(line "$said")" ;;
		esac
		probe
		metrics
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
	printf '\n%d of %d containers: something is wrong\n' "$bad" "${#looked[@]}"
	exit 1
fi
printf '\n%d containers, all healthy\n' "${#looked[@]}"
