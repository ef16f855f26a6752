"""The written-out gradient against torch's own, in float64, where only the mathematics counts."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, ResidualAttentionBlock

from model.encoder import attend
from model.gradient import LastBlock


@pytest.mark.parametrize("activation", [torch.nn.GELU, open_clip.transformer.QuickGELU])
@pytest.mark.parametrize("layer_scale", [None, 0.3])
def test_gradients_are_those_of_a_backward_pass(activation: type[torch.nn.Module], layer_scale: float | None) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = ResidualAttentionBlock(24, 3, 4.0, layer_scale, activation, LayerNorm).double().requires_grad_(False)
        norm = LayerNorm(24).double().requires_grad_(False)
        for layer in (block.ln_1, block.ln_2, norm):
            layer.weight.normal_(1, 0.2)
            layer.bias.normal_(0, 0.2)
        block.attn.in_proj_weight.normal_(0, 0.4)
        projection, tokens = torch.randn(24, 10).double(), torch.randn(7, 24).double()
        directions = torch.randn(19, 10).double()
    normed = block.ln_1(tokens).requires_grad_()
    x = tokens + block.ls_1(attend(block, normed[None])[0][0])
    x = x + block.ls_2(block.mlp(block.ln_2(x)))
    feature = F.normalize(norm(x)[1:].mean(dim=0) @ projection, dim=-1)
    expected = torch.stack(
        [torch.autograd.grad(feature @ d, normed, retain_graph=True)[0][1:].mean(0) for d in directions]
    )
    last = LastBlock(block, norm, projection, tokens)
    torch.testing.assert_close(last.feature, feature.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(last.gradients(directions), expected, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(last.attention, attend(block, normed[None])[1][0].detach())
