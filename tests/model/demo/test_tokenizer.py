from collections import Counter
from pathlib import Path

import open_clip

from model.demo import tokenizer
from model.demo.world import HERE


def test_the_shipped_file_survives_reading_and_writing(tmp_path: Path) -> None:
    merges = tokenizer.read(HERE / tokenizer.MERGES)
    assert len(merges) == tokenizer.COUNT
    tokenizer.write(merges, tmp_path / tokenizer.MERGES)
    assert tokenizer.read(tmp_path / tokenizer.MERGES) == merges
    ours, theirs = (
        open_clip.SimpleTokenizer(bpe_path=str(folder / tokenizer.MERGES), context_length=24)
        for folder in (tmp_path, HERE)
    )
    texts = ["a photo of a leaning tower of pisa", "the red car on the left", "xylophone"]
    assert (ours(texts) == theirs(texts)).all()
    assert ours.vocab_size == tokenizer.TOKENS


def test_frequent_neighbours_merge_first() -> None:
    merges = tokenizer.learn(Counter({"abab": 3, "cab": 2}), count=3)
    assert merges[0] == ("a", "b</w>")
    assert len(merges) == 3


def test_learning_ends_when_all_is_one() -> None:
    assert tokenizer.learn(Counter({"ab": 1}), count=5) == [("a", "b</w>")]
