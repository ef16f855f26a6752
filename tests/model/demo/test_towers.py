import pytest
import torch
from safetensors.torch import load_file

from model.demo.tokenizer import tokenizer
from model.demo.towers import look, read
from model.demo.train import fresh
from model.demo.world import HERE


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    model = fresh()
    model.load_state_dict(
        {name: value.float() for name, value in load_file(HERE / "open_clip_model.safetensors").items()}
    )
    return model.eval()


@torch.no_grad()
def test_a_warm_start_is_the_same_function(model: torch.nn.Module) -> None:
    pixels = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    seen = look(model, pixels)
    assert (seen.image - model.encode_image(pixels)).abs().max() < 1e-5
    assert seen.patches.shape == (2, 256, 192)
    assert seen.attention.shape == (2, 257, 257)
    assert torch.allclose(seen.attention.sum(dim=2), torch.ones(2, 257), atol=1e-5)
    tokens = tokenizer()(["a photo of a cat", "the red car on the left"])
    assert (read(model, tokens) - model.encode_text(tokens)).abs().max() < 1e-5


@torch.no_grad()
def test_positions_say_where_a_part_lies(model: torch.nn.Module) -> None:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(4)
    corner = (rows[:, None] * 16 + rows[None]).reshape(1, -1)
    first, other = (look(model, pixels, corner + shift).image for shift in (0, 5))
    assert (first - other).abs().max() > 1e-3
