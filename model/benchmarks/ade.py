"""ADE20K: the 150 classes of the 2016 challenge, and the 847 that detectron2's script makes of the full data set."""

from pathlib import Path

from model.benchmarks.class_lists import class_list
from model.benchmarks.dataset import Dataset, Example, IndexFile, existing, inside, pictures


def read(root: Path, split: str = "validation") -> Dataset:
    """Read ADEChallengeData2016: PNGs from 1 to 150, 0 = other, which is ignored. Raises DatasetError."""
    home = inside(root, "ADEChallengeData2016", ".")
    queries = class_list("ade")
    examples = []
    for image in pictures(inside(home, f"images/{split}"), (".jpg",)):
        mask = existing(home / "annotations" / split / f"{image.stem}.png", image)
        examples.append(Example(image.stem, image, queries, IndexFile(mask, len(queries), background=False)))
    names = tuple(query.label for query in queries)
    return Dataset("ade", split, "labels", tuple(examples), names, background=False)


def read_full(root: Path, split: str = "validation") -> Dataset:
    """Read ADE20K_2021_17_01: 16-bit TIFFs from 0 to 846, 65535 = other, which is ignored. Raises DatasetError."""
    home = inside(root, "ADE20K_2021_17_01", ".")
    queries = class_list("ade847")
    examples = []
    for image in pictures(inside(home, f"images_detectron2/{split}"), (".jpg",)):
        mask = existing(home / "annotations_detectron2" / split / f"{image.stem}.tif", image)
        truth = IndexFile(mask, len(queries), background=False, shift=1)
        examples.append(Example(image.stem, image, queries, truth))
    names = tuple(query.label for query in queries)
    return Dataset("ade847", split, "labels", tuple(examples), names, background=False)
