"""One file over HTTP(S): redirects by hand, the token only at home, within limits, and again for what may pass.

Label Studio's token goes to Label Studio's own address and nowhere else, and never again once a redirect has led away.
What goes wrong becomes an ImageError whose words hold neither the query of a URL nor what a library said of it.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from backend.images.decoding import ImageError, ImageUnavailable, Limits
from backend.images.guard import CONNECT_SECONDS, READ_SECONDS, Deadline, Guard, GuardedAdapter

PORTS = {"http": 80, "https": 443}
PASSING = (408, 424, 425, 429)  # and all 5xx; with 424 Label Studio says that the storage behind it failed

PAUSES = (0.2, 0.8)
"""Seconds before the second and the third try, spread by a half: what fails for longer is the job's to try again."""
LONGEST_WAIT = 5.0
"""Seconds that a host may ask us to wait (Retry-After) and be asked again here."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")  # people write either for the same Label Studio
_TAG = re.compile(r'(W/)?"[!#-~]{1,200}"')

Origin = tuple[str, str, int]
"""Scheme, host and port."""


@dataclass(frozen=True)
class File:
    """A downloaded file, and the ETag by which ``host`` (with its port) tells whether it has changed; "" for none."""

    data: bytes
    tag: str = ""
    host: str = ""


class Downloader:
    """Downloads files. ``home`` is Label Studio's scheme://host:port, where ``authorization`` gives the headers."""

    def __init__(self, home: str, authorization: Callable[[], Mapping[str, str]], guard: Guard, limits: Limits) -> None:
        self._netloc = urlsplit(home).netloc
        self._origin = origin(home)
        self._authorization = authorization
        self._guard = guard
        self._limits = limits

    def get(self, url: str, known: File | None = None) -> File:
        """The file at ``url``, or ``known`` itself when its host says that it has not changed.

        Raises ImageUnavailable if it may work later, ImageError if not. One deadline holds for all tries together.

        The transport is used without a requests.Session, which would take proxies and passwords from the environment,
        and read the body of a redirect to its end, however long that is.
        """
        with Deadline(self._limits.timeout) as deadline, closing(GuardedAdapter(self._guard, deadline)) as transport:
            for pause in PAUSES:
                try:
                    return self._try(transport, url, known, deadline)
                except ImageUnavailable as error:
                    wait = error.wait or pause * random.uniform(0.5, 1.5)
                    if deadline.passed or wait > min(LONGEST_WAIT, deadline.remaining):
                        raise
                time.sleep(wait)
            return self._try(transport, url, known, deadline)

    def _try(self, transport: GuardedAdapter, url: str, known: File | None, deadline: Deadline) -> File:
        base, at_home = "", True
        for _ in range(self._limits.redirects + 1):
            request = self._request(base, url)
            base = request.url or ""
            host = urlsplit(base).netloc
            at_home = at_home and origin(base) == self._origin
            if at_home:
                request.headers.update(self._authorization())
            asked = known if known is not None and known.tag and known.host == host else None
            if asked is not None:
                request.headers["If-None-Match"] = asked.tag
            with self._answer(transport, request, deadline) as response:
                if asked is not None and response.status_code == 304:
                    return asked
                if not response.is_redirect:
                    return File(self._body(response, at_home, deadline), _tag(response), host)
                url = response.headers["Location"].encode("latin-1").decode(errors="replace")
        raise ImageError(f"more than {self._limits.redirects} redirects")

    def _request(self, base: str, url: str) -> requests.PreparedRequest:
        """The request for ``url``, seen from ``base``, without the token.

        Label Studio's own URLs are led to the address by which we know it, whichever name they use.
        """
        headers = {"User-Agent": "clip-as-rnn-backend", "Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            url = urljoin(base, url)
            if scheme(url) not in PORTS:
                raise ImageError(f"a redirect leads to {scheme(url)}:, which is not fetched")
            request = requests.Request("GET", url, headers).prepare()
            parts = urlsplit(request.url or "")
            own = origin(request.url or "") == self._origin
        except ValueError:  # requests.exceptions.InvalidURL is one
            raise ImageError("this is not a valid URL" if not base else "a redirect leads to an invalid URL") from None
        if "@" in parts.netloc:
            raise ImageError("URLs with a user name and a password are not fetched; browsers do not show them either")
        if own:
            request.url = parts._replace(netloc=self._netloc).geturl()
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
            raise too_large(self._limits)
        body = bytearray()
        for chunk in response.iter_content(1 << 16):
            body += chunk
            if len(body) > self._limits.max_bytes:
                raise too_large(self._limits)
        if deadline.passed:  # a body of undeclared length just ends when the deadline shuts its connection
            raise self._too_slow()
        return bytes(body)

    def _too_slow(self) -> ImageUnavailable:
        return ImageUnavailable(f"not fetched within {self._limits.timeout:g} seconds")


def too_large(limits: Limits) -> ImageError:
    """The error for a file beyond ``limits.max_bytes``."""
    return ImageError(f"the file is larger than the {limits.max_bytes:,} bytes allowed")


def scheme(url: str) -> str:
    """What stands before the first colon, in small letters; "" without one."""
    before, colon, _ = url.partition(":")
    return before.lower() if colon else ""


def origin(url: str) -> Origin:
    """Where ``url`` leads; all names of this machine's loopback are one host. Raises ValueError for a bad port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port


def _tag(response: requests.Response) -> str:
    """The ETag of an answer that may be kept, "" if there is none, or none that could be sent back."""
    if "no-store" in response.headers.get("Cache-Control", "").lower():
        return ""
    tag = response.headers.get("ETag", "")
    return tag if _TAG.fullmatch(tag) else ""


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
        return ImageUnavailable(f"{who} answered {status}", wait=_retry_after(response))
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


def _retry_after(response: requests.Response) -> float:
    """Seconds for which the answer asks us to wait, 0 if it does not say (or not so that one could understand it)."""
    try:
        return Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (InvalidHeader, OverflowError, ValueError):
        return 0.0
