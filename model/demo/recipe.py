"""How the demo CLIP is trained: stages, learning rates, seeds. What a run does follows from its recipe alone."""

from dataclasses import dataclass
from itertools import accumulate

from model.demo.scenes import Style


@dataclass(frozen=True)
class Stage:
    """A part of the training. share: of all steps. sides: of the images, in turn; batches: their sizes."""

    share: float
    sides: tuple[int, ...]
    batches: tuple[int, ...]
    style: Style


SMALL = Style(height=128, width=128, least=1, most=2, smallest=0.42, largest=0.9, standing=0.0, zoom=2.0)
WHOLE = Style(smallest=0.15, nameless=0.25, colored=0.2, varied=0.6)
# Small images teach words quickly; whole ones teach where things are.
FROM_SCRATCH = (
    Stage(0.4, (128,), (96,), SMALL),
    Stage(0.3, (192,), (64,), WHOLE),
    Stage(0.3, (256,), (48,), WHOLE),
)
CONTINUED = (Stage(1.0, (192, 256), (96, 72), WHOLE),)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, apart from the weights it starts from.

    muon, adam: learning rates of hidden matrices and of the rest. They rise for `warm` steps, and fall in a straight
    line over the last share `falling` of all steps. fresh: scenes drawn anew in each step; pool: scenes kept; each of
    the `parts` processes draws and keeps as many, and makes its part of each batch. circled: how many of the images are
    there for their circle alone.
    """

    stages: tuple[Stage, ...] = FROM_SCRATCH
    steps: int = 12000
    seed: int = 0
    muon: float = 0.02
    adam: float = 1.5e-3
    decay: float = 0.02
    warm: int = 60
    falling: float = 0.85
    average: float = 0.999
    fresh: int = 4
    pool: int = 1536
    parts: int = 1
    circled: float = 0.0

    def stage(self, step: int) -> int:
        """Return the number of the stage of a step."""
        ends = list(accumulate(stage.share for stage in self.stages))
        return next((number for number, end in enumerate(ends) if step < end * self.steps), len(ends) - 1)

    def shape(self, step: int) -> tuple[int, int]:
        """Return the side and the number of a step's images."""
        stage = self.stages[self.stage(step)]
        turn = step % len(stage.sides)
        return stage.sides[turn], stage.batches[turn]

    def rate(self, step: int) -> float:
        """Return a step's share of the learning rates."""
        left = (self.steps - step) / max(1.0, self.falling * self.steps)
        return min((step + 1) / max(1, self.warm), max(0.02, min(1.0, left)))

    def averaging(self, step: int) -> float:
        """Return how much the averaged weights keep of themselves in a step: less at the start."""
        return min(self.average, (1 + step) / (10 + step))
