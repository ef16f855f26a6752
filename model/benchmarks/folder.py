"""A data set in a folder: `images/`, `masks/STEM.png`, `classes.txt`, and maybe `queries/STEM.txt`.

Masks are index maps: 0 = background, i = i-th class; the largest value (255, in 16 bits 65535) means ignore.
"""

from pathlib import Path

from model.benchmarks.dataset import Dataset, DatasetError, Example, IndexFile, existing, lines, pictures
from model.vocabulary import vocabulary


def read(root: Path) -> Dataset:
    """Read the folder's lists. Raises DatasetError."""
    names = lines(root / "classes.txt")
    examples = []
    for image in pictures(root / "images"):
        mask = existing(root / "masks" / f"{image.stem}.png", image)
        asked = root / "queries" / f"{image.stem}.txt"
        wanted = lines(asked) if asked.is_file() else names
        unknown = sorted(set(wanted) - set(names))
        if unknown:
            raise DatasetError(f"{asked} asks for {unknown[0]!r}, which classes.txt does not list.")
        truth = IndexFile(mask, len(names))
        examples.append(Example(image.stem, image, vocabulary(wanted), truth))
    return Dataset("folder", "all", "labels", tuple(examples), names)
