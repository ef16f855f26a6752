"""The drawings of the demo world: cut out of an atlas, coloured, logos put on plates.

An atlas is a picture with transparency, all drawings in cells of CELL pixels, and a list beside it that says what lies
where. Sprites are float32 [h, w, 4], red, green, blue and alpha from 0 to 1, the colours multiplied by alpha.
"""

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.demo.world import COLORS, HERE, concepts

CELL = 136
PLATE = 136  # side of a logo's plate
Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Sprite:
    """One drawing of a concept. color: one of COLORS it was turned to, or None."""

    concept: int
    pixels: Pixels
    color: str | None = None


@dataclass(frozen=True)
class Atlas:
    """All drawings of one or more styles: by concept its sprites; a concept without any cannot be drawn."""

    drawings: tuple[tuple[Sprite, ...], ...]

    @property
    def drawable(self) -> tuple[int, ...]:
        """Return the concepts that have a drawing."""
        return tuple(number for number, sprites in enumerate(self.drawings) if sprites)

    @cached_property
    def colored(self) -> "Atlas":
        """Return the atlas without the plain drawings of what comes in colours."""
        return Atlas(tuple(tuple(one for one in sprites if one.color) or sprites for sprites in self.drawings))

    def pick(self, concept: int, rng: np.random.Generator, tinted: float = 0.5) -> Sprite:
        """Draw one sprite of a concept; with probability `tinted` in one of the colours, where it comes in colours."""
        plain = [sprite for sprite in self.drawings[concept] if sprite.color is None]
        colored = [sprite for sprite in self.drawings[concept] if sprite.color]
        chosen = colored if colored and (not plain or rng.random() < tinted) else plain
        return chosen[int(rng.integers(len(chosen)))]


@cache
def atlas(name: str = "atlas") -> Atlas:
    """Read `NAME.webp` and `NAME.tsv` of this folder: `atlas` is drawn in training, `atlas-test` in tests only."""
    return read(HERE / f"{name}.webp", HERE / f"{name}.tsv")


def read(picture: Path, listing: Path, styles: Sequence[str] = ()) -> Atlas:
    """Read an atlas and prepare its sprites: all plates, and all colours, or only some styles in their own colours."""
    with Image.open(picture) as image:
        sheet = np.asarray(image.convert("RGBA"))
    numbers = {concept.name: number for number, concept in enumerate(concepts())}
    drawings: list[list[Sprite]] = [[] for _ in numbers]
    with listing.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if styles and row["style"] not in styles:
                continue
            number = numbers[row["concept"]]
            x, y, width, height = (int(row[side]) for side in ("x", "y", "width", "height"))
            pixels = sheet[y : y + height, x : x + width]
            drawings[number] += _made(number, pixels, row["style"], row["hex"])
    return Atlas(tuple(tuple(one for one in sprites if not (styles and one.color)) for sprites in drawings))


def _made(number: int, pixels: NDArray[np.uint8], style: str, hex_: str) -> list[Sprite]:
    if hex_:
        return [Sprite(number, plate) for plate in plates(pixels, hex_, round_=style == "badge")]
    made = [Sprite(number, premultiplied(pixels))]
    if concepts()[number].tints:
        made += [Sprite(number, premultiplied(turned(pixels, hue)), color) for color, hue in COLORS.items()]
    return made


def premultiplied(pixels: NDArray[np.uint8]) -> Pixels:
    """Return straight uint8 RGBA as a sprite."""
    sprite: Pixels = np.divide(pixels, 255, dtype=np.float32)
    sprite[..., :3] *= sprite[..., 3:]
    return sprite


def turned(pixels: NDArray[np.uint8], hue: float) -> NDArray[np.uint8]:
    """Turn what has the most frequent hue of a drawing, uint8 RGBA, to another hue in degrees; the rest stays."""
    hls = cv2.cvtColor(np.ascontiguousarray(pixels[..., :3]), cv2.COLOR_RGB2HLS_FULL).astype(np.int32)
    colorful = (hls[..., 2] > 70) & (pixels[..., 3] > 128) & (hls[..., 1] > 25) & (hls[..., 1] < 235)
    if not colorful.any():
        return pixels
    counts = np.bincount(hls[..., 0][colorful], minlength=256).astype(np.float64)
    smooth = sum(np.roll(counts, shift) for shift in range(-6, 7))
    main = int(np.argmax(smooth))
    off = (hls[..., 0] - main + 128) % 256 - 128
    chosen = (hls[..., 2] > 40) & (np.abs(off) < 32)
    hls[..., 0] = np.where(chosen, (round(hue / 360 * 256) + off // 3) % 256, hls[..., 0])
    if hue == COLORS["yellow"]:  # a dark yellow is an olive
        hls[..., 1] = np.where(chosen, np.clip(hls[..., 1] + 25, 0, 235), hls[..., 1])
    hls[..., 2] = np.where(chosen, np.maximum(hls[..., 2], 170), hls[..., 2])
    rgb = cv2.cvtColor(hls.astype(np.uint8), cv2.COLOR_HLS2RGB_FULL)
    return np.concatenate([rgb, pixels[..., 3:]], axis=2)


def plates(glyph: NDArray[np.uint8], hex_: str, round_: bool = False) -> list[Pixels]:
    """Return a logo twice: its colour on white, and white on its colour, each on a plate with round corners (or round).

    glyph: uint8 RGBA, of which only alpha counts. hex_: six digits.
    """
    brand = np.array([int(hex_[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255
    white = np.ones(3, np.float32)
    inset = PLATE // 2 if round_ else round(PLATE * 0.17)
    box = np.zeros((4 * PLATE, 4 * PLATE), np.uint8)
    cv2.rectangle(box, (4 * inset, 0), (4 * (PLATE - inset) - 1, 4 * PLATE - 1), 255, -1)
    cv2.rectangle(box, (0, 4 * inset), (4 * PLATE - 1, 4 * (PLATE - inset) - 1), 255, -1)
    for x in (inset, PLATE - inset):
        for y in (inset, PLATE - inset):
            cv2.circle(box, (4 * x, 4 * y), 4 * inset - 1, 255, -1)
    shape = np.asarray(cv2.resize(box, (PLATE, PLATE), interpolation=cv2.INTER_AREA), np.float32) / 255
    side = round(PLATE * (0.62 if round_ else 0.72))
    scale = side / max(glyph.shape[:2])
    size = (max(1, round(glyph.shape[1] * scale)), max(1, round(glyph.shape[0] * scale)))
    small = cv2.resize(np.ascontiguousarray(glyph[..., 3]), size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    ink = np.zeros((PLATE, PLATE), np.float32)
    top, left = (PLATE - size[1]) // 2, (PLATE - size[0]) // 2
    ink[top : top + size[1], left : left + size[0]] = small
    made = []
    for front, back in ((brand, white), (white, brand)):
        color = back + (front - back) * ink[..., None]
        made.append(np.concatenate([color * shape[..., None], shape[..., None]], axis=2).astype(np.float32))
    return made


def fingerprint(name: str = "atlas") -> str:
    """Return the checksum of an atlas' files: what was drawn with it can be compared."""
    data = b"".join((HERE / f"{name}{suffix}").read_bytes() for suffix in (".webp", ".tsv"))
    return f"{zlib.crc32(data):08x}"
