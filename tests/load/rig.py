"""All that a load run needs, under the supervisor of `make run`: Redis, stub, backend, courier, null workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from redis import Redis
from redis.exceptions import RedisError

from backend import store
from backend.local import processes, redis_server, services
from backend.local.console import Console
from backend.local.ports import any_free_port
from backend.local.processes import Program, Supervisor
from tests.load.control import Control
from tests.load.image_codes import CODES
from tests.load.stub_studio import HOST, TOKEN

READY_SECONDS = 60.0
CONVERGE_SECONDS = 5
"""How often the courier looks for what is missing: in earnest minutes, for which no load run waits."""
HERE = {"FIRST_PAUSE": 1.0, "LONGEST_PAUSE": 1.0, "HOPELESS_AFTER": sys.maxsize}
"""Of `backend.local.processes`: what was killed starts again after a second. Death is weather here, not a fault."""

PAGE = os.sysconf("SC_PAGE_SIZE")


class Rig:
    """One installation for a load run. Use as a context manager; call `tick` often."""

    def __init__(
        self,
        workers: int,
        latency: float,
        *,
        pixels: int = 256 * 256,
        codes: int = CODES,
        hurry: float = 1.0,
        settings: Mapping[str, str] | None = None,
        hosts: int = 1,
    ):
        """`latency` is the segmenter's, in seconds; `hurry` divides the waiting times of workers and courier.

        There are `codes` different images of so many `pixels`. The courier compares projects every CONVERGE_SECONDS,
        unless `settings` say otherwise.

        With several `hosts` there are so many `workers` on each, with a host name and an image cache of its own.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="car-load-"))
        self._log = (self.folder / "supervisor.log").open("w")
        self.supervisor = Supervisor(self.folder, Console(self._log))
        self.redis_port, self.port, studio_port, control_port = (any_free_port() for _ in range(4))
        self.redis = Redis.from_url(redis_server.url(self.redis_port), socket_timeout=2, socket_connect_timeout=2)
        self.studio = Control(control_port)
        self.backend_url = f"http://{HOST}:{self.port}"
        self.hosts = {f"host-{number}": self.folder / f"images-{number}" for number in range(1, hosts + 1)}
        numbers = range(1, workers + 1)
        on_host = {f"{host}-worker-{number}": host for host in self.hosts for number in numbers}
        self.workers = list(on_host) if hosts > 1 else [f"worker-{number}" for number in numbers]
        env = services.environment(redis_server.url(self.redis_port), f"http://{HOST}:{studio_port}", TOKEN)
        usual = {"OMP_NUM_THREADS": "1", "BASIC_AUTH_USER": "", "BASIC_AUTH_PASS": ""}
        self.env = {**env, **usual, "CAR_CONVERGE_SECONDS": str(CONVERGE_SECONDS), **(settings or {})}
        stub = ("stub_studio", "--port", studio_port, "--control-port", control_port)
        courier = services.backend_program("courier", ("courier",), self.env)
        if hurry != 1:
            courier = self._own("courier", "hasty_courier", "--hurry", hurry)
        self._programs = [
            redis_server.program(redis_server.find_server(), self.folder / "redis", self.redis_port, dict(os.environ)),
            self._own("studio", *stub, "--pixels", pixels, "--codes", codes),
            services.backend_program("backend", ("serve", "--port", str(self.port)), self.env),
            courier,
        ]
        for name in self.workers:
            host = on_host.get(name, "")
            own = {"CAR_IMAGE_CACHE": str(self.hosts[host])} if host else {}
            arguments = ("--latency", latency, "--hurry", hurry, *(("--host", host) if host else ()))
            self._programs.append(self._own(name, "null_worker", *arguments, env=own))

    def _own(self, name: str, module: str, *arguments: object, env: Mapping[str, str] | None = None) -> Program:
        command = (sys.executable, "-m", f"tests.load.{module}", *map(str, arguments))
        return Program(name, command, {**self.env, **(env or {})}, services.ROOT)

    def __enter__(self) -> Self:
        self._as_usual = {name: getattr(processes, name) for name in HERE}
        self._supervise(HERE)
        command = (sys.executable, "-m", "tests.load.reaper", str(self.folder))
        self._reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=services.ROOT)
        ready: dict[str, Callable[[], bool]] = {
            "redis": lambda: redis_server.answers(redis_server.url(self.redis_port)),
            "studio": self.studio.answers,
            "backend": self._backend_answers,
            "courier": lambda: bool(self.redis.exists("car:courier")),
        }
        try:
            for program in self._programs:
                self.supervisor.start(program)
                if program.name in ready:
                    self.supervisor.wait(ready[program.name], program.name, READY_SECONDS)
            self.studio.connect(self.backend_url)
            self.supervisor.wait(self._workers_work, "backend", READY_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.supervisor.stop_all(last="redis")
        self._supervise(self._as_usual)
        self._log.close()
        self._reaper.communicate()

    @staticmethod
    def _supervise(rules: Mapping[str, Any]) -> None:
        for name, value in rules.items():
            setattr(processes, name, value)

    def remove(self) -> None:
        """Delete the data and logs of a run that nobody needs to look into."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _backend_answers(self) -> bool:
        try:
            return requests.get(f"{self.backend_url}/health", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    def _workers_work(self) -> bool:
        return int(self.redis.scard("rq:workers")) >= len(self.workers)

    def tick(self, seconds: float = 0.1) -> None:
        """Let the supervisor start what has died, and wait a little."""
        self.supervisor.check()
        time.sleep(seconds)

    def alive(self, name: str) -> bool:
        """Whether a program runs just now (it may be waiting for its next start)."""
        return memory_of(self.supervisor.pids[name]) > 0

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until something has come about. Raises LocalError when it takes longer."""
        self.supervisor.wait(condition, "backend", seconds, every=0.02)

    @contextmanager
    def without_courier(self) -> Iterator[None]:
        """Nothing is delivered while the block runs."""
        self.supervisor.stop("courier")
        try:
            yield
        finally:
            self.supervisor.start(next(program for program in self._programs if program.name == "courier"))

    def kill(self, name: str) -> int:
        """kill -9; the supervisor starts it again. Returns the process id it had."""
        pid = self.supervisor.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def executions_of(self, pid: int) -> list[str]:
        """What RQ believes that a worker process is running: keys in its registries of started jobs."""
        jobs = set()
        for key in self.redis.smembers("rq:workers"):
            who, job_id = self.redis.hmget(key, "pid", "current_job")
            if who is not None and int(who) == pid and job_id:
                jobs.add(store.text(job_id))
        return [entry for entry in self.started() if entry.split(":")[0] in jobs]

    def started(self) -> list[str]:
        """All entries of RQ's registries of started jobs, as JOB:EXECUTION."""
        return [store.text(e) for queue in store.QUEUES for e in self.redis.zrange(f"rq:wip:{queue}", 0, -1)]

    def idle(self) -> bool:
        """Whether nothing is left to do: no webhook, no open job, nothing to deliver or to verify."""
        try:
            lists = self.redis.llen(store.INBOX) + self.redis.llen(store.READING)
            return not (lists or self.redis.zcard(store.OPEN) or self.redis.zcard(store.OUTBOX))
        except RedisError:
            return False

    def failures(self) -> dict[str, int]:
        """Reasons of failed jobs, with how many failed so."""
        ids = [store.text(one) for one in self.redis.zrange(store.FAILED, 0, -1)]
        reasons = (self.redis.hget(store.ticket_key(job_id), "error") for job_id in ids)
        return dict(Counter(store.text(reason or b"") for reason in reasons))

    def memory(self) -> dict[str, float]:
        """Resident memory of each program that runs, children included, in MB (10^6 bytes)."""
        found = {}
        for name, pid in self.supervisor.pids.items():
            total = memory_of(pid) + sum(memory_of(child) for child in _children(pid))
            if total:
                found[name] = total / 1e6
        return found

    def cpu(self) -> dict[str, float]:
        """CPU time of each program so far, user and system, children included, in seconds. All must be running."""
        return {name: sum(map(_cpu, [pid, *_children(pid)])) for name, pid in self.supervisor.pids.items()}


def memory_of(pid: int) -> int:
    """Resident memory of a process in bytes, 0 when there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(report: Mapping[str, Any], sent: int, seconds: float) -> dict[str, Any]:
    """What every load run prints last: the fields that `make chaos` and `make soak` promise, and some more."""
    counts = report["counts"]
    return {
        "sent": sent,
        "delivered": report["delivered"],
        "lost": sent - report["delivered"],
        "doubled": len(report["doubled"]),
        "wrong": len(report["wrong"]),
        "seconds": round(seconds, 1),
        "slowest_task_seconds": round(report["slowest"], 1),
        "median_task_seconds": round(report["median"], 1),
        "pushed": counts.get("pushed in bulk", 0) + counts.get("pushed alone", 0),
        "answered": counts.get("answered", 0),
        "taken_back": counts.get("deleted", 0),
    }
