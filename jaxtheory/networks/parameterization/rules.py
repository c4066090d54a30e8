"""The rules of each parameterization, and the optimizer and the initial draw that follow from them."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from jaxtheory.checks import boundary, positive, require
from jaxtheory.networks.parameterization.advice import what_to_change
from jaxtheory.networks.parameterization.reading import traced
from jaxtheory.networks.parameterization.records import Reading
from jaxtheory.networks.parameterization.updates import multiplied

Rule = Literal["maximal update", "standard", "ntk"]
Optimizer = Literal["adam", "sgd"]
_STEPS = {
    "adam": "adabelief adagrad adam adamax adamaxw adamw adan ademamix adopt amsgrad lion madgrad nadam nadamw "
    "optimistic_adam optimistic_adam_v2 radam rmsprop rprop schedule_free_adamw sign_sgd signum sm3 yogi",
    "sgd": "noisy_sgd optimistic_gradient_descent schedule_free_sgd sgd",
}
# the size of their steps follows norms of parameters or of updates, for which there are no multipliers
_OTHER_STEPS = "adafactor dadapt_adamw dog dowg fromage galore lamb lars lbfgs muon novograd polyak_sgd prodigy"


class Weight(NamedTuple):
    """A parameter of the base network: axes contracted with data, axes kept, and how it is used.

    `lookup`: data pick entries of a table. `branch`: a residual branch holds it.
    """

    path: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    lookup: bool
    branch: bool


class Parameterization(NamedTuple):
    """How each parameter of a network is drawn and trained at its width; trees have the structure of the parameters.

    Attributes:
        roles: "input", "hidden", "readout", "embedding", "vector" (biases, scales of norms), or "fixed" where no axis
            grows.
        standard_deviations: of the initial entries, for unit gain; 1.0 for vectors and embeddings, whose constants do
            not depend on width.
        learning_rates: multipliers of the base network's learning rate.
        advice: what the program itself must change, e.g. attention scores divided by √d.
        weights: what was read of each parameter, in the order of the leaves.
        rule, steps, depth: "maximal update", "standard" or "ntk"; "adam" or "sgd"; residual branches, or None.
    """

    roles: PyTree[str]
    standard_deviations: PyTree[float]
    learning_rates: PyTree[float]
    advice: tuple[str, ...]
    weights: tuple[Weight, ...]
    rule: str
    steps: str
    depth: int | None

    def at(self, params: PyTree) -> "Parameterization":
        """The same parameterization at another width; multipliers are 1 at the base width (but for depth).

        Args:
            params: arrays or shapes in the structure of the base parameters.

        Raises:
            ValueError: another structure, or arrays of other ranks.
        """
        leaves, tree = _flat(params)
        shapes = [tuple(jnp.shape(leaf)) for leaf in leaves]
        _require_ranks([w.path for w in self.weights], [w.shape for w in self.weights], shapes)
        numbers = [_scales(self, weight, shape) for weight, shape in zip(self.weights, shapes, strict=True)]
        deviations, rates = ([float(pair[i]) for pair in numbers] for i in (0, 1))
        return self._replace(
            standard_deviations=tree.unflatten(deviations), learning_rates=tree.unflatten(rates)
        )  # roles stay: they say how the network is built, not how wide it is

    def start(self, key: Key[Array, ""], params: PyTree, gain: float = 1.0) -> PyTree:
        """Weights and tables N(0, gain² · standard_deviation²); vectors as they are in `params`.

        Args:
            key: of the draw.
            params: parameters as the network's own initializer makes them, at the width of this parameterization.
            gain: √2 for relu, say; > 0.

        >>> f = lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]
        >>> make = lambda n: {"w": jnp.ones((3, n)), "b": jnp.zeros(n), "v": jnp.ones((n, 1))}
        >>> mu = maximal_update(f, make(8), make(512), jnp.ones((2, 3)))
        >>> params = mu.start(jax.random.key(0), make(512))
        >>> f"{params['v'].std() * 512 / 8**0.5:.1f} {params['b'].std():.1f}"
        '1.0 0.0'
        """
        gain = positive("gain", gain, "use 1.0 for tanh, 2**0.5 for relu")
        leaves, tree = _flat(params)
        deviations = jax.tree.leaves(self.at(params).standard_deviations)
        weighs = [
            (weight.inputs or weight.lookup) and jnp.issubdtype(leaf.dtype, jnp.floating)
            for weight, leaf in zip(self.weights, leaves, strict=True)
        ]
        dtypes = [leaf.dtype for leaf, own in zip(leaves, weighs, strict=True) if own] or [jnp.dtype("float32")]
        total = sum(leaf.size for leaf, own in zip(leaves, weighs, strict=True) if own)
        drawn = jax.random.normal(key, (total,), max(dtypes, key=lambda d: d.itemsize))  # one draw compiles fast
        started, used = [], 0
        for leaf, own, deviation in zip(leaves, weighs, deviations, strict=True):
            if own:
                part = drawn[used : used + leaf.size].reshape(leaf.shape).astype(leaf.dtype)
                leaf, used = part * jnp.asarray(gain * deviation, leaf.dtype), used + leaf.size
            started.append(leaf)
        return tree.unflatten(started)

    def optimizer(
        self,
        make: Callable[..., optax.GradientTransformation],
        learning_rate: float | Array | Callable[[Any], Any],
        *,
        weight_decay: float | None = None,
        **options: Any,
    ) -> optax.GradientTransformation:
        r"""`make(learning_rate, **options)` with the update of each parameter times its multiplier.

        Decay is decoupled and does not depend on width: w ← w − learning_rate · weight_decay · w, with no multiplier.

        Args:
            make: e.g. `optax.adam`; one with steps of the kind that the parameterization was made for.
            learning_rate: of the base network, a number or a schedule.
            weight_decay: the default of `make` where it has one, else 0.
            options: passed on. Take Adam's `eps` well below the size of the gradients, which fall with width.

        Raises:
            ValueError: an optimizer of the other kind, or one whose steps follow norms of the parameters, as
                `optax.lamb`; a mask for the decay, which is not supported.
        """
        name = getattr(make, "__name__", str(make))
        other = {"adam": "sgd", "sgd": "adam"}[self.steps]
        hint = f'pass optimizer="{other}" when the parameterization is made'
        require(name not in _STEPS[other].split(), "make", name, f"have steps as {self.steps}", hint)
        own = name not in _OTHER_STEPS.split()
        require(own, "make", name, "have steps of the size of the rate or the gradient", f"use optax.{self.steps}")
        require("mask" not in options, "mask", "a mask", "be left out", "decay all parameters or use optax.masked")
        parameters = inspect.signature(make).parameters
        if "weight_decay" in parameters:
            default = parameters["weight_decay"].default
            weight_decay = default if weight_decay is None else weight_decay
            options["weight_decay"] = 0.0
        inner = make(learning_rate, **options)
        return multiplied(inner, jax.tree.leaves(self.learning_rates), learning_rate, weight_decay or 0.0)


@boundary
def maximal_update(
    f: Any,
    params: PyTree,
    wider_params: PyTree,
    x: PyTree,
    *,
    optimizer: Optimizer = "adam",
    depth: int | None = None,
    roles: Mapping[str, tuple[int, ...]] | None = None,
) -> Parameterization:
    r"""Maximal update for any network: every layer learns features at a rate that does not depend on width.

    The program f says which axes of each parameter it contracts and which it keeps, in whatever order a library stores
    them; the two sets of shapes say which axes grow. With depth L, the program must multiply its residual branches,
    h + g(h), by L^(−1/2), and Adam's rates of their parameters are multiplied by it.

    Args:
        f: `f(params, x)`, or a Flax linen module. Split modules of NNX and Equinox into parameters and the rest first.
        params: arrays or shapes of the base network, at which the learning rate was chosen.
        wider_params: those of the network to train, in the same structure.
        x: a batch of inputs, or its shapes.
        optimizer: kind of steps: "adam" for all whose steps have the size of the rate, "sgd" with or without momentum.
        depth: number of residual branches, ≥ 1; None leaves depth out.
        roles: path of a parameter (such as "layer/kernel") -> the axes that count as fan-in, () for a vector.

    Returns:
        `Parameterization` of the wider network. A `UserWarning` repeats its `advice`, where the program

        - scales scores of attention by 1/√d, or multiplies a weight, its inputs or its product by 1/√fan_in;
        - sums activations over the width d, or products of them, as hᵀWh, without the factor 1/d that makes their sum,
          once learned, of order 1;
        - divides a weight by its norm, so that its initial size is not that of the draw (readouts must fall as 1/d);
        - joins inputs of which some do not grow.

        Numbers of the wider network are read where f runs on `wider_params` too, as `Widened.apply` does.

    Raises:
        ValueError: no axis grows; another structure; a growing axis that the program both contracts and keeps (tied
            weights), or uses in a way that is not read: named by the path of the parameter, for `roles`.

    Cost: one or two traces of f. Sources: Yang et al. (2022), Tensor Programs V, table 3; for depth Bordelon et al.
    (2023), Depthwise hyperparameter transfer in residual networks, and Yang et al. (2023), Tensor Programs VI.

    >>> f = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["in"]) @ p["hidden"]) @ p["out"]
    >>> shapes = lambda n: {"in": (3, n), "hidden": (n, n), "out": (n, 1)}
    >>> make = lambda n: {k: jnp.zeros(s) for k, s in shapes(n).items()}
    >>> mu = maximal_update(f, make(16), make(64), jnp.ones((2, 3)))
    >>> mu.learning_rates, mu.standard_deviations["out"]
    ({'hidden': 0.25, 'in': 1.0, 'out': 0.25}, 0.0625)
    """
    return _parameterize("maximal update", f, params, wider_params, x, optimizer=optimizer, depth=depth, roles=roles)


@boundary
def standard(
    f: Any,
    params: PyTree,
    wider_params: PyTree,
    x: PyTree,
    *,
    optimizer: Optimizer = "adam",
    roles: Mapping[str, tuple[int, ...]] | None = None,
) -> Parameterization:
    """The standard parameterization: standard deviations 1/√fan_in and one learning rate for all.

    Args, Raises: as `maximal_update`.

    >>> f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]
    >>> base, wide = ({"in": jnp.ones((4, n)), "out": jnp.ones((n, 1))} for n in (8, 64))
    >>> standard(f, base, wide, jnp.ones((2, 4))).standard_deviations
    {'in': 0.5, 'out': 0.125}
    """
    return _parameterize("standard", f, params, wider_params, x, optimizer=optimizer, roles=roles)


@boundary
def ntk(
    f: Any,
    params: PyTree,
    wider_params: PyTree,
    x: PyTree,
    *,
    optimizer: Optimizer = "sgd",
    roles: Mapping[str, tuple[int, ...]] | None = None,
) -> Parameterization:
    """The neural tangent parameterization without multipliers: rates 1/r_in for SGD, 1/√r_in for Adam.

    It is w ~ N(0, 1) in the layer w x/√fan_in at a fixed rate, written for W = w/√fan_in. The kernel stays as it is.
    Source: Jacot et al. (2018), Neural tangent kernel.

    Args, Raises: as `maximal_update`.

    >>> f = lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"]
    >>> base, wide = ({"in": jnp.ones((4, n)), "out": jnp.ones((n, 1))} for n in (8, 64))
    >>> ntk(f, base, wide, jnp.ones((2, 4))).learning_rates
    {'in': 1.0, 'out': 0.125}
    """
    return _parameterize("ntk", f, params, wider_params, x, optimizer=optimizer, roles=roles)


def _parameterize(
    rule: Rule, f: Any, params: PyTree, wider: PyTree, x: PyTree, *,
    optimizer: Optimizer, roles: Mapping[str, tuple[int, ...]] | None, depth: int | None = None,
) -> Parameterization:  # fmt: skip
    apply = f.apply if hasattr(f, "apply") and hasattr(f, "init") else f
    require(callable(apply), "f", repr(f)[:60], "be a function f(params, x)", "pass model.apply")
    require(depth is None or depth >= 1, "depth", depth, "be >= 1", "count the residual branches")
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    wider_leaves, _ = jax.tree_util.tree_flatten_with_path(wider)
    same = [path for path, _ in wider_leaves] == [path for path, _ in leaves]  # a module's structure holds its sizes
    require(same, "wider_params", "other paths", "have the structure of params", "change the widths alone")
    base, wide = (_shapes(name, part) for name, part in (("params", params), ("wider_params", wider)))
    _require_ranks(paths, base, wide)
    roles = {} if roles is None else dict(roles)
    unknown = sorted(set(roles) - set(paths))
    require(not unknown, "roles", unknown, "name parameters", f"use the paths {', '.join(paths)}")
    reading = traced(apply, params, x)
    weights = tuple(_weight(*about, reading, roles, i) for i, about in enumerate(zip(paths, base, wide, strict=True)))
    moving = [w for w, shape in zip(weights, wide, strict=True) if _grows(w, shape, (*w.inputs, *w.outputs))]
    hint = "build the second network wider, e.g. twice"
    require(bool(moving), "wider_params", "no other width", "have axes that grow from those of params", hint)
    named = _flat(wider)[1].unflatten([_role(weight, shape) for weight, shape in zip(weights, wide, strict=True)])
    how = Parameterization(named, None, None, (), weights, rule, optimizer, depth).at(wider)
    if rule == "maximal update":
        how = how._replace(advice=_advice(how, apply, params, wider, x, reading=reading, moving=moving))
    for line in how.advice:
        warnings.warn(line, UserWarning, stacklevel=4)
    return how


def _advice(
    how: Parameterization,
    apply: Callable[[PyTree, PyTree], PyTree],
    params: PyTree,
    wider: PyTree,
    x: PyTree,
    *,
    reading: Reading,
    moving: list[Weight],
) -> tuple[str, ...]:
    contracted = {i: w.path for i, w in enumerate(how.weights) if (w.inputs or w.lookup) and w in moving}
    deviations = (jax.tree.leaves(each.standard_deviations) for each in (how.at(params), how))
    growth = {i: b / a for i, (a, b) in enumerate(zip(*deviations, strict=True))}
    pairs = zip(how.weights, _shapes("wider_params", wider), strict=True)
    grown = {m for w, shape in pairs for m, k in zip(w.shape, shape, strict=True) if m != k}
    return what_to_change(apply, wider, x, reading, depth=how.depth, weights=contracted, growth=growth, grown=grown)


def _weight(
    path: str, shape: tuple[int, ...], wide: tuple[int, ...], reading: Reading, roles: dict[str, Any], leaf: int
) -> Weight:
    """What the program does with one parameter, or what `roles` says of it."""
    branch = any(leaf in leaves for leaves, _ in reading.branches)
    if path in roles:
        given = roles[path]
        sound = isinstance(given, (tuple, list)) and all(type(a) is int and 0 <= a < len(shape) for a in given)
        require(sound, "roles", f"{path}: {given}", f"give a tuple of axes of shape {shape}", "count axes from 0")
        kept = tuple(a for a in range(len(shape)) if a not in given)
        return Weight(path, shape, tuple(sorted(set(given))), kept, False, branch)
    uses = [use for use in reading.uses if use.leaf == leaf]
    inputs = frozenset(axis for use in uses for axis in use.inputs)
    outputs = frozenset(axis for use in uses for axis in use.outputs)
    lookup = frozenset(axis for use in uses for axis in use.lookup)
    growing = {a for a, (m, k) in enumerate(zip(shape, wide, strict=True)) if m != k}
    unread = sorted(reading.unread.get(leaf, ()))
    hint = f"say which axes are its fan-in, e.g. roles={{{path!r}: (0,)}}, or () for none"
    for problem, found in (
        (growing and unread, f"used in {', '.join(unread)}"),
        (growing & inputs & (outputs | lookup), "a growing axis that is contracted in one place and kept in another"),
        (not inputs and len(growing & outputs) > 1, "two growing axes that are kept where it meets the data"),
        (growing - inputs - outputs - lookup, "a growing axis that is neither contracted nor kept"),
    ):
        if problem:
            raise ValueError(f"parameter {path} must have one fan-in, got {found}; {hint}.")
    kept = tuple(sorted(outputs - inputs - lookup))
    return Weight(path, shape, tuple(sorted(inputs)), kept, bool(lookup), branch)


def _grows(weight: Weight, shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    return any(shape[a] != weight.shape[a] for a in axes)


def _role(weight: Weight, shape: tuple[int, ...]) -> str:
    into, out = _grows(weight, shape, weight.inputs), _grows(weight, shape, weight.outputs)
    if into:
        return "hidden" if out else "readout"
    if not out:
        return "fixed"
    return "embedding" if weight.lookup else "input" if weight.inputs else "vector"


def _scales(how: Parameterization, weight: Weight, shape: tuple[int, ...]) -> tuple[float, float]:
    """Standard deviation and learning-rate multiplier of one parameter at a width."""
    r_in, r_out = (math.prod(shape[a] / weight.shape[a] for a in axes) for axes in (weight.inputs, weight.outputs))
    deviation = math.prod(shape[a] for a in weight.inputs) ** -0.5
    adam = how.steps == "adam"
    if how.rule == "standard":
        return deviation, 1.0
    if how.rule == "ntk":
        return deviation, r_in**-0.5 if adam else 1 / r_in
    kept = any(shape[a] != weight.shape[a] for a in weight.outputs)
    slower = how.depth**-0.5 if how.depth is not None and weight.branch and adam else 1.0
    return deviation if kept else deviation * r_in**-0.5, slower / r_in if adam else r_out / r_in


def _flat(params: PyTree) -> tuple[list[Any], Any]:
    return jax.tree.flatten(params)


def _shapes(name: str, params: PyTree) -> list[tuple[int, ...]]:
    arrays = [hasattr(leaf, "shape") or isinstance(leaf, (int, float)) for leaf in jax.tree.leaves(params)]
    hint = "split modules into arrays and the rest first"
    require(bool(arrays) and all(arrays), name, "other leaves", "hold arrays or their shapes", hint)
    return [tuple(jnp.shape(leaf)) for leaf in jax.tree.leaves(params)]


def _require_ranks(paths: list[str], base: list[tuple[int, ...]], wide: list[tuple[int, ...]]) -> None:
    hint = "change the widths alone"
    require(len(base) == len(wide), "params", f"{len(wide)} arrays", f"have {len(base)} arrays as the base", hint)
    for path, one, other in zip(paths, base, wide, strict=True):
        require(len(one) == len(other), path, f"shapes {one} and {other}", "have the same number of axes", hint)
        require(0 not in (*one, *other), path, f"shapes {one} and {other}", "have entries", "use widths >= 1")
