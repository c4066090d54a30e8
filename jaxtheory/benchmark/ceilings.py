"""What the device does at its best, as measured."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxtheory.benchmark.timing import in_turns
from jaxtheory.benchmark.work import Work, normal


class Ceilings(NamedTuple):
    """Flops a second of a product of square matrices, and bytes a second of x + y."""

    highest: float
    """float32 at the highest precision, which everything here asks for"""
    default: float
    """float32 at the default precision: TF32 or bfloat16 passes on an accelerator"""
    double: float
    """float64"""
    bandwidth: float


def ceilings(matrix: int, vector: int, repeats: int) -> Ceilings:
    """Measure them, by products of `matrix` rows and columns and sums of `vector` numbers."""
    works = [_product(matrix, "highest"), _product(matrix, "default"), _product(matrix, "highest", x64=True)]
    works.append(_addition(vector))
    best = in_turns([work.run for work in works], repeats)[:, 1:].min(axis=1)
    highest, default, double = (float(work.flops / seconds) for work, seconds in zip(works[:3], best[:3], strict=True))
    return Ceilings(highest, default, double, float(works[3].bytes / best[3]))


def _product(size: int, precision: str, x64: bool = False) -> Work:
    multiply = jax.jit(partial(jnp.matmul, precision=precision))
    with jax.enable_x64(x64):
        a = jax.random.normal(jax.random.key(0), (size, size), float)

    def run() -> jax.Array:
        with jax.enable_x64(x64):
            return multiply(a, a)

    return Work(run, 2 * size**3, 3 * a.nbytes, {})


def _addition(size: int) -> Work:
    x, y = normal(0, size), normal(1, size)
    add = jax.jit(jnp.add)
    return Work(lambda: add(x, y), 0, 3 * x.nbytes, {})
