"""`make chaos`: a night with dying machines, in minutes. One prediction per task must come out.

Imports tell the backend of new tasks by webhook while workers and the courier are killed with SIGKILL, Redis is killed
and started again, Label Studio goes away for a while, and people open some of the tasks (their requests compete with
the courier's pushes). The last line printed is one JSON object; the exit code is 1 after a loss or a doublet.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from tests.load.rig import Rig, summary
from tests.load.shelf import Faults

OPENED = 10
"""People open every tenth task only: what they ask for again could otherwise hide what was lost."""


@dataclass(frozen=True)
class Scenario:
    """What happens; the defaults are the promise. Times in seconds; 0 means never."""

    tasks: int = 1000
    workers: int = 4
    latency: float = 0.2
    kill_worker_every: float = 3.0
    kill_courier_every: float = 10.0
    redis_restarts: int = 2
    redis_restart_every: float = 25.0
    studio_gone_at: float = 30.0
    studio_gone_for: float = 60.0
    opens_every: float = 1.0
    import_every: float = 2.0
    tasks_per_import: int = 50
    faults: Faults = field(default_factory=Faults)
    hurry: float = 1.0
    settings: dict[str, str] = field(default_factory=dict)
    limit: float = 900.0
    seed: int = 1


class Chaos:
    """One run of a scenario on a rig."""

    def __init__(self, scenario: Scenario, rig: Rig, say: Callable[[str], None]):
        self.scenario = scenario
        self.rig = rig
        self.say = say
        self.chance = random.Random(scenario.seed)
        self.killed = {"worker": 0, "courier": 0, "redis": 0}
        self.dead: dict[str, float] = {}
        """Executions of killed workers, with the time of death, until they are noticed."""
        self.noticed: list[float] = []
        self.sent = 0
        self.unheard: list[int] = []
        """Tasks whose webhook was not accepted; somebody will press Retrieve for them."""
        self._somebody = ThreadPoolExecutor(1)
        self._pressed: Future[list[int]] | None = None
        """Whoever presses Retrieve waits for the answer, up to CAR_WAIT; the supervisor must not wait with them."""
        self.web_memory = 0.0
        self._due: list[tuple[float, float, Callable[[], None]]] = []

    def run(self) -> dict[str, Any]:
        """Play the scenario until all is delivered, or its limit is over."""
        scenario, rig = self.scenario, self.rig
        begun = time.monotonic()
        rig.studio.faults(scenario.faults)
        self._plan(begun)
        while True:
            rig.tick()
            passed = time.monotonic() - begun
            self._do_what_is_due()
            self._look_for_noticed()
            done = self.sent >= scenario.tasks and not self.unheard and rig.idle() and not self.dead
            if done or passed > scenario.limit:
                break
        result = summary(rig.studio.report(), self.sent, time.monotonic() - begun)
        late = [time.monotonic() - died for died in self.dead.values()]
        return {
            **result,
            "failed": rig.failures(),
            "worker_kills": self.killed["worker"],
            "courier_kills": self.killed["courier"],
            "redis_restarts": self.killed["redis"],
            "dead_workers_with_a_job": len(self.noticed) + len(late),
            "dead_worker_noticed_after": round(max([*self.noticed, *late], default=0.0), 1),
            "web_memory_mb": round(self.web_memory, 1),
        }

    def _plan(self, begun: float) -> None:
        scenario = self.scenario

        def every(seconds: float, what: Callable[[], None], first: float | None = None) -> None:
            if seconds:
                self._due.append((begun + (seconds if first is None else first), seconds, what))

        every(scenario.import_every, self._import, first=0.0)
        every(scenario.kill_worker_every, self._kill_worker)
        every(scenario.kill_courier_every, self._kill_courier)
        every(scenario.redis_restart_every if scenario.redis_restarts else 0, self._kill_redis)
        every(scenario.opens_every, self._open)
        every(5.0, self._retrieve_unheard)
        every(5.0, self._progress)
        if scenario.studio_gone_for:
            self._due.append((begun + scenario.studio_gone_at, 0.0, self._gone))
            self._due.append((begun + scenario.studio_gone_at + scenario.studio_gone_for, 0.0, self._back))

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        due, self._due = self._due, []
        for at, period, what in due:
            if at > now:
                self._due.append((at, period, what))
                continue
            what()
            if period:
                self._due.append((max(at + period, now), period, what))

    def _import(self) -> None:
        count = min(self.scenario.tasks_per_import, self.scenario.tasks - self.sent)
        if count > 0:
            told = self.rig.studio.import_tasks(count)
            self.sent += count
            if not told["accepted"]:
                self.unheard += told["tasks"]

    def _retrieve_unheard(self) -> None:
        # While Redis is away even an answered request asks for nothing: people press the button until they see masks.
        if self._pressed is not None and self._pressed.done():
            seen = set(self._pressed.result())
            self.unheard = [task for task in self.unheard if task not in seen]
            self._pressed = None
        if self.unheard and self._pressed is None:
            self._pressed = self._somebody.submit(self._retrieve, list(self.unheard))

    def _retrieve(self, tasks: list[int]) -> list[int]:
        return tasks if self.rig.studio.retrieve(tasks)["lacking"] == 0 else []

    def _open(self) -> None:
        if self.sent:
            self.rig.studio.open(self.chance.randrange(0, self.sent, OPENED) + 1)

    def _kill_worker(self) -> None:
        running = [name for name in self.rig.workers if self.rig.alive(name)]
        if not running:
            return
        pid = self.rig.kill(self.chance.choice(running))
        self.killed["worker"] += 1
        try:
            self.dead.update(dict.fromkeys(self.rig.executions_of(pid), time.monotonic()))
        except RedisError:
            self.say("  (Redis is away: this worker's job is not timed)")

    def _look_for_noticed(self) -> None:
        try:
            started = set(self.rig.started()) if self.dead else set()
        except RedisError:
            return
        for execution in self.dead.keys() - started:
            self.noticed.append(time.monotonic() - self.dead.pop(execution))

    def _kill_courier(self) -> None:
        if self.rig.alive("courier"):
            self.rig.kill("courier")
            self.killed["courier"] += 1

    def _kill_redis(self) -> None:
        if self.killed["redis"] < self.scenario.redis_restarts and self.rig.alive("redis"):
            self.rig.kill("redis")
            self.killed["redis"] += 1
            self.say("  Redis is killed")

    def _gone(self) -> None:
        self.rig.studio.gone()
        self.say(f"  Label Studio is gone for {self.scenario.studio_gone_for:g} s")

    def _back(self) -> None:
        self.rig.studio.back()
        self.say("  Label Studio is back")

    def _progress(self) -> None:
        self.web_memory = max(self.web_memory, self.rig.memory().get("backend", 0.0))
        report = self.rig.studio.report()
        running = sum(map(self.rig.alive, self.rig.workers))
        self.say(
            f"{self.sent} sent, {report['delivered']} delivered, {len(report['doubled'])} doubled; "
            f"{running} of {len(self.rig.workers)} workers run; killed: {self.killed}; "
            f"{len(self.dead)} dead not yet noticed"
        )


def play(scenario: Scenario, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Start everything, play a scenario, stop everything; the summary."""
    rig = Rig(scenario.workers, scenario.latency, hurry=scenario.hurry, settings=scenario.settings)
    with rig:
        result = Chaos(scenario, rig, say).run()
    if result["lost"] or result["doubled"]:
        say(f"The logs are in {rig.supervisor.logs}")
    else:
        rig.remove()
    return result


def main() -> int:
    """Play the scenario of the command line; 1 when something was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.chaos", description=__doc__.splitlines()[0])
    defaults = Scenario()
    for name in ("tasks", "workers", "redis_restarts", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    times = ("latency", "kill_worker_every", "kill_courier_every", "redis_restart_every", "studio_gone_at")
    for name in (*times, "studio_gone_for", "opens_every", "import_every", "limit"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    begun = time.monotonic()
    scenario = Scenario(**vars(parser.parse_args()))
    result = play(scenario, lambda line: print(f"{time.monotonic() - begun:6.1f} s  {line}", flush=True))
    print(json.dumps(result), flush=True)
    return 1 if result["lost"] or result["doubled"] else 0


if __name__ == "__main__":
    sys.exit(main())
