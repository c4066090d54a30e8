"""Bytes that the large calls need, before anything is allocated: formulas in the shapes, and what the compiler says.

Each function is named after the call whose memory it predicts and takes sizes in place of arrays. The formulas are
within a fifth of what XLA allots on a CPU, by its own schedule and by the one that jaxlib 0.10.2 is given (see
docs/reliability.md), which holds up to a third less; temporaries differ by device, and `compiled` asks the compiler
of this one, for any other call too, as `ntk` does.

>>> needed = gram(100_000, dimension=784, block=2048)
>>> f"{needed.result / 2**30:.1f} GiB of {needed.peak / 2**30:.1f} GiB"
'37.3 GiB of 37.6 GiB'
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from jaxtheory import empirical
from jaxtheory.checks import require


class Bytes(NamedTuple):
    """What a call holds on one device: its arguments, its result, and temporaries at their largest."""

    arguments: float
    result: float
    temporaries: float

    @property
    def peak(self) -> float:
        """All three together."""
        return self.arguments + self.result + self.temporaries


def compiled(function: Callable[..., PyTree], *arguments: PyTree) -> Bytes:
    """What the compiler allots to `function(*arguments)` on the default device; nothing is allocated or run.

    Args:
        function: of arrays and pytrees of arrays; close over what is static.
        arguments: arrays, or `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: a backend that does not say.

    Cost: one compilation.

    >>> compiled(lambda x: x + 1, jax.ShapeDtypeStruct((1000,), "float32")).result
    4000.0
    """
    analysis: Any = jax.jit(lambda *given: function(*given)).lower(*arguments).compile().memory_analysis()
    backend = jax.default_backend()
    require(analysis is not None, "function", backend, "run on a backend that tells its memory", "use a CPU or GPU")
    found = (analysis.argument_size_in_bytes, analysis.output_size_in_bytes, analysis.temp_size_in_bytes)
    return Bytes(*map(float, found))


def gram(n1: int, n2: int | None = None, *, dimension: int, block: int | None = None, itemsize: int = 4) -> Bytes:
    r"""Of `kernels.gram(kernel, x1, x2, block=block)`, for n1 and n2 points in d dimensions.

    Without blocks n1 (d + 1) numbers beside K, or (n1 + n2) d where there is an x2. With blocks of b,

        b² + 4 b d,

    for stationary kernels: a block, and points of both sides as they are cut and scaled.

    Args:
        n1, n2: numbers of points; None where x2 is None.
        dimension: d. block: as in `gram`. itemsize: bytes of a number.

    Raises:
        ValueError: a size below 1.

    >>> gram(1000, dimension=10).peak
    4084000.0
    """
    _require_sizes(n1=n1, n2=n2, dimension=dimension, block=block, itemsize=itemsize)
    columns = n1 if n2 is None else n2
    points, whole = n1 * dimension + (0 if n2 is None else n2 * dimension), n1 * columns
    if block is not None and block < max(n1, columns):
        height, width = min(block, n1), min(block, columns)
        temporaries = height * width + 2 * (height + width) * dimension
    else:
        temporaries = n1 * (dimension + 1) if n2 is None else points
    return _bytes(itemsize, points, whole, temporaries)


def fit(
    n: int,
    *,
    dimension: int,
    outputs: int = 1,
    solver: str = "auto",
    rank: int | None = None,
    block: int = 2048,
    itemsize: int = 4,
) -> Bytes:
    r"""Of `kernels.fit(kernel, x, y, ridge, ...)` by Cholesky or by conjugate gradients with `rpcholesky`.

    Cholesky holds six matrices at its largest: K, K + ridge I, its factor and copies in the loop over jitters,

        6 n² + 2 n (o + 1).

    Conjugate gradients hold copies of the preconditioner's factor [n r], of blocks [b b] and of vectors [n o]: three
    factors, and for several outputs two,

        2.6 n r + 12 n + 2.5 b² + 2 b d  (o = 1),    max(2 n r + 32 n + 3 n o, n r + 5.5 n o + 2.5 b² + 2 b d)  (o > 1).

    Args:
        n: points. dimension: d. outputs: o, columns of y.
        solver: "cholesky", "cg", or "auto", Cholesky up to 10,000 points.
        rank, block: as in `fit`. itemsize: bytes of a number.

    Raises:
        ValueError: a size below 1, or another solver.

    >>> f"{fit(10_000, dimension=10).peak / 2**30:.1f} GiB"
    '2.2 GiB'
    """
    _require_sizes(n=n, dimension=dimension, outputs=outputs, rank=rank, block=block, itemsize=itemsize)
    known = solver in ("auto", "cholesky", "cg")
    require(known, "solver", solver, "be 'auto', 'cholesky' or 'cg'", "use `compiled` for another")
    given, result = n * (dimension + outputs), n * (dimension + outputs)  # the points are the model's centres
    if solver == "cholesky" or (solver == "auto" and n <= 10_000):
        return _bytes(itemsize, given, result, 6 * n**2 + 2 * n * (outputs + 1))
    rank = min(n, int(6 * n**0.5)) if rank is None else rank
    block = min(block, n)
    blocks, factor = 2.5 * block**2 + 2 * block * dimension, n * rank
    if outputs == 1:
        return _bytes(itemsize, given, result, 2.6 * factor + 12 * n + blocks)
    making, solving = 2 * factor + n * (32 + 3 * outputs), factor + 5.5 * n * outputs + blocks
    return _bytes(itemsize, given, result, max(making, solving))


def simulate(
    particles: int, dimension: int, *, samples: int, outputs: int = 1, block: int | None = None, itemsize: int = 4
) -> Bytes:
    r"""Of `meanfield.simulate` for a gradient flow of a `risk` whose unit reads points of the particles' dimension.

    For N particles of d numbers, n samples, o outputs and blocks of b particles,

        2 N d + 3 N + 2 b n o,    and 2 N d + 3 N + N n o where one block holds all particles.

    Args:
        particles: N. dimension: d. samples: n of the risk. outputs: o of the unit.
        block: particles at once, as in `risk`; by default what 2¹⁸ numbers hold, its choice on a CPU.
        itemsize: bytes of a number.

    Raises:
        ValueError: a size below 1.

    >>> f"{simulate(2**20, 100, samples=1000).peak / 2**20:.0f} MiB"
    '1622 MiB'
    """
    _require_sizes(particles=particles, dimension=dimension, samples=samples, outputs=outputs, block=block)
    block = max(1, 2**18 // (samples * outputs)) if block is None else block
    values = (particles if particles <= block else 2 * block) * samples * outputs
    cloud = particles * dimension
    given = cloud + samples * (dimension + outputs)
    return _bytes(itemsize, given, cloud + 2 * particles, 2 * cloud + 3 * particles + values)


def solve(
    n: int, *, depth: int, steps: int, samples: int, groups: int = 8, outputs: int = 1, batch: int | None = None,
    itemsize: int = 4,
) -> Bytes:  # fmt: skip
    r"""Of `feature_learning.solve`, records aside: the state of all groups, and 2.2 times that of one.

    A group of M = S/g samples holds for each of L − 1 matrices four frames of R rows and two squares of its updates,

        (L − 1) (4 R M + 2 R²) + (2 n + 3 o) M,    R = steps · batch, at least n, in whole blocks of about 128.

    Args:
        n: training points. depth: L. steps: of gradient descent. samples: S. groups: g. outputs: o.
        batch: points of a step; n by default. itemsize: bytes of a number.

    Raises:
        ValueError: a size below 1.

    >>> f"{solve(32, depth=3, steps=100, samples=16_384).peak / 2**30:.1f} GiB"
    '3.6 GiB'
    """
    _require_sizes(n=n, depth=depth, steps=steps, samples=samples, groups=groups, outputs=outputs, batch=batch)
    batch = n if batch is None else batch
    width = batch * max(1, 128 // batch)
    rows = -(-max(steps * batch, n) // width) * width
    share = samples // groups
    state = (depth - 1) * (4 * rows * share + 2 * rows**2) + (2 * n + 3 * outputs) * share
    return _bytes(itemsize, n * outputs, groups * state, 2.2 * state)


def width_path(
    n: int, features: int, *, tests: int, outputs: int = 1, ridge: bool = False, itemsize: int = 4
) -> Bytes:  # fmt: skip
    r"""Of `double_descent.width_path` without derivatives: the larger of what its preparation and its loop hold,

        3.7 n P + m P    and    (m + n) P + 1.7 m n + (7 or, with a ridge, 9.5) n² + 5 b (m + 2n),

    with b columns a block: the power of two next to n/6, 8 to 128.

    Args:
        n: training points. features: P. tests: m, test points. outputs: columns of the targets.
        ridge: whether there is one. itemsize: bytes of a number.

    Raises:
        ValueError: a size below 1.

    >>> f"{width_path(1000, 20_000, tests=10_000).peak / 2**30:.1f} GiB"
    '1.8 GiB'
    """
    _require_sizes(n=n, features=features, tests=tests, outputs=outputs, itemsize=itemsize)
    block = int(min(max(2 ** round(math.log2(n / 6)), 8), 128))
    padded = max(2, -(-features // block)) * block
    preparing = 3.7 * n * padded + tests * padded
    state = 1.7 * tests * n + (9.5 if ridge else 7) * n**2 + 5 * block * (tests + 2 * n)
    looping = (tests + n) * padded + state
    return _bytes(itemsize, (n + tests) * (features + outputs), 8 * features, max(preparing, looping))


def ntk(
    f: Callable[..., PyTree], params: PyTree, x1: PyTree, x2: PyTree | None = None, **options: Any
) -> Bytes:  # fmt: skip
    """Of `empirical.ntk(f, params, x1, x2, **options)`, as the compiler allots it on the default device.

    No formula holds for every f, since what XLA fuses decides: `empirical.explain(f, params, x1, x2, **options).bytes`
    is the bound on temporaries from which `ntk` chooses its blocks, without compiling; small dense networks need a
    fifth to half of it, sequences all of it.

    Args:
        f: as in `ntk`.
        params, x1, x2: arrays, or `jax.ShapeDtypeStruct`s.
        options: `output`, `batch`, `method`, `block`, `memory` of `ntk`.

    Raises:
        ValueError: as `ntk`.

    Cost: the compilation of `ntk`, nothing is allocated or run.

    >>> shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((784, 4096), (4096, 10))]
    >>> x = jax.ShapeDtypeStruct((5000, 784), "float32")
    >>> needed = ntk(lambda p, x: jax.nn.relu(x @ p[0]) @ p[1], shapes, x, output="trace")
    >>> f"{needed.result / 2**20:.0f} MiB"
    '95 MiB'
    """
    if x2 is None:
        return compiled(lambda params, x1: empirical.ntk(f, params, x1, **options), params, x1)
    return compiled(lambda params, *points: empirical.ntk(f, params, *points, **options), params, x1, x2)


def largest_block(needed: Callable[[int], Bytes], largest: int, limit: float) -> int:
    """The largest of `largest`, half of it, … whose peak is at most `limit` bytes; 1 where none is.

    Args:
        needed: the bytes with a block of that size.
        largest: where to begin, e.g. the number of points.
        limit: bytes, e.g. `jax.devices()[0].memory_stats()["bytes_limit"]`, less what else is held.

    Raises:
        ValueError: largest < 1.

    >>> needed = lambda block: fit(20_000, dimension=8, solver="cg", rank=256, block=block)
    >>> largest_block(needed, 20_000, 100e6)
    1250
    """
    _require_sizes(largest=largest)
    sizes = (-(-largest // 2**k) for k in range(math.ceil(math.log2(largest)) + 1))
    return next((size for size in sizes if needed(size).peak <= limit), 1)


def _bytes(itemsize: int, *numbers: int | float) -> Bytes:
    return Bytes(*(float(itemsize * count) for count in numbers))


def _require_sizes(**sizes: int | None) -> None:
    for name, size in sizes.items():
        require(size is None or size >= 1, name, size, "be a size >= 1", "count points, dimensions or bytes")
