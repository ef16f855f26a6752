"""A page about one evaluation: its figures, a bar for each class, the worst and best images, and the settings.

One HTML file without scripts or links to elsewhere, so that it can be mailed and kept.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.benchmarks import charts
from model.benchmarks.dataset import IGNORE, Dataset, DatasetError, Example
from model.benchmarks.datasets import read
from model.benchmarks.figures import Tally
from model.benchmarks.metrics import shown
from model.benchmarks.records import Record
from model.benchmarks.results import Results
from model.palette import colors
from model.pictures import PictureError, overlay, read_image
from model.settings import settings

SHOWN = 6  # images at each end
SIDE = 420  # pixels of the longer side of an image on the page
LEGEND = '<p class="quiet">Left: the image. Middle: what was found. Right: the ground truth.</p>'
TITLES = {
    "miou": "mIoU",
    "miou_with_background": "mIoU with background",
    "oiou": "overall IoU",
    "j_and_f": "J&F",
    "j": "J",
    "f": "F",
    "precision": "precision of labels",
    "recall": "recall of labels",
    "calibration_error": "calibration error",
}


def write(run: Results, target: Path, protocol: str = "default") -> None:
    """Write the page of a run, over all the records it has. Raises DatasetError where there is none."""
    records = sorted(
        run.records().values(), key=lambda record: (math.inf if record.iou is None else record.iou, record.name)
    )
    if not records:
        raise DatasetError(f"{run.folder} holds no image's results yet.")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(run, records, _added(run, records, protocol)), encoding="utf-8")


def page(run: Results, records: Sequence[Record], figures: Mapping[str, Any]) -> str:
    """Return the page as HTML; `records`, one or more, are in the order of their IoU."""
    setup = run.setup
    title = f"{setup.title}, preset {setup.preset}"
    share = "" if len(records) == setup.images else f" of {setup.images}"
    weights = f", weights {setup.weights}" if setup.weights else ""
    head = f"{len(records)}{share} images{weights}; {figures['seconds'] / len(records):.2f} s an image"
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style></head>',
            f'<body><h1>{escape(title)}</h1><p class="quiet">{escape(head)}</p>',
            _figures(figures),
            *_charts(records, figures),
            *_images(run, records),
            _settings(run),
            "</body></html>",
            "",
        ]
    )


def _added(run: Results, records: Sequence[Record], protocol: str) -> Mapping[str, Any]:
    tally = Tally(run.setup.scheme(protocol))
    for record in records:
        tally.add(record)
    return tally.figures()


def _figures(figures: Mapping[str, Any]) -> str:
    items = [f"<li>{escape(name)}<b>{shown(figures[key])}</b></li>" for key, name in TITLES.items() if key in figures]
    return f'<ul class="figures">{"".join(items)}</ul>'


def _charts(records: Sequence[Record], figures: Mapping[str, Any]) -> list[str]:
    parts = []
    if figures.get("per_class"):
        parts += ["<h2>Classes</h2>", charts.bars(figures["per_class"], "IoU over the whole set")]
    if figures.get("per_video"):
        per_video = {name: video for name, video in figures["per_video"].items() if None not in video.values()}
        halves = {name: (video["j"] + video["f"]) / 2 for name, video in per_video.items()}
        parts += ["<h2>Videos</h2>", charts.bars(halves, "J&F")]
    ious = [record.iou for record in records if record.iou is not None]
    if ious:
        parts += ["<h2>Images</h2>", charts.histogram(ious, "mean IoU of an image")]
    if figures.get("reliability"):
        parts += ["<h2>Scores</h2>", charts.reliability(figures["reliability"])]
    return parts


def _images(run: Results, records: Sequence[Record]) -> list[str]:
    """Show both ends of the records, each image beside what was found and what is there."""
    measured = [record for record in records if record.iou is not None]
    count = min(SHOWN, (len(measured) + 1) // 2)
    try:
        dataset = read(run.setup.dataset, Path(run.setup.root), run.setup.split)
    except (DatasetError, OSError) as error:
        return [f'<p class="quiet">The images are not shown: {escape(str(error))}</p>']
    examples = {example.name: example for example in dataset.examples}
    ends = {"Worst": measured[:count], "Best": [r for r in measured[: -count - 1 : -1] if r not in measured[:count]]}
    return [
        part
        for title, shown in ends.items()
        for part in (
            f"<h2>{title} images</h2>",
            LEGEND,
            *(_figure(run, dataset, r, examples.get(r.name)) for r in shown),
        )
    ]


def _figure(run: Results, dataset: Dataset, record: Record, example: Example | None) -> str:
    caption = f"<b>{escape(record.name)}</b>, IoU {shown(record.iou)}"
    if example is None:
        return f"<figure><figcaption>{caption}: no longer in the data set.</figcaption></figure>"
    try:
        image, drawn, truth = read_image(example.image), run.mask(record.name), example.truth.read()
    except (DatasetError, PictureError, OSError) as error:
        return f"<figure><figcaption>{caption}: {escape(str(error))}</figcaption></figure>"
    labels = dataset.classes or tuple(query.prompts[0] for query in example.queries)
    real = _index(truth)
    views = (image, overlay(image, drawn, len(labels)), overlay(image, real, len(labels)))
    titles = ("image", "found", "ground truth")
    pictures = (
        f'<img src="{_data(view)}" alt="{title}" title="{title}">' for view, title in zip(views, titles, strict=True)
    )
    keys = "".join(_key(labels, int(i), drawn, real) for i in np.union1d(drawn, real) if 0 < i <= len(labels))
    return f'<figure><div class="row">{"".join(pictures)}</div><figcaption>{caption}{keys}</figcaption></figure>'


def _index(truth: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Return an index map to draw: what is ignored is left blank, of objects that overlap the last one wins."""
    if truth.ndim == 2:
        return np.where(truth == IGNORE, 0, truth).astype(np.uint16)
    index = np.zeros(truth.shape[1:], np.uint16)
    for number, mask in enumerate(truth, start=1):
        index[mask.astype(bool)] = number
    return index


def _key(labels: Sequence[str], number: int, drawn: NDArray[np.uint16], real: NDArray[np.uint16]) -> str:
    red, green, blue = colors(len(labels) + 1)[number]
    there, found = bool((real == number).any()), bool((drawn == number).any())
    remark = "" if there and found else " (missed)" if there else " (not there)"
    return (
        f'<span class="key" style="background: rgb({red},{green},{blue})"></span>{escape(labels[number - 1])}{remark}'
    )


def _settings(run: Results) -> str:
    texts = {"data set": run.setup.dataset, "split": run.setup.split, "checksum": run.setup.checksum}
    values = {name.rstrip("_"): value for name, value in run.setup.settings.items()}
    listed = {name: ", ".join(map(str, v)) if isinstance(v, list | tuple) else v for name, v in values.items()}
    hints = {name: str(setting.metadata["doc"]) for name, setting in settings().items()}
    rows = (
        f'<tr title="{escape(hints.get(name, ""))}"><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>'
        for name, value in {**texts, **listed}.items()
    )
    return f"<h2>Settings</h2><table>{''.join(rows)}</table>"


def _data(view: NDArray[np.uint8]) -> str:
    """Return a picture as a data URI, scaled down to the page."""
    picture = Pillow.fromarray(view)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
