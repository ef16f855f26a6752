"""What the model's tests share: loaded weights (once per session) and the shipped scenes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.presets import DEMO, Preset, preset
from model.segmenter import Segmenter

SCENES = DEMO / "scenes"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def segmenter_of() -> Callable[..., Segmenter]:
    """Return a segmenter on the demo CLIP for a preset with some settings changed; weights are loaded once."""
    loaded: dict[tuple[str, str, str], Segmenter] = {}

    def get(name: str = "demo", overrides: Mapping[str, str] = {}, weights: str = "demo") -> Segmenter:
        wanted: Preset = preset(name, overrides)
        numbers = (wanted.positions, wanted.precision, weights)
        if numbers not in loaded:
            loaded[numbers] = Segmenter(replace(wanted, weights=weights), "cpu")
        loaded[numbers].preset = wanted
        return loaded[numbers]

    return get


@pytest.fixture
def studio() -> Path:
    return SCENES / "studio"
