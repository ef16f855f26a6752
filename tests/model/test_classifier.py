from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.classifier import Classifier, fingerprints, mean, text_bank, votes
from model.presets import preset
from model.segmenter import Segmenter
from model.vocabulary import Query, vocabulary


@pytest.fixture(scope="module")
def segmenter(segmenter_of: Callable[..., Segmenter]) -> Segmenter:
    return segmenter_of()


def test_votes_are_a_softmax_of_sums_of_softmaxes() -> None:
    features = torch.eye(2)[:1]
    bank = torch.eye(2)[:, None].repeat(1, 3, 1)  # two texts, three equal templates
    vote = float(torch.tensor([5.0, 0.0]).softmax(0)[0])
    expected = torch.tensor([3 * vote, 3 * (1 - vote)]).softmax(0)
    torch.testing.assert_close(votes(features, bank, 5.0)[0], expected)


def test_one_template_cannot_be_sure_in_votes() -> None:
    bank = F.normalize(torch.eye(20), dim=-1)[:, None]
    assert votes(torch.eye(20)[:1], bank, 100.0)[0, 0] == pytest.approx(np.e / (np.e + 19), rel=1e-4)


def test_mean_is_one_softmax_over_averaged_templates() -> None:
    bank = F.normalize(torch.tensor([[[1.0, 0.0], [1.0, 0.2]], [[0.0, 1.0], [0.2, 1.0]]]), dim=-1)
    averaged = F.normalize(bank.mean(dim=1), dim=-1)
    features = F.normalize(torch.tensor([[1.0, 0.5]]), dim=-1)
    torch.testing.assert_close(mean(features, bank, 10.0), (10 * features @ averaged.T).softmax(dim=1))


def test_synonyms_are_averaged(segmenter: Segmenter) -> None:
    encoder = segmenter._classifier
    bank = text_bank(encoder, [Query("cat", ("cat", "kitten"))], ("a {}.", "the {}."))
    assert bank.shape[:2] == (1, 2)
    torch.testing.assert_close(bank[0, 1], F.normalize(encoder.texts(["the cat.", "the kitten."]).mean(0), dim=0))


def test_rows_and_rivals(segmenter: Segmenter) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    bank = text_bank(segmenter._classifier, vocabulary(["cat", "dog", "owl"]), ("a {}.",))
    masks = [torch.eye(64).bool(), torch.ones(64, 64).tril().bool(), None]
    classifier = Classifier(segmenter._classifier, image, preset("demo"))
    together = classifier.score(masks, bank, [0, 1, 2])
    alone = classifier.score([masks[1]], bank, [1])
    assert alone[0] == pytest.approx(together[1], abs=1e-6)
    fewer = classifier.score([masks[1]], bank[1:2], [0])
    assert fewer[0] == 1  # nothing competes


def test_a_mask_is_looked_at_once(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    classifier = Classifier(segmenter._classifier, image, preset("demo"))
    seen: list[int] = []
    whole = segmenter._classifier.images
    monkeypatch.setattr(segmenter._classifier, "images", lambda x, drop: seen.append(len(x)) or whole(x, drop))
    masks = [torch.eye(32).bool(), torch.ones(32, 32).tril().bool(), torch.eye(32).bool()]
    first = classifier.look(masks)
    torch.testing.assert_close(classifier.look([masks[0]]), first[:1])
    assert seen == [2]


@pytest.mark.parametrize("view", ["crop", "letterbox", "squash", "object"])
def test_views_differ_in_what_they_show(segmenter: Segmenter, view: str) -> None:
    image = np.zeros((32, 96, 3), np.uint8)
    image[:, :20] = 255  # something at the side
    settings = replace(preset("demo"), classifier_view=view, prompts=("contour",))
    mask = torch.zeros(32, 96, dtype=torch.bool)
    mask[10:20, 70:80] = True  # on the other side
    (shown,) = Classifier(segmenter._classifier, image, settings).shown([mask])
    assert shown.shape == (256, 256, 3)
    assert bool((shown.amin(dim=2) > 250).any()) == (view in ("letterbox", "squash"))


def test_of_prompts_apart_the_best_counts() -> None:
    """A label with a good and a bad prompt scores as with the good one alone; repeating a prompt changes nothing."""
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(1, 8, generator=generator), dim=-1)
    texts = torch.nn.functional.normalize(torch.randn(3, 2, 8, generator=generator), dim=-1)
    good, bad = features.expand(2, 8), -features.expand(2, 8)
    apart = torch.stack([texts, texts], dim=2)
    apart[0] = torch.stack([bad, good], dim=1)
    alone = torch.cat([good[None], texts[1:]])
    for rule in (votes, mean):
        torch.testing.assert_close(rule(features, apart, 10.0), rule(features, alone, 10.0))


def test_batches_are_halved_until_they_fit(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = segmenter._classifier
    whole, sizes = encoder.images, []

    def small(pixels: torch.Tensor, drop: bool) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return whole(pixels, drop)

    masks = [torch.ones(32, 32).tril(k).bool() for k in range(9)]
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    expected = Classifier(encoder, image, preset("demo")).look(masks)
    monkeypatch.setattr(encoder, "images", small)
    monkeypatch.setattr(encoder, "batch", 8)
    torch.testing.assert_close(Classifier(encoder, image, preset("demo")).look(masks), expected, atol=1e-5, rtol=0)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]


def test_not_even_one_image_fits(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(pixels: torch.Tensor, drop: bool) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(segmenter._classifier, "images", full)
    monkeypatch.setattr(segmenter._classifier, "batch", 2)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Classifier(segmenter._classifier, np.zeros((32, 32, 3), np.uint8), preset("demo")).look([None])


def test_fingerprints_tell_masks_apart() -> None:
    masks = [torch.ones(40, 50).tril(k).bool() for k in range(-40, 50)]
    prints = fingerprints([None, *masks, *masks, None])
    assert prints[0] is prints[-1] is None
    assert prints[1:91] == prints[91:-1]
    assert len(set(prints[1:91])) == 90
