"""Updates of an optimizer times one number for each parameter, with decay that has no such number."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxtheory.checks import require


class _State(NamedTuple):
    inner: Any
    turns: Int[Array, ""]


def multiplied(inner: Any, factors: list[float], learning_rate: Any, weight_decay: float) -> Any:
    """Updates of `inner` times one factor for each leaf, and decoupled decay without factors."""

    def init(params: Any) -> _State:
        return _State(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: _State, params: Any = None) -> tuple[Any, _State]:
        hint = "use the parameterization at this width, mu.at(params)"
        count = len(jax.tree.leaves(updates))
        require(count == len(factors), "updates", f"{count} arrays", f"have {len(factors)} arrays", hint)
        steps, state_inner = inner.update(updates, state.inner, params)
        flat: Any = jax.tree.flatten(steps)
        leaves, tree = flat
        leaves = [jnp.asarray(c, u.dtype) * u for c, u in zip(factors, leaves, strict=True)]
        if weight_decay:
            require(params is not None, "params", None, "be given to decay them", "pass them to update")
            rate = learning_rate(state.turns) if callable(learning_rate) else learning_rate
            decayed = zip(leaves, jax.tree.leaves(params), strict=True)
            leaves = [u - jnp.asarray(rate * weight_decay, p.dtype) * p for u, p in decayed]
        return tree.unflatten(leaves), _State(state_inner, state.turns + 1)

    return optax.GradientTransformation(init, update)
