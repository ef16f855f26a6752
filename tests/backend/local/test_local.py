"""The small parts of a local run: ports, the run's folder, what is told, and the demo project's config."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from backend.commands import up
from backend.labeling.parsing import for_task, parse_config
from backend.local import label_studio, redis_server
from backend.local.console import Console
from backend.local.demo_project import EXPRESSIONS, LANDMARKS, labeling_config, load_scenes, own_words_config, palette
from backend.local.ports import NoFreePort, any_free_port, free_port, is_free
from backend.local.processes import LocalError
from backend.local.run_folder import Known, Memory, locked, write_env, write_private
from backend.local.services import ROOT, gpus, programs


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_passed_over(address: str) -> None:
    with socket.socket() as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        assert free_port(port) > port
    assert free_port(port) == port


def test_promised_ports_are_passed_over() -> None:
    port = any_free_port()
    assert free_port(port, {port}) != port


def test_no_port_is_left() -> None:
    with pytest.raises(NoFreePort, match="No free port between 65535"):
        free_port(65535, {65535})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "0"], "'0' isn't a port"),
        (["--port", "70000"], "'70000' isn't a port"),
        (["--label-studio-port", "x"], "'x' isn't a port"),
        (["--workers", "0"], "'0' isn't a number of workers"),
    ],
)
def test_options_that_cannot_work(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "backend", "up", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backend.local.run_folder import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(LocalError, match=f"Another run .process {first.pid}. is using"), locked(tmp_path):
            pass
        first.kill()
        first.wait()
        with locked(tmp_path):  # the lock dies with its process
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_memory_lasts_and_is_private(tmp_path: Path) -> None:
    first = Memory.load(tmp_path).learn(tmp_path, "landmarks", project=3).save(tmp_path, backend_url="http://here")
    first = first.learn(tmp_path, "landmarks", has_tasks=True)
    assert first.known("landmarks") == Known(3, has_tasks=True)
    assert first.known("another") == Known()
    assert Memory.load(tmp_path) == first
    assert len(first.account.token) == 40
    assert first.account.token != Memory.load(tmp_path / "elsewhere").account.token
    assert stat.S_IMODE((tmp_path / "memory.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"account": 1}', '{"account": {"email": 1}}'])
def test_damaged_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.json").write_text(text)
    with pytest.raises(LocalError, match=r"is damaged .* Remove the folder"):
        Memory.load(tmp_path)


def test_state_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    (tmp_path / "state.json.new").write_text("left by a crash")
    write_private(path, {"a": 1})
    write_private(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_label_studio_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_BIN", raising=False)
    with pytest.raises(LocalError, match="Run `make setup`"):
        label_studio.find_label_studio(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_BIN", "/no/such")
    with pytest.raises(LocalError, match="LABEL_STUDIO_BIN is /no/such"):
        label_studio.find_label_studio(tmp_path)


def test_label_studio_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DJANGO_DB", "HOST", "LABEL_STUDIO_HOST", "POSTGRE_NAME"):
        monkeypatch.setenv(name, "something else")
    account = label_studio.new_account()
    program = label_studio.program(Path("ls"), tmp_path, 1, account)
    assert "something else" not in program.env.values()
    assert account.token not in " ".join(program.command)


def test_an_old_redis_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64 build=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert redis_server.find_server() != str(old)
    old.write_text("#!/bin/sh\necho 'Redis server v=7.2.4 sha=00000000:0 malloc=libc bits=64 build=0'\n")
    assert redis_server.find_server() == str(old)


def test_colours_differ() -> None:
    colours = palette(20)
    assert len(set(colours)) == 20
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    channels = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in colours]
    gaps = [max(abs(a - b) for a, b in zip(x, y, strict=True)) for i, x in enumerate(channels) for y in channels[:i]]
    assert min(gaps) >= 24


def test_demo_config_is_one_that_the_backend_understands() -> None:
    scenes = load_scenes(LANDMARKS.folder)
    assert len(scenes.images) >= 24
    assert len(scenes.labels) == 20
    config = parse_config(labeling_config((*scenes.labels, 'a "quoted" <label>')), "demo")
    assert [control.from_name for control in config.images[0].controls] == ["label"]
    assert [label.value for label in config.labels] == [*scenes.labels, 'a "quoted" <label>']


def test_words_of_each_task_are_ones_that_the_backend_understands() -> None:
    scenes = load_scenes(EXPRESSIONS.folder)
    config = for_task(
        parse_config(own_words_config(), "demo"), {"labels": [{"value": word} for word in scenes.words[0]]}
    )
    assert len(scenes.words) == len(scenes.images)
    assert tuple(label.value for label in config.images[0].task_labels) == scenes.words[0]
    assert len(set(scenes.words)) > len(scenes.words) / 2


def test_scenes_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="scenes are missing"):
        load_scenes(tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_overwrites_itself_on_a_terminal_only() -> None:
    terminal, file = Console(Terminal()), Console(io.StringIO())
    for console in (terminal, file):
        console.progress("1 of 3")
        console.progress("2 of 3")
        console.say("done")
    assert terminal.out.getvalue() == "\r\x1b[K1 of 3\r\x1b[K2 of 3\ndone\n"  # type: ignore[attr-defined]
    assert file.out.getvalue() == "1 of 3\ndone\n"  # type: ignore[attr-defined]


def test_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Console(Terminal()).paint("x", "1") == "\x1b[1mx\x1b[0m"
    assert Console(io.StringIO()).paint("x", "1") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Console(Terminal()).paint("x", "1") == "x"


def test_a_reader_that_has_gone_does_not_disturb() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        console = Console(out)
        console.progress("1 of 3")
        console.say("done")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # what is still in the buffer may be flushed


def test_up_reports_an_error_as_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "memory.json").write_text("{")
    arguments = up.argparse.ArgumentParser()
    up.add_arguments(arguments)
    assert up.run(arguments.parse_args(["--data", str(tmp_path)])) == 1
    assert "memory.json is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env", "driver", "cards"),
    [
        ({}, [], []),
        ({}, ["0000:17:00.0", "0000:65:00.0"], ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "3, GPU-1f"}, ["0000:17:00.0"], ["3", "GPU-1f"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["0000:17:00.0"], []),
        ({"CAR_DEVICE": "cuda:1"}, ["0000:17:00.0", "0000:65:00.0"], []),
        ({"CAR_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "1"}, [], []),
    ],
)
def test_the_gpus_there_are(tmp_path: Path, env: dict[str, str], driver: list[str], cards: list[str]) -> None:
    for name in driver:
        (tmp_path / name).mkdir()
    assert gpus(env, tmp_path) == cards


@pytest.mark.parametrize(
    ("cards", "workers", "dealt"),
    [("0,1", 1, ["0"]), ("0,1", 2, ["0", "1"]), ("0,1", 5, ["0", "1", "0", "1", "0"]), ("", 2, ["", ""])],
)
def test_each_gpu_gets_a_worker_and_more_share_them(cards: str, workers: int, dealt: list[str]) -> None:
    started = programs({"CUDA_VISIBLE_DEVICES": cards}, 9090, workers)
    assert [one.env["CUDA_VISIBLE_DEVICES"] for one in started if one.name.startswith("worker")] == dealt


def test_a_shell_reads_what_a_run_leaves_for_it(tmp_path: Path) -> None:
    hostile = 'it\'s $HOME; `id` "x"\n$(id)'
    write_env(tmp_path / "env", {"REDIS_URL": "redis://127.0.0.1:6390/0", "LABEL_STUDIO_API_KEY": hostile})
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600
    code = "import os; print(ascii([os.environ['REDIS_URL'], os.environ['LABEL_STUDIO_API_KEY']]))"
    script = f'. "{tmp_path}/env"; "{sys.executable}" -c "{code}"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(["redis://127.0.0.1:6390/0", hostile])
