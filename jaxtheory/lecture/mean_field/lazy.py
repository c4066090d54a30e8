"""Lazy against mean-field scaling of the output, on the planted teacher's data."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes

from jaxtheory import figures, meanfield
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.mean_field import planted
from jaxtheory.lecture.study import Study

_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the output: mean-field at 1, lazy at 100


def predict(config: Any) -> Claims:
    """Displacement falls as one over the scale of the output."""
    claim = Claim(
        "lazy_slope", "lazy scaling: exponent of the particles' displacement in α, from 30 to 100",
        "Chizat, Oyallon, Bach (2019), Thm 2.2", -1.0, "theory: the next order is 1/α", tolerance=1 / 30,
        rival=0.0, rival_law="mean-field: particles move as far at every α",
    )  # fmt: skip
    return Claims((claim,), {})


def measure(config: Any) -> xr.Dataset:
    """The planted problem with output α f and loss/α², from a network whose halves cancel."""
    root = jax.random.fold_in(jax.random.key(config.seed), 2)
    x, y, _ = planted.problem(root)
    half = jax.random.normal(jax.random.fold_in(root, 1), (config.many // 2, 3))
    start = jnp.concatenate([half, half * jnp.array([-1.0, 1.0, 1.0], half.dtype)[None]])
    unit = meanfield.two_layer("relu")

    def end(scale: Float[Array, ""]) -> tuple[Array, Array]:
        F = meanfield.risk(lambda p, theta: scale * unit(p, theta), meanfield.squared_loss, x, y)
        flow = meanfield.gradient_flow(F * (1 / scale**2), 0.1)
        cloud = meanfield.simulate(flow, start, steps=config.teacher_steps // 2, key=root).state.cloud
        return cloud.particles, F(cloud)

    ends, risks = jax.jit(lambda scales: jax.lax.map(end, scales))(jnp.asarray(_SCALES, start.dtype))
    moved = np.sqrt(np.asarray(((ends - start[None]) ** 2).mean((1, 2)) / (start**2).mean()))
    slope = np.log(moved[-1] / moved[-2]) / np.log(_SCALES[-1] / _SCALES[-2])
    return xr.Dataset(
        {
            "displacement": ("scale", moved),
            "scaled_risk": ("scale", np.asarray(risks)),
            "lazy_start": (("twin", "coordinate"), np.asarray(start)),
            "lazy_end": (("scale", "twin", "coordinate"), np.asarray(ends)),
            "lazy_slope": float(slope),
        },
        {"scale": list(_SCALES)},
    )


def draw(picture: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Both ends in one picture: paths of the mean-field particles, and the lazy ones that stay; displacements inset."""
    start = dataset.lazy_start.values
    inset = picture.inset_axes((0.62, 0.66, 0.36, 0.32))
    for color, scale in ((figures.PALETTE[1], _SCALES[0]), (figures.PALETTE[0], _SCALES[-1])):
        end = dataset.lazy_end.sel(scale=scale).values
        picture.plot(*np.stack([start[:, 1:], end[:, 1:]]).transpose(2, 0, 1), color=color, linewidth=0.8, alpha=0.6)
        label = f"α = {scale:g}: {'mean-field' if scale == 1 else 'lazy'}"
        picture.plot(*end[:, 1:].T, "o", color=color, markersize=3.5, label=label)
    figures.label_axes(picture, "$w_1$", "$w_2$", "(d) the same neurons, two scalings of the output")
    picture.set(xlim=(-3.2, 5.2), ylim=(-3.6, 4.4))
    picture.legend(loc="lower right")
    scales, moved = dataset.scale.values, dataset.displacement.values
    inset.loglog(scales, moved[-1] * scales[-1] / scales, color="#555555", linewidth=1.2)
    inset.loglog(scales, moved, "o", markersize=4, color=figures.PALETTE[2])
    inset.set_title("displacement, $1/\\alpha$", fontsize=10, loc="center", pad=3)
    inset.set_xlabel("α", fontsize=10)


STUDY = Study("lazy", predict, measure, draw)
