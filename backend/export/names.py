"""Names of exported files: those that the images had when they were imported."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit


def file_name(address: str) -> str:
    """The name of the file at an image's address, safe as a name in our folder.

    Label Studio 1.23 puts eight digits before the name of an upload; local files and cloud addresses keep the whole
    name in the path or in a query.
    """
    if address.startswith("data:"):
        return "image.png"
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [parts.path])[0] if "local-files" in parts.path else parts.path
    name = PurePosixPath(unquote(path)).name
    if "/upload/" in parts.path:
        name = re.sub(r"^[0-9a-f]{8}-", "", name)
    return re.sub(r"[^\w.,@()+ -]", "_", name).lstrip(".") or "image.png"


def stem(address: str) -> str:
    """`file_name` without its suffix."""
    return PurePosixPath(file_name(address)).stem
