"""HQ-SAM with random weights: its masks mean nothing, but they are the library's, and images are looked at once."""

import numpy as np
import pytest

from model import region_benchmark
from model.presets import Preset, preset
from model.region_benchmark import TooFewProposalsError, time_matching, time_sam
from model.sam import Sam, fingerprint

GRID = preset("demo", {"points_per_side": "2"})
POINT = np.array([[20.0, 12.0]])
BOX = np.array([4.0, 6.0, 40.0, 30.0])


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (36, 48, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def sam() -> Sam:
    return Sam("vit_tiny", "random", kept=2)


def test_an_image_is_looked_at_once(sam: Sam) -> None:
    before = sam.looks
    first = sam.embed(picture(1))
    assert sam.embed(picture(1).copy()) is first, "told by its content"
    assert sam.looks == before + 1
    assert first.features.shape == (1, 256, 64, 64)
    assert [tuple(early.shape) for early in first.interm_features] == [(1, 64, 64, 160)]
    assert (first.original_size, first.input_size) == ((36, 48), (768, 1024))


def test_answers_are_the_librarys(sam: Sam) -> None:
    from segment_anything_hq import SamPredictor

    library = SamPredictor(sam._predictor.model)
    library.set_image(picture(1))
    mask, quality, logits = library.predict(POINT, np.array([1]), BOX, multimask_output=False)
    embedding = sam.embed(picture(1))
    sam.embed(picture(2))  # another image in between
    answer = sam.prompt(embedding, POINT, box=BOX)
    np.testing.assert_array_equal(answer.mask, mask[0])
    np.testing.assert_array_equal(answer.logits, logits[0])
    assert answer.quality == quality[0]
    best, _, _ = library.predict(POINT, np.array([1]), multimask_output=True)
    np.testing.assert_array_equal(sam.prompt(embedding, POINT).mask, best[0])


def test_logits_of_an_answer_are_a_prompt(sam: Sam) -> None:
    embedding = sam.embed(picture(1))
    first = sam.prompt(embedding, box=BOX)
    second = sam.prompt(embedding, POINT, np.array([0]), BOX, first.logits)
    assert second.mask.shape == (36, 48)
    assert (second.logits != first.logits).any()


def test_a_prompt_without_anything(sam: Sam) -> None:
    with pytest.raises(ValueError, match="points, a box or logits"):
        sam.prompt(sam.embed(picture(1)))


def test_only_the_last_images_are_remembered(sam: Sam) -> None:
    for seed in (1, 2):
        sam.embed(picture(seed))
    before = sam.looks
    sam.embed(picture(3))
    sam.embed(picture(2))
    assert sam.looks == before + 1
    sam.embed(picture(1))
    assert sam.looks == before + 2, "the oldest went"


def test_automatic_masks_share_the_look_and_are_remembered(sam: Sam) -> None:
    sam.embed(picture(2))
    before = sam.looks
    found = sam.automask(picture(2), GRID)
    assert sam.looks == before
    assert (len(found), found.size) == (4, (36, 48))
    assert all(found.areas > 0)
    assert sam.automask(picture(2), GRID) is found
    assert sam.prompt(sam.embed(picture(2)), POINT).mask.shape == (36, 48)


def test_fingerprints_tell_shapes_apart() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    assert fingerprint(flat) != fingerprint(flat.reshape(6, 4, 3))
    assert fingerprint(flat) == fingerprint(np.asfortranarray(flat))


def test_matching_is_timed_and_equal_to_the_naive_loops() -> None:
    figures = time_matching(masks=3, proposals=20, side=64)
    assert figures.equal
    assert 10 <= figures.proposals <= 20, "a drawn shape may lie outside the image"
    assert min(figures.read, figures.match, figures.naive) >= 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_scene_through_every_stage_with_a_hundred_proposals() -> None:
    settings = {"sam_model": "vit_tiny", "sam_weights": "random", "points_per_side": "10"}
    stages = time_sam(preset("demo", settings), "cpu")
    assert stages.asked == 100
    assert stages.proposals == 100
    assert list(stages.wall) == list(stages.cpu)
    assert {"segment, refine=sam", "segment, refine=sam-prompt", "encoder, once per image"} < set(stages.wall)
    assert all(seconds > 0 for seconds in stages.wall.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_few_proposals_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"sam_model": "vit_tiny", "sam_weights": "random", "points_per_side": "2"}
    chosen: Preset = preset("demo", settings)
    monkeypatch.setattr(region_benchmark, "LEAST", 5)
    with pytest.raises(TooFewProposalsError, match="4 proposals from random weights show nothing: at least 5"):
        time_sam(chosen, "cpu")
