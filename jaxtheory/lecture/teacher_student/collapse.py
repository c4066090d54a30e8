"""Neural collapse: descent on a last layer and free features ends at the simplex that the law names."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study
from jaxtheory.networks import train
from jaxtheory.optimization import neural_collapse

_CLASSES, _EACH, _DIM, _STEP = 4, 10, 6, 1.0
_DECAYS = 0.005, 0.001
_RECORDS = 1000


def claims(config: Any) -> Claims:
    """Gap, objective, norm and cosine of the global minimum."""
    law = neural_collapse(_CLASSES, _EACH, weight_decay=_DECAYS[0], feature_decay=_DECAYS[1])
    source, basis = "Zhu et al. (2021)", "theory: what gradient descent has left, e^(−ηλt) < 0.1%"
    found = [
        ("collapse_gap", "logit gap", law.gap, 0.0, "no class told apart"),
        ("collapse_objective", "objective", law.objective, float(np.log(_CLASSES)), "weights that decay to 0"),
        ("collapse_weights", "‖W‖²", law.weights, float(law.weights) * (_DECAYS[0] / _DECAYS[1] / _EACH) ** 0.5,
         "equal norms of W and H"),
        ("collapse_cosine", "cosine of two centered class means", law.cosine, 0.0, "orthogonal classes"),
    ]  # fmt: skip
    listed = tuple(
        Claim(name, f"neural collapse: {text}", source, float(value), basis, tolerance=1e-3 * abs(float(value)),
              rival=rival, rival_law=rival_law)
        for name, text, value, rival, rival_law in found
    )  # fmt: skip
    return Claims(listed, {"collapse_law": [float(law.gap), float(law.cosine)]})


def _objective(params: tuple[Array, Array]) -> Array:
    w, h = params
    labels = jnp.repeat(jnp.arange(_CLASSES), _EACH)
    logits = jnp.matmul(w, h, precision="highest").T
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss + _DECAYS[0] / 2 * jnp.sum(w**2) + _DECAYS[1] / 2 * jnp.sum(h**2)


def _observe(params: tuple[Array, Array]) -> dict[str, Array]:
    w, h = params
    logits = jnp.matmul(w, h, precision="highest")
    means = h.reshape(_DIM, _CLASSES, _EACH).mean(2)
    means = means - means.mean(1, keepdims=True)
    unit = means / jnp.linalg.norm(means, axis=0)[None]
    between = jnp.matmul(unit.T, unit, precision="highest")
    others = (jnp.sum(between) - _CLASSES) / (_CLASSES * (_CLASSES - 1))
    right = jnp.mean(logits[jnp.repeat(jnp.arange(_CLASSES), _EACH), jnp.arange(_CLASSES * _EACH)])
    wrong = (jnp.sum(logits) / (_CLASSES * _EACH) - right) / (_CLASSES - 1)
    scatter = jnp.sum((h.reshape(_DIM, _CLASSES, _EACH) - h.reshape(_DIM, _CLASSES, _EACH).mean(2)[..., None]) ** 2)
    found = {"gap": right - wrong, "objective": _objective(params), "weights": jnp.sum(w**2), "cosine": others}
    return found | {"within": scatter / jnp.sum(h**2)}


def measure(config: Any) -> xr.Dataset:
    """Gradient descent from small random weights and features."""
    first, second = jax.random.split(jax.random.key(config.seed))
    start = (
        0.1 * jax.random.normal(first, (_CLASSES, _DIM)),
        0.1 * jax.random.normal(second, (_DIM, _CLASSES * _EACH)),
    )
    every = config.descents // _RECORDS
    run = partial(train, _objective, optimizer=optax.sgd(_STEP), steps=_RECORDS * every, record_every=every)
    records = jax.jit(partial(run, record=_observe))(start).records
    path = {f"collapse_path_{name}": ("collapse_time", np.asarray(values)) for name, values in records.items()}
    last = {f"collapse_{name}": float(records[name][-1]) for name in ("gap", "objective", "weights", "cosine")}
    return xr.Dataset(path | last, {"collapse_time": every * np.arange(1, _RECORDS + 1)})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Gap and cosine over time, and the spread within classes."""
    time = dataset.collapse_time.values
    shown = np.unique(np.geomspace(1, len(time), 25).astype(int)) - 1
    for name, level, color, label in (
        ("gap", claims.curves["collapse_law"][0], figures.PALETTE[0], "logit gap"),
        ("cosine", claims.curves["collapse_law"][1], figures.PALETTE[1], "cosine of class means"),
        ("within", 0.0, figures.PALETTE[2], "share of $\\|H\\|^2$ within classes"),
    ):
        figures.theory_line(ax, time[[0, -1]], [level, level], color=color)
        figures.points(ax, time[shown], dataset[f"collapse_path_{name}"].values[shown], color=color, label=label)
    ax.set_ylim(-1, 8)
    figures.label_axes(ax, "step", "value", "free features collapse to a simplex", xscale="log")


COLLAPSE = Study("collapse", claims, measure, draw)
