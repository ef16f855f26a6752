"""`make soak`: constant load for a long time on a Label Studio that fails now and then; memory must stay flat.

No process is killed. The last line printed is one JSON object; the exit code is 1 when a prediction is lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from tests.load.chaos import Chaos, Scenario
from tests.load.rig import Rig
from tests.load.shelf import Faults

FAULTS = Faults(latency=0.02, errors=0.02, resets=0.01)
"""What Label Studio on SQLite does under load: some requests meet a locked database, some connections break."""
SAMPLE_EVERY = 5.0
WARM_SHARE = 0.2
"""Caches and pools fill in the first part of a soak; the slope is that of the rest."""


class Soak(Chaos):
    """A scenario without kills that samples the memory of every process."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.begun = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = {}

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
    args = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)

    seconds = args.minutes * 60
    scenario = Scenario(
        tasks=int(args.rate * seconds),
        workers=args.workers,
        latency=args.latency,
        kill_worker_every=0,
        kill_courier_every=0,
        redis_restarts=0,
        studio_gone_for=0,
        import_every=Scenario.tasks_per_import / args.rate,
        faults=FAULTS,
        limit=seconds + 600,
    )
    rig = Rig(args.workers, args.latency)
    with rig:
        soak = Soak(scenario, rig, say)
        result = soak.run()
    failed = bool(result["lost"] or result["doubled"])
    if failed:
        say(f"The logs are in {rig.supervisor.logs}")
    else:
        rig.remove()
    table = soak.memory_table()
    print(f"{'MB':<12}{'first':>8}{'last':>8}{'most':>8}{'per hour':>10}")
    for name, row in table.items():
        print(f"{name:<12}{row['first']:>8}{row['last']:>8}{row['most']:>8}{row['per_hour']:>10}")
    print(json.dumps({**result, "memory_mb": table}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
