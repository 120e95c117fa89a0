// Package platform tests what users copy and operators run: examples/ and
// tools/verify-health.sh.
//
//   - The alert rules and the configuration go through promtool, the inhibitions through a real
//     Alertmanager, and the dashboard's queries through a real Prometheus that scrapes real wrappers.
//   - The whole compose file starts in a real Docker Engine. PostgreSQL stops: verdict, engine,
//     script and alerts must report it, Alertmanager must send one alert, and all must recover.
//   - The script is run on containers with every fault it knows.
//
// The compose file's base images are stand-ins, of Debian's packages on this
// machine, made by standin/: no registry can be reached where these tests run.
// schema/, a module of its own, holds compose file, manifests and workflows against
// the types of the tools that read them.
//
// Without an engine, or a program that a test needs, the test is skipped by that
// name; HEALTHCHECK_REQUIRE=all, or one that holds docker, makes it fail.
//
// Limits: the engine's names and the addresses of 127.86.72.0/24 are fixed, so two
// runs at once wait for one another. A run clears up after one that was killed.
// Built images stay, so that the next run is quick.
package platform
