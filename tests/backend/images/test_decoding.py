"""Image files against what a browser shows for them; the tables were read off a canvas in Chromium 156."""

import io
import resource
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from backend.images.decoding import ImageError, ImageUnavailable, Limits, decode_image

LIMITS = Limits()
COLOURS = {
    "R": (255, 0, 0),
    "G": (0, 255, 0),
    "B": (0, 0, 255),
    "W": (255, 255, 255),
    "K": (0, 0, 0),
    "Y": (255, 255, 0),
}


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def painted(*rows: str) -> Image.Image:
    """One block of 16 x 16 pixels per letter, so that lossy formats keep the colours."""
    pixels = np.array([[COLOURS[letter] for letter in row] for row in rows], np.uint8)
    return Image.fromarray(np.kron(pixels, np.ones((16, 16, 1), np.uint8)))


def seen(pixels: np.ndarray) -> list[str]:
    """The letters of ``painted``, read off in the middle of each block."""
    letters = {colour: letter for letter, colour in COLOURS.items()}
    blocks = (pixels[8::16, 8::16] > 127) * 255
    return ["".join(letters[tuple(colour)] for colour in row) for row in blocks.tolist()]


def exif(value: int, tag: int = ExifTags.Base.Orientation) -> bytes:
    tags = Image.Exif()
    tags[tag] = value
    return tags.tobytes()


SHOWN = {
    1: ["RGB", "WKY"],
    2: ["BGR", "YKW"],
    3: ["YKW", "BGR"],
    4: ["WKY", "RGB"],
    5: ["RW", "GK", "BY"],
    6: ["WR", "KG", "YB"],
    7: ["YB", "KG", "WR"],
    8: ["BY", "GK", "RW"],
}
AS_STORED = dict.fromkeys(SHOWN, SHOWN[1])


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize(
    ("file_format", "options", "shown"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, SHOWN),
        ("MPO", {"quality": 95, "save_all": True, "append_images": [painted("K")]}, SHOWN),  # as some phones do
        ("PNG", {}, SHOWN),
        ("AVIF", {"quality": 95}, SHOWN),
        ("WEBP", {"lossless": True}, AS_STORED),
        ("TIFF", {}, SHOWN),  # not shown by Chromium; turned as other viewers do
    ],
)
def test_an_image_is_turned_where_the_browser_turns_it(
    file_format: str, options: dict[str, Any], shown: dict[int, list[str]], orientation: int
) -> None:
    data = saved(painted("RGB", "WKY"), file_format, exif=exif(orientation), **options)

    assert seen(decode_image(data, LIMITS)) == shown[orientation]


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize(
    "metadata",
    [
        {"exif": exif(0)},
        {"exif": exif(9)},
        {"exif": exif(65_535)},
        {"exif": b"Exif\0\0broken"},
        {"exif": exif(6)[:20]},
        {"xmp": XMP},
        {"xmp": XMP, "exif": exif(1, ExifTags.Base.ResolutionUnit)},
    ],
)
def test_metadata_that_the_browser_does_not_heed_turns_nothing(metadata: dict[str, bytes]) -> None:
    data = saved(painted("RGB", "WKY"), "JPEG", quality=95, **metadata)

    assert seen(decode_image(data, LIMITS)) == SHOWN[1]


def test_a_photo_of_two_by_three_pixels_is_turned_exactly() -> None:
    stored = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)

    pixels = decode_image(saved(Image.fromarray(stored), "PNG", exif=exif(6)), LIMITS)

    assert pixels.tolist() == [[[9, 10, 11], [0, 1, 2]], [[12, 13, 14], [3, 4, 5]], [[15, 16, 17], [6, 7, 8]]]
    assert (pixels.dtype, pixels.flags.c_contiguous, pixels.flags.writeable) == (np.uint8, True, True)


# --- modes ---


def image(mode: str, *pixels: Any) -> Image.Image:
    """One row of pixels."""
    picture = Image.new(mode, (len(pixels), 1))
    for x, value in enumerate(pixels):
        picture.putpixel((x, 0), value)
    return picture


def palette(**options: Any) -> bytes:
    picture = image("P", 0, 1, 2)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return saved(picture, "PNG", **options)


def greys(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


RAMP = np.array([[0, 127, 255, 256, 511, 32_767, 32_768, 65_407, 65_535]], np.uint16)
SHOWN_RAMP = greys(0, 0, 0, 1, 1, 127, 128, 255, 255)
MODES: dict[str, tuple[Callable[[], bytes], list[list[int]]]] = {
    "1": (lambda: saved(image("1", 0, 1), "PNG"), greys(0, 255)),
    "L": (lambda: saved(image("L", 0, 77, 255), "PNG"), greys(0, 77, 255)),
    "L, one value transparent": (lambda: saved(image("L", 0, 100), "PNG", transparency=100), greys(0, 255)),
    "LA": (lambda: saved(image("LA", (0, 255), (0, 0), (0, 51)), "PNG"), greys(0, 255, 204)),
    "P": (palette, [[10, 20, 30], [40, 50, 60], [70, 80, 90]]),
    "P, one colour transparent": (lambda: palette(transparency=1), [[10, 20, 30], [255] * 3, [70, 80, 90]]),
    "P, alpha per colour": (lambda: palette(transparency=b"\xff\x00\xff"), [[10, 20, 30], [255] * 3, [70, 80, 90]]),
    "RGB": (lambda: saved(image("RGB", (1, 2, 3)), "PNG"), [[1, 2, 3]]),
    "RGB, one colour transparent": (
        lambda: saved(image("RGB", (1, 2, 3), (4, 5, 6)), "PNG", transparency=(1, 2, 3)),
        [[255] * 3, [4, 5, 6]],
    ),
    "RGBA": (lambda: saved(image("RGBA", (9, 9, 9, 0), (255, 0, 0, 51)), "PNG"), [[255] * 3, [255, 204, 204]]),
    "I;16": (lambda: saved(Image.fromarray(RAMP), "PNG"), SHOWN_RAMP),
    "I;16, little-endian TIFF": (lambda: saved(Image.fromarray(RAMP), "TIFF"), SHOWN_RAMP),
    "I;16B, big-endian TIFF": (lambda: big_endian_tiff(RAMP), SHOWN_RAMP),
    "RGB of 16 bits": (lambda: png(1, 1, 16, 2, struct.pack(">3H", 256, 32_767, 65_535)), [[1, 127, 255]]),
    "LA of 16 bits": (lambda: png(1, 1, 16, 4, struct.pack(">2H", 32_767, 65_535)), greys(127)),
    "CMYK": (
        lambda: saved(Image.new("CMYK", (8, 1), (128, 64, 32, 16)), "TIFF"),
        [[119, 179, 209]] * 8,
    ),
}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, row: bytes) -> bytes:
    """A PNG with one row of bytes, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )


def big_endian_tiff(values: np.ndarray) -> bytes:
    """Uncompressed 16-bit grey, most significant byte first, which Pillow reads and does not write."""
    height, width = values.shape
    tags = [
        (256, width),
        (257, height),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, values.size * 2),
    ]
    pixels = values.astype(">u2").tobytes()
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    return b"MM\0*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory + bytes(4)


@pytest.mark.parametrize(("make", "shown"), MODES.values(), ids=MODES.keys())
def test_every_mode_becomes_what_the_browser_shows(make: Callable[[], bytes], shown: list[list[int]]) -> None:
    pixels = decode_image(make(), LIMITS)

    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [shown]


def test_a_cmyk_photo_has_the_browsers_colours() -> None:
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (128, 64, 32, 16)]
    pixels = np.kron(np.array([inks], np.uint8), np.ones((16, 16, 1), np.uint8))

    shown = decode_image(saved(Image.fromarray(pixels, "CMYK"), "JPEG", quality=100, subsampling=0), LIMITS)

    expected = [[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0], [119, 179, 209]]
    assert np.abs(shown[8, 8::16].astype(int) - expected).max() <= 2


FRAMES = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:], "duration": 100}


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (saved(FRAMES[0], "GIF", **ANIMATED), (255, 0, 0)),
        (saved(FRAMES[0], "WEBP", lossless=True, **ANIMATED), (255, 0, 0)),
        (saved(FRAMES[0], "PNG", **ANIMATED), (255, 0, 0)),
        (saved(FRAMES[0], "PNG", default_image=True, **ANIMATED), (0, 255, 0)),  # the still picture is no frame
        (saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), (255, 0, 0)),
    ],
    ids=["GIF", "WebP", "PNG", "PNG with a still picture", "TIFF"],
)
def test_the_first_frame_stands_for_an_animation(data: bytes, colour: tuple[int, int, int]) -> None:
    pixels = decode_image(data, LIMITS)

    assert pixels.shape == (3, 4, 3)
    assert (pixels == colour).all()


# --- what is refused ---

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the file is empty"),
    "the signature of a PNG": (saved(NOISE, "PNG")[:8], "its beginning is broken"),
    "text": (b"hello", "not an image that browsers show"),
    "SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "a web page": (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "a web page, not an image"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, which browsers do not show"),
    "PostScript, which Pillow would run": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that"),
    "a format that no browser shows": (saved(NOISE, "PCX"), "not an image that browsers show"),
    "the first bytes of a JPEG": (saved(NOISE, "JPEG")[:30], "broken or cut short"),
    "32-bit integers": (saved(Image.new("I", (3, 3)), "TIFF"), "32-bit values"),
    "32-bit fractions": (saved(Image.new("F", (3, 3)), "TIFF"), "32-bit values"),
    "a PNG with a broken checksum": (saved(NOISE, "PNG").replace(b"IDAT", b"IDAX", 1), "broken"),
    **{
        f"half a {kind}": (data[: len(data) // 2], "broken")
        for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
        for data in [saved(NOISE, kind)]
    },
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_shown_is_refused_for_good(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as refusal:
        decode_image(data, LIMITS)

    assert not isinstance(refusal.value, ImageUnavailable)


def gif_of(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("L", (2, 2)), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        png(60_000, 60_000, 8, 2, bytes(1000)),
        png(2**31 - 1, 2**31 - 1, 8, 2, bytes(1000)),
        png(12_001, 10_000, 8, 2, bytes(1000)),
        gif_of(65_535, 65_535),
        b"BM" + struct.pack("<IIIIiiHH", 99, 0, 54, 40, 60_000, 60_000, 1, 24) + bytes(24),
    ],
    ids=["3.6 gigapixels", "as many as PNG can say", "one column over the limit", "GIF", "BMP"],
)
def test_a_bomb_is_refused_before_it_is_unpacked(data: bytes) -> None:
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()

    with pytest.raises(ImageError, match="pixels"):
        decode_image(data, LIMITS)

    assert time.monotonic() - begin < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_our_limit_counts_not_the_one_that_pillow_warns_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    picture = saved(Image.new("1", (150, 100)), "PNG")

    assert decode_image(picture, Limits(max_pixels=15_000)).shape == (100, 150, 3)
    with pytest.raises(ImageError, match="150 x 100 pixels, more than the 14,999 allowed"):
        decode_image(picture, Limits(max_pixels=14_999))
    with pytest.raises(ImageError, match="more pixels than Pillow decodes"):
        decode_image(saved(Image.new("1", (201, 100)), "PNG"), LIMITS)


SMALL = [saved(NOISE.resize((9, 7)), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(SMALL), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_files_give_a_picture_or_an_image_error(data: bytes, damage: list[tuple[int, int]]) -> None:
    file = bytearray(data)
    for place, value in damage:
        file[place % len(file)] = value
    try:
        pixels = decode_image(bytes(file), Limits(max_pixels=1_000_000))
    except ImageError:
        return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
