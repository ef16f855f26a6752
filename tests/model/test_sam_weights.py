"""HQ-SAM's weights: at random, from a file, downloaded once; and what is said when there are none."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from model import sam_weights
from model.sam_weights import PUBLISHED, Published, load, published
from model.settings import SAM_MODELS
from model.weights import WeightsError


class Harm:
    """Pickled, it makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setenv("CAR_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page from which vit_tiny's weights can be downloaded: a file of this machine."""
    file = tmp_path / "page" / "tiny.pth"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.setattr(sam_weights, "PAGE", file.parent.as_uri())
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(PUBLISHED, "vit_tiny", Published("tiny.pth", 1, "sha256", digest))
    return file


def test_every_model_has_a_checksum() -> None:
    assert tuple(PUBLISHED) == SAM_MODELS
    for origin in PUBLISHED.values():
        assert len(bytes.fromhex(origin.digest)) == hashlib.new(origin.algorithm).digest_size


def test_a_download_happens_once(models: Path, origin: Path) -> None:
    assert published("vit_tiny") == models / "tiny.pth"
    origin.unlink()
    assert published("vit_tiny").read_bytes() == b"weights"
    assert [file.name for file in models.iterdir()] == ["tiny.pth"]


def test_a_damaged_download_is_refused(models: Path, origin: Path) -> None:
    origin.write_bytes(b"weight")
    with pytest.raises(WeightsError, match=r"tiny\.pth is damaged or another file: its SHA256 is .*put it at .*models"):
        published("vit_tiny")
    assert not list(models.iterdir())


def test_without_a_connection_the_file_and_its_place_are_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(WeightsError) as error:
        load("vit_b", "published")
    for part in ("vit_b (379 MB)", "no route", PUBLISHED["vit_b"].url, str(models / "sam_hq_vit_b.pth"), "CAR_MODELS"):
        assert part in str(error.value)


def test_random_weights_are_always_the_same() -> None:
    before = torch.get_rng_state()
    one, other = load("vit_tiny", "random").state_dict(), load("vit_tiny", "random").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_from_a_file(tmp_path: Path) -> None:
    tensors = load("vit_tiny", "random").state_dict()
    tensors["mask_decoder.hf_token.weight"] += 1
    torch.save(tensors, tmp_path / "mine.pth")
    loaded = load("vit_tiny", str(tmp_path / "mine.pth"))
    assert torch.equal(loaded.state_dict()["mask_decoder.hf_token.weight"], tensors["mask_decoder.hf_token.weight"])
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    tensors = load("vit_tiny", "random").state_dict()
    torch.save({name: tensor for name, tensor in tensors.items() if "hf_" not in name}, file)
    with pytest.raises(WeightsError, match=r"does not fit HQ-SAM's vit_tiny: it lacks mask_decoder\.hf_token"):
        load("vit_tiny", str(file))
    torch.save({**tensors, "mask_decoder.hf_token.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(WeightsError, match="does not fit"):
        load("vit_tiny", str(file))
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match="or is damaged"):
        load("vit_tiny", str(file))


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.pth"
    file.write_bytes(pickle.dumps(Harm(tmp_path / "harm")))
    with pytest.raises(WeightsError, match="or is damaged"):
        load("vit_tiny", str(file))
    assert not (tmp_path / "harm").exists()
