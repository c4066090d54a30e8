"""The compute-optimal frontier of one-pass SGD, and its exponents in the phases of (α, β)."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib import colormaps
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.scaling_laws.config import Config
from jaxtheory.lecture.study import Study
from jaxtheory.scaling import Frontier, compute_optimal, frontier_exponents, one_pass_equivalent

_SHOWN = (1.0, 0.3)  # (α, β) of the panel of curves
_POINTS = (_SHOWN, (0.8, 0.2), (1.5, 0.75), (1.0, 2.0))  # phases 1, 1, 2, 3
_STEP_SIZE, _BUDGETS = 0.3, 9
_SOURCE = "Paquette, Paquette, Xiao, Pennington (2024)"


class Grid(NamedTuple):
    """Widths and budgets of a frontier: budgets of one decade, which all widths near the best one reach."""

    modes: int
    widest: int
    steps: int

    @classmethod
    def of(cls, config: Config) -> "Grid":
        return cls(config.modes, config.widest, config.steps)

    @property
    def widths(self) -> Float[Array, " widths"]:
        """Half an octave apart."""
        count = 2 * round(np.log2(self.widest / 8)) + 1
        return jnp.geomspace(8, self.widest, count, dtype=jnp.float32)

    @property
    def budgets(self) -> Float[Array, " budgets"]:
        return jnp.geomspace(self.steps / 2, 5 * self.steps, _BUDGETS, dtype=jnp.float32)


@cache
def curves(grid: Grid, alpha: float, beta: float) -> Float[Array, "widths times"]:
    """The exact risk of every width after 0, 1, … steps."""
    return _curves(jnp.float32(alpha), jnp.float32(beta), grid.widths, grid.modes, grid.steps)


@partial(jax.jit, static_argnames=("modes", "steps"))
def _curves(alpha: Array, beta: Array, widths: Array, modes: int, steps: int) -> Array:
    i = jnp.arange(1, modes + 1, dtype=jnp.float32)
    solve = partial(one_pass_equivalent, i ** (-2 * alpha), i**-beta, batch=1.0, step_size=_STEP_SIZE, steps=steps)
    return jax.vmap(lambda width: solve(width).risk)(widths)


def predict_frontier(config: Config) -> Claims:
    """The exponents of the panel's point."""
    return Claims(tuple(_claims("frontier", config, *_SHOWN)), {})


def predict_phases(config: Config) -> Claims:
    """The exponents of the other points."""
    return Claims(tuple(claim for point in _POINTS[1:] for claim in _claims("phases", config, *point)), {})


def _claims(study: str, config: Config, alpha: float, beta: float) -> list[Claim]:
    """Both exponents; the rivals are those of the nearest other phase, continued to this point."""
    exact = frontier_exponents(jnp.asarray(alpha), jnp.asarray(beta))
    middle = float(np.log(np.asarray(Grid.of(config).budgets)).mean())
    claims = []
    for kind, name in (("width", "the best width"), ("risk", "the least risk")):
        predicted = float(getattr(exact, kind))
        rival, phase = _nearest(kind, alpha, beta, int(exact.phase))
        claims.append(Claim(
            f"{study}_{kind}_{alpha:g}_{beta:g}",
            f"{study}: exponent in compute f of {name} at α = {alpha:g}, β = {beta:g}", _SOURCE, predicted,
            "theory: finite compute, 1/(2 ln f)", tolerance=0.5 / middle, kind="formula", rival=rival,
            rival_law=f"the exponent of phase {phase}",
        ))  # fmt: skip
    return claims


def _nearest(kind: str, alpha: float, beta: float, own: int) -> tuple[float, int]:
    """The nearest exponent of another phase at α > 1/2, and its number."""
    power = 2 * alpha + 2 * beta - 1
    formulas = {
        1: {"width": 1 / (2 * alpha + 1), "risk": -power / (2 * alpha + 1)},
        2: {"width": beta / (alpha + beta), "risk": -power / (2 * (alpha + beta))},
        3: {"width": 0.5, "risk": -1 + 1 / (4 * alpha)},
    }
    distances = {phase: abs(each[kind] - formulas[own][kind]) for phase, each in formulas.items() if phase != own}
    nearest = min(distances, key=distances.__getitem__)
    return formulas[nearest][kind], nearest


def measure_frontier(config: Config) -> xr.Dataset:
    """The curves of all widths and their frontier."""
    grid = Grid.of(config)
    risk, found = curves(grid, *_SHOWN), _found(grid, *_SHOWN)
    shown = np.unique(np.geomspace(1, grid.steps, 120).round().astype(int))
    values = {
        "frontier_curves": (("frontier_model", "frontier_step"), np.asarray(risk)[:, shown]),
        "frontier_risk": ("frontier_budget", np.asarray(found.risk)),
        "frontier_best": ("frontier_budget", np.asarray(found.width)),
    }
    coordinates = {"frontier_model": np.asarray(grid.widths), "frontier_step": shown}
    coordinates["frontier_budget"] = np.asarray(grid.budgets)
    return xr.Dataset(values | _slopes("frontier", grid, *_SHOWN), coordinates)


def measure_phases(config: Config) -> xr.Dataset:
    """The fitted exponents at every point."""
    grid = Grid.of(config)
    slopes = [_found(grid, *point).width_law.slope for point in _POINTS]
    judged = [_slopes("phases", grid, *point) for point in _POINTS[1:]]
    table = {
        "phases_width": ("phases_point", np.array(slopes)),
        "phases_alpha": ("phases_point", [p[0] for p in _POINTS]),
    }
    table["phases_beta"] = ("phases_point", [p[1] for p in _POINTS])
    return xr.Dataset(table | {name: value for part in judged for name, value in part.items()})


@cache
def _found(grid: Grid, alpha: float, beta: float) -> Frontier:
    return compute_optimal(grid.widths, curves(grid, alpha, beta), grid.budgets)


def _slopes(study: str, grid: Grid, alpha: float, beta: float) -> dict[str, float]:
    found = _found(grid, alpha, beta)
    laws = {"width": found.width_law, "risk": found.risk_law}
    return {f"{study}_{kind}_{alpha:g}_{beta:g}": float(law.slope) for kind, law in laws.items()}


def draw_frontier(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risk against compute, a curve for each width, and the least of them with the slope of the theory."""
    shades = colormaps["cividis"](np.linspace(0.05, 0.85, dataset.sizes["frontier_model"]))
    step = dataset.frontier_step.values
    for shade, width in zip(shades, dataset.frontier_model.values, strict=True):
        ax.plot(step * width, dataset.frontier_curves.sel(frontier_model=width), color=shade, linewidth=1.2, zorder=2)
    budget, risk = dataset.frontier_budget.values, dataset.frontier_risk.values
    exact = next(claim.predicted for claim in claims.claims if claim.name.startswith("frontier_risk"))
    middle = len(budget) // 2
    line = np.geomspace(budget[0] / 4, budget[-1] * 4, 3)
    label = f"slope of the theory, {exact:.2f}"
    figures.theory_line(
        ax, line, risk[middle] * (line / budget[middle]) ** exact, label=label, color=figures.PALETTE[1]
    )
    figures.points(ax, budget, risk, label="least risk at compute $f$", color=figures.PALETTE[1])
    alpha, beta = _SHOWN
    title = f"compute-optimal widths, α = {alpha:g}, β = {beta:g}"
    figures.label_axes(ax, "compute $f = d\\,t$", "risk", title, xscale="log", yscale="log")
    low, high = dataset.frontier_model.values[[0, -1]]
    ax.plot([], [], color=shades[0], label=f"dark to light: $d = {low:.0f}$ to ${high:.0f}$")
    ax.set(xlim=(20, None), ylim=(None, 15))
    ax.legend(loc="upper right")


def draw_phases(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The exponent of the best width over the plane of (α, β), with the phases' borders; measured ones as points."""
    x, y = np.meshgrid(np.linspace(0.01, 1.8, 180), np.linspace(-0.7, 2.4, 156))
    exponent = frontier_exponents(jnp.asarray(x), jnp.asarray(np.maximum(y, 0.501 - x)))
    shown = np.asarray(exponent.width)
    look: dict[str, Any] = {"cmap": "viridis", "vmin": 0.2, "vmax": 0.6}
    mesh = ax.pcolormesh(x, y, shown, rasterized=True, **look)
    ax.figure.colorbar(mesh, ax=ax, label="exponent of the best width")
    ax.fill_between([0, 1.2], [0.5, -0.7], [-0.7, -0.7], color="white", linewidth=0, zorder=2)
    _borders(ax)
    ax.scatter(dataset.phases_alpha, dataset.phases_beta, c=dataset.phases_width, s=110, edgecolor="white",
               linewidth=1.8, zorder=5, label="measured", **look)  # fmt: skip
    figures.label_axes(ax, "$α$: eigenvalues $j^{-2α}$", "$β$: target $j^{-β}$", "phases of the frontier")
    ax.grid(visible=False)
    ax.set(xlim=(0, 1.8), ylim=(-0.7, 2.4))
    ax.legend(loc="lower right")


def _borders(ax: Axes) -> None:
    corner = 1 - 0.5**0.5
    for xs, ys in (
        ((0, 1.8), (0.5, 0.5)), ((0.5, 0.5), (0, 2.4)), ((0.5, 1.8), (0.5, 1.8)), ((0.25, 0.25), (0.5, 2.4)),
        ((corner, corner), (0.5, 2.4)),
    ):  # fmt: skip
        ax.plot(xs, ys, color="white", linewidth=1.2, zorder=3)
    names = {"Ia": (1.25, 0.1), "Ib": (0.4, 0.33), "Ic": (0.125, 1.5), "II": (1.35, 0.85), "III": (0.85, 1.6)}
    for name, place in (names | {"IVa": (0.397, 1.5), "IVb": (0.272, 0.9)}).items():
        rotation, color = 90 if name == "IVb" else 0, "white" if name in ("Ia", "II") else "#222222"
        ax.text(*place, name, color=color, fontsize=11, ha="center", va="center", rotation=rotation, zorder=4)
    ax.text(0.3, -0.45, "no finite power", color="#555555", fontsize=11, ha="center", zorder=4)


FRONTIER = Study("frontier", predict_frontier, measure_frontier, draw_frontier)
PHASES = Study("phases", predict_phases, measure_phases, draw_phases)
