"""Gaussian nodes that are drawn together: their covariance and tangents over all places of all examples."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory.infinite.graph import Arrays
from jaxtheory.infinite.graph.arrays import Average, dense
from jaxtheory.infinite.graph.nodes import Node, Shape
from jaxtheory.infinite.schedule.computation import Computation
from jaxtheory.infinite.schedule.requests import Need

Place = tuple[int, int]  # a Gaussian node, by its position in the law, and an example


class Law(NamedTuple):
    """The Gaussian nodes that are drawn together, their examples, and the requests for their covariance."""

    roots: list[Node]
    ends: tuple[int, ...]
    pairs: list[tuple[Place, Place]]
    asked: list[Need | None]

    @property
    def size(self) -> int:
        """Numbers of one example."""
        return sum(math.prod(r.index) for r in self.roots)

    def matrix(self, parts: Sequence[Average], dtype: np.dtype) -> Array:
        """Covariance or tangents over the places of all examples, from those of pairs of nodes."""
        blocks: dict[tuple[Place, Place], Array] = {}
        for (row, column), part in zip(self.pairs, parts, strict=True):
            block = _block(part, self.roots[row[0]].index, self.roots[column[0]].index, dtype)
            blocks[row, column] = block
            blocks.setdefault((column, row), block.T)
        places = [(r, end) for end in self.ends for r in range(len(self.roots))]
        return jnp.block([[blocks[p, q] for q in places] for p in places])

    def arrays(self, vector: Array) -> Arrays:
        """The arrays of one example by root."""
        cuts = np.cumsum([math.prod(r.index) for r in self.roots])[:-1]
        return {r.number: part.reshape(r.index) for r, part in zip(self.roots, jnp.split(vector, cuts), strict=True)}


def _block(array: Average, left: Shape, right: Shape, dtype: np.dtype) -> Array:
    rows, columns = math.prod(left), math.prod(right)
    if array is None or rows == columns == 1:
        return jnp.zeros((rows, columns), dtype) if array is None else jnp.reshape(array, (1, 1))
    wide = dense(array, tuple(m for pair in zip(left, right, strict=True) for m in pair), dtype)
    order = [*range(0, wide.ndim, 2), *range(1, wide.ndim, 2)]
    return wide.transpose(order).reshape((rows, columns))


def root_of(matrix: Array) -> Array:
    """A triangular root of a covariance, whose round-off (repeated tokens, equal examples) is lifted above zero."""
    size, numbers = len(matrix), jnp.finfo(matrix.dtype)
    floor = 10 * size * numbers.eps * jnp.diagonal(matrix).max() + numbers.tiny
    return jnp.linalg.cholesky(matrix + floor * jnp.eye(size, dtype=matrix.dtype))


def law_of(c: Computation, found: dict[int, Node], *, fixed: bool = False) -> Law:
    """Requests for the covariances of all roots at all places, of every example, or of one where all are `fixed`.

    Averages of one example too are over draws of both, so that those of the same nodes are of the same draws.
    """
    roots, ends = sorted(found.values(), key=lambda r: r.order), tuple(sorted(set(c.sides)))[: 1 if fixed else None]
    places = [(r, end) for end in ends for r in range(len(roots))]
    pairs = [(one, two) for i, one in enumerate(places) for two in places[i:]]
    asked = [c.ask(roots[r], roots[s], (i, j), (True,) * len(roots[r].index)) for (r, i), (s, j) in pairs]
    return Law(roots, ends, pairs, asked)
