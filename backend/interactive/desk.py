"""The worker's part: image and question in, masks out. Keeps what the next click will need."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from backend.interactive.asks import Ask, pixel, within
from backend.labeling.config import ImageTag
from backend.queue.job import Job
from backend.settings import Settings
from model.interactive import Pointed, Pointer, Points, Window
from model.presets import Preset
from model.sam import Sam
from model.segmentation import Segmentation
from model.segmenter import Segmenter
from model.settings import WITH_SAM
from model.vocabulary import Query

log = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]


class Desk:
    """Where one worker answers annotators. Not for several threads at once."""

    def __init__(self, settings: Settings, segmenter: Callable[[Preset], Segmenter]) -> None:
        """`segmenter` gives the one for a preset; weights of HQ-SAM are loaded at the first click or box."""
        self._settings = settings
        self._segmenter = segmenter
        self._sam: Sam | None = None
        self._pointers: dict[str, Pointer] = {}
        self._last: tuple[tuple[int, str], Image] | None = None

    def answer(self, job: Job, fetch: Callable[[], Image]) -> Segmentation:
        """Answer a job that has an `ask`: its label, once for each mask found; none is empty.

        Raises whatever `fetch` does, and WeightsError where HQ-SAM is wanted and its weights are not there.
        """
        if job.ask is None:
            raise ValueError("Nobody asks for anything in this job.")
        image, tag = self._image(job, fetch), job.config.image(job.ask.image)
        pointer = self._pointer(job.config.model_preset(tag), with_sam=not job.ask.text)
        found = [one for one in _pointed(pointer, job.ask, tag, image) if one.mask.any()]
        masks = np.stack([one.mask for one in found]) if found else np.zeros((0, *image.shape[:2]), bool)
        scores = np.array([one.score for one in found], np.float32)
        return Segmentation((job.ask.label,) * len(found), masks, scores, {}, (), {})

    def warm_up(self, segmenter: Segmenter) -> None:
        """Answer a click on nothing, so that the first annotator does not wait for what is made once."""
        click = Points(np.array([[32, 32]]), np.zeros((0, 2), np.int64))
        Pointer(segmenter).at_points(np.zeros((64, 64, 3), np.uint8), Query("anything", ("anything",)), click)

    def _image(self, job: Job, fetch: Callable[[], Image]) -> Image:
        """The image of the task, which is fetched once for clicks that follow each other."""
        key = (job.task, job.pictures[0].address)
        if self._last is None or self._last[0] != key:
            self._last = key, fetch()
        return self._last[1]

    def _pointer(self, preset: Preset, *, with_sam: bool) -> Pointer:
        if preset.checksum not in self._pointers:
            self._pointers[preset.checksum] = Pointer(self._segmenter(preset))
        pointer = self._pointers[preset.checksum]
        if with_sam and pointer.sam is None:
            if preset.refine in WITH_SAM:
                pointer.sam = pointer.segmenter.refiner.sam(preset)
            elif self._settings.car_sam:
                pointer.sam = self._own_sam(str(pointer.segmenter.device))
        return pointer

    def _own_sam(self, device: str) -> Sam:
        if self._sam is None:
            self._sam = Sam(self._settings.car_sam, self._settings.car_sam_weights, device)
            log.info("HQ-SAM %s answers clicks and boxes", self._settings.car_sam)
        return self._sam


def _pointed(pointer: Pointer, ask: Ask, tag: ImageTag, image: Image) -> list[Pointed]:
    height, width = image.shape[:2]
    if ask.text:
        return [pointer.at_text(image, ask.text)]
    query = next(query for query in tag.queries() if query.label == ask.label)
    if ask.points:
        places = [
            np.array([pixel(point, height, width) for point in ask.points if point.inside is inside]).reshape(-1, 2)
            for inside in (True, False)
        ]
        return [pointer.at_points(image, query, Points(*places))]
    boxes = [covered for box in ask.boxes if (covered := within(box, height, width))]
    return [pointer.at_box(image, query, Window(*box)) for box in boxes]
