"""Photographs as grounds of the second test set: public-domain ones (CC0) that scikit-image brings along."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Photograph:
    """A file of scikit-image's data, and the concepts that it shows or that are easily mistaken for what it shows."""

    file: str
    shows: frozenset[str]


def _photograph(file: str, *shows: str) -> Photograph:
    return Photograph(file, frozenset(shows))


PHOTOGRAPHS = (
    _photograph("coffee.png", "coffee"),
    _photograph("chelsea.png", "cat", "tiger"),
    _photograph("rocket.jpg", "rocket"),
    _photograph("astronaut.png", "rocket", "airplane", "princess", "police officer"),
    _photograph("hubble_deep_field.jpg", "star", "sun"),
    _photograph("brick.png"),
    _photograph("grass.png"),
    _photograph("gravel.png"),
)


@cache
def pixels(photograph: Photograph) -> NDArray[np.uint8]:
    """Return a photograph: uint8 [H, W, 3]."""
    file = files("skimage.data") / photograph.file
    with file.open("rb") as content, Image.open(content) as picture:
        return np.asarray(picture.convert("RGB"))


def ground(rng: np.random.Generator, side: int) -> tuple[Photograph, NDArray[np.float32]]:
    """Choose a photograph and cut a square out of it, 0.6 to 1 of its height: float32 [side, side, 3] from 0 to 1."""
    chosen = PHOTOGRAPHS[int(rng.integers(len(PHOTOGRAPHS)))]
    image = pixels(chosen)
    window = int(min(image.shape[:2]) * rng.uniform(0.6, 1.0))
    top, left = (int(rng.integers(length - window + 1)) for length in image.shape[:2])
    part = image[top : top + window, left : left + window]
    method = cv2.INTER_AREA if window > side else cv2.INTER_CUBIC
    scaled = np.asarray(cv2.resize(part, (side, side), interpolation=method), np.float32)
    return chosen, np.divide(scaled, 255, dtype=np.float32)
