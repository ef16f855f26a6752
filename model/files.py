"""Files that are there whole or not at all, whatever interrupts their writing. Imports without torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that this gives, beside `path`; the file takes its place only when all went well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, in UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
