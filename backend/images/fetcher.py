"""The safe way to a task's image: from wherever Label Studio shows it, within limits, and with the token kept home.

=================================  ===================================================================================
``/data/upload/..``, any ``/..``   from Label Studio, also where it is installed under a path of its host
``http(s)://`` Label Studio        the same
``s3:// gs:// azure-blob://``      Label Studio resolves it for the task (``/tasks/ID/resolve/``): redirect or file
``http(s)://`` elsewhere           from there, without the token, from public or allowed addresses only
``data:``                          from the URL itself
=================================  ===================================================================================

With a cache (`backend.images.cache`) an upload is fetched once: Label Studio never changes one. For anything else the
host is asked each time, and may answer that the file is still the one with the ETag we have; so access is checked
anew, and only the bytes are spared. What comes without an ETag is not kept.

Messages name an image without the query of its URL, where presigned URLs keep their secrets.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlsplit

import numpy as np
import numpy.typing as npt

from backend.images.cache import ImageCache
from backend.images.decoding import ImageError, ImageUnavailable, Limits, decode_image
from backend.images.download import PORTS, Downloader, origin, scheme, too_large
from backend.images.guard import Guard
from backend.settings import Settings

__all__ = ["ImageError", "ImageFetcher", "ImageUnavailable", "Limits", "decode_image", "fetcher_of"]

CLOUD_SCHEMES = ("s3", "gs", "azure-blob")


class ImageFetcher:
    """Fetches the images of tasks. One fetcher serves any number of threads.

    ``studio_url`` is Label Studio as this process reaches it; ``authorization`` gives the headers that let us in, and
    whatever it raises passes through. ``allowed_hosts`` are names, addresses or networks (``minio``, ``10.1.0.0/16``)
    of this installation that images may come from although they are not public.
    """

    def __init__(
        self,
        studio_url: str,
        authorization: Callable[[], Mapping[str, str]],
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        allowed_hosts: Collection[str] = (),
        cache: ImageCache | None = None,
    ) -> None:
        parts = urlsplit(studio_url.rstrip("/"))
        self._root = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._path = parts.path
        self._origin = origin(self._root)
        self._limits = limits
        self._cache = cache
        guard = Guard((parts.hostname or "", self._origin[2]), allowed_hosts)
        self._downloader = Downloader(self._root, authorization, guard, limits)

    def fetch(self, url: str, task_id: int) -> npt.NDArray[np.uint8]:
        """Fetch and decode the image at ``url``, the value in the task's data; ``task_id`` resolves cloud URIs.

        Returns uint8 [H, W, 3] RGB at the size and the way up that the browser shows.

        Raises ImageUnavailable if it may work later, ImageError if not.
        """
        url = str(url or "").strip()
        try:
            if scheme(url) == "data":
                return decode_image(self._inline(url), self._limits)
            return self._image_at(self._locate(url, task_id))
        except ImageError as error:
            raise type(error)(f"{_shown(url)}: {error}") from None

    def _image_at(self, address: str) -> npt.NDArray[np.uint8]:
        """The image at an absolute URL, by way of the cache. Only what could be decoded is kept."""
        if self._cache is None:
            return decode_image(self._downloader.get(address).data, self._limits)
        known = self._cache.get(address)
        file = known if known is not None and not known.tag else self._downloader.get(address, known)
        image = decode_image(file.data, self._limits)
        if self._is_upload(address):
            file = known or replace(file, tag="")
        elif not file.tag:
            return image
        if file is not known:
            self._cache.put(address, file)
        return image

    def _is_upload(self, address: str) -> bool:
        """Whether ``address`` is a file that was uploaded to Label Studio, which gives each a name of its own."""
        path = urlsplit(address).path
        folder, _, name = path.removeprefix(f"{self._path}/data/upload/").partition("/")
        name = unquote(name)
        plain = folder.isdecimal() and name not in ("", ".", "..") and not set(name) & set("/\\")
        return plain and address.startswith(f"{self._root}{self._path}/data/upload/")

    def _inline(self, url: str) -> bytes:
        """The bytes inside a data: URI."""
        if len(url) > 3 * self._limits.max_bytes:  # the longest way to write bytes is %XX
            raise too_large(self._limits)
        head, comma, body = url.partition(",")
        if not comma:
            raise ImageError("the data: URI has no comma, so no data")
        data = unquote_to_bytes(body)
        if head.lower().endswith(";base64"):
            try:
                data = b"".join(data.split())
                data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
            except binascii.Error:
                raise ImageError("the data: URI is not valid base64") from None
        if len(data) > self._limits.max_bytes:
            raise too_large(self._limits)
        return data

    def _locate(self, url: str, task_id: int) -> str:
        """The absolute http(s) URL where the image of a task is to be asked for."""
        if url.startswith("//"):
            return f"{self._origin[0]}:{url}"
        if url.startswith("/"):
            inside = self._path and url.startswith(self._path + "/")  # Label Studio may write its own path already
            return self._root + ("" if inside else self._path) + url
        if scheme(url) in CLOUD_SCHEMES:
            uri = base64.urlsafe_b64encode(url.encode()).decode()
            return f"{self._root}{self._path}/tasks/{task_id}/resolve/?fileuri={uri}"
        if scheme(url) not in PORTS:
            raise ImageError(
                "not the URL of an image, which begins with /data/, http(s)://, s3://, gs://, azure-blob:// or "
                "data:image/; for files on a disk add a local files storage to the project"
            )
        return url


def fetcher_of(
    settings: Settings, authorization: Callable[[], Mapping[str, str]], *, from_cache: bool = True
) -> ImageFetcher:
    """The fetcher that the settings ask for; without `from_cache` every image is really fetched."""
    limits = Limits(settings.car_max_bytes, settings.car_max_pixels, settings.car_image_timeout)
    cache = None
    if from_cache and settings.car_image_cache:
        token = settings.label_studio_api_key.get_secret_value()
        cache = ImageCache(Path(settings.car_image_cache), settings.car_image_cache_bytes, token)
    return ImageFetcher(settings.label_studio_url, authorization, limits, settings.car_allowed_hosts, cache)


def _shown(url: str) -> str:
    """``url`` for messages: without query, fragment, user and password, on one line; a local file's path is kept."""
    if scheme(url) == "data":
        shown = url.partition(",")[0].partition(";")[0][:40]
    else:
        shown = _without_secrets(url)[:200] or "image"
    return "".join(letter if letter.isprintable() else " " for letter in shown)


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    if parts.path.endswith("/data/local-files/"):
        shown += "".join(f"?d={path}" for path in parse_qs(parts.query).get("d", [])[:1])
    return shown
