#!/usr/bin/env bash
# Checks the whole project: what CI runs, and what to run before a commit.
#
#   tools/check.sh         every check that takes under 15 minutes in total on 2 cores
#   tools/check.sh full    these, and the tests that need many packages or many minutes
#
# On Debian, as root, it first installs the programs that the tests use, without
# starting any of them. Elsewhere it lists the missing ones and continues without
# them; a test whose program is missing is skipped and names the program.
#
# Exit status: 0 if all checks passed, 1 if one failed, 2 for a usage error.
set -euo pipefail

full=
if [[ $# -eq 1 && $1 == full ]]; then
	full=yes
elif (($# > 0)); then
	printf 'check.sh: unexpected arguments: %s\nhint: tools/check.sh, or tools/check.sh full\n' "$*" >&2
	exit 2
fi
cd "$(dirname "$0")/.."

# Debian's packages, one a line, and why.
packages=(
	redis-server             # the Redis checks
	postgresql               # the PostgreSQL checks
	pgbouncer                # a pooler with its database alive and dead
	nginx-light              # the HTTP checks
	openssl                  # certificates and handshakes, from the outside
	time                     # peak memory of a probe
	tini                     # inits to compare ours with
	dumb-init
	prometheus               # promtool check metrics
	prometheus-alertmanager  # which alerts of the example inhibit which
	python3-prometheus-client # a second parser of what we export
	gcc libc6-dev            # the race detector
	chromium                 # the page for people
	docker.io docker-compose # the image, the archive, the fixer's results, the example
	busybox-static musl-tools # stand-ins for base images, which no registry here has
	skopeo podman            # others that read the archive
	python3-pip python3-fastapi uvicorn python3-asyncpg python3-redis nodejs # the example's services
	shellcheck               # scripts, and those in workflows
)

# Packages that only check.sh full installs, in the same form: those that only tests with
# HEALTHCHECK_FULL=1 use. There are none yet.
full_packages=()

timeout=15m # of one package's tests
unset HEALTHCHECK_FULL
if [[ $full ]]; then
	packages+=("${full_packages[@]}")
	timeout=60m
	export HEALTHCHECK_FULL=1 # if it is unset, tests that take too long for the plain check are skipped
fi

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2 # 2026.2.2
platforms=(linux/amd64 linux/arm64 linux/arm darwin/arm64)
budget=6600000 # bytes of the stripped linux/amd64 binary
tags=nethttpomithttp2

scratch=$(mktemp -d)
own_engine=
policy=/usr/sbin/policy-rc.d
made_policy=
clean() {
	if [[ $own_engine ]]; then kill "$own_engine" && wait "$own_engine" || true; fi
	rm -rf "$scratch"
	if [[ $made_policy ]]; then rm -f "$policy"; fi
}
trap clean EXIT

heading='' since=0
# step NAME: ends the step before it, with its duration, and begins this one.
step() {
	if [[ $heading ]]; then printf -- '-- %s: %d s\n\n' "$heading" $((SECONDS - since)); fi
	heading=$1 since=$SECONDS
	if [[ $heading ]]; then printf '== %s\n' "$heading"; fi
}

fail() {
	printf 'check.sh: %s\n' "$*" >&2
	exit 1
}

# missing PACKAGE...: prints those not installed.
missing() {
	local p
	for p; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) == installed ]] || printf '%s\n' "$p"
	done
}

step 'programs the tests use'
wanted=()
complete=
if ! command -v dpkg-query apt-get >/dev/null; then
	echo "not Debian: installed nothing; the tests use what they find of: ${packages[*]}"
else
	mapfile -t wanted < <(missing "${packages[@]}")
	if ((${#wanted[@]} == 0)); then
		echo 'all installed'
		complete=yes
	elif ((EUID != 0)); then
		echo "not root: could not install ${wanted[*]}"
	else
		# Debian starts a service when its package is installed, unless this file says no.
		if [[ ! -e $policy ]]; then
			made_policy=yes
			printf '#!/bin/sh\nexit 101\n' >"$policy"
			chmod 755 "$policy"
		fi
		export DEBIAN_FRONTEND=noninteractive
		echo "installing ${wanted[*]}"
		if apt-get -qq update </dev/null && apt-get -qq install -y --no-install-recommends "${wanted[@]}" </dev/null >"$scratch/apt" 2>&1; then
			complete=yes
		else
			tail -n 20 "$scratch/apt" || true
			echo "could not install $(missing "${wanted[@]}" | tr '\n' ' ')"
		fi
	fi
fi

# The engine that answers, or one of this script's own.
engine=
if docker info >/dev/null 2>&1; then
	engine=yes
elif [[ $EUID -eq 0 ]] && command -v dockerd >/dev/null; then
	echo 'starting a Docker Engine'
	dockerd >"$scratch/dockerd" 2>&1 &
	own_engine=$!
	for _ in {1..60}; do
		if docker info >/dev/null 2>&1; then
			engine=yes
			break
		fi
		sleep 1
	done
fi
# A test whose program is missing fails where it could have been installed.
if [[ $complete && $engine ]]; then
	export HEALTHCHECK_REQUIRE=all
elif [[ $complete ]]; then
	echo 'no Docker Engine answers: its tests are skipped'
	export HEALTHCHECK_REQUIRE=redis-server,postgres,pgbouncer,nginx,openssl,time,prometheus,promtool,prometheus-alertmanager,chromium
elif [[ $engine ]]; then
	export HEALTHCHECK_REQUIRE=docker
fi

step 'shellcheck'
if command -v shellcheck >/dev/null; then
	shellcheck -e SC2015 tools/*.sh fix-dockerfile-healthcheck.sh .ci/run
else
	echo 'not installed'
fi

step 'gofmt'
unformatted=$(gofmt -l .)
[[ -z $unformatted ]] || fail "not formatted: $unformatted"

step 'go mod tidy'
go mod tidy -diff

step 'go vet'
go vet ./...

step "staticcheck ${staticcheck##*@}"
go run "$staticcheck" ./...

step 'nothing outside the standard library'
go list -deps -test -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./... >"$scratch/deps"
outside=$(grep -v '^alfred/healthcheck' "$scratch/deps" || true)
[[ -z $outside ]] || fail "imported from outside the standard library: $outside"

for platform in "${platforms[@]}"; do
	step "build for $platform"
	CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/} go build -trimpath -tags "$tags" ./...
done

step "size, at most $budget bytes"
GOOS=linux GOARCH=amd64 tools/build.sh "$scratch/healthcheck"
size=$(wc -c <"$scratch/healthcheck")
echo "$size bytes"
((size <= budget)) || fail "the stripped binary has $size bytes, over the $budget of its budget"

race=-race
if ! command -v "$(go env CC)" >/dev/null; then
	echo 'no C compiler: testing without the race detector'
	race=
fi

# Modules of their own below the project, which ./... leaves out.
while read -r module; do
	step "test $module"
	# -count=1: the cache does not notice when a file outside the module changes.
	(cd "$module" && go test -count=1 -timeout 10m ./...)
done < <(find . -mindepth 2 -name go.mod -not -path './.git/*' -exec dirname {} \; | sort)

# One package at a time: some have deadlines to watch, and some build images.
step "go test $race"
go test $race -p 1 -timeout "$timeout" ./...

step ''
printf 'check.sh: all passed in %d s\n' "$SECONDS"
