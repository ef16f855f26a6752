"""The client of Label Studio against a real HTTP server with scripted answers: tokens, retries, words of errors.

What the real Label Studio answers is checked in tests/e2e/test_studio.py.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backend.local.ports import any_free_port
from backend.studio import session as studio_session
from backend.studio.client import Studio, StudioError, StudioUnavailable
from backend.studio.session import token_type

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def jwt(**claims: Any) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{middle}.c2lnbmF0dXJl"


PAT = jwt(token_type="refresh", exp=4_000_000_000)


@dataclass
class Reply:
    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


class Server:
    """Answers with `replies` in turn, and with the last one from then on; remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply()]
        self.choose: Callable[[str, str, Any], Reply] | None = None
        self.asked: list[tuple[str, str, str | None]] = []
        self.cookies: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.asked.append((self.command, self.path, self.headers.get("Authorization")))
                server.cookies.append(self.headers.get("Cookie"))
                if server.choose is not None:
                    reply = server.choose(self.command, self.path, json.loads(body or "null"))
                else:
                    reply = server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]
                time.sleep(reply.delay)
                data = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(data)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):  # it didn't wait for us
                    self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio_session, "RETRY_PAUSES", (0.01, 0.01, 0.01))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (LEGACY, "legacy"),
        ("a.b", "legacy"),
        ("a.b.c", "legacy"),
        ("..", "legacy"),
        ("a.!!!.c", "legacy"),
        (jwt(token_type="refresh"), "refresh"),
        (jwt(exp=1), "refresh"),
        (jwt(token_type="access"), "access"),
    ],
)
def test_kind_of_token(key: str, kind: str) -> None:
    assert token_type(key) == kind


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("localhost:8080", LEGACY, "LABEL_STUDIO_URL is 'localhost:8080'. Set it to"),
        ("", LEGACY, "LABEL_STUDIO_URL is ''"),
        ("ftp://host", LEGACY, "LABEL_STUDIO_URL"),
        ("http://", LEGACY, "LABEL_STUDIO_URL"),
        ("http://host", "  ", "LABEL_STUDIO_API_KEY isn't set. Make a personal access token"),
        ("http://host", jwt(token_type="access"), "access token, which expires"),
    ],
)
def test_settings_that_cannot_work(url: str, key: str, message: str) -> None:
    with pytest.raises(StudioError, match=message.replace(".", r"\.")) as caught:
        Studio(url, key).user()
    assert not isinstance(caught.value, StudioUnavailable)


def test_legacy_token_is_sent_as_it_is(server: Server) -> None:
    server.replies = [Reply(body={"id": 1})]
    assert Studio(server.url + "/", f" {LEGACY}\n").user() == {"id": 1}
    assert server.asked == [("GET", "/api/current-user/whoami", f"Token {LEGACY}")]


def test_netrc_and_cookies_do_not_replace_the_token(
    server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.replies = [Reply(headers={"Set-Cookie": "sessionid=other; Path=/"})]
    studio = Studio(server.url, LEGACY)
    studio.user()
    studio.user()
    assert {header for _, _, header in server.asked} == {f"Token {LEGACY}"}
    assert server.cookies == [None, None]


class Tokens:
    """A Label Studio that exchanges personal access tokens and accepts only the newest access token."""

    def __init__(self, lifetime: float, honoured: bool = True) -> None:
        self.lifetime = lifetime
        self.honoured = honoured
        self.issued = 0

    def __call__(self, method: str, path: str, body: Any) -> Reply:
        if path == "/api/token/refresh/":
            assert body == {"refresh": PAT}
            self.issued += 1
            return Reply(body={"access": self.access(self.issued)})
        return Reply(body={"id": 1})

    def access(self, number: int) -> str:
        # The server's clock is years behind ours, which must not matter.
        return jwt(token_type="access", iat=1_000, exp=1_000 + self.lifetime, number=number)


def test_personal_access_token_is_exchanged_once(server: Server) -> None:
    server.choose = tokens = Tokens(lifetime=300)
    studio = Studio(server.url, PAT)
    for _ in range(3):
        studio.user()
    assert tokens.issued == 1
    assert server.asked[0] == ("POST", "/api/token/refresh/", None)
    assert server.asked[1][2] == f"Bearer {tokens.access(1)}"
    assert studio.authorization() == {"Authorization": f"Bearer {tokens.access(1)}"}


def test_access_token_is_renewed_before_it_expires(server: Server) -> None:
    server.choose = tokens = Tokens(lifetime=0.5)
    studio = Studio(server.url, PAT)
    studio.authorization()
    time.sleep(0.3)
    studio.authorization()
    assert tokens.issued == 1
    time.sleep(0.15)
    studio.authorization()
    assert tokens.issued == 2


def test_threads_share_one_exchange(server: Server) -> None:
    server.choose = tokens = Tokens(lifetime=300)
    studio = Studio(server.url, PAT)
    threads = [threading.Thread(target=studio.user) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tokens.issued == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_access_token_refused_early_is_renewed_once(server: Server, method: str) -> None:
    """A restarted Label Studio may have forgotten what it issued. The refused request was not carried out."""
    tokens = Tokens(lifetime=300)

    def choose(asked: str, path: str, body: Any) -> Reply:
        if path != "/api/token/refresh/" and tokens.issued == 1:
            return Reply(401, {"detail": "Given token not valid for any token type"})
        return tokens(asked, path, body)

    server.choose = choose
    assert Studio(server.url, PAT).session.send(method, "/api/projects/") == {"id": 1}
    assert tokens.issued == 2
    assert [path for asked, path, _ in server.asked if path == "/api/projects/"] == ["/api/projects/"] * 2


def test_token_that_stays_refused_is_an_error(server: Server) -> None:
    server.choose = lambda method, path, body: (
        Reply(body={"access": jwt(token_type="access", iat=0, exp=300)})
        if path == "/api/token/refresh/"
        else Reply(401, {"detail": "no"})
    )
    with pytest.raises(StudioError, match=r"doesn't accept LABEL_STUDIO_API_KEY \(401: no\)"):
        Studio(server.url, PAT).user()
    assert len(server.asked) == 4


DISABLED = "Authentication token no longer valid: legacy token authentication has been disabled for this organization"


@pytest.mark.parametrize(
    ("key", "reply", "error", "words"),
    [
        (LEGACY, Reply(401, {"detail": "Invalid token."}), StudioError, ["401: Invalid token.", "personal access tok"]),
        (LEGACY, Reply(401, {"detail": DISABLED}), StudioError, ["switched legacy tokens off", "Organization"]),
        (PAT, Reply(401, {"detail": "Token is blacklisted"}), StudioError, ["Token is blacklisted", "revoked"]),
        (PAT, Reply(200, {"nothing": 1}), StudioError, ["without a new token"]),
        (LEGACY, Reply(403, {"detail": "Not yours"}), StudioError, ["403", "Not yours", "/api/current-user/whoami"]),
        (LEGACY, Reply(404, "<html>", {"Content-Type": "text/html"}), StudioError, ["404", "Not Found"]),
        (
            LEGACY,
            Reply(400, {"detail": "Validation error", "validation_errors": {"title": ["too short"]}}),
            StudioError,
            ["Validation error", "too short"],
        ),
        (LEGACY, Reply(200, "<html>a login page</html>"), StudioError, ["isn't JSON", "LABEL_STUDIO_URL"]),
        (LEGACY, Reply(200, [1]), StudioError, ["list where an object"]),
        (
            LEGACY,
            Reply(301, "", {"Location": "https://real/"}),
            StudioError,
            ["redirects to https://real/", "Set L"],
        ),
        (LEGACY, Reply(500, {"detail": "boom"}), StudioUnavailable, ["500", "boom"]),
        (LEGACY, Reply(503, ""), StudioUnavailable, ["503", "Service Unavailable"]),
        (LEGACY, Reply(429, {"detail": "slow down"}), StudioUnavailable, ["429", "slow down"]),
        (PAT, Reply(502, ""), StudioUnavailable, ["502"]),
    ],
)
def test_errors_say_what_happened_and_what_to_do(
    server: Server, key: str, reply: Reply, error: type[StudioError], words: list[str]
) -> None:
    server.replies = [reply]
    with pytest.raises(StudioError) as caught:
        Studio(server.url, key).user()
    assert type(caught.value) is error
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.status == reply.status or reply.status == 200
    assert key not in str(caught.value)


def test_long_answers_are_cut_short(server: Server) -> None:
    server.replies = [Reply(400, {"detail": "x" * 100_000})]
    with pytest.raises(StudioError) as caught:
        Studio(server.url, LEGACY).user()
    assert len(str(caught.value)) < 700


def test_reading_is_repeated_while_label_studio_is_unavailable(server: Server) -> None:
    server.replies = [Reply(502, ""), Reply(429, "", {"Retry-After": "0"}), Reply(body={"id": 1})]
    assert Studio(server.url, LEGACY).user() == {"id": 1}
    assert len(server.asked) == 3


def test_reading_is_given_up_after_four_attempts(server: Server) -> None:
    server.replies = [Reply(502, "")]
    with pytest.raises(StudioUnavailable):
        Studio(server.url, LEGACY).user()
    assert len(server.asked) == 4


def test_a_long_pause_that_is_asked_for_is_left_to_the_caller(server: Server) -> None:
    server.replies = [Reply(503, "", {"Retry-After": "3600"})]
    began = time.monotonic()
    with pytest.raises(StudioUnavailable):
        Studio(server.url, LEGACY).user()
    assert len(server.asked) == 1
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", [500, 503, 429])
def test_writing_is_never_repeated(server: Server, status: int) -> None:
    """Label Studio 1.23 has no upsert: a prediction sent twice would be there twice."""
    server.replies = [Reply(status, "")]
    with pytest.raises(StudioUnavailable):
        Studio(server.url, LEGACY).create_prediction(1, {"result": []})
    assert len(server.asked) == 1


def test_timeout(server: Server) -> None:
    server.replies = [Reply(delay=1.0)]
    with pytest.raises(StudioUnavailable, match=r"didn't answer within 0\.1 s"):
        Studio(server.url, LEGACY, timeout=0.1).user()


def test_nobody_listens() -> None:
    with pytest.raises(StudioUnavailable, match=r"can't be reached\. Is Label Studio running"):
        Studio(f"http://127.0.0.1:{any_free_port()}", LEGACY).user()


def test_sub_path_is_kept(server: Server) -> None:
    Studio(server.url + "/annotate/", LEGACY).user()
    assert server.asked[0][1] == "/annotate/api/current-user/whoami"


@pytest.mark.parametrize(("status", "exists", "stored"), [(400, False, False), (404, False, False), (400, True, None)])
def test_prediction_for_a_task_that_is_gone(server: Server, status: int, exists: bool, stored: bool | None) -> None:
    """A refusal means that the task is gone only if it is: a refusal for another reason must not pass as that."""
    server.choose = lambda method, path, body: (
        Reply(status, {"detail": "refused"}) if method == "POST" else Reply(200 if exists else 404, [])
    )
    studio = Studio(server.url, LEGACY)
    if stored is None:
        with pytest.raises(StudioError, match="refused"):
            studio.create_prediction(5, {"result": []})
    else:
        assert studio.create_prediction(5, {"result": []}) is stored


def test_tasks_are_paged_by_id(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.studio.client.PAGE", 2)
    server.replies = [
        Reply(body={"tasks": [{"id": 3}, {"id": 9}]}),
        Reply(body={"tasks": [{"id": 12}, {"id": 13}]}),
        Reply(body={"tasks": []}),
    ]
    assert [task["id"] for task in Studio(server.url, LEGACY).tasks(1)] == [3, 9, 12, 13]
    assert ["%22value%22%3A+9" in path for _, path, _ in server.asked] == [False, True, False]
