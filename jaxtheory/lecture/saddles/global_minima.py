"""Landscapes without bad minima: a factorization, and students wider than their teacher."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, estimated, positive
from jaxtheory.lecture.study import Study
from jaxtheory.optimization import landscapes


def predict(config: Any) -> Claims:
    """Starts that must succeed, and the gain of width."""
    rule, basis = 3 / config.starts, "95% confidence with no failure seen: 3/starts"
    half: dict[str, Any] = {"rival": 0.5, "rival_law": "half of the starts end elsewhere"}
    claims = (
        Claim("strict", "matrix factorization: starts that reach the global minimum", "Lee et al. (2016), Thm 4", 1.0,
              basis, tolerance=rule, **half),
        Claim(f"student_{config.surplus[-1]}", f"student of {config.surplus[-1]} neurons more: starts that succeed",
              "Safran, Shamir (2018), sec. 4", 1.0, basis, tolerance=rule, **half),
        positive("gain", "success of the widest student minus that of the teacher's width",
                 "Safran, Shamir (2018), sec. 4"),
    )  # fmt: skip
    return Claims(claims, {})


def measure(config: Any) -> xr.Dataset:
    """Random starts of a rank-one factorization and of ReLU students, to the end of gradient descent."""
    key = jax.random.key(config.seed)
    target = jnp.diag(jnp.array([3.0, 2.0, 0.5, -1.0]))
    strict = landscapes.global_success(
        lambda x: landscapes.matrix_factorization(x[:, None], target), lambda k: 0.1 * jax.random.normal(k, (4,)),
        key, starts=config.starts, step_size=0.1, steps=600, minimum=(2.0**2 + 0.5**2 + 1) / 4, tolerance=1e-4,
    )  # fmt: skip
    runs = [_student(config.teacher + more, config, key) for more in config.surplus]
    fraction = np.array([run.fraction for run in runs])
    spread = np.array([run.standard_error for run in runs])
    return xr.Dataset(
        {"success": ("surplus", fraction), "success_error": ("surplus", spread), "strict": float(strict.fraction),
         f"student_{config.surplus[-1]}": fraction[-1],
         **estimated("gain", fraction[-1] - fraction[0], np.hypot(spread[-1], spread[0]), config.starts)},
        {"surplus": list(config.surplus)},
    )  # fmt: skip


def _student(width: int, config: Any, key: Array) -> landscapes.Success:
    """Descent over the time 450 in steps that shrink as the curvature grows, with the teacher's neurons."""
    k = config.teacher
    teacher, scale = jnp.eye(k), 1 / np.sqrt(k)
    return landscapes.global_success(
        lambda w: landscapes.relu_student(w, teacher), lambda draw: scale * jax.random.normal(draw, (width, k)), key,
        starts=config.starts, step_size=4.5 / k, steps=100 * k, tolerance=1e-2,
    )  # fmt: skip


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The share of starts that succeed, over the student's width."""
    widths = dataset.surplus
    figures.points(ax, widths, dataset.success, dataset.success_error)
    what = "share of starts that succeed"
    figures.label_axes(ax, "student's neurons minus teacher's", what, "width removes bad minima")
    ax.set(ylim=(0, 1.05), xticks=widths)


STUDY = Study("minima", predict, measure, draw)
