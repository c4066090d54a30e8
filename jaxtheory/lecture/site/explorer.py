"""Three laws with sliders: random features, the phases of deep networks, and the way from lazy to rich.

The arrays are the package's own and stand in the page, which interpolates between them and computes nothing else.
"""

import json
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import jaxtheory
from jaxtheory import double_descent, feature_learning
from jaxtheory.infinite import phase
from jaxtheory.lecture.site.markup import page

SAMPLES = 3.0  # n/d of the surface
LAMBDAS = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
DEPTH = 30
RICHNESS = (0.01, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def write(path: Path) -> Path:
    """Write the page, if this version of the package has not written it already: its arrays depend on nothing else."""
    made_by = f'"version":"{jaxtheory.__version__}"'
    if path.exists() and made_by in path.read_text(encoding="utf-8"):
        return path
    with jax.enable_x64(True):
        held = {"version": jaxtheory.__version__, "surface": surface(), "phases": phases(), "richness": richness()}
    template = resources.files("jaxtheory.lecture.site") / "assets" / "explorer.html"
    numbers = json.dumps(held, separators=(",", ":"))
    scripts = (
        f'<script type="application/json" id="numbers">{numbers}</script>\n<script src="assets/explorer.js"></script>\n'
    )
    body = template.read_text(encoding="utf-8")
    path.write_text(page("Explorer – jaxtheory", body, scripts=scripts), encoding="utf-8")
    return path


def surface() -> dict[str, Any]:
    """Excess risk of ReLU random features over N/n and λ: what the signal costs, and what each unit of noise adds."""
    ratio = np.round(np.geomspace(0.05, 10.0, 73), 4)
    ratio[np.abs(ratio - 1).argmin()] = 1.0
    law = partial(double_descent.mei_montanari, activation="relu", signal=1.0)

    @jax.jit
    def excess(noise: Array) -> Array:
        at = SAMPLES * jnp.asarray(ratio)[None, :]
        return law(at, SAMPLES, jnp.asarray(LAMBDAS)[:, None], noise=noise).excess

    clean, noisy = (np.asarray(excess(jnp.asarray(noise))) for noise in (0.0, 1.0))
    return {"ratio": _short(ratio), "lambda": list(LAMBDAS), "signal": _short(clean), "noise": _short(noisy - clean)}


def phases() -> dict[str, Any]:
    """Correlation of two inputs after every layer of deep erf networks, over σ_w and σ_b; they start at 1/2."""
    weights, biases = np.linspace(0.5, 3.0, 26), np.linspace(0.0, 1.0, 16)
    start = jnp.asarray([1.0, 0.5, 1.0])

    @jax.jit
    def correlations(sigma_w: Array, sigma_b: Array) -> Array:
        layers = phase.propagate("erf", sigma_w, sigma_b, start, depth=DEPTH)
        return layers.q12 / jnp.sqrt(layers.q11 * layers.q22)

    every = jax.vmap(jax.vmap(correlations, (0, None)), (None, 0))
    found = np.asarray(every(jnp.asarray(weights), jnp.asarray(biases)))
    return {"weight": _short(weights), "bias": _short(biases), "correlation": _short(np.moveaxis(found, -1, 0), 3)}


def richness() -> dict[str, Any]:
    """Output of a wide linear network with one hidden layer for the label 1, over time, from lazy to rich."""
    times = np.linspace(0.0, 2.0, 61)
    curves = [
        feature_learning.linear_modes(jnp.asarray([gamma]), jnp.asarray(times), start=0.0, imbalance=2.0)[:, 0] / gamma
        for gamma in RICHNESS
    ]
    return {"time": _short(times), "gamma": list(RICHNESS), "output": _short(np.asarray(curves))}


def _short(values: np.ndarray | float, digits: int = 4) -> Any:
    """Nested lists of numbers with so many digits, null for what is not finite: JSON has no other word."""
    if isinstance(values, np.ndarray):
        return [_short(value, digits) for value in values]
    return float(f"{values:.{digits}g}") if np.isfinite(values) else None
