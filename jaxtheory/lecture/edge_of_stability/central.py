"""The central flow: averages of loss, gradient and oscillation of descent at the edge, from a flow that is smooth."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.edge_of_stability.problem import digits, oscillation, top_curvature
from jaxtheory.lecture.study import Study
from jaxtheory.optimization.edge_of_stability import CentralFlow, central_flow, steady_curvature

_STEP, _DIRECTIONS, _BLOCK = 0.7, 2, 20
_SOURCE = "Cohen, Damian et al. (2024)"


@lru_cache(maxsize=1)
def _flow(config: Any) -> CentralFlow:
    problem = digits(config)
    follow = lambda w: central_flow(  # noqa: E731
        problem.loss, w, step_size=_STEP, steps=config.flow_steps, directions=_DIRECTIONS, substeps=2
    )
    return jax.jit(follow)(problem.starts[0])


def _window(config: Any) -> slice:
    """Steps that are compared, the last at whose end the variance of the oscillation is above a quarter of its mean.

    Where the curvature falls below 2/η by itself the oscillation dies out, and averages near its end are not those of
    a steady one. The edge is reached within the first fifth of the steps.
    """
    spread = np.trace(np.asarray(_flow(config).covariance), axis1=1, axis2=2)
    ends = range(config.flow_steps, config.flow_steps // 5 + config.window - 1, -_BLOCK)
    steady = (end for end in ends if spread[end] > spread[end - config.window : end].mean() / 4)
    end = next(steady, config.flow_steps)
    return slice(end - config.window, end)


def claims(config: Any) -> Claims:
    """Averages over the window of what the flow predicts, and the rival that forgets the oscillation."""
    flow, late = _flow(config), _window(config)
    mean = lambda values: float(np.asarray(values)[late].mean())  # noqa: E731
    spread = jnp.trace(flow.covariance, axis1=1, axis2=2)
    gradient = flow.squared_gradient - 4 * spread / _STEP**2
    share = 2 * _remainder(config)
    basis = f"theory: twice the next order of the oscillation's force and of its swing, {share:.1%} of what it adds"
    found = [
        ("central_loss", "loss, averaged over the window", mean(flow.mean_loss), mean(flow.loss),
         "the loss on the flow, without the oscillation"),
        ("central_gradient", "squared gradient, averaged", mean(flow.squared_gradient), mean(gradient),
         "the gradient on the flow"),
        ("central_spread", "variance of the oscillation", mean(spread), 0.0, "no oscillation"),
    ]  # fmt: skip
    listed = [
        Claim(name, f"central flow: {text}", _SOURCE, value, basis, tolerance=share * (value - rival),
              rival=rival, rival_law=law)
        for name, text, value, rival, law in found
    ]  # fmt: skip
    curves = {"central_mean": flow.mean_loss, "central_bare": flow.loss}
    return Claims(
        (*listed, _edge(config, spread[late])), {name: np.asarray(values).tolist() for name, values in curves.items()}
    )


def _remainder(config: Any) -> float:
    """The order of what the flow leaves out of the oscillation's averages over the window, a share, by the flow alone.

    The mean force (∇L(w + δ) + ∇L(w − δ))/2 is ∇L + ½∇³L[δ, δ] up to a share of its second term; the variance is wrong
    by as much. And descent begins at S = 2/η, but a steady oscillation has its curvature lower by Δ, see
    `steady_curvature`, and a growing one higher by σ̇/(ησ), so that it swings: S′ = −½η‖∇S‖²(σ² − σ̄²) and
    σ′ = η(S − S̄)σ, of frequency ω = η‖∇S‖σ̄. Over a window of T steps the mean of σ² is then off by at most
    2η|S(T) − S(0)|/(ω²T), of which S moves by 2Δ at most.
    """
    problem, flow = digits(config), _flow(config)
    slope = jax.grad(problem.loss)
    growth = jnp.abs(jnp.diff(jnp.log(jnp.trace(flow.covariance, axis1=1, axis2=2)[_window(config)]))) / 2

    def missed(record: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        w, covariance = record
        offset = _offset(jax.hessian(problem.loss)(w), covariance)
        square = jnp.sum(offset**2)
        along = lambda p: jax.jvp(slope, (p,), (offset,))[1]  # noqa: E731
        second = jax.jvp(along, (w,), (offset,))[1] / 2  # ½σ²∇S
        force = (slope(w + offset) + slope(w - offset)) / 2
        lower = 2 - _STEP * steady_curvature(problem.loss, w, offset, step_size=_STEP)
        share = jnp.linalg.norm(force - slope(w) - second) / jnp.linalg.norm(second)
        return share, jnp.abs(lower), _STEP**2 * 4 * jnp.sum(second**2) / square  # ω²

    kept = slice(_window(config).start, _window(config).stop, _BLOCK)
    find = jax.jit(lambda *records: jax.lax.map(missed, records))
    share, lower, squared = find(flow.params[kept], flow.covariance[kept])
    swing = 4 * (lower + growth[::_BLOCK]).max() / (squared.min() * config.window)
    return float(share.max() + swing)


def _offset(hessian: Array, covariance: Array) -> Array:
    """The oscillation of one phase: the principal axis of Σ, which is kept in the top eigenvectors of the Hessian."""
    vectors = jnp.linalg.eigh(hessian)[1][:, ::-1][:, :_DIRECTIONS]
    values, turned = jnp.linalg.eigh(covariance)
    return jnp.dot(vectors, turned[:, -1], precision="highest") * jnp.sqrt(jnp.maximum(values[-1], 0))


def _edge(config: Any, spread: Array) -> Claim:
    """Curvature along the oscillation, less its next order.

    It is larger by dσ²/(2ησ²dt) while the variance grows, which the flow predicts to the order of its own error.
    """
    total = 2 * _STEP * float(spread.sum())
    growth = float(spread[-1] - spread[0]) / total if total else 0.0
    basis = "theory: order ‖δ‖⁴, 0.2%, and twice the growth of the oscillation"
    return Claim("central_sharpness", "central flow: curvature along the oscillation less its next order", _SOURCE,
                 2 / _STEP, basis, tolerance=0.002 * 2 / _STEP + 2 * abs(growth),
                 rival=float(_descended_flow(config)), rival_law="gradient flow")  # fmt: skip


def _descended_flow(config: Any) -> Array:
    """Sharpness of the gradient flow at the time of the window's middle."""
    problem, fine = digits(config), 20
    move = lambda _, w: w - _STEP / fine * jax.grad(problem.loss)(w)  # noqa: E731
    steps = fine * (_window(config).stop - config.window // 2)
    return jax.jit(lambda w: top_curvature(problem.loss, jax.lax.fori_loop(0, steps, move, w)))(problem.starts[0])


def measure(config: Any) -> xr.Dataset:
    """Gradient descent, moved onto the flow with its oscillation where the window begins.

    From a common start descent and flow differ in when the oscillation begins; in the window it is already there.
    """
    problem, flow, begin = digits(config), _flow(config), _window(config).start
    hessian = jax.jit(jax.hessian(problem.loss))(flow.params[begin])
    start = flow.params[begin] + _offset(hessian, flow.covariance[begin])

    def step(w: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        loss, slope = jax.value_and_grad(problem.loss)(w)
        return w - _STEP * slope, (w, loss, jnp.sum(slope**2))

    run = jax.jit(lambda w: jax.lax.scan(step, w, None, length=config.window)[1])
    path, losses, squares = map(np.asarray, run(start))
    offsets = (path[:-2] - 2 * path[1:-1] + path[2:]) / 4  # of steps that alternate
    fields = {
        "central_run": ("central_step", losses),
        "central_loss": losses.mean(),
        "central_gradient": squares.mean(),
        "central_spread": (offsets**2).sum(1).mean(),
        "central_sharpness": _curvature(problem.loss, path),
    }
    return xr.Dataset(fields, {"central_step": begin + np.arange(config.window)})


def _curvature(loss: Callable[[Array], Array], path: np.ndarray) -> np.ndarray:
    """Along the oscillation of a path and less its next order, the mean over blocks weighted by its square."""

    def observe(block: Array) -> tuple[Array, Array]:
        seen = oscillation(loss, block)
        steady = steady_curvature(loss, seen.center, seen.offset, step_size=_STEP)
        return seen.bent + seen.square * (2 / _STEP - steady), seen.square

    blocks = path[: len(path) // _BLOCK * _BLOCK].reshape(-1, _BLOCK, path.shape[1])
    bent, square = jax.jit(lambda b: jax.lax.map(observe, b))(jnp.asarray(blocks))
    return np.asarray(bent.sum() / square.sum())


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Loss of descent averaged over 20 steps beside what the flow predicts, with and without the oscillation."""
    mean = claims.curves["central_mean"]
    figures.theory_line(ax, np.arange(len(mean)), mean, label="central flow: $L + \\mathrm{tr}\\,\\Sigma/\\eta$")
    figures.theory_line(ax, np.arange(len(mean)), claims.curves["central_bare"], color="#777777", linestyle=":",
                        label="on the flow: $L$")  # fmt: skip
    steps, seen = dataset.central_step.values, dataset.central_run.values
    blocks = len(steps) // _BLOCK
    average = lambda v: v[: blocks * _BLOCK].reshape(blocks, _BLOCK).mean(1)  # noqa: E731
    figures.points(ax, average(steps), average(seen), label=f"descent, mean of {_BLOCK} steps")
    figures.label_axes(ax, "step", "loss", "the loss of the oscillation", yscale="log")


CENTRAL = Study("central", claims, measure, draw)
