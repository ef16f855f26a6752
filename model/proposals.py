"""Mask proposals: CLIP-ES, that is Grad-CAM on the last block, spread along the attention between patches.

Every function takes the texts that compete apart from the rows that are wanted: both softmaxes of CaR run over texts,
so a row can be left out without changing any other, as long as its text stays.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.boxes import box_masks
from model.encoder import Encoder, Trunk
from model.presets import Preset


class Sensitivity:
    """How one image's similarity to a text answers to the channels of the last block's input: d -> J d.

    The similarity to a text t is linear in t, hence so is its gradient, averaged over the patches. J is therefore known
    wherever it has been asked: directions are kept orthonormal, and only what is new of a direction costs a gradient.
    A later pass of the recurrence, over fewer queries, costs one; a thousand texts cost as many as a text is wide. The
    bookkeeping is in float64 on the CPU: small, and one trip to the device for all texts of a pass.
    """

    def __init__(self, encoder: Encoder, trunk: Trunk) -> None:
        self._last = trunk.last
        self._scale = encoder.scale
        self._known = torch.zeros(0, len(trunk.last.feature), dtype=torch.float64)
        self._answers = torch.zeros(0, trunk.last.input.shape[1], dtype=torch.float64)

    @property
    def activation(self) -> Tensor:
        """The patches of the last block's input, layer norm applied: [n, D]."""
        tokens: Tensor = self._last.input[1:]
        return tokens

    def logits(self, texts: Tensor) -> Tensor:
        """Return the scaled similarities [T] of the image to texts [T, E]."""
        return self._scale * (self._last.feature @ texts.T)

    def __call__(self, directions: Tensor) -> Tensor:
        """Return the patch-averaged gradients [R, D] of the similarities to directions [R, E] (float64)."""
        wanted = directions.cpu()
        learnt = len(self._known)
        for direction in wanted:
            rest = direction - self._known.T @ (self._known @ direction)
            rest = rest - self._known.T @ (self._known @ rest)  # twice is enough for orthogonality in floating point
            if rest.norm() > 1e-9 * direction.norm():
                self._known = torch.cat([self._known, (rest / rest.norm())[None]])
        new = self._known[learnt:].to(self._last.input)
        if len(new):
            self._answers = torch.cat([self._answers, self._last.gradients(new * self._scale).double().cpu()])
        return ((wanted @ self._known.T) @ self._answers).to(directions.device)


def grad_cam(sensitivity: Sensitivity, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Tensor:
    """Return Grad-CAM maps [wanted, n], stretched to 0..1: where the image is more like one text than like the others.

    The gradient is that of the text's probability among texts [T, E] and background [B, E] (CaR, Section 3.2; CLIP-ES).
    """
    rivals = torch.cat([texts, background]).double()
    chances = sensitivity.logits(rivals.float()).double().softmax(dim=0)
    own, chance = rivals[list(wanted)], chances[list(wanted)]
    # p' = p (t - sum p_j t_j), written with the others alone: exact even where one text takes it all
    others = chances.repeat(len(wanted), 1)
    others[range(len(wanted)), list(wanted)] = 0
    directions = chance[:, None] * (others.sum(dim=1, keepdim=True) * own - others @ rivals)
    weights = sensitivity(directions).float()
    return _stretch((weights @ sensitivity.activation.T).relu())


def affinity(attention: Tensor) -> Tensor:
    """Turn the attention among patches [n, n] into a symmetric, nearly doubly stochastic affinity [n, n] (CLIP-ES)."""
    x = attention
    for _ in range(3):
        x = x / x.sum(dim=0, keepdim=True)
        x = x / x.sum(dim=1, keepdim=True)
    return (x + x.T) / 2


def spread(maps: Tensor, boxes: Tensor, between: Tensor, side: str) -> Tensor:
    """Spread maps [R, n] twice along the affinity [n, n], confined by box masks [R, n]; then stretch to 0..1.

    side: `source` confines where values come from, as the released code; `target` where they go, as the paper's Eq. 8.
    """
    if side == "source":
        return _stretch((maps * boxes) @ between.T @ between.T)
    return _stretch((maps @ between.T @ between.T) * boxes)


class Proposer:
    """Draws soft maps for one image. The trunk, the affinity and every gradient are computed once for all passes."""

    def __init__(self, encoder: Encoder, pixels: Tensor, preset: Preset) -> None:
        trunk = encoder.trunk(pixels)
        self.grid = trunk.grid
        self._preset = preset
        self._sensitivity = Sensitivity(encoder, trunk)
        self._scale, self._last = encoder.scale, trunk.last
        self._affinity = affinity(trunk.attention[1:, 1:])

    def presence(self, texts: Tensor, background: Tensor) -> NDArray[np.float64]:
        """Return each text's probability [T] for the image as a whole, among texts and background."""
        logits = self._sensitivity.logits(torch.cat([texts, background]))
        return logits.double().softmax(dim=0)[: len(texts)].cpu().numpy()

    def tags(self, texts: Tensor, background: Tensor) -> NDArray[np.float32]:
        """Return each text's probability [T] for the patch that fits it best, among texts and background."""
        with torch.inference_mode():
            logits = self._scale * self._last.patches @ torch.cat([texts, background]).T
            return logits.softmax(dim=1)[:, : len(texts)].amax(dim=0).cpu().numpy()

    def cams(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return the Grad-CAM maps [wanted, h, w] alone, 0..1."""
        cams = grad_cam(self._sensitivity, texts, background, wanted)
        if self._preset.flat_map == "retry":
            flat = (cams.amax(dim=1) == 0).nonzero().flatten().tolist()
            if flat:
                cams[flat] = grad_cam(self._sensitivity, texts, background[:0], [wanted[row] for row in flat])
        return cams.reshape(-1, *self.grid)

    def propose(self, texts: Tensor, background: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return soft maps [wanted, h, w] at patch resolution, 0..1: of CLIP-ES, or of Grad-CAM alone."""
        cams = self.cams(texts, background, wanted)
        if self._preset.proposals == "grad-cam":
            return cams
        boxes = box_masks(cams, self._preset.lambda_, self._preset.box_edge)
        refined = spread(cams.flatten(1), boxes.flatten(1), self._affinity, self._preset.box_side)
        return refined.reshape(cams.shape)


def _stretch(maps: Tensor) -> Tensor:
    """Stretch each row to 0..1; a constant row becomes 0."""
    maps = maps - maps.amin(dim=-1, keepdim=True)
    return maps / maps.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
