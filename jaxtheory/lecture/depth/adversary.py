"""Trained two-layer networks against the certificate that no network of their size can beat."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.expressivity import depth, two_layers
from jaxtheory.lecture.claims import Claim, Claims, estimated, statistical
from jaxtheory.lecture.study import Study


def predict(config: Any) -> Claims:
    """The certificate of every size, claimed where one neuron more would show."""
    claims = tuple(_adversary_claim(config, neurons) for neurons in config.neurons if _tells(config, neurons))
    return Claims(claims, {"certificate": [_certificate(config, n) for n in range(config.neurons[-1] + 1)]})


def _adversary_claim(config: Any, neurons: int) -> Claim:
    statement = f"best of {config.starts} trained two-layer networks of {neurons} cosines, radial wave, d = 3"
    return statistical(f"adversary_{neurons}", statement.replace("d = 3", f"d = {config.adversary_dim}"),
                       "Safran, Eldan, Shamir (2019)", _certificate(config, neurons),
                       "theory: catalecticant certificate", over="of the fresh sample, the best of several",
                       relation=">=",
                       rival=(_certificate(config, neurons + 1), "the bound for one neuron more"))  # fmt: skip


def _tells(config: Any, neurons: int) -> bool:
    """Whether one neuron more lowers the bound by what can be seen: beyond it, points are drawn and nothing claimed."""
    return _certificate(config, neurons) - _certificate(config, neurons + 1) > 0.06


def _certificate(config: Any, neurons: int) -> float:
    return depth.radial_certificate(config.wave, config.adversary_dim, neurons)


def measure(config: Any) -> xr.Dataset:
    """Errors of every start of every size, and the best of each size."""
    errors, spreads = _attack(config, jax.random.fold_in(jax.random.key(config.seed), 0))
    measured: dict[str, Any] = {"adversary": (("size", "start"), errors)}
    for neurons, row, spread in zip(config.neurons, errors, spreads, strict=True):
        measured |= estimated(f"adversary_{neurons}", row.min(), spread[row.argmin()], config.samples)
    return xr.Dataset(measured, {"size": list(config.neurons)})


def _attack(config: Any, key: Array) -> tuple[np.ndarray, np.ndarray]:
    """Errors of all starts, and their standard errors: size × start."""

    def draw(key: Array, count: int) -> tuple[Array, Array]:
        x = jax.random.normal(key, (count, config.adversary_dim))
        return x, jnp.asarray(config.wave(np.linalg.norm(x, axis=1)), x.dtype)

    train, fresh = draw(jax.random.fold_in(key, 0), 3000), draw(jax.random.fold_in(key, 1), config.samples)
    found = [
        two_layers.adversary(
            jax.random.fold_in(key, n), train, fresh, n, starts=config.starts, steps=config.steps,
            activation=jnp.cos, spread=config.frequency * config.adversary_dim**0.5,
        )
        for n in config.neurons
    ]  # fmt: skip
    return np.array([f.errors for f in found], float), np.array([f.standard_error for f in found], float)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Errors of trained networks above the certificate."""
    certificate = claims.curves["certificate"]
    figures.theory_line(
        ax, range(len(certificate)), certificate, label="no network lies below", color=figures.PALETTE[1]
    )
    ax.fill_between(range(len(certificate)), 0, certificate, color=figures.PALETTE[1], alpha=0.12)
    for start in range(dataset.sizes["start"]):
        label = "trained, outer weights solved" if start == 0 else None
        values = dataset.adversary.isel(start=start).values
        figures.points(ax, dataset["size"].values, values, label=label, color=figures.PALETTE[0])
    ax.set_ylim(0, 1.15)
    figures.label_axes(ax, "neurons $N$ of two layers", "relative squared error", "radial wave, $d = 3$: an adversary")


STUDY = Study("adversary", predict, measure, draw)
