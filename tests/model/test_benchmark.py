import json

import numpy as np
import pytest

from model.__main__ import main
from model.benchmark import full_price, picture
from model.presets import PRESETS
from tests.weights import CLIP


def test_benchmark_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["--weights", str(CLIP)]  # on them the three masks differ
    assert main(["benchmark", "--labels", "3", "--size", "192x160", "--threads", "1", "--json", *weights]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["looks"] >= 3
    assert figures["kept"] >= 1
    assert figures["floor"] == pytest.approx(sum(figures["floor_stages"].values()), abs=1e-3)
    assert set(figures["floor_stages"]) == {"trunk", "classifier", "crf"}
    assert 0 < sum(figures["stages"].values()) <= figures["total"] + 1e-3
    assert 0.1 < figures["peak_memory_gib"] < 100


def test_benchmark_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--labels", "1", "--size", "64x64", "--threads", "1", "--set", "refine=none"]) == 0
    printed = capsys.readouterr().out
    assert "times the floor" in printed
    assert "floor: crf" not in printed


def test_nothing_is_left_out_of_the_price() -> None:
    price = full_price(PRESETS["demo"])
    assert (price.presence, price.keep_best) == (0, "yes")


@pytest.mark.parametrize(
    "wrong", [["--size", "500"], ["--size", "0x9"], ["--labels", "0"], ["--threads", "-1"], ["--size", "axb"]]
)
def test_wrong_sizes(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *wrong]) == 2
    assert "takes" in capsys.readouterr().err


def test_the_picture_is_the_same_each_time() -> None:
    assert picture(30, 20).shape == (20, 30, 3)
    np.testing.assert_array_equal(picture(30, 20), picture(30, 20))
