"""Updates of an optimizer times one number for each parameter, with decay that has no such number."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from jaxtheory.checks import require

Rate = float | Array | Callable[[Array], float | Array]  # a number or a schedule


class _State(NamedTuple):
    inner: PyTree
    turns: Int[Array, ""]


def multiplied(
    inner: optax.GradientTransformation, factors: list[float], learning_rate: Rate, weight_decay: float
) -> optax.GradientTransformation:
    """Updates of `inner` times one factor for each leaf, and decoupled decay without factors."""

    def init(params: PyTree) -> _State:
        return _State(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: _State, params: PyTree = None) -> tuple[PyTree, _State]:
        hint = "use the parameterization at this width, mu.at(params)"
        count = len(jax.tree.leaves(updates))
        require(count == len(factors), "updates", f"{count} arrays", f"have {len(factors)} arrays", hint)
        steps, state_inner = inner.update(updates, state.inner, params)
        leaves, tree = jax.tree.flatten(steps)
        leaves = [jnp.asarray(c, u.dtype) * u for c, u in zip(factors, leaves, strict=True)]
        if weight_decay:
            require(params is not None, "params", None, "be given to decay them", "pass them to update")
            rate = learning_rate(state.turns) if callable(learning_rate) else learning_rate
            decayed = zip(leaves, jax.tree.leaves(params), strict=True)
            leaves = [u - jnp.asarray(rate * weight_decay, p.dtype) * p for u, p in decayed]
        return jax.tree.unflatten(tree, leaves), _State(state_inner, state.turns + 1)

    return optax.GradientTransformation(init, update)
