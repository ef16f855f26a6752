"""From day one a worker keeps the scores of all labels, those that were dropped too."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.corrections.records import ScoreBook
from backend.queue.jobs import Job
from backend.settings import Settings
from backend.worker import Engine
from model.segmentation import Segmentation
from tests.backend.conftest import one_image


class FindsACat:
    """A segmenter that finds a cat, and drops the moai with its score."""

    def segment(self, image: np.ndarray, *_: Any, **__: Any) -> Segmentation:
        masks = np.ones((1, *image.shape[:2]), bool)
        return Segmentation(("cat",), masks, np.array([0.75], np.float32), {"cat": 0.75, "moai": 0.0625}, (), {})


def test_dropped_labels_leave_their_score(settings: Settings, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24)).save(buffer, "PNG")
    here = replace(job, pictures=one_image(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"))
    engine = Engine(settings)
    monkeypatch.setattr(engine, "segmenter", lambda config: FindsACat())
    found = engine.predict(here).found
    assert found == ("cat",)
    scores = ScoreBook(engine.redis, settings).scores(here.project, here.task, here.version, here.fingerprint)
    assert scores == {"cat": 0.75, "statue": 0.0625}, "by the name that is stored: the alias"
