"""The image cache: whole or nothing, never over its limit, shared by processes, and no help to a stranger."""

import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.images import cache as image_cache
from backend.images.cache import ImageCache
from backend.images.download import File

ADDRESS = "http://studio/data/upload/1/cat.png"
FILE = File(b"pixels\nand more", '"v1"', "studio:80")


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "images", 100_000, "token")


def used(cache: ImageCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.iterdir())


def only_file(cache: ImageCache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


def test_what_is_put_in_comes_out(cache: ImageCache) -> None:
    assert cache.get(ADDRESS) is None
    cache.put(ADDRESS, FILE)
    assert cache.get(ADDRESS) == FILE
    cache.put(ADDRESS, File(b"newer"))
    assert cache.get(ADDRESS) == File(b"newer")


def test_it_is_this_users_only_and_names_tell_nothing(cache: ImageCache) -> None:
    cache.put(ADDRESS, FILE)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert only_file(cache).stat().st_mode & 0o777 == 0o600
    assert len(only_file(cache).name) == 64
    assert b"data/upload" not in only_file(cache).read_bytes()


@pytest.mark.parametrize(
    ("address", "token"),
    [(ADDRESS, "other token"), (ADDRESS + "?", "token"), ("http://studio/tasks/2/resolve/?fileuri=a", "token")],
    ids=["another token", "another address", "the same file by way of another task"],
)
def test_nobody_else_finds_it(cache: ImageCache, address: str, token: str) -> None:
    cache.put(ADDRESS, FILE)
    cache.put("http://studio/tasks/1/resolve/?fileuri=a", FILE)
    assert ImageCache(cache.folder, cache.limit, token).get(address) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: b"",
        lambda stored: stored[:-1],
        lambda stored: stored + b"x",
        lambda stored: stored.replace(b"pixels", b"Pixels"),
        lambda stored: stored.replace(b"v1", b"v2"),
        lambda stored: stored.replace(b"studio:80", b"strange:80"),
        lambda stored: b"pixels",
        lambda stored: b"[]\npixels",
        lambda stored: b'{"tag": 1, "host": 2, "seal": null}\npixels',
        lambda stored: b"\xff\n\xff",
    ],
    ids=[
        "emptied",
        "cut",
        "longer",
        "another pixel",
        "another tag",
        "host",
        "no head",
        "list",
        "kinds",
        "bytes",
    ],
)
def test_what_is_damaged_is_never_read_and_goes(
    cache: ImageCache, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(ADDRESS, FILE)
    path = only_file(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(ADDRESS) is None
    assert list(cache.folder.iterdir()) == []
    assert "damaged" in caplog.text


def test_a_file_under_another_name_is_not_believed(cache: ImageCache) -> None:
    cache.put(ADDRESS, FILE)
    other = cache._path("http://studio/data/upload/1/dog.png")
    only_file(cache).rename(other)
    assert cache.get("http://studio/data/upload/1/dog.png") is None


def test_who_cannot_seal_cannot_forge(cache: ImageCache) -> None:
    cache.put(ADDRESS, FILE)
    forger = ImageCache(cache.folder, cache.limit, "guess")
    seal = forger._seal(ADDRESS, File(b"forged"))
    only_file(cache).write_bytes(json.dumps({"tag": "", "host": "", "seal": seal}).encode() + b"\nforged")
    assert cache.get(ADDRESS) is None


def test_the_least_recently_used_goes_and_the_limit_holds(cache: ImageCache) -> None:
    for number in range(6):
        cache.put(str(number), File(bytes(13_000)))
        os.utime(cache._path(str(number)), (number, number))
    assert cache.get("0") is not None  # used now, so no longer the oldest
    cache.put("6", File(bytes(13_000)))
    assert [number for number in range(7) if cache.get(str(number)) is None] == [1]
    for number in range(30):
        cache.put(f"more {number}", File(bytes(1000 * number)))
        assert used(cache) <= cache.limit


@pytest.mark.parametrize(("size", "kept"), [(80_000, True), (87_500, False), (200_000, False)])
def test_one_image_does_not_empty_it(cache: ImageCache, size: int, kept: bool) -> None:
    cache.put("small", File(b"x"))
    cache.put("large", File(bytes(size)))
    assert (cache.get("large") is not None) is kept
    assert cache.get("small") is not None


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "images", 0, "")
    cache.put(ADDRESS, File(b""))
    assert cache.get(ADDRESS) is None
    assert not cache.folder.exists()


def test_what_a_killed_worker_left_half_written_is_removed_in_time(cache: ImageCache) -> None:
    cache.put(ADDRESS, FILE)
    left, fresh = cache.folder / ".part-left", cache.folder / ".part-fresh"
    for part in (left, fresh):
        part.write_bytes(b"half an im")
    os.utime(left, (0, time.time() - image_cache.FORGOTTEN_SECONDS - 1))
    cache.put("other", File(bytes(5000)))
    assert not left.exists()
    assert fresh.exists(), "somebody is writing it"


def test_what_another_worker_is_writing_is_not_removed_to_make_room(cache: ImageCache) -> None:
    cache.put(ADDRESS, FILE)
    part = cache.folder / ".part-abc"
    part.write_bytes(b"half")
    os.utime(part, (time.time() - 30,) * 2)  # used longer ago than all others
    for number in range(30):
        cache.put(f"{ADDRESS}?{number}", File(bytes(9_000)))
    assert part.exists()
    assert used(cache) <= 100_000


@pytest.mark.parametrize("step", ["mkstemp", "write", "replace", "scandir", "folder"])
def test_a_disk_that_is_full_or_broken_is_a_log_line(
    cache: ImageCache, step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "write":
        monkeypatch.setattr(os, "fdopen", lambda number, mode: Refusing(number))
    elif step == "folder":
        cache.folder.write_bytes(b"a file")
    else:
        monkeypatch.setattr(image_cache.tempfile if step == "mkstemp" else os, step, full)
    with caplog.at_level(logging.WARNING):
        cache.put(ADDRESS, FILE)
        assert cache.get(ADDRESS) is None
    assert "image" in caplog.text
    assert cache.folder.is_file() or list(cache.folder.iterdir()) == [], "nothing half written is left"


class Refusing(io.FileIO):
    """A file on a full disk."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w")

    def write(self, data: object) -> int:
        raise OSError(28, "No space left on device")


BUSY = """
import random, sys
from pathlib import Path
from backend.images.download import File
from backend.images.cache import ImageCache
chance = random.Random(sys.argv[2])
cache, hits = ImageCache(Path(sys.argv[1]), 400_000, "token"), 0
for _ in range(600):
    number = chance.randrange(40)
    file = cache.get(str(number))
    if file is None:
        cache.put(str(number), File(bytes([number]) * (5_000 + 500 * number)))
    else:
        hits += 1
        assert set(file.data) == {number}, "a mixture of two files"
        assert len(file.data) == 5_000 + 500 * number, "half of a file"
print(hits)
"""


def test_processes_share_it(cache: ImageCache) -> None:
    """Forty files of 600 kB together in 400 kB: both write, read and remove the same ones all the time."""
    command = [sys.executable, "-c", BUSY, str(cache.folder)]
    both = [
        subprocess.Popen([*command, seed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for seed in "ab"
    ]
    for process in both:
        hits, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert int(hits) > 100
    assert used(cache) <= 400_000
    assert not list(cache.folder.glob(".part-*"))
