"""Builds the atlases from their sources: Noto Emoji, Twemoji and Fluent Emoji, simple-icons, the own landmarks.

Only this needs the sources, and `resvg-py` from requirements-dev.txt; drawing needs the atlases alone.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.demo import landmarks
from model.demo.sprites import CELL
from model.demo.world import Concept, concepts

COLUMNS = 20
UNLIKE = {("twemoji", "statue of liberty"), ("twemoji", "tennis racket")}  # they show a face, and a ball alone
NOTO_SIZE = 109  # the one size that the font's bitmaps have


@dataclass(frozen=True)
class Drawing:
    """A drawing for an atlas: straight uint8 RGBA cut to what is visible. hex: a logo's colour."""

    concept: str
    style: str
    pixels: NDArray[np.uint8]
    hex: str = ""


@dataclass(frozen=True)
class Sources:
    """Where the sources lie: the font file, and the unpacked npm packages."""

    noto: Path
    twemoji: Path
    fluent: Path
    icons: Path


def training(sources: Sources) -> Iterator[Drawing]:
    """Yield the drawings of training: Noto Emoji and Twemoji, logos, landmarks."""
    font = ImageFont.truetype(str(sources.noto), NOTO_SIZE)
    colors = hexes(sources.icons)
    for concept in concepts():
        origin, _, what = concept.source.partition(":")
        if origin == "drawn":
            yield Drawing(concept.name, "own", rendered(landmarks.svg(what)))
        elif origin == "icon":
            yield logo(concept, sources.icons, colors, "plate")
        else:
            for code in what.split("+"):
                yield Drawing(concept.name, "noto", glyph(font, chr(int(code, 16))))
                if ("twemoji", concept.name) in UNLIKE:
                    continue
                file = sources.twemoji / f"{code.lower()}.svg"
                yield Drawing(concept.name, "twemoji", rendered(file.read_text(encoding="utf-8")))


def testing(sources: Sources) -> Iterator[Drawing]:
    """Yield the drawings of the second test set: Fluent Emoji, and logos as round badges."""
    icons = json.loads((sources.fluent / "icons.json").read_text(encoding="utf-8"))
    names = json.loads((sources.fluent / "chars.json").read_text(encoding="utf-8"))
    colors = hexes(sources.icons)
    for concept in concepts():
        origin, _, what = concept.source.partition(":")
        if origin == "icon":
            yield logo(concept, sources.icons, colors, "badge")
        elif origin == "emoji":
            for code in what.lower().split("+"):
                name = names.get(code) or names.get(f"{code}-fe0f")
                body = icons["icons"].get(name, {}).get("body") if name else None
                if body:
                    side = icons.get("height", 32)
                    yield Drawing(
                        concept.name,
                        "fluent",
                        rendered(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">{body}</svg>'),
                    )


def glyph(font: ImageFont.FreeTypeFont, character: str) -> NDArray[np.uint8]:
    """Draw a character of the emoji font."""
    image = Image.new("RGBA", (180, 180), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((20, 20), character, font=font, embedded_color=True)
    return cut(np.asarray(image))


def rendered(svg: str) -> NDArray[np.uint8]:
    """Draw an SVG so that what is visible of it fills a cell."""
    import resvg_py

    def at(width: int) -> NDArray[np.uint8]:
        data = resvg_py.svg_to_bytes(svg_string=svg, width=width, height=width)
        return cut(np.asarray(Image.open(io.BytesIO(bytes(data))).convert("RGBA")))

    return cut(at(round(CELL * CELL / max(at(CELL).shape[:2])) - 1))


def logo(concept: Concept, icons: Path, colors: dict[str, str], style: str) -> Drawing:
    """Draw a logo of simple-icons; its colour goes into the list."""
    slug = concept.source.partition(":")[2]
    return Drawing(concept.name, style, rendered((icons / "icons" / f"{slug}.svg").read_text("utf-8")), colors[slug])


def hexes(icons: Path) -> dict[str, str]:
    """Return each icon's colour by its slug, which simple-icons derives from the title where it gives none."""
    data = json.loads((icons / "data" / "simple-icons.json").read_text(encoding="utf-8"))
    found = {}
    for icon in data if isinstance(data, list) else data["icons"]:
        title = icon["title"].lower().replace("+", "plus").replace(".", "dot").replace("&", "and")
        found[icon.get("slug") or re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFD", title))] = icon["hex"]
    return found


def cut(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut off rows and columns in which nothing is visible, and what exceeds a cell."""
    rows, columns = np.where(pixels[..., 3] > 8)
    cropped = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.ascontiguousarray(cropped[:CELL, :CELL])


def write(drawings: Iterator[Drawing], picture: Path) -> int:
    """Write an atlas and its list; return the number of drawings."""
    every = list(drawings)
    rows = -(-len(every) // COLUMNS)
    sheet = np.zeros((rows * CELL, COLUMNS * CELL, 4), np.uint8)
    with picture.with_suffix(".tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("concept", "style", "x", "y", "width", "height", "hex"))
        for number, drawing in enumerate(every):
            height, width = drawing.pixels.shape[:2]
            y, x = (number // COLUMNS) * CELL, (number % COLUMNS) * CELL
            sheet[y : y + height, x : x + width] = np.where(drawing.pixels[..., 3:] > 0, drawing.pixels, 0)
            table.writerow((drawing.concept, drawing.style, x, y, width, height, drawing.hex))
    Image.fromarray(sheet).save(picture, lossless=True, quality=100, method=6)
    return len(every)
