"""Sizes of activations and of their changes against width: whether a parameterization does what it says.

Each parameter owns an activation: what its use in the program gives (W x of a weight, h + b of a bias). Its own change
is the part of the activation's change that this parameter causes, with its inputs held at their initial values, so that
a wrong multiplier shows at the parameter that it belongs to.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import Literal
from jaxtyping import Array, Key, PyTree

from jaxtheory import losses
from jaxtheory.checks import boundary, require
from jaxtheory.networks.parameterization.reading import read
from jaxtheory.networks.parameterization.records import Path, Reading
from jaxtheory.networks.parameterization.rules import Parameterization, standard
from jaxtheory.programs.calls import CALLS, Atom, Equation, Program, bind, body_of, opened, scan_sections

if TYPE_CHECKING:
    import matplotlib.axes
    import xarray
    from matplotlib.figure import Figure

_FLAT = 0.1  # slopes of finite widths bend by this much
_INITIAL = {"input": 0.0, "hidden": 0.0, "embedding": 0.0, "readout": -0.5}
Found = dict[int, list[tuple[Array, Array | None]]]
Init = Callable[[Array], PyTree]
Apply = Callable[[PyTree, PyTree], PyTree]
Risk = Callable[[PyTree, PyTree], Array]
Values = list[Array]
Moved = list[Array | None]  # None where a value does not depend on parameters alone


@boundary
def coordinate_check(
    make: Callable[[int], Any],
    widths: Sequence[int],
    batch: tuple[PyTree, PyTree],
    optimizer: optax.GradientTransformation | Callable[[int], optax.GradientTransformation],
    steps: int = 4,
    *,
    key: Key[Array, ""],
    loss: str | Risk = "squared",
    seeds: int = 16,
    roles: Mapping[str, tuple[int, ...]] | None = None,
) -> "xarray.Dataset":
    r"""Root mean squares of activations and of their changes during training, at several widths, and their slopes.

    The slope of log size, pooled over seeds, against log width is fitted over the upper half of the widths; its
    standard error is that of the jackknife over seeds. Under maximal update every change has slope 0, and so have the
    initial sizes, but for those of readouts, which fall as width^(−1/2). A slope is right within 0.1 + 3 standard
    errors.

    Args:
        make: width -> a network with `init(key) -> params` and `apply(params, x) -> outputs`, or the pair of them.
        widths: two or more, increasing.
        batch: inputs and targets, all of them used in every step.
        optimizer: an optax transformation, or a function of the width that returns one.
        steps: ≥ 1.
        key: of the initial parameters.
        loss: a name of `jaxtheory.losses`, averaged over examples, or a function of all outputs and targets.
        seeds: networks for each width, ≥ 2; the initial size of a few outputs needs 30 to tell n^(−1/2) from 1.
        roles: as `maximal_update` takes them.

    Returns:
        Dataset over `parameter` (paths, in the order of the program), `width`, `seed` and `step`: `initial`, `change`
        (of the activation since the start) and `own_change`; slopes `initial_slope`, `change_slope` and
        `own_change_slope` with `_error`s; `initial_expected`; `flat`, whether a change has slope 0 at a step; `right`,
        whether the initial size and the own change at the first step that moves are right. `attrs["wrong"]` names the
        others: those of wrong initial sizes first, since these change the gradients of all others too, then those of
        wrong own changes, both in the order of the program. Activations inside `cond` and `while_loop` are left out.

    Raises:
        ValueError: fewer than two widths or seeds, widths that do not increase, no step.

    Cost: one compilation for each width; steps · seeds trainings and twice as many forward passes. Source: Yang et al.
    (2022), Tensor Programs V, on coordinate checks.

    >>> f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]
    >>> init = lambda n: lambda key: {"in": jax.random.normal(key, (3, n)), "out": jnp.ones((n, 1)) / n}
    >>> batch = jnp.ones((2, 3)), jnp.ones((2, 1))
    >>> found = coordinate_check(
    ...     lambda n: (init(n), f), [64, 128], batch, lambda n: optax.sgd(0.1 * n), 1, key=jax.random.key(0)
    ... )
    >>> found.parameter.values.tolist()
    ['in', 'out']
    """
    require(len(widths) >= 2, "widths", list(widths), "hold at least two widths", "pass e.g. [64, 128, 256, 512]")
    rising = all(a < b for a, b in itertools.pairwise(widths))
    require(rising and widths[0] >= 1, "widths", list(widths), "increase", "sort them")
    require(seeds >= 2, "seeds", seeds, "be >= 2 for standard errors", "use seeds=16")
    require(steps >= 1, "steps", steps, "be >= 1", "use steps=4")
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    require(pair, "batch", type(batch).__name__, "be a pair (x, y)", "pass batch=(x, y)")
    networks = [_pair(make(width)) for width in widths]
    base, wide = (jax.eval_shape(networks[i][0], key) for i in (0, -1))
    how = standard(networks[0][1], base, wide, batch[0], roles=roles)
    risk = _risk(loss)
    keys = jax.random.split(key, seeds)
    sizes = []
    for width, (init, apply) in zip(widths, networks, strict=True):
        transformation = optimizer if hasattr(optimizer, "update") else optimizer(width)
        course = _course(init, apply, transformation, risk, steps, batch)
        sizes.append(jax.tree.map(np.asarray, jax.jit(jax.vmap(course))(keys)))
    return _dataset(how, widths, sizes, steps, seeds)


def coordinate_figure(dataset: "xarray.Dataset") -> "Figure":
    """Initial sizes, own changes at the first step and changes at the last one against width, a curve a parameter.

    Args:
        dataset: of `coordinate_check`. Slopes stand in the legend; wrong parameters are dashed.

    Returns:
        A figure of three panels, to be written by `figures.save`.

    Raises:
        ValueError: a dataset without these variables.
    """
    from jaxtheory import figures

    present = {"initial", "own_change", "change", "right"} <= set(getattr(dataset, "data_vars", ()))
    require(present, "dataset", type(dataset).__name__, "be that of coordinate_check", "pass what it returned")
    figure, axes = figures.canvas(1, 3)
    steps = {"initial": None, "own_change": 0, "change": -1}
    titles = ("initial activations", "own changes, first step", "changes, last step")
    with figures.style():
        for ax, (name, step), title in zip(axes, steps.items(), titles, strict=True):
            taken = dataset if step is None else dataset.isel(step=step)
            for i, parameter in enumerate(dataset.parameter.values):
                _curve(ax, taken.sel(parameter=parameter), name, figures.PALETTE[i % len(figures.PALETTE)])
            figures.label_axes(ax, "width", "root mean square", title, xscale="log", yscale="log")
            figures.ticks_at(ax.xaxis, dataset.width.values)
    return figure


def _curve(ax: "matplotlib.axes.Axes", one: "xarray.Dataset", name: str, color: str) -> None:
    """One parameter's sizes with standard errors over seeds, where they are not all zero."""
    from jaxtheory import figures

    mean, error = one[name].mean("seed").values, one[name].std("seed", ddof=1).values / one.sizes["seed"] ** 0.5
    mean = np.where(mean > 0, mean, np.nan)
    if np.isnan(mean).all():
        return
    style = "-" if bool(one.right) else "--"
    label = f"{one.parameter.item()}: {one[f'{name}_slope'].item():.2f}"
    figures.theory_line(ax, one.width.values, mean, color=color, linestyle=style, label=label)
    figures.points(ax, one.width.values, mean, error, color=color)


class _Sizes(NamedTuple):
    """By leaf in the order of the program: initial sizes [leaf], changes and own changes [step leaf]."""

    leaves: Array
    initial: Array
    change: Array
    own_change: Array


def _pair(network: Any) -> tuple[Init, Apply]:
    if hasattr(network, "init") and hasattr(network, "apply"):
        return network.init, network.apply
    pair = isinstance(network, (tuple, list)) and len(network) == 2 and all(map(callable, network))
    require(pair, "make", type(network).__name__, "return a network or (init, apply)", "return both functions")
    return network[0], network[1]


def _risk(loss: str | Risk) -> Risk:
    if callable(loss):
        return loss
    one = losses.resolve(loss)
    return lambda outputs, targets: jax.vmap(one)(outputs, targets).mean()


def _course(
    init: Init,
    apply: Apply,
    optimizer: optax.GradientTransformation,
    risk: Risk,
    steps: int,
    batch: tuple[PyTree, PyTree],
) -> Callable[[Array], _Sizes]:
    """Sizes during the training that starts from one key."""
    x, y = jax.tree.map(jnp.asarray, batch)

    def course(key: Array) -> _Sizes:
        start = init(key)
        structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (start, x))
        closed = jax.make_jaxpr(apply)(*structs)
        reading = read(closed, len(jax.tree.leaves(start)))

        def seen(params: PyTree, moved: PyTree) -> Found:
            values = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
            others: Moved = [*jax.tree.leaves(moved)]
            found: Found = {}
            _run(closed, values, [*others, *[None] * (len(values) - len(others))], (), reading, found)
            return found

        first = seen(start, start)
        order = list(first)

        def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], tuple[Array, Array]]:
            params, state = carry
            gradient = jax.grad(lambda p: risk(apply(p, x), y))(params)
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            now, own = seen(params, params), seen(start, params)
            change = [_size([a - b for (a, _), (b, _) in zip(now[i], first[i], strict=True)]) for i in order]
            return (params, state), (jnp.stack(change), jnp.stack([_size([d for _, d in own[i]]) for i in order]))

        _, (change, own_change) = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
        initial = jnp.stack([_size([a for a, _ in first[i]]) for i in order])
        return _Sizes(jnp.array(order), initial, change, own_change)

    return course


def _size(arrays: Sequence[Array | None]) -> Array:
    """Root mean square of all entries."""
    flat = jnp.concatenate([a.astype(jnp.float32).ravel() for a in arrays if a is not None])
    return jnp.sqrt(jnp.mean(flat**2))


def _run(
    jaxpr: Program, values: Values, others: Moved, path: Path, reading: Reading, found: Found
) -> tuple[Values, Moved]:
    """Evaluate a jaxpr; `others` are the values of parameters that have moved, of which the uses see both.

    Found at each use of a parameter: the output, and its change when this parameter alone moves.
    """
    body, consts = opened(jaxpr)
    known: dict[Atom, Array] = dict(zip([*body.constvars, *body.invars], [*consts, *values], strict=True))
    moved: dict[Atom, Array] = {var: other for var, other in zip(body.invars, others, strict=True) if other is not None}
    for number, equation in enumerate(body.eqns):
        here = (*path, number)
        now = [atom.val if isinstance(atom, Literal) else known[atom] for atom in equation.invars]
        then = [None if isinstance(atom, Literal) else moved.get(atom) for atom in equation.invars]
        if equation.primitive.name in CALLS:
            outs, alternatives = _run(body_of(equation), now, then, here, reading, found)
        elif equation.primitive.name == "scan":
            outs, alternatives = _scan(equation, now, then, here, reading, found)
        else:
            outs, alternatives = _evaluate(equation, now, then, here, reading, found)
        known |= dict(zip(equation.outvars, outs, strict=True))
        moved |= {v: a for v, a in zip(equation.outvars, alternatives, strict=True) if a is not None}
    outs = [atom.val if isinstance(atom, Literal) else known[atom] for atom in body.outvars]
    return outs, [None if isinstance(atom, Literal) else moved.get(atom) for atom in body.outvars]


def _evaluate(
    equation: Equation, now: Values, then: Moved, here: Path, reading: Reading, found: Found
) -> tuple[Values, Moved]:
    outs = bind(equation, now)
    nothing: Moved = [None] * len(equation.outvars)
    if all(other is None for other in then):
        return outs, nothing
    alternatives = bind(equation, [a if b is None else b for a, b in zip(now, then, strict=True)])
    for use in reading.sites.get(here, ()):
        found.setdefault(use.leaf, []).append((outs[0], alternatives[0] - outs[0]))
    return outs, alternatives if here in reading.alone or here in reading.through else nothing


def _scan(
    equation: Equation, now: Values, then: Moved, here: Path, reading: Reading, found: Found
) -> tuple[Values, Moved]:
    consts, carry = scan_sections(equation.params)
    fixed, start, rows = now[:consts], now[consts : consts + carry], now[consts + carry :]

    def turn(state: Values, row: tuple[Values, Moved]) -> tuple[Values, tuple[Values, Found]]:
        inside: Found = {}
        values = [*fixed, *state, *row[0]]
        others = [*then[:consts], *[None] * carry, *row[1]]
        outs, _ = _run(equation.params["jaxpr"], values, others, here, reading, inside)
        return outs[:carry], (outs[carry:], inside)

    length, reverse = equation.params["length"], equation.params["reverse"]
    xs = (rows, then[consts + carry :])
    last, (stacked, inside) = jax.lax.scan(turn, start, xs, length=length, reverse=reverse)
    for leaf, uses in inside.items():
        found.setdefault(leaf, []).extend(uses)
    outs = [*last, *stacked]
    return outs, [None] * len(outs)


def _dataset(
    how: Parameterization, widths: Sequence[int], sizes: list[_Sizes], steps: int, seeds: int
) -> "xarray.Dataset":
    import xarray

    order = [int(i) for i in sizes[0].leaves[0]]
    coords = {
        "parameter": [how.weights[i].path for i in order],
        "role": ("parameter", [jax.tree.leaves(how.roles)[i] for i in order]),
        "width": list(widths),
        "seed": range(seeds),
        "step": range(1, steps + 1),
    }
    over_time = ("width", "seed", "step", "parameter")
    dims = {"initial": ("width", "seed", "parameter"), "change": over_time, "own_change": over_time}
    stacked = {name: (dims[name], np.stack([getattr(s, name) for s in sizes])) for name in dims}
    dataset = xarray.Dataset(stacked, coords).transpose("step", "parameter", "width", "seed")
    for name in dims:
        slope, error = _slopes(dataset[name])
        dataset = dataset.assign({f"{name}_slope": slope, f"{name}_slope_error": error})
    expected = [_INITIAL.get(role, np.nan) for role in dataset.role.values]
    dataset["initial_expected"] = ("parameter", expected)
    dataset["flat"] = _within(dataset, "change", 0.0)
    initial = _within(dataset, "initial", dataset.initial_expected)
    own = _first(_within(dataset, "own_change", 0.0), (dataset.own_change > 0).all(("width", "seed")))
    dataset["right"] = initial & own
    names = dataset.parameter.values
    wrong = [*names[~initial.values], *names[(initial & ~own).values]]
    return dataset.assign_attrs(wrong=[str(name) for name in wrong])


def _slopes(sizes: "xarray.DataArray") -> tuple["xarray.DataArray", "xarray.DataArray"]:
    """Slope in logarithms of the root mean square over seeds, over the upper half of the widths, and its error.

    The standard error is that of the jackknife, which leaves out one seed at a time.
    """
    upper = sizes.isel(width=slice(min(sizes.sizes["width"] // 2, sizes.sizes["width"] - 2), None)).astype(float)
    u = np.log(upper.width.astype(float))
    u = u - u.mean()

    def slope(mean_square: "xarray.DataArray") -> "xarray.DataArray":
        logs = np.log(mean_square.where(mean_square > 0)) / 2
        return (u * logs).sum("width", skipna=False) / (u**2).sum()

    seeds, squares = upper.sizes["seed"], upper**2
    without = slope((squares.sum("seed") - squares) / (seeds - 1))
    return slope(squares.mean("seed")), without.std("seed") * (seeds - 1) ** 0.5


def _within(dataset: "xarray.Dataset", name: str, expected: "xarray.DataArray | float") -> "xarray.DataArray":
    """Whether a slope is as expected; what has no slope, or none expected, is not judged."""
    off = abs(dataset[f"{name}_slope"] - expected)
    return ~(off > _FLAT + 3 * dataset[f"{name}_slope_error"])


def _first(values: "xarray.DataArray", moves: "xarray.DataArray") -> "xarray.DataArray":
    """The value at the first step at which all networks move a parameter; True where there is none."""
    return values.isel(step=moves.argmax("step")) | ~moves.any("step")
