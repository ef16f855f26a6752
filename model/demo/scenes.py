"""Scenes of the demo world: sprites on grounds, with exact masks. Everything follows from one seed.

A scene is drawn back to front; a pixel belongs to the last object that covers more than half of it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.demo.grounds import Canvas, Texture, backdrop
from model.demo.sprites import Atlas, Pixels, Sprite
from model.demo.world import concepts

FLYING = ("flyer", "heaven")


@dataclass(frozen=True)
class Placed:
    """An object of a scene: its concept's number, its colour or None, its centre (x, y) and size in pixels."""

    concept: int
    color: str | None
    center: tuple[float, float]
    size: float


@dataclass(frozen=True)
class Scene:
    """image: uint8 [H, W, 3]. objects: uint8 [H, W], 0 where there is none, k for the k-th. grounds: uint8 [H, W]."""

    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    grounds: NDArray[np.uint8]
    placed: tuple[Placed, ...]

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Return where the object `number`, from 1, is seen."""
        return np.asarray(self.objects == number)


@dataclass(frozen=True)
class Style:
    """How scenes are drawn. Sizes are shares of the shorter side.

    standing: how often objects stand on the ground, larger the nearer, instead of lying anywhere; nameless: how often
    the ground is none of the named ones; tilt: how much lying objects are turned, in degrees;
    colored: how often all things come in colours, and those of one kind in several; varied: how often a drawing is
    stretched and its colours and contrast are changed, as if another hand had drawn it;
    worn: whether light, grain and sharpness differ from scene to scene.
    """

    height: int = 256
    width: int = 256
    least: int = 2
    most: int = 5
    smallest: float = 0.22
    largest: float = 0.55
    standing: float = 0.3
    nameless: float = 0.08
    colored: float = 0.0
    varied: float = 0.0
    tilt: float = 14.0
    zoom: float = 1.0
    worn: bool = True

    @property
    def unit(self) -> float:
        """Return the pixels that stand for one of a scene of 128; `zoom` says how much larger the details are."""
        return self.zoom * min(self.height, self.width) / 128


Ground = tuple[Texture, NDArray[np.uint8], float]


def draw(
    seed: tuple[int, ...] | int, style: Style, atlas: Atlas, wanted: tuple[int, ...] = (), ground: Ground | None = None
) -> Scene:
    """Draw one scene. wanted: the concepts, else drawn by lot; ground: as `backdrop` gives it, else drawn by lot.

    An object for which no room is found is left out.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(rng, style.height, style.width, style.unit)
    image, numbers, horizon = ground or backdrop(canvas, style.nameless)
    if style.colored and rng.random() < style.colored:
        atlas = atlas.colored
        wanted = _kinds_by_lot(rng, style, atlas)
    chosen = wanted or _by_lot(rng, style, atlas)
    stands = horizon > 0 and rng.random() < style.standing
    places = (_standing if stands else _scattered)(rng, style, chosen, horizon)
    return render(rng, style, atlas, image, numbers, places, stands)


def render(
    rng: np.random.Generator,
    style: Style,
    atlas: Atlas,
    image: Texture,
    ground: NDArray[np.uint8],
    places: "list[Place]",
    stands: bool,
) -> Scene:
    """Put sprites into an image in the order of their places. stands: a place's point is the foot, not the centre."""
    image = np.array(image, np.float32)
    objects = np.zeros(image.shape[:2], np.uint8)
    placed: list[Placed] = []
    for concept, point, size, tilt in places:
        sprite = atlas.pick(concept, rng)
        flip = rng.random() < 0.5 and concepts()[concept].kind != "brand"
        pixels = sprite.pixels
        if style.varied and rng.random() < style.varied:
            pixels = _varied(pixels, rng, colors=sprite.color is None)
        put = _warped(pixels, size, tilt, flip)
        light = (rng.uniform(0.82, 1.1) * (1 + rng.normal(0, 0.04, 3))).astype(np.float32)
        shadow = "soft" if rng.random() < 0.6 else ""
        if stands:
            shadow = "" if concepts()[concept].kind in FLYING else "ground"
        where = _origin(put, point, stands)
        _shade(image, put, where, shadow, style.unit)
        _paste(image, objects, len(placed) + 1, put, where, light)
        placed.append(_record(sprite, where, put, size))
    image = _worn(rng, image, style) if style.worn else image
    return Scene(np.asarray(np.clip(image * 255, 0, 255), np.uint8), objects, ground, tuple(placed))


def _by_lot(rng: np.random.Generator, style: Style, atlas: Atlas) -> tuple[int, ...]:
    count = int(rng.integers(style.least, style.most + 1))
    return tuple(int(concept) for concept in rng.choice(atlas.drawable, count, replace=False))


def _kinds_by_lot(rng: np.random.Generator, style: Style, atlas: Atlas) -> tuple[int, ...]:
    """Choose things of one or two kinds that come in colours."""
    count = int(rng.integers(style.least, style.most + 1))
    possible = [concept for concept in atlas.drawable if concepts()[concept].tints]
    return tuple(int(concept) for concept in rng.choice(rng.choice(possible, 2, replace=False), count))


Place = tuple[int, tuple[float, float], float, float]


def _scattered(rng: np.random.Generator, style: Style, chosen: tuple[int, ...], _: float) -> list[Place]:
    """Find places anywhere that hardly overlap: (concept, centre, size, tilt)."""
    side = min(style.height, style.width)
    places: list[Place] = []
    for concept in chosen:
        for attempt in range(16):
            size = side * rng.uniform(style.smallest, style.largest) * (1 if attempt < 6 else 0.75)
            x = rng.uniform(size * 0.42, style.width - size * 0.42)
            y = rng.uniform(size * 0.42, style.height - size * 0.42)
            if all(max(abs(x - u), abs(y - v)) > (size + other) * 0.43 for _, (u, v), other, _ in places):
                places.append((concept, (x, y), size, float(rng.normal(0, style.tilt))))
                break
    return places


def _standing(rng: np.random.Generator, style: Style, chosen: tuple[int, ...], horizon: float) -> list[Place]:
    """Stand objects side by side on the ground, the nearer the larger; what flies, flies: centre = (x, foot)."""
    side, order = min(style.height, style.width), rng.permutation(len(chosen))
    slots = (order + 0.5 + rng.uniform(-0.18, 0.18, len(chosen))) / len(chosen) * style.width
    places = []
    for concept, slot in zip(chosen, slots, strict=True):
        kind = concepts()[concept].kind
        depth = float(rng.uniform(0.08, 1.0))
        size = side * (style.smallest + (style.largest * 0.9 - style.smallest) * depth)
        size = min(size, 1.25 * style.width / len(chosen))
        if kind in FLYING:
            foot = size * 0.9 + rng.uniform(0, max(1.0, horizon * style.height - size * 0.7))
        else:
            foot = style.height * (horizon + (0.98 - horizon) * (0.15 + 0.85 * depth))
        places.append((concept, (float(slot), float(min(foot, style.height * 0.99))), size, float(rng.normal(0, 3))))
    return sorted(places, key=lambda place: place[1][1])


def _varied(sprite: Pixels, rng: np.random.Generator, colors: bool) -> Pixels:
    """Return a sprite stretched and with another contrast; with `colors`, paler or stronger ones, hues a little off."""
    height, width = sprite.shape[:2]
    narrow, low = rng.uniform(0.72, 1.0, 2) if rng.random() < 0.5 else (1.0, 1.0)
    target = (max(4, round(width * narrow)), max(4, round(height * low)))
    sprite = np.asarray(cv2.resize(sprite, target, interpolation=cv2.INTER_AREA), np.float32)
    alpha = sprite[..., 3:]
    straight = sprite[..., :3] / np.maximum(alpha, 1e-3)
    if colors:
        gray = straight.mean(axis=2, keepdims=True)
        straight = gray + (straight - gray) * rng.uniform(0.3, 1.4)
        straight = straight * (1 + rng.normal(0, 0.12, 3))
    straight = np.clip(straight, 0, 1) ** rng.uniform(0.6, 1.6)
    return np.asarray(np.concatenate([straight * alpha, alpha], axis=2), np.float32)


def _warped(sprite: Pixels, size: float, tilt: float, flip: bool) -> Pixels:
    """Return a sprite with its longer side `size`, turned by `tilt` degrees, on the smallest canvas that holds it."""
    if flip:
        sprite = np.ascontiguousarray(sprite[:, ::-1])
    height, width = sprite.shape[:2]
    scale = size / max(height, width)
    if scale < 0.6:  # warping samples single pixels
        target = (max(4, round(width * scale)), max(4, round(height * scale)))
        sprite, scale = np.asarray(cv2.resize(sprite, target, interpolation=cv2.INTER_AREA), np.float32), 1.0
        height, width = sprite.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, scale)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    reach = (height * sin + width * cos, height * cos + width * sin)
    # As even or odd as the sprite: what is not turned then keeps whole pixels.
    box = tuple(int(far) + 2 + (int(far) + side) % 2 for far, side in zip(reach, (width, height), strict=True))
    turn[0, 2] += box[0] / 2 - width / 2
    turn[1, 2] += box[1] / 2 - height / 2
    warped = cv2.warpAffine(sprite, turn, box, flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
    return np.asarray(warped, np.float32)


def _origin(put: Pixels, center: tuple[float, float], stands: bool) -> tuple[int, int]:
    """Return where the upper left corner goes: (x, y). A standing object's place is its foot."""
    height, width = put.shape[:2]
    return round(center[0] - width / 2), round(center[1] - (height if stands else height / 2))


def _window(
    shape: tuple[int, ...], put: tuple[int, ...], where: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of the image and the part of what is put into it that meet."""
    x, y = where
    left, top = max(0, x), max(0, y)
    right, bottom = max(left, min(shape[1], x + put[1])), max(top, min(shape[0], y + put[0]))
    return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))


def _shade(image: Texture, put: Pixels, where: tuple[int, int], shadow: str, unit: float) -> None:
    """Darken the ground: softly around a lying object, as an ellipse under a standing one."""
    if not shadow:
        return
    height, width = put.shape[:2]
    margin = int(max(6 * unit, 0.2 * width))
    dark: NDArray[np.float32] = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    if shadow == "soft":
        shift = int(2 * unit)
        dark[margin + shift : margin + shift + height, margin + shift : margin + shift + width] = put[..., 3]
        dark = np.asarray(cv2.GaussianBlur(dark, (0, 0), 2 * unit), np.float32) * 0.35
    else:
        foot = (margin + width // 2, margin + height - int(0.02 * height))
        axes = (max(2, int(width * 0.42)), max(2, int(width * 0.09)))
        cv2.ellipse(dark, foot, axes, 0, 0, 360, (1.0,), -1)
        dark = np.asarray(cv2.GaussianBlur(dark, (0, 0), 1.6 * unit), np.float32) * 0.5
    inside, part = _window(image.shape, dark.shape, (where[0] - margin, where[1] - margin))
    image[inside] *= 1 - dark[part][..., None]


def _paste(
    image: Texture,
    objects: NDArray[np.uint8],
    number: int,
    put: Pixels,
    where: tuple[int, int],
    light: NDArray[np.float32],
) -> None:
    inside, part = _window(image.shape, put.shape, where)
    alpha = put[part][..., 3:]
    image[inside] = image[inside] * (1 - alpha) + put[part][..., :3] * light
    objects[inside][alpha[..., 0] > 0.5] = number


def _record(sprite: Sprite, where: tuple[int, int], put: Pixels, size: float) -> Placed:
    center = (where[0] + put.shape[1] / 2, where[1] + put.shape[0] / 2)
    return Placed(sprite.concept, sprite.color, center, size)


def _worn(rng: np.random.Generator, image: Texture, style: Style) -> Texture:
    """Light the whole a little differently, add grain, sometimes blur."""
    image = image * np.float32(rng.uniform(0.85, 1.12))
    image += rng.normal(0, 0.02, (*image.shape[:2], 1)).astype(np.float32)
    if rng.random() < 0.25:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8) * style.unit), np.float32)
    return image
