"""Convolutions whose backward pass compilers know: the kernel as [taps, in, out] in both directions.

The transpose of a convolution is one with inputs and outputs of the kernel exchanged. JAX only renames the kernel's
axes for it, and inside a loop the CPU compiler has no fast program for a kernel that is named so (a tenth of the
speed); given the axes in the other order, the names come out right after the exchange.
"""

import jax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from jaxtheory.programs.calls import Equation, bind

Tangent = Array | SymbolicZero


def convolve(equation: Equation, values: list[Array]) -> list[Array]:
    """The equation conv_general_dilated at `values`, with the same derivatives to any order."""

    @jax.custom_jvp
    def convolution(image: Array, kernel: Array) -> Array:
        return bind(equation, [image, kernel])[0]

    def rule(primals: tuple[Array, Array], tangents: tuple[Tangent, Tangent]) -> tuple[Array, Array]:
        (image, kernel), (image_dot, kernel_dot) = primals, tangents
        parts = [] if isinstance(image_dot, SymbolicZero) else [_exchanged(equation, image_dot, kernel)]
        parts += [] if isinstance(kernel_dot, SymbolicZero) else [bind(equation, [image, kernel_dot])[0]]
        out = convolution(image, kernel)
        return out, sum(parts[1:], parts[0])

    convolution.defjvp(rule, symbolic_zeros=True)
    return [convolution(*values)]


def _exchanged(equation: Equation, image: Array, kernel: Array) -> Array:
    """The same convolution, the kernel's axes in memory in the order [taps, out, in]."""
    numbers = equation.params["dimension_numbers"]
    out, into, *taps = numbers.rhs_spec
    last = kernel.ndim - 1
    renamed = numbers._replace(rhs_spec=(last - 1, last, *range(last - 1)))
    params = {**equation.params, "dimension_numbers": renamed}
    return equation.primitive.bind(image, kernel.transpose(*taps, out, into), **params)
