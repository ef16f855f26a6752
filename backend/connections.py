"""Which projects of Label Studio have us as their ML backend, and the webhooks by which they tell us of imports.

Label Studio calls /health and /setup of every ML backend of a project before it lists them (`GET /api/ml?project=1`).
So we are among them if /setup was called for the project meanwhile; the web process counts the calls. That also holds
behind a proxy, where the address by which Label Studio calls us is not known here.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Redis

from backend import store
from backend.settings import Settings
from backend.store import text
from backend.studio.client import Studio, StudioError, StudioUnavailable

log = logging.getLogger(__name__)

LOOK_AFTER = 1.0
"""Seconds between Label Studio's call of /setup for a new connection and our look at it: it is stored by then."""


REFUSED_SECONDS = 60.0
"""Until Label Studio is asked again for a webhook that it has refused."""
ALL = "*"
"""In `store.CONVERGE_DUE`: every project."""


@dataclass(frozen=True)
class Connection:
    """A project's connection to us.

    backend: the id of the ML backend in Label Studio. url: where Label Studio reaches us. since: when it was connected,
    as Label Studio writes it. setups: how often /setup had been called when this was looked at.
    """

    project: int
    backend: int
    url: str
    since: str
    setups: int


def note_setup(redis: Redis, project: int, url: str) -> None:
    """Note in the web process that Label Studio called /setup at `url` for a project; look at it if it is a new one."""
    known = redis.hexists(store.CONNECTED, str(project))
    with redis.pipeline() as pipe:
        pipe.hincrby(store.SETUPS, str(project), 1)
        pipe.hset(store.ADDRESSES, str(project), url)
        pipe.sadd(store.OWN_ADDRESSES, url)
        if not known:
            pipe.zadd(store.CONVERGE_DUE, {str(project): time.time() + LOOK_AFTER})
        pipe.execute()


def compare_soon(redis: Redis, project: int | str = ALL, seconds: float = 0.0) -> None:
    """Have the courier compare a project, or all, with what it should hold, in so many seconds."""
    redis.zadd(store.CONVERGE_DUE, {str(project): time.time() + seconds})


class Connections:
    """The connections of one Redis, as they were when they were looked at last."""

    def __init__(self, redis: Redis, settings: Settings, studio: Studio):
        self.redis = redis
        self.settings = settings
        self.studio = studio
        self._refused: dict[int, tuple[str, float]] = {}
        """Project -> the address to which Label Studio made no webhook, and when it was asked."""

    def known(self) -> dict[int, Connection]:
        """All connections, by project."""
        found = cast(dict[bytes, bytes], self.redis.hgetall(store.CONNECTED))
        return {int(project): Connection(**json.loads(value)) for project, value in found.items()}

    def of(self, project: int) -> Connection | None:
        """The connection of a project, None when it has none that is known."""
        found = cast(bytes | None, self.redis.hget(store.CONNECTED, str(project)))
        return Connection(**json.loads(found)) if found else None

    def is_connected(self, project: int) -> bool:
        """Whether a project is connected. Label Studio is asked if it has called /setup since that was known.

        It does so when a model is disconnected. Raises StudioError.
        """
        known = self.of(project)
        if known is not None and known.setups == self._setups(project):
            return True
        return self.look(project) is not None

    def look(self, project: int) -> Connection | None:
        """Ask Label Studio for a project's connection to us, and keep it; None when it has none.

        Raises StudioError.
        """
        before = self._setups(project)
        try:
            rows = self.studio.backends(project)
        except StudioError as error:
            if error.status != 404:
                raise
            rows = []
        after = self._setups(project)
        row = self._ours(project, rows, was_called=after > before)
        if row is None:
            self._forget(project)
            return None
        known = self.of(project)
        if known is not None and known.url != row["url"]:
            self.remove_webhooks(project, [known.url])
        found = Connection(project, int(row["id"]), str(row["url"]), str(row["created_at"]), after)
        self.redis.hset(store.CONNECTED, str(project), json.dumps(asdict(found)))
        return found

    def remove_webhooks(self, project: int, urls: Iterable[str]) -> None:
        """Remove webhooks to us that Label Studio has left behind. Raises StudioUnavailable."""
        try:
            if self.studio.remove_webhooks(project, urls):
                log.info("project %s: a webhook to an address where it has us no more is removed", project)
        except StudioUnavailable:
            raise
        except StudioError as error:
            if error.status not in (400, 404):  # the project is gone, and its webhooks with it (1.23: 400)
                log.warning("project %s: a webhook to an address where it has us no more stays: %s", project, error)

    def own_addresses(self) -> set[str]:
        """Every address at which Label Studio has called us."""
        return {text(one) for one in cast(set[bytes], self.redis.smembers(store.OWN_ADDRESSES))}

    def _forget(self, project: int) -> None:
        """A project is not connected (any more); the webhook that it had is removed."""
        known = self.of(project)
        if known is not None:
            log.info("project %s is disconnected from %s", project, known.url)
            self.remove_webhooks(project, [known.url])
        with self.redis.pipeline() as pipe:
            for key in (store.CONNECTED, store.ADDRESSES, store.WEBHOOK_PROBLEMS, store.WATERMARKS):
                pipe.hdel(key, str(project))
            pipe.execute()

    def ensure_webhook(self, found: Connection) -> str:
        """Have the webhook by which a project tells us of imports; why it cannot be there, "" if it is there."""
        refused_url, refused_at = self._refused.get(found.project, ("", 0.0))
        if refused_url == found.url and time.monotonic() - refused_at < REFUSED_SECONDS:
            return webhook_problems(self.redis).get(found.project, "")
        problem = ""
        try:
            if self.studio.ensure_webhook(found.project, found.url, self.settings.auth):
                log.info("project %s had no webhook to %s; it is made", found.project, found.url)
        except StudioError as error:
            if isinstance(error, StudioUnavailable) and error.status is None:
                raise
            problem = webhook_problem(found.url) or f"Label Studio makes no webhook to {found.url}: {error}"
            self._refused[found.project] = (found.url, time.monotonic())
        before = cast(bytes | None, self.redis.hget(store.WEBHOOK_PROBLEMS, str(found.project)))
        if problem and text(before or b"") != problem:
            log.warning("project %s: %s", found.project, problem)
            self.redis.hset(store.WEBHOOK_PROBLEMS, str(found.project), problem)
        elif not problem and before is not None:
            self.redis.hdel(store.WEBHOOK_PROBLEMS, str(found.project))
        return problem

    def _setups(self, project: int) -> int:
        return int(cast(bytes | None, self.redis.hget(store.SETUPS, str(project))) or 0)

    def _ours(self, project: int, rows: Sequence[Mapping[str, Any]], *, was_called: bool) -> Mapping[str, Any] | None:
        """The row that is us: at the address where we were called, else with a version of ours, else any.

        While Label Studio does not reach us it is the known one, else one at an address of ours.
        """
        if not was_called:
            known, own = self.of(project), {one.rstrip("/") for one in self.own_addresses()}
            same = [one for one in rows if known and (one["id"], one["url"]) == (known.backend, known.url)]
            return next(iter([*same, *(one for one in rows if str(one["url"]).rstrip("/") in own)]), None)
        address = text(cast(bytes | None, self.redis.hget(store.ADDRESSES, str(project))) or b"").rstrip("/")
        at_address = [one for one in rows if str(one["url"]).rstrip("/") == address]
        with_version = [one for one in rows if str(one.get("model_version") or "").startswith("car-")]
        return next(iter([*at_address, *with_version, *rows]), None)


def webhook_problem(url: str) -> str:
    """Why Label Studio 1.23 refuses a webhook to this address of ours, and which would work; "" if it does not.

    Its check of webhooks wants a dot in the host's name ("Enter a valid URL."), its check of ML backends does not.
    """
    host = urlsplit(url).hostname or ""
    if "." in host or host == "localhost" or _is_address(host):
        return ""
    named = url.replace(host, "backend.car.internal", 1)
    return (
        f"Label Studio makes no webhook to {url}: it takes {host!r}, a host without a dot, for no valid address. So "
        "imports are found by comparison only, some minutes late. Connect the model by a name with a dot or an IP "
        f"address: in compose {named}, in Kubernetes the service's full name (NAME.NAMESPACE.svc.cluster.local)."
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def webhook_problems(redis: Redis) -> dict[int, str]:
    """Project -> why Label Studio does not tell us of its imports, for those where that is so."""
    found = cast(dict[bytes, bytes], redis.hgetall(store.WEBHOOK_PROBLEMS))
    return {int(project): text(problem) for project, problem in sorted(found.items())}
