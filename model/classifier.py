"""The mask classifier: how well a prompted image fits each text (CaR, Section 3.3).

As for the proposals, the rows that are scored are given apart from the texts that compete.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.encoder import Encoder
from model.presets import Preset
from model.prompts import Image, Mask, Prompter
from model.sizes import around, center_crop, letterbox, squash
from model.vocabulary import Query, fill


def text_bank(encoder: Encoder, queries: Sequence[Query], templates: Sequence[str]) -> Tensor:
    """Return the texts' embeddings [N, T, E], normalised; several prompts of one query are averaged per template."""
    rows = []
    for query in queries:
        texts = [fill(template, prompt) for template in templates for prompt in query.prompts]
        embeddings = encoder.texts(texts).view(len(templates), len(query.prompts), -1)
        rows.append(torch.nn.functional.normalize(embeddings.mean(dim=1), dim=-1))
    return torch.stack(rows)


def prompt_bank(encoder: Encoder, queries: Sequence[Query], templates: Sequence[str]) -> Tensor:
    """Return each prompt's own embeddings [N, T, P, E]; a query with fewer than P prompts has its first one again."""
    most = max(len(query.prompts) for query in queries)
    texts = [
        fill(template, prompt)
        for query in queries
        for template in templates
        for prompt in (*query.prompts, *query.prompts[:1] * (most - len(query.prompts)))
    ]
    return encoder.texts(texts).view(len(queries), len(templates), most, -1)


def votes(features: Tensor, bank: Tensor, scale: float) -> Tensor:
    """Return scores [R, N] of images [R, E] among texts [N, T, E] as released: a softmax of sums of softmaxes.

    Of prompts apart, [N, T, P, E], the best one counts for each template.
    """
    return _best(scale * torch.einsum("re,n...e->rn...", features, bank), 3).softmax(dim=1).sum(dim=2).softmax(dim=1)


def mean(features: Tensor, bank: Tensor, scale: float) -> Tensor:
    """Return scores [R, N]: one softmax over texts whose templates are averaged (the paper's Eq. 5, with templates).

    Of prompts apart, [N, T, P, E], the best one counts.
    """
    averaged = torch.nn.functional.normalize(bank.mean(dim=1), dim=-1)
    return _best(scale * torch.einsum("re,n...e->rn...", features, averaged), 2).softmax(dim=1)


def _best(logits: Tensor, dimensions: int) -> Tensor:
    """Reduce the last dimension, that of prompts, to its maximum, if there is one beyond the others."""
    return logits.amax(dim=-1) if logits.ndim > dimensions else logits


SCORING = {"votes": votes, "mean": mean}
VIEWS = {"crop": center_crop, "letterbox": letterbox, "squash": squash, "object": letterbox}


class Classifier:
    """Scores masks of one image. A mask seen before is not looked at again."""

    def __init__(self, encoder: Encoder, image: Image, preset: Preset) -> None:
        self._encoder = encoder
        self._preset = preset
        self._image = image
        self._prompter = Prompter(image, preset.prompts, preset.gray_weights, preset.ellipse)
        self._seen: dict[bytes, Tensor] = {}

    def look(self, masks: Sequence[Mask | None]) -> Tensor:
        """Return the embeddings [R, E] of the image prompted with each mask, or unprompted where the mask is None."""
        keys = [hashlib.blake2b(b"" if mask is None else np.packbits(mask).tobytes()).digest() for mask in masks]
        new = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in self._seen}
        waiting = list(new)
        while waiting:
            batch = waiting[: self._encoder.batch]
            views = self._encoder.pixels([self._view(new[key]) for key in batch])
            try:
                features = self._encoder.images(views, self._preset.classifier_last_block == "drop")
            except torch.cuda.OutOfMemoryError:
                if self._encoder.batch == 1:
                    raise
                self._encoder.batch //= 2  # for good: other images would not fit either
                continue
            self._seen.update(zip(batch, features, strict=True))
            waiting = waiting[len(batch) :]
        return torch.stack([self._seen[key] for key in keys])

    def score(self, masks: Sequence[Mask | None], bank: Tensor, wanted: Sequence[int]) -> NDArray[np.float32]:
        """Return for each mask the score of its own text, `bank[wanted[i]]`, among all texts [N, T, E] of the bank."""
        if len(bank) == 1:  # a softmax over one text is 1 whatever the image shows
            return np.ones(len(masks), np.float32)
        scores = SCORING[self._preset.scoring](self.look(masks), bank, self._encoder.scale)
        return scores[torch.arange(len(masks)), list(wanted)].cpu().numpy()

    def _view(self, mask: Mask | None) -> Image:
        picture = self._image if mask is None else self._prompter(mask)
        if mask is not None and self._preset.classifier_view == "object":
            picture = around(picture, mask, self._preset.object_margin)
        return VIEWS[self._preset.classifier_view](picture, self._encoder.image_size)
