import subprocess
import sys
from dataclasses import fields, replace

import pytest

from model.presets import ORIGINS, PRESETS, Preset, PresetError, preset, settings


@pytest.mark.parametrize(
    ("name", "eta", "theta", "lambda_", "prompts"),
    [
        ("voc", 0.4, 0.6, 0.4, ("circle", "blur")),
        ("coco-object", 0.5, 0.3, 0.5, ("blur", "gray")),
        ("context", 0.6, 0.25, 0.4, ("blur", "circle")),
        ("ade", 0.6, 0.25, 0.7, ("gray", "blur")),
        ("demos", 0.5, 0.0, 0.6, ("gray", "blur")),
    ],
)
def test_published_values(name: str, eta: float, theta: float, lambda_: float, prompts: tuple[str, ...]) -> None:
    chosen = preset(name)
    assert (chosen.eta, chosen.theta, chosen.lambda_, chosen.prompts) == (eta, theta, lambda_, prompts)
    assert len(chosen.background) == 23
    assert len(chosen.templates) == 15
    assert chosen.max_patches == 0


@pytest.mark.parametrize(
    ("name", "eta", "theta", "lambda_", "prompts"),
    [
        ("refcoco", 0.5, 0.3, 0.5, ("circle",)),
        ("refcoco+", 0.2, 0.1, 0.5, ("circle", "blur")),
        ("refcocog", 0.5, 0.1, 0.6, ("circle", "blur")),
    ],
)
def test_published_values_for_sentences(
    name: str, eta: float, theta: float, lambda_: float, prompts: tuple[str, ...]
) -> None:
    chosen = preset(name)
    assert (chosen.eta, chosen.theta, chosen.lambda_, chosen.prompts) == (eta, theta, lambda_, prompts)
    assert chosen.classifier_model == chosen.proposal_model == "ViT-B-16-quickgelu"
    assert chosen.templates == ("a clean origami {}.",)
    assert (chosen.scoring, chosen.sentences) == ("mean", "weighted")


@pytest.mark.parametrize("name", ["voc", "coco-object", "context"])
def test_what_the_paper_says_otherwise(name: str) -> None:
    released, paper = preset(name), preset(f"paper-{name}")
    assert (paper.eta, paper.lambda_, paper.prompts) == (released.eta, released.lambda_, released.prompts)
    assert (paper.classifier_last_block, paper.scoring, paper.keep_best) == ("keep", "mean", "no")
    assert len(paper.background) == 112
    assert paper.theta == (0.2 if name == "context" else released.theta)


def test_each_preset_says_where_it_comes_from() -> None:
    assert set(ORIGINS) == set(PRESETS)
    for origin in ORIGINS.values():
        assert origin.source
        assert set(origin.notes) <= set(settings())


@pytest.mark.parametrize("name", ["demo", "photos"])
def test_service_presets_have_no_quirk_and_bounds(name: str) -> None:
    chosen = preset(name)
    assert chosen.keep_best == "no"
    assert chosen.classifier_last_block == "keep"
    assert chosen.crf_image == "plain"
    assert 0 < chosen.max_patches <= 1200
    assert chosen.crf_max_side > 0
    assert len(chosen.rivals) > 100


def test_overrides_are_parsed_by_kind() -> None:
    chosen = preset("voc", {"lambda": "0.7", "prompts": "gray, blur", "background": "", "crf_steps": "3"})
    assert (chosen.lambda_, chosen.prompts, chosen.background, chosen.crf_steps) == (0.7, ("gray", "blur"), (), 3)


@pytest.mark.parametrize(
    ("text", "count", "holds"),
    [
        ("released", 23, "helmet"),
        ("paper", 112, "nimbus"),
        ("terrestrial", 32, "copse"),
        ("aquatic-atmospheric", 44, "fjord"),
        ("man-made", 36, "culvert"),
        ("terrestrial, man-made", 68, "dam"),
        ("man-made, house, a red carpet", 37, "a red carpet"),
        ("lawn", 1, "lawn"),
    ],
)
def test_background_by_name_of_a_set(text: str, count: int, holds: str) -> None:
    names = preset("voc", {"background": text}).background
    assert len(names) == len(set(names)) == count
    assert holds in names


def test_no_background() -> None:
    assert preset("voc", {"background": "none"}).background == ()


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("cars", {}, "no preset 'cars'; there are: voc,"),
        ("voc", {"etta": "1"}, "no setting 'etta'; there are: .*eta"),
        ("voc", {"eta": "half"}, "eta needs a number"),
        ("voc", {"eta": "nan"}, "eta needs a number"),
        ("voc", {"crf_steps": "2.5"}, "crf_steps needs a number"),
        ("voc", {"theta": "-1"}, "theta needs a number from 0"),
        ("voc", {"prompts": "blur,zoom"}, "prompts knows no 'zoom'; it takes any of: blur"),
        ("voc", {"recurrence": "twice"}, "recurrence knows no 'twice'; it takes one of: none, once, loop"),
        ("voc", {"name": "mine"}, "no setting 'name'"),
    ],
)
def test_wrong_settings(name: str, overrides: dict[str, str], message: str) -> None:
    with pytest.raises(PresetError, match=message):
        preset(name, overrides)


def test_checksum_changes_with_every_setting() -> None:
    base = preset("demo")
    assert len(base.checksum) == 8
    assert base.checksum == preset("demo").checksum
    changed = {"tuple": ("something",), "float": 0.123, "int": 3, "str": "another"}
    sums = {replace(base, **{f.name: changed[type(getattr(base, f.name)).__name__]}).checksum for f in fields(Preset)}
    assert len(sums - {base.checksum}) == len(fields(Preset))


def test_every_setting_is_explained() -> None:
    assert "lambda" in settings()
    assert all(setting.metadata["doc"] for setting in settings().values())
    for chosen in PRESETS.values():
        for setting in settings().values():
            choices, value = setting.metadata["choices"], getattr(chosen, setting.name)
            assert not choices or set(value if isinstance(value, tuple) else [value]) <= set(choices)


def test_words_and_settings_import_without_torch() -> None:
    code = "import sys, model.presets, model.vocabulary; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
