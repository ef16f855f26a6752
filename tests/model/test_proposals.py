from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from model.encoder import Encoder, Trunk, attend
from model.pictures import read_image
from model.proposals import Proposer, Sensitivity, affinity, grad_cam, spread
from model.segmenter import Segmenter
from model.sizes import resize
from tests.weights import CLIP

TEXTS = ["a cat", "a tokyo tower", "a pizza", "grass", "sky"]


@pytest.fixture(scope="module")
def encoder(segmenter_of: Callable[..., Segmenter]) -> Encoder:
    return segmenter_of(weights=str(CLIP))._proposals


@pytest.fixture(scope="module")
def pixels(encoder: Encoder) -> torch.Tensor:
    from model.presets import DEMO

    return encoder.pixels([resize(read_image(DEMO / "scenes" / "studio" / "images" / "000.png"), 160, 192)])


@pytest.fixture(scope="module")
def trunk(encoder: Encoder, pixels: torch.Tensor) -> Trunk:
    return encoder.trunk(pixels)


def straightforward(encoder: Encoder, trunk: Trunk, texts: torch.Tensor, wanted: int) -> torch.Tensor:
    """Grad-CAM as its definition says: one backward pass from the softmax probability of one text."""
    block, visual = encoder._blocks[-1], encoder._visual
    tokens = trunk.tokens.clone()
    normed = block.ln_1(tokens).requires_grad_()
    x = tokens + attend(block, normed[None])[0][0]
    x = x + block.mlp(block.ln_2(x))
    feature = F.normalize(visual.ln_post(x)[1:].mean(dim=0) @ visual.proj, dim=-1)
    (gradient,) = torch.autograd.grad((encoder.scale * feature @ texts.T).softmax(dim=0)[wanted], normed)
    cam = (normed.detach()[1:] @ gradient[1:].mean(dim=0)).relu()
    cam = cam - cam.min()
    return cam / cam.max()


def test_grad_cam_is_the_gradient_of_the_probability(encoder: Encoder, trunk: Trunk) -> None:
    texts = encoder.texts(TEXTS)
    cams = grad_cam(Sensitivity(encoder, trunk), texts[:3], texts[3:], [0, 1, 2])
    for row in range(3):
        torch.testing.assert_close(cams[row], straightforward(encoder, trunk, texts, row), atol=2e-5, rtol=0)


def test_rows_do_not_depend_on_which_are_wanted(encoder: Encoder, trunk: Trunk) -> None:
    texts = encoder.texts(TEXTS)
    all_rows = grad_cam(Sensitivity(encoder, trunk), texts[:3], texts[3:], [0, 1, 2])
    two = grad_cam(Sensitivity(encoder, trunk), texts[:3], texts[3:], [2, 0])
    torch.testing.assert_close(two, all_rows[[2, 0]], atol=1e-5, rtol=0)


def test_a_later_pass_costs_one_gradient(encoder: Encoder, trunk: Trunk) -> None:
    texts, sensitivity = encoder.texts(TEXTS), Sensitivity(encoder, trunk)
    grad_cam(sensitivity, texts[:3], texts[3:], [0, 1, 2])
    assert len(sensitivity._known) == 3
    grad_cam(sensitivity, texts[1:3], texts[3:], [0, 1])
    assert len(sensitivity._known) == 4


def test_gradients_never_cost_more_than_the_embedding_is_wide(encoder: Encoder, trunk: Trunk) -> None:
    sensitivity = Sensitivity(encoder, trunk)
    directions = torch.randn(250, 192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answers = sensitivity(directions)
    assert len(sensitivity._known) == 192
    torch.testing.assert_close(answers[:2] + answers[2:4], sensitivity(directions[:2] + directions[2:4]))


def test_trunk_attention_sums_to_one(trunk: Trunk) -> None:
    assert trunk.grid == (10, 12)
    assert trunk.attention.shape == (121, 121)
    torch.testing.assert_close(trunk.attention.sum(dim=1), torch.ones(121))


def test_affinity_is_symmetric_and_nearly_doubly_stochastic() -> None:
    attention = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    between = affinity(attention)
    torch.testing.assert_close(between, between.T)
    torch.testing.assert_close(between.sum(dim=1), torch.ones(6), atol=0.01, rtol=0)


def test_affinity_of_equal_attention() -> None:
    torch.testing.assert_close(affinity(torch.full((2, 2), 7.0)), torch.full((2, 2), 0.5))


@pytest.mark.parametrize(("side", "expected"), [("source", [1.0, 0.0, 1.0]), ("target", [1.0, 0.0, 0.0])])
def test_boxes_confine_where_values_come_from_or_go(side: str, expected: list[float]) -> None:
    swap = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])  # patches 0 and 2 belong together
    maps, boxes = torch.tensor([[1.0, 0.2, 0.0]]), torch.tensor([[True, False, False]])
    torch.testing.assert_close(spread(maps, boxes, swap, side)[0], torch.tensor(expected))


def test_a_proposer_draws_at_patch_resolution(encoder: Encoder, pixels: torch.Tensor) -> None:
    from model.presets import preset

    texts = encoder.texts(TEXTS)
    maps = Proposer(encoder, pixels, preset("demo")).propose(texts[:3], texts[3:], [0, 2])
    assert maps.shape == (2, 10, 12)
    assert maps.dtype == torch.float32
    assert maps.min() == 0
    assert maps.max() == 1


def test_grad_cam_alone_is_not_spread(encoder: Encoder, pixels: torch.Tensor) -> None:
    from model.presets import preset

    texts = encoder.texts(TEXTS)
    proposer = Proposer(encoder, pixels, preset("demo", {"proposals": "grad-cam"}))
    maps = proposer.propose(texts[:3], texts[3:], [0, 2])
    assert torch.equal(maps, proposer.cams(texts[:3], texts[3:], [0, 2]))
    spread = Proposer(encoder, pixels, preset("demo")).propose(texts[:3], texts[3:], [0, 2])
    assert (maps - spread).abs().max() > 0.1
