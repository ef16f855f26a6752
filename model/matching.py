"""Masks and regions matched by their overlap: IoM and IoU of all pairs, masks replaced by regions, regions that vote.

IoM, the Intersection over the Minimum mask, is what two masks share, relative to the smaller of the two (CaR, Section
3.4): it is 1 for a part and its whole, where IoU is small. Overlaps are counted by pycocotools on run lengths, which
is as exact as counting pixels and does not depend on how many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

AT_ONCE = 255  # masks that pycocotools measures at most at once


@dataclass(frozen=True)
class Proposals:
    """P regions of one image, which may overlap; none is empty.

    size: (height, width). rles: COCO's compressed run lengths, as SAM and pycocotools write them. quality: float32 [P]
    in 0..1, 1 where the source does not know.
    """

    size: tuple[int, int]
    rles: tuple[Any, ...]
    quality: NDArray[np.float32]

    @classmethod
    def of(cls, size: tuple[int, int], rles: Sequence[Any], quality: Sequence[float] | None = None) -> "Proposals":
        """Collect run lengths, compressed or not (`counts` a list), and leave out the empty ones."""
        plain = [coco.frPyObjects(rle, *size) if isinstance(rle["counts"], list) else rle for rle in rles]
        known = np.ones(len(plain), np.float32) if quality is None else np.asarray(quality, np.float32)
        some = np.flatnonzero(_areas(plain))
        return cls(size, tuple(plain[i] for i in some), known[some])

    @classmethod
    def of_masks(cls, masks: NDArray[np.bool_], quality: Sequence[float] | None = None) -> "Proposals":
        """Collect masks [P, H, W]."""
        return cls.of((masks.shape[1], masks.shape[2]), _encoded(masks), quality)

    @classmethod
    def of_label_map(cls, labels: NDArray[np.integer]) -> "Proposals":
        """Make a region of each number in a label map [H, W]."""
        size = (labels.shape[0], labels.shape[1])
        flat = labels.T.ravel()  # run lengths go down the columns
        starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
        runs = np.stack([starts, np.append(starts[1:], flat.size)], axis=1)
        order = np.argsort(flat[starts], kind="stable")
        regions = np.split(runs[order], np.flatnonzero(np.diff(flat[starts][order])) + 1)
        counts = [np.diff(region.ravel(), prepend=0, append=flat.size).tolist() for region in regions]
        return cls.of(size, [{"size": list(size), "counts": count} for count in counts])

    def __len__(self) -> int:
        return len(self.rles)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each region: [P]."""
        return _areas(self.rles)

    def together(self, other: "Proposals") -> "Proposals":
        """Return the regions of both, of images of one size."""
        return Proposals(self.size, self.rles + other.rles, np.concatenate([self.quality, other.quality]))

    def mask(self, row: int) -> NDArray[np.bool_]:
        """Return one region as a mask [H, W]."""
        return np.asarray(coco.decode(self.rles[row]), np.bool_)

    def union(self, rows: Sequence[int] | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Return what some regions cover together: a mask [H, W]."""
        if not len(rows):
            return np.zeros(self.size, bool)
        return np.asarray(coco.decode(coco.merge([self.rles[row] for row in rows])), np.bool_)


@dataclass(frozen=True)
class Overlaps:
    """How K masks and P regions overlap: common pixels int64 [K, P], and the pixels of each, [K] and [P]."""

    common: NDArray[np.int64]
    masks: NDArray[np.int64]
    regions: NDArray[np.int64]

    @property
    def iom(self) -> NDArray[np.float64]:
        """Intersection over the smaller of both, [K, P]; 0 where one is empty (CaR, Section 3.4)."""
        return _share(self.common, np.minimum(self.masks[:, None], self.regions))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union, [K, P]; 0 where both are empty."""
        return _share(self.common, self.masks[:, None] + self.regions - self.common)

    def guarded_iom(self, least: float) -> NDArray[np.float64]:
        """Return IoM [K, P] in which a region smaller than its mask needs to cover `least` of it (released code)."""
        of_masks, of_regions = _share(self.common, self.masks[:, None]), _share(self.common, self.regions)
        return np.asarray(np.maximum(of_masks, np.where(of_masks < least, 0, of_regions)))


def overlaps(masks: NDArray[np.bool_], proposals: Proposals) -> Overlaps:
    """Count the common pixels of all pairs of masks [K, H, W] and regions."""
    encoded = _encoded(masks)
    regions = proposals.areas
    if not encoded or not len(proposals):
        return Overlaps(np.zeros((len(encoded), len(proposals)), np.int64), _areas(encoded), regions)
    # pycocotools divides the overlap with a "crowd" by the area of what is compared to it
    shares = coco.iou(list(proposals.rles), encoded, [1] * len(encoded))
    common = np.rint(shares * regions[:, None]).astype(np.int64).T
    return Overlaps(common, _areas(encoded), regions)


def matched(
    masks: NDArray[np.bool_],
    proposals: Proposals,
    phi_iom: float = 0.7,
    phi_iou: float = 0.7,
    guard: float = 0.0,
    best: bool = False,
) -> NDArray[np.bool_]:
    """Replace masks [K, H, W] by the regions that fit them (CaR, Section 3.4).

    All regions whose IoM with a mask exceeds phi_iom are united; the union takes the mask's place if its IoU with it
    exceeds phi_iou. guard: see `Overlaps.guarded_iom`. best: where no region fits, the best one is taken instead, as in
    the released code. Replaced masks may overlap: see `resolved`.
    """
    found = overlaps(masks, proposals)
    fits = found.guarded_iom(guard)
    refined = masks.copy()
    for mask, fit in zip(refined, fits, strict=True):
        rows = np.flatnonzero(fit > phi_iom)
        if best and not rows.size and fit.any():
            rows = fit.argmax(keepdims=True)
        union = proposals.union(rows)
        if iou(union, mask) > phi_iou:
            mask[:] = union
    return refined


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the intersection over union of two masks [H, W]; 0 where both are empty."""
    return float(np.count_nonzero(one & other) / max(1, np.count_nonzero(one | other)))


def resolved(masks: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Return the index map [H, W] of masks [K, H, W] (0 = background, i = i-th mask from 1).

    Where masks overlap, the one with the higher score has the pixel; of equal scores, the earlier one.
    """
    index = np.zeros(masks.shape[1:], np.uint16)
    for row in np.argsort(-scores, kind="stable")[::-1]:
        index[masks[row]] = row + 1
    return index


def voted(index: NDArray[np.uint16], proposals: Proposals, least: float = 0.5) -> NDArray[np.uint16]:
    """Give each region the number that most of its pixels have in an index map [H, W], background (0) included.

    A region in which no number exceeds the share `least` has no say. Where regions overlap, the larger one has the
    pixel; of equally large ones, the later. What no region covers stays as it is.
    """
    numbers = np.unique(index)
    found = overlaps(index == numbers[:, None, None], proposals)
    winners = found.common.argmax(axis=0)
    clear = found.common.max(axis=0) > least * found.regions
    after = index.copy()
    for row in np.argsort(found.regions, kind="stable"):
        if clear[row]:
            after[proposals.mask(row)] = numbers[winners[row]]
    return after


def _encoded(masks: NDArray[np.bool_]) -> list[Any]:
    rles: list[Any] = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return rles


def _areas(rles: Sequence[Any]) -> NDArray[np.int64]:
    parts = [coco.area(list(rles[start : start + AT_ONCE])) for start in range(0, len(rles), AT_ONCE)]
    return np.asarray(np.concatenate([np.zeros(0, np.int64), *parts]), np.int64)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(part / np.maximum(whole, 1))
