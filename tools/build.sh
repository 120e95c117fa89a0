#!/bin/sh
# Builds the healthcheck that is shipped. The flags of it stand here and nowhere
# else: the Dockerfile, tools/image and tools/check.sh all run this.
#
#   tools/build.sh OUT [REVISION]
#
# REVISION is the commit that healthcheck_build_info reports: 7 to 40 hex digits,
# followed by -dirty if the files differ from that commit. If it is missing or empty,
# the metric reports "unknown".
#
# GOOS (linux unless set) and GOARCH (this machine's unless set) choose the
# platform. Nothing else of the environment or of Go's settings changes a byte,
# nor do the checkout's path, the state of git or the user: one Go release, one
# source and one REVISION give one binary. Uses the Go on PATH and fetches nothing.
set -eu

fail() {
	printf 'build.sh: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

[ $# -ge 1 ] && [ $# -le 2 ] && [ -n "$1" ] ||
	fail "$# arguments, want the file to write and at most a revision" 'tools/build.sh OUT [REVISION]'
ldflags='-s -w -buildid='
if [ -n "${2-}" ]; then
	hex=${2%-dirty}
	case $hex in
	*[!0123456789abcdef]*) hex= ;;
	esac
	[ ${#hex} -ge 7 ] && [ ${#hex} -le 40 ] ||
		fail "revision '$2': want 7 to 40 lowercase hex digits, then optionally -dirty" "tools/build.sh OUT \"\$(git rev-parse HEAD)\""
	ldflags="$ldflags -X main.revision=$2"
fi
command -v go >/dev/null 2>&1 || fail 'go is not on PATH' 'install Go 1.26 or later (go.dev/dl) and put it on PATH'

# OUT is meant from where the caller stands.
case $1 in
/*) out=$1 ;;
*) out=$PWD/$1 ;;
esac
cd "$(CDPATH='' cd -P "$(dirname "$0")" && pwd)/.."

# Without inlining, the crypto packages are 270 KB smaller, and a TLS handshake takes as long. The
# packages that hash a password 4,096 times and more keep inlining: without it, that took 1.5 times
# as long.
set -- '-gcflags=crypto/...=-l'
for package in sha256 hmac pbkdf2 internal/fips140/sha256 internal/fips140/hmac internal/fips140/pbkdf2; do
	set -- "$@" "-gcflags=crypto/$package="
done

# Of the environment go build gets what is named here: so GOFLAGS, GOEXPERIMENT,
# GOFIPS140, go env -w (GOENV) and the like have no say.
umask 022
exec env -i PATH="$PATH" ${HOME:+HOME="$HOME"} ${TMPDIR:+TMPDIR="$TMPDIR"} \
	${XDG_CACHE_HOME:+XDG_CACHE_HOME="$XDG_CACHE_HOME"} ${GOCACHE:+GOCACHE="$GOCACHE"} \
	GOOS="${GOOS:-linux}" ${GOARCH:+GOARCH="$GOARCH"} GOAMD64=v1 GOARM64=v8.0 \
	CGO_ENABLED=0 GOENV=off GOTOOLCHAIN=local GOWORK=off GOPROXY=off \
	go build -trimpath -buildvcs=false -pgo=off "$@" -tags nethttpomithttp2 -ldflags "$ldflags" -o "$out" .
