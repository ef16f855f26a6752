"""The fetcher against real servers: one plays Label Studio, one a stranger, each on an address of its own."""

import base64
import gzip
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.images import download
from backend.images.fetcher import ImageError, ImageFetcher, ImageUnavailable, Limits
from tests.backend.site import PIXELS, PNG, TOKEN, Reply, Site, redirect

SECRET = "X-Amz-Signature=5ec2e7"


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Site, Site]]:
    both = Site("127.0.0.1"), Site("127.0.0.2")
    yield both
    for site in both:
        site.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the tries of one download."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))


@pytest.fixture
def studio(sites: tuple[Site, Site]) -> Site:
    """Label Studio."""
    sites[0].replies, sites[0].asked = {}, []
    return sites[0]


@pytest.fixture
def stranger(sites: tuple[Site, Site]) -> Site:
    """Some other server; its address, 127.0.0.2, is as private as any."""
    sites[1].replies, sites[1].asked = {}, []
    return sites[1]


def fetcher(studio: Site, path: str = "", **options: Any) -> ImageFetcher:
    return ImageFetcher(studio.url + path, lambda: TOKEN, **options)


def error_of(images: ImageFetcher, url: str) -> ImageError:
    with pytest.raises(ImageError) as refusal:
        images.fetch(url, 5)
    return refusal.value


# --- where images come from ---


@pytest.mark.parametrize(
    ("path", "url", "asked"),
    [
        ("", "/data/upload/3/ab-cat.png", "/data/upload/3/ab-cat.png"),
        ("", "  /data/upload/3/ab-cat.png\n", "/data/upload/3/ab-cat.png"),
        ("", "/data/upload/3/großes%20Bild 1.png", "/data/upload/3/gro%C3%9Fes%20Bild%201.png"),
        ("", "/data/local-files/?d=a/b%20c.png", "/data/local-files/?d=a/b%20c.png"),
        ("/label", "/data/upload/3/cat.png", "/label/data/upload/3/cat.png"),
        ("/label", "/label/data/upload/3/cat.png", "/label/data/upload/3/cat.png"),
        ("/label/", "/labels/cat.png", "/label/labels/cat.png"),
        ("", "s3://bucket/a/ü.png", "/tasks/5/resolve/?fileuri=czM6Ly9idWNrZXQvYS_DvC5wbmc="),
        ("", "gs://bucket/cat.png", "/tasks/5/resolve/?fileuri=Z3M6Ly9idWNrZXQvY2F0LnBuZw=="),
        ("/label", "azure-blob://box/cat.png", "/label/tasks/5/resolve/?fileuri=YXp1cmUtYmxvYjovL2JveC9jYXQucG5n"),
        ("", "http://127.0.0.1:{port}/data/upload/3/cat.png", "/data/upload/3/cat.png"),
        ("", "HTTP://LocalHost:{port}/data/upload/3/cat.png?x=1#y", "/data/upload/3/cat.png?x=1"),
        ("", "http://localhost.:{port}/cat.png", "/cat.png"),
        ("", "http://[::1]:{port}/cat.png", "/cat.png"),
        ("", "//127.0.0.1:{port}/cat.png", "/cat.png"),
    ],
)
def test_label_studios_images_are_asked_for_there_with_the_token(studio: Site, path: str, url: str, asked: str) -> None:
    studio.replies[asked] = Reply()

    pixels = fetcher(studio, path).fetch(url.format(port=studio.port), 5)

    assert np.array_equal(pixels, PIXELS)
    assert [asked for asked, _ in studio.asked] == [asked]
    assert studio.tokens == [TOKEN["Authorization"]]


def test_a_data_uri_holds_the_image_itself(studio: Site) -> None:
    images = fetcher(studio)
    plain = base64.b64encode(PNG).decode()
    for body in (
        plain,
        plain.rstrip("="),
        plain.replace("+", "%2B").replace("/", "%2F"),
        plain[:40] + "\n " + plain[40:],
    ):
        assert np.array_equal(images.fetch(f"data:image/png;base64,{body}", 5), PIXELS)
    percent = "".join(f"%{byte:02x}" for byte in PNG)
    assert np.array_equal(images.fetch(f"DATA:image/png,{percent}", 5), PIXELS)
    assert studio.asked == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "image: not the URL of an image"),
        ("cat.png", "cat.png: not the URL of an image"),
        ("file:///etc/passwd", "file:///etc/passwd: not the URL of an image"),
        ("C:\\photos\\cat.png", "not the URL of an image"),
        ("ftp://example.org/cat.png", "not the URL of an image"),
        ("javascript:alert(1)", "not the URL of an image"),
        ("redis://host/key", "not the URL of an image"),
        ("$undefined$", "not the URL of an image"),
        ("http://", "not a valid URL"),
        ("http:///cat.png", "not a valid URL"),
        ("http://[::1/cat.png", "not a valid URL"),
        ("http://example.org:99999/cat.png", "not a valid URL"),
        ("http://*.example.org/", "not a valid URL"),
        ("http://user:hush@127.0.0.2/cat.png", "http://127.0.0.2/cat.png: URLs with a user name and a password"),
        ("data:image/png", "data:image/png: the data: URI has no comma"),
        ("data:image/png;base64,&&&&", "data:image/png: the data: URI is not valid base64"),
        ("data:image/png;base64,", "data:image/png: the file is empty"),
        ("data:image/svg+xml,<svg/>", "an SVG drawing"),
        ("data:image/png," + "x" * 2001, "larger than the 2,000 bytes allowed"),
        ("data:image/png;base64," + "x" * 6000, "larger than the 2,000 bytes allowed"),
    ],
)
def test_what_is_no_image_url_is_refused_for_good(studio: Site, url: str, message: str) -> None:
    error = error_of(fetcher(studio, limits=Limits(max_bytes=2000)), url)

    assert message in str(error)
    assert type(error) is ImageError
    assert studio.asked == []


# --- the token stays at home ---


def test_a_stranger_is_asked_without_the_token(studio: Site, stranger: Site) -> None:
    stranger.replies["/cat.png"] = Reply()

    pixels = fetcher(studio, allowed_hosts=["127.0.0.2"]).fetch(stranger.url + "/cat.png?x=1", 5)

    assert np.array_equal(pixels, PIXELS)
    assert stranger.tokens == [None]
    assert stranger.asked[0][0] == "/cat.png?x=1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_presigned_url_is_followed_without_the_token(studio: Site, stranger: Site, status: int) -> None:
    studio.replies["/tasks/5/resolve/"] = redirect(f"{stranger.url}/bucket/cat.png?{SECRET}", status)
    stranger.replies[f"/bucket/cat.png?{SECRET}"] = Reply()

    pixels = fetcher(studio, allowed_hosts=["127.0.0.2"]).fetch("s3://bucket/cat.png", 5)

    assert np.array_equal(pixels, PIXELS)
    assert studio.tokens == [TOKEN["Authorization"]]
    assert stranger.tokens == [None]


def test_the_token_goes_along_a_redirect_within_label_studio(studio: Site) -> None:
    studio.replies["/data/upload/cat.png"] = redirect("../elsewhere/cat.png")
    studio.replies["/data/elsewhere/cat.png"] = redirect(f"http://localhost:{studio.port}/third.png")
    studio.replies["/third.png"] = Reply()

    assert np.array_equal(fetcher(studio).fetch("/data/upload/cat.png", 5), PIXELS)
    assert studio.tokens == [TOKEN["Authorization"]] * 3


def test_the_token_is_not_sent_again_once_a_stranger_had_a_say(studio: Site, stranger: Site) -> None:
    stranger.replies["/cat.png"] = redirect(studio.url + "/api/projects/1/export")
    studio.replies["/api/projects/1/export"] = Reply()

    fetcher(studio, allowed_hosts=["127.0.0.2"]).fetch(stranger.url + "/cat.png", 5)

    assert stranger.tokens == [None]
    assert studio.tokens == [None]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{studio}@127.0.0.2:{stranger}/cat.png",
        "http://127.0.0.2:{stranger}\\@127.0.0.1:{studio}/cat.png",
        "http://127.0.0.1:{studio}\\@127.0.0.2:{stranger}/cat.png",
        "http://127.0.0.2:{stranger}#@127.0.0.1:{studio}/cat.png",
        "http://127.0.0.2:{stranger}?@127.0.0.1:{studio}/cat.png",
        "//127.0.0.2:{stranger}/cat.png",
        "/\\127.0.0.2:{stranger}/cat.png",
        "/data/..//127.0.0.2:{stranger}/cat.png",
        "/@127.0.0.2:{stranger}/cat.png",
        "http://127.0.0.2:{stranger}/http://127.0.0.1:{studio}/cat.png",
        "https://127.0.0.1:{studio}/cat.png",
    ],
)
def test_no_way_of_writing_an_address_gets_the_token_out(studio: Site, stranger: Site, url: str) -> None:
    with pytest.raises(ImageError):
        fetcher(studio, allowed_hosts=["127.0.0.2"]).fetch(url.format(studio=studio.port, stranger=stranger.port), 5)

    assert set(stranger.tokens) <= {None}


def test_a_user_and_password_in_label_studios_own_address_do_not_replace_the_token(studio: Site) -> None:
    studio.replies["/cat.png"] = Reply()
    images = ImageFetcher(studio.url.replace("//", "//user:hush@"), lambda: TOKEN)

    images.fetch("/cat.png", 5)

    assert studio.tokens == [TOKEN["Authorization"]]


def test_what_authorization_raises_passes_through(studio: Site) -> None:
    def refuse() -> dict[str, str]:
        raise LookupError("no token")

    with pytest.raises(LookupError, match="no token"):
        ImageFetcher(studio.url, refuse).fetch("/data/upload/cat.png", 5)


# --- private addresses ---


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2:{port}/cat.png",
        "http://127.0.0.2.:{port}/cat.png",
        "http://127.2:{port}/cat.png",
        "http://2130706434:{port}/cat.png",
        "http://0x7f000002:{port}/cat.png",
        "http://0177.0.0.2:{port}/cat.png",
        "http://[::ffff:127.0.0.2]:{port}/cat.png",
        "http://[::ffff:7f00:2]:{port}/cat.png",
        "http://0.0.0.0:{port}/cat.png",
        "http://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/cat.png",
        "http://127.0.0.1:1/cat.png",
    ],
)
def test_a_private_address_is_not_reached_directly_nor_by_redirect(studio: Site, stranger: Site, url: str) -> None:
    url = url.format(port=stranger.port)
    stranger.replies["/cat.png"] = Reply()
    studio.replies["/data/upload/cat.png"] = redirect(url)

    for start in (url, "/data/upload/cat.png"):
        error = error_of(fetcher(studio), start)
        assert "inside a private network" in str(error)
        assert "CAR_ALLOWED_HOSTS" in str(error)
        assert type(error) is ImageError
    assert stranger.asked == []


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.2/cat.png", "data:image/png;base64,AAAA", "gopher:x"]
)
def test_a_redirect_leads_to_the_web_or_nowhere(studio: Site, target: str) -> None:
    studio.replies["/cat.png"] = redirect(target)

    error = error_of(fetcher(studio), "/cat.png")

    assert "a redirect leads to" in str(error)
    assert type(error) is ImageError


def test_a_name_is_looked_up_once_and_the_address_checked_is_the_one_connected_to(
    studio: Site, stranger: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers with an allowed address first and with Label Studio's neighbours after that."""
    answers = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])
    lookups = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host == "rebind.test":
            lookups.append(host)
            host = next(answers)
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    stranger.replies["/cat.png"] = Reply()
    images = fetcher(studio, allowed_hosts=["127.0.0.2/32"])
    url = f"http://rebind.test:{stranger.port}/cat.png"

    assert np.array_equal(images.fetch(url, 5), PIXELS)
    assert lookups == ["rebind.test"]
    assert stranger.asked[0][1]["Host"] == f"rebind.test:{stranger.port}"
    assert "inside a private network" in str(error_of(images, url))  # the next download asks, and checks, anew


def test_proxies_and_netrc_of_the_environment_are_not_used(
    studio: Site, stranger: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, stranger.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    studio.replies["/cat.png"] = Reply()

    fetcher(studio).fetch("/cat.png", 5)

    assert studio.tokens == [TOKEN["Authorization"]]
    assert stranger.asked == []


# --- refusals and failures ---

STATUSES: list[tuple[int, str, str, type[ImageError]]] = [
    (401, "token (LABEL_STUDIO_API_KEY) is wrong", "not public", ImageError),
    (403, "has no access", "not public", ImageError),
    (404, "gone", "gone", ImageError),
    (410, "gone", "gone", ImageError),
    (400, "answered 400", "answered 400", ImageError),
    (204, "answered 204", "answered 204", ImageError),
    (206, "answered 206", "answered 206", ImageError),
    (304, "answered 304", "answered 304", ImageError),
    (302, "answered 302", "answered 302", ImageError),  # without a Location
    (408, "answered 408", "answered 408", ImageUnavailable),
    (424, "answered 424", "answered 424", ImageUnavailable),
    (429, "answered 429", "answered 429", ImageUnavailable),
    (500, "answered 500", "answered 500", ImageUnavailable),
    (502, "answered 502", "answered 502", ImageUnavailable),
    (503, "answered 503", "answered 503", ImageUnavailable),
]


@pytest.mark.parametrize(("status", "at_home", "elsewhere", "kind"), STATUSES)
def test_a_status_tells_what_is_wrong_and_whether_it_may_pass(
    studio: Site, stranger: Site, status: int, at_home: str, elsewhere: str, kind: type[ImageError]
) -> None:
    body = () if status in (204, 304) else (b'{"detail": "body of the answer"}',)
    studio.replies["/data/upload/cat.png"] = stranger.replies["/cat.png"] = Reply(status, parts=body)
    images = fetcher(studio, allowed_hosts=["127.0.0.2"])

    own = error_of(images, "/data/upload/cat.png")
    foreign = error_of(images, stranger.url + "/cat.png")

    assert str(own).startswith("/data/upload/cat.png: Label Studio answered")
    assert at_home in str(own)
    assert str(foreign).startswith(stranger.url + "/cat.png: 127.0.0.2 answered")
    assert elsewhere in str(foreign)
    assert (type(own), type(foreign)) == (kind, kind)


def hang_up(site: Site) -> Reply:
    return Reply(parts=(PNG[:20],), length=len(PNG))


FAILURES: dict[str, tuple[Reply, Limits, str, type[ImageError]]] = {
    "a page instead of the image": (Reply(parts=(b"<!DOCTYPE html>",)), Limits(), "a web page", ImageError),
    "a truncated file": (Reply(parts=(PNG[:45],)), Limits(), "broken or cut short", ImageError),
    "hung up in the middle": (Reply(parts=(PNG[:20],), length=len(PNG)), Limits(), "broke", ImageUnavailable),
    "larger than announced as allowed": (Reply(length=10**12), Limits(), "larger than", ImageError),
    "larger, unannounced": (
        Reply(parts=(PNG,) * 9, length=None),
        Limits(max_bytes=500),
        "larger than the 500",
        ImageError,
    ),
    "larger once unpacked": (
        Reply(headers={"Content-Encoding": "gzip"}, parts=(gzip.compress(bytes(10_000_000)),)),
        Limits(max_bytes=100_000),
        "larger than the 100,000",
        ImageError,
    ),
    "packed, and broken": (Reply(headers={"Content-Encoding": "gzip"}), Limits(), "broken compression", ImageError),
    "too many pixels": (Reply(), Limits(max_pixels=7), "4 x 2 pixels, more than the 7", ImageError),
    "silence": (Reply(pause=9), Limits(timeout=0.3), "not fetched within 0.3 seconds", ImageUnavailable),
    "a trickle": (
        Reply(parts=tuple(PNG[at : at + 1] for at in range(len(PNG))), pause=0.05),
        Limits(timeout=0.3),
        "not fetched within 0.3 seconds",
        ImageUnavailable,
    ),
    "a trickle of undeclared length": (
        Reply(parts=tuple(PNG[at : at + 1] for at in range(len(PNG))), pause=0.05, length=None),
        Limits(timeout=0.3),
        "not fetched within 0.3 seconds",
        ImageUnavailable,
    ),
}


@pytest.mark.parametrize(("reply", "limits", "message", "kind"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_told_and_told_apart(
    studio: Site, reply: Reply, limits: Limits, message: str, kind: type[ImageError]
) -> None:
    studio.replies["/cat.png"] = reply
    begin = time.monotonic()

    error = error_of(fetcher(studio, limits=limits), "/cat.png")

    assert message in str(error)
    assert type(error) is kind
    assert time.monotonic() - begin < 2


def test_headers_that_trickle_in_do_not_stretch_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000:
                        connection.send(bytes([byte]))
                        time.sleep(0.02)
                except OSError:
                    pass

        thread = threading.Thread(target=trickle)
        thread.start()
        images = ImageFetcher(f"http://127.0.0.1:{server.getsockname()[1]}", dict, Limits(timeout=0.3))
        begin = time.monotonic()

        error = error_of(images, "/cat.png")

        assert "not fetched within 0.3 seconds" in str(error)
        assert type(error) is ImageUnavailable
        assert time.monotonic() - begin < 1
        thread.join()


def test_a_packed_answer_is_unpacked(studio: Site) -> None:
    studio.replies["/cat.png"] = Reply(headers={"Content-Encoding": "gzip"}, parts=(gzip.compress(PNG),))

    assert np.array_equal(fetcher(studio).fetch("/cat.png", 5), PIXELS)


def test_nobody_at_home_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    error = error_of(ImageFetcher(f"http://127.0.0.1:{port}", dict), "/cat.png")

    assert str(error) == f"/cat.png: cannot connect to 127.0.0.1:{port} (Connection refused)"
    assert type(error) is ImageUnavailable


@pytest.mark.parametrize(
    ("allowed", "message"), [(3, None), (2, "more than 2 redirects"), (0, "more than 0 redirects")]
)
def test_redirects_are_counted(studio: Site, allowed: int, message: str | None) -> None:
    for step in range(3):
        studio.replies[f"/{step}"] = redirect(f"/{step + 1}")
    studio.replies["/3"] = Reply()
    images = fetcher(studio, limits=Limits(redirects=allowed))

    if message is None:
        assert np.array_equal(images.fetch("/0", 5), PIXELS)
    else:
        assert message in str(error_of(images, "/0"))
    assert len(studio.asked) == allowed + 1


def test_the_body_of_a_redirect_is_not_waited_for(studio: Site) -> None:
    studio.replies["/cat.png"] = Reply(302, {"Location": "/there.png"}, (b"x", b"y"), pause=9, length=10**12)
    studio.replies["/there.png"] = Reply()

    assert np.array_equal(fetcher(studio, limits=Limits(timeout=2)).fetch("/cat.png", 5), PIXELS)


# --- what messages give away ---


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stranger: Reply(403),
        lambda stranger: Reply(500),
        lambda stranger: Reply(parts=(b"oops",)),
        lambda stranger: Reply(length=10**12),
        lambda stranger: hang_up(stranger),
        lambda stranger: Reply(pause=9),
        lambda stranger: redirect(f"{stranger.url}/cat.png?{SECRET}"),
        lambda stranger: redirect(f"http://127.0.0.2:1/cat.png?{SECRET}"),
        lambda stranger: redirect(f"http://127.0.0.5/cat.png?{SECRET}"),
        lambda stranger: redirect(f"http://nowhere.invalid/cat.png?{SECRET}"),
        lambda stranger: redirect(f"http://[broken/cat.png?{SECRET}"),
        lambda stranger: redirect(f"http://user:{SECRET}@127.0.0.2/"),
        lambda stranger: redirect(f"ftp://127.0.0.2/cat.png?{SECRET}"),
        lambda stranger: redirect(f"https://127.0.0.2:{stranger.port}/cat.png?{SECRET}"),
    ],
)
def test_no_message_and_no_traceback_holds_a_secret(
    studio: Site, stranger: Site, spoil: Callable[[Site], Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", offline(socket.getaddrinfo))
    studio.replies["/tasks/5/resolve/"] = redirect(f"{stranger.url}/cat.png?{SECRET}")
    stranger.replies["/cat.png"] = spoil(stranger)
    images = fetcher(studio, allowed_hosts=["127.0.0.2"], limits=Limits(timeout=0.5))

    for url in ("s3://bucket/cat.png", f"{stranger.url}/cat.png?{SECRET}"):
        error = error_of(images, url)
        text = "".join(traceback.format_exception(error))
        assert "Signature" not in text
        assert "7c0ffee7" not in text
        assert "fileuri" not in text
        assert str(error).startswith(url.partition("?")[0] + ": ")


def test_a_local_file_is_named_by_its_path(studio: Site) -> None:
    error = error_of(fetcher(studio), "/data/local-files/?d=birds/a%20b.jpg&token=hush")

    assert str(error).startswith("/data/local-files/?d=birds/a b.jpg: Label Studio answered 404")
    assert "hush" not in str(error)


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            "{}{}".format,
            st.sampled_from(["http://", "https://", "//", "/", "s3://", "data:", "http://[", "http://127.0.0.2:"]),
            st.text(max_size=40),
        ),
    )
)
def test_whatever_a_task_holds_is_an_image_or_an_image_error(sites: tuple[Site, Site], url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", offline(socket.getaddrinfo))
        error = error_of(fetcher(sites[0], limits=Limits(timeout=5)), url)

    assert "\n" not in str(error)


def offline(real: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """A name service without a network: only numbers have an address."""

    def lookup(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        host.encode("idna")
        return real(host, port, *args, flags=socket.AI_NUMERICHOST, **options)

    return lookup


# --- TLS ---

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBbjCCARSgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIB9qbtOVKjMwU7L
Ttsw+rBiKKg0LUB01rchloUZeldzgTLXCt+gJr6I9QVFxUpGTDTMwgvoaRAKuxKF
F7zw8pijVTBTMCEGA1UdEQQaMBiCCWxvY2FsaG9zdIILc3R1ZGlvLnRlc3QwDwYD
VR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUFN4kqVn2UaUSNau8omZJtlfEHeMwCgYI
KoZIzj0EAwIDSAAwRQIgbLxDnMCgva9W0iTAtcRQ5IkkxwBKipR4R1HlAgdukgwC
IQCr7z1gIOmKBcEDWQxln57qj8Ylo92oKwbTJ5wJGHUjSw==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgFIsFx52u242Gn5H/
MXzsLdzSkjSqGqxNRjbqw6weVryhRANCAASAfam7TlSozMFOy07bMPqwYiioNC1A
dNa3IZaFGXpXc4Ey1wrfoCa+iPUFRcVKRkw0zMIL6GkQCrsShRe88PKY
-----END PRIVATE KEY-----
"""  # for localhost and studio.test, until 2120; it guards nothing but this test


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Site, Path]]:
    """A server with a certificate of its own making, and the file that makes it trusted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site = Site("127.0.0.1", context)
    site.replies["/cat.png"] = Reply()
    yield site, certificate
    site.close()


def test_certificates_are_checked_by_the_name_asked_for(
    secure: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, certificate = secure
    images = ImageFetcher(f"https://localhost:{site.port}", lambda: TOKEN)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)

    error = error_of(images, "/cat.png")
    assert "the certificate of localhost is not trusted" in str(error)
    assert type(error) is ImageError
    assert site.asked == []

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert np.array_equal(images.fetch("/cat.png", 5), PIXELS)
    assert site.tokens == [TOKEN["Authorization"]]

    elsewhere = ImageFetcher(f"https://127.0.0.1:{site.port}", lambda: TOKEN)  # the certificate has no such name
    assert "the certificate of 127.0.0.1 is not trusted" in str(error_of(elsewhere, "/cat.png"))
    assert len(site.asked) == 1


def test_a_deadline_ends_a_trickle_under_tls_too(secure: tuple[Site, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    site, certificate = secure
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    site.replies["/cat.png"] = Reply(parts=tuple(PNG[at : at + 1] for at in range(len(PNG))), pause=0.05)
    images = ImageFetcher(f"https://localhost:{site.port}", dict, Limits(timeout=0.4))

    error = error_of(images, "/cat.png")

    assert "not fetched within 0.4 seconds" in str(error)
    assert type(error) is ImageUnavailable


def test_many_threads_share_a_fetcher(studio: Site) -> None:
    for number in range(8):
        studio.replies[f"/{number}.png"] = Reply(pause=0.05)
    images = fetcher(studio)
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda name=f"/{number}.png": results.append(images.fetch(name, 5)))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 8
    assert all(np.array_equal(pixels, PIXELS) for pixels in results)
