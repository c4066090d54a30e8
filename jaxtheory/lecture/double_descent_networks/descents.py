"""Two descents in one run: the exact linear flow with its law, and a network on the same kind of data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures, networks
from jaxtheory.double_descent import flow_risk, linear_flow
from jaxtheory.lecture.claims import Claims, averages, negative, statistical
from jaxtheory.lecture.double_descent_networks.config import Config
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study

_TIMES = np.logspace(-1.5, 5, 131)
_SLOPE = 0.8  # of the network for negative inputs: nonlinear, but slow to fit noise


class _Groups(NamedTuple):
    """A regression with a weak fast group of features and a strong slow one."""

    fast: int
    slow: int
    rate: float
    noise: float
    samples: int

    def spectrum(self) -> tuple[Array, Array]:
        """λ, and β with power 1 in the fast group and 1.5 in the slow one."""
        eigs = jnp.concatenate([jnp.ones(self.fast), jnp.full(self.slow, self.rate)])
        power = jnp.concatenate([jnp.full(self.fast, 1 / self.fast), jnp.full(self.slow, 1.5 / self.slow)])
        return eigs, jnp.sqrt(power / eigs)


_FLOW = _Groups(60, 4, 1e-3, 2.0, 120)
_NETWORK = _Groups(100, 4, 0.03, 4.0, 800)


def predict(config: Config) -> Claims:
    """The signs of what a network does, and the law of the flow."""
    law, bias = (_law(noise) for noise in (_FLOW.noise, 0.0))
    named = {"first minimum": _first_minimum(law), "bump": _bump(law), "end": len(law) - 1}
    source = "Heckel, Yilmaz (2021)"
    signs = {
        "network_rise": "time: loss of a network at its first minimum minus at its bump",
        "network_descent": "time: loss of that network at the end minus at its first minimum",
    }
    exact = [
        statistical(f"flow_{name.replace(' ', '_')}", f"linear flow: excess risk at its {name}", f"{source}, Thm 1",
                    float(law[index]), over="over label noise", tolerance=1e-4 * float(law[index]),
                    rival=(float(bias[index]), "labels without noise"))
        for name, index in named.items()
    ]  # fmt: skip
    claims = (*(negative(name, statement, source) for name, statement in signs.items()), *exact)
    return Claims(claims, {"flow": law.tolist(), "times": _TIMES.tolist()})


def _law(noise: float) -> np.ndarray:
    """Excess risk of the flow at every time, at a variance of the label noise."""
    return np.asarray(flow_risk(*_FLOW.spectrum(), _FLOW.samples, noise, jnp.asarray(_TIMES, float)).excess)


def _first_minimum(values: np.ndarray) -> int:
    """Where a curve that falls, rises and falls again is first lowest: before its largest rise."""
    rises = values - np.minimum.accumulate(values)
    return int(values[: rises.argmax() + 1].argmin())


def _bump(values: np.ndarray) -> int:
    """The top of that rise."""
    return int((values - np.minimum.accumulate(values)).argmax())


def measure(config: Config) -> xr.Dataset:
    """The exact flow over draws of noise, and a network over draws of data, both [draw, time]."""
    keys = jax.random.split(jax.random.key(config.seed), 2)
    flow = _flow(keys[0], 32 * config.draws)
    steps, every = 600, 5
    optimizer = optax.sgd(0.02)
    runs = [_network(key, optimizer, steps, every) for key in jax.random.split(keys[1], config.draws)]
    whole = xr.Dataset(
        {"flow": (("noise_draw", "time"), flow), "network": (("draw", "epoch"), np.stack(runs))},
        coords={"time": _TIMES, "epoch": np.arange(every, steps + 1, every)},
    )
    return whole.assign(_claims(whole))


def _claims(whole: xr.Dataset) -> dict[str, float]:
    """The measured side of every claim; a draw of the network is read at the places of the other draws' mean."""
    network = whole.network.values
    times = [(network[draw], np.delete(network, draw, axis=0).mean(0)) for draw in range(len(network))]
    values = {
        "network_rise": np.array([one[_first_minimum(o)] - one[_bump(o)] for one, o in times]),
        "network_descent": np.array([one[-1] - one[_first_minimum(o)] for one, o in times]),
    }
    law = _law(_FLOW.noise)
    for name, index in (("first_minimum", _first_minimum(law)), ("bump", _bump(law)), ("end", -1)):
        values[f"flow_{name}"] = whole.flow.values[:, index]
    return averages(values, None)


def _flow(key: Array, draws: int) -> np.ndarray:
    """Excess risk of the exact flow on a design with XᵀX/n = diag(λ), for every draw of the noise."""
    eigs, beta = _FLOW.spectrum()
    design, errors = jax.random.split(key)
    orthonormal = jnp.linalg.qr(jax.random.normal(design, (_FLOW.samples, len(eigs)), eigs.dtype))[0]
    x = jnp.sqrt(_FLOW.samples * eigs)[None, :] * orthonormal
    noise = jnp.sqrt(jnp.asarray(_FLOW.noise, x.dtype)) * jax.random.normal(errors, (_FLOW.samples, draws), x.dtype)
    y = jnp.matmul(x, beta, precision="highest")[:, None] + noise
    error = linear_flow(x, y, jnp.asarray(_TIMES, x.dtype)) - beta[None, :, None]
    return np.asarray(jnp.sum(eigs[None, :, None] * error**2, axis=1)).T


def _network(key: Array, optimizer: optax.GradientTransformation, steps: int, every: int) -> np.ndarray:
    """Test loss over training of a leaky network on one draw of the two groups."""
    eigs, beta = _NETWORK.spectrum()
    inputs, errors = jax.random.split(key)
    x = jnp.sqrt(eigs)[None, :] * jax.random.normal(inputs, (2 * _NETWORK.samples, len(eigs)), eigs.dtype)
    signal = jnp.matmul(x, beta, precision="highest")
    half = _NETWORK.samples
    y = signal[:half] + jnp.sqrt(jnp.asarray(_NETWORK.noise, x.dtype)) * jax.random.normal(errors, (half,), x.dtype)
    run = networks.train_widths(
        x[:half], y, x[half:], signal[half:], widths=[32], seeds=1, optimizer=optimizer, steps=steps,
        record_every=every, activation=_leaky, parameterization="mup",
    )  # fmt: skip
    return run.dataset.test_loss.values[0, 0]


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, _SLOPE)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The law and the exact flow, and the network."""
    flow, network = dataset.flow[:, ::6], dataset.network[:, ::3]
    blue, red = figures.PALETTE[:2]
    figures.theory_line(ax, claims.curves["times"], claims.curves["flow"], color=blue, label="law of the flow")
    draw_means(ax, flow.time, flow, "noise_draw", color=blue, label="linear flow")
    draw_means(ax, network.epoch, network, "draw", color=red, marker="s", label="network, 32 units")
    what = "time of the flow, step of the network"
    figures.label_axes(ax, what, "excess risk", "two descents in one run", xscale="log")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.15), fontsize=10)


STUDY = Study("two-descents", predict, measure, draw)
