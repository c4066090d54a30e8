"""Descent with momentum, and Adam: curvature rises to the threshold of the optimizer and stays there.

Momentum's law is one of the curvature along the oscillation, δᵀ∇²L(w)δ/‖δ‖² at the center w of steps w ± δ. The
sharpness there is at least as large, and larger where a direction that does not oscillate is sharper. Adam oscillates
in bursts, not in cycles of two steps, and has the law in the mean of its sharpness.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax import lax
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, averaged, estimated, statistical
from jaxtheory.lecture.edge_of_stability.problem import Problem, digits, oscillation, top_curvature
from jaxtheory.lecture.study import Study
from jaxtheory.networks import train
from jaxtheory.optimization.edge_of_stability import stability_threshold, steady_curvature

_STEP, _FINE = 1.0, 0.1  # of descent, and of what stands for the gradient flow
_BETAS = (0.0, 0.25, 0.4)
_ADAM_STEP, _ADAM_BETAS, _SQUARES = 5e-3, (0.9, 0.8), 0.99
_EVERY = 20
# ∇⁴L[δ, δ, δ, δ]/6 is below 1% of the curvature, and terms beyond are of the order of its square. An oscillation that
# vanishes during T late steps changes the quotient by (1 − β)/(2(1 + β)T), below 0.1%.
_REST = 0.003
_BASIS = "theory: order ‖δ‖⁴, and growth over the late steps"


def _limit(name: Any, beta: float, step_size: float = 1.0) -> float:
    """The largest stable curvature."""
    return float(stability_threshold(step_size, optimizer=name, beta=beta))


def _late(values: np.ndarray) -> np.ndarray:
    """The last six tenths of the records, which are on the last axis."""
    return values[..., values.shape[-1] * 4 // 10 :]


def _pooled(names: list[str], bent: np.ndarray, square: np.ndarray) -> dict[str, float]:
    """The quotient of late sums over starts [row, start, record], and its standard error, a row for each name.

    A start counts as much as it oscillates; one that has not reached the edge does not count. The draws are Kish's
    effective number, (Σ square)²/Σ square²: where one start alone oscillates nothing says how far starts scatter.
    """
    found: dict[str, float] = {}
    for name, above, below in zip(names, _late(bent).sum(-1), _late(square).sum(-1), strict=True):
        quotient, draws = above.sum() / below.sum(), below.sum() ** 2 / (below**2).sum()
        error = (above - quotient * below).std(ddof=1) / below.mean() / len(below) ** 0.5
        found |= estimated(name, quotient, error if draws >= 2 else np.nan, max(draws, 2.0))
    return found


def momentum_claims(config: Any) -> Claims:
    """2(1 + β)/η for each β; without momentum the rival is the sharpness of the gradient flow."""
    flow = np.asarray(_sharpness(digits(config), config.steps, jnp.array([_FINE]), jnp.zeros(1), _STEP / _FINE)[0])
    slow = float(_late(flow).mean())
    claims = [
        statistical(f"sharpness_{beta:g}",
                    f"momentum, β = {beta:g}: curvature along the oscillation less its next order, late",
                    "Cohen et al. (2021)", _limit("momentum", beta, _STEP), _BASIS,
                    over="over starts", tolerance=_REST * _limit("momentum", beta, _STEP),
                    rival=(2 / _STEP, "2/η, without momentum") if beta else (slow, "gradient flow"))
        for beta in _BETAS
    ]  # fmt: skip
    return Claims(tuple(claims), {"flow_sharpness": flow.mean(0).tolist()})


def momentum_measure(config: Any) -> xr.Dataset:
    """Curvature along the oscillation of v ← βv + g, w ← w − ηv, and the sharpness there, for each β and start."""
    problem, steps = digits(config), config.steps // _EVERY * _EVERY

    def one(beta: Array, start: Array) -> tuple[Array, ...]:
        optimizer = optax.sgd(_STEP, momentum=beta)
        path = train(problem.loss, start, optimizer=optimizer, steps=steps, record=lambda w: w, record_every=1).records

        def observe(block: Array) -> tuple[Array, ...]:
            seen = oscillation(problem.loss, block)
            steady = steady_curvature(problem.loss, seen.center, seen.offset, step_size=_STEP, beta=beta)
            next_order = seen.square * (2 * (1 + beta) / _STEP - steady)
            return seen.bent + next_order, seen.square, top_curvature(problem.loss, seen.center)

        return lax.map(observe, path.reshape(-1, _EVERY, path.shape[-1]))

    over_starts = jax.vmap(one, in_axes=(None, 0))
    run = jax.jit(jax.vmap(over_starts, in_axes=(0, None)))
    bent, square, seen = map(np.asarray, run(jnp.asarray(_BETAS), problem.starts))
    found = _pooled([f"sharpness_{beta:g}" for beta in _BETAS], bent, square)
    times = _EVERY * np.arange(1, seen.shape[-1] + 1)
    names = ("beta", "start", "time")
    return xr.Dataset({"sharpness": (names, seen), **found}, {"beta": list(_BETAS), "time": times})


def _sharpness(problem: Problem, steps: int, sizes: Array, betas: Array, slower: float) -> Array:
    """λ_max(∇²L) after every `_EVERY` units of `slower` steps, by step size, start and record."""
    each = round(_EVERY * slower)

    def one(size: Array, beta: Array, start: Array) -> Array:
        observe = lambda w: top_curvature(problem.loss, w)  # noqa: E731
        total = steps // _EVERY * each
        optimizer = optax.sgd(size, momentum=beta)
        return train(problem.loss, start, optimizer=optimizer, steps=total, record=observe, record_every=each).records

    over_starts = jax.vmap(one, in_axes=(None, None, 0))
    return jax.jit(jax.vmap(over_starts, in_axes=(0, 0, None)))(sizes, betas, problem.starts)


def momentum_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Sharpness of the first start over time, thresholds, and the gradient flow."""
    time = dataset.time.values
    figures.theory_line(ax, time, claims.curves["flow_sharpness"], color="#777777", linestyle=":",
                        label="gradient flow")  # fmt: skip
    for beta, color in zip(_BETAS, figures.PALETTE, strict=False):
        limit = 2 * (1 + beta) / _STEP
        label = f"$\\beta = {beta:g}$: $2(1+\\beta)/\\eta = {limit:g}$"
        figures.theory_line(ax, time[[0, -1]], [limit, limit], color=color)
        seen = dataset.sharpness.sel(beta=beta).mean("start").values
        figures.points(ax, time[::4], seen[::4], color=color, label=label)
    ax.set_ylim(0, 1.75 * max(claims.curves["flow_sharpness"]))
    figures.label_axes(ax, "step", "sharpness $\\lambda_{\\max}(\\nabla^2 L)$", "sharpness stops at the threshold")


def _moved(beta: float) -> float:
    """By which share the preconditioner √ν can fall while a stable oscillation decays by e, at √β₁ a step.

    The threshold is that of a fixed preconditioner, so this is the order of its error: (1 − β₂)/log(1/β₁).
    """
    return (1 - _SQUARES) / float(np.log(1 / beta))


def adam_claims(config: Any) -> Claims:
    """2(1 + β₁)/((1 − β₁)η) for each β₁, in units of 1/η."""
    claims = [
        statistical(f"adam_{beta:g}", f"Adam, β₁ = {beta:g}: η times preconditioned sharpness, late steps and starts",
                    "Cohen et al. (2022)", _limit("adam", beta),
                    f"theory: P moves by {_moved(beta):.1%} while an oscillation decays by e",
                    over="over starts", tolerance=_moved(beta) * _limit("adam", beta),
                    rival=(_limit("momentum", beta), "momentum without the factor 1 − β₁"))
        for beta in _ADAM_BETAS
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def adam_measure(config: Any) -> xr.Dataset:
    """η λ_max(P^{−½}∇²L P^{−½}) along optax's Adam, P = diag(√ν + ε), for each β₁ and start."""
    problem = digits(config)

    def one(beta: Array, start: Array) -> Array:
        optimizer = optax.adam(_ADAM_STEP, b1=beta, b2=_SQUARES)

        def step(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
            w, state = carry
            move, state = optimizer.update(jax.grad(problem.loss)(w), state)
            return (w + move, state), None

        def record(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], Array]:
            w, state = lax.scan(step, carry, None, length=_EVERY)[0]
            squares = state[0].nu / (1 - _SQUARES ** state[0].count.astype(w.dtype))
            half = 1 / jnp.sqrt(jnp.sqrt(squares) + 1e-8)
            curvature = half[:, None] * jax.hessian(problem.loss)(w) * half[None]
            return (w, state), _ADAM_STEP * jnp.linalg.eigvalsh(curvature)[-1]

        return lax.scan(record, (start, optimizer.init(start)), None, length=2 * config.steps // _EVERY)[1]

    over_starts = jax.vmap(one, in_axes=(None, 0))
    seen = np.asarray(jax.jit(jax.vmap(over_starts, in_axes=(0, None)))(jnp.asarray(_ADAM_BETAS), problem.starts))
    late = zip(_ADAM_BETAS, _late(seen).mean(-1), strict=True)
    found = {key: v for beta, row in late for key, v in averaged(f"adam_{beta:g}", row, None).items()}
    times = _EVERY * np.arange(1, seen.shape[-1] + 1)
    names = ("adam_beta", "start", "adam_time")
    return xr.Dataset({"adam": (names, seen), **found}, {"adam_beta": list(_ADAM_BETAS), "adam_time": times})


def adam_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Preconditioned sharpness of the mean over starts, and its thresholds."""
    time = dataset.adam_time.values
    for claim, beta, color in zip(claims_of(claims, "adam_"), _ADAM_BETAS, figures.PALETTE, strict=False):
        figures.theory_line(ax, time[[0, -1]], [claim.predicted] * 2, color=color)
        seen = dataset.adam.sel(adam_beta=beta).mean("start").values
        label = f"Adam, $\\beta_1 = {beta:g}$: ${claim.predicted:.3g}/\\eta$"
        figures.points(ax, time[::4], seen[::4], color=color, label=label)
    ax.set_ylim(0, 58)
    figures.label_axes(ax, "step", "$\\eta\\,\\lambda_{\\max}(P^{-1}\\nabla^2 L)$", "Adam: preconditioned sharpness")


def claims_of(claims: Claims, prefix: str) -> list[Claim]:
    """Claims whose names begin so."""
    return [claim for claim in claims.claims if claim.name.startswith(prefix)]


MOMENTUM = Study("momentum", momentum_claims, momentum_measure, momentum_draw)
ADAM = Study("adam", adam_claims, adam_measure, adam_draw)
