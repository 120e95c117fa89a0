// Package engine tests the released images on a real Docker Engine: the image of the Dockerfile, by
// both builders and for both platforms, the archive that tools/image writes, and services built
// from them as the platform's guide describes.
//
// No registry can be reached where these tests run. They make their base images
// themselves, out of the machine they run on:
//
//	golang:1.26.8   busybox and the machine's own Go, in the place of Docker Hub's;
//	                one that is there already is used as it is
//	glibc           Debian's dash, ls, libc and loader, in the place of debian
//	musl            busybox and Debian's musl, in the place of alpine
//	busybox         busybox alone
//
// Without an engine, or a program that a test needs, the test is skipped by that
// name; HEALTHCHECK_REQUIRE=all, or one that holds docker, makes it fail.
//
// Limits: the tests need the fixed names golang:1.26.8 and alfred/healthcheck:0.4.0,
// so two runs at once wait for one another. They put back what these names meant.
// Everything else of theirs, and of a run that was killed, goes by its label.
package engine
