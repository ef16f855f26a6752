"""What is told apart of a Redis that is away, refuses writes, or refuses us; and waiting for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, ConnectionError, DataError, ResponseError, TimeoutError

from backend import store, trouble
from tests.backend.refusing import WAYS
from tests.conftest import RedisProcess

WRITES: dict[str, Callable[[Redis], object]] = {
    "a command": lambda redis: redis.hset("a", "b", "c"),
    "a transaction": lambda redis: redis.pipeline().hset("a", "b", "c").expire("a", 10).execute(),
    "commands sent together": lambda redis: redis.pipeline(transaction=False).hset("a", "b", "c").execute(),
    "a script": lambda redis: redis.eval("return redis.call('HSET', KEYS[1], 'b', 'c')", 1, "a"),
    "the probe": trouble.try_write,
}


@pytest.mark.parametrize("code", list(WAYS))
@pytest.mark.parametrize("write", list(WRITES))
def test_a_refusal_is_known_by_its_code(own_redis: RedisProcess, code: str, write: str) -> None:
    refuse, accept = WAYS[code]
    with store.connect(own_redis.url, patient=False) as redis:
        WRITES[write](redis)
        refuse(redis)
        with pytest.raises(ResponseError) as raised:
            WRITES[write](redis)
        assert trouble.refusal(raised.value) == code
        assert trouble.passes(raised.value)
        said = trouble.explain(raised.value)
        assert said.startswith("Redis at REDIS_URL refuses writes (")
        assert code in said
        assert said.endswith(trouble.REFUSALS[code])
        redis.exists("a")
        accept(redis)
        WRITES[write](redis)


@pytest.mark.parametrize(
    ("error", "code", "passes"),
    [
        (ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "MISCONF", True),
        (ResponseError("MASTERDOWN Link with MASTER is down"), "MASTERDOWN", True),
        (ConnectionError("refused"), "", True),
        (TimeoutError("Timeout reading from socket"), "", True),
        (AuthenticationError("invalid password"), "", False),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value: ROOM"), "", False),
        (DataError("OOM is no code here"), "", False),
        (OSError("READONLY"), "", False),
    ],
)
def test_what_passes_and_what_does_not(error: Exception, code: str, passes: bool) -> None:
    assert (trouble.refusal(error), trouble.passes(error)) == (code, passes)


def test_a_step_is_tried_until_redis_takes_it_and_the_log_says_so_once(
    own_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    refuse, accept = WAYS["NOREPLICAS"]
    with store.connect(own_redis.url, patient=True) as redis, caplog.at_level(logging.WARNING):
        refuse(redis)
        mended: list[float] = []
        timer = threading.Timer(2.5, lambda: (accept(redis), mended.append(time.monotonic())))
        timer.start()
        assert trouble.patiently(lambda: redis.hset("a", "b", "c")) == 1
        assert time.monotonic() - mended[0] < 1.5
        timer.join()
    messages = [record.getMessage() for record in caplog.records]
    assert [one.split("(")[0].split(",")[0] for one in messages] == [
        "Redis at REDIS_URL refuses writes ",
        "Redis takes writes again",
    ]


def test_patience_has_an_end_and_is_not_for_other_errors(own_redis: RedisProcess) -> None:
    with store.connect(own_redis.url, patient=True) as redis:
        WAYS["READONLY"][0](redis)
        begun = time.monotonic()
        with pytest.raises(ResponseError, match="replica"):
            trouble.patiently(lambda: redis.hset("a", "b", "c"), 1.5)
        assert 1.5 <= time.monotonic() - begun < 4
        WAYS["READONLY"][1](redis)
        redis.set("text", "x")
        begun = time.monotonic()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            trouble.patiently(lambda: redis.hset("text", "b", "c"))
        assert time.monotonic() - begun < 0.5


@pytest.mark.parametrize("patient", [True, False])
@pytest.mark.parametrize("write", list(WRITES))
def test_a_connection_is_made_anew_after_it_has_met_a_replica(
    own_redis: RedisProcess, patient: bool, write: str
) -> None:
    """After a failover the address leads to another Redis, while old connections stay with the replica."""
    with store.connect(own_redis.url, patient=patient) as redis:
        before = redis.client_id()
        WAYS["READONLY"][0](redis)
        assert redis.client_id() == before
        with pytest.raises(ResponseError):
            WRITES[write](redis)
        assert redis.client_id() != before
