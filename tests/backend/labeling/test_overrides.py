from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labeling.edit import with_attributes
from backend.labeling.overrides import OverrideError, Overrides, read_ontology, read_thresholds
from backend.labeling.parsing import ConfigError, parse_config
from tests.backend.conftest import CONFIG

XML = """<View>
  <!-- the lead's note -->
  <Header value="Find them &amp; paint"/>
  <Image name="image" value="$image"/>
  <BrushLabels name="skipped" toName="image" model_skip="true"><Label value="cat"/></BrushLabels>
  <BrushLabels name="mask" toName="image" model_score_threshold="0.2">
    <Label value="cat" background="red" predicted_values="tom, kitty"/>
    <label value="moai" alias="statue"/>
  </BrushLabels>
</View>"""


def test_only_the_named_attributes_change() -> None:
    labels = {"cat": {"predicted_values": None, "car_prompt": 'a "cat", sleeping'}, "moai": {"hint": "a < b"}}
    edited = with_attributes(XML, labels, {"car_eta": "0.3"})
    expected = XML.replace('predicted_values="tom, kitty"', 'car_prompt="a &quot;cat&quot;, sleeping"')
    expected = expected.replace('alias="statue"', 'alias="statue" hint="a &lt; b"')
    expected = expected.replace('model_score_threshold="0.2"', 'model_score_threshold="0.2" car_eta="0.3"')
    assert edited.replace(" />", "/>") == expected


@pytest.mark.parametrize(
    ("xml", "label", "words"),
    [
        (XML, "dog", "no label 'dog'; it has 'cat', 'moai'"),
        ("<View/>", "cat", "no <Image>"),
        ("<View", "cat", "not well-formed"),
        ('<!DOCTYPE x [<!ENTITY e "boom">]>' + XML, "cat", "entities"),
    ],
)
def test_what_cannot_be_edited_says_why(xml: str, label: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        with_attributes(xml, {label: {"hint": "x"}})


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Co", "Cn"], exclude_characters=","), min_size=1).filter(
    lambda word: word == word.strip() != "" and "￾" not in word
)


@given(
    st.lists(WORDS, min_size=1, max_size=3).map(tuple) | WORDS.map(lambda word: (f"{word}, {word}",)),
    st.integers(0, 100).map(lambda percent: percent / 100),
)
def test_what_is_written_means_what_was_tried(prompts: tuple[str, ...], threshold: float) -> None:
    overrides = Overrides({"cat": prompts}, {"moai": threshold, "cat": threshold})
    written = parse_config(overrides.write(XML), "demo")
    assert written == overrides.apply(parse_config(XML, "demo"))
    assert written.version() == overrides.apply(parse_config(XML, "demo")).version()
    assert written.labels[0].prompts == prompts


def test_labels_that_are_not_named_keep_what_they_have() -> None:
    config = parse_config(XML, "demo")
    changed = Overrides({"moai": ("a stone head",)}, {"cat": 0.5}).apply(config)
    assert [(label.prompts, label.threshold) for label in changed.labels] == [
        (("tom", "kitty"), 0.5),
        (("a stone head",), 0.2),
    ]
    assert changed.version() != config.version()
    assert Overrides().apply(config) == config
    assert not Overrides()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (Overrides({"dog": ("a dog",)}), "no label 'dog'; it has 'cat', 'moai'"),
        (Overrides(thresholds={"Cat": 0.5}), "no label 'Cat'"),
        (Overrides({"cat": ("a cat, asleep", "a kitten")}), "comma"),
    ],
)
def test_what_no_config_can_hold_is_refused(overrides: Overrides, words: str) -> None:
    with pytest.raises(OverrideError, match=words):
        overrides.apply(parse_config(CONFIG, "demo"))


def test_an_ontology_maps_prompts_to_labels(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"a tom cat": "cat", "a stone head, on grass": "moai", "a kitten": "cat"}))
    assert read_ontology(path) == {"cat": ("a tom cat", "a kitten"), "moai": ("a stone head, on grass",)}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 1}', '{"a": ""}', '{" ": "cat"}', '"cat"', "{"])
def test_anything_else_is_no_ontology(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(OverrideError, match=r"prompts\.json"):
        read_ontology(path)
    with pytest.raises(OverrideError, match=r"nowhere\.json"):
        read_ontology(tmp_path / "nowhere.json")


def test_thresholds_are_read() -> None:
    assert read_thresholds(["cat=0.4", "E = mc²=1"]) == {"cat": 0.4, "E = mc²": 1.0}


@pytest.mark.parametrize("text", ["cat", "cat=", "=0.4", "cat=1.5", "cat=-0.1", "cat=nan", "cat=high", ""])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(OverrideError, match=r"0 to 1: Kettle=0\.4"):
        read_thresholds([text])
