from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labeling.parsing import (
    ConfigError,
    Control,
    ImageTag,
    Label,
    LabelingConfig,
    Picture,
    for_task,
    parse_config,
    pictures,
)


def xml(labels: str = '<Label value="cat"/>', control: str = "", image: str = 'value="$image"') -> str:
    return (
        f'<View><Image name="image" {image}/>'
        f'<BrushLabels name="mask" toName="image" {control}>{labels}</BrushLabels></View>'
    )


SHAPES = """<View><Image name="image" value="$image"/><Image name="other" value="$other"/>
  <BrushLabels name="mask" toName="image"><Label value="cat" alias="felis"/><Label value="dog"/></BrushLabels>
  <PolygonLabels name="outline" toName="image"><Label value="cat"/></PolygonLabels>
  <RectangleLabels name="elsewhere" toName="other"><Label value="bird"/></RectangleLabels>
  <RectangleLabels name="box" toName="image" car_instances="components" model_score_threshold="0.2">
    <Label value="cat"/><Label value="fox"/></RectangleLabels></View>"""


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
        pytest.param(xml().replace('toName="image"', 'toName="photo"'), refused("'photo', which is no"), id="nowhere"),
        pytest.param(
            SHAPES.replace('toName="other"', 'toName="othr"'), refused("'othr', which is no tag"), id="one nowhere"
        ),
        pytest.param(xml().replace('toName="image"', ""), refused("points to '', which is no tag"), id="no toName"),
        pytest.param(
            xml().replace('toName="image"', 'toName="clip"').replace("<View>", '<View><Video name="clip"/>'),
            refused("No <BrushLabels> points to an <Image>"),
            id="points to a video",
        ),
        pytest.param(xml().replace('name="mask"', ""), refused("has no name"), id="no name"),
        pytest.param(SHAPES.replace('"outline"', '"mask"'), refused("same name: 'mask'"), id="two of one name"),
        pytest.param(SHAPES.replace('name="other"', 'name="image"'), refused("same name"), id="two images of one name"),
        pytest.param(
            xml().replace("<View>", '<View><Image name="beside" value="$b"/>'), nullcontext(), id="an image to look at"
        ),
        pytest.param(xml(image='valueList="images"'), refused("needs value="), id="pages without field"),
        pytest.param(
            SHAPES.replace('name="elsewhere"', 'name="elsewhere" car_eta="high"'), refused("eta"), id="second image"
        ),
        pytest.param(
            SHAPES.replace('name="elsewhere"', 'name="elsewhere" car_preset="photos"').replace(
                'name="mask"', 'name="mask" car_preset="demo"'
            ),
            refused("differ in car_preset"),
            id="two presets",
        ),
        pytest.param(
            SHAPES.replace('name="elsewhere"', 'name="elsewhere" car_eta="0.4"').replace(
                'name="mask"', 'name="mask" car_eta="0.3"'
            ),
            nullcontext(),
            id="a setting for each image",
        ),
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
        pytest.param(xml(control='car_memory="logos#0123456789abcdef"'), nullcontext(), id="memory"),
        pytest.param(xml(control='car_memory="logos"'), refused("name and a checksum"), id="memory without checksum"),
        pytest.param(
            xml(control='car_memory="../logos#0123456789abcdef"'), refused("name and a checksum"), id="memory elsewhere"
        ),
        pytest.param(xml(control='car_prest="demo"'), refused("car_prest"), id="misspelt attribute"),
        pytest.param(xml('<Label value="a" car_promt="b"/>'), refused("car_promt"), id="misspelt attribute of a label"),
        pytest.param(xml(image='value="https://a/b.png"'), refused("value="), id="image without field"),
        pytest.param(xml(control='car_instances="many"'), refused('"one"'), id="instances"),
        pytest.param(xml('<Label value="a" car_group="sky"/>'), refused('"stuff"'), id="group"),
        pytest.param(xml(labels="", control='value="$labels"'), nullcontext(), id="labels of the tasks"),
        pytest.param(xml(labels="", control='value="labels"'), refused("lists its labels"), id="labels without field"),
        pytest.param(SHAPES, nullcontext(), id="three controls"),
        pytest.param(SHAPES.replace('name="outline"', 'name="outline" car_eta="0.3"'), nullcontext(), id="one says so"),
        pytest.param(
            SHAPES.replace("toName", 'car_eta="0.3" toName', 1).replace('name="box"', 'name="box" car_eta="0.4"'),
            refused("differ in car_eta"),
            id="two settings",
        ),
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
        Label("Coke", "Coke", ("coca cola logo", "red can"), 0.4),
        Label("Moai", "statue", ("a stone head, on an island",), 0.7),
    )
    assert config.thresholds() == {"Coke": 0.4, "Moai": 0.7}
    assert [query.prompts[0] for query in config.images[0].queries()] == [
        "coca cola logo",
        "a stone head, on an island",
    ]


@pytest.mark.parametrize("value", ['say "hi"', "{curly}", "%s", "🦊", "a < b & c", "naïve", "x" * 500])
def test_any_text_may_be_a_label(value: str) -> None:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    assert parse_config(xml(f'<Label value="{escaped}"/>'), "demo").labels[0].value == value


def test_controls_that_are_not_skipped_are_served() -> None:
    text = """<View><Image name="image" value="$photo"/>
      <BrushLabels name="one" toName="image" model_skip="true"><Label value="a"/></BrushLabels>
      <BrushLabels name="two" toName="image"><Label value="b"/></BrushLabels></View>"""
    config = parse_config(text, "demo")
    ((image,), skip) = config.images, config.skip
    assert [control.from_name for control in image.controls] == ["two"]
    assert (image.field, skip) == ("photo", False)
    (image,) = parse_config(text, "demo", skipped=True).images
    assert [control.from_name for control in image.controls] == ["one", "two"]


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
        (BASE.replace('name="mask"', 'name="mask" car_memory="logos#0123456789abcdef"'), True),
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
    controls = (Control("brush", "mask", tuple((value, value) for value in values), "components", True),)
    image = ImageTag("image", "image", controls, labels[:1], (("refine", "none"),), True, task_labels=labels[1:])
    config = LabelingConfig((image, image), "demo")
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
def test_where_an_image_is(data: dict[str, object], expected: str, outcome: AbstractContextManager[object]) -> None:
    with outcome:
        assert pictures(parse_config(xml(), "demo"), data) == (Picture("image", expected),)


TWO = parse_config(SHAPES, "demo")
PAGES = parse_config(xml(image='valueList="$pages"'), "demo")


@pytest.mark.parametrize(
    ("config", "data", "expected", "outcome"),
    [
        (TWO, {"image": "/a", "other": "/b"}, [("image", "/a", None), ("other", "/b", None)], nullcontext()),
        (TWO, {"image": None, "other": "/b"}, [("other", "/b", None)], nullcontext()),
        (TWO, {"other": "/b"}, [("other", "/b", None)], nullcontext()),
        (TWO, {"$undefined$": "/b"}, [], refused("in its field 'image', 'other'")),
        (PAGES, {"pages": ["/a", "", "/c"]}, [("image", "/a", 0), ("image", "/c", 2)], nullcontext()),
        (PAGES, {"pages": []}, [], refused("'pages'")),
        (PAGES, {"pages": "/a"}, [], refused("'pages'")),
    ],
)
def test_where_several_images_are(
    config: LabelingConfig,
    data: dict[str, object],
    expected: list[tuple[str, str, int | None]],
    outcome: AbstractContextManager[object],
) -> None:
    with outcome:
        assert pictures(config, data) == tuple(Picture(*one) for one in expected)


def test_each_image_has_the_labels_of_its_own_controls() -> None:
    image, other = TWO.images
    assert [query.label for query in image.queries()] == ["cat", "dog", "fox"]
    assert [query.label for query in other.queries()] == ["bird"]
    assert [label.value for label in TWO.labels] == ["cat", "dog", "fox", "bird"]
    assert TWO.names() == {"felis": "cat", "dog": "dog", "cat": "cat", "fox": "fox", "bird": "bird"}
    both = parse_config(SHAPES.replace('value="bird"', 'value="cat" car_prompt="a tiger"'), "demo")
    assert [image.queries()[0].prompts for image in both.images] == [("cat",), ("a tiger",)]
    alone = parse_config(SHAPES.replace('name="elsewhere"', 'name="elsewhere" model_skip="true"'), "demo")
    assert alone.images == TWO.images[:1]
    assert alone.version() != TWO.version()


def test_all_controls_of_one_image_share_a_vocabulary() -> None:
    (config, _) = parse_config(SHAPES, "demo").images
    assert config.controls == (
        Control("brush", "mask", (("cat", "felis"), ("dog", "dog"))),
        Control("polygon", "outline", (("cat", "cat"),)),
        Control("rectangle", "box", (("cat", "cat"), ("fox", "fox")), "components"),
    )
    assert [label.value for label in config.labels] == ["cat", "dog", "fox"]
    assert config.thresholds() == {"fox": 0.2}


def test_stuff_is_searched_apart_from_things() -> None:
    config = parse_config(xml('<Label value="sky" car_group="stuff"/><Label value="cat"/>'), "photos")
    assert [query.stuff for query in config.images[0].queries()] == [True, False]
    things = parse_config(xml(), "photos")
    assert config.model_preset(config.images[0]).mutual == "paper"
    assert things.model_preset(things.images[0]).mutual == "none"


DYNAMIC = xml('<Label value="cat" alias="felis"/>', 'value="$labels" model_score_threshold="0.3"')


@pytest.mark.parametrize(
    ("listed", "expected", "outcome"),
    [
        (["dog", " fox "], {"cat": "felis", "dog": "dog", "fox": "fox"}, nullcontext()),
        ([{"value": "dog", "alias": "canis"}], {"cat": "felis", "dog": "canis"}, nullcontext()),
        (["cat"], {"cat": "felis"}, nullcontext()),
        ([], {"cat": "felis"}, nullcontext()),
        ("dog", {}, refused("no list of labels in its field 'labels'")),
        (["dog", "dog"], {}, refused("same value: 'dog'")),
        ([{"value": ""}], {}, refused("no value")),
        ([7], {}, refused("neither a text nor an object")),
    ],
)
def test_labels_of_a_task(listed: object, expected: dict[str, str], outcome: AbstractContextManager[object]) -> None:
    config = parse_config(DYNAMIC, "demo")
    with outcome:
        own = for_task(config, {"labels": listed})
        (image,) = own.images
        assert image.names(image.controls[0]) == expected
        assert [query.label for query in image.queries()] == list(expected)
        assert own.version() == config.version()


def test_a_task_without_any_label_is_told() -> None:
    with refused("is empty"):
        for_task(parse_config(xml(labels="", control='value="$labels"'), "demo"), {"labels": []})


@pytest.mark.parametrize("attribute", ["smartOnly", "smartonly"])
def test_tools_to_ask_with_take_no_masks(attribute: str) -> None:
    brush = '<BrushLabels name="mask" toName="image"><Label value="cat"/></BrushLabels>'
    tool = f'<RectangleLabels name="box" toName="image" {attribute}="true"><Label value="dog"/></RectangleLabels>'
    image = '<Image name="image" value="$image"/>'
    both, alone = (parse_config(f"<View>{image}{tags}</View>", "demo") for tags in (tool + brush, brush))
    assert both == alone, "nor do they change the version"
    with pytest.raises(ConfigError, match="no <BrushLabels>"):
        parse_config(f"<View>{image}{tool}</View>", "demo")
