# Healthcheck alone, from scratch: one static file for COPY --from=healthcheck.
#
#   docker build -t alfred/healthcheck:0.4.0 .
#
# For another platform: --platform linux/arm64 with BuildKit. The legacy builder
# takes --build-arg TARGETARCH=arm64 and gives that binary in an image that goes by
# this machine's platform. Either way Go compiles on this machine's own platform,
# nothing is emulated. tools/image writes the same image with no Docker at all.
#
# With --build-arg REVISION=$(git rev-parse HEAD), healthcheck_build_info reports the
# commit. Without it, the metric reports "unknown".
#
# .dockerignore lists the files that are copied. test/engine compares the lines below
# with tools/image/image.go.

# The Go release the shipped binary is built with.
ARG GO_VERSION=1.26.8

# The legacy builder sets no BUILDPLATFORM; "linux" is the machine's own platform.
FROM --platform=${BUILDPLATFORM:-linux} golang:${GO_VERSION} AS build
WORKDIR /src
COPY . ./
ARG TARGETOS
ARG TARGETARCH
ARG REVISION=
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH sh tools/build.sh /out/usr/local/bin/healthcheck "$REVISION"

FROM scratch
LABEL org.opencontainers.image.title="healthcheck" \
      org.opencontainers.image.description="Docker health probe, container init and Prometheus exporter in one static binary" \
      org.opencontainers.image.version="0.4.0" \
      org.opencontainers.image.source="https://github.com/locotoki/alfred-agent-platform-v2"
COPY --from=build /out/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/healthcheck"]
