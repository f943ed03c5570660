"""Which channels stand or fall together: a union-find over arrays of channel numbers."""

from __future__ import annotations

import numpy as np

Labels = np.ndarray | None  # One number per index of an axis; None: the axis is never cut.


class Atoms:
    """A growing set of channels. Merged ones are removed together; number 0 is never removed."""

    def __init__(self) -> None:
        self._parent = np.zeros(1024, dtype=np.int64)
        self._size = 1

    def __len__(self) -> int:
        return self._size

    def fresh(self, count: int) -> np.ndarray:
        """Returns `count` new channels, each on its own."""
        start, self._size = self._size, self._size + count
        if self._size > len(self._parent):
            self._parent = np.resize(self._parent, max(self._size, 2 * len(self._parent)))
        self._parent[start : self._size] = np.arange(start, self._size)
        return np.arange(start, self._size)

    def find(self, labels: np.ndarray) -> np.ndarray:
        """Returns the smallest member of each channel's set; the same number means the same fate."""
        root = self._parent[labels]
        while not np.array_equal(following := self._parent[root], root):
            root = following
        self._parent[labels] = root
        return root

    def merge(self, a: Labels, b: Labels) -> Labels:
        """Ties two axes together, index by index; an axis that is never cut freezes the other."""
        if a is None or b is None:
            self.freeze(a)
            self.freeze(b)
            return None
        left, right = self.find(a), self.find(b)
        while (left != right).any():
            np.minimum.at(self._parent, np.maximum(left, right), np.minimum(left, right))
            left, right = self.find(a), self.find(b)
        return a

    def merge_rows(self, table: np.ndarray) -> np.ndarray:
        """Ties the rows of a 2-d table together, and returns the first."""
        self.merge(np.broadcast_to(table[0], table.shape).ravel(), table.ravel())
        return table[0]

    def freeze(self, labels: Labels) -> None:
        """Rules out that any of these channels is ever removed."""
        if labels is not None:
            self.merge(labels, np.zeros_like(labels))
