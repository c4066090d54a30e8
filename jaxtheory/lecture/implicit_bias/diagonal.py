"""A diagonal network from a start of size α: the interpolant of least hyperbolic entropy."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import implicit_bias as bias

_SIGNAL = (1.0, -0.7, 0.4)  # of the diagonal network


def predict(config: Any) -> Claims:
    """Descent finds the least entropy, for every α."""
    return Claims(tuple(_entropy_claim(scale, config) for scale in config.scales), {})


def _entropy_claim(scale: float, config: Any) -> Claim:
    """A step η multiplies uv by 1 − 4η²g²: the start of coordinate i shrinks by η ∫4g² ≤ η max|g| arcsinh(β_i/2α²)."""
    x, y = _problem(config)
    beta = bias.hyperbolic_interpolant(x, y, scale=scale).beta
    steepest = float(jnp.abs(jnp.matmul(y, x, precision="highest")).max()) / len(y)
    shortest = jnp.linalg.lstsq(x, y)[0]
    path = float(jnp.arcsinh(jnp.abs(beta).max() / (2 * scale**2)))
    return Claim(
        f"entropy_{scale:g}", f"diagonal network, α = {scale:g}: relative distance from the least entropy",
        "Woodworth et al. (2020), Thm 1", 0.0, "theory: twice the first-order effect of the step",
        tolerance=2 * _diagonal_step(config, scale) * steepest * path,
        rival=float(jnp.linalg.norm(shortest - beta) / jnp.linalg.norm(beta)), rival_law="the least ℓ₂ norm",
    )  # fmt: skip


def _diagonal_step(config: Any, scale: float) -> float:
    """Small against the curvature, which grows with α²; the same flow time for every α but large ones."""
    return 400.0 / config.steps / (1 + 4 * scale**2)


def _problem(config: Any) -> tuple[Array, Array]:
    x = jax.random.normal(jax.random.key(config.seed), (config.features // 4, config.features))
    x = x / jnp.linalg.norm(x, 2) * jnp.sqrt(config.features // 4.0)
    return x, jnp.matmul(x[:, : len(_SIGNAL)], jnp.array(_SIGNAL), precision="highest")


def measure(config: Any) -> xr.Dataset:
    """ℓ₁ norms of the predicted interpolant and of what descent finds, and their distance."""
    x, y = _problem(config)
    scales = jnp.array(config.scales)
    steps = jnp.array([_diagonal_step(config, scale) for scale in config.scales])
    law = jax.vmap(lambda scale: bias.hyperbolic_interpolant(x, y, scale=scale).beta)(scales)
    run = partial(bias.diagonal_descent, x, y, steps=config.steps)
    runs = jax.vmap(lambda scale, step: run(scale=scale, step_size=step)[0])(scales, steps)
    gaps = [float(jnp.linalg.norm(r - b) / jnp.linalg.norm(b)) for r, b in zip(runs, law, strict=True)]
    found = {f"entropy_{scale:g}": gap for scale, gap in zip(config.scales, gaps, strict=True)}
    between = jnp.geomspace(scales.min(), scales.max(), 60)
    curve = jax.vmap(lambda scale: jnp.abs(bias.hyperbolic_interpolant(x, y, scale=scale).beta).sum())(between)
    arrays = {"l1_law": ("alpha", np.asarray(curve)), "l1_run": ("scale", np.asarray(jnp.abs(runs).sum(1)))}
    return xr.Dataset({**arrays, **found}, {"scale": list(config.scales), "alpha": np.asarray(between)})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The ℓ₁ norm of the interpolant over the size of the start."""
    figures.theory_line(ax, dataset.alpha, dataset.l1_law, label="least entropy")
    figures.points(ax, dataset.scale.values, dataset.l1_run, label="gradient descent")
    what = "$\\|\\beta\\|_1$ of the interpolant"
    figures.label_axes(ax, "size of the start, $\\alpha$", what, "sparse from small starts", xscale="log")


STUDY = Study("diagonal", predict, measure, draw)
