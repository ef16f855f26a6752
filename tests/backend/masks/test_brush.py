"""Brush RLE against Label Studio's own converter, and against streams that only a browser would write."""

import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backend.masks import brush
from backend.masks.brush import BrushError


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    """``label_studio_sdk.converter.brush`` by itself: all of the SDK takes seconds and hundreds of megabytes."""
    package = importlib.util.find_spec("label_studio_sdk")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0], "converter", "brush.py")
    spec = importlib.util.spec_from_file_location("label_studio_brush", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blobs(height: int, width: int) -> np.ndarray:
    """Two discs that cover about a quarter of the picture, bool [H, W]."""
    y, x = np.ogrid[:height, :width]
    return ((y - height * 0.3) ** 2 + (x - width * 0.25) ** 2 < (height * 0.22) ** 2) | (
        (y - height * 0.65) ** 2 + (x - width * 0.7) ** 2 < (height * 0.28) ** 2
    )


def one_pixel(height: int, width: int, at: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask.flat[at] = True
    return mask


MASKS = {
    "1 x 1, on": np.ones((1, 1), bool),
    "1 x 1, off": np.zeros((1, 1), bool),
    "first pixel": one_pixel(5, 7, 0),
    "last pixel": one_pixel(5, 7, -1),
    "one pixel in a wide row": one_pixel(1, 40_000, 20_000),
    "all on": np.ones((123, 45), bool),
    "all off": np.zeros((300, 300), bool),
    "one run of 65,536 values": np.ones((128, 128), bool),
    "one run of 65,540 values": np.ones((1, 16_385), bool),
    "two runs of 65,536 values": np.ones((256, 128), bool),
    "checkerboard": np.indices((99, 101)).sum(0) % 2 == 0,
    "columns": np.indices((64, 64))[1] % 3 == 0,
    "more runs than are written at once": np.arange(200_000).reshape(400, 500) % 2 == 0,
    "12 megapixels, two blobs": blobs(3000, 4000),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_bytes_are_label_studios_own_and_come_back(mask: np.ndarray, converter: ModuleType) -> None:
    picture = np.where(mask, 255, 0).astype(np.uint8)

    rle = brush.encode(mask)

    assert rle == converter.mask2rle(picture)
    assert np.array_equal(brush.decode(rle, *mask.shape), picture)


run_lengths = st.lists(st.sampled_from([1, 2, 3, 4, 5, 63, 64, 65, 16_383, 16_384, 16_385]), min_size=1, max_size=30)


@settings(deadline=None)
@given(run_lengths, st.booleans())
def test_every_length_of_run_has_label_studios_bytes(converter: ModuleType, lengths: list[int], first_on: bool) -> None:
    mask = np.repeat((np.arange(len(lengths)) + first_on) % 2 == 1, lengths)[None]
    picture = mask.astype(np.uint8) * 255

    rle = brush.encode(mask)

    assert rle == converter.mask2rle(picture)
    assert np.array_equal(brush.decode(rle, *mask.shape), picture)


@settings(deadline=None)
@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_small_mask_has_label_studios_bytes(converter: ModuleType, mask: np.ndarray) -> None:
    assert brush.encode(mask) == converter.mask2rle(mask.astype(np.uint8) * 255)


def test_whatever_is_not_zero_is_on() -> None:
    soft = np.array([[0, 1, 127], [128, 255, 0]], np.uint8)

    rle = brush.encode(soft)

    assert rle == brush.encode(soft > 0)
    assert brush.decode(rle, 2, 3).tolist() == [[0, 255, 255], [255, 255, 0]]


def test_rows_that_do_not_lie_together_in_memory_are_read_in_order() -> None:
    mask = blobs(40, 60)

    assert brush.encode(mask[::2, ::3].T) == brush.encode(np.ascontiguousarray(mask[::2, ::3].T))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((4, 4), np.int64), "not int64"),
        (np.ones((4, 4), np.float32), "not float32"),
        (np.ones((4, 4, 4), bool), r"\[4, 4, 4\]"),
        (np.ones(4, bool), r"\[4\]"),
        (np.ones((0, 4), bool), "not 0"),
        (np.broadcast_to(np.True_, (1 << 15, 1 << 15)), "not 1073741824"),
    ],
)
def test_what_is_no_mask_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brush.encode(mask)


# --- streams that Label Studio's encoder does not write, but a browser may ---


class Token(NamedTuple):
    run: bool
    kind: int
    values: list[int]  # a run has one value ``length`` times


def pack(tokens: list[Token], value_bits: int = 8, length_bits: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """The stream of these tokens, bit by bit, as the format is described."""
    count = sum(len(token.values) for token in tokens)
    bits = f"{count:032b}{value_bits - 1:05b}" + "".join(f"{size - 1:04b}" for size in length_bits)
    for token in tokens:
        bits += f"{int(token.run)}{token.kind:02b}{len(token.values) - 1:0{length_bits[token.kind]}b}"
        bits += "".join(f"{value:0{value_bits}b}" for value in (token.values[:1] if token.run else token.values))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


@st.composite
def streams(
    draw: st.DrawFn, value_bits: st.SearchStrategy[int], sizes: st.SearchStrategy[int]
) -> tuple[list[int], list[int]]:
    """A stream of random tokens, and its values."""
    bits = draw(value_bits)
    length_bits = tuple(draw(sizes) for _ in range(4))
    value = st.integers(0, (1 << bits) - 1)
    tokens = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.integers(0, 3))
        length = draw(st.integers(1, min(1 << length_bits[kind], 300)))
        run = draw(st.booleans())
        values = [draw(value)] * length if run else draw(st.lists(value, min_size=length, max_size=length))
        tokens.append(Token(run, kind, values))
    short = -sum(len(token.values) for token in tokens) % 4  # whole pixels
    tokens += [Token(False, 0, [draw(value)]) for _ in range(short)]
    return pack(tokens, bits, length_bits), [value for token in tokens for value in token.values]


@settings(deadline=None)
@given(streams(st.integers(1, 32), st.integers(1, 16)))
def test_any_stream_of_the_format_is_read(stream: tuple[list[int], list[int]]) -> None:
    rle, values = stream

    alpha = brush.decode(rle, 1, len(values) // 4)

    assert alpha.dtype == np.uint8
    assert alpha.tolist() == [[min(value, 255) for value in values[3::4]]]


@settings(deadline=None)
@given(streams(st.just(8), st.integers(1, 16)))
def test_label_studio_reads_these_streams_alike(converter: ModuleType, stream: tuple[list[int], list[int]]) -> None:
    rle, values = stream

    expected = converter.decode_rle(rle).reshape(1, -1, 4)[:, :, 3]

    assert np.array_equal(brush.decode(rle, 1, len(values) // 4), expected)


def test_a_coloured_soft_stroke_as_the_canvas_gives_it() -> None:
    alpha = np.clip(300 - np.hypot(*np.indices((200, 300)) - [[[100]], [[150]]]) * 4, 0, 255).astype(np.uint8)
    rgba = (
        np.dstack([np.full_like(alpha, 255), np.full_like(alpha, 102), np.full_like(alpha, 51), alpha]).ravel().tolist()
    )
    tokens = [Token(False, 3, rgba[at : at + 65_536]) for at in range(0, len(rgba), 65_536)]

    assert np.array_equal(brush.decode(pack(tokens), 200, 300), alpha)


def test_a_long_stream_is_read_in_pieces_without_a_seam() -> None:
    rng = np.random.default_rng(7)
    lengths = rng.integers(1, 9, 120_000)
    lengths[-1] += -lengths.sum() % 4
    values = rng.integers(0, 256, lengths.size)
    bits = "".join(
        f"100{length - 1:03b}{value:08b}" for length, value in zip(lengths.tolist(), values.tolist(), strict=True)
    )
    bits = f"{lengths.sum():032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}{bits}"
    rle = list(int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big"))

    assert brush.decode(rle, 1, int(lengths.sum()) // 4).ravel().tolist() == np.repeat(values, lengths)[3::4].tolist()


def test_no_pixels_are_no_pixels() -> None:
    assert brush.decode(pack([]), 0, 5).shape == (0, 5)


# --- broken ones ---

DISC = brush.encode(blobs(30, 40))
FOUR, EIGHT = Token(True, 0, [255] * 4), Token(True, 1, [255] * 8)
BROKEN: dict[str, tuple[Any, int, int, str]] = {
    "nothing": ([], 30, 40, "there are 0"),
    "half a header": (DISC[:6], 30, 40, "there are 6"),
    "the header alone": (DISC[:7], 30, 40, "ends after 7 bytes"),
    "the last byte but one missing": (DISC[:-2], 30, 40, "before all of its 4800 values"),
    "the last three bits missing": (pack([FOUR])[:-1], 1, 1, "ends after 8 bytes"),
    "cut in the middle": (DISC[: len(DISC) // 2], 30, 40, "before all of its 4800 values"),
    "height and width of another image": (DISC, 30, 41, "has 4800 values, an image of 41 x 30 pixels 4920"),
    "a negative size": (DISC, -30, -40, "an image of -40 x -30"),
    "four thousand million values announced": ([255] * 4 + DISC[4:], 30, 40, "has 4294967295 values"),
    "a run past the end": ([0, 0, 0, 8, *pack([FOUR, EIGHT])[4:]], 1, 2, "announces 8 values and holds 12"),
    "a literal past the end": (
        [0, 0, 0, 4, *pack([Token(False, 1, [9] * 8)])[4:]],
        1,
        1,
        "announces 4 values and holds 8",
    ),
    "no bytes": ([1, 2, 300, 4, 5, 6, 7, 8], 1, 1, "from 0 to 255"),
    "negative bytes": ([-1] * 9, 1, 1, "from 0 to 255"),
    "fractions": ([0.5] * 9, 1, 1, "from 0 to 255"),
    "no list": (None, 1, 1, "not NoneType"),
    "a number": (10**15, 1, 1, "not int"),
    "a text": ("[1, 2, 3]", 1, 1, "from 0 to 255"),
    "points": ([[1, 2], [3, 4]], 1, 1, "from 0 to 255"),
}


@pytest.mark.parametrize(("rle", "height", "width", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_refused(rle: Any, height: int, width: int, message: str) -> None:
    with pytest.raises(BrushError, match=message):
        brush.decode(rle, height, width)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 50), st.integers(0, 50))
def test_garbage_is_refused_or_read_but_nothing_else(garbage: bytes, height: int, width: int) -> None:
    rle = list((height * width * 4).to_bytes(4, "big") + garbage)
    with contextlib.suppress(BrushError):
        assert brush.decode(rle, height, width).shape == (height, width)


# --- the region ---


def test_a_region_has_all_that_label_studio_asks_for() -> None:
    mask = blobs(6, 9)

    result = brush.region(mask, "felis", "tag", "image", np.float32(0.75), "ab12")  # type: ignore[arg-type]

    assert json.loads(json.dumps(result)) == {
        "id": "ab12",
        "from_name": "tag",
        "to_name": "image",
        "type": "brushlabels",
        "original_width": 9,
        "original_height": 6,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": brush.encode(mask), "brushlabels": ["felis"]},
        "score": 0.75,
    }
    assert "score" not in brush.region(mask, "felis", "tag", "image", None, "ab12")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((4, 5), bool), "'cat' is empty"),
        (np.zeros((0, 5), bool), "'cat' is empty"),
        (np.ones((2, 4, 5), bool), r"\[2, 4, 5\]"),
        (np.ones((4, 5)), "float64"),
    ],
)
def test_a_region_that_nobody_would_see_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brush.region(mask, "cat", "tag", "image", 0.5, "id")


# --- figures ---


def seconds(work: Callable[[], object]) -> float:
    """The processor's seconds of the fastest of seven runs: others share the machine."""
    times = []
    for _ in range(7):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def test_twelve_megapixels_take_a_few_times_as_long_as_finding_their_runs() -> None:
    """Measured: runs in 1.8 ms, encoded in 10, decoded in 10."""
    mask = blobs(3000, 4000)
    rle = brush.encode(mask)
    runs = seconds(lambda: np.flatnonzero(np.diff(mask.ravel())))

    assert seconds(lambda: brush.encode(mask)) < 20 * runs
    assert seconds(lambda: brush.decode(rle, 3000, 4000)) < 40 * runs


def test_the_worst_mask_takes_little_memory_beside_its_result() -> None:
    """A checkerboard of a million runs: their bits alone would take 32 MB and their tokens' numbers 100 MB at once."""
    script = """if True:
        import resource
        import numpy as np
        from backend.masks import brush
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        mask = (np.arange(1000, dtype=np.uint8)[:, None] ^ np.arange(1000, dtype=np.uint8)) & 1
        before = peak()
        brush.decode(brush.encode(mask), 1000, 1000)
        print(peak() - before)
    """
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert float(run.stdout) < 80  # 36 measured, 176 if all runs were written at once; the list itself is 14


def test_nothing_but_numpy_is_imported() -> None:
    script = (
        "import sys, numpy as np, numpy.typing; before = set(sys.modules); import backend.masks.brush;"
        "print({name.split('.')[0] for name in set(sys.modules) - before} - {'numpy', *sys.stdlib_module_names})"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "{'backend'}"
