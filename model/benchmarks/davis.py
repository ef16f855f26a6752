"""Ref-DAVIS 2017: DAVIS 2017's videos, whose objects two annotators described twice each.

Each description is an object of its own with one sentence, so that the mean over objects is the mean over the four
sets of descriptions. Each frame is an example.
"""

from collections import defaultdict
from pathlib import Path

from model.benchmarks.dataset import Dataset, DatasetError, Example, IndexObjects, existing, inside, lines, pictures
from model.vocabulary import Query

# The second annotator's files are not in UTF-8, and three names are misspelt.
DESCRIPTIONS = {
    "Davis17_annot1.txt": "utf-8",
    "Davis17_annot1_full_video.txt": "utf-8",
    "Davis17_annot2.txt": "latin-1",
    "Davis17_annot2_full_video.txt": "latin-1",
}
MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
Described = dict[str, dict[str, tuple[int, str]]]


def read(root: Path, split: str = "val") -> Dataset:
    """Read DAVIS with davis_text_annotations/ beside or inside it. Raises DatasetError."""
    home = inside(root, "DAVIS", ".")
    texts = inside(root, "davis_text_annotations", "DAVIS/davis_text_annotations")
    masks = inside(home, "Annotations/480p", "Annotations_unsupervised/480p")
    described = _descriptions(texts)
    examples = []
    for video in lines(home / "ImageSets" / "2017" / f"{split}.txt"):
        objects = described.get(video)
        if not objects:
            raise DatasetError(f"{texts} describes nothing in {video}.")
        queries = tuple(Query(label, (sentence,)) for label, (_, sentence) in objects.items())
        numbers = tuple(number for number, _ in objects.values())
        for image in pictures(home / "JPEGImages" / "480p" / video, (".jpg",)):
            truth = IndexObjects(existing(masks / video / f"{image.stem}.png", image), numbers)
            examples.append(Example(f"{video}.{image.stem}", image, queries, truth))
    return Dataset("ref-davis", split, "video", tuple(examples))


def _descriptions(folder: Path) -> Described:
    """Return for each video the objects' numbers and sentences, by a label: the number and the set's, from 1."""
    described: Described = defaultdict(dict)
    for which, (name, encoding) in enumerate(DESCRIPTIONS.items(), start=1):
        for line in lines(folder / name, encoding):
            video, number, *sentence = line.split(maxsplit=2)
            if not number.isdigit() or not sentence:
                raise DatasetError(f'{folder / name}: {line!r} should be a video, a number and a "sentence".')
            label, text = f"{number}-{which}", sentence[0].strip('"')
            described[MISSPELT.get(video, video)][label] = (int(number), text)
    return described
