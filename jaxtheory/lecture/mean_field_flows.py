"""Gradient flows of a network's particles: the radial limit of SGD, a planted teacher, lazy against mean-field."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib import animation
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxtheory import figures, meanfield
from jaxtheory.lecture.claims import Claim, Claims
from jaxtheory.meanfield import radial

_TIMES = 10  # at which SGD is held against its limit
_QUANTILES = 400  # radii of the limit
_SCALE = 0.8  # of the first weights
_TEST_POINTS = 10_000
_DATA = 100  # points of the planted problem
_TEACHERS = 4
_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the output: mean-field at 1, lazy at 100


def mmn_claims(config: Any) -> Claims:
    """The risk over time of the radial flow, and the least Δ with zero risk."""
    times = np.linspace(0, config.horizon, _TIMES + 1)
    radii, risks = _limit(config)
    claims = (
        Claim(
            "sgd_gap", f"SGD, N = {config.particles}: largest |risk − limit|", "Mei, Montanari, Nguyen (2018), Fig. 2",
            0.0, "published agreement at N = 800", tolerance=0.02, relation="<=",
            rival=float(abs(risks - risks[0]).max()), rival_law="weights that do not move",
        ),
        Claim(
            "threshold", "least Δ at which zero risk is reachable, d → ∞", "Mei, Montanari, Nguyen (2018)", 0.4742,
            "rounding of the published value and of the hull's 4,000 directions", tolerance=5e-4,
            kind="formula",
        ),
    )  # fmt: skip
    curves = {"time": times.tolist(), "limit": risks.tolist()}
    return Claims(claims, curves | {f"radii {k}": np.sort(radii[k]).tolist() for k in range(_TIMES + 1)})


def _limit(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Radii and risk of the limit at the recorded times, the start among them."""
    psi = radial.tabulate(radial.ramp, config.dimension, reach=6 * np.sqrt(config.dimension))
    F = radial.risk(psi, config.dimension, config.delta)
    start = radial.initial_radii(_QUANTILES, config.dimension, _SCALE)
    every = round(config.horizon / _TIMES / 0.01)
    flow = meanfield.gradient_flow(F, config.horizon / _TIMES / every, method="heun")
    observe = lambda cloud: (cloud.particles, F(cloud))  # noqa: E731
    run = meanfield.simulate(
        flow, start, steps=_TIMES * every, key=jax.random.key(0), observe=observe, record_every=every
    )
    radii = jnp.concatenate([start[None], run.records[0]])
    return np.asarray(radii), np.asarray(jnp.concatenate([F(start)[None], run.records[1]]))


def mmn_measure(config: Any) -> xr.Dataset:
    """Online SGD of N neurons: risk on fresh points and every neuron's norm, at the recorded times."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), 3)
    start = _SCALE / np.sqrt(config.dimension) * jax.random.normal(keys[0], (config.particles, config.dimension))
    fresh = radial.mixture(keys[1], _TEST_POINTS, config.dimension, config.delta, dtype=start.dtype)
    unit = meanfield.neuron(radial.ramp)

    def observe(cloud: meanfield.Cloud) -> tuple[Array, Array]:
        errors = (meanfield.predict(unit, cloud, fresh.x) - fresh.y) ** 2
        return jnp.linalg.norm(cloud.particles, axis=1), errors.mean()

    flow = radial.sgd(radial.ramp, config.delta, step_size=config.sgd_step, batch=config.sgd_batch)
    every = round(config.horizon / _TIMES / config.sgd_step)
    run = meanfield.simulate(flow, start, steps=_TIMES * every, key=keys[2], observe=observe, record_every=every)
    norms, risks = (
        np.concatenate([np.asarray(first)[None], np.asarray(rest)])
        for first, rest in zip(observe(meanfield.as_cloud(start)), run.records, strict=True)
    )
    limit = _limit(config)[1]
    return xr.Dataset(
        {
            "norms": (("time", "neuron"), norms),
            "sgd_risk": ("time", risks),
            "sgd_gap": float(np.abs(risks - limit).max()),
            "threshold": radial.threshold(radial.ramp),
        },
        {"time": np.linspace(0, config.horizon, _TIMES + 1)},
    )


def mmn_draw(risk: Axes, norms: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risk over time, and histograms of norms against the radial law at three times."""
    figures.theory_line(risk, claims.curves["time"], claims.curves["limit"], label="radial flow, $N = \\infty$")
    count = dataset.sizes["neuron"]
    figures.points(risk, dataset.time.values, dataset.sgd_risk.values, label=f"SGD, $N = {count}$")
    figures.label_axes(risk, "time $t$ = steps × step size", "risk", "(a) two Gaussians: SGD and its limit")
    for color, k in zip(figures.PALETTE, (0, _TIMES // 2, _TIMES), strict=False):
        _law_and_histogram(norms, dataset.norms.values[k], claims.curves[f"radii {k}"], dataset.time.values[k], color)
    norms.set_ylim(0, 5.5)  # the limit's spike at zero goes beyond
    figures.label_axes(norms, "norm of a neuron's weights, $|w|$", "density", "(a) the law of norms over time")


def _law_and_histogram(ax: Axes, measured: np.ndarray, radii: list[float], time: float, color: str) -> None:
    """The limit's law by its quantiles' spacing, smoothed over 2 × 10 of them, and the histogram of the neurons."""
    ax.hist(measured, bins=40, density=True, color=color, alpha=0.3)
    r, width = np.asarray(radii), 10
    density = 2 * width / len(r) / np.maximum(r[2 * width :] - r[: -2 * width], 1e-3)
    figures.theory_line(ax, r[width:-width], density, color=color, label=f"$t = {time:g}$")


def _planted(key: PRNGKeyArray) -> tuple[Float[Array, "n 2"], Float[Array, " n"], Float[Array, "k 3"]]:
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


def teacher_claims(config: Any) -> Claims:
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


def teacher_measure(config: Any) -> xr.Dataset:
    """Risk over time for many and few particles over seeds, and the path of one run of each."""
    root = jax.random.fold_in(jax.random.key(config.seed), 2)
    x, y, teacher = _planted(root)
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
    return xr.Dataset(
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


def teacher_draw(risk: Axes, plane: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risk over time, and where the neurons of one run went."""
    for color, name, size in (
        (figures.PALETTE[0], "many", dataset.sizes["particle"]),
        (figures.PALETTE[1], "few", dataset.sizes["little"]),
    ):
        values, time = dataset[f"{name}_risk"], dataset.frame_time.values
        for seed in range(values.sizes["seed"]):
            risk.plot(time, values.values[seed], color=color, linewidth=0.8, alpha=0.4)
        risk.plot(time, values.median("seed").values, color=color, label=f"$N = {size}$, median")
    figures.label_axes(risk, "time $t$", "risk", "(b) planted ReLU teacher", yscale="log")
    draw_plane(plane, dataset, "many_path", dataset.sizes["frame"] - 1)


def draw_plane(ax: Axes, dataset: xr.Dataset, path: str, frame: int) -> None:
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


def lazy_claims(config: Any) -> Claims:
    """Displacement falls as one over the scale of the output."""
    claim = Claim(
        "lazy_slope", "lazy scaling: exponent of the particles' displacement in α, from 30 to 100",
        "Chizat, Oyallon, Bach (2019), Thm 2.2", -1.0, "theory: the next order is 1/α", tolerance=1 / 30,
        rival=0.0, rival_law="mean-field: particles move as far at every α",
    )  # fmt: skip
    return Claims((claim,), {})


def lazy_measure(config: Any) -> xr.Dataset:
    """The planted problem with output α f and loss/α², from a network whose halves cancel."""
    root = jax.random.fold_in(jax.random.key(config.seed), 2)
    x, y, _ = _planted(root)
    half = jax.random.normal(jax.random.fold_in(root, 1), (config.many // 2, 3))
    start = jnp.concatenate([half, half * jnp.array([-1.0, 1.0, 1.0], half.dtype)[None]])
    unit = meanfield.two_layer("relu")

    def end(scale: Float[Array, ""]) -> tuple[Array, Array]:
        F = meanfield.risk(lambda p, theta: scale * unit(p, theta), meanfield.squared_loss, x, y)
        flow = meanfield.gradient_flow(F * (1 / scale**2), 0.1)
        cloud = meanfield.simulate(flow, start, steps=config.teacher_steps // 2, key=root).state.cloud
        return cloud.particles, F(cloud)

    ends, risks = jax.jit(lambda scales: jax.lax.map(end, scales))(jnp.asarray(_SCALES, start.dtype))
    moved = np.sqrt(np.asarray(((ends - start[None]) ** 2).mean((1, 2)) / (start**2).mean()))
    slope = np.log(moved[-1] / moved[-2]) / np.log(_SCALES[-1] / _SCALES[-2])
    return xr.Dataset(
        {
            "displacement": ("scale", moved),
            "scaled_risk": ("scale", np.asarray(risks)),
            "lazy_start": (("twin", "coordinate"), np.asarray(start)),
            "lazy_end": (("scale", "twin", "coordinate"), np.asarray(ends)),
            "lazy_slope": float(slope),
        },
        {"scale": list(_SCALES)},
    )


def lazy_draw(picture: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Both ends in one picture: paths of the mean-field particles, and the lazy ones that stay; displacements inset."""
    start = dataset.lazy_start.values
    inset = picture.inset_axes((0.62, 0.66, 0.36, 0.32))
    for color, scale in ((figures.PALETTE[1], _SCALES[0]), (figures.PALETTE[0], _SCALES[-1])):
        end = dataset.lazy_end.sel(scale=scale).values
        picture.plot(*np.stack([start[:, 1:], end[:, 1:]]).transpose(2, 0, 1), color=color, linewidth=0.8, alpha=0.6)
        label = f"α = {scale:g}: {'mean-field' if scale == 1 else 'lazy'}"
        picture.plot(*end[:, 1:].T, "o", color=color, markersize=3.5, label=label)
    figures.label_axes(picture, "$w_1$", "$w_2$", "(d) the same neurons, two scalings of the output")
    picture.set(xlim=(-3.2, 5.2), ylim=(-3.6, 4.4))
    picture.legend(loc="lower right")
    scales, moved = dataset.scale.values, dataset.displacement.values
    inset.loglog(scales, moved[-1] * scales[-1] / scales, color="#555555", linewidth=1.2)
    inset.loglog(scales, moved, "o", markersize=4, color=figures.PALETTE[2])
    inset.set_title("displacement, $1/\\alpha$", fontsize=10, loc="center", pad=3)
    inset.set_xlabel("α", fontsize=10)


def animate(dataset: xr.Dataset, folder: Path) -> tuple[Path, Path]:
    """GIFs of the student's neurons, many beside few, and of the law of norms under SGD."""
    with figures.style():
        figure, axes = figures.canvas(1, 2, panel=(5.6, 5.6))
        neurons = partial(_frame_of_planes, axes, dataset)
        plane = _movie(figure, neurons, range(dataset.sizes["frame"]), folder / "neurons.gif")
        figure, (ax,) = figures.canvas()
        return plane, _movie(figure, partial(_frame_of_norms, ax, dataset), range(_TIMES + 1), folder / "norms.gif")


def _movie(figure: Any, draw: Any, frames: range, path: Path) -> Path:
    FigureCanvasAgg(figure)
    draw(frames[0])
    figure.draw_without_rendering()  # lay out once, then keep the axes still: frames are quick and do not jump
    figure.set_layout_engine("none")
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = max(2, len(frames) // 5)
    animation.FuncAnimation(figure, draw, frames=frames).save(path, animation.PillowWriter(fps=rate), dpi=70)
    return path


def _frame_of_planes(axes: tuple[Axes, ...], dataset: xr.Dataset, frame: int) -> list[Any]:
    for ax, path in zip(axes, ("many_path", "few_path"), strict=True):
        ax.clear()
        draw_plane(ax, dataset, path, frame)
        ax.set_title(f"N = {dataset[path].shape[1]},  t = {float(dataset.frame_time[frame]):.0f}")
    return []


def _frame_of_norms(ax: Axes, dataset: xr.Dataset, frame: int) -> list[Any]:
    ax.clear()
    top = float(dataset.norms.max())
    ax.hist(dataset.norms.values[frame], bins=60, range=(0.0, top), density=True, color=figures.PALETTE[0])
    ax.set_ylim(0, 6)
    figures.label_axes(ax, "norm of a neuron's weights, $|w|$", "density", f"t = {float(dataset.time[frame]):.0f}")
    return []
