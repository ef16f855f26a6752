"""`prelabel` of 2,000 tasks, killed twice and started again: `python -m tests.load.bulk`.

The command runs in a terminal of its own, so that its progress bar is read as people see it. The last line printed is
one JSON object; the exit code is 1 when a task has not exactly one prediction, or the bar told something untrue.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from backend.local.services import ROOT
from tests.load.rig import Rig
from tests.load.stub_studio import PROJECT

LAG = 3.0
"""Seconds by which the bar may be late: a poll, a drawing, and this machine's other work."""
_COUNTS = re.compile(r"(\d+)/(\d+) \[(?:(\d+):)?(\d+):(\d+)<([^,]*),\s*(?:([\d.]+)(task/s|s/task)|\?)")


@dataclass(frozen=True)
class Reading:
    """One drawing of the bar: when it was read, tasks done, of how many, seconds so far, tasks a second."""

    at: float
    done: int
    total: int
    elapsed: int
    rate: float | None


@dataclass
class Run:
    """One `prelabel` in a terminal of its own; what its bar showed, and what it printed."""

    rig: Rig
    window: int
    readings: list[Reading] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def play(self, until: Callable[[int], bool]) -> int:
        """Run until the command ends, or `until` says of the number delivered that it is to be killed; exit code."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        command = [sys.executable, "-m", "backend", "prelabel", "--project", str(PROJECT), "--json"]
        command += ["--window", str(self.window)]
        process = subprocess.Popen(command, env=self.rig.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=slave, text=True)
        os.close(slave)
        self.delivered: list[tuple[float, int]] = []
        while process.poll() is None:
            self._read(master)
            self.rig.tick(0.05)
            self.delivered.append((time.monotonic(), self.rig.studio.report()["delivered"]))
            if until(self.delivered[-1][1]):
                process.send_signal(signal.SIGKILL)
                break
        out, _ = process.communicate()
        self._read(master)
        os.close(master)
        if process.returncode >= 0 and out.strip():
            self.summary = json.loads(out.splitlines()[-1])
        return process.returncode

    def _read(self, master: int) -> None:
        while select.select([master], [], [], 0)[0]:
            try:
                text = os.read(master, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                return
            if not text:
                return
            for done, total, hours, minutes, seconds, _, number, unit in _COUNTS.findall(text):
                elapsed = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
                rate = None if not number else float(number) if unit == "task/s" else 1 / float(number)
                self.readings.append(Reading(time.monotonic(), int(done), int(total), elapsed, rate))

    def untrue(self) -> list[str]:
        """What the bar showed and Label Studio did not have, or had long before."""
        told = []
        for reading in self.readings:
            now = max((count for at, count in self.delivered if at <= reading.at + 0.5), default=0)
            before = max((count for at, count in self.delivered if at <= reading.at - LAG), default=0)
            if self.delivered and not before <= reading.done <= now and reading.done != reading.total:
                told.append(f"{reading.done} shown, {before} to {now} delivered")
        for first, last in zip(self.readings[:1], self.readings[-1:], strict=True):
            if last.rate and last.elapsed >= 5:
                rate = (last.done - first.done) / last.elapsed
                if not 0.75 * rate <= last.rate <= 1.33 * rate:
                    told.append(f"{last.rate} tasks a second shown, {rate:.2f} in {last.elapsed} s")
        return told


def play(
    tasks: int, workers: int, kills: int, latency: float, window: int, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Add tasks of which nobody is told, pre-label them with `kills` interruptions; the summary."""
    with Rig(workers, latency, settings={"CAR_CONVERGE_SECONDS": "0"}) as rig:  # nobody but `prelabel` asks for them
        rig.studio.add_tasks(tasks)
        begun, untrue, shown = time.monotonic(), [], 0
        for number in range(1, kills + 1):
            run = Run(rig, window)
            code = run.play(lambda delivered, least=number * tasks // (kills + 1): delivered >= least)  # type: ignore[misc]
            untrue += run.untrue()
            shown += len(run.readings)
            say(f"killed (exit code {code}) with {rig.studio.report()['delivered']} of {tasks} delivered")
        last = Run(rig, window)
        code = last.play(lambda delivered: False)
        untrue += last.untrue()
        rig.wait(rig.idle, 120)
        report = rig.studio.report()
        told = last.summary
        result = {
            "tasks": tasks,
            "delivered": report["delivered"],
            "lost": tasks - report["delivered"],
            "doubled": len(report["doubled"]),
            "wrong": len(report["wrong"]),
            "seconds": round(time.monotonic() - begun, 1),
            "exit_code": code,
            "last_run": {name: told.get(name) for name in ("total", "todo", "done", "finished")},
            "bar_ended_at": [last.readings[-1].done, last.readings[-1].total] if last.readings else None,
            "drawings_of_the_bar": shown + len(last.readings),
            "untrue": untrue[:10],
            "tally": told.get("tally"),
        }
    rig.remove()
    return result


def main() -> int:
    """Play once; 1 when something was lost, doubled, wrong or untrue."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.bulk", description=__doc__.splitlines()[0])
    for name, default in (("tasks", 2000), ("workers", 2), ("kills", 2), ("window", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="of the segmenter")
    result = play(**vars(parser.parse_args()))
    print(json.dumps(result), flush=True)
    return int(any(result[name] for name in ("lost", "doubled", "wrong", "untrue", "exit_code")))


if __name__ == "__main__":
    sys.exit(main())
