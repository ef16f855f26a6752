"""No switch is dead: every value of every choice works, and changes what comes out where it can matter.

The base is the released VOC setting on the demo CLIP, over a small part of a scene. Where a switch needs company to
matter, `COMPANY` says which; where it must change nothing, or is tried elsewhere, a table says so and why.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from model.pictures import read_image
from model.presets import DEMO, preset, settings
from model.referring import refer
from model.segmentation import Segmentation
from model.segmenter import Segmenter
from model.vocabulary import Query, vocabulary
from tests.weights import CLIP

QUERIES = [
    *vocabulary(["mount fuji", "coca cola logo", "tree", "statue of liberty"]),
    Query("ground", ("grass", "sand"), stuff=True),
    Query("street", ("road",), stuff=True),
]
BASE = {"theta": "0.2"}
COMPANY: Mapping[str, dict[str, str]] = {
    "stuff_prompts": {"mutual": "paper"},
    "map_rivals": {"rivals": "mountain,church,red wine"},
    "keep_best": {"theta": "1"},
    "empty_map": {"eta": "1"},
    "gray_weights": {"prompts": "gray"},
    "upsampling": {"crf_max_side": "48"},
    "iom_best": {"refine": "regions", "phi_iom": "1", "phi_iou": "0"},
    "object_margin": {"classifier_view": "object"},
    "odds_power": {"scoring": "mean"},
    "odds_factor": {"scoring": "mean"},
    "presence": {"theta": "0"},
    "score_power": {"theta": "0"},
    "later_template": {"theta": "0"},
    "tiles": {"max_patches": "48", "theta": "0"},
    "refine": {"phi_iou": "0"},
    "phi_iom": {"refine": "regions", "phi_iou": "0"},
    "phi_iou": {"refine": "regions"},
    "iom_guard": {"refine": "regions", "phi_iou": "0"},
    "vote_share": {"refine": "regions-vote"},
    "region_scale": {"refine": "regions", "phi_iou": "0"},
    "region_levels": {"refine": "regions", "phi_iou": "0"},
}
EQUAL = {
    ("resizing", "torch"): "the same filter to the bit; it is for GPUs",
    ("resizing", "pillow"): "what auto means on a CPU",
    ("tags", "0.001"): "exact while it leaves out no label that would survive",
}
ELSEWHERE = {
    "name": "no setting",
    "weights": "test_weights.py",
    "proposal_model": "test_weights.py",
    "classifier_model": "test_weights.py",
    "recurrence": "test_car.py, on stages that need two passes to settle; here the other values only work",
    "flat_map": "test_proposals.py: few maps are flat; here the other value only works",
    "memory": "test_recall.py: a file, and what it changes",
    "sentences": "below: it belongs to referring expressions; by hand in test_referring.py",
    "sam_model": "HQ-SAM's sizes, up to 2.5 GB",
    "sam_weights": "HQ-SAM's weights",
    "points_per_side": "HQ-SAM's grid",
    "sam_quality": "HQ-SAM's masks",
    "sam_stability": "HQ-SAM's masks",
    "sam_nms": "HQ-SAM's masks",
}
CHOICES = [(name, choice) for name, setting in settings().items() for choice in setting.metadata["choices"]]
NUMBERS_AND_TEXTS = [
    ("eta", "0.7"),
    ("theta", "0"),
    ("presence", "0.05"),
    ("tags", "0.001"),
    ("lambda", "0.9"),
    ("background", "none"),
    ("score_power", "1"),
    ("background_power", "4"),
    ("rivals", "mountain,church,red wine"),
    ("first_template", "a photo of a {}."),
    ("later_template", "{}"),
    ("background_template", "{}"),
    ("templates", "{}"),
    ("odds_factor", "3"),
    ("odds_power", "0.5"),
    ("object_margin", "2"),
    ("crf_steps", "1"),
    ("crf_smooth_weight", "30"),
    ("crf_smooth_sigma", "9"),
    ("crf_color_weight", "0"),
    ("crf_position_sigma", "5"),
    ("crf_color_sigma", "40"),
    ("phi_iom", "0"),
    ("phi_iou", "0.01"),
    ("iom_guard", "0.5"),
    ("vote_share", "0.95"),
    ("region_scale", "3000"),
    ("region_levels", "3"),
    ("max_patches", "40"),
    ("crf_max_side", "48"),
    ("min_region", "0.5"),
    ("tiles", "2"),
]


@pytest.fixture(scope="module")
def part() -> np.ndarray:
    return np.ascontiguousarray(read_image(DEMO / "scenes" / "studio" / "images" / "001.png")[40:200, 100:320])


@pytest.fixture(scope="module")
def results(segmenter_of: Callable[..., Segmenter], part: np.ndarray) -> Callable[[Mapping[str, str]], Segmentation]:
    """Segment with some settings changed; the same settings only once."""
    known: dict[tuple[tuple[str, str], ...], Segmentation] = {}

    def get(overrides: Mapping[str, str]) -> Segmentation:
        key = tuple(sorted(overrides.items()))
        if key not in known:
            known[key] = segmenter_of("voc", overrides, str(CLIP)).segment(part, QUERIES)
        return known[key]

    return get


def told(result: Segmentation) -> tuple[Any, ...]:
    """Return all that a result tells but the time it took."""
    return (
        result.labels,
        result.masks.tobytes(),
        result.scores.tobytes(),
        tuple(result.raw_scores.items()),
        result.steps,
    )


@pytest.mark.parametrize(("name", "value"), [*CHOICES, *NUMBERS_AND_TEXTS])
def test_a_switch_switches(results: Callable[[Mapping[str, str]], Segmentation], name: str, value: str) -> None:
    if name == "sam_model" or value.startswith("sam"):
        return  # as ELSEWHERE says
    company = BASE | COMPANY.get(name, {})
    before, after = results(company), results(company | {name: value})
    assert after.masks.shape == (len(after.labels), 160, 220)
    assert set(after.raw_scores) == {query.label for query in QUERIES}
    unchanged = preset("voc", company) == preset("voc", company | {name: value})
    if unchanged or (name, value) in EQUAL:
        assert told(after) == told(before)
    elif (name, value) == ("precision", "auto"):
        halves = [results(company | {name: precision}) for precision in ("float32", "bfloat16")]
        assert told(after) in map(told, halves)
    elif name not in ELSEWHERE:
        assert told(after) != told(before)


def test_how_sentences_merge(segmenter_of: Callable[..., Segmenter], part: np.ndarray) -> None:
    objects = [Query("it", ("the red logo", "mount fuji"))]
    weighted, union, best = (
        told(refer(segmenter_of("refcoco", {"sentences": name, "theta": "0"}), part, objects))
        for name in ("weighted", "union", "best")
    )
    assert weighted != union
    assert weighted == best, "one sentence has nearly all of the score; `test_referring.py` merges others by hand"


def test_every_setting_is_tried() -> None:
    tried = {name for name, _ in [*CHOICES, *NUMBERS_AND_TEXTS]} | set(ELSEWHERE)
    assert set(settings()) <= tried
