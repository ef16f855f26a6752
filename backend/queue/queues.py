"""Fair queues from which no job is ever lost.

RQ pushes ids to one list per queue. In the step in which a worker takes a job, what has arrived there is sorted into
one *line* per project, and the projects take turns: whoever has ten tasks does not wait for ten thousand of somebody
else's. A paused project's line is passed over.

    rq:queue:batch --arrive--> car:line:batch:1, car:line:batch:2, ... --take, in turns--> rq:queue:batch:intermediate
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, cast

from redis import Redis
from rq import Queue
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job as RQJob

from backend import store
from backend.queue.job import project_of
from backend.store import text

SORT_AT_ONCE = 1000
"""Arrivals that one step sorts: a few milliseconds, in which nobody else gets at Redis."""
ALL = "*"
"""In `store.PAUSED`: every project."""

# Lua: put an id into its project's line, and the project among those that take turns (it comes last).
_JOIN = """
local function join(push, turns, lines, project, id)
  redis.call(push, lines .. project, id)
  if not redis.call('LPOS', turns, project) then redis.call('RPUSH', turns, project) end
end
"""

# KEYS RQ's list, turns, taken, paused. ARGV prefix of the lines, how many to sort. -> job id or nothing.
_TAKE = (
    _JOIN
    + """
for _, id in ipairs(redis.call('LPOP', KEYS[1], ARGV[2]) or {}) do
  join('RPUSH', KEYS[2], ARGV[1], string.match(id, '^p(%d+)-') or '0', id)
end
if redis.call('SISMEMBER', KEYS[4], '*') == 1 then return false end
for _ = 1, redis.call('LLEN', KEYS[2]) do
  local project = redis.call('LMOVE', KEYS[2], KEYS[2], 'LEFT', 'RIGHT')
  if redis.call('SISMEMBER', KEYS[4], project) == 0 then
    local id = redis.call('LMOVE', ARGV[1] .. project, KEYS[3], 'LEFT', 'RIGHT')
    if id then return id end
    redis.call('LREM', KEYS[2], 0, project)
  end
end
return false
"""
)

# KEYS turns, taken. ARGV prefix of the lines, project, job id.
_GIVE_BACK = (
    _JOIN
    + """
if redis.call('LREM', KEYS[2], 1, ARGV[3]) == 0 then return 0 end
join('LPUSH', KEYS[1], ARGV[1], ARGV[2], ARGV[3])
return 1
"""
)

# KEYS this RQ's list, this line, the other RQ's list, RQ's hash of the job. ARGV job id, name of the other queue.
_PROMOTE = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) + redis.call('LREM', KEYS[2], 1, ARGV[1]) > 0 then
  redis.call('RPUSH', KEYS[3], ARGV[1])
  redis.call('HSET', KEYS[4], 'origin', ARGV[2])
end
"""

# KEYS a list of job ids. ARGV prefix of tickets. Leaves those that have a ticket.
_TIDY = """
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
for _, id in ipairs(ids) do
  if redis.call('EXISTS', ARGV[1] .. id) == 1 then redis.call('RPUSH', KEYS[1], id) end
end
"""


class TakingQueue(Queue):  # type: ignore[misc]
    """A queue from which projects take turns, and a job is taken without a moment in which it is nowhere.

    RQ 2.12 moves jobs (LMOVE into an intermediate list) only for workers with one queue; with two it pops, and a worker
    killed between popping and starting loses the job. This one moves for any number of queues, first queue first.
    """

    POLL_SECONDS = 0.25

    @classmethod
    def dequeue_any(  # type: ignore[no-untyped-def]
        cls, queues: Iterable[Queue], timeout: int | None, connection, job_class=None, serializer=None, **kwargs: Any
    ) -> tuple[RQJob, Queue] | None:
        """See `rq.Queue.dequeue_any`: waits up to `timeout` seconds, None means do not wait."""
        queues = list(queues)
        until = time.monotonic() + (timeout or 0)
        while True:
            for queue in queues:
                taken = IntermediateQueue.get_intermediate_queue_key(queue.key)
                keys = [queue.key, store.turns_key(queue.name), taken, store.PAUSED]
                ask = (_TAKE, len(keys), *keys, store.line_key(queue.name, ""), SORT_AT_ONCE)
                while (job_id := connection.eval(*ask)) is not None:
                    try:
                        found = (job_class or RQJob).fetch(text(job_id), connection, serializer)
                    except NoSuchJobError:
                        queue.intermediate_queue.remove(text(job_id))
                    else:
                        return found, queue
            if timeout is None:
                return None
            if time.monotonic() >= until:
                raise DequeueTimeout(timeout, [queue.key for queue in queues])
            time.sleep(cls.POLL_SECONDS)

    def waiting(self) -> dict[str, int]:
        """Project -> how many of its jobs stand in line; those that have only just arrived are counted as "new"."""
        projects = [text(project) for project in self.connection.lrange(store.turns_key(self.name), 0, -1)]
        lengths = {project: int(self.connection.llen(store.line_key(self.name, project))) for project in projects}
        lengths["new"] = int(self.connection.llen(self.key))
        return {project: length for project, length in lengths.items() if length}

    @property
    def count(self) -> int:
        """How many jobs wait."""
        return sum(self.waiting().values())

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        """Ids of the jobs that wait, each project's in order. See `rq.Queue.get_job_ids`."""
        # Read in the direction in which jobs move, so that none slips through meanwhile.
        arrived = self.connection.lrange(self.key, 0, -1)
        projects = map(text, self.connection.lrange(store.turns_key(self.name), 0, -1))
        lines = [self.connection.lrange(store.line_key(self.name, project), 0, -1) for project in projects]
        ids = list(dict.fromkeys(text(job_id) for part in (*lines, arrived) for job_id in part))
        return ids[offset:] if length < 0 else ids[offset : offset + length]

    def give_back(self, job_id: str) -> bool:
        """Put a job that was taken but not started to the front of its line; False when it was not taken (any more)."""
        keys = [store.turns_key(self.name), self.intermediate_queue_key]
        line = store.line_key(self.name, "")
        return bool(self.connection.eval(_GIVE_BACK, len(keys), *keys, line, project_of(job_id), job_id))

    def promote(self, job_id: str, other: TakingQueue) -> None:
        """Move a job that waits here to another queue: somebody opened a task of the night's batch."""
        line = store.line_key(self.name, project_of(job_id))
        keys = [self.key, line, other.key, RQJob.key_for(job_id)]
        self.connection.eval(_PROMOTE, len(keys), *keys, job_id, other.name)

    def tidy(self, project: str) -> None:
        """Take jobs without a ticket out of a project's line: those that were cancelled."""
        for key in (self.key, store.line_key(self.name, project)):
            self.connection.eval(_TIDY, 1, key, store.ticket_key(""))


def pause(redis: Redis, project: int | None = None) -> None:
    """Let the jobs of a project, or all, wait; what runs already is finished and delivered."""
    redis.sadd(store.PAUSED, ALL if project is None else project)


def resume(redis: Redis, project: int | None = None) -> None:
    """Let the jobs of a project go on, or those of all, whatever was paused."""
    if project is None:
        redis.delete(store.PAUSED)
    else:
        redis.srem(store.PAUSED, project)


def paused(redis: Redis) -> list[str]:
    """What is paused: ids of projects, `ALL` for everything."""
    return sorted(text(one) for one in cast(set[bytes], redis.smembers(store.PAUSED)))


def is_paused(redis: Redis, project: str) -> bool:
    """Whether a project's jobs wait until they are resumed."""
    return not {ALL, project}.isdisjoint(paused(redis))
