import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from safetensors.torch import save_file

from model import weights
from model.presets import DEMO, preset
from model.segmenter import Segmenter
from model.vocabulary import vocabulary


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (weights.CONFIG, weights.WEIGHTS, "bpe_demo.txt.gz"):
        shutil.copy(DEMO / name, tmp_path)
    return tmp_path


def test_a_folder_is_loaded_once_for_both_towers(copy: Path) -> None:
    proposals, classifier = weights.load(preset("voc"), str(copy))
    assert proposals is classifier
    assert proposals.tokenize(["cat"]).shape == (1, 24)


@pytest.mark.parametrize("missing", [weights.CONFIG, weights.WEIGHTS])
def test_an_incomplete_folder(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(weights.WeightsError, match=f"lacks {missing}"):
        weights.load(preset("voc"), str(copy))


def test_damaged_weights(copy: Path) -> None:
    content = (copy / weights.WEIGHTS).read_bytes()
    (copy / weights.WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(weights.WeightsError, match="damaged"):
        weights.load(preset("voc"), str(copy))


def test_weights_of_another_architecture(copy: Path) -> None:
    config = json.loads((copy / weights.CONFIG).read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 5
    (copy / weights.CONFIG).write_text(json.dumps(config))
    with pytest.raises(weights.WeightsError, match="does not fit"):
        weights.load(preset("voc"), str(copy))


def test_without_a_connection_the_error_says_which_file_goes_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    monkeypatch.setenv("CAR_MODELS", str(tmp_path))
    with pytest.raises(weights.WeightsError) as caught:
        weights.load(preset("photos"))
    message = str(caught.value)
    for part in (
        "ViT-B-16-quickgelu",
        "no route to host",
        str(tmp_path / "ViT-B-16-quickgelu.safetensors"),
        "CAR_MODELS",
    ):
        assert part in message
    assert "huggingface.co/timm/vit_base_patch16_clip_224.openai" in message


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-B-16", "need QuickGELU. Choose ViT-B-16-quickgelu@openai"),
        ("ViT-H-14@dfn5b", "Choose ViT-H-14-quickgelu@dfn5b"),
        ("ViT-H-14", "open_clip has for it: laion2b_s32b_b79k"),
        ("ViT-H-14@nonsense", "'nonsense' were not trained for ViT-H-14"),
        ("ViT-B-32@/nowhere/x.safetensors", "no file of weights /nowhere/x.safetensors"),
        ("ViT-B-32-quickgelu#1234abcd", "fetch it first"),
        ("ViT-Z-99", "no model 'ViT-Z-99'"),
    ],
)
def test_weights_and_models_that_do_not_go_together(model: str, message: str) -> None:
    with pytest.raises(weights.WeightsError, match=message):
        weights.from_open_clip(model)


def test_unknown_random_architecture() -> None:
    with pytest.raises(weights.WeightsError, match="no model 'ViT-Z-99'"):
        weights.at_random("ViT-Z-99")


@pytest.mark.slow
def test_full_size_architecture_at_random() -> None:
    segmenter = Segmenter(preset("photos", {"rivals": "person", "templates": "a {}."}), "cpu", "random")
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    result = segmenter.segment(image, vocabulary(["cat", "dog"]), 0.0)
    assert set(result.raw_scores) == {"cat", "dog"}
    assert all(0 <= score <= 1 for score in result.raw_scores.values())
    assert result.masks.shape[1:] == (48, 64)


def test_random_weights_are_the_same_each_time() -> None:
    first, second = (weights.at_random("ViT-S-32-alt").model.visual.proj for _ in range(2))
    assert bool((first == second).all())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of open_clip's smallest plain model, as a file."""
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(dict(weights.at_random("ViT-S-32-alt").model.state_dict()), path)
    return path


def test_weights_from_a_file_are_checked_and_loaded(file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    clip = weights.from_open_clip(f"ViT-S-32-alt@{file}#{digest[:12]}")
    assert bool((clip.model.visual.proj == weights.at_random("ViT-S-32-alt").model.visual.proj).all())
    with pytest.raises(weights.WeightsError, match=f"is {digest}, not 0123456789ab"):
        weights.from_open_clip(f"ViT-S-32-alt@{file}#0123456789ab")
    with pytest.raises(weights.WeightsError, match="does not fit ViT-B-32"):
        weights.from_open_clip(f"ViT-B-32@{file}")


def test_hand_placed_weights_of_a_tag(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.file_name(weights.Origin.of("ViT-B-16-quickgelu")) == "ViT-B-16-quickgelu.safetensors"
    assert weights.file_name(weights.Origin.of("ViT-B-16@laion400m_e32")) == "ViT-B-16.laion400m_e32.safetensors"
    monkeypatch.setenv("CAR_MODELS", str(file.parent))
    (file.parent / "ViT-B-32.laion2b_e16.safetensors").write_bytes(b"broken")
    with pytest.raises(weights.WeightsError, match="or remove it"):
        weights.from_open_clip("ViT-B-32@laion2b_e16")
