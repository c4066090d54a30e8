"""A planted ReLU teacher: many particles find it, few are left in a spurious minimum."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from jaxtheory import figures, meanfield
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.lecture.mean_field.movies import movie
from jaxtheory.lecture.study import Study

_DATA = 100  # points of the planted problem
_TEACHERS = 4


def problem(key: PRNGKeyArray) -> tuple[Float[Array, "n 2"], Float[Array, " n"], Float[Array, "k 3"]]:
    """Points of the plane, the teacher's outputs, and its neurons (a, w) of norm one."""
    points, angles = jax.random.split(key)
    x = jax.random.normal(points, (_DATA, 2))
    turn = (
        2 * jnp.pi * (jnp.arange(_TEACHERS, dtype=float) + 0.6 * jax.random.uniform(angles, (_TEACHERS,))) / _TEACHERS
    )
    signs = jnp.array([1.0, -1.0, 1.0, -1.0], x.dtype)
    teacher = jnp.stack([signs, jnp.cos(turn), jnp.sin(turn)], 1)
    # The student averages over particles, so the teacher does.
    return x, meanfield.predict(meanfield.two_layer("relu"), teacher, x), teacher


def predict(config: Any) -> Claims:
    """Many particles find the teacher, few are left behind."""
    claims = (
        Claim(
            "teacher_many", f"planted teacher: final over initial risk, {config.many} particles, worst seed",
            "Chizat, Bach (2018), Thm 3.3", 0.0, "theory: 0 as N, t → ∞; 1% for a finite time", tolerance=0.01,
            relation="<=", rival=0.1, rival_law="a spurious minimum, as with few",
        ),
        Claim(
            "teacher_few", f"planted teacher: final over initial risk, {config.few} particles, worst seed",
            "Chizat, Bach (2018), Fig. 1", 0.1, "theory: a spurious minimum keeps a share of order one", relation=">=",
            rival=0.0, rival_law="the teacher is found",
        ),
    )  # fmt: skip
    return Claims(claims, {})


def measure(config: Any) -> xr.Dataset:
    """Risk over time for many and few particles over seeds, and the path of one run of each."""
    root = jax.random.fold_in(jax.random.key(config.seed), 2)
    x, y, teacher = problem(root)
    F = meanfield.risk(meanfield.two_layer("relu"), meanfield.squared_loss, x, y)
    flow = meanfield.gradient_flow(F, 0.1)
    every = config.teacher_steps // config.frames

    def one(count: int, key: PRNGKeyArray) -> tuple[Array, Array]:
        start = jax.random.normal(key, (count, 3))
        observe = lambda cloud: (F(cloud), cloud.particles)  # noqa: E731
        run = meanfield.simulate(flow, start, steps=every * config.frames, key=key, observe=observe, record_every=every)
        risks, paths = run.records
        return jnp.concatenate([F(start)[None], risks]), jnp.concatenate([start[None], paths])

    keys = jax.random.split(root, config.teacher_seeds)
    many, few = (jax.jit(jax.vmap(partial(one, count)))(keys) for count in (config.many, config.few))
    dataset = xr.Dataset(
        {
            "many_risk": (("seed", "frame"), np.asarray(many[0])),
            "few_risk": (("seed", "frame"), np.asarray(few[0])),
            "many_path": (("frame", "particle", "part"), np.asarray(many[1][0])),
            "few_path": (("frame", "little", "part"), np.asarray(few[1][0])),
            "teacher": (("hidden", "part"), np.asarray(teacher)),
            "frame_time": ("frame", 0.1 * every * np.arange(config.frames + 1)),
            "teacher_many": float((many[0][:, -1] / many[0][:, 0]).max()),
            "teacher_few": float((few[0][:, -1] / few[0][:, 0]).max()),
        }
    )
    _animate(dataset, config.out)
    return dataset


def draw(risk: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risk over time, a line a start."""
    for color, name, size in (
        (figures.PALETTE[0], "many", dataset.sizes["particle"]),
        (figures.PALETTE[1], "few", dataset.sizes["little"]),
    ):
        values, time = dataset[f"{name}_risk"], dataset.frame_time.values
        for seed in range(values.sizes["seed"]):
            risk.plot(time, values.values[seed], color=color, linewidth=0.8, alpha=0.4)
        risk.plot(time, values.median("seed").values, color=color, label=f"$N = {size}$, median")
    figures.label_axes(risk, "time $t$", "risk", "(b) planted ReLU teacher", yscale="log")


def draw_neurons(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Where the neurons of one run went."""
    _draw_plane(ax, dataset, "many_path", dataset.sizes["frame"] - 1)


def _draw_plane(ax: Axes, dataset: xr.Dataset, path: str, frame: int) -> None:
    """Neurons |a| w as points, their paths so far, and the teacher's directions as rays."""
    neurons, teacher = dataset[path].values, dataset.teacher.values
    places = np.abs(neurons[..., :1]) * neurons[..., 1:]
    for sign, color in ((1, figures.PALETTE[1]), (-1, figures.PALETTE[0])):
        mine = np.sign(neurons[frame, :, 0]) == sign
        ax.plot(*np.moveaxis(places[: frame + 1, mine], 2, 0), color=color, linewidth=0.6, alpha=0.35)
        label = f"student, $a {'>' if sign > 0 else '<'} 0$"
        ax.plot(*places[frame, mine].T, "o", color=color, markersize=4, label=label)
        for _, *w in teacher[np.sign(teacher[:, 0]) == sign]:
            ax.plot([0, 6 * w[0]], [0, 6 * w[1]], "--", color=color, linewidth=1.3, zorder=1)
    ax.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal")
    figures.label_axes(ax, "$|a|\\,w_1$", "$|a|\\,w_2$", "(b) neurons go to the teacher's rays (dashed)")


def _animate(dataset: xr.Dataset, folder: Path) -> None:
    """The student's neurons, many beside few, as neurons.gif."""

    def frame(number: int) -> list[Artist]:
        for ax, path in zip(axes, ("many_path", "few_path"), strict=True):
            ax.clear()
            _draw_plane(ax, dataset, path, number)
            ax.set_title(f"N = {dataset[path].shape[1]},  t = {float(dataset.frame_time[number]):.0f}")
        return []

    with figures.style():
        figure, axes = figures.canvas(1, 2, panel=(5.6, 5.6))
        movie(figure, frame, dataset.sizes["frame"], folder / "neurons.gif")


STUDY = Study("teacher", predict, measure, draw)
