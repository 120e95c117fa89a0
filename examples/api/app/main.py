"""A service with the platform's three health endpoints, and one that does the work.

/health asks the dependencies on every request, so it reports what the next request would meet.
/healthz asks none: a restart does not repair a database, so liveness must not depend on one.
"""

import asyncio
import logging
import os
from pathlib import Path

import asyncpg
import redis.asyncio
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

PATIENCE = 3  # seconds for a dependency to answer; a probe waits 5 for /health

log = logging.getLogger("uvicorn.error")
app = FastAPI()
requests = 0


def secret(name: str) -> str:
    return Path(os.environ[name]).read_text().rstrip("\n")


cache = redis.asyncio.Redis(
    host=os.environ["REDIS_HOST"],
    password=secret("REDIS_PASSWORD_FILE"),
    socket_timeout=PATIENCE,
    socket_connect_timeout=PATIENCE,
)


async def ask_database():
    connection = await asyncpg.connect(
        host=os.environ["DB_HOST"], user="app", database="app", password=secret("DB_PASSWORD_FILE")
    )
    try:
        await connection.fetchval("SELECT 1")
    finally:
        connection.terminate()


# Each dependency: how it is asked, and the service's status if it does not answer.
DEPENDENCIES = {"database": (ask_database, "error"), "cache": (cache.ping, "degraded")}


async def state(name: str) -> str:
    ask, _ = DEPENDENCIES[name]
    try:
        await asyncio.wait_for(ask(), PATIENCE)
    except Exception as problem:
        log.warning("%s: %s: %s", name, type(problem).__name__, problem)
        return "error"
    return "ok"


@app.middleware("http")
async def count(request, call_next):
    global requests
    requests += 1
    return await call_next(request)


@app.get("/health")
async def health():
    services = dict(zip(DEPENDENCIES, await asyncio.gather(*map(state, DEPENDENCIES))))
    without = [DEPENDENCIES[name][1] for name, state in services.items() if state != "ok"]
    status = "error" if "error" in without else "degraded" if without else "ok"
    return JSONResponse(
        {"status": status, "version": os.environ.get("SERVICE_VERSION", "1.0.0"), "services": services},
        status_code=503 if status == "error" else 200,
    )


@app.get("/healthz")
async def healthz():
    return {"status": "ok"}


@app.get("/metrics")
async def metrics():
    text = f"""\
# HELP service_up Service availability
# TYPE service_up gauge
service_up 1
# HELP service_requests_total Total requests processed
# TYPE service_requests_total counter
service_requests_total {requests}
"""
    return Response(text, media_type="text/plain; version=0.0.4")


@app.get("/hello")
async def hello():
    return {"hello": await cache.incr("greeted")}
