"""Memory of a worker over a thousand images, with the real model: `python -m tests.load.memory --images 1000`.

The jobs come through Redis, the images over HTTP, and the worker is the real one, in this process, so that its memory
can be looked at after each image. The last line is one JSON object; the exit code is 1 when memory grows.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from typing import Any

import numpy as np

from tests.load.rig import Rig, memory_of

WARM_SHARE = 0.2
"""Caches fill in the first part; growth is that of the rest."""
ALLOWED_KB_PER_IMAGE = 10.0
"""10 MB in a thousand images: less than the noise of an allocator, far less than one image that is kept."""


def run(images: int, pixels: int, say: Any) -> dict[str, Any]:
    """Segment `images` images and look at this process's memory after each."""
    with Rig(0, 0, pixels=pixels, settings={"CAR_CONVERGE_SECONDS": "0"}) as rig:
        os.environ.update({name: rig.env[name] for name in ("REDIS_URL", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY")})
        from backend import worker  # reads the environment when it begins
        from backend.settings import load_settings

        sizes: list[float] = []
        segment = worker._segment

        def counted(*args: Any) -> str:
            summary = segment(*args)
            sizes.append(memory_of(os.getpid()) / 1e6)
            if len(sizes) % 50 == 0:
                say(f"{len(sizes)} images, {sizes[-1]:.1f} MB, {len(gc.get_objects())} objects")
            return summary

        worker._segment = counted
        rig.studio.import_tasks(images)
        rig.wait(lambda: rig.redis.zcard("car:open") == images, 120)
        begun = time.monotonic()
        worker.work(load_settings(), burst=True)
        seconds = time.monotonic() - begun
        rig.wait(rig.idle, 120)
        delivered = rig.studio.report()["delivered"]
    rig.remove()
    return {"images": len(sizes), "delivered": delivered, "seconds": round(seconds, 1), **trend(np.array(sizes))}


def trend(sizes: np.ndarray) -> dict[str, float]:
    """`sizes` is [N], MB after each image: the first, that at the start of the steady part, the last; kB per image."""
    steady = sizes[int(WARM_SHARE * len(sizes)) :]
    slope = np.polyfit(np.arange(len(steady)), steady, 1)[0] * 1000 if len(steady) > 2 else 0.0
    return {
        "first_mb": round(float(sizes[0]), 1),
        "steady_mb": round(float(steady[0]), 1),
        "last_mb": round(float(sizes[-1]), 1),
        "most_mb": round(float(sizes.max()), 1),
        "kb_per_image": round(float(slope), 2),
    }


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--pixels", type=int, default=128 * 96)
    args = parser.parse_args()
    begun = time.monotonic()
    found = run(args.images, args.pixels, lambda line: print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True))
    print(json.dumps(found), flush=True)
    return int(found["delivered"] < args.images or found["kb_per_image"] > ALLOWED_KB_PER_IMAGE)


if __name__ == "__main__":
    sys.exit(main())
