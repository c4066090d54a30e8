r"""Parameterizations of any network by width: maximal update, standard and neural tangent.

Let r_in and r_out be the factors by which the axes that a program contracts (fan-in) and keeps (fan-out) grow from a
base network to a wider one. Of a parameter, relative to the base network,

| | standard deviation | rate, SGD | rate, Adam |
| --- | --- | --- | --- |
| maximal update | 1/√fan_in; readouts 1/√(fan_in r_in) | r_out / r_in | 1 / r_in |
| standard | 1/√fan_in | 1 | 1 |
| neural tangent | 1/√fan_in | 1 / r_in | 1 / √r_in |

A readout has growing inputs and no growing outputs; biases, scales of norms, tables of embeddings and input layers have
r_in = 1. The first line is maximal update without multipliers in the program: input layers and biases train at r_out
(SGD) or 1 (Adam), hidden layers at 1 or 1/r, readouts at 1/r. Sources: Yang et al. (2022), Tensor Programs V, table 3;
Jacot et al. (2018) for the neural tangent scaling.

>>> import jax.numpy as jnp, optax
>>> f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]
>>> base, wide = ({"in": jnp.ones((3, n)), "out": jnp.ones((n, 1))} for n in (8, 32))
>>> mu = maximal_update(f, base, wide, jnp.ones((2, 3)))
>>> mu.roles, mu.learning_rates
({'in': 'input', 'out': 'readout'}, {'in': 1.0, 'out': 0.25})
>>> optimizer = mu.optimizer(optax.adam, 1e-3)

Of a Flax module one width is enough: `widen` finds which of its sizes are widths.
"""

from jaxtheory.networks.parameterization.coordinates import coordinate_check, coordinate_figure
from jaxtheory.networks.parameterization.rules import Parameterization, Weight, maximal_update, ntk, standard
from jaxtheory.networks.parameterization.widening import Widened, widen

__all__ = [
    "Parameterization",
    "Weight",
    "Widened",
    "coordinate_check",
    "coordinate_figure",
    "maximal_update",
    "ntk",
    "standard",
    "widen",
]
