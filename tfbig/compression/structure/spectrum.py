"""Singular values of weight matrices, and the truncated products that they give."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class Spectrum:
    """The singular values of one matrix `(m, n)`, and its best products of any rank (Eckart and Young 1936).

    They come from the eigenvalues of the smaller of `a.T @ a` and `a @ a.T` in double precision, which is
    many times faster than a full decomposition of a long matrix.
    """

    def __init__(self, matrix: np.ndarray):
        self._weights = matrix
        self.full = min(matrix.shape)

    @property
    def _matrix(self) -> np.ndarray:
        return self._weights.astype(np.float64, copy=False)

    @functools.cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        matrix = self._matrix if self._is_tall else self._matrix.T
        gram = matrix.T @ matrix
        values, vectors = np.linalg.eigh(gram)
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1]

    @property
    def squares(self) -> np.ndarray:
        """The squared singular values, falling."""
        return self._eigen[0]

    @functools.cached_property
    def _tails(self) -> np.ndarray:
        """The squared error of each rank from 0 on."""
        return self.squares[::-1].cumsum()[::-1]

    @property
    def energy(self) -> float:
        """Their sum, which is the squared Frobenius norm."""
        return float(self._tails[0])

    def dropped(self, rank: int) -> float:
        """The squared error of the best product of this rank."""
        return float(self._tails[rank]) if rank < len(self._tails) else 0.0

    def rank_within(self, error: float) -> int:
        """The smallest rank, at least 1, whose squared error is at most `error`."""
        return max(1, int(np.searchsorted(-self._tails, -error)))

    def right(self, rank: int) -> np.ndarray:
        """The leading right singular vectors, `(n, rank)`."""
        vectors = self._eigen[1][:, :rank]
        return vectors if self._is_tall else (self._matrix.T @ vectors) / self._scale(rank) ** 2

    def factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The best product of a rank, `(m, rank)` and `(rank, n)`; both carry half the scale."""
        vectors, scale = self._eigen[1][:, :rank], self._scale(rank)
        if self._is_tall:
            return (self._matrix @ vectors) / scale, scale[:, None] * vectors.T
        return vectors * scale, (vectors.T @ self._matrix) / scale[:, None]

    @property
    def _is_tall(self) -> bool:
        return self._weights.shape[1] <= self._weights.shape[0]

    def _scale(self, rank: int) -> np.ndarray:
        """Square roots of the singular values, one in place of zero."""
        roots = self.squares[:rank] ** 0.25
        return np.where(roots > 0, roots, 1.0)


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Maps in as many threads as there are cores, with one BLAS thread in each.

    BLAS's own threads wait actively, and get in each other's way on a busy machine.
    """
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))
