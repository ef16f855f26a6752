"""The few shapes of SVG that the drawn landmarks are made of, each as text."""

from collections.abc import Iterable


def rect(color: str, x: float, y: float, width: float, height: float, round_: float = 0) -> str:
    """Return a rectangle."""
    return f'<rect fill="{color}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{round_}"/>'


def poly(color: str, *points: float) -> str:
    """Return a polygon through x, y, x, y, ..."""
    return f'<polygon fill="{color}" points="{" ".join(map(str, points))}"/>'


def path(color: str, data: str) -> str:
    """Return a filled path."""
    return f'<path fill="{color}" d="{data}"/>'


def line(color: str, width: float, data: str) -> str:
    """Return a stroked path."""
    return f'<path fill="none" stroke="{color}" stroke-width="{width}" stroke-linecap="round" d="{data}"/>'


def disc(color: str, x: float, y: float, radius: float) -> str:
    """Return a disc."""
    return f'<circle fill="{color}" cx="{x}" cy="{y}" r="{radius}"/>'


def arches(color: str, xs: Iterable[float], y: float, width: float, height: float) -> str:
    """Return round-headed openings in a row: their left edges, their tops, width and height."""
    r = width / 2
    return "".join(
        path(color, f"M{x} {y + height}V{y + r}A{r} {r} 0 0 1 {x + width} {y + r}V{y + height}Z") for x in xs
    )


def columns(color: str, shade: str, xs: Iterable[float], y: float, width: float, height: float) -> str:
    """Return columns, each with a shaded right half."""
    return "".join(rect(color, x, y, width, height) + rect(shade, x + width * 0.6, y, width * 0.4, height) for x in xs)
