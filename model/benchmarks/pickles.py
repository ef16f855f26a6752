"""Pickles that others made, read without running what is in them.

A pickle is a program: it may call anything that can be imported. Plain containers, texts and numbers need none of that,
so everything that asks for a name from a module is refused.
"""

import pickle
from pathlib import Path
from typing import Any, NoReturn

from model.benchmarks.dataset import DatasetError


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for something outside")


def load_plain(path: Path) -> Any:
    """Read a pickle of lists, dicts, texts and numbers, of Python 2 or 3. Raises DatasetError for any other."""
    try:
        with path.open("rb") as file:
            return _Plain(file, encoding="latin-1").load()
    except Exception as error:  # a broken pickle may raise anything
        raise DatasetError(f"{path} is no pickle of plain data and was not read: {error}") from error
