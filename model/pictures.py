"""Pictures in and out: images from files, masks to index maps and overlays."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from model.palette import colors, index_picture
from model.segmentation import Segmentation


class PictureError(ValueError):
    """A file that cannot be read as an image; the message says which and why."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a file as uint8 [H, W, 3] RGB: turned as its EXIF says, 16-bit scaled down, transparency on white."""
    try:
        with Pillow.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):
                high = np.asarray(picture).astype(np.float64)
                picture = Pillow.fromarray((high / 257).clip(0, 255).astype(np.uint8))
            if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
                picture = Pillow.alpha_composite(Pillow.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            return np.array(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, Pillow.DecompressionBombError, SyntaxError) as error:
        raise PictureError(f"{path} cannot be read as an image: {error}") from error


def index_map(result: Segmentation, labels: Sequence[str]) -> NDArray[np.uint16]:
    """Return [H, W]: 0 for the background, i for the i-th label (from 1). Of masks that overlap the surer one wins."""
    index = np.zeros(result.masks.shape[1:], np.uint16)
    for row in np.argsort(result.scores, kind="stable"):
        index[result.masks[row]] = labels.index(result.labels[row]) + 1
    return index


def overlay(image: NDArray[np.uint8], index: NDArray[np.uint16], count: int) -> NDArray[np.uint8]:
    """Tint an image [H, W, 3] by an index map [H, W] of `count` labels, and outline what is tinted."""
    table = colors(count + 1)
    tinted = np.where((index > 0)[..., None], image // 2 + table[index] // 2, image)
    width = max(1, round(max(index.shape) / 400))
    for i in np.unique(index[index > 0]):
        contours, _ = cv2.findContours((index == i).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tinted, contours, -1, table[i].tolist(), width)
    return np.asarray(tinted, np.uint8)


def report(result: Segmentation) -> dict[str, Any]:
    """Return what `STEM.json` holds: labels with score and area in pixels, the passes, seconds per stage.

    Where a memory has had a say, also every label's score with and without it.
    """
    aided = bool(result.unaided) and result.unaided != result.raw_scores
    areas = result.masks.sum(axis=(1, 2)).tolist()
    found = zip(result.labels, result.scores.tolist(), areas, strict=True)
    return {
        "labels": [{"label": label, "score": score, "area": area} for label, score, area in found],
        "steps": [asdict(step) for step in result.steps],
        "seconds": dict(result.seconds),
        **({"scores": dict(result.raw_scores), "unaided": dict(result.unaided)} if aided else {}),
    }


def write(result: Segmentation, image: NDArray[np.uint8], labels: Sequence[str], folder: Path, stem: str) -> None:
    """Write STEM.png (the index map), STEM.overlay.png and STEM.json into a folder that exists."""
    index = index_map(result, labels)
    index_picture(index, len(labels)).save(folder / f"{stem}.png")
    Pillow.fromarray(overlay(image, index, len(labels))).save(folder / f"{stem}.overlay.png")
    (folder / f"{stem}.json").write_text(
        json.dumps(report(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
