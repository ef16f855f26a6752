"""Large pictures with exact masks, made of the demo scenes, for `python -m model evaluate folder --root OUT`.

    python scripts/large_scenes.py model/demo/scenes/val OUT --times 4     # each scene four times as large, edges sharp
    python scripts/large_scenes.py model/demo/scenes/val OUT --grid 3      # nine scenes in each picture: small objects

Enlarged scenes are drawn anew from their regions: each region's colours are continued beyond its edge and enlarged
smoothly, and the enlarged mask decides, sharply, which of them is seen. So the ground truth is exact at any size.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage

Scene = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # a picture [H, W, 3] and its index mask [H, W]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--times", type=int, help="how many times as wide and high")
    how.add_argument("--grid", type=int, help="so many scenes on a side of each picture")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    options = parser.parse_args(arguments)
    for folder in ("images", "masks", "queries"):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
    (options.out / "classes.txt").write_bytes((options.root / "classes.txt").read_bytes())
    groups = enlarged(options.root, options.times) if options.times else composed(options.root, options.grid)
    for number, (picture, index, queries) in enumerate(groups):
        if number == options.limit:
            break
        stem = f"{number:03d}.png"
        Pillow.fromarray(picture).save(options.out / "images" / stem)
        Pillow.fromarray(index).save(options.out / "masks" / stem)
        (options.out / "queries" / f"{number:03d}.txt").write_text("\n".join(queries) + "\n", encoding="utf-8")


def enlarged(root: Path, times: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]]:
    """Yield each scene enlarged, with its queries."""
    for stem, scene in scenes(root):
        yield *redrawn(scene, times), queries_of(root, stem)


def composed(root: Path, grid: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], list[str]]]:
    """Yield pictures of grid x grid scenes each; what is asked for is what any of the scenes asks for."""
    everything = list(scenes(root))
    for start in range(0, len(everything) - grid * grid + 1, grid * grid):
        chosen = everything[start : start + grid * grid]
        rows = [chosen[i : i + grid] for i in range(0, len(chosen), grid)]
        picture = np.vstack([np.hstack([image for _, (image, _) in row]) for row in rows])
        index = np.vstack([np.hstack([mask for _, (_, mask) in row]) for row in rows])
        yield picture, index, sorted({query for stem, _ in chosen for query in queries_of(root, stem)})


def scenes(root: Path) -> Iterator[tuple[str, Scene]]:
    """Yield each scene of a folder by its name."""
    for path in sorted((root / "images").glob("*.png")):
        with Pillow.open(path) as image, Pillow.open(root / "masks" / path.name) as mask:
            yield path.stem, (np.asarray(image.convert("RGB")), np.asarray(mask))


def queries_of(root: Path, stem: str) -> list[str]:
    """Return what is asked for in a scene: its own queries, or all classes."""
    own = root / "queries" / f"{stem}.txt"
    return (own if own.is_file() else root / "classes.txt").read_text(encoding="utf-8").splitlines()


def redrawn(scene: Scene, times: int) -> Scene:
    """Return a scene `times` as wide and high."""
    image, index = scene
    size = (image.shape[1] * times, image.shape[0] * times)
    best = np.full(size[::-1], -1, np.float32)
    picture, mask = np.zeros((*best.shape, 3), np.uint8), np.zeros(best.shape, np.uint8)
    for region in np.unique(index):
        inside = index == region
        share = cv2.resize(
            cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7), size, interpolation=cv2.INTER_CUBIC
        )
        pure = ndimage.binary_erosion(inside, border_value=1)
        nearest = ndimage.distance_transform_edt(
            ~(pure if pure.any() else inside), return_distances=False, return_indices=True
        )
        colors = cv2.resize(image[tuple(nearest)], size, interpolation=cv2.INTER_CUBIC)
        wins = share > best
        best[wins], picture[wins], mask[wins] = share[wins], colors[wins], region
    return picture, mask


if __name__ == "__main__":
    main()
