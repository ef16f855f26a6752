"""Where HQ-SAM's weights come from: a file, a download on first use, or seeded at random.

Only `segment-anything-hq`'s architectures are used, its loading is not: it puts tensors where they were saved and lets
a file run code. Here files are read by torch with `weights_only`.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.weights import SEED, WeightsError, models_folder

REVISION = "a3a77cd0a2e5e50eaa76faccf61b964732d9b35f"  # of 16 July 2023; all four files have been the same since
PAGE = f"https://huggingface.co/lkeab/hq-sam/resolve/{REVISION}"


@dataclass(frozen=True)
class Published:
    """A published file of weights: its name, its size in megabytes, and a checksum of it by some algorithm of hashlib.

    SHA-256 where the checksum is published, else MD5, which finds a broken download but no forgery (nor could a forged
    file run code: it would only draw bad masks).
    """

    file: str
    megabytes: int
    algorithm: str
    digest: str

    @property
    def url(self) -> str:
        """Where it is downloaded from."""
        return f"{PAGE}/{self.file}"


PUBLISHED = {
    "vit_tiny": Published(
        "sam_hq_vit_tiny.pth", 42, "sha256", "0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196"
    ),
    "vit_b": Published("sam_hq_vit_b.pth", 379, "md5", "c6b8953247bcfdc8bb8ef91e36a6cacc"),
    "vit_l": Published("sam_hq_vit_l.pth", 1250, "md5", "08947267966e4264fb39523eccc33f86"),
    "vit_h": Published(
        "sam_hq_vit_h.pth", 2571, "sha256", "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35"
    ),
}


def load(name: str, weights: str) -> Any:
    """Return the model vit_tiny, vit_b, vit_l or vit_h with its weights, frozen, on the CPU.

    weights: `published` (from `CAR_MODELS`, else downloaded on first use), `random` (seeded), or a file. Raises
    WeightsError, which names the file and where to put it.
    """
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return _built(name)
    file = published(name) if weights == "published" else Path(weights)
    if not file.is_file():
        raise WeightsError(
            f"There is no file of weights {file}. sam_weights takes `published`, `random`, or such a file as "
            f"{PUBLISHED[name].file} from {PUBLISHED[name].url}."
        )
    return _filled(_built(name), file, name)


def published(name: str) -> Path:
    """Return the published file of a model; it is downloaded if it is not there. Raises WeightsError."""
    origin = PUBLISHED[name]
    file = models_folder() / origin.file
    if file.is_file():
        return file
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(origin.url, str(part), progress=True)
        verify(part, origin)
        part.replace(file)
    except OSError as error:
        raise WeightsError(
            f"The weights of HQ-SAM's {name} ({origin.megabytes} MB) could not be loaded ({error}). Without a "
            f"connection, fetch {origin.url} elsewhere and put it at {file} (or set CAR_MODELS to the folder that "
            f"holds {origin.file}, or sam_weights to the file)."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return file


def verify(file: Path, origin: Published) -> None:
    """Compare a file with the checksum it should have. Raises WeightsError."""
    with file.open("rb") as content:
        actual = hashlib.file_digest(content, origin.algorithm).hexdigest()
    if actual != origin.digest:
        raise WeightsError(
            f"What came from {origin.url} is damaged or another file: its {origin.algorithm.upper()} is {actual}, not "
            f"{origin.digest}. Try again, or fetch it elsewhere and put it at {models_folder() / origin.file}."
        )


def _built(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that timm deprecates, and of models of its own that it replaces
        from segment_anything_hq import sam_model_registry
    return sam_model_registry[name]().requires_grad_(False)


def _filled(model: Any, file: Path, name: str) -> Any:
    """Put the file's tensors into the model; all must be there."""
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        missing = model.load_state_dict(tensors, strict=False).missing_keys
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(f"{file} does not fit HQ-SAM's {name}, or is damaged: {first}.") from error
    if missing:
        raise WeightsError(
            f"{file} does not fit HQ-SAM's {name}: it lacks {missing[0]} and {len(missing) - 1} more. "
            "The weights of SAM without HQ do not do."
        )
    return model
