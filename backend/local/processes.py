"""Starting processes, watching them, and stopping all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backend.local.console import Console
from backend.local.marks import MARK, stop_marked

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a process that died is started again: doubled each time, up to the longest."""

STEADY_AFTER = 60.0
"""Seconds after which a process counts as running well, and its next death as the first."""

HOPELESS_AFTER = 3
"""Deaths in a row after which the log is shown, and nobody waits for the program any more."""

LOG_LIMIT = 10 * 2**20
"""Bytes of a log beyond which the next start begins a new one and keeps the old as NAME.log.1."""


class LocalError(Exception):
    """What was started doesn't work; the message says what to do and shows the log."""


@dataclass(frozen=True)
class Program:
    """What to start: `name` is that of its log; `env` is its whole environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    grace: float = 10.0
    """Seconds between the request to stop and force."""


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    pause: float
    """Seconds before the next start, should it die."""
    deaths: int = 0
    due_at: float | None = None


class Supervisor:
    """Keeps the processes of one run alive, each in a process group of its own and with its own log."""

    def __init__(self, folder: Path, console: Console) -> None:
        """`folder` is the run's: logs go to its `logs/`, and every process carries its path (see `marks`)."""
        self.folder = folder
        self.logs = folder / "logs"
        self.console = console
        self.hurry = False
        """Set by a second Ctrl-C: stop by force now."""
        self._children: dict[str, _Child] = {}

    @property
    def pids(self) -> dict[str, int]:
        """Return the process id of every program, by name."""
        return {name: child.process.pid for name, child in self._children.items()}

    def start(self, program: Program) -> None:
        """Start a program and keep it running from now on."""
        self._children[program.name] = _Child(program, self._spawn(program), time.monotonic(), FIRST_PAUSE)

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        log = self.log(program.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            output.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(program.command)}\n".encode())
            output.flush()
            try:
                return subprocess.Popen(
                    program.command,
                    env={**program.env, MARK: str(self.folder)},
                    cwd=program.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise LocalError(f"{program.command[0]} can't be started: {error}") from error

    def check(self) -> None:
        """Start again what has died, after a pause that grows; to be called several times a second."""
        now = time.monotonic()
        for child in self._children.values():
            if child.due_at is not None:
                if now >= child.due_at:
                    child.process, child.started_at, child.due_at = self._spawn(child.program), now, None
            elif (code := child.process.poll()) is not None:
                self._died(child, code, now)

    def _died(self, child: _Child, code: int, now: float) -> None:
        _signal_group(child.process.pid, signal.SIGKILL)  # what it leaves behind would hold its port
        if now - child.started_at > STEADY_AFTER:
            child.pause, child.deaths = FIRST_PAUSE, 0
        child.deaths += 1
        child.due_at = now + child.pause
        self.console.warn(
            f"{child.program.name} has stopped ({_ending(code)}); it starts again in {child.pause:g} s. "
            f"Its log: {self.log(child.program.name)}"
        )
        if child.deaths == HOPELESS_AFTER:
            self.console.warn(f"{child.program.name} keeps stopping.{self.log_end(child.program.name)}")
        child.pause = min(2 * child.pause, LONGEST_PAUSE)

    def wait(
        self,
        condition: Callable[[], bool],
        name: str,
        seconds: float,
        every: float = 0.2,
        progress: Callable[[float], str] | None = None,
    ) -> None:
        """Wait until the program `name` has brought about `condition`.

        `progress` is given the seconds passed and says how far things are. Raises LocalError with the end of the
        program's log when it has died `HOPELESS_AFTER` times, or when `seconds` have passed.
        """
        began = time.monotonic()
        while not condition():
            passed = time.monotonic() - began
            self.check()
            if self._children[name].deaths >= HOPELESS_AFTER:
                raise LocalError(f"{name} keeps stopping.{self.log_end(name)}")
            if passed > seconds:
                raise LocalError(f"{name} isn't ready after {seconds:.0f} s.{self.log_end(name)}")
            if progress is not None:
                self.console.progress(progress(passed))
            time.sleep(every)

    def log(self, name: str) -> Path:
        """Return where the output of a program goes."""
        return self.logs / f"{name}.log"

    def log_end(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a program's log, with a heading, ready to follow a message."""
        try:
            text = self.log(name).read_bytes()[-20_000:].decode("utf-8", "replace")
        except OSError:
            return f" It has left no log at {self.log(name)}."
        end = "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
        return f" The end of {self.log(name)}:\n{end}"

    def stop(self, name: str) -> None:
        """Stop one program and keep it stopped."""
        child = self._children.pop(name)
        self._finish([child])

    def stop_all(self, last: str | None = None) -> None:
        """Stop everything that this run has started, `last` after all others; the children's children too."""
        children, self._children = self._children, {}
        self._finish([child for name, child in children.items() if name != last])
        self._finish([child for name, child in children.items() if name == last])
        stop_marked(self.folder, grace=0 if self.hurry else 2)

    def _finish(self, children: list[_Child]) -> None:
        # Of a process that has ended earlier not even the id is ours any more.
        running = [child for child in children if child.process.poll() is None]
        for child in running:
            _signal_group(child.process.pid, signal.SIGTERM)
        began = time.monotonic()
        for child in running:
            while child.process.poll() is None and not self.hurry and time.monotonic() - began < child.program.grace:
                time.sleep(0.05)
            if child.process.poll() is None and not self.hurry:
                self.console.warn(f"{child.program.name} doesn't stop by itself and is stopped by force.")
            _signal_group(child.process.pid, signal.SIGKILL)
            child.process.wait()


def _signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process and all of its group, which is there even when the leader has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
