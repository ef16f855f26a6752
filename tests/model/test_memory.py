"""The file of corrected regions: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from model.memory import NOTHING, Memory, MemoryFileError, Origin, Strength, digest, look_of, read, write
from model.presets import preset


def memory(*labels: str, tasks: tuple[int, ...] | None = None, towers: str = "one") -> Memory:
    rows = np.random.default_rng(len(labels)).normal(size=(len(labels), 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    origin = Origin("a" * 16 if towers == "one" else "b" * 16, "a" * 16, look_of(preset("demo")))
    numbers = np.array(tasks if tasks is not None else range(len(labels)), np.int64)
    return Memory(
        origin, Strength(0.5, 0.5, 0.75), labels, numbers, rows, rows if towers == "one" else rows[:, :3].copy()
    )


@pytest.mark.parametrize("towers", ["one", "two"])
@pytest.mark.parametrize("labels", [(), ("moai",), ("moai", NOTHING, "Coca-Cola 可口可乐")])
def test_what_is_written_is_read(tmp_path: Path, labels: tuple[str, ...], towers: str) -> None:
    made = memory(*labels, towers=towers)
    checksum = write(made, tmp_path / "folder" / "m.safetensors")
    found = read(f"{tmp_path}/folder/m.safetensors#{checksum}")
    assert (found.labels, found.origin, found.strength) == (made.labels, made.origin, made.strength)
    for name in ("tasks", "scored", "drawn"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["m.safetensors"]


def test_equal_memories_are_equal_files_and_others_are_not() -> None:
    one = memory("a", "b")
    assert {memory("a", "b").to_bytes() for _ in range(5)} == {one.to_bytes()}
    assert Memory.from_bytes(one.to_bytes()).to_bytes() == one.to_bytes()
    others = [
        memory("a", "c"),
        replace(one, strength=Strength(1, 0.5, 0.75)),
        one.forget(0),
        memory("a", "b", tasks=(1, 2)),
    ]
    assert len({digest(each.to_bytes()) for each in (one, *others)}) == 5


def test_a_task_is_forgotten_and_the_others_stay() -> None:
    made = memory("a", "b", "a", tasks=(1, 1, 2))
    left = made.forget(1)
    assert (left.labels, left.tasks.tolist()) == (("a",), [2])
    np.testing.assert_array_equal(left.scored, made.scored[2:])
    assert left.to_bytes() == made.of_tasks([2]).to_bytes()
    assert made.forget(7).to_bytes() == made.to_bytes()


def test_a_missing_file_and_another_one_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(
        MemoryFileError, match=r"cannot be read \(No such file.*Put the file there. Make it anew: python"
    ):
        read(str(path))
    checksum = write(memory("a"), path)
    with pytest.raises(MemoryFileError, match=f"{checksum}.*0123456789abcdef is asked for.*{checksum}"):
        read(f"{path}#0123456789abcdef")
    with pytest.raises(MemoryFileError, match="is asked for"):
        read(f"{path}#{checksum[:4]}")
    assert read(str(path)).labels == ("a",)


def _tampered(**changes: object) -> bytes:
    content = memory("a", "b").to_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["memory"]) | changes
    made = memory("a", "b")
    return bytes(save({"tasks": made.tasks, "scored": made.scored}, {"memory": json.dumps(head)}))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no memory"),
        (b"\x80\x04pickle", "no memory"),
        (memory("a").to_bytes()[:-1], "no memory"),
        (bytes(save({"scored": np.zeros((1, 2), np.float32)})), "no memory"),
        (_tampered(format=2), "format 2"),
        (_tampered(labels=["a"]), "does not fit its 1 labels"),
        (_tampered(labels=7), "no memory"),
        (_tampered(strength={"share": 2, "reach": 0, "near": 1}), "cannot be"),
        (_tampered(strength={"share": 1, "reach": 1, "near": 1}), "cannot be"),
        (_tampered(strength={"shares": 1}), "no memory"),
        (replace(memory("a"), scored=np.full((1, 4), np.nan, np.float32)).to_bytes(), "'scored' does not fit"),
        (replace(memory("a"), scored=np.zeros((1, 4))).to_bytes(), "'scored' does not fit"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_memory_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(MemoryFileError, match=f"damaged or something else: .*{why}.*Make it anew"):
        read(str(path))
