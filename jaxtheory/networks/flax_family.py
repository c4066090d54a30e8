"""Flax NNX modules as init/apply networks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from jaxtheory.checks import require
from jaxtheory.networks.multilayer import Multilayer, Width


class Family(NamedTuple):
    """A width of a family of modules; called, it is the network, and its argument, the width again, is not needed."""

    make_model: Callable[..., nnx.Module]
    width: int

    def __call__(self, _: Width | None, /) -> Multilayer:
        graph = nnx.graphdef(nnx.eval_shape(lambda: self.make_model(self.width, nnx.Rngs(0))))
        apply = lambda params, x: nnx.merge(graph, params)(x)  # noqa: E731
        return Multilayer(self._init, apply, 1.0, draws=self.draws, start=self._init)

    @property
    def draws(self) -> Callable[[Array], Array]:
        """Modules draw for themselves, from their seed's key."""
        return _key_itself

    def parameters(self, x: Array, outputs: int) -> int:
        """How many there are, once it is known that there is nothing else and that outputs have the right shape."""
        params = jax.eval_shape(self._init, jax.random.key(0))
        found = jax.eval_shape(self(None).apply, params, x).shape
        wish = f"give {outputs} outputs"
        require(found == (1, outputs), "make_model", f"outputs {found[1:]}", wish, "fit its last layer")
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))

    def _init(self, key: Array) -> PyTree:
        """The parameters that the module draws from a key."""
        model = self.make_model(self.width, nnx.Rngs(key))
        hint = "return a flax.nnx.Module"
        require(
            isinstance(model, nnx.Module), "make_model", f"a {type(model).__name__}", "make a Flax NNX module", hint
        )
        parts: PyTree = nnx.split(model, nnx.Param, ...)
        _, params, rest = parts
        held = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(rest)]
        hint = "normalize by layer or group, and draw nothing in the forward pass"
        require(not held, "make_model", held, "hold parameters alone", hint)
        return params


def _key_itself(key: Array) -> Array:
    return key
