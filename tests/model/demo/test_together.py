import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from model.demo import together, train
from model.demo.__main__ import main
from model.demo.recipe import Recipe
from tests.model.demo.test_train import TINY

RECIPE = Recipe(stages=(TINY,), steps=3, pool=12, fresh=2, warm=2, parts=2)


def tell(folder: Path, part: int) -> None:
    """Agree on gradients of 1 and 3, the second parameter's of the second part missing; only part 1 wants to stop."""
    first, second = torch.zeros(2, 2), torch.zeros(3)
    first.grad = torch.full((2, 2), 1.0 + 2 * part)
    second.grad = torch.ones(3) if part == 0 else None
    stops = together.agree([first, second], part == 1)
    torch.save((first.grad, second.grad, stops), folder / str(part))


def fail(part: int) -> None:
    if part:
        raise ValueError("no room")
    time.sleep(60)


def go_on(folder: Path, part: int) -> None:
    """Agree until a signal has come, and write down how often."""
    wishes: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: wishes.append(number))
    (folder / f"started{part}").touch()
    steps = 1
    while not together.agree([torch.zeros(1)], bool(wishes)):
        steps += 1
        time.sleep(0.05)
    (folder / f"stopped{part}").write_text(str(steps))


def learn(folder: Path, part: int) -> None:
    torch.set_num_threads(1)
    training = train.Training(RECIPE, folder, part=part)
    training.run(report_every=1)
    torch.save(training.average, folder / f"average{part}")


def test_parts_are_processes_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path / "run"), "--parts", "2", "--device", "cuda"]) == 2
    assert "--parts shares batches among processes on a CPU" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_gradients_are_averaged_and_one_wish_stops_all(tmp_path: Path) -> None:
    together.run(partial(tell, tmp_path), 2)
    for part in ("0", "1"):
        first, second, stops = torch.load(tmp_path / part)
        assert torch.equal(first, torch.full((2, 2), 2.0))
        assert torch.equal(second, torch.full((3,), 0.5))
        assert stops


def test_a_part_that_fails_ends_the_others_and_is_told() -> None:
    started = time.monotonic()
    with pytest.raises(ProcessRaisedException, match="no room"):
        together.run(fail, 2)
    assert time.monotonic() - started < 50


@pytest.mark.slow
def test_the_parts_of_a_run_stay_equal_and_make_different_images(tmp_path: Path) -> None:
    together.run(partial(learn, tmp_path), 2)
    first, second = (torch.load(tmp_path / f"average{part}") for part in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = (tmp_path / train.PROGRESS).read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "1", "2", "3"]
    made = [train.Batches(RECIPE, part)[0] for part in (0, 1)]
    assert [len(batch.samples) for batch in made] == [4, 4]
    assert not torch.equal(made[0].images, made[1].images)
    assert torch.equal(train.Batches(replace(RECIPE, parts=1), 0)[0].images[:4], made[0].images)


def test_a_signal_stops_all_parts_after_the_same_step(tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.glob("started*"))) < 2:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    before = signal.getsignal(signal.SIGINT)
    together.run(partial(go_on, tmp_path), 2)
    assert signal.getsignal(signal.SIGINT) == before
    steps = [int((tmp_path / f"stopped{part}").read_text()) for part in (0, 1)]
    assert steps[0] == steps[1] > 0


@pytest.mark.slow
def test_a_failing_part_is_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / train.STATE).write_bytes(b"no state")
    command = [sys.executable, "-m", "model.demo", "train", "--parts", "2", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "terminated with the following error" in ended.stderr
