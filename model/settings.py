"""Every setting of the method, with its default, what it means and which values it takes.

The defaults are those of the authors' released code, its quirks included; `model.presets` holds the sets of values that
have a name. Imports without torch, so that the web process can use it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any

from model.texts import BACKGROUNDS, RELEASED_TEMPLATES

PROMPTS = ("blur", "gray", "black", "circle", "rectangle", "contour")
WITH_SAM = ("sam", "sam-vote", "sam-prompt")  # values of `refine` that need HQ-SAM's weights
WITH_REGIONS = (*WITH_SAM, "regions", "regions-vote")
SAM_MODELS = ("vit_tiny", "vit_b", "vit_l", "vit_h")
MOST_TILES = 4  # on a side: seventeen times the work


class PresetError(ValueError):
    """An unknown preset, setting or value; the message names the valid ones."""


def _setting(default: Any, doc: str, *choices: str, sets: Mapping[str, tuple[str, ...]] = {}) -> Any:
    return field(default=default, metadata={"doc": doc, "choices": choices, "sets": sets})


@dataclass(frozen=True)
class Preset:
    """All settings of the method. The defaults are those of the released code (`clip_as_rnn` of google-research)."""

    name: str = _setting("", "The preset's name.")
    weights: str = _setting("openai", "openai, demo (ships with this project), random (seeded), or a folder.")
    proposal_model: str = _setting(
        "ViT-B-16-quickgelu",
        "The CLIP that draws the maps: open_clip's MODEL, MODEL@TAG or MODEL@FILE; #SHA256 after it is checked.",
    )
    classifier_model: str = _setting("ViT-L-14-quickgelu", "The CLIP that scores the masks, likewise.")

    # The method's own parameters.
    eta: float = _setting(0.5, "A pixel belongs to a query's mask if its map exceeds this (CaR, Section 3.2).")
    theta: float = _setting(0.3, "A query survives if its score exceeds this (CaR, Eq. 6).")
    presence: float = _setting(
        0.0,
        "A query less probable than this for the whole image, among all texts of the maps, is not drawn; 0: all are.",
    )
    tags: float = _setting(
        0.0,
        "A query less probable than this for every single patch is not drawn in the first pass, yet its text competes; "
        "0: all are. Quicker, and exact as long as it leaves out none that would survive.",
    )
    lambda_: float = _setting(0.5, "Boxes around what exceeds this share of a map's maximum confine it (CLIP-ES).")
    prompts: tuple[str, ...] = _setting(("blur", "gray"), "Visual prompts; always applied in one order.", *PROMPTS)
    background: tuple[str, ...] = _setting(
        BACKGROUNDS["released"],
        f"Texts that compete with the queries for pixels: any, and the sets {', '.join(BACKGROUNDS)}.",
        sets=BACKGROUNDS,
    )
    mutual: str = _setting(
        "none",
        "Labels that are stuff (sky, grass) are searched apart from things. released: things have the usual "
        "background, stuff has the things; paper: both have the usual one and each other; none: all labels at once.",
        *("none", "released", "paper"),
    )
    stuff_prompts: tuple[str, ...] = _setting((), "Visual prompts of stuff, where they differ.", *PROMPTS)
    sentences: str = _setting(
        "weighted",
        "How the masks of several sentences for one object merge. weighted: where half of the score agrees, but the "
        "union if that is 5 % of the image or less, as released; union; best: the best sentence's.",
        *("weighted", "union", "best"),
    )
    score_power: float = _setting(
        0.0, "Maps are drawn times their score to this power, so that a surer label wins a pixel; 0: as they are."
    )
    background_power: float = _setting(1.0, "The background's probability is (1 - largest map) to this power.")
    memory: str = _setting(
        "",
        "A file of corrected regions that have a say in scores: FILE or FILE#SHA256 (docs/corrections.md); or none.",
    )
    rivals: tuple[str, ...] = _setting((), "Texts that compete with the labels for a mask; slashes part synonyms.")
    map_rivals: str = _setting("no", "yes: the rivals compete with the queries for pixels, too.", "yes", "no")
    synonyms: str = _setting(
        "mean",
        "What several prompts of one label are: mean: one text, their average; best: the one that fits best, for the "
        "maps on the image as a whole, for the scores on the prompted one.",
        *("mean", "best"),
    )
    first_template: str = _setting("{}", "Template of the queries for the first pass's maps: the bare query.")
    later_template: str = _setting("a clean origami {}.", "The same from the second pass on: released code differs.")
    background_template: str = _setting("a clean origami {}.", "Template of the background texts.")
    templates: tuple[str, ...] = _setting(RELEASED_TEMPLATES, "Templates of the classifier's texts.")
    proposals: str = _setting(
        "clip-es", "clip-es: Grad-CAM, spread by affinity; grad-cam: alone (CaR, Table 2).", "clip-es", "grad-cam"
    )
    recurrence: str = _setting("loop", "none: nothing is filtered; once; loop: until stable.", "none", "once", "loop")
    refine: str = _setting(
        "crf",
        "What turns soft maps into masks. none: the largest map; crf: a dense CRF. After the CRF, regions: masks are "
        "replaced by regions of even colour that fit them by IoM; sam: by HQ-SAM's; sam-prompt: HQ-SAM is asked about "
        "each mask; sam-vote, regions-vote: each region takes the label that most of its pixels have.",
        *("none", "crf", *WITH_REGIONS),
    )

    odds_factor: float = _setting(
        1.0,
        "Scores are reported as odds: this times the probability's odds to the power of odds_power. Thresholds of "
        "regions compare with that, theta with the probability. 1 and 1: the probability itself.",
    )
    odds_power: float = _setting(1.0, "See odds_factor.")

    # How the released code differs from the paper, or from what was meant.
    scoring: str = _setting(
        "votes",
        "votes: softmax per template, summed, then a second softmax, as released; thresholds only fit that scale. "
        "mean: one softmax over labels and rivals with template-averaged embeddings.",
        *("votes", "mean"),
    )
    keep_best: str = _setting(
        "yes", "yes: the best query survives even below theta; paper: may end empty.", "yes", "no"
    )
    own_background: str = _setting(
        "keep",
        "keep: a label competes with its own name among the background, as released; drop: not, as the paper says.",
        *("keep", "drop"),
    )
    classifier_last_block: str = _setting(
        "drop", "drop: the classifier runs without its last block, a slip of the released code.", "drop", "keep"
    )
    classifier_view: str = _setting(
        "crop",
        "crop: the centre square, sides are never seen; letterbox: all of it, padded; squash: all, distorted; object: "
        "the surroundings of the mask, padded.",
        *("crop", "letterbox", "squash", "object"),
    )
    object_margin: float = _setting(0.5, "Surroundings that `object` shows, in shares of the mask's longer side.")
    precision: str = _setting(
        "float32",
        "What the vision towers compute in; auto: bfloat16 where the hardware multiplies it natively, else float32.",
        *("float32", "bfloat16", "float16", "auto"),
    )
    positions: str = _setting("half", "half: position embeddings are rounded to float16, as released.", "half", "exact")
    empty_map: str = _setting(
        "whole", "whole: for an all but empty map the unprompted image is scored; drop: 0.", "whole", "drop"
    )
    flat_map: str = _setting(
        "retry", "retry: a map without a positive value is drawn again without background.", "retry", "keep"
    )
    box_edge: str = _setting("cut", "cut: boxes lose the last row and column, as released.", "cut", "keep")
    box_side: str = _setting(
        "source", "source: boxes confine where affinity comes from; target: goes.", "source", "target"
    )
    gray_weights: str = _setting("bgr", "bgr: red's and blue's weights are swapped, as released.", "bgr", "rgb")
    ellipse: str = _setting(
        "centroid", "centroid: box-sized, around the centroid; box: around the box.", "centroid", "box"
    )
    crf_image: str = _setting(
        "wrapped", "wrapped: mean-free BGR in bytes, negatives wrap; plain: the image.", "wrapped", "plain"
    )

    # The dense CRF (Kraehenbuehl and Koltun), values of the released code.
    crf_steps: int = _setting(10, "Mean-field iterations.")
    crf_smooth_weight: float = _setting(3.0, "Weight of the smoothness kernel.")
    crf_smooth_sigma: float = _setting(1.0, "Its width in pixels.")
    crf_color_weight: float = _setting(4.0, "Weight of the appearance kernel.")
    crf_position_sigma: float = _setting(67.0, "Its width in pixels.")
    crf_color_sigma: float = _setting(3.0, "Its width in grey levels.")

    # Regions: HQ-SAM's and those by colour, and how masks are matched with them (CaR, Section 3.4; docs/regions.md).
    sam_model: str = _setting("vit_h", "HQ-SAM's size.", *SAM_MODELS)
    sam_weights: str = _setting("published", "published (downloaded on first use), random (seeded), or a file.")
    points_per_side: int = _setting(64, "HQ-SAM is asked at so many points on each side of a grid over the image.")
    sam_quality: float = _setting(0.88, "HQ-SAM's masks count if the IoU that it expects of them exceeds this.")
    sam_stability: float = _setting(0.95, "They count if they change less than this with the cutoff of their logits.")
    sam_nms: float = _setting(0.7, "Of two masks whose boxes have a larger IoU than this, the better one stays.")
    phi_iom: float = _setting(0.7, "Regions whose IoM with a mask exceeds this are united (CaR, Section 3.4).")
    phi_iou: float = _setting(0.7, "What takes a mask's place has a larger IoU with it than this (CaR, Section 3.4).")
    iom_guard: float = _setting(0.0, "A region smaller than the mask has to cover this share of it; not in the paper.")
    iom_best: str = _setting("no", "yes: where no region fits, the one with the largest IoM is tried.", "yes", "no")
    vote_share: float = _setting(0.5, "A region votes if more than this share of its pixels agree.")
    region_scale: float = _setting(25.0, "How coarse the finest regions of even colour are (Felzenszwalb's scale).")
    region_levels: int = _setting(2, "Levels of regions of even colour, each four times as coarse as the one before.")

    # Bounds; 0 means none.
    max_patches: int = _setting(0, "At most so many patches are seen by the proposals; larger images are scaled down.")
    crf_max_side: int = _setting(0, "At most so many pixels on a side are seen by the CRF.")
    upsampling: str = _setting(
        "linear",
        "How masks get from there to natural size. nearest: pixel by pixel; linear: smooth; guided: along the edges of "
        "the full image.",
        *("nearest", "linear", "guided"),
    )
    tiles: int = _setting(
        1,
        "2: small objects are also looked for in 2 x 2 overlapping tiles of an image that max_patches scales down, at "
        "5 times the work; 3: 10 times, 4: 17 times; 1: not.",
    )
    min_region: float = _setting(0.0, "Connected specks below this share of the image are removed.")

    def __post_init__(self) -> None:
        """Refuse what no stage could work with."""
        if not 1 <= self.tiles <= MOST_TILES:
            raise PresetError(f"tiles needs a number from 1 to {MOST_TILES}, not {self.tiles}.")
        if not (self.points_per_side and self.region_levels):
            raise PresetError("points_per_side and region_levels need numbers from 1 up.")
        if not (self.odds_factor > 0 and self.odds_power > 0):
            raise PresetError("odds_factor and odds_power need numbers above 0.")

    @property
    def checksum(self) -> str:
        """Eight hex digits over every setting: another value anywhere gives another checksum."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def settings() -> dict[str, "Field[Any]"]:
    """Every setting that `--set` takes, by its name there (`lambda_` is `lambda`); metadata holds doc and choices."""
    return {f.name.rstrip("_"): f for f in fields(Preset) if f.name != "name"}


def changed(base: "Preset", overrides: Mapping[str, str]) -> "Preset":
    """Replace settings by their text: numbers, words, or lists with commas between (names of sets are filled in).

    Raises PresetError that names the valid settings or values.
    """
    known = settings()
    values: dict[str, Any] = {}
    for key, text in overrides.items():
        if key not in known:
            raise PresetError(f"There is no setting {key!r}; there are: {', '.join(known)}.")
        values[known[key].name] = _parse(key, known[key], text)
    return replace(base, **values)


def _parse(key: str, setting: "Field[Any]", text: str) -> Any:
    choices: tuple[str, ...] = setting.metadata["choices"]
    if isinstance(setting.default, tuple):
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        wrong = [part for part in parts if choices and part not in choices]
        if wrong:
            raise PresetError(f"{key} knows no {wrong[0]!r}; it takes any of: {', '.join(choices)}.")
        sets: Mapping[str, tuple[str, ...]] = setting.metadata["sets"]
        return tuple(dict.fromkeys(text for part in parts for text in sets.get(part, (part,))))
    if isinstance(setting.default, int | float):
        try:
            value = type(setting.default)(text)
        except ValueError:
            raise PresetError(f"{key} needs a number, not {text!r}.") from None
        if not 0 <= value < float("inf"):
            raise PresetError(f"{key} needs a number from 0 up, not {text!r}.")
        return value
    if choices and text not in choices:
        raise PresetError(f"{key} knows no {text!r}; it takes one of: {', '.join(choices)}.")
    return text
