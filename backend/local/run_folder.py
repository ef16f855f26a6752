"""The folder of a local run (`.run`): its lock, what it remembers between runs, and the state that others read.

| path | holds |
|---|---|
| `state.json` | addresses and process ids of the run that is going on; gone when it has stopped |
| `memory.json` | login, token, demo project and address of the last run |
| `env` | the same for a shell: `. .run/env` lets `python -m backend` speak to that run |
| `lock` | held while a run is going on, with its process id |
| `logs/`, `redis/`, `label-studio/` | what the processes write |
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from backend.local.label_studio import Account, new_account
from backend.local.processes import LocalError


@dataclass(frozen=True)
class Known:
    """What is known of a demo project; a run may be interrupted before any of it.

    has_tasks: its images were imported. is_prelabelled: all of its tasks have been seen with a prediction.
    """

    project: int | None = None
    has_tasks: bool = False
    is_prelabelled: bool = False


@dataclass(frozen=True)
class Memory:
    """What one run leaves to the next.

    demos: the demo projects, by name. backend_url: where projects were told to find the backend.
    """

    account: Account
    demos: Mapping[str, Known] = field(default_factory=dict)
    backend_url: str = ""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what the last run left in the folder, or a fresh account."""
        try:
            known = json.loads((folder / "memory.json").read_text())
            demos = {name: Known(**demo) for name, demo in known.get("demos", {}).items()}
            return cls(Account(**known["account"]), demos, known["backend_url"])
        except FileNotFoundError:
            return cls(new_account())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LocalError(
                f"{folder / 'memory.json'} is damaged ({error}). Remove the folder {folder} to begin anew."
            ) from error

    def known(self, name: str) -> Known:
        """What is known of one demo project."""
        return self.demos.get(name, Known())

    def learn(self, folder: Path, name: str, **changes: Any) -> Self:
        """Write this, with changes to what is known of one demo project, and return it."""
        return self.save(folder, demos={**self.demos, name: replace(self.known(name), **changes)})

    def save(self, folder: Path, **changes: Any) -> Self:
        """Write this, with changes, for the next run, and return it."""
        changed = replace(self, **changes)
        write_private(folder / "memory.json", asdict(changed))
        return changed


def write_private(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON that only its owner may read (it holds a token); readers never see half of it."""
    _write_private(path, json.dumps(value, indent=2) + "\n")


def write_env(path: Path, value: Mapping[str, str]) -> None:
    """Write variables for a shell to read, likewise."""
    _write_private(path, "".join(f"export {name}={shlex.quote(text)}\n" for name, text in value.items()))


def _write_private(path: Path, content: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    draft.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises LocalError when another run has it.

    The lock is the kernel's, and ends with the process however that dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise LocalError(
                f"Another run (process {lock.read().strip() or 'unknown'}) is using {folder}. Stop it with Ctrl-C "
                "where it runs, or give this one another folder with --data."
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
