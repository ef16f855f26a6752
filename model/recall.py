"""What is remembered, asked about one image's labels: it votes on scores, and draws labels that CLIP has no word for.

A region is compared with all that is remembered, by exact cosines. Each label is as near as the mean of its three
nearest regions; a softmax over the labels is the memory's verdict, and counts as much as the nearest label is near: not
at all below `reach`, so that what resembles nothing remembered keeps its scores to the bit (kNN-CLIP and Tip-Adapter
mix alike). That helps a label only once a map of it is drawn. Where CLIP does not take a label's text for what was
corrected (a brand it has never read of), the mean of its regions takes the text's place for the maps: both are points
of one space.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from model.classifier import SCORING, Classifier
from model.encoder import Encoder
from model.memory import MAKE, NOTHING, Memory, MemoryFileError, Origin, look_of, read
from model.presets import Preset
from model.sizes import Image
from model.vocabulary import Query

NEAREST = 3
LEAST = 2
"""Regions of a label that are enough to draw it by their looks."""


class Recall:
    """A memory, arranged for N labels. Regions of other labels are left out: a label may have been renamed."""

    def __init__(self, memory: Memory, labels: Sequence[str], scale: float, device: torch.device | str) -> None:
        """scale: what cosines are multiplied with in softmaxes, as CLIP has learnt it."""
        self._strength = memory.strength
        self._scale = scale
        self._columns = len(labels)
        self._rows: list[tuple[int, list[int]]] = [
            (column, rows)
            for column, label in enumerate((*labels, NOTHING))
            if (rows := [row for row, known in enumerate(memory.labels) if known == label])
        ]
        self._scored = torch.from_numpy(memory.scored).to(device)
        self._drawn = torch.from_numpy(memory.drawn).to(device)

    def __bool__(self) -> bool:
        return any(column < self._columns for column, _ in self._rows)

    def mixed(self, features: Tensor, chances: Tensor, alive: Sequence[int]) -> Tensor:
        """Return probabilities [R, n + M] that the memory has a say in.

        features: [R, E]. chances: CLIP's own [R, n + M], of n labels, `alive` by their numbers, and M rivals.
        """
        near = self._near(features)
        nearest = near.amax(dim=1)
        strength = self._strength
        share = strength.share * ((nearest - strength.reach) / (strength.near - strength.reach)).clamp(0, 1)
        verdict = torch.zeros_like(chances)
        verdict[:, : len(alive)] = (self._scale * near).softmax(dim=1)[:, list(alive)]
        mixed = (1 - share[:, None]) * chances + share[:, None] * verdict
        return torch.where(share[:, None] > 0, mixed, chances)

    def looks(self, bank: Tensor, rivals: Tensor, preset: Preset) -> dict[int, Tensor]:
        """Return the looks [E'] of labels, by number, whose own texts CLIP does not find in their regions.

        bank: [N, T, E] or [N, T, P, E], the labels' texts, and rivals: [M, ...], all of the classifier. A text is not
        found if in the median of the regions its score is below theta: the label would be dropped.
        """
        found = {}
        for column, rows in self._rows:
            if column == self._columns or len(rows) < LEAST:
                continue
            scores = SCORING[preset.scoring](self._scored[rows], torch.cat([bank, rivals]), self._scale)
            if float(scores[:, column].median()) < preset.theta:
                found[column] = normalize(self._drawn[rows].mean(dim=0), dim=0)
        return found

    def _near(self, features: Tensor) -> Tensor:
        """Return how near each label is, and nothing at all: [R, N + 1], -1 where nothing is remembered."""
        cosines = features @ self._scored.T
        near = torch.full((len(features), self._columns + 1), -1.0, device=features.device)
        for column, rows in self._rows:
            near[:, column] = cosines[:, rows].topk(min(NEAREST, len(rows)), dim=1).values.mean(dim=1)
        return near


@dataclass(frozen=True)
class Towers:
    """The CLIPs of a segmenter, one of them or two, as far as memories are made and used with them."""

    proposals: Encoder
    classifier: Encoder

    def origin(self, preset: Preset) -> Origin:
        """Return what a memory made with a preset's visual prompts fits."""
        return Origin(self.proposals.fingerprint, self.classifier.fingerprint, look_of(preset))

    def read(self, preset: Preset) -> Memory | None:
        """Read the memory that a preset names, None if it names none. Raises MemoryFileError."""
        if not preset.memory:
            return None
        memory, here = read(preset.memory), self.origin(preset)
        for what, theirs, ours in (
            ("with the weights", memory.origin.classifier, here.classifier),
            ("with the weights", memory.origin.proposals, here.proposals),
            ("with the visual prompts", memory.origin.look, here.look),
        ):
            if theirs != ours:
                raise MemoryFileError(
                    f"The memory {preset.memory} was made {what} {theirs}, here are {ours}: what one CLIP sees, "
                    f"no other can compare. Use the same preset and weights, or leave the memory out. {MAKE}"
                )
        return memory

    def recall(self, memory: Memory | None, queries: Sequence[Query], preset: Preset) -> Recall | None:
        """Return what is remembered of labels, None if nothing is, or with other prompts (stuff may have its own)."""
        if memory is None or look_of(preset) != memory.origin.look:
            return None
        labels = [query.label for query in queries]
        return Recall(memory, labels, self.classifier.scale, self.classifier.device) or None

    def looks(
        self, seen: Image, masks: Sequence[NDArray[np.bool_]], preset: Preset
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return how masks [K, H, W] of an image, `seen` at the size for CLIP, look: [K, E] and [K, E'] (`Memory`)."""
        size = seen.shape[1], seen.shape[0]
        small = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0 for mask in masks]
        scored = _looked(self.classifier, seen, small, preset)
        same = self.classifier is self.proposals
        return scored, scored if same else _looked(self.proposals, seen, small, preset)


def _looked(encoder: Encoder, seen: Image, masks: Sequence[NDArray[np.bool_]], preset: Preset) -> NDArray[np.float32]:
    if not masks:
        return np.zeros((0, encoder.width), np.float32)
    shown = [torch.from_numpy(mask).to(encoder.device) for mask in masks]
    return Classifier(encoder, seen, preset).look(shown).float().cpu().numpy()
