"""The infinite-width limit of a network as it is written."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import positive, require
from jaxtheory.infinite import inputs
from jaxtheory.infinite.evaluation import (
    Compiled,
    Settings,
    compile_plans,
    decide,
    moments,
    outside,
    structure,
    swap_examples,
)
from jaxtheory.infinite.models import Model, model_of
from jaxtheory.infinite.monte_carlo import MonteCarlo
from jaxtheory.infinite.prior import Moments, Prior, Role, require_rule
from jaxtheory.infinite.trace import BATCH, draws_together, require_apart
from jaxtheory.kernels.gram import gram

_ENTRIES = 2**16  # of the largest array of one block: it stays in a core's cache


class Both(NamedTuple):
    """The two kernels of one pass."""

    nngp: Float[Array, "n1 n2"]
    ntk: Float[Array, "n1 n2"]


class Estimate(NamedTuple):
    """The two kernels and their standard errors, which are zero where nothing is drawn."""

    nngp: Float[Array, "n1 n2"]
    ntk: Float[Array, "n1 n2"]
    nngp_error: Float[Array, "n1 n2"]
    ntk_error: Float[Array, "n1 n2"]


class Limit(NamedTuple):
    """Kernel functions of the limit: `nngp(x1, x2)`, `ntk(x1, x2)`, `both(x1, x2)`; without x2, of x1 with itself.

    `estimate(x1, x2)` gives both with their standard errors, for limits that are drawn by Monte Carlo. `prior(path,
    shape)` are the moments that were used, to draw such networks or to validate an initializer.
    """

    nngp: Callable[..., Float[Array, "n1 n2"]]
    ntk: Callable[..., Float[Array, "n1 n2"]]
    both: Callable[..., Both]
    estimate: Callable[..., Estimate]
    prior: Prior


def limit(
    f: object,
    params: PyTree,
    x: PyTree,
    *,
    prior: Prior,
    scale: float = 3.0,
    check_width: bool = True,
    monte_carlo: MonteCarlo | None = None,
    positions: Literal["pairs", "equal"] = "pairs",
) -> Limit:
    r"""The infinite-width limit of a network: covariance of its outputs at initialization, and its NTK.

        nngp(x, x') = lim E[f_i(x) f_i(x')],   ntk(x, x') = lim Σ_θ weight_θ ∂_θ f_i(x) ∂_θ f_i(x')

    for one output channel i. The program is read as it is (its jaxpr at batch size one), with its parameters Gaussian:
    an axis that a weight makes is an axis of channels, and averages over channels are replaced by expectations. What
    the program computes besides (shapes, masks, positions, normalization by averages) stays what it is.
    Where channels have several axes, sums over those that are fewer than the channels kept (heads, members of an
    ensemble, groups of eight) add independent copies, and sums over the last and longest are averages. Heads and group
    normalization are therefore read at widths of at least the square of their number; shapes are enough.

    Args:
        f: a function f(params, x) of a batch, whose value is an array [n channels], with axes of positions as in
            [n h w channels], or a tree of such arrays; or a Flax module (linen, or NNX, which brings its parameters:
            pass params=None). In training mode, masks of dropout are averaged over, not drawn: those of an example
            with itself are one, those of two examples independent, or all one where f draws them without a batch axis.
        params: parameters, or their shapes (`jax.eval_shape` of an initializer): only shapes and paths are used.
        x: a batch of inputs, or its shape; the kernels take inputs of any shape that f takes.
        prior: (path, shape) -> `Moments`; see `jaxtheory.infinite.prior`.
        scale: the largest standard deviation of pre-activations for which activations without a closed form are exact.
        check_width: also read the program at twice its width, and compare: a function of its parameters' shapes, or a
            linen module whose widths are attributes. Widths written into methods, and NNX modules, cannot be changed.
        monte_carlo: draw what has no closed form: attention scores that keep fluctuating, as in softmax(q kᵀ/√d), with
            their position biases, where the kernels are those of many heads; nonlinearities of several Gaussians, as
            in relu(x + f(x)), gates of LSTM and GRU; max-pooling, sorted positions, activations of pooled activations.
            `estimate` has the standard errors. Every entry uses the same key. Positive semidefinite up to the errors.
        positions: of outputs with positions, all "pairs", in kernels [n1, n2, h, w, h, w] of x[i] at the first and
            x'[j] at the last, or only "equal" ones, [n1, n2, h, w], for less.

    Returns:
        `Limit`, whose functions of (x1, x2 = None) return arrays, or trees of them where f does: jittable,
        differentiable, in the precision of the inputs. Without x2 the matrix is symmetric, half of it is computed, and
        its diagonal has correlation 1 exactly.

    Raises:
        NoLimitError: an operation has no limit or none that is known here: named, with the line of the user's program.

    Cost: for each pair of examples what a layer needs of its places: one number for dense layers and flattened images,
        one for each pair of pixels under global pooling or attention. Depth in a `lax.scan` stays one.
    Source: Neal (1996); Lee et al. (2018); Jacot, Gabriel and Hongler (2018); Yang (2019, 2020), Tensor Programs I, II;
        Hron et al. (2020), Infinite attention, for the scores over √d.

    >>> f = lambda p, x: jax.nn.relu(x @ p["in"]) @ p["out"]
    >>> shapes = {"in": jax.ShapeDtypeStruct((3, 64), "float32"), "out": jax.ShapeDtypeStruct((64, 1), "float32")}
    >>> from jaxtheory.infinite import prior
    >>> kernels = limit(f, shapes, jnp.ones((1, 3)), prior=prior.ntk(sigma_w=2**0.5))
    >>> kernels.both(jnp.ones((1, 3)))
    Both(nngp=Array([[2.]], dtype=float32), ntk=Array([[4.]], dtype=float32))
    """
    require_rule("prior", prior)
    draws = _check_draws(monte_carlo)
    scale = positive("scale", scale, "pass the largest standard deviation of the pre-activations, e.g. scale=3.0")
    x = inputs.batch("x", x)
    model = model_of(f, params, x)
    many = functools.partial(model.trace, length=BATCH)
    x = inputs.require_batch(many, x)
    batch = many(inputs.spec(x))
    require_apart(batch)
    together = draws_together(batch)
    require(positions in ("pairs", "equal"), "positions", repr(positions), "be one of those", 'pass "pairs" or "equal"')
    base = Settings(inputs.numbers(inputs.spec(x)), False, scale, draws, together, positions == "equal")
    tree = structure(model, inputs.spec(x))
    found = [_one(model, x, prior, base._replace(output=i), check_width) for i in range(tree.num_leaves)]
    return found[0] if jax.tree_util.treedef_is_leaf(tree) else _many(found, tree)


def _one(model: Model, x: PyTree, prior: Prior, base: Settings, check_width: bool) -> Limit:
    """The limit of one of the arrays that a network returns."""
    decision = decide(model, prior, inputs.spec(x), base, check_width)

    @functools.cache
    def compiled(given: inputs.Spec, tangent: bool, x64: bool) -> Compiled:
        settings = base._replace(dtype=inputs.numbers(given), tangent=tangent)
        return outside(compile_plans, model.trace(given), decision, given, settings)

    def ready(x: PyTree, tangent: bool) -> Compiled:
        return compiled(inputs.spec(x), tangent, jnp.result_type(float) == jnp.float64)

    ready(x, True)  # raises here what it raises
    return _kernels(ready, base.draws, x, ResolvedPrior(prior, decision.roles))


@dataclass(frozen=True, eq=False)
class ResolvedPrior:
    """A prior with the roles that a program gives its parameters: the moments that a limit used."""

    prior: Prior
    roles: dict[str, Role]

    def __call__(self, path: str, shape: tuple[int, ...]) -> Moments:
        """The moments of a parameter."""
        return moments(self.prior, path, shape, self.roles.get(path))


def _many(found: list[Limit], tree: PyTreeDef) -> Limit:
    """The limits of several arrays as one, of trees."""

    def transposed(results: Sequence[tuple[Array, ...]]) -> list[PyTree]:
        return [tree.unflatten(part) for part in zip(*results, strict=True)]

    rules = [limit.prior for limit in found if isinstance(limit.prior, ResolvedPrior)]
    every = [item for rule in rules for item in rule.roles.items()]
    roles = dict(sorted(every, key=lambda item: item[1] != Role()))  # what one output does not use another may
    return Limit(
        lambda x1, x2=None: tree.unflatten([limit.nngp(x1, x2) for limit in found]),
        lambda x1, x2=None: tree.unflatten([limit.ntk(x1, x2) for limit in found]),
        lambda x1, x2=None: Both(*transposed([limit.both(x1, x2) for limit in found])),
        lambda x1, x2=None: Estimate(*transposed([limit.estimate(x1, x2) for limit in found])),
        ResolvedPrior(rules[0].prior, roles),
    )


def _check_draws(draws: object) -> MonteCarlo | None:
    known_kind = draws is None or isinstance(draws, MonteCarlo)
    require(known_kind, "monte_carlo", repr(draws), "be None or MonteCarlo", "pass MonteCarlo(jax.random.key(0))")
    return draws.checked() if isinstance(draws, MonteCarlo) else None


def _over_groups(
    entry: Callable[..., tuple[Array, Array]], draws: MonteCarlo | None
) -> Callable[..., tuple[Array, ...]]:
    """Kernel, tangent and their standard errors, from independent groups of draws if there are any."""

    def estimated(*examples: PyTree) -> tuple[Array, ...]:
        if draws is None:
            kernel, tangent = entry(*examples, None)
            return kernel, tangent, jnp.zeros_like(kernel), jnp.zeros_like(tangent)
        keys = jax.random.split(draws.key, draws.groups)
        groups = jax.vmap(lambda key: entry(*examples, key))(keys)
        return *(g.mean(0) for g in groups), *(g.std(0, ddof=1) / draws.groups**0.5 for g in groups)

    return estimated


Ready = Callable[[PyTree, bool], Compiled]  # of a batch, with the tangent or without


def _kernels(ready: Ready, draws: MonteCarlo | None, like: PyTree, rule: Prior) -> Limit:
    nngp, ntk, two, four = (_kernel(ready, draws, like, which) for which in (0, 1, (0, 1), (0, 1, 2, 3)))

    def both(x1: PyTree, x2: PyTree = None) -> Both:
        return Both(*jnp.moveaxis(two(x1, x2), -1, 0))

    def estimate(x1: PyTree, x2: PyTree = None) -> Estimate:
        return Estimate(*jnp.moveaxis(four(x1, x2), -1, 0))

    return Limit(nngp, ntk, both, estimate, rule)


def _kernel(ready: Ready, draws: MonteCarlo | None, like: PyTree, which: tuple[int, ...] | int) -> Callable[..., Array]:
    """The matrix of one of kernel, tangent and their standard errors, or of several of them on a last axis."""
    tangent = which != 0

    def chosen(parts: tuple[Array, ...]) -> Array:
        return parts[which] if isinstance(which, int) else jnp.stack([parts[i] for i in which], -1)

    def tile(x1: PyTree, x2: PyTree) -> Array:
        pair = _over_groups(ready(x1, tangent).pair, draws)
        return chosen(jax.vmap(jax.vmap(pair, (None, 0)), (0, None))(x1, x2))

    @jax.jit
    def against(x1: PyTree, x2: PyTree) -> Array:
        block = max(1, math.isqrt(_ENTRIES // ready(x1, tangent).entries))
        pairs = lambda i, j: tile(inputs.rows(x1, i), inputs.rows(x2, j))  # noqa: E731
        return gram(pairs, inputs.places(x1), inputs.places(x2), block=block)

    @jax.jit
    def alone(x: PyTree) -> Array:
        plan = ready(x, tangent)
        diagonal = chosen(jax.vmap(_over_groups(plan.diagonal, draws))(x))
        return _symmetric(tile, plan, x, diagonal, drawn=draws is not None)

    def whole_matrix(x1: PyTree, x2: PyTree = None) -> Array:
        same = x2 is None or x2 is x1
        x1 = inputs.like("x1", x1, like)
        return alone(x1) if same else against(x1, inputs.like("x2", x2, like, x1))

    return whole_matrix


def _symmetric(
    tile: Callable[[PyTree, PyTree], Array], plan: Compiled, x: PyTree, diagonal: Array, *, drawn: bool
) -> Array:
    """The matrix of a batch with itself, exactly symmetric, from tiles and the kernels of equal examples."""
    places = inputs.places(x)
    flip = functools.partial(swap_examples, positions=len(plan.output.axes), equal=plan.output.equal)
    whole = bool(plan.output.axes) and not plan.output.equal  # a mirror image has its positions swapped

    def pairs(i: Array, j: Array) -> Array:
        return tile(inputs.rows(x, i), inputs.rows(x, j))

    block = max(1, math.isqrt(_ENTRIES // plan.entries))
    matrix = gram(pairs, places, places if whole else None, block=block)
    # equal examples have correlation 1 exactly, which their product as two examples would miss by √eps in angle
    matrix = matrix.at[places, places].set(diagonal)
    # a pair and its mirror image are rounded, and draw one normal matrix, in two orders
    matrix = jax.lax.optimization_barrier(matrix)  # or each of the terms is computed in an order of its own
    return (matrix + flip(matrix)) / 2
