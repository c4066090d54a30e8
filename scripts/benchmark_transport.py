"""Seconds of entropic transport at one marginal error, beside ott-jax's in the same process.

    python scripts/benchmark_transport.py                 # n = 2,000, three dimensions, ε = 0.1
    python scripts/benchmark_transport.py --points 20000 --iterations 10

Both make the same updates in float32 from zero potentials, the same number of times, so that the marginal errors in the
last column, of the plan that each returns, are equal. Seconds are wall and processor time of the best warm run.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import batching
from jaxtyping import Array

from jaxtheory import transport
from jaxtheory.benchmark.timing import in_turns


def theirs(x: Array, y: Array, epsilon: float, iterations: int, batch: int | None) -> Callable[[], Any]:
    """ott-jax's solver as a compiled function of no arguments: its potentials."""
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    @jax.jit
    def solve(x: Array, y: Array) -> Any:
        problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=epsilon, batch_size=batch))
        solver = sinkhorn.Sinkhorn(threshold=0.0, min_iterations=iterations, max_iterations=iterations)
        found = solver(problem)
        return found.f + epsilon * jnp.log(len(x)), found.g + epsilon * jnp.log(len(y))  # of a density, as ours

    return lambda: solve(x, y)


def marginal_error(x: Array, y: Array, epsilon: float, potentials: tuple[Array, Array]) -> float:
    """‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of the plan of these potentials, a row at a time, in plain JAX."""
    f, g = potentials
    n, m = len(x), len(y)

    def row(point: tuple[Array, Array]) -> Array:
        return jnp.exp((point[1] + g - ((point[0] - y) ** 2).sum(1)) / epsilon) / (n * m)

    def add(total: Array, point: tuple[Array, Array]) -> tuple[Array, Array]:
        plan = row(point)
        return total + plan, plan.sum()

    columns, rows = jax.jit(lambda: jax.lax.scan(add, jnp.zeros(m), (x, f)))()
    return float(jnp.abs(rows - 1 / n).sum() + jnp.abs(columns - 1 / m).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--dimension", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--iterations", type=int, default=50, help="a multiple of 10, between which ott-jax measures")
    parser.add_argument("--batch", type=int, default=256, help="ott-jax's batch_size")
    parser.add_argument(
        "--dense", type=int, default=10_000, help="most points for which ott-jax may hold n x n numbers"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keys = jax.random.split(jax.random.key(0))
    x, y = (jax.random.normal(key, (options.points, options.dimension)) for key in keys)
    y = y + 0.5
    epsilon, iterations = options.epsilon, options.iterations

    def ours() -> Any:
        found = transport.entropic(x, y, epsilon=epsilon, tolerance=1e-30, max_iterations=iterations)
        return found.potentials

    runs: dict[str, Callable[[], Any]] = {"jaxtheory": ours}
    vars(batching).setdefault("is_vmappable", lambda _: False)  # ott-jax 0.6 asks for it; JAX 0.10 has it no more
    for name, batch in (("ott-jax", None), (f"ott-jax, batch_size={options.batch}", options.batch)):
        if batch is not None or options.points <= options.dense:
            runs[name] = theirs(x, y, epsilon, iterations, batch)
    seconds = in_turns(list(runs.values()), options.repeats, processor=True)[:, 1:].min(1)
    for (name, run), (wall, processor) in zip(runs.items(), seconds, strict=True):
        print(f"{name:28s} {wall:8.3f} s {processor:8.3f} s of processors", end="", flush=True)
        print(f", marginal error {marginal_error(x, y, epsilon, run()):.4g}", flush=True)


if __name__ == "__main__":
    main()
