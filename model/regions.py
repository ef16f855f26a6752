"""Masks along regions: of HQ-SAM, or of a segmentation by colour that needs no weights (CaR, Section 3.4).

`Refiner.refine` does what the setting `refine` asks for after the CRF. The seam to any source of regions is
`Refiner.proposals`: an image in, `Proposals` out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from model.matching import Proposals, iou, matched, resolved, voted
from model.presets import Preset
from model.settings import WITH_SAM

if TYPE_CHECKING:
    from model.sam import Sam

POINTS = 3  # parts of a mask that SAM is shown a point of, the largest ones
PART = 0.1  # share of the mask that a part needs for that
SURE = 8.0  # logit of what the CRF is sure of
LOGITS = 256  # side of SAM's rough masks


class Refiner:
    """Turns what the CRF drew into masks along regions; HQ-SAM is loaded once, when a preset first asks for it.

    Without HQ-SAM it is light, and may go to another process.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._sam: Sam | None = None
        self._loaded = ("", "")

    def prepare(self, preset: Preset) -> "Refiner":
        """Load HQ-SAM if the preset asks for it. Raises WeightsError."""
        if preset.refine in WITH_SAM:
            self.sam(preset)
        return self

    def sam(self, preset: Preset) -> "Sam":
        """Return HQ-SAM with the embeddings of the last images, for the preset's `sam_model` and `sam_weights`.

        Raises WeightsError.
        """
        wanted = (preset.sam_model, preset.sam_weights)
        if self._sam is None or self._loaded != wanted:
            from model.sam import Sam  # torch is needed for this only

            self._sam, self._loaded = Sam(*wanted, device=self.device), wanted
        return self._sam

    def proposals(self, image: NDArray[np.uint8], preset: Preset) -> Proposals:
        """Return regions of an image [H, W, 3]: of HQ-SAM where `refine` says so, else by colour."""
        if preset.refine in WITH_SAM:
            return self.sam(preset).automask(image, preset)
        return by_colour(image, preset.region_scale, preset.region_levels)

    def refine(
        self,
        image: NDArray[np.uint8],
        marginals: NDArray[np.float32],
        scores: NDArray[np.floating],
        preset: Preset,
    ) -> NDArray[np.uint16]:
        """Return the index map [H, W] (0 = background, i = i-th label from 1) that `refine` makes of marginals.

        image: [H, W, 3]. marginals: [1 + K, H, W], the background's first. scores: [K]; where regions give a pixel to
        several labels, the one with the higher score has it.
        """
        index = np.asarray(marginals.argmax(axis=0), np.uint16)
        if not index.any():
            return index
        if preset.refine.endswith("-vote"):
            return voted(index, self.proposals(image, preset), preset.vote_share)
        masks = index == np.arange(1, len(marginals))[:, None, None]
        if preset.refine == "sam-prompt":
            return resolved(self._prompted(image, marginals, masks, preset), scores)
        proposals = self.proposals(image, preset)
        refined = matched(masks, proposals, preset.phi_iom, preset.phi_iou, preset.iom_guard, preset.iom_best == "yes")
        return resolved(refined, scores)

    def _prompted(
        self, image: NDArray[np.uint8], marginals: NDArray[np.float32], masks: NDArray[np.bool_], preset: Preset
    ) -> NDArray[np.bool_]:
        """Ask SAM about each mask [K, H, W]; its answer counts if it is good, and much like the mask."""
        sam = self.sam(preset)
        least = 0.0 if sam.random else preset.sam_quality
        embedding = sam.embed(image)
        refined = masks.copy()
        for mask, marginal in zip(refined, marginals[1:], strict=True):
            if mask.any():
                hint = prompt_for(mask, marginal)
                answer = sam.prompt(embedding, hint.points, box=hint.box, logits=hint.logits)
                if answer.quality > least and iou(answer.mask, mask) > preset.phi_iou:
                    mask[:] = answer.mask
        return refined


@dataclass(frozen=True)
class Prompt:
    """What SAM is told of one mask.

    points: [N, 2], (x, y), inside. box: [4], left, top, right, bottom. logits: [256, 256].
    """

    points: NDArray[np.float64]
    box: NDArray[np.float64]
    logits: NDArray[np.float32]


def prompt_for(mask: NDArray[np.bool_], marginal: NDArray[np.float32]) -> Prompt:
    """Describe a mask [H, W], not empty, and its probability [H, W] to SAM.

    The points are the innermost pixels of the mask's largest parts; box and logits are those of the whole.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    return Prompt(_inner_points(mask), box, low_resolution(marginal))


def _inner_points(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = np.argsort(-areas, kind="stable")[:POINTS]
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    points = []
    for part in largest[areas[largest] >= PART * areas.sum()] + 1 if len(largest) > 1 else [1]:
        y, x = np.unravel_index(np.where(parts == part, depth, -1).argmax(), mask.shape)
        points.append((x, y))
    return np.array(points, np.float64)


def low_resolution(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a probability [H, W] as SAM takes a rough mask: logits [256, 256].

    The longer side fills the square; what is beyond the shorter one, below or to the right, is outside.
    """
    height, width = probability.shape
    scale = LOGITS / max(height, width)
    small = cv2.resize(
        probability, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    ).clip(1e-6, 1 - 1e-6)
    logits = np.full((LOGITS, LOGITS), -SURE, np.float32)
    logits[: small.shape[0], : small.shape[1]] = np.log(small / (1 - small)).clip(-SURE, SURE)
    return logits


def by_colour(image: NDArray[np.uint8], scale: float, levels: int) -> Proposals:
    """Return regions of even colour, finer and coarser ones, of an image [H, W, 3]: no weights are needed.

    See `colour_maps`.
    """
    found = [Proposals.of_label_map(labels) for labels in colour_maps(image, scale, levels)]
    together = found[0]
    for more in found[1:]:
        together = together.together(more)
    return together


def colour_maps(image: NDArray[np.uint8], scale: float, levels: int) -> list[NDArray[np.int64]]:
    """Return what number each pixel's region of even colour has in an image [H, W, 3], level by level: each [H, W].

    (Felzenszwalb and Huttenlocher 2004, by scikit-image.) scale: of the finest; each further level is four times as
    coarse. Regions of one level do not overlap and cover the image.
    """
    from skimage.segmentation import felzenszwalb  # takes a second to import

    return [felzenszwalb(image, scale=scale * 4**level, sigma=0.8, min_size=20) for level in range(levels)]
