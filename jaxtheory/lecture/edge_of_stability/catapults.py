"""Thresholds that can be exact: of optimizers on a quadratic, and of the catapult of a two-layer linear network."""

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
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.study import Study
from jaxtheory.optimization.edge_of_stability import catapult, stability_threshold

_BETAS = (0.0, 0.3, 0.6, 0.9)
_OPTIMIZERS = ("momentum", "nesterov", "adam")
_OUTPUT, _CURVATURE = 1.0, 2.0  # of the network at its start
_THROWN, _SHOWN = 3.0, 40  # ηλ₀ of the path, and its steps
_PHASES, _LONG = np.arange(100, 450) / 100, 1000  # ηλ₀ of the phases, and the steps of each
_SOURCE = "Lewkowycz et al. (2020)"


def quadratic_claims(config: Any) -> Claims:
    """The threshold at the largest β; the rival is plain descent."""
    claims = [
        Claim(
            f"threshold_{name}", f"{name} on a quadratic, β = {_BETAS[-1]:g}: η times the largest stable curvature",
            "Cohen et al. (2021; 2022)", _limit(name, _BETAS[-1]),
            "theory: bisection, and growth by 1 + 0.001 seen in 4000 steps: 0.3%",
            tolerance=0.003 * _limit(name, _BETAS[-1]),
            rival=2.0, rival_law="that of gradient descent",
        )
        for name in _OPTIMIZERS
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def _limit(name: Any, beta: float) -> float:
    """η times the largest stable curvature."""
    return float(stability_threshold(1.0, optimizer=name, beta=beta))


def _transform(name: str, beta: Array) -> optax.GradientTransformation:
    if name == "adam":  # its average of gradients; the preconditioner is in the curvature
        return optax.chain(optax.ema(beta, debias=False), optax.scale(-1.0))
    return optax.sgd(1.0, momentum=beta, nesterov=name == "nesterov")


def _largest_stable(name: str, beta: Array) -> Array:
    """Bisection in the curvature h: whether |w| grows from step 2000 to step 4000, in units of its size then."""

    def size(h: Array) -> Array:
        optimizer = _transform(name, beta)

        def step(_: Any, carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
            w, state, log = carry
            move, state = optimizer.update(h * w, state)
            w = w + move
            unit = jnp.abs(w) + sum(jnp.abs(leaf) for leaf in jax.tree.leaves(state) if leaf.dtype == w.dtype)
            scaled = jax.tree.map(lambda leaf: leaf / unit if leaf.dtype == w.dtype else leaf, state)
            return w / unit, scaled, log + jnp.log(unit)

        w = jnp.ones(())
        early = lax.fori_loop(0, 2000, step, (w, optimizer.init(w), jnp.zeros(())))
        return lax.fori_loop(0, 2000, step, early)[2] - early[2]

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        grows = size(middle) > 0
        return jnp.where(grows, low, middle), jnp.where(grows, middle, high)

    low, high = lax.fori_loop(0, 16, halve, (jnp.zeros(()), jnp.full((), 64.0)))
    return (low + high) / 2


def quadratic_measure(config: Any) -> xr.Dataset:
    """Largest stable curvatures of optax's optimizers at step size 1."""
    every = jax.jit(lambda betas: [jax.vmap(lambda b, n=name: _largest_stable(n, b))(betas) for name in _OPTIMIZERS])
    seen = np.asarray(every(jnp.asarray(_BETAS)))
    found = {f"threshold_{name}": float(row[-1]) for name, row in zip(_OPTIMIZERS, seen, strict=True)}
    return xr.Dataset({"threshold": (("optimizer", "momentum"), seen), **found}, {"momentum": list(_BETAS)})


def quadratic_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Thresholds over β."""
    beta = np.linspace(0, _BETAS[-1], 100)
    texts = ("2(1+\\beta)", "2(1+\\beta)/(1+2\\beta)", "2(1+\\beta)/(1-\\beta)")
    for i, (name, text) in enumerate(zip(_OPTIMIZERS, texts, strict=True)):
        color = figures.PALETTE[i]
        law = [_limit(name, float(b)) for b in beta]
        figures.theory_line(ax, beta, law, color=color)
        seen = dataset.threshold.values[i]
        figures.points(ax, list(_BETAS), seen, color=color, label=f"{name.capitalize()}: ${text}$")
    figures.label_axes(ax, "$\\beta$", "$\\eta\\,\\times$ largest stable curvature", "stable on a quadratic",
                       yscale="log")  # fmt: skip
    figures.ticks_at(ax.yaxis, [1, 2, 5, 10, 20, 40])


def _thrown(config: Any, eta_lambda: Array, steps: int) -> tuple[Array, Array]:
    """Output f = ⟨u, v⟩/√n and curvature (|u|² + |v|²)/n of the network itself, from equal halves of one start."""
    n = config.width
    cosine = 2 * _OUTPUT / (_CURVATURE * np.sqrt(n))
    u = jnp.sqrt(_CURVATURE / 2) * jnp.ones(n)
    signs = jnp.asarray(np.where(np.arange(n) < n / 2, 1.0, -1.0))
    v = cosine * u + np.sqrt(1 - cosine**2) * u * signs
    eta = eta_lambda / _CURVATURE

    output = lambda pair: jnp.dot(pair[0], pair[1], precision="highest") / np.sqrt(n)  # noqa: E731

    def step(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        slope = jax.grad(lambda p: output(p) ** 2 / 2)(pair)
        new = (pair[0] - eta * slope[0], pair[1] - eta * slope[1])
        return new, (output(new), (jnp.sum(new[0] ** 2) + jnp.sum(new[1] ** 2)) / n)

    return lax.scan(step, (u, v), None, length=steps)[1]


def path_claims(config: Any) -> Claims:
    """Where the curvature ends, and how high the output is thrown."""
    eta = _THROWN / _CURVATURE
    law = catapult(_OUTPUT, _CURVATURE, step_size=eta, width=float(config.width), steps=_SHOWN)
    curvature, peak = float(law.curvature[-1]), float(jnp.abs(law.output).max())
    noise = "theory: round-off, which grows by at most 3 a step before the fall"
    claims = (
        Claim("catapult_curvature", "catapult, ηλ₀ = 3: curvature at the end", _SOURCE, curvature, noise,
              tolerance=_round_off() * curvature, rival=_CURVATURE, rival_law="a constant kernel"),
        Claim("catapult_peak", "catapult, ηλ₀ = 3: largest output", _SOURCE, peak, noise,
              tolerance=_round_off() * peak, rival=_OUTPUT, rival_law="a falling loss"),
    )  # fmt: skip
    curves = {"path_law": jnp.abs(law.output), "curvature_law": eta * law.curvature}
    return Claims(claims, {name: np.asarray(values).tolist() for name, values in curves.items()})


def _round_off() -> float:
    """√n additions of n numbers, times the growth until the fall."""
    return 3e4 * float(jnp.finfo(float).eps)


def path_measure(config: Any) -> xr.Dataset:
    """The network's path at ηλ₀ = 3."""
    outputs, curvatures = map(np.asarray, jax.jit(lambda e: _thrown(config, e, _SHOWN))(jnp.asarray(_THROWN)))
    fields = {
        "path_output": ("path_step", np.abs(outputs)),
        "path_curvature": ("path_step", _THROWN / _CURVATURE * curvatures),
        "catapult_curvature": curvatures[-1],
        "catapult_peak": np.abs(outputs).max(),
    }
    return xr.Dataset(fields, {"path_step": np.arange(1, _SHOWN + 1)})


def phase_claims(config: Any) -> Claims:
    """The two ends of the catapult phase, and the curvature at the end of every path in it."""
    # at ηλ = 2 + ε the output grows by 1 + ε a step until (ηf)²/n is of order ε², and lowers ηλ by twice itself a step
    slack = 3 * 2 / _CURVATURE * _OUTPUT / config.width**0.5 + 0.01
    claims = (
        Claim("catapult_onset", "catapult: least ηλ₀ at which the output doubles", _SOURCE, 2.0,
              "theory: 3ηf₀/√n, and the grid of 0.01", tolerance=slack, rival=4.0, rival_law="only divergence"),
        Claim("catapult_end", "catapult: least ηλ₀ at which descent diverges", _SOURCE, 4.0,
              "theory: the grid of 0.01, and its end", tolerance=0.02, rival=2.0,
              rival_law="the threshold of a quadratic"),
    )  # fmt: skip
    inside = _PHASES[_PHASES < 4]

    def end(eta_lambda: Array) -> Array:
        size = eta_lambda / _CURVATURE
        return catapult(_OUTPUT, _CURVATURE, step_size=size, width=float(config.width), steps=_LONG).curvature[-1]

    ends = np.asarray(jax.jit(jax.vmap(end))(jnp.asarray(inside)))
    return Claims(claims, {"phase_law": (ends * inside / _CURVATURE).tolist()})


def phase_measure(config: Any) -> xr.Dataset:
    """The end of the network's path for every ηλ₀ of the grid."""

    def end(eta_lambda: Array) -> tuple[Array, Array]:
        outputs, curvatures = _thrown(config, eta_lambda, _LONG)
        return jnp.abs(outputs).max(), curvatures[-1]

    largest, last = map(np.asarray, jax.jit(lambda grid: lax.map(end, grid, batch_size=50))(jnp.asarray(_PHASES)))
    finite = np.isfinite(last)
    fields = {
        "phase": ("phase_start", np.where(finite, last, np.nan) * _PHASES / _CURVATURE),
        "catapult_onset": _PHASES[np.argmax(~(largest < 2 * _OUTPUT))],
        "catapult_end": np.nan if finite.all() else _PHASES[np.argmin(finite)],
    }
    return xr.Dataset(fields, {"phase_start": _PHASES})


def path_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Output and curvature of one catapult."""
    steps = np.arange(len(claims.curves["path_law"]))
    shown = steps <= 25
    for law, seen, color, label in (
        ("path_law", "path_output", figures.PALETTE[0], "output $|f|$"),
        ("curvature_law", "path_curvature", figures.PALETTE[1], "curvature $\\eta\\lambda$"),
    ):
        figures.theory_line(ax, steps[shown], np.asarray(claims.curves[law])[shown], color=color)
        late = dataset.path_step.values <= 25
        figures.points(ax, dataset.path_step.values[late], dataset[seen].values[late], color=color, label=label)
    ax.axhline(2, color="#777777", linestyle="--", linewidth=1.3)
    ax.set_ylim(1e-4, 1e4)
    figures.label_axes(ax, "step", "$|f|$ and $\\eta\\lambda$", "a catapult: the loss rises, then falls", yscale="log")


def phase_draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The last ηλ over the first."""
    start = _PHASES[_PHASES < 4]
    figures.theory_line(ax, start, claims.curves["phase_law"], label="recursion")
    figures.points(ax, _PHASES[::10], dataset.phase.values[::10], label="network", color=figures.PALETTE[1])
    figures.threshold(ax, 2.0, "$2/\\lambda_0$")
    figures.threshold(ax, 4.0, "$4/\\lambda_0$")
    ax.axvspan(4, _PHASES[-1], color="#999999", alpha=0.25, label="diverges")
    figures.label_axes(ax, "$\\eta\\lambda_0$ at the start", "$\\eta\\lambda$ at the end", "the phase of catapults")


QUADRATIC = Study("quadratic", quadratic_claims, quadratic_measure, quadratic_draw)
CATAPULT = Study("catapult", path_claims, path_measure, path_draw)
PHASES = Study("phases", phase_claims, phase_measure, phase_draw)
