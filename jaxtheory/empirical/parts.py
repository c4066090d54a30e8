r"""Complex outputs and parameters as real numbers: what is computed is real, the Hermitian kernel is put together last.

For real parameters and f = a + i b the kernel is that of J = A + i B with A = ∂a/∂θ, B = ∂b/∂θ:

    J(x1) J(x2)ᴴ = A1 A2ᵀ + B1 B2ᵀ + i (B1 A2ᵀ − A1 B2ᵀ)

Its four terms are the kernel of a real function on twice the examples, a at one half of them and b at the other.
A complex parameter counts as two real ones, its real and its imaginary part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float, PyTree


class Parts(NamedTuple):
    """A complex parameter, one of the leaves as the methods see them."""

    real: Float[Array, "..."]
    imag: Float[Array, "..."]


class Part(NamedTuple):
    """Examples of which one part of the outputs counts: the imaginary one where `imaginary`."""

    x: PyTree
    imaginary: Array


def is_complex(leaf: Any) -> bool:
    """Whether an array or a number is complex."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating)


def split(params: PyTree) -> PyTree:
    """Each complex array as its two real ones."""
    return jax.tree.map(lambda leaf: Parts(leaf.real, leaf.imag) if is_complex(leaf) else leaf, params)


def _joined(params: PyTree) -> PyTree:
    both = lambda leaf: isinstance(leaf, Parts)  # noqa: E731
    return jax.tree.map(lambda leaf: lax.complex(*leaf) if both(leaf) else leaf, params, is_leaf=both)


@dataclass(frozen=True)
class OfParts:
    """f as a function of what `split` gives."""

    f: Callable[[PyTree, PyTree], Array]

    def __call__(self, params: PyTree, x: PyTree) -> Array:
        """Outputs at these parameters."""
        return self.f(_joined(params), x)


@dataclass(frozen=True)
class Stacked:
    """f with real and imaginary part along a last axis."""

    f: Callable[[PyTree, PyTree], Array]

    def __call__(self, params: PyTree, x: PyTree) -> Array:
        """[n, *out, 2]."""
        out = self.f(params, x)
        return jnp.stack([out.real, out.imag], -1)


@dataclass(frozen=True)
class EachPart:
    """f as a real function of `doubled` examples; `whole`: f mixes the examples of its batch, and sees them once."""

    f: Callable[[PyTree, PyTree], Array]
    whole: bool

    def __call__(self, params: PyTree, given: Part) -> Array:
        """[2n, *out]: real and imaginary part in turns."""
        if self.whole:
            out = self.f(params, jax.tree.map(lambda leaf: leaf[::2], given.x))
            return jnp.stack([out.real, out.imag], 1).reshape(-1, *out.shape[1:])
        out = self.f(params, given.x)
        return jnp.where(given.imaginary.reshape(-1, *[1] * (out.ndim - 1)), out.imag, out.real)


def doubled(x: PyTree) -> Part:
    """Each example twice, one after the other: first for its real part."""
    count = len(jax.tree.leaves(x)[0])
    twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), x)
    return Part(twice, jnp.tile(jnp.array([False, True]), count))


def hermitian(kernel: Float[Array, "m1 m2 *outputs"]) -> Complex[Array, "n1 n2 *outputs"]:
    """The kernel of f from that of `EachPart(f)` on `doubled` examples."""
    n1, n2 = kernel.shape[0] // 2, kernel.shape[1] // 2
    pairs = kernel.reshape(n1, 2, n2, 2, *kernel.shape[2:])
    return lax.complex(pairs[:, 0, :, 0] + pairs[:, 1, :, 1], pairs[:, 1, :, 0] - pairs[:, 0, :, 1])
