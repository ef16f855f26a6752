from collections.abc import Callable

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from model import weights
from model.encoder import Encoder
from model.presets import DEMO
from model.segmenter import Segmenter


@pytest.fixture(scope="module")
def encoder(segmenter_of: Callable[..., Segmenter]) -> Encoder:
    return segmenter_of()._proposals


@pytest.fixture(scope="module")
def reference() -> open_clip.CLIP:
    return open_clip.create_model(f"local-dir:{DEMO}").eval()


def test_texts_cut_to_their_end_are_the_same(encoder: Encoder, reference: open_clip.CLIP) -> None:
    texts = ["cat", "a photo of a very large tokyo tower in the evening"]
    with torch.no_grad():
        expected = reference.encode_text(weights.from_folder(DEMO).tokenize(texts), normalize=True)
    torch.testing.assert_close(encoder.texts(texts), expected, atol=1e-5, rtol=0)


def test_a_text_longer_than_the_context_is_cut(encoder: Encoder) -> None:
    long = "a photo of a cat " * 50
    torch.testing.assert_close(encoder.texts([long]), encoder.texts([long + "and a dog"]))


def test_texts_are_encoded_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoder.texts(["an owl"])
    monkeypatch.setattr(encoder, "_encode", lambda texts: pytest.fail(f"encoded again: {texts}"))
    torch.testing.assert_close(encoder.texts(["an owl", "an owl"]), first.repeat(2, 1))


def test_images_are_those_of_open_clip(encoder: Encoder, reference: open_clip.CLIP) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3)).astype(np.uint8)
    pixels = encoder.pixels(pictures)
    with torch.no_grad():
        expected = reference.encode_image(pixels, normalize=True)
    torch.testing.assert_close(encoder.images(pixels), expected, atol=1e-5, rtol=0)


def test_without_its_last_block_it_is_a_clip_that_has_none(encoder: Encoder, reference: open_clip.CLIP) -> None:
    pixels = encoder.pixels([np.full((256, 256, 3), 90, np.uint8)])
    x = reference.visual._embeds(pixels)
    with torch.no_grad():
        for block in reference.visual.transformer.resblocks[:-1]:
            x = block(x)
        expected = F.normalize(reference.visual.ln_post(x)[:, 0] @ reference.visual.proj, dim=-1)
    torch.testing.assert_close(encoder.images(pixels, drop_last_block=True), expected, atol=1e-5, rtol=0)


def test_the_last_block_is_the_models_own(encoder: Encoder, reference: open_clip.CLIP) -> None:
    pixels = encoder.pixels([np.random.default_rng(1).integers(0, 255, (256, 256, 3)).astype(np.uint8)])
    trunk = encoder.trunk(pixels)
    with torch.no_grad():
        tokens = reference.visual.transformer(reference.visual._embeds(pixels))
        expected = F.normalize(reference.visual.ln_post(tokens)[0, 1:].mean(dim=0) @ reference.visual.proj, dim=-1)
        got = trunk.last.feature
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_pixels_are_scaled_by_mean_and_deviation(encoder: Encoder) -> None:
    pixels = encoder.pixels([np.zeros((2, 4, 3), np.uint8)])
    assert pixels.shape == (1, 3, 2, 4)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([-1.7923, -1.7521, -1.4802]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RN50", "plain vision transformer"),
        ("ViT-B-32-SigLIP2-256", "This is a SigLIP"),
        ("coca_ViT-B-32", "plain vision transformer"),
    ],
)
def test_other_models_are_refused(name: str, message: str) -> None:
    with torch.device("meta"):
        model = open_clip.create_model(name, load_weights=False, device="meta")
    clip = weights.Clip(model, lambda texts: torch.zeros(1), (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(weights.WeightsError, match=message):
        Encoder(clip, torch.device("meta"))


@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.998), ("float16", 0.9998), ("float32", 1 - 1e-6)])
def test_lower_precision_moves_features_little(encoder: Encoder, precision: str, least: float) -> None:
    other = Encoder(weights.from_folder(DEMO), torch.device("cpu"), precision=precision)
    pixels = encoder.pixels(np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3)).astype(np.uint8))
    assert other.images(pixels).dtype == torch.float32
    assert (other.images(pixels) * encoder.images(pixels)).sum(dim=-1).min() >= least
    torch.testing.assert_close(other.texts(["a cat"]), encoder.texts(["a cat"]))
    assert (other.trunk(pixels[:1]).last.feature @ encoder.trunk(pixels[:1]).last.feature) >= least
