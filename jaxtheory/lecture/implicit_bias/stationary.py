"""Where SGD settles on a quadratic: the discrete Lyapunov equation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, averaged, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import implicit_bias as bias

_CURVATURES = (1.0, 0.3, 0.05)  # of the quadratic on which SGD settles


def predict(config: Any) -> Claims:
    """The trace of the stationary covariance at every step size."""
    claims = tuple(
        statistical(f"sgd_{rate:g}", f"SGD, η = {rate:g}: trace of the stationary covariance", "Mandt et al. (2017)",
                    float(jnp.trace(_stationary(rate))), over="over runs", rival=_flow_rival(rate))
        for rate in config.rates
    )  # fmt: skip
    return Claims(claims, {})


def _flow_rival(rate: float) -> tuple[float | None, str]:
    """The covariance of the stochastic flow, (η/2) H⁻¹Σ, where the step is long enough to tell it from descent's."""
    trace = float((jnp.diagonal(_noise()) / jnp.array(_CURVATURES)).sum()) * rate / 2
    return (trace, "the flow, steps of size 0") if rate * max(_CURVATURES) >= 0.25 else (None, "")


def _stationary(rate: float) -> Array:
    return bias.stationary_covariance(jnp.diag(jnp.array(_CURVATURES)), _noise(), rate)


def _noise() -> Array:
    return jnp.diag(jnp.array(_CURVATURES)) + 0.02


def measure(config: Any) -> xr.Dataset:
    """Independent runs of SGD on a quadratic, long after its slowest time."""
    h, root = jnp.array(_CURVATURES), jnp.linalg.cholesky(_noise())

    @jax.jit
    def settle(rate: Array) -> Array:
        def step(i: Array, theta: Array) -> Array:
            xi = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), i), theta.shape)
            return theta - rate * (theta * h[None] + jnp.matmul(xi, root.T, precision="highest"))

        last = jax.lax.fori_loop(0, 2000, step, jnp.zeros((config.walkers, len(_CURVATURES))))
        return (last**2).sum(1)

    found = [averaged(f"sgd_{rate:g}", settle(jnp.asarray(rate)), None) for rate in config.rates]
    mean, error, _ = np.array([list(one.values()) for one in found]).T
    scalars = {name: value for one in found for name, value in one.items()}
    arrays = {"trace": ("rate", mean), "trace_error": ("rate", error)}
    return xr.Dataset({**arrays, **scalars}, {"rate": list(config.rates)})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The trace of the covariance over the step size."""
    rates = np.linspace(0.05, max(dataset.rate.values), 80)
    figures.theory_line(ax, rates, [float(jnp.trace(_stationary(r))) for r in rates], label="discrete Lyapunov")
    figures.points(ax, dataset.rate, dataset.trace, dataset.trace_error, label="SGD")
    figures.label_axes(ax, "step size $\\eta$", "trace of the covariance", "where SGD settles")


STUDY = Study("stationary", predict, measure, draw)
