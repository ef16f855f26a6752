"""Masks along regions: what SAM is told, regions by colour, each value of `refine` with a SAM that knows the answer."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.canvas import draw
from model.matching import Proposals, iou
from model.pictures import read_image
from model.presets import preset
from model.regions import Refiner, by_colour, low_resolution, prompt_for
from model.sam import Answer
from model.segmenter import Segmenter
from model.settings import WITH_REGIONS, Preset
from model.vocabulary import vocabulary
from model.weights import WeightsError

DEMO = preset("demo")
TRUTH = np.zeros((40, 60), bool)
TRUTH[10:30, 10:50] = True
ROUGH = np.zeros((40, 60), bool)
ROUGH[12:30, 14:50] = True


def marginals(*masks: np.ndarray) -> np.ndarray:
    """What a CRF that is nearly sure makes of disjoint masks: [1 + K, H, W]."""
    some = np.stack(masks) * np.float32(0.9)
    return np.concatenate([1 - some.sum(axis=0, keepdims=True), some]).astype(np.float32)


def picture(*masks: np.ndarray) -> np.ndarray:
    image = np.full((*masks[0].shape, 3), 30, np.uint8)
    for number, mask in enumerate(masks):
        image[mask] = 220 - 60 * number
    return image


class Oracle:
    """Stands in for HQ-SAM: answers with what it was given, and counts how often it looked and was asked."""

    def __init__(self, answer: np.ndarray, quality: float = 1.0) -> None:
        self.answer, self.quality = answer, quality
        self.random = False
        self.looks = self.prompts = 0

    def embed(self, image: np.ndarray) -> str:
        self.looks += 1
        return "embedding"

    def prompt(self, embedding: str, points: np.ndarray, box: np.ndarray, logits: np.ndarray) -> Answer:
        assert embedding == "embedding"
        self.prompts += 1
        return Answer(self.answer, self.quality, logits)

    def automask(self, image: np.ndarray, preset: Preset) -> Proposals:
        self.looks += 1
        left, right = self.answer.copy(), self.answer.copy()
        left[:, 30:], right[:, :30] = False, False
        return Proposals.of_masks(np.stack([left, right]))


class Asks(Refiner):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def sam(self, preset: Preset) -> Oracle:  # type: ignore[override]
        return self.oracle


def refined(rule: str, oracle: Oracle, rough: np.ndarray = ROUGH, **settings: float) -> np.ndarray:
    chosen = replace(DEMO, refine=rule, **settings)
    return Asks(oracle).refine(picture(TRUTH), marginals(rough), np.ones(1), chosen)


@pytest.mark.parametrize("rule", ["sam", "sam-prompt", "sam-vote"])
def test_sams_masks_take_the_place_of_rough_ones(rule: str) -> None:
    np.testing.assert_array_equal(refined(rule, Oracle(TRUTH)) == 1, TRUTH)


@pytest.mark.parametrize("rule", ["regions", "regions-vote"])
def test_regions_by_colour_do_so_without_weights(rule: str) -> None:
    chosen = replace(DEMO, refine=rule, region_scale=1600)
    index = Refiner().refine(picture(TRUTH), marginals(ROUGH), np.ones(1), chosen)
    assert iou(index == 1, TRUTH) > iou(ROUGH, TRUTH) + 0.03


@pytest.mark.parametrize(
    ("oracle", "settings"),
    [
        pytest.param(Oracle(TRUTH, 0.88), {}, id="SAM expects no better mask than that"),
        pytest.param(Oracle(~TRUTH), {}, id="SAM means something else"),
        pytest.param(Oracle(TRUTH), {"phi_iou": 0.9}, id="SAM's mask is less alike than asked for"),
    ],
)
def test_an_answer_that_does_not_count(oracle: Oracle, settings: dict[str, float]) -> None:
    np.testing.assert_array_equal(refined("sam-prompt", oracle, **settings) == 1, ROUGH)
    assert oracle.prompts == 1


def test_one_look_per_image_and_one_prompt_per_label() -> None:
    oracle = Oracle(TRUTH)
    left, right = ROUGH.copy(), ROUGH.copy()
    left[:, 30:], right[:, :30] = False, False
    nothing = np.zeros_like(left)
    Asks(oracle).refine(picture(TRUTH), marginals(left, nothing, right), np.ones(3), replace(DEMO, refine="sam-prompt"))
    assert (oracle.looks, oracle.prompts) == (1, 2), "a label without a mask is not asked about"


@pytest.mark.parametrize(("scores", "winner"), [((0.9, 0.2), 1), ((0.2, 0.9), 2)])
def test_the_higher_score_has_what_two_labels_are_given(scores: tuple[float, float], winner: int) -> None:
    top, bottom = ROUGH.copy(), ROUGH.copy()
    top[20:], bottom[:20] = False, False
    index = Asks(Oracle(TRUTH)).refine(
        picture(TRUTH), marginals(top, bottom), np.array(scores), replace(DEMO, refine="sam-prompt", phi_iou=0.3)
    )
    np.testing.assert_array_equal(index, TRUTH * winner)


@pytest.mark.parametrize("rule", WITH_REGIONS)
def test_where_nothing_was_drawn_sam_is_not_asked(rule: str) -> None:
    oracle = Oracle(TRUTH)
    assert not refined(rule, oracle, rough=np.zeros_like(ROUGH)).any()
    assert oracle.looks == 0


def test_what_sam_is_told() -> None:
    mask = np.zeros((20, 40), bool)
    mask[2:11, 3:12] = True  # centre (7, 6)
    mask[8:15, 25:32] = True  # centre (28, 11)
    mask[18, 39] = True  # too small a part to be shown
    told = prompt_for(mask, mask.astype(np.float32))
    assert told.points.tolist() == [[7, 6], [28, 11]]
    assert told.box.tolist() == [3, 2, 40, 19]
    assert told.logits.shape == (256, 256)


def test_a_mask_of_one_pixel() -> None:
    mask = np.zeros((5, 5), bool)
    mask[4, 0] = True
    told = prompt_for(mask, mask.astype(np.float32))
    assert (told.points.tolist(), told.box.tolist()) == ([[0, 4]], [0, 4, 1, 5])


@pytest.mark.parametrize(("height", "width"), [(512, 1024), (3, 6), (1, 1)])
def test_rough_masks_fill_sams_square_from_the_corner(height: int, width: int) -> None:
    probability = np.full((height, width), 0.9, np.float32)
    probability[:, width // 2 :] = 0.1
    logits = low_resolution(probability)
    rows = 256 * height // max(height, width)
    np.testing.assert_allclose(logits[:rows, -1], np.log(0.1 / 0.9), rtol=1e-4)
    if width > 1:
        np.testing.assert_allclose(logits[:rows, 0], np.log(0.9 / 0.1), rtol=1e-4)
    assert (logits[rows:] == -8).all()


def test_regions_by_colour() -> None:
    one = by_colour(picture(TRUTH), scale=100, levels=1)
    assert len(one) >= 2
    assert sum(one.areas) == TRUTH.size
    assert len(by_colour(picture(TRUTH), scale=100, levels=2)) > len(one)


def test_masks_drawn_small_are_refined_and_come_back_large() -> None:
    large = TRUTH.repeat(4, axis=0).repeat(4, axis=1)
    maps = ROUGH[None].astype(np.float32)
    chosen = replace(DEMO, refine="sam", crf_max_side=60, crf_steps=0)
    index = draw(picture(large), maps, chosen, refiner=Asks(Oracle(TRUTH)))
    assert index.shape == (160, 240)
    np.testing.assert_array_equal(index == 1, large)


def test_a_scene_with_regions(segmenter_of: Callable[..., Segmenter], studio: Path) -> None:
    scene = read_image(studio / "images" / "001.png")
    labels = vocabulary(["mount fuji", "coca cola logo", "firefox logo", "pizza"])
    plain = segmenter_of("demo").segment(scene, labels)
    voted = segmenter_of("demo", {"refine": "regions-vote"}).segment(scene, labels)
    segmenter_of("demo")
    assert voted.labels == plain.labels
    assert voted.scores.tolist() == plain.scores.tolist()
    assert voted.masks.sum(axis=0).max() == 1
    assert 0 < (voted.masks ^ plain.masks).mean() < 0.05


def test_a_segmenter_that_needs_sam_says_so_at_once(tmp_path: Path) -> None:
    chosen = preset("demo", {"refine": "sam", "sam_weights": str(tmp_path / "absent.pth")})
    with pytest.raises(WeightsError, match=r"no file of weights .*absent\.pth.*sam_hq_vit_h\.pth from https"):
        Segmenter(chosen, "cpu")


def test_without_sam_masks_may_be_drawn_in_another_process() -> None:
    refiner = pickle.loads(pickle.dumps(Refiner().prepare(replace(DEMO, refine="regions"))))
    index = refiner.refine(picture(TRUTH), marginals(ROUGH), np.ones(1), replace(DEMO, refine="regions-vote"))
    assert index.any()


def test_drawing_imports_neither_torch_nor_sam() -> None:
    code = "import sys, model.canvas; sys.exit('torch' in sys.modules or 'segment_anything_hq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
