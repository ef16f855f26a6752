import os
import pickle
from pathlib import Path

import pytest

from model.benchmarks.dataset import DatasetError
from model.benchmarks.pickles import load_plain

PLAIN = [{"ref_id": 1, "sentences": [{"sent": "the caf\u00e9", "tokens": ("a", None, True, 2.5)}]}]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(PLAIN, protocol))
    assert load_plain(path) == PLAIN


def test_bytes_of_python_2(tmp_path: Path) -> None:
    """As the official files are: a list of a dict with a byte string of Latin letters, protocol 0."""
    path = tmp_path / "refs.p"
    path.write_bytes(b"(lp0\n(dp1\nS'sent'\np2\nS'the caf\\xe9'\np3\nsa.")
    assert load_plain(path) == [{"sent": "the caf\u00e9"}]


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_it_is_run(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "refs.p", tmp_path / "mark"
    path.write_bytes(pickle.dumps([Harmful(mark)], protocol))
    with pytest.raises(DatasetError, match=r"no pickle of plain data and was not read: it asks for \w+.mkdir"):
        load_plain(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the pickle is harmless: this test shows nothing"


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(Path("x")), pickle.dumps({1})[:-2]])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"refs.p is no pickle"):
        load_plain(path)
