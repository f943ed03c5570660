"""Which layers of a model are factored, how, and to which ranks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping

import keras

from tfbig.compression.structure.factors import Factoring, Ranks, Shapes, ways
from tfbig.compression.structure.flops import products
from tfbig.compression.structure.flow import is_plain
from tfbig.compression.structure.graph import Graph
from tfbig.compression.structure.spectrum import side_by_side
from tfbig.compression.structure.surgery import Operations, Surgery, clone, copy_weights

BISECTIONS = 40


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """One layer's way and ranks."""

    way: Factoring
    ranks: Ranks

    @property
    def saved_macs(self) -> int:
        """Multiply-accumulates that the layer no longer does."""
        return self.way.full_macs - self.way.macs(self.ranks)

    @property
    def error(self) -> float:
        """Squared error of the kernel: the sum of the squared singular values that are dropped."""
        return self.way.error(self.ranks)

    @property
    def saves(self) -> bool:
        """Whether there are fewer parameters and, except in an Embedding, fewer operations."""
        cheaper = self.saved_macs > 0 or not self.way.saves_flops
        return cheaper and self.way.params(self.ranks) < self.way.full_params


@dataclasses.dataclass(frozen=True, eq=False)
class Factorization:
    """The choices for one model, by name of the layer."""

    choices: Mapping[str, Choice]

    def apply(self, model: keras.Model) -> keras.Model:
        """Returns a new model in which the chosen layers are products of plain smaller ones."""
        chosen = {id(choice.way.layer): choice for choice in self.choices.values()}
        weights = side_by_side(lambda choice: choice.way.weights(choice.ranks), chosen.values())

        def replace(old: keras.Operation) -> Operations:
            return chosen[id(old)].way.layers(chosen[id(old)].ranks) if id(old) in chosen else [clone(old)]

        surgery = Surgery(replace)
        smaller = surgery.rebuild(model)
        factored = dict(zip(chosen, weights, strict=True))
        for old, new in surgery.pairs():
            if id(old) in factored:
                for layer, values in zip(new, factored[id(old)], strict=True):
                    layer.set_weights(values)
            elif isinstance(old, keras.Layer):
                copy_weights(old, new[0])
        return smaller

    def ranks(self) -> dict[str, tuple[str, Ranks]]:
        """The way ("svd", "channel", "spatial" or "tucker") and the ranks of each factored layer."""
        return {name: (choice.way.method, choice.ranks) for name, choice in self.choices.items()}


def candidates(graph: Graph, exclude: Collection[str]) -> list[list[Factoring]]:
    """For each layer that can be factored, all its ways."""
    calls: dict[int, tuple[keras.Layer, list[Shapes]]] = {}
    for call in graph.calls:
        layer = call.operation
        if isinstance(layer, keras.Layer) and is_plain(layer) and layer.name not in exclude:
            shapes = tuple(call.inputs[0].shape), tuple(call.outputs[0].shape)
            calls.setdefault(id(layer), (layer, []))[1].append(shapes)
    return [found for layer, shapes in calls.values() if (found := ways(layer, shapes))]


def decompose_all(layers: Iterable[list[Factoring]]) -> None:
    """Computes the singular values of every way of every layer, which choices by energy compare."""
    spectra = [spectrum for found in layers for way in found for spectrum in way.spectra]
    side_by_side(lambda spectrum: spectrum.squares, spectra)


def cheapest(layers: Collection[list[Factoring]], ranks: Callable[[Factoring], Ranks]) -> Factorization:
    """Factors each layer in its cheapest way at the given ranks, where that saves."""
    choices = {}
    for found in layers:
        saving = [choice for choice in (Choice(way, ranks(way)) for way in found) if choice.saves]
        if saving:
            best = min(saving, key=lambda c: (c.way.macs(c.ranks), c.way.params(c.ranks)))
            choices[best.way.layer.name] = best
    return Factorization(choices)


def of_flops(graph: Graph, layers: Collection[list[Factoring]], share: float) -> tuple[Factorization, float]:
    """The factorization that keeps one share of every layer's energy, as large as the goal allows.

    Returns it with the smallest share of multiply-accumulates that could be reached, at rank one everywhere.
    """
    total = sum(product.size for call in graph.calls for product in products(call))
    convertible = [found for found in layers if found[0].saves_flops]
    decompose_all(convertible)

    def at(energy: float) -> tuple[Factorization, float]:
        factorization = cheapest(convertible, lambda way: way.ranks_of_energy(energy))
        saved = sum(choice.saved_macs for choice in factorization.choices.values())
        return factorization, (total - saved) / max(total, 1)

    best, smallest = at(0.0)
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        factorization, reached = at(middle)
        if reached <= share:
            best, low = factorization, middle
        else:
            high = middle
    return best, smallest
