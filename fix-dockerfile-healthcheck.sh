#!/bin/sh
# Makes Dockerfiles follow the health check pattern: see -h. Runs tools/fixdockerfile,
# built anew each time (Go caches it), from any folder and through a symbolic link.

fail() {
	printf 'fix-dockerfile-healthcheck.sh: %s\nhint: %s\n' "$1" "$2" >&2
	exit 2
}

self=$0
while [ -h "$self" ]; do
	link=$(readlink "$self")
	case $link in
	/*) self=$link ;;
	*) self=$(dirname "$self")/$link ;;
	esac
done
here=$(CDPATH='' cd -P "$(dirname "$self")" && pwd) || exit 2

# A copy of this script may stand in the platform's root, above the checkout.
for root in "$here" "$here/healthcheck" ''; do
	[ -z "$root" ] || [ ! -f "$root/tools/fixdockerfile/main.go" ] || break
done
[ -n "$root" ] || fail "tools/fixdockerfile is not in $here" 'run the script in the healthcheck checkout, or make a symbolic link to it'
command -v go >/dev/null 2>&1 || fail 'Go is not installed' 'install Go 1.26 or later (go.dev/dl) and put it on PATH'

version=$(sed -n 's/^const Version = "\([0-9.]*\)"$/\1/p' "$root/main.go")
[ -n "$version" ] || fail "$root/main.go has no line const Version" 'get the whole checkout of one release'

tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
GOOS='' GOARCH='' GOWORK=off CGO_ENABLED=0 go build -C "$root" -buildvcs=false -ldflags "-X main.defaultImage=alfred/healthcheck:$version" -o "$tmp/fixdockerfile" ./tools/fixdockerfile ||
	fail 'tools/fixdockerfile does not build' 'Go 1.26 or later is needed; go version shows yours'
"$tmp/fixdockerfile" "$@"
