"""Images on a local web server, each of a size of its own that stands in its address, and who holds whose mask.

So a mask of another image is told in two ways: by the size that its regions name, and by their ids.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from tests.e2e.support import Project

WIDTHS = range(64, 256)
HEIGHTS = range(64, 128)


class _Handler(BaseHTTPRequestHandler):
    """Answers /WIDTHxHEIGHT/NAME.png with a grey image of that size."""

    def do_GET(self) -> None:
        width, height = _size_in(self.path)
        body = cv2.imencode(".png", np.full((height, width, 3), 128, np.uint8))[1].tobytes()
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@dataclass
class SizedImages:
    """A running server; every address that it gives out is a new one, and all of them can be read at any time."""

    port: int
    given: int = 0

    def addresses(self, count: int) -> list[str]:
        """Return so many addresses of images that nobody has seen yet."""
        numbers = range(self.given, self.given + count)
        self.given += count
        return [
            f"http://127.0.0.1:{self.port}/{WIDTHS[n // len(HEIGHTS)]}x{HEIGHTS[n % len(HEIGHTS)]}/{n}.png"
            for n in numbers
        ]


@contextmanager
def serve_images() -> Iterator[SizedImages]:
    """Serve images on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SizedImages(server.server_port)
        server.shutdown()


@dataclass(frozen=True)
class Held:
    """How many tasks hold one prediction, of their own image; how many hold none, several, or one of another image."""

    right: int = 0
    missing: int = 0
    doubled: int = 0
    wrong: int = 0


def held(project: Project) -> Held:
    """Read what the tasks of a project hold now."""
    found = {"right": 0, "missing": 0, "doubled": 0, "wrong": 0}
    for task in project.studio.tasks(project.id, whole=True):
        own, address = task["predictions"], task["data"]["image"]
        if not all(is_of(one, address) for one in own):
            found["wrong"] += 1
        else:
            found[("missing", "right", "doubled")[min(len(own), 2)]] += 1
    return Held(**found)


def is_of(prediction: Mapping[str, Any], address: str) -> bool:
    """Whether a prediction with regions was made from the image at this address."""
    regions = prediction["result"]
    sizes = {(region["original_width"], region["original_height"]) for region in regions}
    heads = {region["id"][:8] for region in regions}
    return sizes == {_size_in(address)} and heads == {hashlib.sha256(address.encode()).hexdigest()[:8]}


def await_right(project: Project, count: int, seconds: float = 60) -> int:
    """Wait until so many tasks, which are all, hold what they should; the most wrong ones that were seen on the way."""
    deadline, worst = time.monotonic() + seconds, 0
    while (now := held(project)) != Held(right=count):
        assert time.monotonic() < deadline, f"project {project.id} holds {now}, not {count} right ones"
        worst = max(worst, now.wrong)
        time.sleep(0.2)
    return worst


def add_addresses(project: Project, addresses: Sequence[str]) -> list[int]:
    """Import tasks with these images and return the ids of all tasks of the project."""
    project.studio.import_tasks(project.id, [{"image": address} for address in addresses])
    return [task["id"] for task in project.tasks()]


def _size_in(address: str) -> tuple[int, int]:
    found = re.search(r"/(\d+)x(\d+)/", address)
    assert found is not None
    return int(found[1]), int(found[2])
