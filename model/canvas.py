"""From soft maps to masks: drawn along the image's edges, cleaned of specks, brought back to natural size."""

from dataclasses import dataclass
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from model import crf
from model.presets import Preset
from model.regions import Refiner
from model.settings import WITH_REGIONS, WITH_SAM
from model.sizes import enlarge, paint, shrink
from model.upsampling import guided, nearest


@dataclass(frozen=True)
class Drawn:
    """An index map [H, W] (see `draw`) and the seconds it took."""

    index: NDArray[np.uint16]
    seconds: float


@dataclass(frozen=True)
class Drawing:
    """What `draw` needs, so that it can be done later or in another process; `portable` where that is worth it."""

    image: NDArray[np.uint8]
    maps: NDArray[np.float32]
    preset: Preset
    scores: NDArray[np.float32]
    refiner: Refiner

    @property
    def portable(self) -> bool:
        """Whether another process may draw: what takes long and needs no weights."""
        return self.preset.refine not in ("none", *WITH_SAM) and len(self.maps) > 0

    def draw(self) -> Drawn:
        """Draw."""
        started = perf_counter()
        index = draw(self.image, self.maps, self.preset, self.scores, self.refiner)
        return Drawn(index, perf_counter() - started)


def draw(
    image: NDArray[np.uint8],
    maps: NDArray[np.float32],
    preset: Preset,
    scores: NDArray[np.float32] | None = None,
    refiner: Refiner | None = None,
) -> NDArray[np.uint16]:
    """Return the index map [H, W] of an image (0 = background, i = i-th label from 1), given soft maps [K, h, w].

    Masks are drawn at natural size, or at `crf_max_side` and then enlarged. scores: [K], for labels that regions would
    give the same pixel; by default all are equal. refiner: keeps HQ-SAM loaded, where `refine` asks for it.
    """
    natural = (image.shape[0], image.shape[1])
    if not len(maps):
        return np.zeros(natural, np.uint16)
    size = canvas_size(*natural, preset)
    full = enlarge(maps, *size)
    seen = image if size == natural else shrink(image, *size)
    if preset.refine == "none":
        marginals = crf.with_background(full, preset.background_power)
    else:
        marginals = crf.refine(seen, full, preset)
    marginals = without_specks(marginals, preset.min_region)
    if preset.refine in WITH_REGIONS:
        known = np.ones(len(maps), np.float32) if scores is None else scores
        index = (refiner or Refiner()).refine(seen, marginals, known, preset)
        channels = np.arange(len(marginals))[:, None, None]
        marginals = without_specks((index == channels).astype(np.float32), preset.min_region)
    if size == natural or preset.upsampling == "linear":
        return paint(marginals, natural)
    return nearest(marginals, natural) if preset.upsampling == "nearest" else guided(marginals, image)


def canvas_size(height: int, width: int, preset: Preset) -> tuple[int, int]:
    """Return the size at which masks are drawn: the natural one, or at most `crf_max_side` on a side."""
    share = min(1.0, preset.crf_max_side / max(height, width)) if preset.crf_max_side else 1.0
    return max(1, round(height * share)), max(1, round(width * share))


def without_specks(marginals: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Give connected parts of a label smaller than a share of the image to the background: [1 + K, H, W]."""
    least = share * marginals[0].size
    if least <= 1:
        return marginals
    index = marginals.argmax(axis=0)
    cleaned = marginals.copy()
    for channel in np.unique(index[index > 0]):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((index == channel).astype(np.uint8), connectivity=8)
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least)
        specks = np.isin(parts, small[small > 0])
        cleaned[:, specks] = 0
        cleaned[0, specks] = 1
    return cleaned
