from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

from model.demo import curves
from model.demo.__main__ import main
from model.demo.recipe import CONTINUED, FROM_SCRATCH, Recipe, Stage
from model.demo.scenes import Style
from model.demo.train import CURVES, PROGRESS, STATE, RunError, Training
from model.demo.world import HERE
from model.weights import from_folder

TINY = Stage(1.0, (64,), (8,), Style(height=64, width=64, least=1, most=2, smallest=0.4, largest=0.8, zoom=2.0))
RECIPE = Recipe(stages=(TINY,), steps=4, pool=12, fresh=2, warm=2)


@pytest.mark.slow
def test_going_on_is_the_same_as_going_through(tmp_path: Path) -> None:
    through = Training(RECIPE, tmp_path / "through")
    through.run(report_every=1)
    stopped = Training(RECIPE, tmp_path / "stopped")
    stopped.run(report_every=1, until=2)
    stopped._report(stopped.advance())  # lost: killed before the next save
    resumed = Training(RECIPE, tmp_path / "stopped")
    assert resumed.step == 2
    resumed.run(report_every=1, workers=1)
    assert resumed.step == through.step == 4
    for name, value in through.average.items():
        assert torch.equal(value, resumed.average[name]), name
    first, second = (curves.read(tmp_path / folder / PROGRESS) for folder in ("through", "stopped"))
    assert np.array_equal(first["loss"], second["loss"])
    assert (tmp_path / "through" / CURVES).is_file()


def test_a_run_gives_weights_that_open_clip_takes(tmp_path: Path) -> None:
    Training(RECIPE, tmp_path, init=HERE).run(until=1)
    model = open_clip.create_model(f"local-dir:{tmp_path}")
    kept = load_file(tmp_path / "open_clip_model.safetensors")
    assert all(value.dtype == torch.float16 for value in kept.values())
    assert (tmp_path / "open_clip_model.safetensors").stat().st_size < 16e6
    assert torch.equal(model.visual.proj, kept["visual.proj"].float())
    assert from_folder(tmp_path).tokenize(["a cat"]).shape == (1, 24)


def test_stopping_saves(tmp_path: Path) -> None:
    training = Training(RECIPE, tmp_path)
    training.stop()
    training.run()
    assert training.step == 1
    assert (tmp_path / STATE).is_file()


def test_another_recipe_does_not_go_on(tmp_path: Path) -> None:
    Training(RECIPE, tmp_path).run(until=1)
    assert (tmp_path / STATE).is_file()
    with pytest.raises(RunError, match="another seed"):
        Training(replace(RECIPE, seed=5), tmp_path)


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path) -> None:
    training = Training(replace(RECIPE, steps=40, pool=16, fresh=0), tmp_path)
    losses = [float(training.advance().total.detach()) for _ in range(24)]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


@pytest.mark.parametrize("stages", [FROM_SCRATCH, CONTINUED])
def test_a_recipe_covers_all_steps(stages: tuple[Stage, ...]) -> None:
    recipe = Recipe(stages=stages, steps=100)
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert [recipe.stage(step) for step in (0, 99)] == [0, len(stages) - 1]
    assert all(side % 16 == 0 and side <= 256 for side, _ in map(recipe.shape, range(100)))
    assert recipe.rate(0) < recipe.rate(59)
    assert recipe.rate(99) == pytest.approx(0.02)


@pytest.mark.parametrize("wrong", ["1.1", "-0.1", "half", "nan", ""])
def test_a_share_of_circles(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--out", str(tmp_path), f"--circled={wrong}"])
    assert "needs a share from 0 to 1" in capsys.readouterr().err
