"""Which addresses downloads may reach, and the deadline that no trickle of bytes stretches."""

import ipaddress
import socket
import threading
import time
from typing import Any

import pytest

from backend.images.decoding import ImageError, ImageUnavailable
from backend.images.guard import Deadline, Guard, is_public


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("192.0.2.1", False),  # documentation
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),  # carriers' networks
        ("127.0.0.1", False),
        ("169.254.169.254", False),  # where clouds keep a machine's credentials
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("239.255.255.250", False),
        ("255.255.255.255", False),
        ("2606:4700::1111", True),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("::127.0.0.1", False),
        ("2002:7f00:1::", False),  # 6to4 of 127.0.0.1
        ("2002:808:808::", True),
        ("64:ff9b::a00:1", False),  # NAT64 of 10.0.0.1
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::808:808", False),
        ("2001:0:7f00:1::", False),  # Teredo
    ],
)
def test_only_addresses_of_the_public_internet_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A name service: what it does not hold, the real one is asked for (only numbers, in these tests)."""
    table: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def lookup(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host not in table:
            return real(host, port, *args, **options)
        if not table[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for address in table[host] for entry in real(address, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return table


TRUSTED = ("studio", 8080)


@pytest.mark.parametrize(
    ("host", "port", "allowed", "expected"),
    [
        ("example.org", 80, (), ["93.184.215.14"]),
        ("inside.example.org", 80, (), ImageError),
        ("both.example.org", 80, (), ["93.184.215.14"]),
        ("studio", 8080, (), ["10.0.0.7"]),
        ("studio", 6379, (), ImageError),
        ("studio", 6379, ("studio",), ["10.0.0.7"]),
        ("STUDIO.", 6379, ("Studio",), ["10.0.0.7"]),
        ("other", 80, ("studio",), ImageError),
        ("inside.example.org", 80, ("10.0.0.0/8",), ["10.0.0.8"]),
        ("inside.example.org", 80, ("10.0.0.9/16",), ["10.0.0.8"]),
        ("inside.example.org", 80, ("10.0.0.9",), ImageError),
        ("10.0.0.9", 80, ("10.0.0.9",), ["10.0.0.9"]),
        ("[::1]", 80, ("::1",), ["::1"]),
        ("::ffff:10.0.0.9", 80, ("10.0.0.9",), ["::ffff:10.0.0.9"]),
        ("2130706433", 80, (), ImageError),
        ("0x7f.1", 80, (), ImageError),
        ("127.1", 80, (), ImageError),
        ("nowhere.example.org", 80, (), ImageUnavailable),
        ("nowhere.example.org", 80, ("nowhere.example.org",), ImageUnavailable),
        ("a" * 70 + ".org", 80, (), ImageError),
    ],
)
def test_a_host_leads_to_permitted_addresses_only(
    names: dict[str, list[str]], host: str, port: int, allowed: tuple[str, ...], expected: list[str] | type[ImageError]
) -> None:
    names |= {
        "example.org": ["93.184.215.14"],
        "inside.example.org": ["10.0.0.8"],
        "both.example.org": ["10.0.0.8", "93.184.215.14", "127.0.0.1"],
        "studio": ["10.0.0.7"],
        "other": ["192.168.0.1"],
        "nowhere.example.org": [],
    }
    guard = Guard(TRUSTED, allowed)

    if isinstance(expected, list):
        assert guard.addresses(host, port) == expected
    else:
        with pytest.raises(ImageError) as refusal:
            guard.addresses(host, port)
        assert type(refusal.value) is expected


def test_the_next_address_is_tried_where_one_refuses(names: dict[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.3", 0)) as server, Deadline(5) as deadline:
        port = server.getsockname()[1]
        names["twins.test"] = ["127.0.0.4", "127.0.0.3"]
        guard = Guard(TRUSTED, ["127.0.0.0/8"])

        with guard.connect("twins.test", port, 1.0, deadline) as connection:
            assert connection.getpeername() == ("127.0.0.3", port)

        names["twins.test"] = ["127.0.0.4"]
        with pytest.raises(ImageUnavailable, match=rf"cannot connect to twins.test:{port} \(Connection refused\)"):
            guard.connect("twins.test", port, 1.0, deadline)


def test_a_deadline_ends_a_read_that_would_wait_on() -> None:
    here, there = socket.socketpair()
    with here, there, Deadline(0.2) as deadline:
        deadline.watch(here)
        here.settimeout(5)
        begin = time.monotonic()

        assert not deadline.passed
        assert here.recv(1) == b""
        assert deadline.passed
        assert deadline.remaining == 0.001
        assert time.monotonic() - begin < 2


def test_a_connection_opened_after_the_deadline_is_ended_at_once() -> None:
    here, there = socket.socketpair()
    with here, there, Deadline(0.0) as deadline:
        while not deadline.passed:
            time.sleep(0.001)
        deadline.watch(here)

        assert here.recv(1) == b""


def test_a_deadline_that_was_kept_leaves_the_connection_alone_and_no_thread_behind() -> None:
    threads = threading.active_count()
    here, there = socket.socketpair()
    with here, there:
        with Deadline(30) as deadline:
            deadline.watch(here)
        there.send(b"x")

        assert here.recv(1) == b"x"
    assert threading.active_count() == threads
