"""Pascal VOC 2012: palette PNGs, and lists of names for the splits."""

from pathlib import Path

from model.benchmarks.class_lists import class_list
from model.benchmarks.dataset import Dataset, Example, IndexFile, existing, inside, lines

FOLDERS = ("VOCdevkit/VOC2012", "VOC2012", ".")


def read(root: Path, split: str = "val", background: bool = True) -> Dataset:
    """Read the lists of VOCdevkit/VOC2012; without background it is VOC-20. Raises DatasetError."""
    home = inside(root, *FOLDERS)
    queries = class_list("voc")
    examples = []
    for name in lines(home / "ImageSets" / "Segmentation" / f"{split}.txt"):
        image = home / "JPEGImages" / f"{name}.jpg"
        mask = existing(home / "SegmentationClass" / f"{name}.png", image)
        examples.append(Example(name, image, queries, IndexFile(mask, len(queries), background)))
    title = "voc" if background else "voc20"
    return Dataset(title, split, "labels", tuple(examples), tuple(query.label for query in queries), background)
