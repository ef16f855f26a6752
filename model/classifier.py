"""The mask classifier: how well a prompted image fits each text (CaR, Section 3.3).

As for the proposals, the rows that are scored are given apart from the texts that compete.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.encoder import Encoder
from model.presets import Preset
from model.prompts import Mask, Prompter
from model.sizes import Image
from model.views import views
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


class Recalls(Protocol):
    """What scores need of `recall.Recall`."""

    def mixed(self, features: Tensor, chances: Tensor, alive: Sequence[int]) -> Tensor:
        """Return probabilities [R, n + M] of n queries, `alive`, and M rivals that the memory has a say in."""


class Classifier:
    """Scores masks of one image. A mask seen before is not looked at again."""

    def __init__(self, encoder: Encoder, image: Image, preset: Preset, recall: "Recalls | None" = None) -> None:
        """recall: what is remembered of the queries' looks has a say in scores."""
        self._encoder = encoder
        self._preset = preset
        self._recall = recall
        self.unaided: dict[int, float] = {}
        self._prompter = Prompter(image, preset.prompts, preset.gray_weights, preset.ellipse, encoder.device)
        self._seen: dict[int | None, Tensor] = {}

    def look(self, masks: Sequence[Mask | None]) -> Tensor:
        """Return the embeddings [R, E] of the image prompted with each mask, or unprompted where the mask is None."""
        keys = fingerprints(masks)
        new = {key: mask for key, mask in zip(keys, masks, strict=True) if key not in self._seen}
        waiting = list(new)
        while waiting:
            batch = waiting[: self._encoder.batch]
            try:
                features = self._features([new[key] for key in batch])
            except torch.cuda.OutOfMemoryError:
                if self._encoder.batch == 1:
                    raise
                self._encoder.batch //= 2  # for good: other images would not fit either
                continue
            self._seen.update(zip(batch, features, strict=True))
            waiting = waiting[len(batch) :]
        return torch.stack([self._seen[key] for key in keys])

    def score(
        self, masks: Sequence[Mask | None], bank: Tensor, wanted: Sequence[int], alive: Sequence[int] = ()
    ) -> NDArray[np.float32]:
        """Return for each mask the score of its own text, `bank[wanted[i]]`, among all texts [N, T, E] of the bank.

        alive: the numbers of the queries that the bank begins with, for what is remembered of them; `unaided` then
        keeps each query's last score without.
        """
        if len(bank) == 1 and self._recall is None:  # a softmax over one text is 1 whatever the image shows
            return np.ones(len(masks), np.float32)
        features, own = self.look(masks), (torch.arange(len(masks)), list(wanted))
        scores = SCORING[self._preset.scoring](features, bank, self._encoder.scale)
        if self._recall is not None:
            self.unaided |= zip((alive[i] for i in wanted), scores[own].tolist(), strict=True)
            scores = self._recall.mixed(features, scores, alive)
        return scores[own].cpu().numpy()

    def shown(self, masks: Sequence[Mask | None]) -> Tensor:
        """Return what the classifier gets to see for each mask: uint8 [R, size, size, 3]."""
        preset, size = self._preset, self._encoder.image_size
        pictures = self._prompter(masks)
        return views(pictures, masks, size, preset.classifier_view, preset.object_margin)

    def _features(self, masks: Sequence[Mask | None]) -> Tensor:
        pixels = self._encoder.scaled(self.shown(masks))
        return self._encoder.images(pixels, self._preset.classifier_last_block == "drop")


def fingerprints(masks: Sequence[Mask | None]) -> list[int | None]:
    """Return a number for each mask of one size that equal masks share, and practically no others; None for None.

    Each pixel has a random 64-bit number; a mask's is their sum, computed where the mask is.
    """
    real = [mask for mask in masks if mask is not None]
    if not real:
        return [None] * len(masks)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, real[0].shape, generator=generator).to(real[0].device)
    sums = iter(torch.stack([torch.where(mask, weights, 0).sum() for mask in real]).tolist())
    return [None if mask is None else next(sums) for mask in masks]
