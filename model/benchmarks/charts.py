"""Charts of an evaluation, as SVG to be put into a page."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

BLUE, GREY, RED = "#2f6fb3", "#b9c2cd", "#c8553d"


def bars(values: Mapping[str, float], label: str) -> str:
    """Draw horizontal bars of values in 0..1, the largest on top."""
    ordered = sorted(values.items(), key=lambda item: item[1])

    def draw(axes: Any) -> None:
        axes.barh(range(len(ordered)), [value for _, value in ordered], color=BLUE, height=0.7)
        axes.set_yticks(range(len(ordered)), [_short(name) for name, _ in ordered], fontsize=8)
        axes.set_ylim(-0.7, len(ordered) - 0.3)
        axes.set_xlim(0, 1)
        axes.set_xlabel(label)
        for row, (_, value) in enumerate(ordered):
            axes.text(min(value + 0.01, 0.96), row, f"{value:.2f}", va="center", fontsize=7)

    return _svg(draw, (9, 0.9 + 0.19 * max(1, len(ordered))))


def histogram(values: Sequence[float], label: str) -> str:
    """Draw how many values lie in each twentieth of 0..1."""

    def draw(axes: Any) -> None:
        axes.hist(values, bins=20, range=(0, 1), color=BLUE, edgecolor="white")
        axes.set_xlim(0, 1)
        axes.set_xlabel(label)
        axes.set_ylabel("how many")

    return _svg(draw, (9, 2.6))


def reliability(rows: Sequence[Mapping[str, float]]) -> str:
    """Draw for bins of scores the share of labels that are present, and of those drawn well, beside the diagonal."""

    def draw(axes: Any) -> None:
        scores = [row["score"] for row in rows]
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="a score as it should be")
        axes.plot(scores, [row["present"] for row in rows], "o-", color=BLUE, label="label is in the image")
        axes.plot(scores, [row["drawn"] for row in rows], "s-", color=RED, label="IoU of its mask is 0.5 or more")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("score")
        axes.set_ylabel("share of labels found")
        axes.legend(frameon=False, fontsize=8)

    return _svg(draw, (6, 3.6))


def _svg(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """Return a figure of `size` inches as an <svg> element. No display and no state of pyplot's is touched."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "page", "font.family": "sans-serif"}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return text.getvalue()[text.getvalue().index("<svg") :]


def _short(name: str) -> str:
    return name if len(name) < 32 else f"{name[:30]}..."
