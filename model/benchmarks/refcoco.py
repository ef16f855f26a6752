"""RefCOCO, RefCOCO+ and RefCOCOg: sentences for objects of COCO's 2014 images.

All sentences of an object describe it together, and all objects of an image are one example, so that the image passes
through CLIP once. Objects count one by one, as in the released code (papers on other methods count sentences).
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from model.benchmarks.dataset import Dataset, DatasetError, Example, Polygons, Segments, inside
from model.benchmarks.pickles import load_plain
from model.vocabulary import Query, plain

IMAGES = ("images/mscoco/images/train2014", "images/train2014", "train2014")


def read(root: Path, split: str = "val", name: str = "refcoco") -> Dataset:
    """Read NAME/instances.json and NAME/refs(...).p, or refs(...).json with the same in it. Raises DatasetError.

    split: val, testA, testB of `refcoco` and `refcoco+`; val, test (of UMD) and val-google of `refcocog`.
    """
    home = inside(root, "refer/data", "refer", ".")
    images = inside(home, *IMAGES)
    by, part = ("google", "val") if split == "val-google" else ("umd" if name == "refcocog" else "unc", split)
    known = _instances(home / name / "instances.json")
    described: dict[int, list[tuple[Query, Segments]]] = defaultdict(list)
    for ref in _refs(home / name, by):
        if ref["split"] == part:
            if ref["image_id"] not in known["images"] or ref["ann_id"] not in known["annotations"]:
                raise DatasetError(f"{home / name / 'instances.json'} lacks what the object {ref['ref_id']} refers to.")
            described[ref["image_id"]].append((_query(ref), _polygons(known["annotations"], ref)))
    if not described:
        raise DatasetError(f"{home / name} has no sentences of the split {split!r}.")
    examples = []
    for number, objects in sorted(described.items()):
        image = known["images"][number]
        queries, polygons = zip(*objects, strict=True)
        path = images / image["file_name"]
        truth = Polygons(image["height"], image["width"], polygons)
        examples.append(Example(path.stem, path, queries, truth))
    return Dataset(name, split, "objects", tuple(examples))


def _instances(path: Path) -> dict[str, dict[int, Any]]:
    if not path.is_file():
        raise DatasetError(f"{path} is missing.")
    known = json.loads(path.read_text(encoding="utf-8"))
    return {part: {one["id"]: one for one in known[part]} for part in ("images", "annotations")}


def _refs(folder: Path, by: str) -> list[dict[str, Any]]:
    converted, pickled = folder / f"refs({by}).json", folder / f"refs({by}).p"
    if converted.is_file():
        refs = json.loads(converted.read_text(encoding="utf-8"))
    elif pickled.is_file():
        refs = load_plain(pickled)
    else:
        raise DatasetError(f"{pickled} is missing.")
    needed = {"ref_id", "ann_id", "image_id", "split", "sentences"}
    if not isinstance(refs, list) or not all(isinstance(ref, dict) and needed <= ref.keys() for ref in refs):
        raise DatasetError(f"{pickled} should be a list of objects, each with {', '.join(sorted(needed))}.")
    return refs


def _query(ref: dict[str, Any]) -> Query:
    """Return an object's sentences as annotators wrote them; those without any text are left out."""
    sentences = (sentence.get("raw") or sentence["sent"] for sentence in ref["sentences"])
    kept = tuple(sentence for sentence in sentences if plain(sentence))
    if not kept:
        raise DatasetError(f"The object {ref['ref_id']} has no sentence.")
    return Query(str(ref["ref_id"]), kept)


def _polygons(annotations: dict[int, Any], ref: dict[str, Any]) -> Segments:
    segmentation = annotations[ref["ann_id"]]["segmentation"]
    if not isinstance(segmentation, list):
        raise DatasetError(f"The object {ref['ref_id']} is not drawn with polygons.")
    return tuple(tuple(polygon) for polygon in segmentation)
