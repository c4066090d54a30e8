"""Early stopping against ridge at λ = 1/t: ratios of variance and of bias."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import implicit_bias as bias


def predict(config: Any) -> Claims:
    """The largest ratios over all x = ht."""
    claims = (
        Claim("ratio", "stopping against ridge at λ = 1/t: largest ratio of variances", "Ali et al. (2019), Lemma 7",
              bias.flow_ratio(), "theory: curvature between grid points of ln x, 0.03 apart", tolerance=1e-3,
              kind="formula", rival=1.0, rival_law="flow and ridge have one variance"),
        Claim("bias", "stopping against ridge at λ = 1/t: largest ratio of biases", "Ali et al. (2019), Thm 1", 1.0,
              "theory: round-off", tolerance=1e-12, relation="<=", kind="formula"),
    )  # fmt: skip
    return Claims(claims, {})


def measure(config: Any) -> xr.Dataset:
    """Both estimators' bias and variance in one direction, over x = ht."""
    x = jnp.exp(jnp.arange(-4.0, 4.0, 0.03))
    one = partial(bias.filtered_risk, coefficients=jnp.ones(1), samples=1, noise=1.0)
    flow, ridge = jax.vmap(lambda h: one(h[None], time=1.0))(x), jax.vmap(lambda h: one(h[None], lam=1.0))(x)
    variance, squared = np.asarray(flow.variance / ridge.variance), np.asarray(flow.bias / ridge.bias)
    values = {"variance_ratio": ("x", variance), "bias_ratio": ("x", squared)}
    return xr.Dataset({**values, "ratio": variance.max(), "bias": squared.max()}, {"x": np.asarray(x)})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Both ratios over x = ht."""
    figures.theory_line(ax, dataset.x, dataset.variance_ratio, label="variance, flow over ridge")
    figures.theory_line(ax, dataset.x, dataset.bias_ratio, label="bias, flow over ridge", linestyle="--")
    ax.axhline(bias.flow_ratio(), color="#777777", linestyle=":", label=f"{bias.flow_ratio():.4f}")
    figures.label_axes(ax, "$x = h\\,t$", "ratio at $\\lambda = 1/t$", "early stopping is nearly ridge", xscale="log")
    ax.set_ylim(-0.1, 2.6)
    ax.legend(loc="upper left")


STUDY = Study("stopping", predict, measure, draw)
