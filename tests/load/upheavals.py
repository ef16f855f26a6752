"""What may befall tasks and Redis in mid-work: deletions, changed images, a lost webhook, a Redis that forgets.

Each upheaval brings a batch of tasks of its own, so that there are jobs for it to meet. It is a generator: what it
yields is how many seconds to wait before it goes on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import requests
from redis.exceptions import RedisError

from tests.load.rig import Rig
from tests.load.stub_studio import PROJECT

OPEN_SECONDS = 1.0
"""So long after their import tasks have jobs: some are queued, some run, some are being delivered."""
AGAIN_SECONDS = 1.0

Steps = Iterator[float]


class Upheavals:
    """All upheavals of one rig, each with `batch` tasks; `counts` says what was done."""

    def __init__(self, rig: Rig, batch: int, chance: random.Random, say: Callable[[str], None]):
        self.rig = rig
        self.studio = rig.studio
        self.batch = batch
        self.chance = chance
        self.say = say
        self.counts: Counter[str] = Counter()

    def change_open(self) -> Steps:
        """Tasks get other images while their jobs are open."""
        tasks = self._bring()
        yield OPEN_SECONDS
        self._change(tasks)

    def change_delivered(self) -> Steps:
        """Tasks that have their prediction get other images."""
        delivered = self.studio.ids(delivered=True)
        self._change(self.chance.sample(delivered, min(self.batch, len(delivered))))
        yield from ()

    def reuse_ids(self) -> Steps:
        """The newest tasks are deleted by API while their jobs are open; tasks imported at once get their ids."""
        self._bring()
        yield OPEN_SECONDS
        before = self.studio.ids()
        new = self.studio.replace_newest(self.batch)["tasks"]
        self._count("ids_reused", len({*before} & {*new}))

    def replace_project(self) -> Steps:
        """A project is deleted while jobs of it are open; another gets its id, and its tasks get the old ids."""
        old = self.studio.create_project("deleted soon")
        yield from self._insist(lambda: self.studio.connect(self.rig.backend_url, old))
        tasks = self._bring(old)
        yield OPEN_SECONDS
        self.studio.delete_project(old)
        new = self.studio.create_project("in its place")
        yield from self._insist(lambda: self.studio.connect(self.rig.backend_url, new))
        self._count("ids_reused", len({*tasks} & {*self._bring(new)}))
        self._count("projects_replaced", int(old == new))

    def lose_webhook(self) -> Steps:
        """Somebody deletes the webhook, so that nobody tells of the next import."""
        for webhook in self.studio.webhooks():
            self.studio.delete_webhook(webhook["id"])
            self._count("webhooks_deleted", 1)
        self._bring()
        yield from ()

    def refuse_writes(self, seconds: float) -> Steps:
        """Redis answers, but refuses to write; there is an import meanwhile."""
        yield from self._insist(lambda: self.rig.redis.config_set("min-replicas-to-write", 1))
        self._count("redis_refusals", 1)
        yield seconds / 2
        self._bring()
        yield seconds / 2
        yield from self._insist(lambda: self.rig.redis.config_set("min-replicas-to-write", 0))
        self.say("  Redis writes again")

    def empty_redis(self) -> Steps:
        """Redis loses all that it holds, open jobs included."""
        self._bring()
        yield OPEN_SECONDS
        yield from self._insist(self.rig.redis.flushall)
        self._count("redis_emptied", 1)

    def _bring(self, project: int = PROJECT) -> list[int]:
        ids: list[int] = self.studio.import_tasks(self.batch, project)["tasks"]
        return ids

    def _change(self, tasks: list[int]) -> None:
        self.studio.change_images(tasks)
        self._count("images_changed", len(tasks))

    def _count(self, what: str, number: int) -> None:
        self.counts[what] += number
        self.say(f"  {what.replace('_', ' ')}: {number}")

    @staticmethod
    def _insist(what: Callable[[], object]) -> Steps:
        """Try until it works: Redis, and with it the backend, may be away just then."""
        while True:
            try:
                what()
                return
            except (RedisError, requests.HTTPError):
                yield AGAIN_SECONDS
