"""A stub of Label Studio over real HTTP: it answers, fails and forgets as Label Studio 1.23 was measured to.

What the backend calls is served on the public port: images, predictions of a task, single and bulk creation (no
upsert: the same prediction twice is there twice; one unknown task refuses the whole batch), deletion, the token
check. What Label Studio itself does is asked for on the control port: `import` tells the backend of new tasks by one
webhook, waits a second and never repeats it; `retrieve` asks for predictions and keeps what comes back.

Requests may be slow, fail with 500, or lose their connection before or after the work is done (`Faults`). `gone`
closes the public port with all its connections and drops what Label Studio itself was doing; `back` opens it again.
The data stay.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import requests
from PIL import Image

from tests.load.shelf import Faults, Refused, Shelf

HOST = "127.0.0.1"
TOKEN = "stub-token"
PROJECT = 1
LABELS = ("cat", "dog", "moai")
CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    + "".join(f'<Label value="{label}"/>' for label in LABELS)
    + "</BrushLabels></View>"
)
WEBHOOK_TIMEOUT = 1.0
PREDICT_TIMEOUT = 100.0
"""Seconds, as in Label Studio 1.23."""


class StubStudio:
    """The stub: its data, its faults, its public server, and what it does of its own accord."""

    def __init__(self, port: int, backend_url: str = "", pixels: int = 256 * 256, variants: int = 4, seed: int = 0):
        self.port = port
        self.backend_url = backend_url
        self.shelf = Shelf()
        self.config = CONFIG
        self.faults = Faults()
        self.images = [photo(pixels, seed + number) for number in range(variants)]
        self.times_gone = 0
        self._random = random.Random(seed)
        self._server: _Server | None = None

    def back(self) -> None:
        """Open the public port."""
        if self._server is None:
            self._server = _Server((HOST, self.port), StudioHandler, self)
            self._server.serve_in_thread()

    def gone(self) -> None:
        """Close the public port and cut every connection."""
        if self._server is not None:
            self.times_gone += 1
            self._server.stop()
            self._server = None

    def fate(self) -> tuple[float, str]:
        """Seconds of latency for the next request, and what befalls it: "", "error", "cut before" or "cut after"."""
        faults, chance = self.faults, self._random.random()
        pause = faults.latency * self._random.uniform(0.5, 1.5)
        if chance < faults.errors:
            return pause, "error"
        if chance < faults.errors + faults.resets:
            return pause, self._random.choice(("cut before", "cut after"))
        return pause, ""

    # What Label Studio does of its own accord

    def add_tasks(self, count: int) -> dict[str, Any]:
        """Create tasks and tell nobody."""
        return {"tasks": self.shelf.add_tasks(count)}

    def import_tasks(self, count: int) -> dict[str, Any]:
        """Create tasks and tell the backend by one webhook, which is not repeated when it fails."""
        ids = self.shelf.add_tasks(count)
        body = {"action": "TASKS_CREATED", "tasks": [self.task(n) for n in ids], "project": project(self.config)}
        begun = time.perf_counter()
        try:
            answer = requests.post(f"{self.backend_url}/webhook", json=body, timeout=WEBHOOK_TIMEOUT)
            accepted = answer.status_code == 201
        except requests.RequestException:
            accepted = False
        self.shelf.counts["webhooks" if accepted else "webhooks lost"] += 1
        return {"tasks": ids, "accepted": accepted, "seconds": time.perf_counter() - begun}

    def retrieve(self, ids: Sequence[int]) -> dict[str, Any]:
        """Ask for predictions of those tasks that have none of the current version, as its Retrieve button does.

        One task is what opening it asks. Whatever comes back is stored one by one, unless Label Studio has gone since;
        `lacking` says how many still have none.
        """
        lives, begun = self.times_gone, time.perf_counter()
        failed = {"asked": 0, "answered": 0, "seconds": 0.0, "lacking": len(ids)}
        if self._server is None:
            return failed
        try:
            requests.get(f"{self.backend_url}/health", timeout=1).raise_for_status()
            setup = requests.post(
                f"{self.backend_url}/setup", json={"schema": self.config, "project": "1.0"}, timeout=3
            )
            version = setup.json()["model_version"]
            lacking = set(self.shelf.missing(version))
            asked = [n for n in ids if n in lacking]
            if not asked:
                return {**failed, "lacking": 0}
            body = {
                "tasks": [self.task(n) for n in asked],
                "project": f"{PROJECT}.1795154356",
                "label_config": self.config,
                "params": {"login": None, "password": None, "context": None},
            }
            begun = time.perf_counter()
            answer = requests.post(f"{self.backend_url}/predict", json=body, timeout=PREDICT_TIMEOUT)
            seconds = time.perf_counter() - begun
            results = answer.json()["results"]
        except (requests.RequestException, ValueError, KeyError):
            self.shelf.counts["retrievals failed"] += 1
            return failed
        stored = 0
        for number, result in zip(asked, results, strict=True):
            time.sleep(self.fate()[0])
            if self.times_gone != lives:
                self.shelf.counts["answers dropped"] += 1
            elif isinstance(result, dict) and "result" in result:
                stored += len(self.shelf.store([{**result, "task": number}], "answered"))
        return {"asked": len(asked), "answered": stored, "seconds": seconds, "lacking": len(asked) - stored}

    def listed(self, asked: Mapping[str, Any], size: int, page: int) -> dict[str, Any]:
        """One page of tasks as the Data Manager answers it."""
        total, found = self.shelf.listed(asked, size, page)
        tasks = []
        for number, task in found:
            versions = ",".join({str(one.get("model_version")) for one in task.predictions.values()})
            counts = {"total_predictions": len(task.predictions), "total_annotations": len(task.annotations)}
            tasks.append({**self.task(number), **counts, "predictions_model_versions": versions})
        return {"tasks": tasks, "total": total}

    def change_config(self, config: str) -> dict[str, Any]:
        """Somebody changes the labeling config; the backend is told once."""
        self.config = config
        body = {"action": "PROJECT_UPDATED", "project": project(config)}
        try:
            requests.post(f"{self.backend_url}/webhook", json=body, timeout=WEBHOOK_TIMEOUT)
        except requests.RequestException:
            self.shelf.counts["webhooks lost"] += 1
        return project(config)

    def task(self, number: int) -> dict[str, Any]:
        """A task as Label Studio 1.23 sends it."""
        now = "2026-01-01T00:00:00.000000Z"
        zeros = ("total_annotations", "cancelled_annotations", "total_predictions", "comment_count")
        return {
            "id": number,
            "data": {"image": f"/data/upload/{PROJECT}/{number:08x}-photo.jpg"},
            "created_at": now,
            "updated_at": now,
            "is_labeled": False,
            "overlap": 1,
            "inner_id": number,
            "project": PROJECT,
            "updated_by": None,
            "file_upload": number,
            "meta": {},
            "comment_authors": [],
            "annotations": [],
            "predictions": [],
            **dict.fromkeys(zeros, 0),
        }


def project(config: str) -> dict[str, Any]:
    """The project as Label Studio 1.23 puts it into webhooks."""
    return {"id": PROJECT, "title": "load", "label_config": config, "model_version": "car", "is_published": True}


def photo(pixels: int, seed: int) -> bytes:
    """A JPEG with about so many pixels, 4:3, with the detail of a photograph (not noise, not plain)."""
    height = max(1, round((pixels * 3 / 4) ** 0.5))
    width = max(1, round(pixels / height))
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    picture = picture + rng.integers(-12, 13, picture.shape, dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


class _Server(ThreadingHTTPServer):
    """An HTTP server that can be cut off with its connections."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], studio: StubStudio):
        super().__init__(address, handler)
        self.studio = studio
        self._open: set[socket.socket] = set()

    def serve_in_thread(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is the point of the exercise."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            _reset(connection)


def _reset(connection: socket.socket) -> None:
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already


class _JSONHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Nobody reads it."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, content: Any, kind: str = "application/json") -> None:
        data = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class StudioHandler(_JSONHandler):
    """The public API, as far as the backend uses it."""

    def do_GET(self) -> None:
        studio, body = self.server.studio, self._body()
        pause, fate = studio.fate()
        time.sleep(pause)
        path = urlsplit(self.path).path
        studio.shelf.counts[f"requests {self.command} {re.sub('[0-9a-f]{8}-|[0-9]+', 'N', path)}"] += 1
        if fate == "error":
            self._send(500, {"detail": "database is locked"})
            return
        status, answer = 0, None
        if fate != "cut before":
            try:
                if self.headers.get("Authorization") != f"Token {TOKEN}":
                    raise Refused(401, "Invalid token.")
                status, answer = self._answer(path, body)
            except Refused as refused:
                status, answer = refused.status, {"detail": str(refused)}
        if fate.startswith("cut"):
            studio.shelf.counts[fate] += 1
            self.close_connection = True
            _reset(self.connection)
        elif path.startswith("/data/"):
            self._send(status, answer, "image/jpeg")
        else:
            self._send(status, answer)

    do_POST = do_DELETE = do_PATCH = do_GET

    def _answer(self, path: str, body: bytes) -> tuple[int, Any]:
        shelf = self.server.studio.shelf
        number = int(next(iter(re.findall(r"/(\d+)/", path)), 0))
        if self.command == "GET" and path.startswith("/data/upload/"):
            images = self.server.studio.images
            return 200, images[int(path.rsplit("/", 1)[1][:8], 16) % len(images)]
        if (self.command, path) == ("GET", "/api/current-user/whoami"):
            return 200, {"id": 1, "email": "stub@example.com"}
        if path == "/api/predictions/":
            if self.command == "GET":
                return 200, shelf.predictions(int(parse_qs(urlsplit(self.path).query)["task"][0]))
            (created,) = shelf.store([json.loads(body)], "pushed alone")
            return 201, {"id": created}
        if self.command == "POST" and path == f"/api/projects/{PROJECT}/import/predictions":
            return 201, {"created": len(shelf.store(json.loads(body), "pushed in bulk"))}
        if self.command == "DELETE" and re.fullmatch(r"/api/predictions/\d+/", path):
            shelf.delete(number)
            return 204, None
        if self.command == "GET" and re.fullmatch(r"/api/tasks/\d+/annotations/", path) and number in shelf.tasks:
            return 200, shelf.tasks[number].annotations
        if path == f"/api/projects/{PROJECT}/":
            studio = self.server.studio
            if self.command == "PATCH":
                return 200, studio.change_config(json.loads(body)["label_config"])
            return 200, project(studio.config)
        if (self.command, path) == ("GET", "/api/tasks/"):
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            size, page = int(asked["page_size"]), int(asked.get("page", "1"))
            return 200, self.server.studio.listed(json.loads(asked["query"]), size, page)
        raise Refused(404, "Not found.")


class ControlHandler(_JSONHandler):
    """What tests and load runs tell the stub to do; never fails, and is there when Label Studio is gone."""

    def do_POST(self) -> None:
        studio, name = self.server.studio, self.path.strip("/")
        asked = json.loads(self._body() or b"{}")
        commands = {
            "report": studio.shelf.report,
            "add": studio.add_tasks,
            "import": studio.import_tasks,
            "retrieve": studio.retrieve,
            "open": lambda task: threading.Thread(target=studio.retrieve, args=([task],), daemon=True).start(),
            "delete_task": studio.shelf.delete_task,
            "change_config": studio.change_config,
            "faults": lambda **faults: setattr(studio, "faults", Faults(**faults)),
            "gone": studio.gone,
            "back": studio.back,
        }
        self._send(200, commands[name](**asked) or {})


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.stub_studio")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--backend", required=True, metavar="URL")
    parser.add_argument("--pixels", type=int, default=256 * 256)
    args = parser.parse_args()
    studio = StubStudio(args.port, args.backend, args.pixels)
    studio.back()
    _Server((HOST, args.control_port), ControlHandler, studio).serve_in_thread()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


if __name__ == "__main__":
    main()
