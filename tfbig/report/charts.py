"""Charts as inline SVG: points in a plane, and curves over epochs. The page's style colours them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from tfbig.report.markup import Markup, element

_LINE = 15.0  # height of a line of text
_LETTER, _BOLD = 6.7, 7.7  # width of a letter, near enough to keep labels apart
_MARGIN = {"left": 58.0, "right": 16.0, "top": 14.0, "bottom": 40.0}


@dataclasses.dataclass(frozen=True)
class Point:
    """A labelled point; `accent` marks the one that matters."""

    label: str
    x: float
    y: float
    accent: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
    """From values to pixels, with the values that get a tick."""

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        share = ((math.log(value) if self.logarithmic else value) - low) / (high - low)
        return self.start + share * (self.stop - self.start)


def scatter(
    points: Sequence[Point],
    *,
    titles: tuple[str, str],
    texts: tuple[Callable[[float], str], Callable[[float], str]],
    size: tuple[int, int],
    name: str,
) -> Markup:
    """Points over a logarithmic x axis, each with its label.

    Args:
        titles: of the x and the y axis.
        texts: how a value on the x and on the y axis is written.
        size: width and height in pixels.
        name: what the chart shows, for those who cannot see it.
    """
    x = _logarithmic_axis([p.x for p in points], _MARGIN["left"], size[0] - _MARGIN["right"])
    y = _linear_axis([p.y for p in points], size[1] - _MARGIN["bottom"], _MARGIN["top"])
    marks = [
        element(
            "circle",
            element("title", f"{p.label}: {texts[0](p.x)}, {texts[1](p.y)}"),
            cx=_px(x(p.x)),
            cy=_px(y(p.y)),
            r=7 if p.accent else 5,
            class_="point accent" if p.accent else "point",
        )
        for p in points
    ]
    parts = [*_grid(x, y, titles, texts, size), *_labels(points, x, y, size[0]), *marks]
    return _svg(parts, size, name)


def curves(
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    text: Callable[[float], str],
    size: tuple[int, int],
    name: str,
) -> Markup:
    """Curves over epochs, counted from 1; a value that is missing leaves a gap."""
    values = [v for _, curve in series for v in curve if _is_number(v)]
    epochs = max(len(curve) for _, curve in series)
    x = Axis(1, max(2, epochs), _MARGIN["left"], size[0] - _MARGIN["right"], _epoch_ticks(epochs))
    y = _linear_axis([float(v) for v in values if v is not None], size[1] - _MARGIN["bottom"], _MARGIN["top"])
    parts = list(_grid(x, y, ("epoch", ""), (lambda value: f"{value:g}", text), size))
    for number, (_, curve) in enumerate(series):
        for piece in _pieces(curve):
            path = " ".join(f"{_px(x(epoch))},{_px(y(value))}" for epoch, value in piece)
            parts.append(element("polyline", points=path, class_=f"curve series{number % 6 + 1}"))
            if len(piece) == 1:
                spot = {"cx": _px(x(piece[0][0])), "cy": _px(y(piece[0][1]))}
                parts.append(element("circle", r=3, class_=f"spot series{number % 6 + 1}", **spot))
    return _svg(parts, size, name)


def _svg(parts: Sequence[Markup], size: tuple[int, int], name: str) -> Markup:
    frame = {"viewBox": f"0 0 {size[0]} {size[1]}", "width": size[0], "height": size[1]}
    return element("svg", element("title", name), *parts, role="img", **frame)


def _grid(
    x: Axis,
    y: Axis,
    titles: tuple[str, str],
    texts: tuple[Callable[[float], str], Callable[[float], str]],
    size: tuple[int, int],
) -> list[Markup]:
    bottom, parts = size[1] - _MARGIN["bottom"], []
    for tick in y.ticks:
        line = {"x1": _px(x.start), "x2": _px(x.stop), "y1": _px(y(tick)), "y2": _px(y(tick))}
        parts.append(element("line", class_="grid", **line))
        at = {"x": _px(x.start - 8), "y": _px(y(tick) + 4)}
        parts.append(element("text", texts[1](tick), class_="tick", text_anchor="end", **at))
    for tick in x.ticks:
        at = {"x": _px(x(tick)), "y": _px(bottom + 17)}
        parts.append(element("text", texts[0](tick), class_="tick", text_anchor="middle", **at))
    at = {"x": _px(x.stop), "y": _px(size[1] - 6)}
    parts.append(element("text", titles[0], class_="axis", text_anchor="end", **at))
    parts.append(element("text", titles[1], class_="axis", x=4, y=10))
    return parts


def _labels(points: Sequence[Point], x: Axis, y: Axis, width: float) -> list[Markup]:
    """Labels beside their points, pushed down where they would cover a point or each other."""
    taken = [(x(p.x) - 8, x(p.x) + 8, y(p.y)) for p in points]
    parts = []
    for point in sorted(points, key=lambda p: y(p.y)):
        px, py = x(point.x), y(point.y)
        letter = _BOLD if point.accent else _LETTER
        on_left = px + 14 + letter * len(point.label) > width and px > (_MARGIN["left"] + width) / 2
        label = _fitting(point.label, (px - _MARGIN["left"] if on_left else width - px) - 14, letter)
        length = letter * len(label)
        left = px - 12 - length if on_left else px + 12
        top = py
        while any(abs(top - t) < _LINE and left < end and begin < left + length for begin, end, t in taken):
            top += 3
        taken.append((left, left + length, top))
        if top - py > 4:
            edge = px - 9 if on_left else px + 9
            line = {"x1": _px(px), "y1": _px(py), "x2": _px(edge), "y2": _px(top)}
            parts.append(element("line", class_="leader", **line))
        at = {"x": _px(px - 12 if on_left else px + 12), "y": _px(top + 4)}
        anchor = "end" if on_left else "start"
        style = "label accent" if point.accent else "label"
        parts.append(element("text", label, class_=style, text_anchor=anchor, **at))
    return parts


def _fitting(label: str, room: float, letter: float) -> str:
    letters = int(room / letter)
    return label if len(label) <= letters else label[: max(1, letters - 1)].rstrip() + "\u2026"


def _linear_axis(values: Sequence[float], start: float, stop: float) -> Axis:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9:
        low, high = low - max(0.01, abs(low) * 0.05), high + max(0.01, abs(high) * 0.05)
    pad = (high - low) * 0.12
    low, high = low - pad, high + pad
    step = _nice((high - low) / 4)
    first = math.ceil(low / step)
    return Axis(low, high, start, stop, tuple(n * step for n in range(first, math.floor(high / step) + 1)))


def _logarithmic_axis(values: Sequence[float], start: float, stop: float) -> Axis:
    low, high = min(values) / 1.3, max(values) * 1.3
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 300 else (1,)
    ticks = tuple(f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high)
    return Axis(low, high, start, stop, ticks, logarithmic=True)


def _epoch_ticks(epochs: int) -> tuple[float, ...]:
    step = max(1, math.ceil(epochs / 6))
    return tuple(float(epoch) for epoch in range(1, epochs + 1, step))


def _nice(step: float) -> float:
    """The next larger of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= step * 0.999)


def _pieces(curve: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The unbroken parts of a curve, as (epoch, value)."""
    pieces: list[list[tuple[int, float]]] = [[]]
    for epoch, value in enumerate(curve, start=1):
        if value is not None and _is_number(value):
            pieces[-1].append((epoch, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _px(value: float) -> str:
    return f"{value:.1f}"
