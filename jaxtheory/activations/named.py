"""The activations that have a name, each an elementwise JAX function that keeps the dtype of its input."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import Checked, require

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def _step(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return (x > 0).astype(x.dtype)


def _gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jax.nn.gelu(x, approximate=False)


# relu'(0) = 0 and step(0) = 0, as in jax.nn; gelu is x·Φ(x), not its tanh approximation.
_NAMED: dict[str, Activation] = {
    "abs": jnp.abs,
    "cos": jnp.cos,
    "elu": jax.nn.elu,
    "erf": jax.scipy.special.erf,
    "exp": jnp.exp,
    "gaussian": lambda x: jnp.exp(-jnp.square(x)),
    "gelu": _gelu,
    "hard_tanh": jax.nn.hard_tanh,
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "sign": jnp.sign,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "square": jnp.square,
    "step": _step,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def resolve(activation: str | Activation) -> Activation:
    """The elementwise function behind a name; a function is returned as it is (one that has no hash, in a lambda).

    Names: abs, cos, elu, erf, exp, gaussian (e^(−x²)), gelu (exact, xΦ(x)), hard_tanh, identity, leaky_relu
    (slope 0.01), relu, selu, sigmoid, sign, silu or swish, sin, softplus, softsign, square, step (1 where x > 0), tanh.

    Args:
        activation: a name, or any elementwise function of one array.

    Returns:
        A function from an array to an array of the same shape and dtype.

    Raises:
        ValueError: the name is not one of these, or `activation` is neither a name nor a function.

    >>> float(resolve("relu")(jnp.float32(-1.0)))
    0.0
    """
    if callable(activation):
        return activation if _hashable(activation) else lambda x: activation(x)
    names = ", ".join(_NAMED)
    require(
        isinstance(activation, str) and activation in _NAMED,
        "activation",
        repr(activation),
        f"be a function or one of {names}",
        "pass a function for any other activation",
    )
    return _NAMED[activation]


def elementwise(activation: str | Activation) -> Activation:
    """`resolve`, and a check that a function of the user's returns real numbers of its argument's shape.

    >>> elementwise(lambda x: x > 0)(jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """
    function = resolve(activation)
    own = isinstance(activation, str) or isinstance(function, Checked)
    return function if own else Checked("activation", function, "same", whole=True)


def _hashable(value: Activation) -> bool:
    """Whether results can be cached for a function; modules that hold arrays have no hash."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
