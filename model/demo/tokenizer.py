"""The demo CLIP's words: byte pairs learnt from its own texts, in the file format of CLIP's tokenizer."""

import gzip
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from model.demo import words
from model.demo.world import COLORS, HERE, concepts, grounds

MERGES = "bpe_demo.txt.gz"
TOKENS = 1536
# Of 1,536 tokens 512 are bytes, with and without an end of word, and two are start and end of a text.
COUNT = TOKENS - 2 * 256 - 2
CONTEXT = 24
OWN, TEMPLATE, FOREIGN = 40, 200, 3  # how often a word counts


def tokenizer(folder: Path = HERE) -> object:
    """Return open_clip's tokenizer with the merges of a folder."""
    import open_clip

    return open_clip.SimpleTokenizer(bpe_path=str(folder / MERGES), context_length=CONTEXT)


def counts() -> Counter[str]:
    """Return how often each word counts when the pairs are learnt."""
    counted: Counter[str] = Counter()
    for names in (*(concept.words for concept in concepts()), *grounds().values()):
        for word in re.findall("[a-z]+", " ".join(names)):
            counted[word] += OWN
    said = [*words.TEMPLATES, *words.OPENINGS, *words.KINDS.values(), *words.SIDES, *words.SIZES, *COLORS]
    for word in re.findall("[a-z]+", " ".join(said)):
        counted[word] += TEMPLATE
    for word in re.findall("[a-z]+", " ".join(words.foreign())):
        counted[word] += FOREIGN
    return counted


def learn(counted: Counter[str], count: int = COUNT) -> list[tuple[str, str]]:
    """Learn byte pairs: again and again the most frequent neighbours become one."""
    parts = {word: (*word[:-1], word[-1] + "</w>") for word in counted}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        frequent: Counter[tuple[str, str]] = Counter()
        for word, pieces in parts.items():
            for pair in pairwise(pieces):
                frequent[pair] += counted[word]
        if not frequent:
            break
        best = max(frequent.items(), key=lambda item: (item[1], item[0]))[0]
        merges.append(best)
        parts = {word: _merged(pieces, best) for word, pieces in parts.items()}
    return merges


def write(merges: list[tuple[str, str]], path: Path) -> None:
    """Write merges as CLIP's file; a line end at the end would be one more token."""
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file:
        file.write(text.encode())


def read(path: Path) -> list[tuple[str, str]]:
    """Read merges."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1:]
    return [(first, second) for first, second in (line.split() for line in lines)]


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return tuple(merged)
