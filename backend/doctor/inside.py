"""Checks of our own parts: Redis, the workers, the courier, the web process."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from backend.doctor.findings import Finding, ok, problem, unknown
from backend.labeling.parsing import empty_config
from backend.queue.jobs import Jobs
from backend.settings import Settings
from backend.status import overview, reports
from backend.status.reports import Doing
from backend.trouble import REFUSALS, refusal, try_write

OLDEST = (6, 2)
FULL = 0.9
"""Share of Redis's memory in use from which on it is about to refuse writes."""
TIMEOUT = 10.0
STUDIO_WAITS = 1.0
"""Seconds that Label Studio 1.23 waits for /health."""


def shown(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check_redis(redis: Redis, url: str) -> list[Finding]:
    """Whether Redis answers, keeps what it is told, and has room; the first finding is whether it answers at all."""
    try:
        redis.ping()
        info: dict[str, Any] = redis.info()
    except AuthenticationError:
        fix = "Put its password into REDIS_URL: redis://:PASSWORD@HOST:PORT/0."
        return [problem("redis", f"{shown(url)} wants a password, and not the one in REDIS_URL.", fix)]
    except ResponseError as error:
        return [problem("redis", f"{shown(url)}: {error}", "Wait until it has loaded its file, or see its log.")]
    except (RedisError, ValueError) as error:
        return [problem("redis", f"{shown(url)} does not answer: {error}", "Start Redis, or correct REDIS_URL.")]
    return [_version(info, url), _writes(redis), _persistence(info), _memory(info)]


def _writes(redis: Redis) -> Finding:
    check = "redis takes writes"
    try:
        try_write(redis)
    except RedisError as error:
        code = refusal(error)
        return problem(check, f"It refuses them: {error}", REFUSALS.get(code, "See Redis's log, and its ACL."))
    return ok(check, "a key was written")


def _version(info: Mapping[str, Any], url: str) -> Finding:
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return problem("redis", f"It is Redis {version}.", "Install Redis 6.2 or newer, or Valkey.")
    if info.get("cluster_enabled"):
        return problem("redis", "It is a Redis Cluster, which RQ cannot use.", "Use one Redis, or Sentinel.")
    return ok("redis", f"{shown(url)}, version {version}")


def _persistence(info: Mapping[str, Any]) -> Finding:
    check = "redis keeps all"
    if not info.get("aof_enabled"):
        fix = "Start Redis with --appendonly yes (redis-cli config set appendonly yes, and in redis.conf)."
        return problem(check, "Without an append-only file a restart forgets queued jobs and undelivered masks.", fix)
    if info.get("aof_last_write_status", "ok") != "ok":
        return problem(check, "It cannot write its append-only file.", "Make room on Redis's disk, then see its log.")
    return ok(check, "append-only file on")


def _memory(info: Mapping[str, Any]) -> Finding:
    check, limit, used = "redis has room", int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if limit and policy != "noeviction":
        fix = "Set maxmemory-policy noeviction (redis-cli config set maxmemory-policy noeviction, and in redis.conf)."
        return problem(check, f"maxmemory-policy is {policy}: when memory is short it drops jobs and masks.", fix)
    if limit and used > FULL * limit:
        fix = "Raise maxmemory, or lower CAR_RESULT_DAYS or CAR_QUEUE_LIMIT."
        return problem(check, f"{used / 2**20:.0f} of {limit / 2**20:.0f} MB are in use.", fix)
    return ok(check, f"{used / 2**20:.0f} MB in use" + (f" of {limit / 2**20:.0f}" if limit else ""))


def own_version(settings: Settings) -> str:
    """The model version that these settings give an empty config."""
    return empty_config(settings.car_preset).version(settings.car_weights)


def check_workers(jobs: Jobs) -> Iterator[Finding]:
    """Whether somebody segments and somebody delivers; RedisError when Redis has gone meanwhile."""
    read, wanted = overview.read(jobs), own_version(jobs.settings)
    told = read.worker_reports
    alive = reports.alive(told)
    broken = sorted({one.error for one in told if one.doing is Doing.BROKEN})
    if not alive:
        yield problem("workers", "None is alive, so nothing is segmented.", "Start python -m backend worker.")
    else:
        places = ", ".join(f"{one.host} ({one.device or 'loading'})" for one in alive)
        yield ok("workers", f"{len(alive)} alive: {places}")
    strange = sorted({one.version for one in alive} - {wanted})
    if strange:
        fix = "Start all processes from one release, with the same CAR_PRESET and CAR_WEIGHTS."
        yield problem("same version", f"Workers have {', '.join(strange)}, these settings give {wanted}.", fix)
    elif alive:
        yield ok("same version", f"workers and these settings: {wanted}")
    else:
        yield unknown("same version", "No worker is alive to tell.")
    if broken and not alive:
        fix = "Do what it says, then start the worker again."
        yield problem("weights", f"The last worker ended: {broken[0]}", fix)
    elif all(one.doing is Doing.LOADING for one in alive):
        yield unknown("weights", "No worker has loaded them yet.")
    else:
        yield ok("weights", f"loaded: preset {', '.join(sorted({one.preset for one in alive}))}")
    if read.courier:
        yield ok("courier", "at work")
    else:
        yield problem("courier", "None is at work, so nothing is delivered.", "Start python -m backend courier.")
    if read.paused:
        names = "All projects are" if "*" in read.paused else f"Project {', '.join(read.paused)} is"
        yield problem("pause", f"{names} paused.", "Go on: python -m backend resume.")


@dataclass(frozen=True)
class Web:
    """The web process as it was found at `url`; `about` is what it says of itself, empty when it does not answer."""

    url: str
    about: Mapping[str, Any]


def check_web(url: str, settings: Settings) -> tuple[Web, list[Finding]]:
    """Whether the web process answers /health quickly, with our password, and has our settings."""
    check = "web process"
    try:
        with requests.Session() as http:
            http.trust_env = False  # a proxy or ~/.netrc would answer for somebody else
            http.headers.update(_headers(settings))
            answer = http.get(f"{url}/health", timeout=TIMEOUT)
            about = http.get(f"{url}/status.json", timeout=TIMEOUT) if answer.ok else answer
        health, said = answer.json(), about.json()
    except requests.RequestException as error:
        where = "Say where it is: --url http://HOST:PORT. Or start it: python -m backend serve."
        return Web(url, {}), [problem(check, f"{url}/health does not answer ({type(error).__name__}).", where)]
    except ValueError:
        fix = "Say where the backend is: --url http://HOST:PORT."
        return Web(url, {}), [problem(check, f"Something else than the backend answers at {url}.", fix)]
    if answer.status_code == 401:
        fix = "Give this command and the web process the same BASIC_AUTH_USER and BASIC_AUTH_PASS."
        return Web(url, {}), [problem(check, f"{url} asks for another password than the one set here.", fix)]
    if answer.status_code != 200:
        reason = health.get("error", answer.reason) if isinstance(health, dict) else answer.reason
        fix = "Do what it says; or correct REDIS_URL of the web process, as seen from where it runs."
        return Web(url, {}), [problem(check, f"{url}/health says {answer.status_code}: {reason}", fix)]
    if not isinstance(said, dict) or "web" not in said:
        fix = "Say where the backend is: --url http://HOST:PORT."
        return Web(url, {}), [problem(check, f"Something else than the backend answers at {url}.", fix)]
    web = Web(url, said["web"])
    return web, [_speed(url, answer.elapsed.total_seconds()), _same(web, settings)]


def _headers(settings: Settings) -> dict[str, str]:
    if settings.auth is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(":".join(settings.auth).encode()).decode()}


def _speed(url: str, seconds: float) -> Finding:
    if seconds > STUDIO_WAITS:
        fix = "Give the machine of the web process more time, or start Label Studio with a higher ML_TIMEOUT_HEALTH."
        return unknown("web process", f"{url}/health took {seconds:.1f} s; Label Studio waits {STUDIO_WAITS:g}.", fix)
    return ok("web process", f"{url}/health answers in {seconds * 1000:.0f} ms")


def _same(web: Web, settings: Settings) -> Finding:
    theirs, ours = web.about.get("version"), own_version(settings)
    if theirs == ours:
        return ok("web's version", f"{ours}, as with these settings")
    fix = "Start all processes from one release, with the same CAR_PRESET and CAR_WEIGHTS."
    return problem("web's version", f"The web process has {theirs}, these settings give {ours}.", fix)


def check_password(web: Web, settings: Settings) -> Finding:
    """Whether a password is asked for where others than this machine can reach the backend."""
    check, host = "password", urlsplit(web.url).hostname or ""
    if settings.auth:
        return ok(check, "asked for on every route")
    if is_loopback(host):
        return ok(check, "none; the backend is on this machine's loopback")
    if web.about.get("open"):
        return ok(check, "none, as serve --open says: only Label Studio may reach its port")
    fix = "Set BASIC_AUTH_USER and BASIC_AUTH_PASS everywhere, and give them to Label Studio in Settings > Model."
    if not web.about:
        return unknown(check, f"None is set here, and {web.url} does not answer.", fix)
    return problem(check, f"Whoever reaches {web.url} may queue work and read the errors: no password is set.", fix)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
