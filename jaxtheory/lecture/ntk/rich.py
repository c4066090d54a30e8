"""Networks that learn features end as a kernel machine: that of the kernel they have learned.

On digits beside pixels of noise, which a fixed kernel cannot leave out and a learned one does. Without the noise the
best fixed kernel does better than the learned one: nothing is claimed there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import empirical, figures, kernels, networks, sweeps
from jaxtheory.lecture.claims import Claims, averages, negative, positive, statistical
from jaxtheory.lecture.ntk import problems
from jaxtheory.lecture.panels import draw_joined
from jaxtheory.lecture.study import Study, panel, prefixed, swept

_FIXED = {"Gaussian": "-.", "Laplace": ":", "arc-cosine": "--"}


def predict(config: Any) -> Claims:
    """Signs of what learning the kernel changes, and its equality with the network."""
    source = "Ghorbani, Mei, Misiakiewicz, Montanari (2020)"
    where = "digits and noise pixels: test error of the learned kernel minus"
    claims = (
        positive("alignment_growth",
                 "digits and noise pixels: growth in training of the kernel's alignment with the labels",
                 "Atanasov, Bordelon, Pehlevan (2022)"),
        negative("learned_less_initial", f"{where} the initial one's", source),
        negative("learned_less_fixed", f"{where} the best fixed's", source),
        statistical("learned_less_network", f"{where} the network's", "Long (2021)", 0.0, over="over seeds",
                    rival=(0.01, "one digit in a hundred more")),
    )  # fmt: skip
    return Claims(claims, {})


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Independent digits, noise and networks."""
    return {
        "rich": swept(
            config, "rich", partial(_rich, config=config), sweeps.grid(seed=range(config.rich_seeds)), block=1
        )
    }


def _rich(seed: Array, key: PRNGKeyArray, *, config: Any) -> dict[str, Any]:
    """A network that learns features of noisy digits; its kernel at seven times, as a regression kernel."""
    found = problems.alone(partial(_learning_features, config))(key)
    return {name: sweeps.named(value, "kernel" if name == "fixed" else "time") for name, value in found.items()}


def _learning_features(config: Any, key: PRNGKeyArray) -> dict[str, Array]:
    cut, draw, *hiss = jax.random.split(key, 4)
    x, y, x_test, y_test = problems.digits(config.samples, cut, config)
    sets = [
        jnp.concatenate([a, jax.random.normal(k, (len(a), config.noise_pixels), a.dtype)], axis=1)
        for k, a in zip(hiss, (x, x_test[:1000]), strict=True)
    ]
    inputs, every = 64 + config.noise_pixels, config.rich_steps // 6
    net = networks.multilayer(
        inputs, config.rich_width, 1, hidden_layers=2, abc=networks.mup(3), weight_variance=2.0, output_scale=0.1,
        dtype=x.dtype,
    )  # fmt: skip
    error = partial(_regress, sets[0], sets[1], y, y_test[:1000])

    def look(params: Any) -> dict[str, Array]:
        wrong = jnp.mean((net.apply(params, sets[1])[:, 0] > 0) != (y_test[:1000] > 0))
        theta = empirical.kernel_fn(net.apply, params, method="structured")
        gram = theta(sets[0])
        aligned = empirical.centered_alignment(gram, jnp.outer(y, y))
        return {"network": wrong, "ntk": error(theta, gram), "alignment": aligned}

    params = net.init(draw)
    loss = lambda p: 0.5 * jnp.mean((net.apply(p, sets[0])[:, 0] - y) ** 2)  # noqa: E731
    how = {"optimizer": optax.sgd(0.5), "steps": config.rich_steps, "record": look, "record_every": every}
    later, first = networks.train(loss, params, **how).records, look(params)
    curves = {name: jnp.append(first[name], later[name]) for name in first}
    # in the order of `_FIXED`; bandwidths are the inputs' root mean square norm
    fixed = [kernels.gaussian(inputs**0.5), kernels.laplace(inputs**0.5), kernels.arc_cosine(1)]
    return {**curves, "fixed": jnp.stack([error(k, k(sets[0], sets[0])) for k in fixed])}


def _regress(x: Array, x_test: Array, y: Array, y_test: Array, kernel: Callable[..., Array], gram: Array) -> Array:
    """Test misclassification of kernel ridge regression, the ridge chosen by leave-one-out on the training set."""
    ridges = jnp.logspace(-5, 1, 13, dtype=gram.dtype) * jnp.trace(gram) / len(gram)
    path = kernels.ridge_path((gram + gram.T) / 2, None, y, ridges)
    alpha = path.alpha[jnp.argmin(path.leave_one_out)]
    return jnp.mean((kernel(x_test, x) @ alpha > 0) != (y_test > 0))


def measure(config: Any) -> xr.Dataset:
    """Differences at the end of training, seed by seed."""
    rich = sweep(config)["rich"]
    learned = rich.ntk.isel(time=-1)
    differences = {
        "alignment_growth": rich.alignment.isel(time=-1) - rich.alignment.isel(time=0),
        "learned_less_initial": learned - rich.ntk.isel(time=0),
        "learned_less_fixed": learned - rich.fixed.isel(kernel=int(rich.fixed.mean("seed").values.argmin())),
        "learned_less_network": learned - rich.network.isel(time=-1),
    }
    return prefixed("rich", rich).assign(averages(differences))


def draw_errors(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test errors over training: of the kernel as it is learned, of the network, and of fixed kernels."""
    _over_time(ax, dataset.rich_ntk, "regression with $\\Theta_t$", 0, "o")
    # an untrained network is a coin, far above the rest
    _over_time(ax, dataset.rich_network, "the network", 1, "s", first=1)
    for (name, style), value in zip(_FIXED.items(), dataset.rich_fixed.mean("rich_seed").values, strict=True):
        ax.axhline(value, color="#555555", linestyle=style, linewidth=1.4, label=f"{name} kernel")
    figures.label_axes(ax, "share of training done", "test misclassification rate", "noisy digits: learning a kernel")


def draw_alignment(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Alignment of the kernel with the labels over training."""
    _over_time(ax, dataset.rich_alignment, "$\\Theta_t$ with the labels", 0, "o")
    figures.label_axes(ax, "share of training done", "centered alignment", "noisy digits: it rises, then falls")


def _over_time(ax: Axes, values: xr.DataArray, label: str, number: int, marker: str, first: int = 0) -> None:
    times, color = np.linspace(0, 1, values.sizes["rich_time"])[first:], figures.PALETTE[number]
    draw_joined(
        ax, times, values.isel(rich_time=slice(first, None)), "rich_seed", color=color, label=label, marker=marker
    )


ERRORS = Study("errors", predict, measure, draw_errors, sweep)
ALIGNMENT = panel("alignment", draw_alignment)
