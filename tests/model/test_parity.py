"""Equal to the released code, stage by stage: recordings of google-research's `clip_as_rnn` on the demo CLIP.

Tolerances are those that different kernels of the same arithmetic need: 1e-5 for Grad-CAM in all but one patch of a map
(against float64 the recordings are off by up to 8e-6, ours by 3e-6), 1e-3 for refined maps and scores, 1e-4 of a mask's
pixels, 0.1 % of the label map's; survivors exactly.
"""

from collections.abc import Callable

import pytest

from model.segmenter import Segmenter
from tests.model.parity_table import CASES, Apart, Recording, compare_stages, compare_whole, read
from tests.weights import CLIP


@pytest.fixture(params=CASES)
def recording(request: pytest.FixtureRequest) -> Recording:
    return read(request.param)


@pytest.fixture
def segmenter(recording: Recording, segmenter_of: Callable[..., Segmenter]) -> Segmenter:
    return segmenter_of(recording.case["preset"], recording.case["set"], str(CLIP))


def test_all_recordings_are_here() -> None:
    assert len(CASES) == 17


def test_stages(recording: Recording, segmenter: Segmenter) -> None:
    apart = compare_stages(recording, segmenter)
    assert apart.cam_patches <= 1
    assert apart.cams < 1.5e-5
    assert apart.maps <= 1e-3
    assert apart.masks <= 1e-4
    assert apart.prompted == 0
    assert apart.scores <= 1e-3
    assert f"gradcam.{apart.maps_drawn:03d}" not in recording.arrays, "the released code drew more maps"


def test_whole(recording: Recording, segmenter: Segmenter) -> None:
    apart = compare_whole(recording, segmenter, Apart())
    assert apart.survivors == 0
    assert apart.label_map <= 1e-3
    assert apart.final_scores <= 1e-3
