"""Another try at once for what may pass; and what the cache spares, without showing what is no longer allowed."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.images import download
from backend.images.cache import ImageCache
from backend.images.fetcher import ImageError, ImageFetcher, ImageUnavailable, Limits, fetcher_of
from backend.settings import Settings
from tests.backend.site import PIXELS, PNG, TOKEN, Reply, Site, redirect

HOUR = {"Retry-After": "3600"}
NOW = {"Retry-After": "0"}
CUT = Reply(parts=(PNG[:20],), length=len(PNG))


@pytest.fixture
def studio() -> Iterator[Site]:
    site = Site("127.0.0.1")
    yield site
    site.close()


@pytest.fixture
def stranger() -> Iterator[Site]:
    site = Site("127.0.0.2")
    yield site
    site.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))


@pytest.fixture
def images(studio: Site, tmp_path: Path) -> ImageFetcher:
    cache = ImageCache(tmp_path / "images", 1_000_000, "token")
    return ImageFetcher(studio.url, lambda: TOKEN, allowed_hosts=["127.0.0.2"], cache=cache)


# --- another try ---


@pytest.mark.parametrize(
    ("replies", "asked", "error"),
    [
        ([Reply(500), Reply()], 2, None),
        ([Reply(502), Reply(503), Reply()], 3, None),
        ([CUT, Reply()], 2, None),
        ([Reply(429, NOW), Reply()], 2, None),
        ([Reply(503, {"Retry-After": "soon"}), Reply()], 2, None),
        ([Reply(503, {"Retry-After": "Fri, 01 Jan 2021 00:00:00 GMT"}), Reply()], 2, None),
        ([Reply(500), Reply(500), Reply(500), Reply()], 3, ImageUnavailable),
        ([CUT, Reply(404), Reply()], 2, ImageError),
        ([Reply(429, HOUR), Reply()], 1, ImageUnavailable),
        ([Reply(503, {"Retry-After": "Fri, 01 Jan 2120 00:00:00 GMT"}), Reply()], 1, ImageUnavailable),
        ([Reply(404), Reply()], 1, ImageError),
        ([Reply(403), Reply()], 1, ImageError),
        ([Reply(parts=(b"oops",)), Reply()], 1, ImageError),
        ([redirect("ftp://host/"), Reply()], 1, ImageError),
    ],
)
def test_what_may_pass_is_tried_three_times_and_nothing_else(
    studio: Site, replies: list[Reply], asked: int, error: type[ImageError] | None
) -> None:
    studio.replies["/cat.png"] = replies
    images = ImageFetcher(studio.url, lambda: TOKEN)

    if error is None:
        assert np.array_equal(images.fetch("/cat.png", 5), PIXELS)
    else:
        with pytest.raises(ImageError) as refusal:
            images.fetch("/cat.png", 5)
        assert type(refusal.value) is error
    assert len(studio.asked) == asked


def test_a_host_that_asks_for_a_second_gets_it(studio: Site) -> None:
    studio.replies["/cat.png"] = [Reply(503, {"Retry-After": "1"}), Reply()]
    begun = time.monotonic()

    ImageFetcher(studio.url, lambda: TOKEN).fetch("/cat.png", 5)

    assert time.monotonic() - begun >= 1


def test_all_tries_have_one_deadline(studio: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.3, 0.3))
    studio.replies["/cat.png"] = [Reply(500, pause=0.3), Reply(pause=9)]
    begun = time.monotonic()

    with pytest.raises(ImageUnavailable, match="not fetched within 1 seconds"):
        ImageFetcher(studio.url, lambda: TOKEN, Limits(timeout=1)).fetch("/cat.png", 5)

    assert time.monotonic() - begun < 3
    assert len(studio.asked) == 2


# --- the cache ---


def test_an_upload_is_fetched_once(studio: Site, images: ImageFetcher) -> None:
    studio.replies["/data/upload/3/cat.png"] = Reply(headers={"ETag": '"x"'})
    for _ in range(3):
        assert np.array_equal(images.fetch("/data/upload/3/cat.png", 5), PIXELS)
    assert len(studio.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "/data/local-files/?d=cat.png",
        "/data/upload/3/../../local-files/cat.png",
        "/data/upload/3/%2e%2e%2flocal-files",
        "/data/upload/x/cat.png",
        "/data/upload/3/",
        "s3://bucket/cat.png",
        "http://127.0.0.2:{port}/data/upload/3/cat.png",
    ],
)
def test_anything_else_is_asked_for_again(studio: Site, stranger: Site, images: ImageFetcher, url: str) -> None:
    studio.otherwise = stranger.otherwise = Reply()  # without an ETag
    for _ in range(2):
        images.fetch(url.format(port=stranger.port), 5)
    assert len(studio.asked) + len(stranger.asked) == 2


def test_what_has_not_changed_is_not_sent_again(studio: Site, stranger: Site, images: ImageFetcher) -> None:
    """By way of Label Studio, which is asked each time whether we may; only the storage sees the ETag."""
    studio.replies["/tasks/5/resolve/"] = [redirect(f"{stranger.url}/cat.png?signature={n}") for n in range(3)]
    etag = {"ETag": 'W/"v1"'}
    stranger.replies["/cat.png"] = [Reply(headers=etag), Reply(304, etag, ()), Reply(headers={"ETag": '"v2"'})]

    for _ in range(3):
        assert np.array_equal(images.fetch("s3://bucket/cat.png", 5), PIXELS)

    assert [headers.get("If-None-Match") for _, headers in stranger.asked] == [None, 'W/"v1"', 'W/"v1"']
    assert [headers.get("If-None-Match") for _, headers in studio.asked] == [None] * 3


def test_a_tag_is_shown_to_the_host_that_gave_it_only(studio: Site, stranger: Site, images: ImageFetcher) -> None:
    etag = {"ETag": '"v1"'}
    studio.replies["/tasks/5/resolve/"] = [Reply(headers=etag), redirect(f"{stranger.url}/cat.png")]
    stranger.replies["/cat.png"] = Reply(304, etag, ())

    images.fetch("s3://bucket/cat.png", 5)
    with pytest.raises(ImageError, match="answered 304 instead of the file"):
        images.fetch("s3://bucket/cat.png", 5)

    assert [headers.get("If-None-Match") for _, headers in stranger.asked] == [None]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_no_longer_allowed_is_not_shown_from_the_cache(studio: Site, images: ImageFetcher, status: int) -> None:
    studio.replies["/data/local-files/"] = [Reply(headers={"ETag": '"v1"'}), Reply(status)]
    images.fetch("/data/local-files/?d=cat.png", 5)
    with pytest.raises(ImageError, match=f"answered {status}"):
        images.fetch("/data/local-files/?d=cat.png", 5)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"v1"', "Cache-Control": "private, No-Store"},
        {"ETag": "unquoted"},
        {"ETag": '"' + "x" * 201 + '"'},
        {"ETag": '"a" b'},
        {"ETag": '"\xe4"'},
    ],
)
def test_what_must_not_or_cannot_be_kept_is_not(
    studio: Site, images: ImageFetcher, tmp_path: Path, headers: dict[str, str]
) -> None:
    studio.replies["/cat.png"] = Reply(headers=headers)
    images.fetch("/cat.png", 5)
    assert not (tmp_path / "images").exists()


def test_only_images_are_kept(studio: Site, images: ImageFetcher) -> None:
    studio.replies["/data/upload/3/cat.png"] = [Reply(parts=(b"<!DOCTYPE html>",)), Reply()]
    with pytest.raises(ImageError, match="web page"):
        images.fetch("/data/upload/3/cat.png", 5)
    assert np.array_equal(images.fetch("/data/upload/3/cat.png", 5), PIXELS)


def test_another_token_fetches_for_itself(studio: Site, images: ImageFetcher, tmp_path: Path) -> None:
    studio.replies["/data/upload/3/cat.png"] = [Reply(), Reply(403)]
    images.fetch("/data/upload/3/cat.png", 5)
    other = ImageFetcher(studio.url, dict, cache=ImageCache(tmp_path / "images", 1_000_000, "other token"))
    with pytest.raises(ImageError, match="answered 403"):
        other.fetch("/data/upload/3/cat.png", 5)


def test_the_settings_make_a_fetcher(studio: Site, settings: Settings, tmp_path: Path) -> None:
    """Two workers of one machine, and the doctor, which wants to know whether an image can be had."""
    studio.replies["/data/upload/3/cat.png"] = Reply()
    own = settings.model_copy(update={"label_studio_url": studio.url, "car_image_cache": str(tmp_path)})
    for _ in range(2):
        assert np.array_equal(fetcher_of(own, lambda: TOKEN).fetch("/data/upload/3/cat.png", 5), PIXELS)
    assert len(studio.asked) == 1
    fetcher_of(own, lambda: TOKEN, from_cache=False).fetch("/data/upload/3/cat.png", 5)
    assert len(studio.asked) == 2
    small = own.model_copy(update={"car_max_pixels": 7, "car_image_cache": ""})
    with pytest.raises(ImageError, match="more than the 7 allowed"):
        fetcher_of(small, lambda: TOKEN).fetch("/data/upload/3/cat.png", 5)
