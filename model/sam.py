"""HQ-SAM: an image in, and for points, boxes or rough masks a mask with its quality; or masks of all there is.

Looking at an image costs seconds on a CPU, answering a prompt about it a fraction of one: `Sam.embed` remembers the
last images, so that automatic masks, prompts by the masks of labels and somebody's clicks share one look. (Ke et al.,
"Segment Anything in High Quality", arXiv 2306.01567; Kirillov et al., "Segment Anything", arXiv 2304.02643.)
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import sam_weights
from model.matching import Proposals
from model.settings import Preset

KEPT = 4  # images whose embeddings are remembered: some 7 MB each with vit_tiny, 25 MB with vit_h


@dataclass(frozen=True)
class Embedding:
    """What HQ-SAM's encoder makes of one image.

    features: [1, 256, 64, 64]. interm_features: the early features [1, 64, 64, C] that HQ adds to them. original_size,
    input_size: (height, width) of the image, and as SAM sees it, its longer side 1024.
    """

    features: torch.Tensor
    interm_features: tuple[torch.Tensor, ...]
    original_size: tuple[int, int]
    input_size: tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """SAM's answer to one prompt: mask bool [H, W], the IoU that SAM expects of it, and its logits [256, 256]."""

    mask: NDArray[np.bool_]
    quality: float
    logits: NDArray[np.float32]


class Sam:
    """HQ-SAM with its weights loaded, and the embeddings of the last images. Not for several threads at once."""

    def __init__(self, name: str, weights: str = "published", device: str | torch.device = "cpu", kept: int = KEPT):
        """Load vit_tiny, vit_b, vit_l or vit_h; weights: `published`, `random` or a file. Raises WeightsError.

        kept: images whose embeddings are remembered.
        """
        model = sam_weights.load(name, weights).to(device)
        from segment_anything_hq import SamPredictor

        self.random = weights == "random"
        self.looks = 0  # how often the encoder has run
        self._predictor: Any = SamPredictor(model)
        self._kept = kept
        self._embeddings: OrderedDict[bytes, Embedding] = OrderedDict()
        self._last: tuple[tuple[Any, ...], Proposals] | None = None

    def embed(self, image: NDArray[np.uint8]) -> Embedding:
        """Look at an image, uint8 [H, W, 3] RGB, unless it is one of the last ones (by its content)."""
        key = fingerprint(image)
        known = self._embeddings.pop(key, None)
        embedding = known or self._look(image)
        self._embeddings[key] = embedding
        while len(self._embeddings) > self._kept:
            self._embeddings.popitem(last=False)
        return embedding

    def prompt(
        self,
        embedding: Embedding,
        points: NDArray[np.floating] | None = None,
        labels: NDArray[np.integer] | None = None,
        box: NDArray[np.floating] | None = None,
        logits: NDArray[np.float32] | None = None,
    ) -> Answer:
        """Ask for one mask.

        points: [N, 2], (x, y) in pixels of the image. labels: [N], 1 = inside, 0 = outside; all inside by default. box:
        [4], left, top, right, bottom in pixels. logits: [256, 256], a rough mask, as `low_resolution` makes it or an
        answer to an earlier prompt has it. A point alone may mean a part or the whole: SAM then chooses the likeliest
        of three masks. Raises ValueError without any of them.
        """
        if points is None and box is None and logits is None:
            raise ValueError("SAM needs points, a box or logits to answer.")
        if points is not None and labels is None:
            labels = np.ones(len(points), np.int64)
        self._restore(embedding)
        masks, quality, low = self._predictor.predict(
            point_coords=points,
            point_labels=labels,
            box=box,
            mask_input=None if logits is None else logits[None],
            multimask_output=box is None and logits is None and points is not None and len(points) == 1,
        )
        return Answer(masks[0], float(quality[0]), low[0])

    def automask(self, image: NDArray[np.uint8], preset: Preset) -> Proposals:
        """Ask for a mask at each point of a grid over the image; keep the good ones, each once.

        Settings: points_per_side, sam_quality, sam_stability, sam_nms. Random weights know no quality, and all their
        masks are alike: with them everything is kept, so that what comes after has something to do. What was found in
        the last image is remembered.
        """
        thresholds = (preset.points_per_side, preset.sam_quality, preset.sam_stability, preset.sam_nms)
        asked = (fingerprint(image), *thresholds)
        if self._last is None or self._last[0] != asked:
            self._last = asked, self._everything(image, preset)
        return self._last[1]

    def _everything(self, image: NDArray[np.uint8], preset: Preset) -> Proposals:
        from segment_anything_hq import SamAutomaticMaskGenerator

        generator: Any = SamAutomaticMaskGenerator(
            self._predictor.model,
            points_per_side=preset.points_per_side,
            pred_iou_thresh=0.0 if self.random else preset.sam_quality,
            stability_score_thresh=0.0 if self.random else preset.sam_stability,
            box_nms_thresh=1.0 if self.random else preset.sam_nms,
            output_mode="coco_rle",
        )
        generator.predictor = _Recalling(self)
        found = generator.generate(image)
        size = (image.shape[0], image.shape[1])
        return Proposals.of(
            size, [one["segmentation"] for one in found], [min(1.0, one["predicted_iou"]) for one in found]
        )

    def _look(self, image: NDArray[np.uint8]) -> Embedding:
        self.looks += 1
        predictor = self._predictor
        predictor.set_image(image)
        # the decoder reads the first of the early features only
        early = tuple(predictor.interm_features[:1])
        return Embedding(predictor.features, early, predictor.original_size, predictor.input_size)

    def _restore(self, embedding: Embedding) -> None:
        predictor = self._predictor
        predictor.features, predictor.interm_features = embedding.features, embedding.interm_features
        predictor.original_size, predictor.input_size = embedding.original_size, embedding.input_size
        predictor.is_image_set = True


class _Recalling:
    """The predictor of a mask generator, which looks at no image that is remembered."""

    def __init__(self, sam: Sam) -> None:
        self._sam = sam

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self._sam._restore(self._sam.embed(image))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam._predictor, name)


def fingerprint(image: NDArray[np.uint8]) -> bytes:
    """Return what tells images apart: a hash of the pixels and the shape."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
