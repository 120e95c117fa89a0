#!/usr/bin/env bash
# Measures healthcheck beside the programs it takes the place of, as Debian has them.
#
#   tools/bench.sh [probe|init|early|scrape|limits]... [-rounds N] [-idle DURATION] [-early DURATION]
#
# Without an argument it runs all five. A missing program is named and left out. A missed target is
# marked but is not a failure, since the machine may be busy. The exit status is 1 only if a
# measurement failed.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [[ -x tools/build.sh ]]; then
	tools/build.sh "$scratch/healthcheck" >/dev/null
else
	CGO_ENABLED=0 go build -trimpath -tags nethttpomithttp2 -ldflags '-s -w -buildid=' -o "$scratch/healthcheck" .
fi
CGO_ENABLED=0 go build -o "$scratch/bench" ./tools/bench
CGO_ENABLED=0 go build -ldflags '-s -w' -o "$scratch/spawn" ./tools/bench/spawn
"$scratch/bench" -dir "$scratch" "$@"
