"""Downloaded images on this machine's disk, shared by its workers: whole or not at all, and only so many bytes.

The folder is all there is: one file per address, written beside and renamed, sealed with a checksum that is looked at
before anything is believed. The least recently used go first.

Names and seals are HMAC-SHA256 under Label Studio's token. So what one token could read is not there for another, the
names tell nobody what was fetched, and whoever may write into the folder cannot pass off an image of his own.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import tempfile
import time
from pathlib import Path

from backend.images.download import File

log = logging.getLogger(__name__)

PART = ".part-"
"""How the names of files begin that are not whole yet."""
FORGOTTEN_SECONDS = 3600.0
"""Age at which such a file was left by a process that died over it."""
MARGIN = 8
"""The last eighth of the room is for what other processes add between two looks at the folder."""
LOOKS = 64
"""One look at the folder for each 64th of the room that this process has filled."""


class ImageCache:
    """A folder of images, of at most `limit` bytes. Nothing here raises: a cache that fails is only slow."""

    def __init__(self, folder: Path, limit: int, token: str) -> None:
        self.folder = folder
        self.limit = limit
        self._key = token.encode()
        self._unseen = limit  # bytes written since the last look; at first everything is unknown

    def get(self, address: str) -> File | None:
        """The file kept for `address`, None if there is none, or none that is whole."""
        path = self._path(address)
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("the image cache cannot be read: %s", error)
            return None
        file = self._opened(address, stored)
        with contextlib.suppress(OSError):
            if file is None:
                log.warning("a damaged file in the image cache is removed: %s", path.name)
                path.unlink()
            else:
                os.utime(path)
        return file

    def put(self, address: str, file: File) -> None:
        """Keep `file` for `address`, unless it would fill the cache alone or the disk does not take it."""
        head = json.dumps({"tag": file.tag, "host": file.host, "seal": self._seal(address, file)}).encode() + b"\n"
        size = len(head) + len(file.data)
        if size > self._room:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(size)
            self._write(self._path(address), head, file.data)
        except OSError as error:
            log.warning("an image is not kept in the cache: %s", error)

    def _write(self, path: Path, head: bytes, data: bytes) -> None:
        number, name = tempfile.mkstemp(prefix=PART, dir=self.folder)  # readable by this user only
        try:
            with os.fdopen(number, "wb") as part:
                part.write(head)
                part.write(data)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @property
    def _room(self) -> int:
        return self.limit - self.limit // MARGIN

    def _make_room(self, size: int) -> None:
        """Remove what was used longest ago until `size` bytes more fit; look only now and then."""
        self._unseen += size
        if self._unseen < self.limit // LOOKS:
            return
        self._unseen = 0
        found = sorted(self._files())
        excess = sum(bytes_ for _, bytes_, _ in found) + size - self._room
        for _, bytes_, path in found:
            if excess <= 0:
                return
            if path.name.startswith(PART):  # another worker is still writing it
                continue
            path.unlink(missing_ok=True)
            excess -= bytes_

    def _files(self) -> list[tuple[int, int, Path]]:
        """When last used (ns), bytes and path of each file; parts that nobody finishes are removed."""
        files = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # another worker makes room too
                    continue
                if entry.name.startswith(PART) and time.time() - status.st_mtime > FORGOTTEN_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)
                else:
                    files.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return files

    def _path(self, address: str) -> Path:
        return self.folder / hmac.new(self._key, address.encode(), hashlib.sha256).hexdigest()

    def _seal(self, address: str, file: File) -> str:
        seal = hmac.new(self._key, json.dumps([address, file.tag, file.host]).encode(), hashlib.sha256)
        seal.update(file.data)
        return seal.hexdigest()

    def _opened(self, address: str, stored: bytes) -> File | None:
        """The file that `stored` holds, None when its seal is broken."""
        head, _, data = stored.partition(b"\n")
        try:
            fields = json.loads(head)
            file = File(data, str(fields["tag"]), str(fields["host"]))
            whole = hmac.compare_digest(str(fields["seal"]).encode(), self._seal(address, file).encode())
        except (ValueError, KeyError, TypeError):
            return None
        return file if whole else None
