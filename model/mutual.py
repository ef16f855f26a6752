"""Things and stuff apart, each as the other's background (CaR, Section 4.1 and appendix E: Pascal Context).

Much of what is usual background (sky, grass) is itself asked for where stuff counts. Left in the background it would
compete with itself, left out the things would lose what sets them off. So the recurrence runs twice over one image,
for the things and for the stuff, and things are painted over stuff. Imports without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.settings import Preset
from model.vocabulary import Query


@dataclass(frozen=True)
class Run:
    """One run of the recurrence: which queries, by index, with which settings."""

    rows: tuple[int, ...]
    preset: Preset


def runs(queries: Sequence[Query], preset: Preset) -> tuple[Run, ...]:
    """Return the runs an image needs, in the order they are painted: one, or stuff and then things.

    The setting `mutual` says what the background of two runs is: `released`: things have the usual one, stuff only the
    things; `paper`: both have the usual one and each other.
    """
    stuff = tuple(row for row, query in enumerate(queries) if query.stuff)
    things = tuple(row for row, query in enumerate(queries) if not query.stuff)
    if preset.mutual == "none" or not stuff or not things:
        return (Run(tuple(range(len(queries))), preset),)
    usual = preset.background
    for_things = usual if preset.mutual == "released" else usual + _texts(queries, stuff)
    for_stuff = _texts(queries, things) if preset.mutual == "released" else usual + _texts(queries, things)
    return (
        Run(stuff, replace(preset, background=for_stuff, prompts=preset.stuff_prompts or preset.prompts)),
        Run(things, replace(preset, background=for_things)),
    )


def _texts(queries: Sequence[Query], rows: Sequence[int]) -> tuple[str, ...]:
    return tuple(prompt for row in rows for prompt in queries[row].prompts)
