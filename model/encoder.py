"""One frozen CLIP, opened where CaR needs it: attention maps, the last block, cached texts.

Images go in as float tensors [B, 3, H, W], already scaled by the model's mean and deviation; sides are multiples of the
patch. Tokens are [B, 1 + n, D]: the class token first, then n = h * w patches, row by row.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor

from model.gradient import LastBlock
from model.precision import dtype_of
from model.weights import Clip, WeightsError

BATCH = {"cpu": 16, "cuda": 64}  # images per pass, at most
ATTENTION_LAYERS = 8  # CLIP-ES averages the attention of the last eight blocks


@dataclass(frozen=True)
class Trunk:
    """One image before the last block, and all that its blocks attended to.

    tokens: [1 + n, D], the input of the last block. last: that block, run in float32. attention: [1 + n, 1 + n], rows
    attend to columns, averaged over heads and the last eight blocks, the last included. grid: (rows, columns), rows *
    columns = n.
    """

    tokens: Tensor
    last: LastBlock
    attention: Tensor
    grid: tuple[int, int]


class Encoder:
    """Wraps one CLIP. Texts are encoded once per process and text; nothing here depends on the image seen before.

    With a `precision` below float32 the vision tower's attention and linear layers compute in it, all but the last
    block's; norms, sums and texts stay in float32.
    """

    def __init__(self, clip: Clip, device: torch.device, positions: str = "exact", precision: str = "float32") -> None:
        model = clip.model.to(device).eval().requires_grad_(False)
        visual = model.visual
        _check(model)
        self.device = device
        self.patch = int(visual.patch_size[0])
        self.image_size = int(visual.image_size[0])
        self.scale = float(model.logit_scale.exp())
        self.width = int(visual.proj.shape[1])
        self.batch = BATCH.get(device.type, 16)
        self.images_seen = 0
        self._model: Any = model
        self._visual: Any = visual
        self._blocks: list[Any] = list(visual.transformer.resblocks)
        self._dtype = dtype_of(precision, device)
        for block in self._blocks[:-1]:
            block.attn.to(self._dtype)
            block.mlp.to(self._dtype)
        self._tokenize = clip.tokenize
        self._mean = torch.tensor(clip.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(clip.std, device=device).view(3, 1, 1)
        self._half_positions = positions == "half"
        self._positions: dict[tuple[int, int], Tensor] = {}
        self._texts: dict[str, Tensor] = {}

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that no other weights have: over those that no `precision` converts."""
        visual = self._visual
        parts = (visual.conv1.weight, visual.class_embedding, visual.proj, visual.ln_post.weight, visual.ln_post.bias)
        parts += (self._model.text_projection, self._model.logit_scale, *self._blocks[-1].parameters())
        content = hashlib.sha256()
        for part in parts:
            content.update(part.detach().float().cpu().numpy().tobytes())
        return content.hexdigest()[:16]

    # Texts

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return the L2-normalised embeddings [T, E] of texts; one longer than the context is cut by the tokenizer."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(missing), 256):
            batch = missing[start : start + 256]
            self._texts.update(zip(batch, self._encode(batch), strict=True))
        return torch.stack([self._texts[text] for text in texts]) if texts else torch.zeros(0, 1, device=self.device)

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Encode only up to the longest text's end: attention is causal, so what follows changes nothing."""
        model = self._model
        tokens = self._tokenize(texts).to(self.device)
        ends = tokens.argmax(dim=1)
        length = int(ends.max()) + 1
        x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        return F.normalize(x[torch.arange(len(texts)), ends] @ model.text_projection, dim=-1)

    # Images

    def pixels(self, images: Iterable[NDArray[np.uint8]]) -> Tensor:
        """Scale uint8 images [H, W, 3] of one size as the model was trained: [B, 3, H, W]."""
        return self.scaled(torch.from_numpy(np.stack(list(images))).to(self.device))

    def scaled(self, images: Tensor) -> Tensor:
        """Scale uint8 images [B, H, W, 3] on the model's device as the model was trained: [B, 3, H, W]."""
        return (images.permute(0, 3, 1, 2).float() / 255 - self._mean) / self._std

    @torch.inference_mode()
    def trunk(self, pixels: Tensor) -> Trunk:
        """Run one image [1, 3, H, W] through all blocks; the last eight tell what they attend to."""
        x, grid = self._embed(pixels)
        first = len(self._blocks) - ATTENTION_LAYERS
        maps = []
        with self._lower():
            for number, block in enumerate(self._blocks[:-1]):
                if number < first:
                    x = block(x)
                else:
                    mixed, weights = attend(block, block.ln_1(x))
                    x = x + block.ls_1(mixed)
                    x = x + block.ls_2(block.mlp(block.ln_2(x)))
                    maps.append(weights[0].mean(dim=0, dtype=torch.float32))
        last = LastBlock(self._blocks[-1], self._visual.ln_post, self._visual.proj, x[0].float())
        attention = torch.stack([*maps, last.attention.mean(dim=0)]).mean(dim=0)
        return Trunk(x[0].float(), last, attention, grid)

    @torch.inference_mode()
    def images(self, pixels: Tensor, drop_last_block: bool = False) -> Tensor:
        """Return the L2-normalised class embeddings [B, E] of images [B, 3, H, W]."""
        self.images_seen += len(pixels)
        x, _ = self._embed(pixels)
        with self._lower():
            for block in self._blocks[:-1] if drop_last_block else self._blocks:
                x = block(x)
        return F.normalize(self._visual.ln_post(x[:, 0].float()) @ self._visual.proj, dim=-1)

    def _lower(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32, cache_enabled=False)

    def _embed(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        visual = self._visual
        patches = visual.conv1(pixels)
        grid = (patches.shape[2], patches.shape[3])
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
        return visual.ln_pre(x + self._position_embedding(grid)), grid

    def _position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """Resize the learnt grid of position embeddings bilinearly: [1 + n, D]."""
        if grid not in self._positions:
            learnt = self._visual.positional_embedding
            side = math.isqrt(len(learnt) - 1)
            square = learnt[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
            patches = F.interpolate(square, size=grid, mode="bilinear", align_corners=False)
            x = torch.cat([learnt[:1], patches.flatten(2)[0].T])
            if len(self._positions) >= 64:
                self._positions.clear()
            self._positions[grid] = x.half().float() if self._half_positions else x
        return self._positions[grid]


def attend(block: Any, normed: Tensor) -> tuple[Tensor, Tensor]:
    """Run a block's attention on its normalised input [B, L, D]; return its output and its weights [B, heads, L, L].

    open_clip's own blocks never compute the weights, so they are computed here from the block's parameters.
    """
    layer = block.attn
    batch, length, width = normed.shape
    qkv = F.linear(normed, layer.in_proj_weight, layer.in_proj_bias)
    q, k, v = qkv.view(batch, length, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch, length, width)
    return layer.out_proj(mixed), weights


def _check(model: Any) -> None:
    """Refuse models whose parts are not where CaR looks for them."""
    visual = model.visual
    if getattr(model, "logit_bias", None) is not None:
        raise WeightsError(
            "This is a SigLIP: it scores each text by a sigmoid of its own, whereas in CaR texts compete in a softmax; "
            "its thresholds would mean nothing. Choose a CLIP trained with a softmax."
        )
    plain = isinstance(visual, VisionTransformer) and visual.attn_pool is None and visual.pool_type == "tok"
    if not plain or visual.final_ln_after_pool or visual.proj is None:
        raise WeightsError("CaR needs a CLIP with a plain vision transformer and a class token.")
    if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
        raise WeightsError(
            "CaR needs a vision transformer of plain attention blocks; this one has variants of its own."
        )
    if not hasattr(model, "token_embedding"):
        raise WeightsError(
            "CaR needs a CLIP with a text tower of its own kind; this one's is another (CustomTextCLIP)."
        )
