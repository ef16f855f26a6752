"""HTTP to one Label Studio: the two kinds of token, retries, and errors that say what to do.

`backend.studio.client.Studio` is what the rest of the backend uses; this module holds what every call has in common.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

RETRY_PAUSES = (0.25, 0.5, 1.0)
"""Seconds to wait before each further attempt of a request that may be repeated."""

LONGEST_RETRY_AFTER = 5.0
"""A server may ask for a longer pause (seconds); the caller then hears `StudioUnavailable` and waits itself."""

_WHERE_TOKENS_ARE = (
    "Make a personal access token in Label Studio (your initials, top right > Account & Settings > Personal Access "
    "Token) and set LABEL_STUDIO_API_KEY to it. A legacy token from the same page works too, where the organization "
    "allows legacy tokens."
)


class StudioError(Exception):
    """Label Studio refused, and will refuse again; `status` is the HTTP status, or None when there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class StudioUnavailable(StudioError):
    """Label Studio can't answer now, but may later: connection refused, timeout, 429 or 5xx."""


def token_type(api_key: str) -> str:
    """Return what kind of key this is: `legacy`, `refresh` (a personal access token) or `access` (five minutes).

    A JSON Web Token names its own kind; whatever isn't one is a legacy token, whose form is free.
    """
    claims = _claims(api_key)
    if claims is None:
        return "legacy"
    return "access" if claims.get("token_type") == "access" else "refresh"


def _claims(token: str) -> dict[str, Any] | None:
    """Return what a JSON Web Token says about itself (unverified), or None when it isn't one."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _lifetime(access: str) -> float:
    """Return for how long an access token holds, in seconds; no time at all when it doesn't say.

    The difference of its two times is taken, since both come from one clock and ours may be wrong.
    """
    claims = _claims(access) or {}
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int | float) or not isinstance(expires, int | float):
        return 0.0
    return max(float(expires - issued), 0.0)


class _Header(AuthBase):
    """Sets the Authorization header last, so that an entry in ~/.netrc can't replace it."""

    def __init__(self, header: Mapping[str, str]) -> None:
        self.header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self.header)
        return request


class StudioSession:
    """Authorized requests to one Label Studio. Safe to share between threads."""

    def __init__(self, url: str, api_key: str, timeout: float = 10.0) -> None:
        """`url` is Label Studio's address as a browser opens it (a sub-path is kept), `timeout` is in seconds.

        Raises StudioError when the address can't be one.
        """
        self.url = url.strip().rstrip("/")
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise StudioError(
                f"LABEL_STUDIO_URL is {url!r}. Set it to the address of Label Studio, for example http://localhost:8080."
            )
        self.timeout = timeout
        self._api_key = api_key.strip()
        self._kind = token_type(self._api_key)
        self._lock = threading.Lock()
        self._access = ""
        self._renew_at = 0.0
        self._http = requests.Session()
        # No cookies at all: a session cookie would decide who we are in place of the token.
        self._http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def authorization(self) -> dict[str, str]:
        """Return the header that authorizes a request: a legacy token, or a current access token.

        A personal access token is exchanged at /api/token/refresh/ (Label Studio 1.23: valid for five minutes) and
        renewed after four fifths of that. Raises StudioError when there is no usable token, and StudioError or
        StudioUnavailable when the exchange fails. (Not before: what needs no Label Studio works without a token.)
        """
        if not self._api_key:
            raise StudioError(f"LABEL_STUDIO_API_KEY isn't set. {_WHERE_TOKENS_ARE}")
        if self._kind == "access":
            raise StudioError(
                f"LABEL_STUDIO_API_KEY holds an access token, which expires after minutes. {_WHERE_TOKENS_ARE}"
            )
        if self._kind == "legacy":
            return {"Authorization": f"Token {self._api_key}"}
        with self._lock:
            if time.monotonic() >= self._renew_at:
                self._exchange()
            return {"Authorization": f"Bearer {self._access}"}

    def _exchange(self) -> None:
        asked_at = time.monotonic()
        answer = self._send("POST", "/api/token/refresh/", {}, repeat=True, json={"refresh": self._api_key})
        if answer.status_code in (400, 401, 403):
            raise StudioError(
                f"{self.url} doesn't accept the personal access token in LABEL_STUDIO_API_KEY "
                f"({answer.status_code}: {_what_it_said(answer)}). It may be revoked, expired or of another Label "
                f"Studio. {_WHERE_TOKENS_ARE}",
                answer.status_code,
            )
        body = self.decoded(answer)
        if not isinstance(body, dict) or not isinstance(body.get("access"), str):
            raise StudioError(f"{self.url} answered the exchange of the personal access token without a new token.")
        self._access = body["access"]
        self._renew_at = asked_at + 0.8 * _lifetime(self._access)

    def _forget(self, header: Mapping[str, str]) -> None:
        """Drop the access token that was refused, unless another thread has renewed it meanwhile."""
        with self._lock:
            if header.get("Authorization") == f"Bearer {self._access}":
                self._renew_at = 0.0

    def get(self, path: str, **options: Any) -> Any:
        """GET `path` and return the decoded JSON; repeated a few times while Label Studio is unavailable."""
        return self.decoded(self.respond("GET", path, **options))

    def send(self, method: str, path: str, **options: Any) -> Any:
        """Send a request that changes something, once, and return the decoded JSON (None when the body is empty)."""
        return self.decoded(self.respond(method, path, **options))

    def respond(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send one authorized request and return the answer, whatever its status below 500 but 429.

        `options` are those of `requests`. Raises StudioUnavailable, or StudioError for 401 (every other refusal is
        the caller's to judge: a 404 is often good news).
        """
        repeat = method == "GET"
        header = self.authorization()
        answer = self._send(method, path, header, repeat=repeat, **options)
        if answer.status_code == 401 and self._kind == "refresh":
            # Refused before anything was done, so that even a POST may be sent again, with a fresh token.
            self._forget(header)
            answer = self._send(method, path, self.authorization(), repeat=repeat, **options)
        if answer.status_code == 401:
            raise self._unauthorized(answer)
        return answer

    def _send(
        self, method: str, path: str, header: Mapping[str, str], *, repeat: bool, **options: Any
    ) -> requests.Response:
        pauses = RETRY_PAUSES if repeat else ()
        options.setdefault("timeout", self.timeout)
        for pause in (*pauses, None):
            asked = 0.0
            try:
                answer = self._http.request(
                    method, self.url + path, auth=_Header(header), allow_redirects=False, **options
                )
            except requests.exceptions.SSLError as error:
                raise StudioError(
                    f"The certificate of {self.url} isn't trusted: {error}. "
                    "Set REQUESTS_CA_BUNDLE to the file with its authority's certificate."
                ) from error
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = StudioUnavailable(self._no_answer(error))
            except requests.RequestException as error:
                raise StudioError(f"The request to {self.url} can't be sent: {error}") from error
            else:
                if answer.status_code < 500 and answer.status_code != 429:
                    return answer
                problem = StudioUnavailable(
                    f"{self.url} answered {method} {path} with {answer.status_code}: {_what_it_said(answer)}",
                    answer.status_code,
                )
                asked = _retry_after(answer)
            if pause is None or asked > LONGEST_RETRY_AFTER:
                raise problem
            time.sleep(max(pause, asked))
        raise AssertionError("unreachable")

    def _no_answer(self, error: requests.RequestException) -> str:
        if isinstance(error, requests.Timeout):
            return f"{self.url} didn't answer within {self.timeout:g} s."
        return f"{self.url} can't be reached. Is Label Studio running, and is LABEL_STUDIO_URL right as seen from here?"

    def _unauthorized(self, answer: requests.Response) -> StudioError:
        said = _what_it_said(answer)
        if "legacy" in said.lower():
            fix = (
                "This organization has switched legacy tokens off. Use a personal access token, or switch them on in "
                "Label Studio under Organization > Access Token Settings. " + _WHERE_TOKENS_ARE
            )
        else:
            fix = _WHERE_TOKENS_ARE
        return StudioError(f"{self.url} doesn't accept LABEL_STUDIO_API_KEY (401: {said}). {fix}", 401)

    def decoded(self, answer: requests.Response) -> Any:
        """Return the JSON of a good answer. Raises StudioError for any other."""
        status = answer.status_code
        if 300 <= status < 400:
            raise StudioError(
                f"{self.url} redirects to {answer.headers.get('Location', 'somewhere else')}. "
                "Set LABEL_STUDIO_URL to the address that Label Studio itself answers at.",
                status,
            )
        if status >= 400:
            raise StudioError(f"Label Studio answered {status} to {_asked(answer)}: {_what_it_said(answer)}", status)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise StudioError(
                f"{_asked(answer)} was answered with something that isn't JSON. "
                "Is LABEL_STUDIO_URL really the address of Label Studio?",
                status,
            ) from error


def _asked(answer: requests.Response) -> str:
    return f"{answer.request.method} {answer.url}"


def _retry_after(answer: requests.Response) -> float:
    """Return the pause that the server asks for, in seconds; 0 when it doesn't, or asks with a date."""
    try:
        return float(answer.headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0


def _what_it_said(answer: requests.Response) -> str:
    """Return Label Studio's own words about a refusal, shortened to a line.

    Label Studio 1.23 puts them into `detail`, and the faults of single fields into `validation_errors`.
    """
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        parts = [body.get("detail"), body.get("validation_errors")]
        said = "; ".join(part if isinstance(part, str) else json.dumps(part) for part in parts if part)
        said = said or json.dumps(body)
    elif body is not None:
        said = json.dumps(body)
    else:
        said = answer.reason or "no words"
    said = " ".join(said.split())
    return said if len(said) <= 500 else said[:497] + "..."
