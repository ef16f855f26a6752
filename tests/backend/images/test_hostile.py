"""The table of hostile inputs: what is tried, and what it gets. SECURITY.md shows the same rows."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import pickle
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from redis import Redis
from rq.exceptions import DeserializationError
from rq.serializers import JSONSerializer

from backend import logs, store
from backend.app import create_app
from backend.images import download
from backend.images.fetcher import ImageError, ImageFetcher, Limits
from backend.predict import Predictor
from backend.queue.jobs import Jobs, SegmentJob
from backend.settings import Settings
from backend.studio.client import SECRET_HEADER, secret_of
from tests.backend.conftest import CONFIG
from tests.backend.site import PIXELS, PNG, TOKEN, Reply, Site, redirect

AUTH = ("ännä", "pässwörd")
LIMITS = Limits(max_bytes=200_000, max_pixels=4_000_000, timeout=1.0)


class World:
    """Label Studio on 127.0.0.1, a stranger's server on 127.0.0.2, names, our routes with a password or without."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.studio, self.stranger = Site("127.0.0.1"), Site("127.0.0.2")
        self.names: dict[str, list[str]] = {}
        self.redis = redis
        self._settings = settings.model_copy(update={"car_wait": 0.0, "car_max_body_bytes": 1_000_000})

    def fetch(self, url: str, *allowed: str) -> str:
        """What the worker says of a task's image: the error, or "fetched". PORT is the stranger's, STUDIO the other."""
        images = ImageFetcher(self.studio.url, lambda: TOKEN, LIMITS, allowed)
        url = self.ports(url)
        try:
            assert images.fetch(url, 5).ndim == 3
        except ImageError as error:
            return str(error)
        return "fetched"

    def ports(self, text: str) -> str:
        return text.replace("PORT", str(self.stranger.port)).replace("STUDIO", str(self.studio.port))

    def client(self, closed: bool) -> FlaskClient:
        settings = self._settings
        if closed:
            secret = Settings(basic_auth_pass=AUTH[1]).basic_auth_pass
            settings = settings.model_copy(update={"basic_auth_user": AUTH[0], "basic_auth_pass": secret})
        return create_app(settings).test_client()

    def jobs(self) -> Jobs:
        return Jobs(self.redis, self._settings)

    def lookup(self, real: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        """A name service that knows `names`, each answer of a name in its turn, and numbers."""

        def lookup(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
            answers = self.names.get(host)
            if answers:
                host = answers.pop(0) if len(answers) > 1 else answers[0]
            return real(host, port, *args, **options)

        return lookup


@pytest.fixture
def world(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    made = World(settings, redis)
    monkeypatch.setattr(socket, "getaddrinfo", made.lookup(socket.getaddrinfo))
    yield made
    made.studio.close()
    made.stranger.close()


@dataclass(frozen=True)
class Attack:
    """One row: what is sent, and the words (or the status) that answer it. `run` does it and tells all that came."""

    kind: str
    sent: str
    answer: str
    run: Callable[[World], str]


PRIVATE = "inside a private network"


def address(url: str, answer: str = PRIVATE) -> Attack:
    """A task's image address; whatever comes of it, the stranger is not even connected to."""

    def run(world: World) -> str:
        world.stranger.otherwise = Reply()
        said = world.fetch(url)
        assert world.stranger.asked == []
        return said

    return Attack("address", f"`{url}`", answer, run)


def confusion(url: str, answer: str) -> Attack:
    """An address that may be read in two ways, where both servers may be reached: no token for the stranger."""

    def run(world: World) -> str:
        said = world.fetch(url, "127.0.0.2")
        assert set(world.stranger.tokens) <= {None}
        return said

    return Attack("address", f"`{url}`", answer, run)


def leads_to(target: str, answer: str = PRIVATE) -> Attack:
    """An image at Label Studio that redirects."""

    def run(world: World) -> str:
        world.stranger.otherwise = Reply()
        world.studio.replies["/cat.png"] = redirect(world.ports(target))
        said = world.fetch("/cat.png")
        assert world.stranger.asked == []
        return said

    return Attack("redirect", f"`{target}`", answer, run)


def _inside_name(world: World) -> str:
    world.names["intranet.test"] = ["10.0.0.8"]
    return world.fetch("http://intranet.test/cat.png")


def _rebinding(world: World) -> str:
    """The first look finds an allowed address; a second one would find Label Studio's neighbour."""
    world.names["rebind.test"] = ["127.0.0.2", "127.0.0.1"]
    world.stranger.otherwise = Reply()
    assert world.fetch("http://rebind.test:PORT/cat.png", "127.0.0.2/32") == "fetched"
    assert len(world.stranger.asked) == 1
    return world.fetch("http://rebind.test:PORT/cat.png", "127.0.0.2/32")


def _chain(world: World) -> str:
    world.studio.replies["/cat.png"] = redirect(f"{world.stranger.url}/step")
    world.stranger.replies["/step"] = redirect("http://169.254.169.254/latest/meta-data/")
    return world.fetch("/cat.png", "127.0.0.2")


def _loop(world: World) -> str:
    world.studio.replies["/cat.png"] = redirect("/cat.png")
    return world.fetch("/cat.png")


def _token_abroad(world: World) -> str:
    world.studio.replies["/cat.png"] = redirect(f"{world.stranger.url}/cat.png")
    world.stranger.otherwise = Reply()
    said = world.fetch("/cat.png", "127.0.0.2")
    return f"{said}, tokens seen there: {[token for token in world.stranger.tokens if token]}"


def _token_back(world: World) -> str:
    world.stranger.otherwise = redirect(f"{world.studio.url}/api/projects/1/export")
    world.studio.otherwise = Reply(403)
    said = world.fetch(f"{world.stranger.url}/cat.png", "127.0.0.2")
    assert world.studio.tokens == [None]
    return said


def _injected_header(world: World) -> str:
    said = world.fetch("/cat.png HTTP/1.1\r\nX-Injected: yes\r\n\r\n")
    assert [path.count("%0D%0A") for path, _ in world.studio.asked] == [1]
    assert "X-Injected" not in world.studio.asked[0][1]
    return said


def answers(sent: str, reply: Callable[[], Reply], answer: str) -> Attack:
    """What the host of an image sends."""

    def run(world: World) -> str:
        world.studio.replies["/cat.png"] = reply()
        return world.fetch("/cat.png")

    return Attack("picture", sent, answer, run)


def picture(sent: str, data: Callable[[], bytes], answer: str) -> Attack:
    return answers(sent, lambda: Reply(parts=(data(),)), answer)


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*one) for one in chunks) + chunk(b"IEND", b"")


def black_png(side: int) -> bytes:
    return png_of(side, side, (b"IDAT", zlib.compress(bytes(side * (side // 8 + 1)), 9)))


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


class Bomb:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/car-unpickled"),)


def config(sent: str, xml: str, answer: str) -> Attack:
    """A labeling config that is sent to /setup, as Label Studio does."""

    def run(world: World) -> str:
        reply = world.client(closed=False).post("/setup", json={"project": "1.1", "schema": xml})
        return f"{reply.status_code}: {reply.json.get('error', 'accepted')}"

    return Attack("config", sent, answer, run)


LAUGHS = "<!DOCTYPE lolz [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY a{n} '{f'&a{n - 1};' * 10 if n else '&a;'}'>" for n in range(10)
)


def body(sent: str, path: str, data: bytes, answer: str, headers: Mapping[str, str] | None = None) -> Attack:
    """A request without password to a backend that has none."""

    def run(world: World) -> str:
        reply = world.client(closed=False).post(
            path, data=data, content_type="application/json", headers=dict(headers or {})
        )
        assert "Traceback" not in reply.text
        assert reply.is_json
        return f"{reply.status_code}: {reply.json.get('error') or reply.text}"

    return Attack("body", f"{sent} to {path}", answer, run)


def login(sent: str, headers: Mapping[str, str], path: str, answer: str = "401") -> Attack:
    """A request to a backend that has a password."""

    def run(world: World) -> str:
        client = world.client(closed=True)
        replies = [client.open(path, method=method, headers=dict(headers)) for method in ("GET", "POST")]
        assert world.redis.llen(store.INBOX) == 0
        return " ".join(sorted({str(reply.status_code) for reply in replies}))

    return Attack("login", f"{sent}: {path}", answer, run)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def queued(sent: str, data: Callable[[], bytes], answer: str) -> Attack:
    """Something that was written into Redis in the place of a job's data."""

    def run(world: World) -> str:
        queue = world.jobs().queues[store.BATCH]
        job = queue.enqueue_call("backend.worker.segment", args=({},), job_id="p1-t1-evil")
        world.redis.hset(job.key, "data", data())
        with pytest.raises((PermissionError, DeserializationError)) as refusal:
            SegmentJob.fetch("p1-t1-evil", world.redis, JSONSerializer).perform()
        return f"{refusal.type.__name__}: {refusal.value}"

    return Attack("Redis", sent, answer, run)


NO_URL = "not the URL of an image"
ATTACKS = [
    address("http://127.0.0.2:PORT/cat.png"),
    address("http://127.0.0.2.:PORT/cat.png"),
    address("http://127.2:PORT/cat.png"),
    address("http://2130706434:PORT/cat.png"),
    address("http://0x7f000002:PORT/cat.png"),
    address("http://0177.0.0.2:PORT/cat.png"),
    address("http://0.0.0.0:PORT/cat.png"),
    address("http://127.0.0.1:6379/"),
    address("http://[::1]:6379/"),
    address("http://[::ffff:127.0.0.2]:PORT/cat.png"),
    address("http://[::ffff:7f00:2]:PORT/cat.png"),
    address("http://[64:ff9b::7f00:2]:PORT/cat.png"),
    address("http://[2002:7f00:2::]:PORT/cat.png"),
    address("http://[fe80::1]/"),
    address("http://[fd00:ec2::254]/latest/meta-data/"),
    address("http://169.254.169.254/latest/meta-data/"),
    address("http://10.0.0.1/"),
    address("http://172.16.0.1/"),
    address("http://192.168.0.1/"),
    address("http://100.64.0.1/"),
    address("http://224.0.0.1/"),
    address("http://①②⑦.⓪.⓪.②:PORT/cat.png", "this is not a valid URL"),
    Attack("address", "a name that leads to 10.0.0.8", PRIVATE, _inside_name),
    Attack("address", "a name that leads elsewhere when looked up again (DNS rebinding)", PRIVATE, _rebinding),
    address("file:///etc/passwd", NO_URL),
    address("../../etc/passwd", NO_URL),
    address("C:\\Windows\\win.ini", NO_URL),
    address("ftp://127.0.0.2/cat.png", NO_URL),
    address("redis://127.0.0.1:6379/0", NO_URL),
    address("javascript:alert(1)", NO_URL),
    address("/data/local-files/?d=../../etc/passwd", "Label Studio answered 404"),
    address("/data/upload/../../../etc/passwd", "Label Studio answered 404"),
    address("/data/upload/1/%2e%2e%2f%2e%2e%2fsecret.png", "Label Studio answered 404"),
    address("http://anna:hush@127.0.0.2:PORT/cat.png", "URLs with a user name and a password"),
    confusion("http://127.0.0.1:STUDIO@127.0.0.2:PORT/cat.png", "URLs with a user name and a password"),
    confusion("http://127.0.0.2:PORT\\@127.0.0.1:STUDIO/cat.png", "127.0.0.2 answered 404"),
    confusion("//127.0.0.2:PORT/cat.png", "127.0.0.2 answered 404"),
    Attack("address", "a line break and a header of its own", "Label Studio answered 404", _injected_header),
    leads_to("http://127.0.0.2:PORT/cat.png"),
    leads_to("http://2130706434:PORT/cat.png"),
    leads_to("//[::ffff:127.0.0.2]:PORT/cat.png"),
    leads_to("http://169.254.169.254/latest/meta-data/"),
    leads_to("file:///etc/passwd", "a redirect leads to file:, which is not fetched"),
    leads_to("gopher://127.0.0.2:PORT/_x", "a redirect leads to gopher:, which is not fetched"),
    leads_to("data:image/png;base64,AAAA", "a redirect leads to data:, which is not fetched"),
    Attack("redirect", "by way of an allowed host to 169.254.169.254", PRIVATE, _chain),
    Attack("redirect", "in a circle", "more than 3 redirects", _loop),
    Attack("redirect", "from Label Studio to a stranger", "fetched, tokens seen there: []", _token_abroad),
    Attack("redirect", "from a stranger into Label Studio's API", "403", _token_back),
    picture("50,000 x 50,000 pixels in 90 bytes", lambda: png_of(50_000, 50_000), "more pixels than Pillow decodes"),
    picture("64 million black pixels in 8 kB", lambda: black_png(8000), "more than the 4,000,000 allowed"),
    picture(
        "100 MB of text in a PNG's comment",
        lambda: png_of(8, 8, (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))),
        "broken or cut short",
    ),
    answers(
        "10 MB packed into 10 kB by the web server",
        lambda: Reply(headers={"Content-Encoding": "gzip"}, parts=(gzip.compress(bytes(10**7)),)),
        "larger than the 200,000 bytes allowed",
    ),
    answers("a terabyte is announced", lambda: Reply(length=10**12), "larger than the 200,000 bytes allowed"),
    answers(
        "a body without end",
        lambda: Reply(parts=(bytes(50_000),) * 100, length=None),
        "larger than the 200,000 bytes allowed",
    ),
    answers("one byte every 0.2 s", lambda: Reply(parts=(b"x",) * 20, pause=0.2), "not fetched within 1 seconds"),
    answers("silence", lambda: Reply(pause=9), "not fetched within 1 seconds"),
    picture("half of an image", lambda: PNG[:45], "broken or cut short"),
    picture("a web page", lambda: b"<!DOCTYPE html><script>x</script>", "a web page, not an image"),
    picture(
        "SVG with an entity that reads /etc/passwd",
        lambda: b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "an SVG drawing",
    ),
    picture("EPS, a program", lambda: saved("EPS"), "not an image that browsers show"),
    picture("PDF", lambda: b"%PDF-1.7\n", "not an image that browsers show"),
    picture("a pickle", lambda: pickle.dumps(Bomb()), "not an image that browsers show"),
    config("entities within entities (billion laughs)", LAUGHS + "]><View>&a9;</View>", "declares entities"),
    config("an entity that reads /etc/passwd", '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><View/>', "400"),
    config("a document type from elsewhere", '<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><View/>', "400"),
    config("50,000 tags in each other", "<View>" * 50_000 + "</View>" * 50_000, "400"),
    config("a preset that is a path", CONFIG.replace("<BrushLabels", '<BrushLabels car_preset="../x"'), "400"),
    config(
        "weights by path",
        CONFIG.replace("<BrushLabels", '<BrushLabels car_weights="/etc/passwd"'),
        "has car_weights; this version knows",
    ),
    body("no JSON", "/predict", b"\xff\xfe", "400"),
    body("a list", "/predict", b"[]", "400"),
    body("100,000 brackets in each other", "/predict", b"[" * 100_000, "400"),
    body("100,000 objects in each other", "/webhook", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "400"),
    body("a number of 10,000 digits", "/webhook", b'{"a": ' + b"9" * 10_000 + b"}", "400"),
    body("a megabyte too much", "/predict", b" " * 1_000_001, "413"),
    body("a megabyte too much", "/webhook", b" " * 1_000_001, "413"),
    body("a packed body", "/predict", gzip.compress(b"{}"), "400", {"Content-Encoding": "gzip"}),
    body("tasks that are no tasks", "/predict", b'{"tasks": [1, null]}', "400"),
    body("ids that are no numbers", "/predict", b'{"tasks": [{"id": {"$gt": 0}}, {"id": 1e999}]}', '"results":[[],[]]'),
    body("an infinite project", "/setup", json.dumps({"project": 1e999, "schema": CONFIG}).encode(), "200"),
    login("no password", {}, "/predict"),
    login("no password", {}, "/setup"),
    login("no password", {}, "/webhook"),
    login("no password", {}, "/health"),
    login("no password", {}, "/versions"),
    login("no password", {}, "/metrics"),
    login("no password", {}, "/status.json"),
    login("no password", {}, "/"),
    login("no password", {}, "/static/style.css"),
    login("no password", {}, "//webhook"),
    login("no password, an address of this machine", {"X-Forwarded-For": "127.0.0.1"}, "/health"),
    login("a wrong password", basic("ännä", "passwort"), "/health"),
    login("a wrong user", basic("anna", "pässwörd"), "/health"),
    login("empty user and password", basic("", ""), "/health"),
    login("letters that no encoding has in common", {"Authorization": "Basic \xff\xfe\x80"}, "/health"),
    login("a megabyte of password", basic("ännä", "x" * 10**6), "/health"),
    login("another scheme", {"Authorization": "Bearer pässwörd"}, "/health"),
    login("the password without its scheme", {"Authorization": "pässwörd"}, "/health"),
    login("a wrong webhook secret", {SECRET_HEADER: "0" * 64}, "/webhook"),
    login("a secret beyond ASCII", {SECRET_HEADER: "\xe4\xff"}, "/webhook"),
    login("the webhook's secret elsewhere", {SECRET_HEADER: secret_of(AUTH)}, "/predict"),
    queued("a job that is a pickle", lambda: zlib.compress(pickle.dumps(Bomb())), "DeserializationError"),
    queued(
        "a job that calls os.system",
        lambda: zlib.compress(json.dumps(["os.system", None, ["true"], {}]).encode()),
        "PermissionError: jobs may only call backend.worker.segment",
    ),
]
assert len({(one.kind, one.sent) for one in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=[f"{one.kind}: {one.sent}" for one in ATTACKS])
def test_a_hostile_input_gets_its_answer(world: World, attack: Attack) -> None:
    said = attack.run(world)
    assert (said == attack.answer) if attack.kind == "login" else (attack.answer in said)
    assert "7c0ffee7" not in said, "Label Studio's token"
    assert "Traceback" not in said
    assert not Path("/tmp/car-unpickled").exists()


def test_the_right_password_opens_each_of_the_doors(world: World) -> None:
    """So that the rows above are refused for their reasons and not for others."""
    client = world.client(closed=True)
    assert client.get("/health", headers=basic(*AUTH)).status_code == 200
    assert client.post("/webhook", headers={SECRET_HEADER: secret_of(AUTH)}, json={}).status_code == 201
    world.stranger.otherwise = Reply()
    assert world.fetch("http://127.0.0.2:PORT/cat.png", "127.0.0.2") == "fetched"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(black_png(16)))), np.zeros((16, 16), bool))


def test_every_route_there_is_asks_for_the_password(world: World) -> None:
    client = world.client(closed=True)
    rules = [re.sub("<[^>]*>", "1", rule.rule) for rule in client.application.url_map.iter_rules()]
    assert {"/", "/health", "/metrics", "/predict", "/setup", "/status.json", "/versions", "/webhook"} <= set(rules)
    for rule in rules:
        statuses = {client.open(rule, method=method).status_code for method in ("GET", "POST", "PUT", "DELETE")}
        assert statuses == {401}, rule


def test_an_unexpected_error_keeps_its_words_to_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/home/car/secrets/token")

    monkeypatch.setattr(Predictor, "predict", broken)
    reply = world.client(closed=False).post("/predict", json={"tasks": []})
    assert (reply.status_code, reply.json) == (
        500,
        {"error": "Unexpected error (FileNotFoundError); the backend's log says more."},
    )


def test_nothing_that_is_sent_makes_a_log_line_of_its_own() -> None:
    record = logging.LogRecord(
        "x", logging.ERROR, "", 0, "project %s", ("1\n2026-01-01 INFO all is well\x1b[2J",), None
    )
    line = logs.Lines("serve", []).format(record)
    assert line.endswith("project 1\\n2026-01-01 INFO all is well\\x1b[2J")


def test_security_md_shows_this_table() -> None:
    """To write it anew: python -m tests.backend.images.test_hostile."""
    text = (Path(__file__).parents[3] / "SECURITY.md").read_text()
    assert table() in text, "run: python -m tests.backend.images.test_hostile"


def table() -> str:
    rows = [f"| {one.kind} | {one.sent} | {one.answer} |" for one in ATTACKS]
    return "\n".join(["| by | what is tried | answer |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(table())
