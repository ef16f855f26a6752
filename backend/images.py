"""The safe way to a task's image: from wherever Label Studio shows it, within limits, and with the token kept home.

=================================  ===================================================================================
``/data/upload/..``, any ``/..``   from Label Studio, also where it is installed under a path of its host
``http(s)://`` Label Studio        the same
``s3:// gs:// azure-blob://``      Label Studio resolves it for the task (``/tasks/ID/resolve/``): redirect or file
``http(s)://`` elsewhere           from there, without the token, from public or allowed addresses only
``data:``                          from the URL itself
=================================  ===================================================================================

Label Studio's token goes to Label Studio's own address and nowhere else, and never again once a redirect has led away.
Messages name an image without the query of its URL, where presigned URLs keep their secrets.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from urllib.parse import parse_qs, unquote_to_bytes, urljoin, urlsplit

import numpy as np
import numpy.typing as npt
import requests
from urllib3.exceptions import HTTPError

from backend.decoding import ImageError, ImageUnavailable, Limits, decode_image
from backend.guard import CONNECT_SECONDS, READ_SECONDS, Deadline, Guard, GuardedAdapter

__all__ = ["ImageError", "ImageFetcher", "ImageUnavailable", "Limits", "decode_image"]

CLOUD_SCHEMES = ("s3", "gs", "azure-blob")
PASSING = (408, 424, 425, 429)  # and all 5xx; with 424 Label Studio says that the storage behind it failed

_LOOPBACK = ("127.0.0.1", "localhost", "::1")  # people write either for the same Label Studio
_PORTS = {"http": 80, "https": 443}


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
    ) -> None:
        parts = urlsplit(studio_url.rstrip("/"))
        self._host = parts.netloc.rpartition("@")[2]
        self._root = f"{parts.scheme}://{self._host}"
        self._path = parts.path
        self._origin = _origin(self._root)
        self._authorization = authorization
        self._limits = limits
        self._guard = Guard((parts.hostname or "", self._origin[2]), allowed_hosts)

    def fetch(self, url: str, task_id: int) -> npt.NDArray[np.uint8]:
        """Fetch and decode the image at ``url``, the value in the task's data; ``task_id`` resolves cloud URIs.

        Returns uint8 [H, W, 3] RGB at the size and the way up that the browser shows.

        Raises ImageUnavailable if it may work later, ImageError if not.
        """
        url = str(url or "").strip()
        try:
            data = self._inline(url) if _scheme(url) == "data" else self._download(self._locate(url, task_id))
            return decode_image(data, self._limits)
        except ImageError as error:
            raise type(error)(f"{_shown(url)}: {error}") from None

    def _inline(self, url: str) -> bytes:
        """The bytes inside a data: URI."""
        if len(url) > 3 * self._limits.max_bytes:  # the longest way to write bytes is %XX
            raise self._too_large()
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
            raise self._too_large()
        return data

    def _locate(self, url: str, task_id: int) -> str:
        """The absolute http(s) URL where the image of a task is to be asked for."""
        if url.startswith("//"):
            return f"{self._origin[0]}:{url}"
        if url.startswith("/"):
            inside = self._path and url.startswith(self._path + "/")  # Label Studio may write its own path already
            return self._root + ("" if inside else self._path) + url
        if _scheme(url) in CLOUD_SCHEMES:
            uri = base64.urlsafe_b64encode(url.encode()).decode()
            return f"{self._root}{self._path}/tasks/{task_id}/resolve/?fileuri={uri}"
        if _scheme(url) not in _PORTS:
            raise ImageError(
                "not the URL of an image, which begins with /data/, http(s)://, s3://, gs://, azure-blob:// or "
                "data:image/; for files on a disk add a local files storage to the project"
            )
        return url

    def _download(self, url: str) -> bytes:
        """The bytes of the file at ``url``, redirects followed by hand.

        The transport is used without a requests.Session, which would take proxies and passwords from the environment,
        and read the body of a redirect to its end, however long that is.
        """
        with Deadline(self._limits.timeout) as deadline, closing(GuardedAdapter(self._guard, deadline)) as transport:
            base, at_home = "", True
            for _ in range(self._limits.redirects + 1):
                request = self._request(base, url)
                base = request.url or ""
                at_home = at_home and _origin(base) == self._origin
                if at_home:
                    request.headers.update(self._authorization())
                with self._answer(transport, request, deadline) as response:
                    if not response.is_redirect:
                        return self._body(response, at_home, deadline)
                    url = response.headers["Location"].encode("latin-1").decode(errors="replace")
            raise ImageError(f"more than {self._limits.redirects} redirects")

    def _request(self, base: str, url: str) -> requests.PreparedRequest:
        """The request for ``url``, seen from ``base``, without the token.

        Label Studio's own URLs are led to the address by which we know it, whichever name they use.
        """
        headers = {"User-Agent": "clip-as-rnn-backend", "Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            url = urljoin(base, url)
            if _scheme(url) not in _PORTS:
                raise ImageError(f"a redirect leads to {_scheme(url)}:, which is not fetched")
            request = requests.Request("GET", url, headers).prepare()
            parts = urlsplit(request.url or "")
            own = _origin(request.url or "") == self._origin
        except ValueError:  # requests.exceptions.InvalidURL is one
            raise ImageError("this is not a valid URL" if not base else "a redirect leads to an invalid URL") from None
        if "@" in parts.netloc:
            raise ImageError("URLs with a user name and a password are not fetched; browsers do not show them either")
        if own:
            request.url = parts._replace(netloc=self._host).geturl()
        return request

    @contextmanager
    def _answer(
        self, transport: GuardedAdapter, request: requests.PreparedRequest, deadline: Deadline
    ) -> Iterator[requests.Response]:
        """Send ``request``; what goes wrong on the network, also while the body is read, becomes an ImageError."""
        host = urlsplit(request.url or "").hostname
        timeout = (min(CONNECT_SECONDS, deadline.remaining), min(READ_SECONDS, deadline.remaining))
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        try:
            with transport.send(request, stream=True, timeout=timeout, verify=verify) as response:
                yield response
        except (requests.RequestException, HTTPError) as error:
            if deadline.passed:
                raise self._too_slow() from None
            raise _network_error(error, host or "") from None

    def _body(self, response: requests.Response, at_home: bool, deadline: Deadline) -> bytes:
        if response.status_code != 200:
            raise _refusal(response, at_home)
        if (response.raw.length_remaining or 0) > self._limits.max_bytes:
            raise self._too_large()
        body = bytearray()
        for chunk in response.iter_content(1 << 16):
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise self._too_large()
        if deadline.passed:  # a body of undeclared length just ends when the deadline shuts its connection
            raise self._too_slow()
        return bytes(body)

    def _too_large(self) -> ImageError:
        return ImageError(f"the file is larger than the {self._limits.max_bytes:,} bytes allowed")

    def _too_slow(self) -> ImageUnavailable:
        return ImageUnavailable(f"not fetched within {self._limits.timeout:g} seconds")


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    return scheme.lower() if colon else ""


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port; all names of this machine's loopback are one host. Raises ValueError for a bad port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port


def _shown(url: str) -> str:
    """``url`` for messages: without query, fragment, user and password; the path of a local file is kept."""
    if _scheme(url) == "data":
        return url[:40].partition(",")[0].partition(";")[0]
    try:
        parts = urlsplit(url)
    except ValueError:
        return "image"
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    if parts.path.endswith("/data/local-files/"):
        shown += "".join(f"?d={path}" for path in parse_qs(parts.query).get("d", [])[:1])
    return shown[:200] or "image"


def _network_error(error: Exception, host: str) -> ImageError:
    """Ours for what requests raised. Its text is not passed on: it quotes the URL, query and all."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ImageError(
            f"the certificate of {host} is not trusted; for an authority of your own set REQUESTS_CA_BUNDLE to its file"
        )
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return ImageError(f"{host} sends the file in a broken compression")
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return ImageUnavailable(f"{host} does not answer in time")
    if isinstance(error, ValueError):  # InvalidURL and its like
        return ImageError("this is not a valid URL")
    return ImageUnavailable(f"the connection to {host} broke ({type(error).__name__})")


def _refusal(response: requests.Response, at_home: bool) -> ImageError:
    """What a status other than 200 means."""
    status = response.status_code
    who = "Label Studio" if at_home else urlsplit(response.url or "").hostname
    if status in PASSING or status >= 500:
        return ImageUnavailable(f"{who} answered {status}")
    if status in (401, 403) and at_home:
        return ImageError(
            f"Label Studio answered {status}: the token (LABEL_STUDIO_API_KEY) is wrong, or its user has no access to "
            "the project"
        )
    if status in (401, 403):
        return ImageError(f"{who} answered {status}: the file is not public (Label Studio's token is not sent there)")
    if status in (404, 410) and at_home:
        return ImageError(
            f"Label Studio answered {status}: the file is gone, or no storage connected to the project holds it"
        )
    if status in (404, 410):
        return ImageError(f"{who} answered {status}: the file is gone")
    return ImageError(f"{who} answered {status} instead of the file")
