"""The whole method on the shipped scenes, and on images and vocabularies nobody hoped for."""

import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from model.benchmarks import folder
from model.pictures import read_image
from model.presets import preset
from model.segmentation import Segmentation
from model.segmenter import ImageTooLargeError, Segmenter
from model.vocabulary import Query, VocabularyError, vocabulary
from tests.weights import CLIP

LABELS = ["statue of liberty", "mount fuji", "coca cola logo", "firefox logo", "airplane", "pizza", "guitar", "dog"]


@pytest.fixture(scope="module")
def segmenter(segmenter_of: Callable[..., Segmenter]) -> Segmenter:
    return segmenter_of(weights=str(CLIP))


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    from model.presets import DEMO

    return read_image(DEMO / "scenes" / "studio" / "images" / "001.png")


@pytest.fixture(scope="module")
def result(segmenter: Segmenter, scene: np.ndarray) -> Segmentation:
    return segmenter.segment(scene, vocabulary(LABELS))


def test_what_is_there_is_found(result: Segmentation) -> None:
    assert set(result.labels) >= {"mount fuji", "coca cola logo", "firefox logo"}
    assert not set(result.labels) & {"pizza", "guitar", "dog"}


def test_the_shape_of_a_result(result: Segmentation) -> None:
    count = len(result.labels)
    assert result.masks.shape == (count, 320, 384)
    assert result.masks.dtype == bool
    assert result.masks.sum(axis=0).max() == 1, "masks are disjoint"
    assert result.masks.any(axis=(1, 2)).all(), "none is empty"
    assert result.scores.shape == (count,)
    assert result.scores.dtype == np.float32
    assert list(result.labels) == [label for label in LABELS if label in result.labels]
    assert list(result.raw_scores) == LABELS
    assert result.steps[-1].queries == result.labels
    assert {"texts", "trunk", "proposals", "classifier", "masks", "total"} == set(result.seconds)


def test_the_same_image_gives_the_same_masks(segmenter: Segmenter, scene: np.ndarray, result: Segmentation) -> None:
    np.testing.assert_array_equal(segmenter.segment(scene, vocabulary(LABELS)).masks, result.masks)


def test_presets_share_weights_and_nothing_else(
    segmenter: Segmenter, segmenter_of: Callable[..., Segmenter], scene: np.ndarray, result: Segmentation
) -> None:
    other = preset("demo", {"eta": "0.6", "refine": "none"})
    assert segmenter.shares(other)
    assert not segmenter.shares(preset("photos"))
    with pytest.raises(ValueError, match="other towers"):
        segmenter.under(preset("photos"))
    twin = segmenter.under(other)
    masks = twin.segment(scene, vocabulary(LABELS)).masks
    np.testing.assert_array_equal(segmenter.segment(scene, vocabulary(LABELS)).masks, result.masks)
    alone = segmenter_of("demo", {"eta": "0.6", "refine": "none"}, str(CLIP)).segment(scene, vocabulary(LABELS))
    segmenter_of(weights=str(CLIP))
    np.testing.assert_array_equal(masks, alone.masks)


@pytest.mark.parametrize("threshold", [0.9, {"mount fuji": 2.0}])
def test_threshold(
    segmenter: Segmenter, scene: np.ndarray, result: Segmentation, threshold: float | dict[str, float]
) -> None:
    least = threshold if isinstance(threshold, dict) else dict.fromkeys(LABELS, threshold)
    stricter = segmenter.segment(scene, vocabulary(LABELS), threshold)
    expected = [label for label in result.labels if result.raw_scores[label] >= least.get(label, 0)]
    assert list(stricter.labels) == expected
    assert len(expected) < len(result.labels)


def test_a_threshold_below_theta_finds_more(segmenter_of: Callable[..., Segmenter], scene: np.ndarray) -> None:
    strict = segmenter_of("demo", {"theta": "0.99"})
    before = strict.segment(scene, vocabulary(LABELS)).labels
    assert len(strict.segment(scene, vocabulary(LABELS), 0.2).labels) > len(before)
    segmenter_of("demo")


@pytest.mark.parametrize(
    ("image", "labels", "error", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), [], VocabularyError, "no labels"),
        (np.zeros((8, 8, 3), np.uint8), ["cat", "cat"], VocabularyError, "'cat' is given twice"),
        (np.zeros((8, 8), np.uint8), ["cat"], ValueError, "An image is uint8"),
        (np.zeros((8, 8, 4), np.uint8), ["cat"], ValueError, "An image is uint8"),
        (np.zeros((8, 8, 3), np.float32), ["cat"], ValueError, "got float32"),
        (np.zeros((0, 8, 3), np.uint8), ["cat"], ValueError, "H, W > 0"),
    ],
)
def test_wrong_input(
    segmenter: Segmenter, image: np.ndarray, labels: Sequence[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        segmenter.segment(image, vocabulary(labels))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 300), (300, 1), (17, 33)])
@pytest.mark.parametrize("name", ["demo", "voc"])
def test_small_images(segmenter_of: Callable[..., Segmenter], size: tuple[int, int], name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    result = segmenter_of(name).segment(image, vocabulary(["cat", "dog"]))
    assert result.masks.shape == (len(result.labels), *size)


def test_odd_labels(segmenter: Segmenter, scene: np.ndarray) -> None:
    labels = ['the "big" one', "{", "{0} and {}", "🐼", "a\tb\nc", "x" * 2000, "\\d+", "<b>&amp;</b>", "água", "!"]
    result = segmenter.segment(scene, vocabulary(labels))
    assert list(result.raw_scores) == labels


def test_synonyms_are_one_label(segmenter: Segmenter, scene: np.ndarray) -> None:
    queries = [Query("drink", ("coca cola logo", "coca cola")), Query("volcano", ("mount fuji",))]
    assert segmenter.segment(scene, queries).labels == ("drink", "volcano")


def test_a_large_photo_takes_bounded_memory(segmenter: Segmenter, scene: np.ndarray, result: Segmentation) -> None:
    """48 megapixels: the image itself is 138 MiB; CLIP and the CRF see a bounded part of it."""
    large = np.ascontiguousarray(scene.repeat(20, axis=0)[:6400].repeat(20, axis=1)[:, :7500])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = segmenter.segment(large, vocabulary(LABELS[1:4]))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    assert grown < 1.5
    assert "mount fuji" in found.labels
    assert found.masks.shape[1:] == large.shape[:2]


def test_masks_of_an_enlarged_image_lie_where_they_should(
    segmenter_of: Callable[..., Segmenter], scene: np.ndarray
) -> None:
    import cv2

    segmenter = segmenter_of(weights=str(CLIP))
    queries = vocabulary(["mount fuji", "coca cola logo", "firefox logo"])
    large = cv2.resize(scene, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    small, big = segmenter.segment(scene, queries), segmenter.segment(large, queries)
    shared = set(small.labels) & set(big.labels)
    assert "firefox logo" in shared
    ours = small.masks[small.labels.index("firefox logo")].repeat(6, axis=0).repeat(6, axis=1)
    theirs = big.masks[big.labels.index("firefox logo")]
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.8


def test_a_preset_without_a_bound_refuses_what_memory_cannot_hold(segmenter_of: Callable[..., Segmenter]) -> None:
    huge = np.broadcast_to(np.uint8(0), (30_000, 40_000, 3))
    with pytest.raises(ImageTooLargeError, match="Set max_patches"):
        segmenter_of("voc").segment(huge, vocabulary(["cat"]))


# The service presets' promise: one label alone can lose, and nothing found is an answer.


def scenes(root: Path) -> list[tuple[np.ndarray, set[str]]]:
    dataset = folder.read(root)
    names = np.array(dataset.classes)
    index = [np.unique(example.truth.read()) for example in dataset.examples]
    there = [set(names[i[(i > 0) & (i <= len(names))] - 1]) for i in index]
    return [(read_image(example.image), labels) for example, labels in zip(dataset.examples, there, strict=True)]


@pytest.mark.parametrize("label", ["firefox logo", "statue of liberty", "mount fuji"])
def test_one_label_alone(segmenter: Segmenter, studio: Path, label: str) -> None:
    """Of 30 scenes some ten hold the label: at least 70 % of them are found, and at most three of the others."""
    answers = [(label in there, bool(segmenter.segment(i, vocabulary([label])).labels)) for i, there in scenes(studio)]
    present = [found for there, found in answers if there]
    absent = [found for there, found in answers if not there]
    assert len(present) >= 8
    assert sum(present) >= 0.7 * len(present)
    assert sum(absent) <= 3


def test_none_of_the_labels(segmenter_of: Callable[..., Segmenter], studio: Path) -> None:
    segmenter = segmenter_of()
    labels = ["banana", "elephant", "tractor", "violin", "cactus", "laptop", "crab", "snowman"]
    answers = [segmenter.segment(image, vocabulary(labels)).labels for image, _ in scenes(studio)[:20]]
    assert sum(not found for found in answers) >= 15, answers


def test_an_image_that_cannot_be_written_to(segmenter_of: Callable[..., Segmenter], studio: Path) -> None:
    image = read_image(studio / "images" / "002.png").copy()
    image.setflags(write=False)
    assert segmenter_of().segment(image, vocabulary(["cat", "pizza"])).labels == ("cat",)


def test_the_best_of_several_prompts(segmenter_of: Callable[..., Segmenter], scene: np.ndarray) -> None:
    """With `best` a prompt that fits nothing does no harm: the masks are those of the good prompt alone."""
    alone = [Query("volcano", ("mount fuji",)), Query("drink", ("coca cola logo",))]
    mixed = [Query("volcano", ("qqq", "mount fuji")), Query("drink", ("coca cola logo",))]
    settings = {"presence": "0"}
    best = segmenter_of("demo", settings).segment(scene, mixed)
    good = segmenter_of("demo", settings).segment(scene, alone)
    assert best.labels == good.labels == ("volcano", "drink")
    assert (best.masks != good.masks).mean() < 1e-4
    averaged = segmenter_of("demo", {**settings, "synonyms": "mean"}).segment(scene, mixed)
    assert averaged.raw_scores["volcano"] < best.raw_scores["volcano"]
    segmenter_of("demo")


@pytest.mark.parametrize(("name", "tags"), [("demo", "0.02"), ("voc", "0.1")])
def test_rows_left_out_by_tags_do_not_change_the_others(
    segmenter_of: Callable[..., Segmenter], scene: np.ndarray, name: str, tags: str
) -> None:
    settings = {"presence": "0", "theta": "0.1"}
    whole = segmenter_of(name, settings).segment(scene, vocabulary(LABELS))
    told: list[tuple[str, int, int]] = []
    fewer = segmenter_of(name, {**settings, "tags": tags}).segment(
        scene, vocabulary(LABELS), progress=lambda *news: told.append(news)
    )
    assert fewer.labels == whole.labels
    np.testing.assert_allclose(fewer.scores, whole.scores, atol=1e-4)
    assert (fewer.masks != whole.masks).mean() < 1e-3
    stage, drawn, of = told[0]
    assert stage == "maps"
    assert len(whole.labels) <= drawn == of < len(LABELS)
    assert told[1] == ("scores", of, of)


def test_where_one_must_survive_hopeless_rows_are_drawn_after_all(
    segmenter_of: Callable[..., Segmenter], scene: np.ndarray
) -> None:
    everything = segmenter_of("voc", {"theta": "0.9"}).segment(scene, vocabulary(LABELS))
    hopeless = segmenter_of("voc", {"theta": "0.9", "tags": "1"}).segment(scene, vocabulary(LABELS))
    assert hopeless.steps == everything.steps
    assert segmenter_of("demo", {"tags": "1"}).segment(scene, vocabulary(LABELS)).labels == ()
