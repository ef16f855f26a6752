"""Starting, watching and stopping real processes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.local import processes
from backend.local.console import Console
from backend.local.marks import marked, stop_marked
from backend.local.processes import LocalError, Program, Supervisor

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
# A child in a session of its own, whose parent ends when asked to: no process group leads to the grandchild.
DAEMON = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPS!r}], start_new_session=True).wait()"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, Console(io.StringIO()))
    yield supervisor
    supervisor.hurry = True
    supervisor.stop_all()
    assert marked(tmp_path) == []


def said(supervisor: Supervisor) -> str:
    assert isinstance(supervisor.console.out, io.StringIO)
    return supervisor.console.out.getvalue()


def python(name: str, code: str, folder: Path, grace: float = 10.0) -> Program:
    return Program(name, (sys.executable, "-c", code), dict(os.environ), folder, grace)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not yet taken note of (a zombie) doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def up(supervisor: Supervisor, name: str) -> Callable[[], bool]:
    return lambda: "up\n" in supervisor.log(name).read_text()


def test_output_goes_to_the_log_and_stop_all_stops(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("one", SLEEPS, tmp_path))
    supervisor.start(python("two", SLEEPS, tmp_path))
    supervisor.wait(up(supervisor, "one"), "one", 10)
    supervisor.wait(up(supervisor, "two"), "two", 10)
    pids = supervisor.pids
    assert set(pids) == {"one", "two"}
    assert set(marked(tmp_path)) == set(pids.values())
    supervisor.stop_all(last="one")
    assert not any(is_alive(pid) for pid in pids.values())


def test_children_of_children_are_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("parent", DAEMON, tmp_path))
    supervisor.wait(up(supervisor, "parent"), "parent", 10)
    both = marked(tmp_path)
    assert len(both) == 2
    supervisor.stop_all()
    eventually(lambda: not any(is_alive(pid) for pid in both))  # an orphan is seen until init has noticed its end


def test_nothing_else_is_stopped(supervisor: Supervisor, tmp_path: Path) -> None:
    other = Supervisor(tmp_path / "other", Console(io.StringIO()))
    other.start(python("same-name", SLEEPS, tmp_path))
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.DEVNULL)
    supervisor.start(python("same-name", SLEEPS, tmp_path))
    supervisor.stop_all()
    assert stranger.poll() is None
    assert is_alive(other.pids["same-name"])
    other.stop_all()
    stranger.kill()
    stranger.wait()


def test_what_a_killed_run_leaves_behind_is_found(supervisor: Supervisor, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from backend.local.console import Console\n"
        "from backend.local.processes import Program, Supervisor\n"
        f"run = Supervisor(Path({str(tmp_path)!r}), Console(open(os.devnull, 'w')))\n"
        f"run.start(Program('left', (sys.executable, '-c', {SLEEPS!r}), dict(os.environ), Path('.')))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    (left,) = marked(tmp_path)
    assert stop_marked(tmp_path, grace=5) == 1
    eventually(lambda: not is_alive(left))


def test_a_dead_process_is_started_again_and_said(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.05)
    supervisor.start(python("one", SLEEPS, tmp_path))
    before = supervisor.pids["one"]
    os.kill(before, signal.SIGKILL)

    def again() -> bool:
        supervisor.check()
        return supervisor.pids["one"] != before

    eventually(again)
    assert is_alive(supervisor.pids["one"])
    assert "one has stopped (signal SIGKILL)" in said(supervisor)


def test_pauses_grow(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("one", "raise SystemExit(3)", tmp_path))
    began = time.monotonic()
    while "in 2 s" not in said(supervisor):
        supervisor.check()
        time.sleep(0.02)
        assert time.monotonic() - began < 10
    assert "one has stopped (exit code 3); it starts again in 1 s" in said(supervisor)
    assert time.monotonic() - began >= 1


def test_waiting_ends_with_the_log_of_what_keeps_dying(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.05)
    supervisor.start(python("one", "print('no such table'); raise SystemExit(3)", tmp_path))
    with pytest.raises(LocalError, match=r"(?s)one keeps stopping\. The end of .*one\.log:\n.*no such table"):
        supervisor.wait(lambda: False, "one", 20)


def test_waiting_ends_in_time(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("one", SLEEPS, tmp_path))
    with pytest.raises(LocalError, match=r"one isn't ready after 0 s"):
        supervisor.wait(lambda: False, "one", 0.3, every=0.05)


def test_a_command_that_does_not_exist(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"/no/such can't be started"):
        supervisor.start(Program("one", ("/no/such",), {}, tmp_path))


def test_what_does_not_listen_is_stopped_by_force(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("stubborn", IGNORES, tmp_path, grace=0.3))
    supervisor.wait(up(supervisor, "stubborn"), "stubborn", 10)
    pid = supervisor.pids["stubborn"]
    supervisor.stop("stubborn")
    assert not is_alive(pid)
    assert "stubborn doesn't stop by itself" in said(supervisor)


def test_in_a_hurry_nothing_is_waited_for(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(python("stubborn", IGNORES, tmp_path, grace=60))
    supervisor.wait(up(supervisor, "stubborn"), "stubborn", 10)
    supervisor.hurry = True
    began = time.monotonic()
    supervisor.stop_all()
    assert time.monotonic() - began < 5


def test_a_big_log_is_put_aside(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_LIMIT", 100)
    supervisor.logs.mkdir()
    supervisor.log("one").write_text("x" * 101)
    supervisor.start(python("one", SLEEPS, tmp_path))
    assert (supervisor.logs / "one.log.1").read_text() == "x" * 101
    assert "x" * 101 not in supervisor.log("one").read_text()
