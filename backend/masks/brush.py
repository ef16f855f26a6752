"""Label Studio's brush format: masks to run lengths and back.

A brush region travels as a list of byte values that make up one stream of bits, most significant bit first. Packed in
it is the RGBA picture of the region, row by row, four values to a pixel ("rle-pack" of thi.ng/umbrella, which Label
Studio's editor uses):

- 32 bits: how many values there are, that is height * width * 4;
- 5 bits: bits per value, less one;
- 4 x 4 bits: bits of each of the four kinds of length field, less one;
- then tokens until all values are there: 1 bit that is set for a run, 2 bits for the kind of the length field, the
  length less one, and the value, which a run has once and a literal as many times as its length says.

Label Studio draws a region by its alpha channel, so alpha is all that a mask needs.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)  # as Label Studio writes them; a reader takes them from the header
HEADER_BITS = 32 + 5 + 4 * len(LENGTH_BITS)

OPAQUE = 128
"""A pixel of a stroke's soft edge belongs to the region from this alpha up."""

_LONGEST = 1 << LENGTH_BITS[-1]  # values in one run
_BLOCK = 1 << 16  # runs written at once, and
_READ_BITS = 1 << 21  # bits read at once: they bound the memory that a mask of pure noise takes
_SLACK = bytes(32)  # zeros after the stream, so that reads of a few bytes need not look where it ends

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]


class BrushError(ValueError):
    """A brush region that cannot be read: not the format, cut short, or not of its image's size."""


def region(
    mask: npt.NDArray[Any], label: str, from_name: str, to_name: str, score: float | None, region_id: str
) -> dict[str, Any]:
    """One result of a prediction, as Label Studio 1.23 stores and draws it.

    ``mask`` is bool or uint8 [H, W] at the natural size of the image, EXIF-turned as the browser shows it: the editor
    decodes by that size and ignores ``original_width`` and ``original_height``. ``label`` is the name that the labeling
    config exports (a label's alias, if it has one); ``from_name`` and ``to_name`` are the names of the BrushLabels and
    the Image tag. ``score`` is 0..1, or None for a region without one.

    Raises ValueError for a mask that is not 2-D, of another dtype, or all off (the editor would list it and
    draw nothing).
    """
    if not np.any(mask):
        raise ValueError(f"the mask of {label!r} is empty: leave the region out")
    value = {"format": "rle", "rle": encode(mask)}
    return described("brushlabels", value, mask, label, from_name, to_name, score, region_id)


def described(
    kind: str,
    value: Mapping[str, Any],
    mask: npt.NDArray[Any],
    label: str,
    from_name: str,
    to_name: str,
    score: float | None,
    region_id: str,
) -> dict[str, Any]:
    """A region of any ``kind`` (``polygonlabels``...) with its ``value``, in an image as large as ``mask`` [H, W]."""
    height, width = mask.shape
    result: dict[str, Any] = {
        "id": region_id,
        "from_name": from_name,
        "to_name": to_name,
        "type": kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }
    if score is not None:
        result["score"] = float(score)
    return result


def encode(mask: npt.NDArray[Any]) -> list[int]:
    """Pack a mask, bool or uint8 [H, W], every non-zero pixel on, into brush RLE.

    On pixels become RGBA 255, 255, 255, 255 (with an alpha of 1 the editor shows a region that nobody sees), off pixels
    0, 0, 0, 0. The bytes are the ones that ``label_studio_sdk.converter.brush.mask2rle`` gives for a mask of 0 and 255.

    Raises ValueError for another shape or dtype, for no pixels, and for more pixels than the format can count (2**30).
    """
    if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise ValueError(f"a mask is bool or uint8 [H, W], not {mask.dtype} {list(mask.shape)}")
    if not 0 < mask.size * CHANNELS < 1 << 32:
        raise ValueError(f"a mask has 1 to 2**30 - 1 pixels, not {mask.size}")
    packed = bytearray()
    pending = _header_bits(mask.size * CHANNELS)
    for bits in _run_bits((mask != 0).ravel()):
        pending = np.concatenate([pending, bits])
        whole = pending.size & ~7
        packed += np.packbits(pending[:whole]).tobytes()
        pending = pending[whole:]
    packed += np.packbits(np.append(pending, 0)).tobytes()  # at least one bit of padding, as Label Studio does
    return list(packed)


def decode(rle: Sequence[int], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Unpack brush RLE into the alpha channel, uint8 [H, W].

    Reads whatever the format allows, also what browsers write after a correction: literals, the soft edge of a stroke
    (alpha between 0 and 255; a pixel belongs to the region from 128 up), other bits per value or length. Values of more
    than 8 bits are capped at 255, as a browser's canvas does.

    Raises BrushError if the list is not a stream of bytes, ends too early, or does not hold height * width pixels. The
    size is compared first, so memory is bounded by that of the list and of the image, whatever the stream claims.
    """
    data = _as_bytes(rle)
    head = int.from_bytes(data[: math.ceil(HEADER_BITS / 8)], "big") >> (-HEADER_BITS % 8)
    count, value_bits = head >> 21, (head >> 16 & 31) + 1
    length_bits = [(head >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if height < 0 or width < 0 or count != height * width * CHANNELS:
        raise BrushError(f"the region has {count} values, an image of {width} x {height} pixels {height * width * 4}")
    stream = np.frombuffer(data + _SLACK, np.uint8)
    alpha = np.empty(height * width, np.uint8)
    done = 0
    for tokens in _read_tokens(data, count, value_bits, length_bits):
        done = _fill(alpha, done, stream, tokens, value_bits)
    return alpha.reshape(height, width)


def solid(rle: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Unpack brush RLE into a mask, bool [H, W]: what is at least half opaque. Raises BrushError as `decode`."""
    return decode(rle, height, width) >= OPAQUE


# --- writing ---


def _header_bits(count: int) -> _Bytes:
    sizes = "".join(f"{bits - 1:04b}" for bits in LENGTH_BITS)
    return np.array([int(bit) for bit in f"{count:032b}{VALUE_BITS - 1:05b}{sizes}"], np.uint8)


def _run_bits(pixels: npt.NDArray[np.bool_]) -> Iterator[_Bytes]:
    """The runs of flat ``pixels`` as bits, one uint8 each, some thousand runs at a time."""
    ends = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1, pixels.size)
    for at in range(0, ends.size, _BLOCK):
        block = ends[at : at + _BLOCK]
        lengths = np.diff(block, prepend=ends[at - 1] if at else 0)
        yield _token_bits(lengths * CHANNELS, pixels[block - 1])


def _token_bits(lengths: _Ints, on: npt.NDArray[np.bool_]) -> _Bytes:
    """Run tokens for ``lengths`` values each, 255 where ``on``; a run beyond 65,536 values becomes several tokens."""
    pieces = -(-lengths // _LONGEST)
    last = np.cumsum(pieces) - 1
    piece_lengths = np.full(last[-1] + 1, _LONGEST)
    piece_lengths[last] = lengths - (pieces - 1) * _LONGEST
    # The whole run decides on the kind of length field: the short rest of a long run keeps the 16-bit one.
    kinds = np.repeat(np.searchsorted([1 << bits for bits in LENGTH_BITS[:-1]], lengths), pieces)
    size = np.array(LENGTH_BITS)[kinds]
    used = 3 + size + VALUE_BITS
    values = np.repeat(on, pieces) * 255
    tokens = ((4 | kinds) << size | piece_lengths - 1) << VALUE_BITS | values
    words = (tokens << 32 - used).astype(">u4")  # each token at the upper end of 32 bits
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1)
    return bits[np.arange(32) < used[:, None]]


# --- reading ---


@dataclass(frozen=True)
class _Tokens:
    """Where the values of some consecutive tokens are: three arrays [T], in the order of the stream."""

    places: _Ints  # bit where the first value begins
    strides: _Ints  # bits from one value to the next: none in a run
    ends: _Ints  # values of the stream up to the token's end


def _as_bytes(rle: Sequence[int]) -> bytes:
    if not isinstance(rle, Sequence):  # bytes() would take a number for a size
        raise BrushError(f"brush RLE is a list of byte values, not {type(rle).__name__}")
    try:
        data = bytes(rle)
    except (TypeError, ValueError):
        raise BrushError("brush RLE is a list of whole numbers from 0 to 255") from None
    if len(data) * 8 < HEADER_BITS:
        raise BrushError(f"brush RLE begins with 7 bytes of header; there are {len(data)}")
    return data


def _read_tokens(data: bytes, count: int, value_bits: int, length_bits: Sequence[int]) -> Iterator[_Tokens]:
    """Walk the tokens of ``count`` values. Where one begins depends on all before it, hence a loop, and a lean one."""
    padded, available = data + _SLACK, len(data) * 8
    position, done = HEADER_BITS, 0
    while done < count:
        places, strides, ends = array("q"), array("q"), array("q")
        pause = position + _READ_BITS
        while done < count and position < pause:
            byte = position >> 3
            window = int.from_bytes(padded[byte : byte + 4], "big") << (position & 7)  # the token begins at bit 31
            size = length_bits[window >> 29 & 3]
            length = (window >> 29 - size & (1 << size) - 1) + 1
            is_run = window >> 31 & 1
            position += 3 + size
            places.append(position)
            strides.append(0 if is_run else value_bits)
            position += value_bits if is_run else value_bits * length
            done += length
            ends.append(done)
        if position > available:
            raise BrushError(f"brush RLE ends after {len(data)} bytes, before all of its {count} values")
        if done > count:
            raise BrushError(f"brush RLE announces {count} values and holds {done}")
        yield _Tokens(*(np.frombuffer(column, np.int64) for column in (places, strides, ends)))


def _fill(alpha: _Bytes, start: int, data: _Bytes, tokens: _Tokens, value_bits: int) -> int:
    """Write every fourth value to flat ``alpha``; ``start`` values of the stream came before, return how many are done.

    A token is read at its first alpha, which is all there is to a run; what follows in literals comes after that.
    """
    begins = np.concatenate([[start], tokens.ends[:-1]])
    pixels = begins // CHANNELS  # whose alpha is the next one
    counts = tokens.ends // CHANNELS - pixels
    firsts = tokens.places + tokens.strides * (-1 - begins & CHANNELS - 1)
    end = int(tokens.ends[-1])
    alpha[start // CHANNELS : end // CHANNELS] = np.repeat(_values(data, firsts, value_bits), counts)
    literals = np.flatnonzero((tokens.strides > 0) & (counts > 1))
    repeats = counts[literals]
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    places = np.repeat(firsts[literals], repeats) + within * (CHANNELS * value_bits)
    alpha[np.repeat(pixels[literals], repeats) + within] = _values(data, places, value_bits)
    return end


def _values(data: _Bytes, places: _Ints, value_bits: int) -> _Bytes:
    """The values of ``value_bits`` bits that begin at the bits ``places``, at most 255."""
    span = (value_bits + 14) // 8  # bytes that a value can touch
    window = np.zeros(places.size, np.int64)
    for byte in range(span):
        window = window << 8 | data[(places >> 3) + byte]
    values: _Ints = window >> 8 * span - value_bits - (places & 7) & (1 << value_bits) - 1
    return np.minimum(values, 255).astype(np.uint8)
