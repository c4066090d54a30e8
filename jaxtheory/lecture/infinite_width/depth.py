"""Deep tanh networks on either side of the edge of chaos: how fast inputs come together, and where they end."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.infinite import phase
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.study import Study

_ORDER, _CHAOS, _BIAS = (0.7, 1.0, 1.2), 2.5, 0.3  # σ_w on either side of the edge for tanh with σ_b = 0.3
_LAYERS = 20
_APART = 1e-3  # 1 − c of two inputs that come together


def predict(config: Any) -> Claims:
    """Rates below the edge, the final correlation beyond it, and the phase diagram."""
    spreads, biases = jnp.linspace(0.5, 2.8, 70), np.linspace(0.0, 1.0, 21)
    grid = phase.diagram("tanh", spreads, jnp.asarray([_BIAS]))
    curves = {
        "sigma_w": spreads.tolist(),
        "depth": grid.correlation_depth[:, 0].tolist(),
        "edge": [float(phase.critical_point("tanh", _BIAS).sigma_w)],
        "bias": biases.tolist(),
        "line": [float(phase.critical_point("tanh", b).sigma_w) for b in biases],
    }
    orders = [_about_order(sigma_w, config) for sigma_w in _ORDER]
    return Claims((*orders, _about_chaos(config)), curves)


def _about_order(sigma_w: float, config: Any) -> Claim:
    chi = phase.fixed_point("tanh", sigma_w, _BIAS).chi_one
    return statistical(f"rate_{sigma_w:g}",
                       f"deep tanh networks, σ_w = {sigma_w:g}: rate at which two inputs come together, log χ₁",
                       "Schoenholz et al. (2017), eq. 9", float(jnp.log(chi)),
                       "theory: second order in 1 − c and 1/width", tolerance=_APART + 2 / config.deep_width,
                       rival=(2 * float(np.log(sigma_w)), "the same network without tanh"))  # fmt: skip


def _about_chaos(config: Any) -> Claim:
    point = phase.fixed_point("tanh", _CHAOS, _BIAS)
    return statistical("chaos", f"deep tanh networks, σ_w = {_CHAOS:g}: correlation that they end at, c*",
                       "Poole et al. (2016), eq. 7", float(point.correlation),
                       "theory: 1/width over the layers remembered",
                       tolerance=float(point.correlation_depth) / config.deep_width,
                       rival=(1.0, "order: inputs come together"))  # fmt: skip


def measure(config: Any) -> xr.Dataset:
    """Rates of approach in the ordered phase, final correlation in the chaotic one."""
    key, dtype = jax.random.split(jax.random.key(config.seed), 3)[1], jnp.float64 if config.x64 else jnp.float32
    measured: dict[str, float] = {}
    for sigma_w, apart in (*((order, _APART) for order in _ORDER), (_CHAOS, 0.5)):
        variance = float(phase.fixed_point("tanh", sigma_w, _BIAS).variance)
        run = partial(_gaps, sigma_w=sigma_w, variance=variance, apart=apart, width=config.deep_width, dtype=dtype)
        gaps = jax.lax.map(run, jax.random.split(jax.random.fold_in(key, int(10 * sigma_w)), config.deep_draws))
        rates = jnp.log(gaps[:, -1] / gaps[:, 0]) / (_LAYERS - 1)
        measured |= (
            averaged("chaos", 1 - gaps[:, -1], None)
            if sigma_w == _CHAOS
            else averaged(f"rate_{sigma_w:g}", rates, None)
        )
    return xr.Dataset(measured)


def _gaps(
    key: Key[Array, ""], *, sigma_w: float, variance: float, apart: float, width: int, dtype: Any
) -> Float[Array, " layers"]:
    """1 − c of two inputs in every layer of one network, c of the pre-activations, kept as a difference."""
    first, *rest = jax.random.split(key, _LAYERS + 1)
    u, v = jax.random.normal(first, (2, width), dtype)
    two = jnp.stack([u, (1 - apart) * u + (1 - (1 - apart) ** 2) ** 0.5 * v]) * variance**0.5

    def layer(z: Array, key: Key[Array, ""]) -> tuple[Array, Array]:
        weights = jax.random.normal(key, (width + 1, width), dtype)
        z = jnp.matmul(jnp.tanh(z), weights[:-1], precision="highest") * (sigma_w / width**0.5) + _BIAS * weights[-1:]
        return z, ((z[0] - z[1]) ** 2).sum() / (z**2).sum()

    return jax.lax.scan(layer, two, jnp.stack(rest))[1]


def draw_phases(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The edge of chaos, and where the deep networks were drawn."""
    figures.theory_line(ax, claims.curves["line"], claims.curves["bias"], label=r"edge of chaos, $\chi_1 = 1$")
    figures.points(ax, [*_ORDER, _CHAOS], [_BIAS] * (len(_ORDER) + 1), label="deep networks", color=figures.PALETTE[1])
    ax.annotate("order", (1.05, 0.75), fontsize=14)
    ax.annotate("chaos", (2.3, 0.12), fontsize=14)
    figures.label_axes(ax, r"$\sigma_w$", r"$\sigma_b$", "phase diagram of tanh")


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The number of layers over which a correlation decays, on both sides of the edge."""
    figures.theory_line(ax, claims.curves["sigma_w"], claims.curves["depth"], label=r"$\xi_c$, theory")
    rates, errors = (np.array([float(dataset[f"rate_{w:g}{end}"]) for w in _ORDER]) for end in ("", "_error"))
    color = figures.PALETTE[1]
    figures.points(ax, np.array(_ORDER), -1 / rates, errors / rates**2, label="drawn networks", color=color)
    figures.threshold(ax, claims.curves["edge"][0], r"$\chi_1 = 1$")
    title = rf"tanh, $\sigma_b = {_BIAS:g}$"
    figures.label_axes(ax, r"$\sigma_w$", r"depth scale $\xi_c$ (layers)", title, yscale="log")


STUDY = Study("depth", predict, measure, draw)
