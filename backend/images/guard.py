"""The way out for downloads: which addresses may be reached, and for how long.

A task's image URL is written by whoever imports tasks, and the worker often stands inside a private network. So each
connection looks its host up once, drops the addresses that are not public, and connects to one that is left: there is
no second lookup that could answer differently, and redirects pass the same gate because they open connections too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from backend.images.decoding import ImageError, ImageUnavailable

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0  # the longest silence; the deadline bounds the whole

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Deadline:
    """Ends the connections opened under it when the time is up, however slowly their bytes trickle in.

    A socket's own timeout starts anew with each byte. This one shuts the socket down from a timer, which ends any read
    at once; ``passed`` then tells why. Looking up a name cannot be interrupted; the resolver's own timeout holds there.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._watched: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()  # before the sockets close: their numbers may be given to others
        for watched in self._watched:
            watched.close()

    @property
    def remaining(self) -> float:
        """Seconds left, never less than a millisecond (zero would mean "do not wait" to a socket)."""
        return max(self._end - time.monotonic(), 0.001)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    def watch(self, connection: socket.socket) -> None:
        """End ``connection`` with the deadline; a duplicate is kept, which stays valid under TLS."""
        self._watched.append(connection.dup())
        if self.passed:
            self._shut()

    def _shut(self) -> None:
        for watched in list(self._watched):
            with contextlib.suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)


class Guard:
    """Decides which addresses a download may connect to: public ones, ``trusted`` (host, port), and ``allowed_hosts``.

    ``allowed_hosts`` has host names (exact), addresses and networks such as ``10.1.0.0/16``.
    """

    def __init__(self, trusted: tuple[str, int], allowed_hosts: Collection[str] = ()) -> None:
        self._trusted = trusted
        self._names = {name.lower().rstrip(".") for name in allowed_hosts}
        self._networks = []
        for entry in allowed_hosts:
            with contextlib.suppress(ValueError):  # a name
                self._networks.append(ipaddress.ip_network(entry, strict=False))

    def addresses(self, host: str, port: int) -> list[str]:
        """Look ``host`` up and return the addresses that may be connected to.

        Raises ImageUnavailable if it has none at all, ImageError if none of them may be reached.
        """
        name = host.strip("[]").rstrip(".").lower()
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise ImageError(f"{name!r} is not a host name") from None
        except OSError as error:
            raise ImageUnavailable(f"the host {name} is not known ({error.strerror})") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if (name, port) == self._trusted or name in self._names:
            return addresses
        permitted = [address for address in addresses if self._permits(ipaddress.ip_address(address))]
        if not permitted:
            raise ImageError(
                f"{name} is an address inside a private network, which image URLs must not reach; "
                f"if it is one of yours, add {name} to CAR_ALLOWED_HOSTS"
            )
        return permitted

    def connect(self, host: str, port: int, timeout: float | None, deadline: Deadline) -> socket.socket:
        """Open a connection to a permitted address of ``host``, which ``deadline`` then watches."""
        problem = ""
        for address in self.addresses(host, port):
            seconds = min(CONNECT_SECONDS if timeout is None else timeout, deadline.remaining)
            try:
                connection = create_connection(
                    (address, port), seconds, socket_options=HTTPConnection.default_socket_options
                )
            except OSError as error:
                problem = error.strerror or "timed out"
                continue
            deadline.watch(connection)
            return connection
        raise ImageUnavailable(f"cannot connect to {host}:{port} ({problem})")

    def _permits(self, address: _Address) -> bool:
        return is_public(address) or any(
            candidate in network for network in self._networks for candidate in (address, _inner(address))
        )


def is_public(address: _Address) -> bool:
    """Whether an address belongs to the public internet, also the IPv4 address that some IPv6 addresses carry."""
    if address in _LOCAL_NAT64:
        return False
    inner = _inner(address)
    if isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local:
        return False
    return inner.is_global and not (inner.is_multicast or inner.is_reserved or inner.is_unspecified)


def _inner(address: _Address) -> _Address:
    """The IPv4 address inside a mapped, 6to4 or NAT64 one; any other as it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class GuardedAdapter(HTTPAdapter):
    """A requests transport whose connections all pass ``guard`` and end with ``deadline``. Knows no proxies."""

    def __init__(self, guard: Guard, deadline: Deadline) -> None:
        self._pools = _pool_classes(
            lambda connection: guard.connect(connection._dns_host, connection.port, connection.timeout, deadline)
        )
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make urllib3's pools, with our connections in them."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools


def _pool_classes(connect: Callable[[Any], socket.socket]) -> dict[str, type[HTTPConnectionPool]]:
    class Http(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class Https(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return connect(self)

    class HttpPool(HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(HTTPSConnectionPool):
        ConnectionCls = Https

    return {"http": HttpPool, "https": HttpsPool}
