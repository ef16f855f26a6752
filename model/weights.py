"""Where CLIP's weights come from: shipped, seeded at random, a folder, or OpenAI's through open_clip.

Files are read as safetensors, or by torch with `weights_only`: neither runs code that a file brings along.
"""

import contextlib
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import load_file

from model.presets import DEMO, Preset

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
SEED = 20231213


class WeightsError(RuntimeError):
    """Weights cannot be loaded; the message says which file is missing and where to put it."""


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP: the frozen model in fp32, its tokenizer, and the mean and deviation its pixels are scaled by."""

    model: Any
    tokenize: Callable[[Sequence[str]], torch.Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load(preset: Preset, weights: str | None = None) -> tuple[Clip, Clip]:
    """Load the CLIP of the proposals and the CLIP of the classifier (the same one, if the weights are)."""
    source = weights or preset.weights
    if source not in ("openai", "random"):
        both = from_folder(DEMO if source == "demo" else Path(source))
        return both, both
    fetch = from_open_clip if source == "openai" else at_random
    proposals = fetch(preset.proposal_model)
    same = preset.classifier_model == preset.proposal_model
    return proposals, proposals if same else fetch(preset.classifier_model)


def towers(preset: Preset, weights: str | None = None) -> tuple[str, ...]:
    """Return what tells the towers of two presets apart; a folder's are both of them, whatever the presets' models."""
    source = weights or preset.weights
    models = (preset.proposal_model, preset.classifier_model) if source in ("openai", "random") else ()
    return (source, *models, preset.positions, preset.precision)


def from_folder(folder: Path) -> Clip:
    """Load a folder with `open_clip_config.json`, `open_clip_model.safetensors` and maybe BPE merges (`*.txt.gz`)."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder} is no folder of weights: it lacks {name}. It needs {CONFIG} and {WEIGHTS} "
                "(and its BPE merges as .txt.gz, if they are not CLIP's own). Other choices: demo, random, openai."
            )
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    with _quiet():
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:
        raise WeightsError(f"{folder / WEIGHTS} does not fit {CONFIG} beside it, or is damaged: {error}") from error
    merges = sorted(folder.glob("*.txt.gz"))
    tokenizer = open_clip.SimpleTokenizer(
        **({"bpe_path": str(merges[0])} if merges else {}), context_length=model.context_length
    )
    pixels = config.get("preprocess_cfg", {})
    return Clip(model, tokenizer, tuple(pixels.get("mean", OPENAI_MEAN)), tuple(pixels.get("std", OPENAI_STD)))


def at_random(name: str) -> Clip:
    """Build open_clip's architecture `name` with seeded random weights: for tests and benchmarks only."""
    architecture = Origin.of(name).model
    _config(architecture)
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(SEED)
        model = open_clip.create_model(architecture)
    return Clip(model, open_clip.get_tokenizer(architecture), OPENAI_MEAN, OPENAI_STD)


@dataclass(frozen=True)
class Origin:
    """Which weights: open_clip's model, a tag of its or a file, and hex digits that the file's SHA-256 begins with."""

    model: str
    weights: str
    digest: str

    @classmethod
    def of(cls, name: str) -> "Origin":
        """Read `MODEL`, `MODEL@TAG` or `MODEL@FILE`, and `#DIGEST` after it; without a tag, OpenAI's weights."""
        rest, _, digest = name.partition("#")
        model, _, weights = rest.partition("@")
        return cls(model, weights or "openai", digest.lower())

    @property
    def is_file(self) -> bool:
        """Whether the weights are a file, by the look of it."""
        return self.weights.endswith((".safetensors", ".pt", ".bin", ".pth"))


def from_open_clip(name: str) -> Clip:
    """Load the weights `MODEL[@TAG or FILE][#SHA-256]`: a tag's from `CAR_MODELS`, else downloaded on first use."""
    origin = Origin.of(name)
    config = _config(origin.model)
    published = {} if origin.is_file else _published(origin, config)
    own = Path(origin.weights) if origin.is_file else models_folder() / file_name(origin)
    if origin.is_file and not own.is_file():
        raise WeightsError(f"There is no file of weights {own}.")
    if origin.digest:
        _verify(own, origin.digest)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # third parties warn about their own deprecations
            pretrained = str(own) if own.is_file() else origin.weights
            model = open_clip.create_model(origin.model, pretrained=pretrained, weights_only=True)
    except Exception as error:
        if own.is_file():
            raise WeightsError(
                f"{own} does not fit {origin.model}, or is damaged: {_first_line(error)}. Fetch it again, or remove it."
            ) from error
        hub = str(published.get("hf_hub", "")).rstrip("/")
        page = f"{WEIGHTS} from https://huggingface.co/{hub}" if hub else str(published.get("url"))
        raise WeightsError(
            f"The weights of {origin.model} could not be loaded ({_first_line(error)}). Without a connection, "
            f"fetch {page} elsewhere and put it at {own} "
            f"(or set CAR_MODELS to the folder that holds {own.name})."
        ) from error
    pixels = published or open_clip.get_model_preprocess_cfg(model)
    mean, std = pixels.get("mean", OPENAI_MEAN), pixels.get("std", OPENAI_STD)
    return Clip(model, open_clip.get_tokenizer(origin.model), tuple(mean), tuple(std))


def file_name(origin: Origin) -> str:
    """Return what a hand-placed file of weights is called: `MODEL.safetensors`, or `MODEL.TAG.safetensors`."""
    return f"{origin.model}{'' if origin.weights == 'openai' else '.' + origin.weights}.safetensors"


def _published(origin: Origin, config: dict[str, Any]) -> dict[str, Any]:
    """Return what open_clip knows of a tag; raise where it is no tag of the model, or of another activation function.

    open_clip only warns of weights trained with QuickGELU in a model without it, and the features are then wrong.
    """
    published: dict[str, Any] = open_clip.get_pretrained_cfg(origin.model, origin.weights)
    if not published:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(origin.model)) or "none"
        raise WeightsError(
            f"The weights {origin.weights!r} were not trained for {origin.model}; open_clip has for it: {tags}."
        )
    quick, built = bool(published.get("quick_gelu")), bool(config.get("quick_gelu"))
    if quick != built:
        other = origin.model.removesuffix("-quickgelu") if built else f"{origin.model}-quickgelu"
        raise WeightsError(
            f"The weights {origin.weights!r} were not trained for {origin.model}: "
            f"they {'need' if quick else 'do without'} QuickGELU. Choose {other}@{origin.weights}."
        )
    return published


def _verify(file: Path, digest: str) -> None:
    if not file.is_file():
        raise WeightsError(f"Its checksum is asked for, so {file} must be there: fetch it first.")
    with file.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if len(digest) < 8 or not actual.startswith(digest):
        raise WeightsError(f"The SHA-256 of {file} is {actual}, not {digest} (give at least 8 digits).")


def models_folder() -> Path:
    """Return where hand-placed weights are looked for: `CAR_MODELS`, else `~/.cache/clip-as-rnn`."""
    return Path(os.environ.get("CAR_MODELS") or Path.home() / ".cache" / "clip-as-rnn")


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        raise WeightsError(f"open_clip has no model {name!r}; `open_clip.list_models()` lists them.")
    return config


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from warning, on the root logger, that a model has no weights yet: that is meant."""

    def silence(record: logging.LogRecord) -> bool:
        return not record.pathname.startswith(str(Path(open_clip.__file__).parent))

    logger = logging.getLogger()
    logger.addFilter(silence)
    try:
        yield
    finally:
        logger.removeFilter(silence)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
