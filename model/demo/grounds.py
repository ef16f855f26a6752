"""Grounds of the demo world: twelve textures that have names, and nameless ones that teach not to rely on them.

A texture is float32 [H, W, 3] from 0 to 1. Its details have the same size relative to `unit`, the pixels that stand for
one pixel of a scene of 128: a scene of 384 has unit 3.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from model.demo.world import grounds

Texture = NDArray[np.float32]
Field = NDArray[np.float32]
FAR = ("sky", "night", "sunset", "forest", "brick")  # what stands upright behind
NEAR = ("grass", "sand", "water", "snow", "road", "rock", "wood")  # what lies below


class Canvas:
    """Draws textures of one size with one random generator."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, unit: float) -> None:
        self.rng = rng
        self.height, self.width, self.unit = height, width, unit

    def streaks(self, across: float, down: float) -> Field:
        """Return noise [H, W] of deviation 1 with spots that wide and that high, in units."""
        rows = max(2, round(self.height / (down * self.unit)) + 1)
        columns = max(2, round(self.width / (across * self.unit)) + 1)
        coarse = self.rng.standard_normal((rows, columns)).astype(np.float32)
        method = cv2.INTER_CUBIC if min(across, down) > 4 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(coarse, (self.width, self.height), interpolation=method), np.float32)

    def noise(self, *octaves: tuple[float, float]) -> Field:
        """Return the sum of noises: pairs of spot size in units and strength."""
        return np.asarray(sum(strength * self.streaks(size, size) for size, strength in octaves), np.float32)

    def blend(self, low: Sequence[float], high: Sequence[float], share: Field) -> Texture:
        """Blend two colours, each a little off, by a share [H, W]."""
        first, second = (np.asarray(color, np.float32) + self.rng.normal(0, 0.04, 3).astype(np.float32)
                         for color in (low, high))  # fmt: skip
        return np.asarray(first + (second - first) * np.clip(share, 0, 1)[..., None], np.float32)

    def down(self) -> Field:
        """Return 0 at the top to 1 at the bottom: [H, W]."""
        return np.repeat(np.linspace(0, 1, self.height, dtype=np.float32)[:, None], self.width, axis=1)

    def indices(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the row and the column of each pixel."""
        y, x = np.mgrid[0 : self.height, 0 : self.width]
        return y, x


def texture(name: str, canvas: Canvas) -> Texture:
    """Draw the ground `name`, or a nameless one for ""."""
    return np.asarray(TEXTURES[name](canvas) if name else nameless(canvas), np.float32)


def backdrop(canvas: Canvas, plain: float = 0.08, single: float = 0.4) -> tuple[Texture, NDArray[np.uint8], float]:
    """Draw what is behind the objects: one ground, or one behind another.

    plain: how often a nameless one; single: how often one named ground alone. Returns the texture, the number of each
    pixel's ground from 1 (0: nameless) and the horizon's share of the height (0: there is none).
    """
    rng, names = canvas.rng, list(grounds())
    chance = rng.random()
    if chance < plain + single:
        name = "" if chance < plain else names[int(rng.integers(len(names)))]
        number = names.index(name) + 1 if name else 0
        return texture(name, canvas), np.full((canvas.height, canvas.width), number, np.uint8), 0.0
    far, near = (choices[int(rng.integers(len(choices)))] for choices in (FAR, NEAR))
    horizon = float(rng.uniform(0.3, 0.62))
    return *joined(canvas, far, near, horizon), horizon


def joined(canvas: Canvas, far: str, near: str, horizon: float) -> tuple[Texture, NDArray[np.uint8]]:
    """Draw one ground behind another, parted by an uneven line at that share of the height."""
    names = list(grounds())
    uneven = canvas.streaks(canvas.width / canvas.unit / 3, canvas.height / canvas.unit)[:1]
    level = horizon * canvas.height + uneven * canvas.height / (60 if near in ("water", "road", "wood") else 30)
    upper = np.arange(canvas.height)[:, None] < level
    image = np.where(upper[..., None], texture(far, canvas), texture(near, canvas))
    return image, np.where(upper, names.index(far) + 1, names.index(near) + 1).astype(np.uint8)


def _grass(c: Canvas) -> Texture:
    return c.blend((0.12, 0.35, 0.08), (0.45, 0.7, 0.2), 0.5 + 0.35 * c.streaks(1.2, 5) + 0.15 * c.noise((20, 1)))


def _sand(c: Canvas) -> Texture:
    waves = np.sin(c.down() * c.height / c.unit / 4.5 + 1.2 * c.noise((30, 1)))
    return c.blend((0.72, 0.58, 0.36), (0.95, 0.86, 0.62), 0.5 + 0.15 * waves + 0.12 * c.noise((1, 0.7), (3, 0.4)))


def _water(c: Canvas) -> Texture:
    return c.blend((0.05, 0.25, 0.45), (0.35, 0.65, 0.8), 0.5 + 0.3 * c.streaks(12, 3) + 0.15 * c.streaks(5, 1.5))


def _sky(c: Canvas) -> Texture:
    clouds = np.clip(c.noise((40, 0.8), (18, 0.5), (8, 0.25)) - 0.3, 0, 1)[..., None]
    clear = c.blend((0.3, 0.55, 0.9), (0.75, 0.88, 0.98), c.down())
    return np.asarray(clear * (1 - clouds) + clouds * 0.98, np.float32)


def _snow(c: Canvas) -> Texture:
    return c.blend((0.72, 0.8, 0.9), (0.97, 0.98, 1.0), 0.6 + c.noise((30, 0.16), (8, 0.08), (1, 0.06)))


def _brick(c: Canvas) -> Texture:
    high = int(c.rng.integers(8, 13) * c.unit)
    y, x = c.indices()
    row = y // high
    x = x + (row % 2) * high
    mortar = ((y % high) < 1.6 * c.unit) | ((x % (2 * high)) < 1.6 * c.unit)
    shades = c.rng.standard_normal((c.height // high + 2, (c.width + high) // (2 * high) + 2)).astype(np.float32)
    share = 0.5 + 0.25 * shades[row, x // (2 * high)] + 0.1 * c.noise((1, 1))
    wall = c.blend((0.5, 0.2, 0.14), (0.75, 0.38, 0.28), share)
    wall[mortar] = np.array((0.78, 0.75, 0.7)) + c.rng.normal(0, 0.04, 3)
    return wall


def _road(c: Canvas) -> Texture:
    asphalt = c.blend((0.22, 0.22, 0.24), (0.48, 0.48, 0.5), 0.5 + 0.2 * c.noise((1, 0.7), (3, 0.4), (30, 0.5)))
    left, long, wide = int(c.rng.uniform(0.08, 0.9) * c.width), int(18 * c.unit), int(4 * c.unit)
    for top in range(int(c.rng.uniform(0, 20) * c.unit) - long, c.height, int(34 * c.unit)):
        asphalt[max(0, top) : max(0, top + long), left : left + wide] = (0.9, 0.88, 0.75)
    return asphalt


def _forest(c: Canvas) -> Texture:
    trees = c.blend((0.02, 0.14, 0.05), (0.2, 0.42, 0.14), 0.5 + 0.35 * c.noise((9, 0.7), (5, 0.6), (2.5, 0.4)))
    for _ in range(int(c.width / c.unit / 22)):
        left, wide = int(c.rng.integers(c.width)), int(c.rng.uniform(2, 6) * c.unit)
        trees[:, left : left + wide] = trees[:, left : left + wide] * 0.25 + np.array((0.21, 0.14, 0.08), np.float32)
    return trees


def _rock(c: Canvas) -> Texture:
    cracks = np.abs(c.noise((24, 0.8), (11, 0.5), (5, 0.3)))
    return c.blend((0.25, 0.24, 0.23), (0.62, 0.59, 0.55), cracks * 0.9 + 0.1 + 0.06 * c.noise((1, 1)))


def _wood(c: Canvas) -> Texture:
    wide = int(c.rng.integers(14, 24) * c.unit)
    y, _ = c.indices()
    shades = c.rng.standard_normal(c.height // wide + 1).astype(np.float32)
    planks = c.blend((0.42, 0.26, 0.13), (0.76, 0.55, 0.33), 0.5 + 0.3 * c.streaks(30, 1.5) + 0.25 * shades[y // wide])
    planks[(y % wide) < c.unit] *= 0.5
    return planks


def _night(c: Canvas) -> Texture:
    dark = c.blend((0.02, 0.02, 0.08), (0.1, 0.1, 0.25), 0.4 + 0.3 * c.noise((50, 1)))
    count = int(c.height * c.width / c.unit**2 / 160)
    centers = np.stack([c.rng.uniform(0, side, count) for side in (c.width, c.height)], axis=1)
    for (x, y), light in zip(centers, c.rng.uniform(0.5, 1, count), strict=True):
        reach = max(0, round(c.unit / 2 - 0.5))
        dark[max(0, int(y) - reach) : int(y) + reach + 1, max(0, int(x) - reach) : int(x) + reach + 1] = light
    return dark


def _sunset(c: Canvas) -> Texture:
    return c.blend((0.35, 0.15, 0.4), (1.0, 0.6, 0.2), c.down() + 0.08 * c.noise((40, 1)) + 0.1 * c.streaks(50, 6))


def nameless(c: Canvas) -> Texture:
    """Draw noise, stripes, fields or heaps of leaves in any colours: no word says what it is."""
    if c.rng.random() < 0.5:
        return leaves(c)
    low, high = c.rng.uniform(0, 1, (2, 3)).tolist()
    kind = int(c.rng.integers(4))
    if kind == 0:
        share = 0.5 + 0.5 * c.noise((c.rng.uniform(2, 40), 0.8), (c.rng.uniform(1, 6), 0.4))
    elif kind == 1:
        share = 0.5 + 0.5 * c.streaks(*c.rng.uniform(1, 40, 2))
    elif kind == 2:
        share = (c.noise((c.rng.uniform(8, 40), 1)) > 0).astype(np.float32) + 0.1 * c.noise((2, 1))
    else:
        share = c.down() if c.rng.random() < 0.5 else 1 - c.down()
    picture = c.blend(low, high, share)
    third = c.rng.uniform(0, 1, 3).astype(np.float32)
    spots = np.clip(c.noise((c.rng.uniform(3, 30), 1)) - 0.4, 0, 1)[..., None]
    return np.asarray(picture * (1 - spots) + third * spots, np.float32)


def leaves(c: Canvas) -> Texture:
    """Draw boxes and ellipses that cover each other, many small and few large, shaded and grained.

    Edges and sizes are then distributed as in photographs (the dead leaves model).
    """
    side = min(c.height, c.width)
    palette = c.rng.uniform(0, 1, (5, 3))
    gray = palette.mean(axis=1, keepdims=True)
    palette = gray + (palette - gray) * c.rng.uniform(0.1, 1)
    picture = c.blend(palette[0].tolist(), palette[1].tolist(), c.down())
    for _ in range(int(c.rng.integers(30, 150))):
        reach = side * 0.5 * max(0.02, 1 - c.rng.uniform(0, 1)) ** -0.5 * 0.12
        center = (int(c.rng.integers(c.width)), int(c.rng.integers(c.height)))
        axes = (reach * c.rng.uniform(0.4, 1.6), reach * c.rng.uniform(0.4, 1.6))
        color = np.clip(palette[int(c.rng.integers(5))] + c.rng.normal(0, 0.12, 3), 0, 1).tolist()
        if c.rng.random() < 0.6:
            cv2.ellipse(picture, center, (int(axes[0]) + 1, int(axes[1]) + 1), c.rng.uniform(0, 180), 0, 360, color, -1)
        else:
            corners = cv2.boxPoints((center, (2 * axes[0], 2 * axes[1]), c.rng.uniform(0, 180)))
            cv2.fillPoly(picture, [corners.astype(np.int32)], color)
    picture = picture * (1 + c.noise((30, 0.15), (c.rng.uniform(1, 6), c.rng.uniform(0.02, 0.15))))[..., None]
    soft = c.rng.uniform(0.3, 2.5) * c.unit
    return np.asarray(np.clip(cv2.GaussianBlur(picture, (0, 0), soft), 0, 1), np.float32)


TEXTURES: dict[str, Callable[[Canvas], Texture]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "sky": _sky,
    "snow": _snow,
    "brick": _brick,
    "road": _road,
    "forest": _forest,
    "rock": _rock,
    "wood": _wood,
    "night": _night,
    "sunset": _sunset,
}
