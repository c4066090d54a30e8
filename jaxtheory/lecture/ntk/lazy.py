"""Wide networks train as their linearization does, which learns the largest eigendirections of the kernel first."""

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
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.ntk import problems
from jaxtheory.lecture.powers import draw_power, root_exponent
from jaxtheory.lecture.study import Study, panel, prefixed, swept

_BLOCKS = ((1, 3), (3, 7), (7, 15), (15, 31))  # ranks of the eigenvectors that are followed together
_DIMS = {"network": ("step", "block"), "kernel": ("step", "block"), "eigenvalues": ("rank",), "steps": ("step",)}


def predict(config: Any) -> Claims:
    """The gap's exponent in width, round-off, and rates of learning."""
    claims = (
        statistical("gap_slope", "digits: exponent of width in |network − its linearization| on test digits",
                    "Lee et al. (2019), Thm 2.1", -0.5, over="of the fit", relation="<=",
                    rival=(0.0, "a gap at any width")),
        Claim(
            "round_off", "digits: linearization trained in weights minus its kernel's closed form, relative",
            "Lee et al. (2019), section 2.2", 0.0, "theory: √steps roundings of float32, condition 100",
            tolerance=100 * 1.2e-7 * config.lazy_steps**0.5,
        ),
        statistical("order", "digits: exponent of the kernel's rate ηλ in a component's measured learning rate",
                    "Lee et al. (2019), equation 9", 1.0, "theory: drift of λ by width^(−1/2)",
                    tolerance=min(config.lazy_widths) ** -0.5, rival=(0.0, "all components at one rate")),
    )  # fmt: skip
    return Claims(claims, {})


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Networks of every width, each on its own digits."""
    grid = sweeps.grid(width=config.lazy_widths, seed=range(config.lazy_seeds))
    return {"lazy": swept(config, "lazy", partial(_lazy, config=config), grid, static="width")}


def _lazy(width: int, seed: Array, key: PRNGKeyArray, *, config: Any) -> dict[str, Any]:
    """A network and its linearization under the same gradient descent; components of the error by eigenvectors."""
    found = problems.alone(partial(_beside_linearization, width, config))(key)
    return {name: sweeps.named(value, *_DIMS[name]) if name in _DIMS else value for name, value in found.items()}


def _beside_linearization(width: int, config: Any, key: PRNGKeyArray) -> dict[str, Array]:
    draw, cut = jax.random.split(key)
    x, y, x_test, _ = problems.digits(config.lazy_samples, cut, config)
    x, x_test, f = x / 8, x_test[: 4 * config.lazy_samples] / 8, partial(problems.shallow, "relu")  # mean square norm 1
    params = problems.draw(width, x.shape[1], x.dtype, draw)
    theta, cross = (empirical.ntk(f, params, a, x, output="trace", method="structured") for a in (x, x_test))
    values, vectors = jnp.linalg.eigh(theta)
    rate = 1 / values[-1]
    run = partial(_descend, params=params, y=y, rate=rate, steps=config.lazy_steps)
    seen, seen_test = run(f, x, x_test)
    flat = run(empirical.linearize(f, params), x, x_test)[0]
    steps = jnp.arange(config.lazy_steps + 1)
    law = kernels.gradient_descent(
        theta, y, learning_rate=rate, steps=steps, initial=f(params, x)[:, 0], ntk_test=cross,
        initial_test=f(params, x_test)[:, 0],
    )  # fmt: skip
    assert law.test is not None
    gap = jnp.sqrt(((seen_test - law.test) ** 2).mean(1)).max() / jnp.sqrt((law.test**2).mean())
    shares = [_shares((outputs - y[None]) @ vectors[:, ::-1]) for outputs in (seen, law.train)]
    round_off = jnp.linalg.norm(flat - law.train) / jnp.linalg.norm(law.train)
    curves = {"network": shares[0], "kernel": shares[1], "eigenvalues": values[::-1] * rate, "steps": steps}
    return {"gap": gap, "round_off": round_off, **curves}


def _descend(
    f: Callable[..., Array], x: Array, x_test: Array, *, params: Any, y: Array, rate: Any, steps: int
) -> tuple[Array, Array]:
    """Outputs on training and test inputs before training and after every step of gradient descent."""
    both = jnp.concatenate([x, x_test])
    outputs = lambda p: f(p, both)[:, 0]  # noqa: E731
    loss = lambda p: 0.5 * jnp.sum((f(p, x)[:, 0] - y) ** 2)  # noqa: E731
    records = networks.train(loss, params, optimizer=optax.sgd(rate), steps=steps, record=outputs).records
    whole = jnp.concatenate([outputs(params)[None], records])
    return whole[:, : len(x)], whole[:, len(x) :]


def _shares(components: Array) -> Array:
    """The part of each block's initial error that is left, [steps, blocks]."""
    energy = jnp.stack([(components[:, low:high] ** 2).sum(1) for low, high in _BLOCKS], axis=1)
    return jnp.sqrt(energy / energy[:1])


def measure(config: Any) -> xr.Dataset:
    """The gap's exponent over all widths; rates of learning at the largest, one exponent a network."""
    lazy = sweep(config)["lazy"]
    wide = lazy.isel(width=-1)
    rates = (
        [_rate(one[name].values, one.steps.values) for name in ("kernel", "network")]
        for one in (wide.isel(seed=s) for s in range(wide.sizes["seed"]))
    )
    order = np.array([np.polyfit(np.log(law), np.log(seen), 1)[0] for law, seen in rates])
    scalars = root_exponent("gap_slope", lazy.gap) | averaged("order", order, None)
    return prefixed("lazy", lazy).assign(scalars | {"round_off": float(lazy.round_off.max())})


def _rate(shares: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """1 / the first step at which each block's error is halved, linear between steps."""
    found = []
    for curve in shares.T:
        after = int(np.argmax(curve < 0.5)) if (curve < 0.5).any() else len(curve) - 1
        part = (curve[after - 1] - 0.5) / (curve[after - 1] - curve[after])
        found.append(float(steps[after - 1] + part * (steps[after] - steps[after - 1])))
    return 1 / np.array(found)


def draw_gap(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The gap over width, and its bound through the first."""
    draw_power(ax, dataset.lazy_gap, -0.5, color=figures.PALETTE[0], label="$m^{-1/2}$ (bound)")
    title = "digits: network and its linearization"
    figures.label_axes(ax, "width $m$", "relative gap on test digits", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.lazy_width.values)


def draw_components(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Errors along blocks of eigenvectors over the steps of one network of the largest width."""
    one = dataset.isel(lazy_width=-1, lazy_seed=0)
    steps = one.lazy_steps.values[1:]
    shown = np.unique(np.geomspace(1, len(steps), 14).astype(int)) - 1
    for block, (color, (low, high)) in enumerate(zip(figures.PALETTE, _BLOCKS, strict=False)):
        law, seen = (one[name].isel(lazy_block=block).values[1:] for name in ("lazy_kernel", "lazy_network"))
        figures.theory_line(ax, steps, law, color=color, label=f"eigenvectors {low + 1}–{high}")
        figures.points(ax, steps[shown], seen[shown], color=color)
    what = "steps of gradient descent (points: network)"
    figures.label_axes(ax, what, "share of the error left", "digits: large eigenvalues first", xscale="log")


GAP = Study("gap", predict, measure, draw_gap, sweep)
COMPONENTS = panel("components", draw_components)
