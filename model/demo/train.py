"""Trains the demo CLIP: from nothing, or on from weights; can be stopped at any time and goes on where it was.

A run's folder holds `state.pt` (weights, averaged weights, optimizers, step), `progress.tsv`, `curves.png`, and the
averaged weights as a folder that `--weights` takes. A step's images, texts and chances follow from seed and step, so
that a run that was stopped ends like one that was not.
"""

import json
import math
import shutil
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from model.demo import circles, together, tokenizer
from model.demo.batches import Batch, Batches, chooser
from model.demo.losses import WEIGHTS, Losses, losses, texts
from model.demo.recipe import Recipe
from model.demo.towers import look
from model.demo.world import HERE
from model.files import replacing
from model.weights import CONFIG, OPENAI_MEAN, OPENAI_STD
from model.weights import WEIGHTS as WEIGHTS_FILE

STATE, PROGRESS, CURVES = "state.pt", "progress.tsv", "curves.png"
COLUMNS = ("step", "seconds", "rate", "loss", *WEIGHTS, "right", "right_prompted", "scale")


class RunError(ValueError):
    """A folder holds another run; the message says what differs."""


class Training:
    """A run: the model, its average, its optimizers, and the step it is at.

    part: which of the recipe's processes this one is (see `together`); the first one reports and saves. compiled: look
    at images with compiled code, which takes some minutes to make and saves a fifth of each step.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        device: str = "cpu",
        init: Path | None = None,
        part: int = 0,
        compiled: bool = False,
    ) -> None:
        self.recipe, self.folder, self.device, self.part = recipe, folder, torch.device(device), part
        self._look: Any = torch.compile(look, dynamic=False) if compiled else look
        self.step, self.seconds = 0, 0.0
        torch.manual_seed(recipe.seed)
        self.model: Any = fresh()
        if init:
            self.model.load_state_dict({k: v.float() for k, v in load_file(init / WEIGHTS_FILE).items()})
        self.model.to(self.device).train()
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self._probe = circles.probe(self.model).to(self.device)
        self._hidden, self._rest = _sorted_parameters(self.model, self._probe)
        self._optimizers = _optimizers(self._hidden, self._rest, recipe)
        self._tokenize: Any = tokenizer.tokenizer()
        self._batches = Batches(recipe, part)
        self._stopping = False
        if (folder / STATE).is_file():
            self._restore()

    def run(
        self, save_every: float = 180.0, report_every: int = 25, until: int | None = None, workers: int = 0
    ) -> None:
        """Train to the end, or up to step `until`; save every so many seconds, and at the end.

        workers: processes that make batches beforehand; 0: each is made when it is needed. Both train the same.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        cv2.setNumThreads(1)
        saved = time.monotonic()
        end = min(self.recipe.steps, until if until is not None else self.recipe.steps)
        steps = range(self.step, end)
        loader = DataLoader(self._batches, batch_size=None, sampler=steps, num_workers=workers, worker_init_fn=_alone)
        started = time.monotonic()
        for made in loader:
            result = self.advance(made)
            self.seconds += time.monotonic() - started
            if self.part == 0 and (self.step % report_every == 0 or self.step == end):
                self._report(result)
            if self.part == 0 and time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
            if self._stopping:
                break
            started = time.monotonic()
        if self.part == 0:
            self.save()

    def stop(self) -> None:
        """Make `run` save and return after the step it is at."""
        self._stopping = True

    def advance(self, made: Batch | None = None) -> Losses:
        """Take one step, on its batch, which may have been made before."""
        recipe = self.recipe
        made = made or self._batches[self.step]
        chosen = texts(made, chooser(recipe.seed, self.step))
        torch.manual_seed(recipe.seed * 1_000_003 + self.step + 500_009 * self.part)
        pixels = self._pixels(made)
        rate = recipe.rate(self.step)
        for optimizer, base in zip(self._optimizers, (recipe.muon, recipe.adam), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        result = losses(self.model, self._probe, made, chosen, self._tokenize, pixels, self._precision(), self._look)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(result.total)
        if recipe.parts > 1:
            self._stopping = together.agree([*self._hidden, *self._rest], self._stopping)
        torch.nn.utils.clip_grad_norm_(self._rest, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self._follow()
        self.step += 1
        return result

    def save(self) -> None:
        """Write the state, the averaged weights and the curves; a reader never sees half of them."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "probe": self._probe.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "recipe": json.loads(json.dumps(asdict(self.recipe))),
        }
        with replacing(self.folder / STATE) as partial:
            torch.save(state, partial)
        export(self.average, self.folder)
        if (self.folder / PROGRESS).is_file():
            from model.demo.curves import draw

            draw(self.folder / PROGRESS, self.folder / CURVES)

    def _restore(self) -> None:
        state = torch.load(self.folder / STATE, map_location=self.device, weights_only=True)
        ours, theirs = json.loads(json.dumps(asdict(self.recipe))), state["recipe"]
        changed = sorted(name for name in ours if ours[name] != theirs.get(name) and name != "steps")
        if changed:
            raise RunError(
                f"{self.folder} holds a run with another {', '.join(changed)}: choose another --out, or its values."
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self._probe.load_state_dict(state["probe"])
        self.average = state["average"]
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        _forget_after(self.step, self.folder / PROGRESS)

    def _pixels(self, made: Batch) -> Tensor:
        images = made.images.to(self.device).permute(0, 3, 1, 2).float() / 255
        images = (images + 0.02 * torch.randn_like(images[:, :1])).clamp(0, 1)
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
        return (images - mean) / std

    def _precision(self) -> AbstractContextManager[Any]:
        low = self.device.type == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
        return torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext()

    @torch.no_grad()
    def _follow(self) -> None:
        """Keep the scale in bounds, and let the average follow the weights."""
        self.model.logit_scale.clamp_(0, math.log(100))
        keep = self.recipe.averaging(self.step)
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)

    def _report(self, result: Losses) -> None:
        file = self.folder / PROGRESS
        values = [self.step, f"{self.seconds:.0f}", f"{self.recipe.rate(self.step - 1):.3f}"]
        values += [f"{value:.4f}" for value in (float(result.total.detach()), *result.parts.values())]
        scale = float(self.model.logit_scale.detach().exp())
        values += [f"{value:.3f}" for value in (result.right, result.right_prompted, scale)]
        lines = [] if file.is_file() else ["\t".join(COLUMNS)]
        with file.open("a", encoding="utf-8") as progress:
            print(*lines, "\t".join(map(str, values)), sep="\n" if lines else "", file=progress)
        told = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS, values, strict=True))
        print(told, file=sys.stderr, flush=True)


def train(
    recipe: Recipe,
    folder: Path,
    device: str,
    init: Path | None,
    compiled: bool,
    threads: int,
    workers: int,
    part: int = 0,
) -> None:
    """Train in this process, the recipe's `part`, until the end or a signal to stop, and say how far it is."""
    if threads:
        torch.set_num_threads(threads)
    training = Training(recipe, folder, device, init, part, compiled)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: training.stop())
    if training.step and part == 0:
        print(f"{folder}: on from step {training.step} of {recipe.steps}", file=sys.stderr)
    training.run(workers=workers)
    if part == 0:
        done = f"{folder}: step {training.step} of {recipe.steps}, {training.seconds / 60:.0f} minutes in all"
        print(f"{done}; its weights so far: --weights {folder}")


def _alone(_: int) -> None:
    """Keep a process that makes batches to one core, and let its parent decide when to stop."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def fresh() -> Any:
    """Return the demo CLIP with new weights."""
    config = json.loads((HERE / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    return CLIP(**config)


def export(weights: dict[str, Tensor], folder: Path) -> None:
    """Write weights, in fp16, as a folder that `--weights` and open_clip take."""
    halves = {name: value.detach().half().cpu().contiguous() for name, value in weights.items()}
    with replacing(folder / WEIGHTS_FILE) as partial:
        save_file(halves, partial)
    for name in (CONFIG, tokenizer.MERGES):
        shutil.copyfile(HERE / name, folder / name)


def _forget_after(step: int, progress: Path) -> None:
    """Leave out the reports of steps that were lost, since they are taken again."""
    if progress.is_file():
        title, *rows = progress.read_text(encoding="utf-8").splitlines(keepends=True)
        progress.write_text(title + "".join(row for row in rows if int(row.split("\t")[0]) <= step), encoding="utf-8")


def _sorted_parameters(*modules: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the hidden matrices, which Muon moves, and all other parameters."""
    named = [parameter for module in modules for parameter in module.named_parameters()]
    hidden = [value for name, value in named if "resblocks" in name and value.ndim == 2]
    chosen = {id(value) for value in hidden}
    return hidden, [value for _, value in named if id(value) not in chosen]


def _optimizers(hidden: list[Tensor], rest: list[Tensor], recipe: Recipe) -> list[torch.optim.Optimizer]:
    decayed = [value for value in rest if value.ndim >= 2]
    others = [value for value in rest if value.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(hidden, lr=recipe.muon, momentum=0.95, weight_decay=recipe.decay),
        torch.optim.AdamW(groups, lr=recipe.adam, betas=(0.9, 0.98)),
    ]
