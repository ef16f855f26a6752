from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.project import ConfigError, Label, LabelingConfig, image_url, parse_config


def xml(labels: str = '<Label value="cat"/>', control: str = "", image: str = 'value="$image"') -> str:
    return (
        f'<View><Image name="image" {image}/>'
        f'<BrushLabels name="mask" toName="image" {control}>{labels}</BrushLabels></View>'
    )


def refused(words: str) -> AbstractContextManager[object]:
    return pytest.raises(ConfigError, match=words)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param(xml(), nullcontext(), id="plain"),
        pytest.param("", refused("not well-formed"), id="empty"),
        pytest.param("<View><Image", refused("not well-formed"), id="broken"),
        pytest.param('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', refused("entities"), id="entity"),
        pytest.param("<View/>", refused("no <Image>"), id="no image"),
        pytest.param('<View><Image name="image" value="$image"/></View>', refused("no <BrushLabels>"), id="no control"),
        pytest.param(xml().replace('toName="image"', 'toName="photo"'), refused("toName"), id="points nowhere"),
        pytest.param(xml(labels=""), refused("no <Label>"), id="no label"),
        pytest.param(xml('<Label value=" "/>'), refused("no value"), id="empty label"),
        pytest.param(xml('<Label value="a"/><Label value="a"/>'), refused("same value: 'a'"), id="twice"),
        pytest.param(
            xml('<Label value="a"/><Label value="b" alias="a"/>'), refused("same stored name"), id="alias twice"
        ),
        pytest.param(xml(control='model_score_threshold="high"'), refused("0 to 1"), id="threshold word"),
        pytest.param(xml('<Label value="a" model_score_threshold="1.5"/>'), refused("0 to 1"), id="threshold 1.5"),
        pytest.param(xml(control='model_score_threshold="nan"'), refused("0 to 1"), id="threshold nan"),
        pytest.param(xml(control='car_preset="best"'), refused("best"), id="unknown preset"),
        pytest.param(xml(control='car_refine="magic"'), refused("refine"), id="unknown refinement"),
        pytest.param(xml(control='car_prest="demo"'), refused("car_prest"), id="misspelt attribute"),
        pytest.param(xml(image='value="https://a/b.png"'), refused("value="), id="image without field"),
    ],
)
def test_a_config_is_read_or_refused_with_what_is_missing(text: str, outcome: AbstractContextManager[object]) -> None:
    with outcome:
        parse_config(text, "demo")


def test_labels_carry_prompts_aliases_and_thresholds() -> None:
    labels = """<Label value="Coke" predicted_values="coca cola logo, red can"/>
      <Label value="Moai" alias="statue" car_prompt="a stone head, on an island" model_score_threshold="0.7"/>"""
    config = parse_config(xml(labels, 'model_score_threshold="0.4"'), "demo")
    assert config.labels == (
        Label("Coke", "Coke", ("coca cola logo", "red can")),
        Label("Moai", "statue", ("a stone head, on an island",), 0.7),
    )
    assert config.thresholds() == {"Coke": 0.4, "Moai": 0.7}
    assert [query.prompts[0] for query in config.queries()] == ["coca cola logo", "a stone head, on an island"]


@pytest.mark.parametrize("value", ['say "hi"', "{curly}", "%s", "🦊", "a < b & c", "naïve", "x" * 500])
def test_any_text_may_be_a_label(value: str) -> None:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    assert parse_config(xml(f'<Label value="{escaped}"/>'), "demo").labels[0].value == value


def test_the_first_control_that_is_not_skipped_is_served() -> None:
    text = """<View><Image name="image" value="$photo"/>
      <BrushLabels name="one" toName="image" model_skip="true"><Label value="a"/></BrushLabels>
      <BrushLabels name="two" toName="image"><Label value="b"/></BrushLabels></View>"""
    config = parse_config(text, "demo")
    assert (config.from_name, config.image_field, config.skip) == ("two", "photo", False)


def test_skipping_everything_is_not_an_error() -> None:
    assert parse_config(xml(control='model_skip="true"'), "demo").skip


BASE = xml('<Label value="cat"/><Label value="dog"/>')


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (BASE, False),
        (BASE.replace("<View>", "<View>\n<!-- a remark -->\n"), False),
        (BASE.replace('value="cat"', 'value="cat" background="red" hotkey="1"'), False),
        (BASE.replace('value="cat"', 'value="fox"'), True),
        (BASE.replace('value="cat"', 'value="cat" model_score_threshold="0.9"'), True),
        (BASE.replace('value="cat"', 'value="cat" car_prompt="a tabby cat"'), True),
        (BASE.replace('value="cat"', 'value="cat" alias="felis"'), True),
        (BASE.replace('name="mask"', 'name="mask" car_refine="none"'), True),
    ],
)
def test_the_version_changes_exactly_with_what_changes_predictions(text: str, changes: bool) -> None:
    base = parse_config(BASE, "demo").version()
    assert (parse_config(text, "demo").version() != base) is changes
    assert base.startswith("car-demo-")


def test_other_weights_are_another_version() -> None:
    config = parse_config(BASE, "demo")
    assert config.version("/weights/mine") != config.version()


words = st.text(min_size=1, max_size=8)


@given(st.lists(words, min_size=1, max_size=4, unique=True), st.none() | st.floats(0, 1))
def test_a_config_survives_json(values: list[str], threshold: float | None) -> None:
    labels = tuple(Label(value, value, (value, "x"), threshold) for value in values)
    config = LabelingConfig("mask", "image", "image", labels, "demo", (("refine", "none"),), threshold)
    assert LabelingConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("data", "expected", "outcome"),
    [
        ({"image": " /a.png "}, "/a.png", nullcontext()),
        ({"$undefined$": "/a.png"}, "/a.png", nullcontext()),
        ({"photo": "/a.png"}, "", refused("'image'")),
        ({"image": ["/a.png"]}, "", refused("'image'")),
        ({"image": ""}, "", refused("'image'")),
    ],
)
def test_image_url(data: dict[str, object], expected: str, outcome: AbstractContextManager[object]) -> None:
    with outcome:
        assert image_url(parse_config(xml(), "demo"), data) == expected
