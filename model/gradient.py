"""The gradient of an image's feature with respect to the last block's input, averaged over the patches, written out.

Grad-CAM wants one such average for each text. A backward pass would compute the gradient of every token and average
afterwards. Averaged first, most of it is small: values and keys need one column of the attention, queries one product
of its size, and the last block's second linear layer is applied once for all texts, since the feature asks the same of
every patch. What is left costs less than half of a backward pass, and many texts share each matrix product.

Shapes: L = 1 + n tokens (the class token first), D channels, h heads of d channels, R directions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = {"cpu": 1, "cuda": 16}  # directions at once: what a processor's caches hold, what fills a GPU


class LastBlock:
    """The last block of a vision transformer run on one image: its feature, and how the feature answers to a shift.

    The shift is added to all patches of the block's normalised input, where CLIP-ES takes the gradient; the residual
    branch goes around it.
    """

    def __init__(self, block: Any, norm: Any, projection: Tensor, tokens: Tensor) -> None:
        """Run `block` on tokens [L, D], then `norm` and `projection` [D, E] on the mean of the patches."""
        self._tokens = tokens
        layer = block.attn
        self._block, self._norm, self._projection, self._layer = block, norm, projection, layer
        self.input = block.ln_1(tokens)
        qkv = F.linear(self.input, layer.in_proj_weight, layer.in_proj_bias)
        q, self._k, self._v = qkv.view(len(tokens), 3, layer.num_heads, -1).permute(1, 2, 0, 3)
        self._q = q * q.shape[-1] ** -0.5
        self.attention = (self._q @ self._k.transpose(1, 2)).softmax(dim=-1)
        mixed = self.attention @ self._v
        # Softmax does not care for what all values have in common: without it, less cancels in the gradient.
        common = self._v.mean(dim=1, keepdim=True)
        self._values, self._own, self._v = self._v, (mixed - common)[:, 1:], self._v - common
        out = layer.out_proj(mixed.transpose(0, 1).reshape(self.input.shape))
        x = (tokens + block.ls_1(out))[1:]
        self._first = _Normed(x, block.ln_2)
        hidden = block.mlp.c_fc(self._first.output)
        self._slope = _slope(block.mlp, hidden)
        x = x + block.ls_2(block.mlp.c_proj(block.mlp.gelu(hidden)))
        self._second = _Normed(x, norm)
        self._pooled = self._second.output.mean(dim=0) @ projection
        self.feature: Tensor = F.normalize(self._pooled, dim=-1)
        self._unit_back = (self._second.unit * _gamma(block.ls_2)) @ block.mlp.c_proj.weight

    @property
    @torch.inference_mode()
    def patches(self) -> Tensor:
        """What each patch says for itself: normalised features [n, E] when patches attend to themselves alone."""
        block = self._block
        out = self._layer.out_proj(self._values.transpose(0, 1).reshape(self.input.shape))
        x = (self._tokens + block.ls_1(out))[1:]
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
        return F.normalize(self._norm(x) @ self._projection, dim=-1)

    @torch.inference_mode()
    def gradients(self, directions: Tensor) -> Tensor:
        """Return the gradients [R, D] of the feature's products with directions [R, E], averaged over the patches."""
        parts = [self._gradients(part) for part in torch.split(directions, CHUNK.get(directions.device.type, 8))]
        return torch.cat(parts)

    def _gradients(self, directions: Tensor) -> Tensor:
        block, patches = self._block, len(self.input) - 1
        across = directions - (directions @ self.feature)[:, None] * self.feature
        wish = (across / self._pooled.norm() / patches) @ self._projection.T * self._norm.weight
        at_output = self._second.back(wish[:, None])
        # The same wish for all patches: what of it differs is a multiple of the patch's own normalised tokens.
        share = (wish @ self._second.unit.T / wish.shape[1])[..., None]
        even = ((wish - wish.mean(dim=1, keepdim=True)) * _gamma(block.ls_2)) @ block.mlp.c_proj.weight
        hidden = (even[:, None] - share * self._unit_back) / self._second.deviation * self._slope
        through = (hidden @ block.mlp.c_fc.weight) * block.ln_2.weight
        at_middle = at_output + self._first.back(through)
        mixed = (at_middle * _gamma(block.ls_1)) @ self._layer.out_proj.weight
        heads = mixed.view(len(directions), patches, self._layer.num_heads, -1).transpose(1, 2)
        return self._through_attention(heads) / patches

    def _through_attention(self, mixed: Tensor) -> Tensor:
        """Return the sums over patches [R, D] of the gradient, given that at the attention's output [R, h, n, d]."""
        attention = self.attention[:, 1:]
        values = ((1 - attention[:, :, :1]) * mixed).sum(dim=2)  # [R, h, d]
        logits = mixed @ self._v.transpose(1, 2)  # [R, h, n, L], from here on in place
        logits -= (mixed * self._own).sum(dim=-1, keepdim=True)
        logits *= attention
        keys = -(logits[..., :1] * self._q[:, 1:]).sum(dim=2)  # a row of logits sums to 0: all keys but the class's
        queries = (logits.sum(dim=2)[:, :, None] @ self._k)[:, :, 0] * self._k.shape[-1] ** -0.5
        total: Tensor = torch.stack([queries, keys, values], dim=1).flatten(1) @ self._layer.in_proj_weight
        return total


class _Normed:
    """A layer norm run on tokens [n, D], and its backward pass."""

    def __init__(self, x: Tensor, norm: Any) -> None:
        centred = x - x.mean(dim=-1, keepdim=True)
        self.deviation = (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
        self.unit = centred / self.deviation
        self.output = self.unit * norm.weight + norm.bias

    def back(self, at_unit: Tensor) -> Tensor:
        """Return the gradient [R, n, D] at the input, given that at the unit tokens [R, n or 1, D]."""
        along = torch.einsum("rnd,nd->rn", at_unit.expand(-1, len(self.unit), -1), self.unit)[..., None]
        even = at_unit - at_unit.mean(dim=-1, keepdim=True)
        back: Tensor = (even - self.unit * along / self.unit.shape[1]) / self.deviation
        return back


def _slope(mlp: Any, hidden: Tensor) -> Tensor:
    """Return the activation function's derivative at each of the values `hidden`."""
    with torch.inference_mode(False), torch.enable_grad():
        x = hidden.clone().requires_grad_()
        (slope,) = torch.autograd.grad(mlp.gelu(x).sum(), x)
    return slope


def _gamma(scale: Any) -> Tensor | float:
    """Return the factors of a LayerScale, 1 where there is none."""
    return getattr(scale, "gamma", 1.0)
