"""Other words and thresholds than the labeling config's: to be tried on a sample, or to be written into the config.

They never change a whole run behind the config's back: the `model_version` is a function of the config, and people
look there for what was asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backend.labeling.edit import Attributes, with_attributes
from backend.labeling.parsing import Label, LabelingConfig


class OverrideError(Exception):
    """A prompt or threshold of the command line cannot be used; the message says why."""


@dataclass(frozen=True)
class Overrides:
    """Label -> the prompts to look for instead of its own, and label -> its threshold, 0..1."""

    prompts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.prompts or self.thresholds)

    def apply(self, config: LabelingConfig) -> LabelingConfig:
        """The config with these; labels that are not named keep what they have.

        Raises:
            OverrideError: a label is not in the config, or too many prompts contain commas.
        """
        known = [label.value for label in config.labels]
        unknown = sorted({*self.prompts, *self.thresholds} - set(known))
        if unknown:
            raise OverrideError(
                f"The labeling config has no label {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(map(repr, known))}. Add the label there first: masks need one to be stored."
            )
        for label, prompts in self.prompts.items():
            if len(prompts) > 1 and any("," in prompt for prompt in prompts):
                raise OverrideError(
                    f"{label!r} has several prompts, one with a comma: a labeling config cannot hold that. "
                    "Leave out the comma, or keep that prompt alone."
                )
        images = (replace(image, labels=tuple(map(self._applied, image.labels))) for image in config.images)
        return replace(config, images=tuple(images))

    def _applied(self, label: Label) -> Label:
        prompts = self.prompts.get(label.value, label.prompts)
        return replace(label, prompts=prompts, threshold=self.thresholds.get(label.value, label.threshold))

    def write(self, xml: str) -> str:
        """The labeling config as XML with these written into it. Raises ConfigError as `with_attributes`."""
        labels: dict[str, dict[str, str | None]] = {value: {} for value in (*self.prompts, *self.thresholds)}
        for value, prompts in self.prompts.items():
            labels[value] |= _prompt_attributes(prompts)
        for value, threshold in self.thresholds.items():
            labels[value]["model_score_threshold"] = repr(threshold)
        return with_attributes(xml, labels)


def _prompt_attributes(prompts: tuple[str, ...]) -> Attributes:
    """One prompt is taken as it is, several are listed with commas."""
    if len(prompts) == 1:
        return {"car_prompt": prompts[0], "predicted_values": None}
    return {"predicted_values": ", ".join(prompts), "car_prompt": None}


def read_ontology(path: Path) -> dict[str, tuple[str, ...]]:
    """Label -> prompts, from a file `{"prompt": "label", ...}`; a label may have several prompts, in their order.

    Raises:
        OverrideError: the file cannot be read, or is something else.
    """
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OverrideError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(data, dict) or not data or not all(_is_word(one) for pair in data.items() for one in pair):
        raise OverrideError(f'{path} must be a JSON object with prompts and labels: {{"a red kettle": "Kettle"}}.')
    prompts: dict[str, tuple[str, ...]] = {}
    for prompt, label in data.items():
        prompts[label.strip()] = (*prompts.get(label.strip(), ()), prompt.strip())
    return prompts


def _is_word(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def read_thresholds(texts: Iterable[str]) -> dict[str, float]:
    """Label -> threshold, each from `LABEL=0.4`; the label may contain "=".

    Raises:
        OverrideError: one is not like that.
    """
    thresholds = {}
    for text in texts:
        label, equals, number = text.rpartition("=")
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if not (equals and label.strip() and 0 <= threshold <= 1):
            raise OverrideError(f"--threshold {text!r} must be a label, '=' and a number from 0 to 1: Kettle=0.4")
        thresholds[label.strip()] = threshold
    return thresholds
