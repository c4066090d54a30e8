"""Kolmogorov's superposition: a fixed inner function with exact integers, and one outer step."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jaxtheory import figures
from jaxtheory.expressivity import kolmogorov
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.expressivity.images import draw_image
from jaxtheory.lecture.study import Study

_BASE, _DIGITS = 12, 2  # of the superposition
_ZOOM = (58 / 144, 61 / 144)  # where its cubes are drawn


def predict(config: Any) -> Claims:
    """The bound of one step for every number of outer functions, and the inner functions' integers."""
    integers = (
        Claim("increment", "least increment of ψ on 5 digits, times γ^β(5)", "Köppen (2002)", 1.0, "theory: exact"),
        Claim("sprecher", "falls of Sprecher's ψ on 5 digits", "Köppen (2002)", 1.0, "theory: at least one",
              relation=">="),
    )  # fmt: skip
    return Claims((*(_step_claim(terms) for terms in config.terms), *integers), {})


def _step_claim(terms: int) -> Claim:
    bound = float(kolmogorov.step_bound(dim=2, terms=terms, norm=1.0, oscillation=_bump_oscillation()))
    return Claim(
        f"superposition_{terms}", f"sup error of one outer step with {terms} outer functions, over sup |f|",
        "Braun, Griebel (2009), Thm 2.1", bound, "theory: all cubes but n hold every point", relation="<=",
    )  # fmt: skip


def _bump(x: Any) -> Any:
    """A smooth function of two variables with sup norm 1 at (0.4, 0.4), where its cosine is 1."""
    return np.exp(-3 * ((x - 0.4) ** 2).sum(-1)) * np.cos(4 * (x[..., 0] - 0.4) + 2 * (x[..., 1] - 0.4))


def _bump_oscillation() -> float:
    """Over a cube of side γ^(−k): its largest ℓ¹ gradient on a fine grid, times the side."""
    axis = np.linspace(0, 1, 401)
    slopes = np.gradient(_bump(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)), axis, axis)
    return float(np.abs(np.array(slopes)).sum(0).max()) * float(_BASE) ** -_DIGITS


def measure(config: Any) -> xr.Dataset:
    """Errors of one step, and the inner functions in exact integers."""
    measured: dict[str, Any] = {}
    for terms in config.terms:
        truth, step = _superposed(terms)
        measured[f"superposition_{terms}"] = float(np.abs(step - truth).max())
    table, four = kolmogorov.inner_table(2, 10, 5), kolmogorov.inner_table(2, 10, 4)
    least = int(min(np.diff(table.numerators))) * 10 ** kolmogorov.beta(5, 2)
    falls = np.diff(kolmogorov.inner_table(2, 10, 5, "sprecher").numerators) <= 0
    measured |= {"increment": least / table.denominator, "sprecher": float(falls.sum())}
    measured |= {"psi": ("place", (four.numerators / four.denominator).astype(float))}
    measured |= {"target": (("row", "column"), truth), "step": (("row", "column"), step)}
    return xr.Dataset(measured | {"gaps": (("down", "across"), _gaps(config.terms[0]))})


def _gaps(terms: int) -> np.ndarray:
    """|f − f_1| on a square of three cubes' width."""
    step = kolmogorov.superpose(_bump, dim=2, base=_BASE, terms=terms, digits=_DIGITS)
    axis = np.linspace(*_ZOOM, 150)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    values = kolmogorov.evaluate(step, jnp.asarray(x, jnp.zeros(0).dtype))
    return np.abs(np.asarray(values) - _bump(x)).reshape(150, 150)


def _superposed(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """f and one step of its superposition on a square grid within reach."""
    step = kolmogorov.superpose(_bump, dim=2, base=_BASE, terms=terms, digits=_DIGITS)
    axis = np.linspace(0, step.reach, 200)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    values = kolmogorov.evaluate(step, jnp.asarray(x, jnp.zeros(0).dtype))
    return _bump(x).reshape(200, 200), np.asarray(values).reshape(200, 200)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The inner function, strictly increasing on ten digits."""
    ax.plot(np.linspace(0, 1, dataset.sizes["place"]), dataset.psi.values, color=figures.PALETTE[0], linewidth=1.2)
    figures.label_axes(ax, "$x$", r"$\psi(x)$", "Köppen's inner function")


def draw_cubes(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The cubes of the first shifts q over the error: it is large where two of their gaps cross."""
    draw_image(ax, dataset.gaps.values, "cubes of $q = 0, 1, 2$ over $|f - f_1|$", "$x_1$", "$x_2$", (*_ZOOM, *_ZOOM))
    cell = float(_BASE) ** -_DIGITS
    side = cell * (_BASE - 2) / (_BASE - 1)
    for q, color in enumerate(("white", figures.PALETTE[1], figures.PALETTE[5])):
        corners = np.arange(57, 63) * cell - q * cell / (_BASE - 1)
        for x in corners:
            for y in corners:
                ax.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=color, linewidth=1.2))
    ax.set(xlim=_ZOOM, ylim=_ZOOM, aspect="equal")


def draw_step(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The target's level lines over one step of its superposition."""
    draw_image(ax, dataset.step.values, "$f$ (lines) and one step $f_1$", "$x_1$", "$x_2$", (0, 1, 0, 1))
    axis = np.linspace(0, 1, dataset.sizes["row"])
    ax.contour(axis, axis, dataset.target.values.T, levels=6, colors="white", linewidths=1.2)


STUDY = Study("superposition", predict, measure, draw)
