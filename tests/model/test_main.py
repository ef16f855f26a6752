import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from model.__main__ import main
from tests.weights import CLIP


@pytest.fixture
def scene(studio: Path) -> str:
    return str(studio / "images" / "002.png")


def test_segment(scene: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", scene, "--labels", "starbucks logo, pizza,cat", "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "002.json").read_text())
    assert printed == {"image": scene, **written}
    labels = {entry["label"]: entry for entry in written["labels"]}
    assert set(labels) == {"starbucks logo", "cat"}
    assert 0 < labels["cat"]["score"] <= 1
    with Pillow.open(tmp_path / "002.png") as index:
        assert index.mode == "P"
        pixels = np.asarray(index)
    assert (pixels == 3).sum() == labels["cat"]["area"]
    assert set(np.unique(pixels)) == {0, 1, 3}
    with Pillow.open(tmp_path / "002.overlay.png") as overlay:
        assert overlay.size == (384, 320)
    assert {"queries", "scores"} == set(written["steps"][0])
    assert written["seconds"]["total"] > 0


def test_faithful_preset_with_other_weights_and_settings(scene: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\n\ndog\n")
    images = ["segment", scene, "--labels-file", str(tmp_path / "labels.txt"), "--out", str(tmp_path)]
    faithful = ["--preset", "voc", "--weights", "demo", "--set", "theta=.12", "--set", "prompts=blur,gray"]
    assert main([*images, *faithful]) == 0
    assert [e["label"] for e in json.loads((tmp_path / "002.json").read_text())["labels"]] == ["cat"]


def test_texts_instead_of_labels(scene: str, tmp_path: Path) -> None:
    """A labels file may say after tabs what to look for; the label itself is only a name."""
    (tmp_path / "labels.txt").write_text("pet\tcat\tkitten\nroad\n")
    arguments = ["--labels-file", str(tmp_path / "labels.txt"), "--stuff", "road", "--set", "mutual=paper"]
    assert main(["segment", scene, *arguments, "--out", str(tmp_path)]) == 0
    assert [e["label"] for e in json.loads((tmp_path / "002.json").read_text())["labels"]] == ["pet"]


def test_referring_expressions(scene: str, tmp_path: Path) -> None:
    sentences = ["--refer", "the cat", "a yellow cat", "--refer", "the pizza"]
    assert main(["segment", scene, "--out", str(tmp_path), *sentences]) == 0
    written = json.loads((tmp_path / "002.json").read_text())
    assert [entry["label"] for entry in written["labels"]] == ["the cat"]
    with Pillow.open(tmp_path / "002.png") as index:
        assert (np.asarray(index) == 1).sum() == written["labels"][0]["area"]


def test_a_benchmark_s_classes(scene: str, tmp_path: Path) -> None:
    arguments = ["--classes", "voc", "--weights", str(CLIP), "--out", str(tmp_path)]
    assert main(["segment", scene, *arguments]) == 0
    assert [e["label"] for e in json.loads((tmp_path / "002.json").read_text())["labels"]] == ["cat"]


def test_video(scene: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three frames, the middle one blank: a vote of neighbours finds the cat there too."""
    folder = tmp_path / "film"
    folder.mkdir()
    for name in ("0", "2"):
        (folder / f"{name}.png").write_bytes(Path(scene).read_bytes())
    Pillow.new("RGB", (384, 320), "white").save(folder / "1.png")
    arguments = ["segment", "--video", str(folder), "--labels", "cat"]
    for smooth, expected in (("0", []), ("1", ["cat"])):
        assert main([*arguments, "--smooth", smooth, "--out", str(tmp_path / smooth), "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["image"] for line in lines] == [f"{folder} {number}" for number in range(3)]
        assert [entry["label"] for entry in lines[1]["labels"]] == expected
        assert {path.name for path in (tmp_path / smooth / "film").glob("*.png")} >= {"0.png", "1.png", "2.png"}
    assert main([*arguments, "--every", "3", "--out", str(tmp_path / "3")]) == 0
    assert len(list((tmp_path / "3" / "film").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "cat"], "Give images, or --video"),
        (["x.png", "--video", "film", "--labels", "cat"], "Give images, or --video"),
        (["--video", "nowhere.mp4", "--labels", "cat"], "neither a folder of frames nor a video"),
        (["--video", "film", "--labels", "cat", "--out", "."], "choose another --out"),
        (["x.png", "--classes", "lvis"], "no class list 'lvis'"),
        (["x.png", "--refer", "/"], "has no text"),
        (["x.png", "--labels", "cat", "--stuff", "sky"], "--stuff names 'sky'"),
    ],
)
def test_wrong_combinations(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unreadable_image_is_told_and_the_others_go_on(
    scene: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_text("no image")
    code = main(["segment", str(tmp_path / "bad.png"), scene, "--labels", "cat", "--out", str(tmp_path / "out")])
    assert code == 1
    assert "bad.png cannot be read" in capsys.readouterr().err
    assert (tmp_path / "out" / "002.png").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--labels", " , "], "There are no labels"),
        (["--labels", "cat,cat"], "'cat' is given twice"),
        (["--labels-file", "nowhere.txt"], "nowhere.txt"),
        (["--labels", "cat", "--preset", "cars"], "no preset 'cars'"),
        (["--labels", "cat", "--set", "theta"], "--set takes NAME=VALUE"),
        (["--labels", "cat", "--set", "thta=1"], "no setting 'thta'"),
        (["--labels", "cat", "--weights", "nowhere"], "nowhere is no folder of weights"),
    ],
)
def test_wrong_arguments(scene: str, extra: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", scene, *extra]) == 2
    assert message in capsys.readouterr().err


def test_results_never_overwrite_images_or_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Pillow.new("RGB", (8, 8)).save(tmp_path / name / "x.png")
    a, b = str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png")
    assert main(["segment", a, "--labels", "cat", "--out", str(tmp_path / "a")]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert main(["segment", a, b, "--labels", "cat", "--out", str(tmp_path / "c")]) == 2
    assert "Two images are called x" in capsys.readouterr().err


def test_evaluate(studio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figures.json"
    assert main(["evaluate", "folder", "--root", str(studio), "--limit", "2", "--json", str(target)]) == 0
    figures = json.loads(target.read_text())
    assert set(figures) >= {"miou", "miou_with_background", "per_class", "images", "seconds"}
    assert figures["images"] == 2
    assert f"mIoU {figures['miou']:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root", "nowhere"], "classes.txt is missing"),
        (["--root", ".", "--limit", "0"], "--limit needs a number"),
        (["--root", ".", "--classes", "lvis"], "no class list 'lvis'"),
    ],
)
def test_evaluate_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "folder", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    assert "coco-object" in capsys.readouterr().out
    assert main(["presets", "voc"]) == 0
    printed = capsys.readouterr().out
    assert "lambda = 0.4" in printed
    assert "prompts = circle,blur" in printed
    assert main(["presets", "context"]) == 0
    assert "Paper: 0.2." in capsys.readouterr().out
