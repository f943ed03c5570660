"""The union-find over channel arrays, against one of plain sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfbig.compression.structure.atoms import Atoms

PAIRS = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=12)


def _merged_sets(size: int, pairs: list[tuple[int, int]]) -> list[frozenset[int]]:
    sets = {n: {n} for n in range(size)}
    for a, b in pairs:
        joined = sets[a] | sets[b]
        for member in joined:
            sets[member] = joined
    return [frozenset(sets[n]) for n in range(size)]


@settings(deadline=None)
@given(st.lists(PAIRS, max_size=6))
def test_merging_arrays_gives_the_same_sets_as_merging_pairs(batches):
    atoms = Atoms()
    labels = atoms.fresh(20)
    for pairs in batches:
        left, right = (np.array(side) for side in zip(*pairs, strict=True))
        atoms.merge(labels[left], labels[right])
    roots = atoms.find(labels)
    expected = _merged_sets(20, [pair for pairs in batches for pair in pairs])
    for a in range(20):
        for b in range(20):
            assert (roots[a] == roots[b]) == (expected[a] == expected[b])


def test_many_channels_stay_apart_until_they_are_merged():
    atoms = Atoms()
    labels = [atoms.fresh(700) for _ in range(5)]
    assert len(np.unique(atoms.find(np.concatenate(labels)))) == 3500
    atoms.merge(labels[0], labels[4])
    assert len(np.unique(atoms.find(np.concatenate(labels)))) == 2800


def test_an_axis_that_is_never_cut_freezes_what_it_is_merged_with():
    atoms = Atoms()
    labels, others = atoms.fresh(4), atoms.fresh(4)
    atoms.merge(labels, others)
    assert atoms.merge(others, None) is None
    np.testing.assert_array_equal(atoms.find(labels), 0)


def test_merged_rows_share_their_fate_column_by_column():
    atoms = Atoms()
    table = atoms.fresh(6).reshape(2, 3)
    roots = atoms.find(atoms.merge_rows(table))
    np.testing.assert_array_equal(atoms.find(table), [roots, roots])
    assert len(np.unique(roots)) == 3
