'use strict';
// The platform's three health endpoints without a package: healthcheck, which is in the image anyway, checks the
// dependencies. A service that has its own client for a dependency uses that instead, as ../api does.

const { execFile } = require('node:child_process');
const http = require('node:http');

const API = process.env.API_URL;

// The checks. That of the api asks for /healthz, so that a failing dependency of the api is reported by the api alone.
// healthcheck replaces ${file:…} itself, so the password shows in no list of processes.
const CHECKS = [
  '--http', `api=${API}/healthz`,
  '--redis', 'cache=redis://:${file:' + process.env.REDIS_PASSWORD_FILE + '}@' + process.env.REDIS_HOST + ':6379',
];
const OPTIONAL = new Set(['cache']); // without these the service is degraded, without the others it is broken

// dependencies returns {api: 'ok', cache: 'error'}. Concurrent requests share one run.
let asking = null;
function dependencies() {
  asking ??= new Promise((resolve, reject) => {
    execFile('healthcheck', ['--json', '--timeout', '3s', ...CHECKS], (error, stdout) => {
      asking = null;
      try {
        resolve(Object.fromEntries(JSON.parse(stdout).checks.map((c) => [c.name, c.status])));
      } catch {
        reject(error ?? new Error('healthcheck printed no JSON'));
      }
    });
  });
  return asking;
}

let requests = 0;

const endpoints = {
  '/health': async () => {
    const services = await dependencies();
    const broken = Object.keys(services).filter((name) => services[name] === 'error');
    const status = broken.length === 0 ? 'ok' : broken.every((name) => OPTIONAL.has(name)) ? 'degraded' : 'error';
    return [status === 'error' ? 503 : 200, { status, version: process.env.SERVICE_VERSION ?? '1.0.0', services }];
  },

  '/healthz': async () => [200, { status: 'ok' }],

  '/metrics': async () => [200, `# HELP service_up Service availability
# TYPE service_up gauge
service_up 1
# HELP service_requests_total Total requests processed
# TYPE service_requests_total counter
service_requests_total ${requests}
`],

  '/': async () => [200, await (await fetch(`${API}/hello`, { signal: AbortSignal.timeout(5000) })).json()],
};

const server = http.createServer(async (request, response) => {
  requests++;
  const [path] = request.url.split('?');
  const endpoint = Object.hasOwn(endpoints, path) ? endpoints[path] : undefined;
  let [status, body] = [404, { status: 'not found' }];
  try {
    if (endpoint) [status, body] = await endpoint();
  } catch (error) {
    console.error(`${path}: ${error.message}`);
    [status, body] = [503, { status: 'error' }];
  }
  const text = typeof body === 'string';
  response.writeHead(status, { 'Content-Type': text ? 'text/plain; version=0.0.4' : 'application/json' });
  response.end(text ? body : JSON.stringify(body));
});

server.listen(3000, () => console.log('listening on :3000'));

process.on('SIGTERM', () => {
  server.close();
  server.closeIdleConnections();
});
