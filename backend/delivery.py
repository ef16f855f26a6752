"""Who delivers a finished prediction: the answer to a waiting request, or the courier's push. Never both.

Every finished job lies in the *outbox* with the time at which the courier is to look after it. The three steps
below are atomic, so exactly one side hands a prediction over:

* `answer`: a request takes it along, unless the courier is pushing it or it was handed over a moment ago. Label
  Studio may still drop the answer, so it stays in the outbox and is verified later.
* `take_due`: the courier leases what is due; while it pushes, requests are answered "not ready".
* `delivered`: Label Studio has it; it leaves the outbox.

`delivered` is a time, not a flag: when a later request shows that Label Studio has no prediction of this version
("Delete predictions"), `answer` hands it over again from the cache.
"""

from __future__ import annotations

import time
from typing import Any, cast

from redis import Redis

from backend import store
from backend.queue.jobs import Jobs
from backend.store import result_key, text, ticket_key

LEASE = 120.0
"""Seconds that a courier has for one round of pushes before another may take over."""

# KEYS ticket, outbox. ARGV job id, now, seconds within which a hand-over counts as under way.
# -> 1 when the caller may answer.
_ANSWER = """
local function at(field) return tonumber(redis.call('HGET', KEYS[1], field) or '0') end
local now, grace = tonumber(ARGV[2]), tonumber(ARGV[3])
if at('pushing') > now then return 0 end
redis.call('HDEL', KEYS[1], 'hold')
if math.max(at('answered'), at('delivered')) > now - grace then
  redis.call('ZADD', KEYS[2], 'NX', now + grace, ARGV[1])
  return 0
end
redis.call('HSET', KEYS[1], 'answered', now)
redis.call('ZADD', KEYS[2], now + grace, ARGV[1])
return 1
"""

# KEYS ticket, outbox. ARGV job id, now. The request gave up waiting: the courier need not hold back.
_RELEASE = """
redis.call('HDEL', KEYS[1], 'hold')
redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[1])
"""

# KEYS outbox. ARGV now, lease, limit, prefix of ticket keys.
_TAKE = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], ARGV[1] + ARGV[2], id)
  if redis.call('EXISTS', ARGV[4] .. id) == 1 then
    redis.call('HSET', ARGV[4] .. id, 'pushing', ARGV[1] + ARGV[2])
  end
end
return ids
"""

# KEYS ticket, outbox. ARGV job id, when to try again, why. What has left the outbox meanwhile stays out of it.
_POSTPONE = """
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
  redis.call('HDEL', KEYS[1], 'pushing')
  redis.call('HSET', KEYS[1], 'undelivered', ARGV[3])
  redis.call('HINCRBY', KEYS[1], 'pushes', 1)
end
"""

# KEYS ticket, outbox. ARGV job id, now, lease. -> 1 when the lease was still ours, and is now as long as at first.
_RENEW = """
if tonumber(redis.call('HGET', KEYS[1], 'pushing') or '0') <= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'pushing', ARGV[2] + ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2] + ARGV[3], ARGV[1])
return 1
"""


class Delivery:
    """The outbox of one Redis."""

    def __init__(self, redis: Redis, jobs: Jobs, verify_seconds: float):
        self.redis = redis
        self.jobs = jobs
        self.verify_seconds = verify_seconds
        self._answer = redis.register_script(_ANSWER)
        self._release = redis.register_script(_RELEASE)
        self._postpone = redis.register_script(_POSTPONE)
        self._take = redis.register_script(_TAKE)
        self._renew = redis.register_script(_RENEW)

    def hold(self, job_id: str, seconds: float) -> None:
        """A request waits for this job: let the courier keep back for `seconds`."""
        self.redis.hset(ticket_key(job_id), "hold", time.time() + seconds)

    def release(self, job_id: str) -> None:
        """That request has gone without it."""
        self._release([ticket_key(job_id), store.OUTBOX], [job_id, time.time()])

    def answer(self, job_id: str, answers: int = 1) -> dict[str, Any] | None:
        """The prediction, if this answer may carry it; None when the courier delivers (or just delivered) it.

        `answers` is the number of tasks of the request: Label Studio stores a long answer slowly, so it is verified
        later than a short one.
        """
        prediction = self.jobs.result(job_id)
        if prediction is None:
            return None
        grace = self.verify_seconds + 0.5 * (answers - 1)
        allowed = self._answer([ticket_key(job_id), store.OUTBOX], [job_id, time.time(), grace])
        return prediction if allowed else None

    def push_soon(self, job_id: str) -> None:
        """Leave it to the courier, now."""
        self.redis.zadd(store.OUTBOX, {job_id: time.time()}, nx=True)

    def take_due(self, limit: int) -> list[str]:
        """Ids whose time has come, oldest first, leased to the caller for `LEASE` seconds."""
        return [text(i) for i in self._take([store.OUTBOX], [time.time(), LEASE, limit, ticket_key("")])]

    def renew(self, job_id: str) -> bool:
        """Make a lease as long as at first; False when it ran out, so that another courier may be pushing."""
        return bool(self._renew([ticket_key(job_id), store.OUTBOX], [job_id, time.time(), LEASE]))

    def delivered(self, job_id: str) -> None:
        """Label Studio has it."""
        self._leave(job_id, "delivered", {"delivered": time.time()})

    def deliver_again(self, job_id: str) -> None:
        """Label Studio does not hold a prediction that was delivered before: leave it to the courier, now."""
        self.redis.hdel(ticket_key(job_id), "delivered")
        self.push_soon(job_id)

    def look_again(self, job_id: str, seconds: float | None = None) -> None:
        """Have a delivered prediction checked once more: a late answer may have arrived beside the push."""
        self.redis.hset(ticket_key(job_id), "again", 1)
        later = self.verify_seconds if seconds is None else seconds
        self.redis.zadd(store.OUTBOX, {job_id: time.time() + later})

    def drop(self, job_id: str) -> None:
        """There is nobody to deliver it to (the task is gone), or nothing to deliver."""
        self._leave(job_id, "dropped", {})

    def postpone(self, job_id: str, seconds: float, reason: str) -> None:
        """Try again in `seconds`; `reason` shows in `status`."""
        self._postpone([ticket_key(job_id), store.OUTBOX], [job_id, time.time() + seconds, reason])

    def pending(self) -> int:
        """How many predictions wait for the courier (answers not yet verified included)."""
        return int(self.redis.zcard(store.OUTBOX))

    def _leave(self, job_id: str, counter: str, fields: dict[str, float]) -> None:
        """Out of the outbox; from now on ticket and result are only kept for a while."""
        key = ticket_key(job_id)
        is_news = not self.redis.hdel(key, "again")
        with self.redis.pipeline() as pipe:
            pipe.zrem(store.OUTBOX, job_id)
            pipe.hdel(key, "answered", "pushing", "pushes", "undelivered", "hold", "replaces")
            for field, value in fields.items():
                pipe.hset(key, field, value)
            pipe.expire(key, self.jobs.keep_seconds)
            pipe.expire(result_key(job_id), self.jobs.keep_seconds)
            pipe.hincrby(store.COUNTERS, counter, int(is_news))
            pipe.execute()


def backoff(pushes: int, jitter: float) -> float:
    """Seconds until the next push after `pushes` failed ones: 1, 2, 4 ... 300, spread by `jitter` in 0..1."""
    return float(min(300.0, 2.0 ** min(pushes, 9))) * (0.75 + 0.5 * jitter)


def oldest_age(redis: Redis, key: str, now: float | None = None) -> float | None:
    """Age in seconds of the oldest member of a sorted set of times, None when it is empty."""
    first = cast(list[tuple[bytes, float]], redis.zrange(key, 0, 0, withscores=True))
    return (now or time.time()) - first[0][1] if first else None
