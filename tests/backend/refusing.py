"""Ways to have a real Redis refuse writes, and take them again."""

from __future__ import annotations

from collections.abc import Callable

from redis import Redis

from backend.local.ports import any_free_port


def _setting(name: str, refusing: str, usual: str) -> tuple[Callable[[Redis], object], Callable[[Redis], object]]:
    return lambda redis: redis.config_set(name, refusing), lambda redis: redis.config_set(name, usual)


WAYS: dict[str, tuple[Callable[[Redis], object], Callable[[Redis], object]]] = {
    "NOREPLICAS": _setting("min-replicas-to-write", "1", "0"),
    "READONLY": (
        lambda redis: redis.replicaof("127.0.0.1", str(any_free_port())),
        lambda redis: redis.replicaof("NO", "ONE"),
    ),
    "OOM": _setting("maxmemory", "1", "0"),
}
"""Redis's code -> how it comes to that, and how it ends."""
