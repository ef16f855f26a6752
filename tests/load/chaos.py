"""`make chaos`: a night with dying machines, in minutes. One prediction of the right image per task must come out.

Imports tell the backend of new tasks by webhook while workers and the courier are killed with SIGKILL, Redis is killed
and started again, refuses writes and is emptied, Label Studio goes away for a while, and people open some of the tasks
(their requests compete with the courier's pushes). Tasks and a project are deleted while their jobs are open, and new
ones get their ids; images of tasks change; a webhook is deleted. Nobody asks for tasks whose webhook was lost. The last
line printed is one JSON object; the exit code is 1 after a loss, a doublet or a prediction of another image.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from redis.exceptions import RedisError

from tests.load.rig import Rig, summary
from tests.load.shelf import Faults
from tests.load.upheavals import Steps, Upheavals

OPENED = 10
"""People open every tenth task only: what they ask for again could otherwise hide what was lost."""


@dataclass(frozen=True)
class Scenario:
    """What happens; the defaults are the promise. Times in seconds; 0 means never."""

    tasks: int = 1000
    """Those of the regular imports; each upheaval brings `batch` more. With a batch of 0 there is no upheaval."""
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
    batch: int = 20
    change_open_at: float = 15.0
    reuse_ids_at: float = 20.0
    replace_project_at: float = 95.0
    redis_refuses_at: float = 102.0
    redis_refuses_for: float = 20.0
    redis_emptied_at: float = 130.0
    change_delivered_at: float = 140.0
    lose_webhook_at: float = 145.0
    converge: float = 5.0
    """How often the courier compares projects with what they should hold."""
    faults: Faults = field(default_factory=Faults)
    hurry: float = 1.0
    settings: dict[str, str] = field(default_factory=dict)
    limit: float = 900.0
    seed: int = 1

    def upheavals(self, all_of_them: Upheavals) -> list[tuple[float, Steps]]:
        """When each upheaval begins."""
        planned = (
            (self.change_open_at, all_of_them.change_open()),
            (self.reuse_ids_at, all_of_them.reuse_ids()),
            (self.replace_project_at, all_of_them.replace_project()),
            (self.redis_refuses_at, all_of_them.refuse_writes(self.redis_refuses_for)),
            (self.redis_emptied_at, all_of_them.empty_redis()),
            (self.change_delivered_at, all_of_them.change_delivered()),
            (self.lose_webhook_at, all_of_them.lose_webhook()),
        )
        return [(at, steps) for at, steps in planned if at and self.batch]


class Chaos:
    """One run of a scenario on a rig."""

    def __init__(self, scenario: Scenario, rig: Rig, say: Callable[[str], None]):
        self.scenario = scenario
        self.rig = rig
        self.say = say
        self.chance = random.Random(scenario.seed)
        self.upheavals = Upheavals(rig, scenario.batch, self.chance, say)
        self.killed = {"worker": 0, "courier": 0, "redis": 0}
        self.dead: dict[str, float] = {}
        """Executions of killed workers, with the time of death, until they are noticed."""
        self.noticed: list[float] = []
        self.sent = 0
        self.web_memory = 0.0
        self._due: list[tuple[float, float, Callable[[], None]]] = []
        self._under_way: list[tuple[float, Steps]] = []
        self._settled_at: float | None = None
        """Since when every task holds one prediction, made from its image."""

    def run(self) -> dict[str, Any]:
        """Play the scenario until every task has its prediction and keeps it, or its limit is over."""
        scenario, rig = self.scenario, self.rig
        begun = time.monotonic()
        rig.studio.faults(scenario.faults)
        self._plan(begun)
        while not self._settled() and time.monotonic() - begun < scenario.limit:
            rig.tick()
            self._do_what_is_due()
            self._go_on()
            self._look_for_noticed()
        report = rig.studio.report()
        late = [time.monotonic() - died for died in self.dead.values()]
        return {
            **summary(report, report["tasks"], time.monotonic() - begun),
            "failed": rig.failures(),
            "worker_kills": self.killed["worker"],
            "courier_kills": self.killed["courier"],
            "redis_restarts": self.killed["redis"],
            "webhooks_lost": report["counts"].get("webhooks lost", 0),
            **self.upheavals.counts,
            "dead_workers_with_a_job": len(self.noticed) + len(late),
            "dead_worker_noticed_after": round(max([*self.noticed, *late], default=0.0), 1),
            "web_memory_mb": round(self.web_memory, 1),
        }

    def _plan(self, begun: float) -> None:
        scenario = self.scenario
        self._every(scenario.import_every, self._import, begun)
        self._every(scenario.kill_worker_every, self._kill_worker)
        self._every(scenario.kill_courier_every, self._kill_courier)
        self._every(scenario.redis_restart_every if scenario.redis_restarts else 0, self._kill_redis)
        self._every(scenario.opens_every, self._open)
        self._every(5.0, self._progress)
        self._every(1.0, self._look_whether_settled)
        if scenario.studio_gone_for:
            self._due.append((begun + scenario.studio_gone_at, 0.0, self._gone))
            self._due.append((begun + scenario.studio_gone_at + scenario.studio_gone_for, 0.0, self._back))
        self._under_way = [(begun + at, steps) for at, steps in scenario.upheavals(self.upheavals)]

    def _every(self, seconds: float, what: Callable[[], None], first: float | None = None) -> None:
        if seconds:
            self._due.append((time.monotonic() + seconds if first is None else first, seconds, what))

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

    def _go_on(self) -> None:
        """Take the next step of each upheaval whose time has come."""
        under_way, self._under_way = self._under_way, []
        for at, steps in under_way:
            if at > time.monotonic():
                self._under_way.append((at, steps))
                continue
            pause = next(steps, None)
            if pause is not None:
                self._under_way.append((time.monotonic() + pause, steps))

    def _look_whether_settled(self) -> None:
        to_come = self.sent < self.scenario.tasks or self._under_way or self.dead
        if to_come or not all(period for _, period, _ in self._due):
            return
        report = self.rig.studio.report()
        if report["settled"] < report["tasks"]:
            self._settled_at = None
        elif self._settled_at is None:
            self._settled_at = time.monotonic()

    def _settled(self) -> bool:
        """Whether nothing is left to do, and that for longer than the courier takes to compare projects again."""
        still = self.scenario.converge + 1.0 if self.scenario.converge else 0.0
        return self._settled_at is not None and time.monotonic() - self._settled_at >= still and self.rig.idle()

    def _import(self) -> None:
        count = min(self.scenario.tasks_per_import, self.scenario.tasks - self.sent)
        if count > 0:
            self.rig.studio.import_tasks(count)
            self.sent += count

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
            f"{report['tasks']} tasks, {report['delivered']} delivered, {len(report['doubled'])} doubled, "
            f"{len(report['wrong'])} wrong; {running} of {len(self.rig.workers)} workers run; killed: {self.killed}; "
            f"{len(self.dead)} dead not yet noticed"
        )


def failed(result: dict[str, Any]) -> bool:
    """Whether a prediction was lost, doubled, or made from another image than its task's."""
    return bool(result["lost"] or result["doubled"] or result["wrong"])


def play(scenario: Scenario, say: Callable[[str], None], kind: type[Chaos] = Chaos) -> dict[str, Any]:
    """Start everything, play a scenario, stop everything; the summary."""
    settings = {"CAR_CONVERGE_SECONDS": f"{scenario.converge:g}", **scenario.settings}
    rig = Rig(scenario.workers, scenario.latency, hurry=scenario.hurry, settings=settings)
    with rig:
        result = kind(scenario, rig, say).run()
    if failed(result):
        say(f"The logs are in {rig.supervisor.logs}")
    else:
        rig.remove()
    return result


def main() -> int:
    """Play the scenario of the command line; 1 when something was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load.chaos",
        description=__doc__.splitlines()[0],
        epilog="Times in seconds; what happens at or every 0 never happens. --batch 0 leaves out all that happens to "
        "tasks, webhooks and the content of Redis.",
    )
    for one in fields(Scenario):
        if isinstance(one.default, int | float):
            name = f"--{one.name.replace('_', '-')}"
            parser.add_argument(name, type=type(one.default), default=one.default, help=f"default {one.default:g}")
    begun = time.monotonic()
    scenario = Scenario(**vars(parser.parse_args()))
    result = play(scenario, lambda line: print(f"{time.monotonic() - begun:6.1f} s  {line}", flush=True))
    print(json.dumps(result), flush=True)
    return int(failed(result))


if __name__ == "__main__":
    sys.exit(main())
