"""`make soak`: constant load for a long time on a Label Studio that fails now and then; memory must stay flat.

No process is killed. Now and then tasks get other images, or are deleted and imported anew. The last line printed is
one JSON object; the exit code is 1 when a prediction is lost, doubled or of another image.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.load.chaos import Chaos, Scenario, failed, play
from tests.load.rig import Rig
from tests.load.shelf import Faults
from tests.load.upheavals import Steps, Upheavals

FAULTS = Faults(latency=0.02, errors=0.02, resets=0.01)
"""What Label Studio on SQLite does under load: some requests meet a locked database, some connections break."""
WARM_SHARE = 0.2
"""Caches and pools fill in the first part of a soak; the slope is that of the rest."""


@dataclass(frozen=True)
class Constant(Scenario):
    """Nobody dies. What happens to tasks happens again and again, while imports last; 0 means never."""

    workers: int = 2
    kill_worker_every: float = 0.0
    kill_courier_every: float = 0.0
    redis_restarts: int = 0
    studio_gone_for: float = 0.0
    faults: Faults = FAULTS
    change_every: float = 60.0
    reuse_every: float = 300.0

    def upheavals(self, all_of_them: Upheavals) -> list[tuple[float, Steps]]:
        return []


class Soak(Chaos):
    """Plays a `Constant` scenario and samples the memory of every process."""

    scenario: Constant

    def __init__(self, scenario: Constant, rig: Rig, say: Callable[[str], None]) -> None:
        super().__init__(scenario, rig, say)
        self.begun = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = {}

    def run(self) -> dict[str, Any]:
        return {**super().run(), "memory_mb": self.memory_table()}

    def _plan(self, begun: float) -> None:
        super()._plan(begun)
        self._every(self.scenario.change_every, lambda: self._begin(self.upheavals.change_delivered))
        self._every(self.scenario.reuse_every, lambda: self._begin(self.upheavals.reuse_ids))

    def _begin(self, upheaval: Callable[[], Steps]) -> None:
        if self.scenario.batch and self.sent < self.scenario.tasks:
            self._under_way.append((time.monotonic(), upheaval()))

    def _progress(self) -> None:
        super()._progress()
        passed = time.monotonic() - self.begun
        for name, megabytes in self.rig.memory().items():
            self.samples.setdefault(name, []).append((passed, megabytes))

    def memory_table(self) -> dict[str, dict[str, float]]:
        """Per program: MB at the start of the steady part, at its end, the most, and the slope in MB per hour."""
        return {name: _trend(np.array(samples)) for name, samples in self.samples.items()}


def _trend(samples: np.ndarray) -> dict[str, float]:
    """`samples` is [N, 2]: seconds, MB."""
    steady = samples[samples[:, 0] >= WARM_SHARE * samples[-1, 0]]
    slope = np.polyfit(steady[:, 0], steady[:, 1], 1)[0] * 3600 if len(steady) > 2 else 0.0
    first, last, most = steady[0, 1], steady[-1, 1], samples[:, 1].max()
    return {"first": round(first, 1), "last": round(last, 1), "most": round(most, 1), "per_hour": round(slope, 1)}


def main() -> int:
    """Soak for the minutes of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the segmenter sleeps (default 0.2)")
    parser.add_argument("--rate", type=float, default=5.0, help="tasks per second (default 5)")
    parser.add_argument("--batch", type=int, default=20, help="tasks that change or are deleted at once (default 20)")
    parser.add_argument(
        "--change-every", type=float, default=60.0, help="seconds until a batch gets new images (default 60; 0: never)"
    )
    parser.add_argument(
        "--reuse-every",
        type=float,
        default=300.0,
        help="seconds until a batch is deleted, and one with the same ids imported (default 300; 0: never)",
    )
    parser.add_argument(
        "--converge", type=float, default=5.0, help="how often the courier compares projects (default 5; 0: never)"
    )
    args = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)

    seconds = args.minutes * 60
    scenario = Constant(
        tasks=int(args.rate * seconds),
        workers=args.workers,
        latency=args.latency,
        import_every=Scenario.tasks_per_import / args.rate,
        batch=args.batch,
        change_every=args.change_every,
        reuse_every=args.reuse_every,
        converge=args.converge,
        limit=seconds + 600,
    )
    result = play(scenario, say, Soak)
    print(f"{'MB':<12}{'first':>8}{'last':>8}{'most':>8}{'per hour':>10}")
    for name, row in result["memory_mb"].items():
        print(f"{name:<12}{row['first']:>8}{row['last']:>8}{row['most']:>8}{row['per_hour']:>10}")
    print(json.dumps(result), flush=True)
    return int(failed(result))


if __name__ == "__main__":
    sys.exit(main())
