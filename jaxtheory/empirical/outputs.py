"""Which entries of the o-by-o block of each pair of examples a kernel keeps."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import require

Output = str | tuple[int, ...]

Numbers = Array | np.ndarray | None  # of output directions; None: all


class Spec(NamedTuple):
    """Output directions in rows of `traced` times `kept` cotangents; `paired` keeps only equal ones."""

    shape: tuple[int, ...]
    traced: int
    kept: int
    kept_shape: tuple[int, ...]
    order: tuple[int, ...]
    paired: bool
    summed: bool

    @property
    def letters(self) -> str:
        """The second example's letter for the kept directions."""
        return "k" if self.paired else "l"

    @property
    def plain(self) -> bool:
        """Whether the contraction over traced directions is one product of matrices."""
        return self.kept == 1 or (self.traced == 1 and not self.paired)

    @property
    def block(self) -> int:
        """Numbers a pair of examples."""
        return self.kept if self.paired else self.kept**2


def output_spec(output: Output, shape: tuple[int, ...]) -> Spec:
    """Read `output` for a network whose single output has shape `shape`.

    Raises:
        ValueError: an unknown name, or an axis the output does not have.
    """
    names = ("full", "trace", "diagonal", "sum-of-logits")
    rank = len(shape)
    known = output in names if isinstance(output, str) else len({axis % rank for axis in output if rank}) == len(output)
    known = known and (isinstance(output, str) or all(-rank <= axis < rank for axis in output))
    wish = f"be one of {names} or different axes of an output of shape {shape}"
    require(known, "output", output, wish, "choose one of these")
    everything = tuple(range(len(shape)))
    traced = {"trace": everything}.get(output, ()) if isinstance(output, str) else output
    traced = tuple(sorted(axis % len(shape) for axis in traced)) if traced else ()
    kept = tuple(axis for axis in everything if axis not in traced)
    counts = [math.prod(shape[axis] for axis in axes) for axes in (traced, kept)]
    if output == "sum-of-logits":
        return Spec(shape, 1, 1, (), everything, False, True)
    kept_shape = tuple(shape[axis] for axis in kept)
    return Spec(shape, counts[0], counts[1], kept_shape, (*traced, *kept), output == "diagonal", False)


def read_output(output: object) -> Output:
    """A name, or axes as a tuple of integers.

    Raises:
        ValueError: anything else.
    """
    if isinstance(output, str):
        return output
    axes = tuple(output) if isinstance(output, (tuple, list)) else (output,)
    whole = all(isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) for axis in axes)
    require(whole, "output", output, "be a name or a tuple of output axes", 'pass "trace", for example')
    return tuple(int(axis) for axis in axes)


def widened(values: Array) -> Array:
    """Half precision as float32, in which products are summed."""
    half = jnp.issubdtype(values.dtype, jnp.floating) and jnp.finfo(values.dtype).bits < 32
    return values.astype(jnp.float32) if half else values


def cotangents(spec: Spec, dtype: jnp.dtype, numbers: Numbers = None) -> Float[Array, "directions ..."]:
    """The directions as cotangents of one example's output, those traced over first.

    With `numbers`, these directions alone; a number of o or more gives a cotangent of zeros.
    """
    o = math.prod(spec.shape)
    if spec.summed:
        return jnp.full((1, *spec.shape), o**-0.5, dtype)
    index = jnp.asarray(np.arange(o).reshape(spec.shape).transpose(spec.order).ravel())
    if numbers is not None:
        index = index.at[numbers].get(mode="fill", fill_value=-1)
    return (index[:, None] == jnp.arange(o)[None]).astype(dtype).reshape(len(index), *spec.shape)


def numbered(spec: Spec, part: Spec) -> np.ndarray:
    """Numbers of the directions of each part, [traced parts, kept parts, directions]; o where none is left."""
    steps = (-(-spec.traced // part.traced), -(-spec.kept // part.kept))
    t = np.arange(steps[0] * part.traced).reshape(steps[0], 1, part.traced, 1)
    k = np.arange(steps[1] * part.kept).reshape(1, steps[1], 1, part.kept)
    inside = (t < spec.traced) & (k < spec.kept)
    return np.where(inside, t * spec.kept + k, spec.traced * spec.kept).reshape(*steps, -1)


def directions(spec: Spec) -> int:
    """Backward passes an example."""
    return spec.traced * spec.kept


def finish(spec: Spec, block: Array) -> Array:
    """From [n1, k, n2, l] (or [n1, k, n2]) to [n1, n2, *kept, *kept], the trace turned into a mean."""
    scaled = block / spec.traced
    if spec.paired:
        return scaled.transpose(0, 2, 1).reshape(block.shape[0], block.shape[2], *spec.kept_shape)
    return scaled.transpose(0, 2, 1, 3).reshape(block.shape[0], block.shape[2], *spec.kept_shape, *spec.kept_shape)
