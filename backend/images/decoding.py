"""From the bytes of an image file to the pixels that a browser shows for it.

A brush mask lies on what the annotator sees, so the browser decides, not the file format's book. Each rule here was
compared with Chromium 156: it turns JPEG, PNG and AVIF by their orientation, but neither by XMP nor in WebP; it shows
the high byte of 16-bit values, and the first frame of the animation where a PNG also has a still picture.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF")  # few, so that few parsers see foreign bytes

_TURNED_FORMATS = ("JPEG", "MPO", "PNG", "AVIF")  # MPO: a JPEG with more pictures behind; Pillow turns TIFF itself
_TURNS = {  # EXIF orientation: are rows and columns swapped; then the steps through rows and columns
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}


class ImageError(Exception):
    """An image that cannot be had, now or later; the message says what is wrong and what to do about it."""


class ImageUnavailable(ImageError):
    """An image that cannot be had at the moment (timeout, refused connection, 429, 5xx): worth another try.

    ``wait`` is the number of seconds after which its host wants to be asked again, 0 if it did not say.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class Limits:
    """What one image may cost: bytes of the file, pixels of the picture, seconds for all of the download, redirects.

    Pillow has a limit of its own, 178,956,970 pixels, which ``max_pixels`` cannot raise.
    """

    max_bytes: int = 128 * 1024 * 1024
    max_pixels: int = 120_000_000
    timeout: float = 30.0
    redirects: int = 3


def decode_image(data: bytes, limits: Limits) -> npt.NDArray[np.uint8]:
    """Decode an image file to uint8 [H, W, 3] RGB, turned upright, the first frame if it moves.

    What is transparent lies on white, like the page of Label Studio's editor. The size is read from the file's header
    and refused beyond ``limits.max_pixels`` before anything is unpacked.

    Raises ImageError for what is not an image, is broken or cut short, or is too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images, our limit refuses; of odd metadata, unused
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image.size, limits)
                if image.info.get("default_image"):
                    image.seek(1)  # a PNG's still picture for viewers without animation
                return _upright(_rgb(image), _orientation(image))
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError(_what_it_is(data)) from None
    except Image.DecompressionBombError:
        raise ImageError("the image has more pixels than Pillow decodes; scale it down") from None
    except Exception as error:  # a decoder fed with foreign bytes may raise anything; to us it is one broken image
        raise ImageError(f"the image file is broken or cut short ({error})") from None


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, more than the {limits.max_pixels:,} allowed; scale it down"
        )


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of ``image`` as stored, uint8 [H, W, 3]."""
    if image.mode in ("I", "F"):
        raise ImageError(
            "the image has 32-bit values, for which there is no agreed black and white; save it with 8 or 16"
        )
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        return np.asarray(page.convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that a browser would heed, 1 if there is none. Broken EXIF is none."""
    exif = Image.Exif()  # not image.getexif(): that one believes XMP too
    if image.format in _TURNED_FORMATS and "exif" in image.info:
        try:
            exif.load(image.info["exif"])
            return int(exif.get(ExifTags.Base.Orientation, 1))
        except Exception:  # as above: a parser and foreign bytes, and here the picture does not depend on it
            return 1
    return 1


def _upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    swapped, rows, columns = _TURNS.get(orientation, (False, 1, 1))
    turned = pixels.swapaxes(0, 1) if swapped else pixels
    return np.array(turned[::rows, ::columns], order="C")


def _what_it_is(data: bytes) -> str:
    """Say what the file is instead of an image, as far as its beginning tells."""
    head = data[:1024].lstrip().lower()
    if not head:
        return "the file is empty"
    if b"<svg" in head:
        return "the file is an SVG drawing, which has no pixels of its own; convert it to PNG"
    if head.startswith((b"<!doctype html", b"<html")):
        return "this is a web page, not an image; the URL has to lead to the file itself, without a login in between"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return "the file is HEIC, which browsers do not show; convert it to JPEG"
    return "the file is not an image that browsers show (JPEG, PNG, GIF, WebP, AVIF, BMP), or its beginning is broken"
