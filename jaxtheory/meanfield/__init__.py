"""Particle flows of functionals of a measure: gradient and Langevin flows, their exact laws, Wasserstein distances.

A functional is a pure function of a cloud of particles; a flow is an `init, step` pair; `simulate` runs any flow, on
one device or on many, and continues it bit for bit.

- functionals: `risk`, `potential`, `quadratic`, `interaction`, `many_body`, `mmd`, `stein_discrepancy`,
  `sinkhorn_divergence`, `sliced`, sums, differences and scalings; `first_variation`, `wasserstein_gradient`;
  units `neuron`, `two_layer`; `predict`
- flows: `gradient_flow`, `langevin`, `kinetic`; `conic`, `fisher_rao`, `birth_death`, `stein`, `consensus`; `jko`,
  `fictitious_play`
- gradients over data: `stochastic`, `svrg`, `dual_averaged`, in place of a functional; `noise_injection`
- `observables`, `oracles` (laws that hold exactly), `radial` (two Gaussians), `wasserstein`

>>> import jax, jax.numpy as jnp
>>> from jaxtheory import meanfield
>>> x = jnp.linspace(-1.0, 1.0, 20)[:, None]
>>> F = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, x[:, 0] / 2) + meanfield.quadratic(1e-3)
>>> flow = meanfield.langevin(F, temperature=1e-4, step_size=0.5)
>>> run = meanfield.simulate(flow, jax.random.normal(jax.random.key(0), (256, 1)), steps=100, key=jax.random.key(1))
>>> bool(F(run.state.cloud) < 0.01)
True
"""

from jaxtheory.losses import logistic as logistic_loss
from jaxtheory.losses import squared as squared_loss
from jaxtheory.meanfield import observables, oracles, radial, wasserstein
from jaxtheory.meanfield.cloud import Cloud, as_cloud, mean, pair_mean
from jaxtheory.meanfield.discrepancies import many_body, noise_injection, stein_discrepancy
from jaxtheory.meanfield.distances import sinkhorn_divergence, sliced
from jaxtheory.meanfield.driver import Simulation, State, simulate
from jaxtheory.meanfield.estimators import Estimator, dual_averaged, exact, stochastic, svrg
from jaxtheory.meanfield.flows import Flow, baoab_turn, gradient_flow, kinetic, langevin
from jaxtheory.meanfield.functionals import (
    Functional,
    first_variation,
    interaction,
    mmd,
    neuron,
    potential,
    predict,
    quadratic,
    risk,
    two_layer,
    wasserstein_gradient,
)
from jaxtheory.meanfield.implicit import fictitious_play, jko
from jaxtheory.meanfield.interacting import birth_death, conic, consensus, fisher_rao, stein

__all__ = [
    "Cloud",
    "Estimator",
    "Flow",
    "Functional",
    "Simulation",
    "State",
    "as_cloud",
    "baoab_turn",
    "birth_death",
    "conic",
    "consensus",
    "dual_averaged",
    "exact",
    "fictitious_play",
    "first_variation",
    "fisher_rao",
    "gradient_flow",
    "interaction",
    "jko",
    "kinetic",
    "langevin",
    "logistic_loss",
    "many_body",
    "mean",
    "mmd",
    "neuron",
    "noise_injection",
    "observables",
    "oracles",
    "pair_mean",
    "potential",
    "predict",
    "quadratic",
    "radial",
    "risk",
    "simulate",
    "sinkhorn_divergence",
    "sliced",
    "squared_loss",
    "stein",
    "stein_discrepancy",
    "stochastic",
    "svrg",
    "two_layer",
    "wasserstein",
    "wasserstein_gradient",
]
