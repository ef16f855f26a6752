"""What is remembered has a say: by hand on small numbers, and on the demo CLIP."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.memory import NOTHING, Memory, MemoryFileError, Origin, Strength, write
from model.pictures import report
from model.presets import preset
from model.recall import Recall
from model.segmenter import Segmenter
from model.vocabulary import Query, vocabulary

X, Y, Z = np.eye(3, dtype=np.float32)


def memory(*regions: tuple[str, np.ndarray], share: float = 1.0, reach: float = 0.5, near: float = 1.0) -> Memory:
    looks = np.stack([look for _, look in regions])
    labels = tuple(label for label, _ in regions)
    return Memory(Origin("", "", {}), Strength(share, reach, near), labels, np.arange(len(labels)), looks, looks)


def recall(*regions: tuple[str, np.ndarray], **strength: float) -> Recall:
    return Recall(memory(*regions, **strength), ["cat", "dog"], 10.0, "cpu")


def mixed(found: Recall, look: np.ndarray, chances: list[float], alive: tuple[int, ...] = (0, 1)) -> list[float]:
    return found.mixed(torch.from_numpy(look)[None], torch.tensor([chances]), alive)[0].tolist()


def test_what_looks_the_same_decides() -> None:
    sure = float(torch.tensor([10.0, 0.0, -10.0]).softmax(0)[0])  # cosines 1 and 0, and -1 for nothing at all
    scores = mixed(recall(("cat", X), ("dog", Y)), X, [0.1, 0.6, 0.3])
    assert scores == pytest.approx([sure, 1 - sure, 0.0], abs=1e-4)


def test_half_the_share_or_half_the_way_is_half_the_say() -> None:
    whole = mixed(recall(("cat", X), ("dog", Y)), X, [0.1, 0.6, 0.3])
    half = mixed(recall(("cat", X), ("dog", Y), share=0.5), X, [0.1, 0.6, 0.3])
    assert half == pytest.approx([(a + b) / 2 for a, b in zip(whole, [0.1, 0.6, 0.3], strict=True)])
    look = np.array([0.75, 0.0, 0.6614378], np.float32)  # half way from reach to near
    cat, dog, rival = mixed(recall(("cat", X), ("dog", Y)), look, [0.1, 0.6, 0.3])
    assert rival == pytest.approx(0.15)
    assert cat > 0.5 > dog


def test_what_resembles_nothing_keeps_its_scores_to_the_bit() -> None:
    chances = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    far = torch.from_numpy(np.stack([Z, -X, -Y, (X + Y + 2 * Z) / 6**0.5])).float()
    assert torch.equal(recall(("cat", X), ("dog", Y)).mixed(far, chances, (0, 1)), chances)


def test_a_deleted_prediction_lowers_every_label() -> None:
    cat, dog, rival = mixed(recall((NOTHING, X), ("dog", Y)), X, [0.6, 0.3, 0.1])
    assert max(cat, dog, rival) < 0.01


def test_three_right_ones_outvote_a_wrong_one() -> None:
    near = np.array([0.98, 0.198997, 0], np.float32)
    right = [("cat", near), ("cat", near), ("cat", near)]
    cat, dog = mixed(recall(*right, ("dog", X), ("dog", Y), ("dog", Z)), X, [0.5, 0.5])
    assert cat > 0.9 > 0.1 > dog


def test_dropped_labels_have_no_score_but_their_regions_count() -> None:
    (dog,) = mixed(recall(("cat", X), ("dog", Y)), X, [1.0], alive=(1,))
    assert dog < 0.01, "it looks like the cat that was dropped"


def test_labels_that_are_no_longer_asked_for_are_left_out() -> None:
    assert not recall(("kitten", X), (NOTHING, Y))
    assert recall(("kitten", X), ("cat", Y))
    assert mixed(recall(("kitten", X), ("cat", Y)), X, [0.2, 0.8]) == pytest.approx([0.2, 0.8])


def test_only_a_text_that_finds_nothing_gives_way_to_looks() -> None:
    bank, rivals = torch.from_numpy(np.stack([X, -Y])[:, None]), torch.from_numpy(Z[None, None])
    found = recall(("cat", X), ("cat", X), ("dog", Y), ("dog", Y)).looks(bank, rivals, preset("demo"))
    assert list(found) == [1], "CLIP takes dogs for anything but its text"
    torch.testing.assert_close(found[1], torch.from_numpy(Y))
    assert recall(("dog", Y)).looks(bank, rivals, preset("demo")) == {}, "one region is too few"


# On the demo CLIP

LABELS = vocabulary(["pizza", "dog", "church"])


@pytest.fixture(scope="module")
def segmenter(segmenter_of: Callable[..., Segmenter]) -> Segmenter:
    return segmenter_of()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    folder = Path(__file__).parents[2] / "model" / "demo" / "scenes" / "studio" / "images"
    return np.asarray(Image.open(folder / "000.png").convert("RGB"))


def taught(segmenter: Segmenter, image: np.ndarray) -> Memory:
    """The upper left quarter is a dog, and so is the upper right one."""
    height, width = image.shape[:2]
    masks = [np.zeros((height, width), bool) for _ in range(2)]
    masks[0][: height // 2, : width // 2] = masks[1][: height // 2, width // 2 :] = True
    scored, drawn = segmenter.looks(image, masks)
    origin = segmenter.towers.origin(segmenter.preset)
    return Memory(origin, Strength(1.0, 0.2, 0.5), ("dog", "dog"), np.array([3, 4]), scored, drawn)


def test_forgotten_scores_are_as_they_were_to_the_bit(segmenter: Segmenter, image: np.ndarray) -> None:
    plain = segmenter.segment(image, LABELS)
    remembered = taught(segmenter, image)
    aided = segmenter.under(segmenter.preset, remembered).segment(image, LABELS)
    assert aided.raw_scores != plain.raw_scores
    assert plain.unaided == plain.raw_scores
    assert aided.unaided != aided.raw_scores
    assert report(aided)["unaided"] == aided.unaided
    assert "unaided" not in report(plain)
    forgotten = segmenter.under(segmenter.preset, remembered.forget(3, 4)).segment(image, LABELS)
    assert forgotten.raw_scores == plain.raw_scores
    np.testing.assert_array_equal(forgotten.masks, plain.masks)


def test_a_memory_of_other_labels_changes_nothing(segmenter: Segmenter, image: np.ndarray) -> None:
    remembered = replace(taught(segmenter, image), labels=("zorblax", "zorblax"))
    plain, aided = (one.segment(image, LABELS) for one in (segmenter, segmenter.under(segmenter.preset, remembered)))
    assert aided.raw_scores == plain.raw_scores


def test_the_setting_names_a_file_that_fits_or_is_refused(
    segmenter: Segmenter, image: np.ndarray, tmp_path: Path
) -> None:
    remembered, path = taught(segmenter, image), tmp_path / "m.safetensors"
    named = replace(segmenter.preset, memory=f"{path}#{write(remembered, path)}")
    found = segmenter.under(named)
    assert found.memory is not None
    assert found.under(segmenter.preset).memory is None
    with pytest.raises(MemoryFileError, match=r"made with the visual prompts .*here are .*same preset and weights"):
        segmenter.under(replace(named, prompts=("circle",)))
    write(replace(remembered, origin=replace(remembered.origin, classifier="0" * 16)), path)
    with pytest.raises(MemoryFileError, match="made with the weights 0000000000000000, here are"):
        segmenter.under(replace(named, memory=str(path)))


def test_no_masks_have_no_looks(segmenter: Segmenter, image: np.ndarray) -> None:
    scored, drawn = segmenter.looks(image, [])
    assert scored.shape == drawn.shape == (0, 192)
    assert segmenter.looks(image, [np.ones(image.shape[:2], bool)])[0].shape == (1, 192)


def test_fingerprints_tell_weights_apart(segmenter: Segmenter) -> None:
    changed = copy.deepcopy(segmenter._classifier)
    changed.__dict__.pop("fingerprint", None)
    with torch.no_grad():
        changed._blocks[-1].ln_1.weight[0] += 1e-3
    assert changed.fingerprint != segmenter._classifier.fingerprint
    assert segmenter._classifier.fingerprint == Segmenter(segmenter.preset, "cpu")._classifier.fingerprint


def test_tiles_and_a_single_label_have_scores_too(segmenter: Segmenter, image: np.ndarray) -> None:
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    tiled = segmenter.under(replace(segmenter.preset, tiles=2, rivals=()), taught(segmenter, image))
    found = tiled.segment(large, [Query("dog", ("dog",))])
    assert set(found.raw_scores) == set(found.unaided) == {"dog"}
