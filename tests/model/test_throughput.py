import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.__main__ import main
from model.presets import preset
from model.throughput import Job, measure, table, watched
from model.weights import WeightsError

SMALL = Job(preset("demo"), "cpu", None, labels=2, size=(64, 48), images=3, drawers=0, threads=1)


def test_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--stream", "3", "--labels", "2", "--size", "64x48", "--threads", "1", "--drawers", "1", "--device", "cpu"]
    assert main(["benchmark", *flags, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["images_per_second"] > 0
    assert (figures["processes"], figures["images"], figures["drawers"]) == (1, 3, 1)
    assert figures["gpu_busy"] is None
    assert 0.1 < figures["peak_memory_gib"] < 100


@pytest.mark.slow
def test_processes_that_share_a_device() -> None:
    figures = measure(SMALL, processes=2)
    assert figures.processes == 2
    assert "2 x 3 images, 2 labels, 0 drawers each; peak" in table(figures)


@pytest.mark.slow
def test_a_process_that_fails_does_not_let_the_others_wait(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        measure(Job(preset("demo"), "cpu", str(tmp_path), labels=2, size=(64, 48), images=1), processes=2)


@pytest.mark.parametrize("wrong", [["--processes", "2"], ["--drawers", "0"]])
def test_only_streams_have_processes(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *wrong]) == 2
    assert "need --stream" in capsys.readouterr().err


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a shell script in nvidia-smi's place."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(script: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return put


def test_how_busy_a_card_is(nvidia_smi: Callable[[str], None], tmp_path: Path) -> None:
    nvidia_smi(f'echo "$@" > {tmp_path}/asked; printf "50\\n100\\n[N/A]\\n"; touch {tmp_path}/told; exec sleep 60')
    with watched(torch.device("cuda:3")) as busy:
        while not (tmp_path / "told").exists():
            pass
    assert busy() == 0.75
    assert "--id=3" in (tmp_path / "asked").read_text()


def test_a_processor_is_not_watched() -> None:
    with watched(torch.device("cpu")) as busy:
        pass
    assert busy() is None


def test_without_nvidia_smi_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with watched(torch.device("cuda")) as busy:
        pass
    assert busy() is None
