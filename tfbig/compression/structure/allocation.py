"""Chooses which channels to keep so that a cost, FLOPs or parameters, comes down to a goal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import keras
import numpy as np

from tfbig.compression.structure.dependency import Dependencies
from tfbig.compression.structure.flops import Product, products

CLOSE = 0.95  # A result from here to 1 times the goal is as good as any: importance decides.


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels that share their axes, least important first, and the widths that are allowed."""

    roots: np.ndarray
    scores: np.ndarray
    widths: tuple[int, ...]  # Number of channels left after each step, falling; starts with all of them.


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """The removal of a group's least important channels, down to its next width."""

    group: int
    roots: np.ndarray
    score: float
    share: float  # Of the group's channels, left after the step.


@dataclasses.dataclass(frozen=True, eq=False)
class Allocation:
    """The channels that stay, by root, and the cost as shares of the original."""

    keep: np.ndarray
    reached: float
    smallest: float


def groups(
    dependencies: Dependencies, scores: np.ndarray, *, floor: float, round_to: int, relative: bool
) -> list[Group]:
    """Collects removable channels that lie on exactly the same axes, with the widths that rounding allows.

    Args:
        relative: divide the scores by their mean over the group.
    """
    members, each = _signatures(dependencies), _channels_each(dependencies)
    is_root = dependencies.root == np.arange(len(dependencies.root))
    removable = np.flatnonzero(is_root & np.isfinite(scores) & (members != 0))
    removable = removable[removable != 0]
    ordered = removable[np.argsort(members[removable], kind="stable")]
    found = []
    for roots in np.split(ordered, np.flatnonzero(np.diff(members[ordered])) + 1):
        if not len(roots):
            continue
        roots = roots[np.argsort(scores[roots], kind="stable")]
        mean = float(scores[roots].mean()) if relative else 1.0
        step = round_to // math.gcd(round_to, int(np.gcd.reduce(each[roots])))
        found.append(Group(roots, scores[roots] / (mean or 1.0), _widths(len(roots), step, floor)))
    return sorted(found, key=lambda group: int(group.roots.min()))


def allocate(
    dependencies: Dependencies,
    found: Sequence[Group],
    terms: Sequence[Product],
    *,
    goal: float,
    uniform: bool,
) -> Allocation:
    """Removes channels until the cost is at most `goal` times the original, and near to it.

    Args:
        terms: what adds up to the cost.
        uniform: narrow all groups alike; otherwise the least important channels of the whole model go first.
    """
    cost = _Cost(dependencies, terms)
    steps = sorted(_steps(found), key=(lambda s: (-s.share, s.score)) if uniform else (lambda s: s.score))
    full = cost.total
    smallest = cost.without(np.concatenate([step.roots for step in steps])) / full if steps else 1.0
    taken = _take(cost, steps, goal * full)
    _give_back(cost, taken, goal * full)
    return Allocation(cost.keep[dependencies.root], cost.total / full, smallest)


def parameters(model: keras.Model) -> list[Product]:
    """The terms that add up to the number of parameters."""
    return [Product(1, tuple((w, axis) for axis in range(len(w.shape)))) for w in model.weights]


def multiplications(dependencies: Dependencies) -> list[Product]:
    """The terms that add up to the multiply-accumulates."""
    return [product for call in dependencies.graph.calls for product in products(call)]


class _Cost:
    """The cost as channels go: every size is a count of channels left, and every term a product of sizes."""

    def __init__(self, dependencies: Dependencies, terms: Iterable[Product]):
        self.root = dependencies.root
        self.keep = np.ones(len(self.root), dtype=bool)
        self._lengths = [1]
        self._places: list[tuple[np.ndarray, np.ndarray]] = []
        numbers: dict[bytes, int] = {}
        rows, constants = [], []
        for term in terms:
            row, constant = [], float(term.repeats)
            for owner, axis in term.axes:
                labels = dependencies.axes.get((id(owner), axis))
                if labels is None:
                    constant *= owner.shape[axis]
                else:
                    row.append(self._number(self.root[labels], numbers))
            rows.append(row)
            constants.append(constant)
        width = max(map(len, rows), default=0)
        self._terms = np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int64)
        self._constants = np.array(constants)
        self._sizes = np.array(self._lengths, dtype=np.float64)
        self._index()

    def _number(self, roots: np.ndarray, numbers: dict[bytes, int]) -> int:
        key = roots.tobytes()
        if key not in numbers:
            numbers[key] = len(self._lengths)
            self._lengths.append(len(roots))
            unique, counts = np.unique(roots, return_counts=True)
            self._places.append((unique, counts))
        return numbers[key]

    def _index(self) -> None:
        """Sorts (size, how often) pairs by channel, so that a channel's pairs are one slice."""
        roots = np.concatenate([np.empty(0, np.int64), *(places for places, _ in self._places)])
        sizes = np.concatenate(
            [np.empty(0, np.int64), *(np.full(len(p), i + 1) for i, (p, _) in enumerate(self._places))]
        )
        times = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in self._places)])
        order = np.argsort(roots, kind="stable")
        self._pair_sizes, self._pair_times = sizes[order], times[order]
        self._starts = np.searchsorted(roots[order], np.arange(len(self.root) + 1))

    def _changed(self, roots: np.ndarray, sign: int) -> np.ndarray:
        pairs = np.concatenate([np.arange(self._starts[r], self._starts[r + 1]) for r in roots])
        sizes = self._sizes.copy()
        np.add.at(sizes, self._pair_sizes[pairs], sign * self._pair_times[pairs])
        return sizes

    def _sum(self, sizes: np.ndarray) -> float:
        return float((self._constants * sizes[self._terms].prod(axis=1)).sum())

    @property
    def total(self) -> float:
        """The cost of what is left."""
        return self._sum(self._sizes)

    def without(self, roots: np.ndarray) -> float:
        """What would be left if these channels went."""
        return self._sum(self._changed(roots, -1))

    def with_again(self, roots: np.ndarray) -> float:
        """What it would be if these channels came back."""
        return self._sum(self._changed(roots, 1))

    def remove(self, roots: np.ndarray) -> None:
        self._sizes = self._changed(roots, -1)
        self.keep[roots] = False

    def restore(self, roots: np.ndarray) -> None:
        self._sizes = self._changed(roots, 1)
        self.keep[roots] = True


def _signatures(dependencies: Dependencies) -> np.ndarray:
    """A number for each channel that is the same for two channels exactly if they lie on the same axes.

    Each distinct axis draws 64 random bits, and a channel adds up those of the axes it lies on.
    """
    random = np.random.default_rng(0)
    members = np.zeros(len(dependencies.root), dtype=np.uint64)
    seen = set()
    for labels in dependencies.axes.values():
        roots = np.unique(dependencies.root[labels])
        if (key := roots.tobytes()) not in seen:
            seen.add(key)
            members[roots] += random.integers(1, 2**63, dtype=np.uint64)
    return members


def _channels_each(dependencies: Dependencies) -> np.ndarray:
    """How many channels of a layer's output go with each root: what the rounding counts."""
    each = np.zeros(len(dependencies.root), dtype=np.int64)
    for producer in dependencies.producers:
        roots, counts = np.unique(dependencies.root[producer.labels], return_counts=True)
        each[roots] = np.gcd(each[roots], counts * producer.width)
    return each


def _widths(count: int, step: int, floor: float) -> tuple[int, ...]:
    lowest = max(step, math.ceil(floor * count / step) * step)
    below = range((count - 1) // step * step, lowest - 1, -step)
    return (count, *below)


def _steps(found: Sequence[Group]) -> Iterable[Step]:
    for number, group in enumerate(found):
        removed = 0
        for width in group.widths[1:]:
            end = len(group.roots) - width
            yield Step(
                number,
                group.roots[removed:end],
                float(group.scores[removed:end].mean()),
                width / len(group.roots),
            )
            removed = end


def _take(cost: _Cost, steps: Sequence[Step], goal: float) -> list[Step]:
    """Removes step by step until the goal is met; a last step that would overshoot gives way to a better one."""
    taken: list[Step] = []
    for position, step in enumerate(steps):
        if cost.total <= goal:
            break
        overshoots = cost.without(step.roots) < CLOSE * goal
        chosen = _nearest(cost, steps[position:], goal) if overshoots else step
        cost.remove(chosen.roots)
        taken.append(chosen)
    return taken


def _nearest(cost: _Cost, steps: Sequence[Step], goal: float) -> Step:
    """Of the next step of every group, the one that lands nearest below the goal."""
    following: dict[int, Step] = {}
    for step in steps:
        following.setdefault(step.group, step)
    landing = {number: cost.without(step.roots) for number, step in following.items()}
    return following[max((n for n in landing if landing[n] <= goal), key=lambda n: landing[n])]


def _give_back(cost: _Cost, taken: Sequence[Step], goal: float) -> None:
    """Restores the most important of the removed channels as far as the goal leaves room."""
    closed: set[int] = set()
    for step in reversed(taken):
        if step.group in closed:
            continue
        if cost.with_again(step.roots) <= goal:
            cost.restore(step.roots)
        else:
            closed.add(step.group)
