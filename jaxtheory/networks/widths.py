"""Networks of many widths from many seeds, trained together: the measured side of every curve over width.

Widths are padded to a few sizes and masked, so that one compiled program trains a whole bucket of them, sharded over
the devices; a padded network is its unpadded twin, to round-off. Flax modules go the same way, one program a width.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree, Shaped

from jaxtheory import activations
from jaxtheory.checks import boundary, nonnegative, quantity, require
from jaxtheory.networks import abc as families
from jaxtheory.networks.buckets import buckets, ending, waste
from jaxtheory.networks.fitting import Build, Loss, Recipe, Task, known_number, seed_list, task, whole_numbers
from jaxtheory.networks.multilayer import Activation, Draw, Draws, JointDraws, Multilayer, Width, multilayer
from jaxtheory.networks.runs import Bucket, Builds, require_state, run_buckets, setting
from jaxtheory.networks.training import Training, check_optimizer
from jaxtheory.sweeps.blocks import points_mesh
from jaxtheory.sweeps.checkpoint import Checkpoint

if TYPE_CHECKING:
    import xarray

Parameterization = Literal["standard", "ntk", "mup"]

# What a program costs beside its networks, in rows times parameters that take as long on a CPU: each step, its
# compilation (2 s).
_CALL, _COMPILATION = 2e6, 2e10
_EXCESS = 0.1  # of the least cost, which is known no better


class WidthTraining(NamedTuple):
    """What a sweep over widths left.

    `dataset` holds train_loss, train_error, test_loss and test_error [width, seed, step], `status` [width, seed], and
    beside `width` the number of `parameters` and the `padded` size. `state` continues the sweep. `predict(x)` is the
    outputs [width, seed, points, outputs] of every trained network.
    """

    dataset: "xarray.Dataset"
    state: tuple[Bucket, ...]
    predict: Callable[[Array], np.ndarray]


class Architecture(NamedTuple):
    """A multilayer network but for its true width, which is traced."""

    inputs: int
    outputs: int
    padded: int
    depth: int
    activation: Activation
    abc: families.ABC
    weight_variance: float
    dtype: np.dtype

    def __call__(self, width: Width) -> Multilayer:
        return multilayer(
            self.inputs, width, self.outputs, hidden_layers=self.depth, activation=self.activation, abc=self.abc,
            weight_variance=self.weight_variance, bias_variance=1.0, bias_start=0.0, dtype=self.dtype,
            padded=self.padded,
        )  # fmt: skip

    @property
    def draws(self) -> Draw:
        """Standard Gaussians that start this network and all narrower ones; biases start at zero."""
        sizes = (self.inputs, *[self.padded] * self.depth, self.outputs)
        joint, apart = JointDraws(sizes, self.dtype), Draws(sizes, False, self.dtype)
        return joint if joint.size <= 2 * sum(a * b for a, b in itertools.pairwise(sizes)) else apart


@boundary
def train_widths(
    x: Float[Array, "n d"],
    y: Shaped[Array, "n *outputs"],
    x_test: Float[Array, "m d"],
    y_test: Shaped[Array, "m *outputs"],
    *,
    widths: Sequence[int],
    seeds: int | Sequence[int],
    optimizer: optax.GradientTransformation,
    steps: int,
    depth: int = 1,
    activation: str | Activation = "relu",
    loss: Loss = "mse",
    label_noise: float = 0.0,
    batch_size: int | None = None,
    parameterization: Parameterization | families.ABC = "standard",
    weight_variance: float = 1.0,
    record_every: int | None = None,
    padded: Sequence[int] | None = None,
    mesh: Mesh | None = None,
    state: tuple[Bucket, ...] | None = None,
    checkpoint: Checkpoint | None = None,
) -> WidthTraining:
    r"""Train fully connected networks of every width from every seed, a bucket of widths in each compiled program.

    Loss: "mse" (1/n) Σ_i ‖f(x_i) − y_i‖², with one-hot y_i for labels, or "xent", the mean cross-entropy. Each hidden
    unit and output has a bias, trained from zero. Seed s starts from
    `multilayer(…).init(k)`, k the first of split(key(s), 3), whatever the padding; the second key flips labels, the
    third draws minibatches. Seeds agree across widths: they share labels and batches, and narrow begins inside wide.

    Args:
        x, x_test: points; their dtype is that of the networks (float32 for integers and narrower floats).
        y, y_test: labels 0..K−1, or floating targets [·] or [·, outputs].
        widths: of the hidden layers, distinct, ≥ 1.
        seeds: a count, or the numbers themselves.
        optimizer: any optax transformation that acts entry by entry or through norms, as SGD, Adam, AdamW and clipping
            do (one that looks at the shapes of arrays, as Adafactor does, would see the padding). Give the same object
            again to reuse compiled programs.
        steps: of the optimizer.
        depth: number of hidden layers.
        activation: a name or an elementwise function.
        label_noise: fraction of training labels that each seed flips to another class.
        batch_size: of minibatches of distinct samples; None for full batches.
        parameterization: "standard" (variance weight_variance / fan-in, the optimizer as given), "ntk", "mup" (for
            SGD), or any `ABC`, as `mup_adam(depth + 1)`; updates are multiplied by its width^(−c).
        weight_variance: σ_w².
        record_every: steps between records, a divisor of `steps`; None for the end alone.
        padded: sizes: widths up to the first share a program, then those up to the second, and so on. None for the
            buckets of `state`, or those that cost least for this number of `steps`; networks agree to round-off
            whatever the buckets, and bit for bit in the same ones.
        mesh: whose devices to use; None for all of this process.
        state: of an earlier call with the same arguments but `steps`: training goes on in its buckets, bit for bit as
            in one call with the `padded` of its dataset.
        checkpoint: where progress is kept between records, so that the same call, made again after it was killed, goes
            on from there; that of a point of a sweep, `sweeps.run(point, ..., vmap=False)`.

    Returns:
        `WidthTraining`. A network that diverged has the status NOT_FINITE and NaN losses.

    Raises:
        ValueError: a width 0, fewer samples than classes, NaN data, label noise outside [0, 1], a mesh that is not
            one, the state of other widths, and whatever else does not fit, by name.

    Cost: at most ⌈log_1.3(max/min width)⌉ + 1 compilations of the training program, up to four at a time and while
    earlier buckets train; the fewest for which compilation and `steps` together take at most 10% longer than for any
    other buckets, by a model of a CPU. One for short runs of small networks; the attribute `waste` of the dataset says
    how much of each step is padding, little for large networks and many steps.
    Memory of a bucket, over all devices: networks times parameters times (2 + what the optimizer keeps, 2 for Adam) for
    the state, which is held once, and networks times about 4 depth (n + m) width numbers of activations; and the draws
    of the widest network, once for each seed. Source: Belkin, Hsu, Ma, Mandal (2019); Nakkiran et al. (2020).

    >>> x = jax.random.normal(jax.random.key(0), (8, 3))
    >>> y = (x[:, 0] > 0).astype(jnp.int32)
    >>> sweep = train_widths(x, y, x, y, widths=[2, 5], seeds=2, optimizer=optax.sgd(0.1), steps=4, record_every=2)
    >>> dict(sweep.dataset.sizes), sweep.dataset.parameters.values.tolist()
    ({'width': 2, 'seed': 2, 'step': 2}, [14, 32])
    """
    data, outputs = task(x, y, x_test, y_test, label_noise, loss)
    sizes, numbers = whole_numbers("widths", widths, 1, "list the widths, as [8, 16, 32]"), seed_list(seeds)
    require(depth >= 1, "depth", depth, "be >= 1", "count the hidden layers")
    _require_batch(x, batch_size)
    exponents = _exponents(parameterization, depth + 1)
    recipe = _recipe(optimizer, steps, record_every, loss, batch_size, outputs)
    function, variance = activations.resolve(activation), known_number("weight_variance", weight_variance)
    nonnegative("weight_variance", variance, "pass σ², not −σ")

    def build(padded: int) -> Architecture:
        return Architecture(x.shape[1], outputs, padded, depth, function, exponents, variance, x.dtype)

    def parameters(width: int) -> int:
        return (x.shape[1] + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs

    rows = len(numbers) * (batch_size or len(x))
    given = _ends(padded, sizes, state)
    groups = ending(sizes, given) if given else buckets(
        sizes, lambda width: rows * parameters(width), _CALL + _COMPILATION / steps, _EXCESS
    )  # fmt: skip
    return _sweep(
        {group: build(group[-1]) for group in groups},
        build(max(sizes)).draws,
        recipe,
        data,
        numbers,
        parameters,
        state=state,
        mesh=mesh,
        checkpoint=checkpoint,
    )


@boundary
def train_family(
    make_model: Callable[..., Any],
    widths: Sequence[int],
    x: Float[Array, "n ..."],
    y: Shaped[Array, "n *outputs"],
    x_test: Float[Array, "m ..."],
    y_test: Shaped[Array, "m *outputs"],
    *,
    seeds: int | Sequence[int],
    optimizer: optax.GradientTransformation,
    steps: int,
    loss: Loss = "mse",
    label_noise: float = 0.0,
    batch_size: int | None = None,
    record_every: int | None = None,
    mesh: Mesh | None = None,
    state: tuple[Bucket, ...] | None = None,
    checkpoint: Checkpoint | None = None,
) -> WidthTraining:
    """Train any family of Flax networks over widths and seeds: as `train_widths`, with one compiled program a width.

    Args:
        make_model: `make_model(width, rngs)` is a Flax NNX module that maps [n, *shape] to [n, outputs], its variables
            all `nnx.Param` (normalize by layer or group, not by batch); the same object again reuses programs.
        widths: whatever `make_model` takes for one, distinct, ≥ 1: channels, the k of a residual network.
        x, y, x_test, y_test, seeds, optimizer, steps, loss, label_noise, batch_size, record_every, mesh, state,
            checkpoint: as in `train_widths`; x may have any shape behind its first axis. Seed s starts from the key
            that it has there.

    Returns:
        `WidthTraining`, without padding.

    Raises:
        ValueError: as `train_widths`, and a module that holds more than parameters.

    Cost: one compilation a width. Source: Nakkiran et al. (2020), section 5.

    >>> from flax import nnx
    >>> x = jax.random.normal(jax.random.key(0), (8, 3))
    >>> y = (x[:, 0] > 0).astype(jnp.int32)
    >>> def make_model(width, rngs):
    ...     return nnx.Sequential(nnx.Linear(3, width, rngs=rngs), nnx.relu, nnx.Linear(width, 2, rngs=rngs))
    >>> family = train_family(make_model, [2, 4], x, y, x, y, seeds=2, optimizer=optax.sgd(0.1), steps=3)
    >>> family.dataset.parameters.values.tolist()
    [14, 26]
    """
    from jaxtheory.networks.flax_family import Family  # Flax is imported by those who use it

    data, outputs = task(x, y, x_test, y_test, label_noise, loss)
    sizes, numbers = sorted(whole_numbers("widths", widths, 1, "list the widths, as [8, 16, 32]")), seed_list(seeds)
    _require_batch(x, batch_size)
    recipe = _recipe(optimizer, steps, record_every, loss, batch_size, outputs)
    builds: dict[tuple[int, ...], Family] = {(width,): Family(make_model, width) for width in sizes}
    counts = {width: builds[(width,)].parameters(x[:1], outputs) for width in sizes}
    draw, count = builds[(sizes[-1],)].draws, counts.__getitem__
    return _sweep(builds, draw, recipe, data, numbers, count, state=state, mesh=mesh, checkpoint=checkpoint)


def _sweep(
    builds: Builds,
    draw: Draw,
    recipe: Recipe,
    data: Task,
    seeds: list[int],
    parameters: Callable[[int], int],
    *,
    state: tuple[Bucket, ...] | None,
    mesh: Mesh | None,
    checkpoint: Checkpoint | None,
) -> WidthTraining:
    """Bucket after bucket; then the whole as one dataset."""
    shared = setting(recipe, data, draw, seeds, points_mesh(mesh))
    require_state(state, builds, shared)
    runs = run_buckets(builds, shared, state, checkpoint)
    after = tuple(Bucket(group, run.params, run.state) for group, run in zip(builds, runs, strict=True))
    dataset = _dataset(list(builds), runs, recipe, seeds, parameters)

    def predict(points: Array) -> np.ndarray:
        points = jnp.asarray(quantity("points", points, data.x.dtype)).astype(data.x.dtype)
        outputs = [_outputs(build, bucket, points) for build, bucket in zip(builds.values(), after, strict=True)]
        return np.concatenate([found.reshape(-1, len(seeds), *found.shape[1:]) for found in jax.device_get(outputs)])

    return WidthTraining(dataset, after, predict)


def _outputs(build: Build, bucket: Bucket, points: Array) -> Array:
    """[network, points, outputs] of one bucket."""
    count = len(bucket.training.step) // len(bucket.widths)
    return _predicted(build, bucket.params, jnp.repeat(jnp.array(bucket.widths, jnp.int32), count), points)


@partial(jax.jit, static_argnames="build")
def _predicted(build: Build, params: PyTree, widths: Array, points: Array) -> Array:
    return jax.vmap(lambda params, width: build(width).apply(params, points))(params, widths)


def _dataset(
    groups: list[tuple[int, ...]],
    runs: list[Training],
    recipe: Recipe,
    seeds: list[int],
    parameters: Callable[[int], int],
) -> "xarray.Dataset":
    """Curves of every bucket, in the order of width."""
    import xarray  # here, so that networks can be imported without it

    widths = [width for group in groups for width in group]
    shape = (len(widths), len(seeds))
    records = jax.tree.map(
        lambda *parts: np.concatenate([np.asarray(p) for p in parts]), *(run.records for run in runs)
    )
    last = int(np.asarray(runs[0].state.step)[0])  # on the host, which compiles nothing
    count = recipe.steps // recipe.record_every
    return xarray.Dataset(
        {name: (("width", "seed", "step"), curve.reshape(*shape, count)) for name, curve in records._asdict().items()}
        | {"status": (("width", "seed"), np.concatenate([np.asarray(run.status) for run in runs]).reshape(shape))},
        coords={
            "width": widths,
            "seed": seeds,
            "step": last - recipe.record_every * np.arange(count)[::-1],
            "parameters": ("width", [parameters(width) for width in widths]),
            "padded": ("width", [group[-1] for group in groups for _ in group]),
        },
        attrs={"loss": recipe.loss, "outputs": recipe.outputs, "waste": waste(groups, parameters)},
    )


def _ends(padded: Sequence[int] | None, widths: list[int], state: object) -> list[int]:
    """The largest width of each bucket, where they are given or those of a state; none otherwise."""
    if padded is not None:
        given = np.unique(padded) if hasattr(padded, "dtype") else padded  # as of a dataset, once for each width
        sizes = whole_numbers("padded", given, 1, "list sizes, as [16, 64]")
        wide = f"reach the largest width, {max(widths)}"
        require(max(sizes) >= max(widths), "padded", sizes, wide, "add a size, or leave it out")
        return sizes
    buckets = state if isinstance(state, tuple) else ()
    ends = [max(bucket.widths) for bucket in buckets if isinstance(bucket, Bucket)]
    return ends if ends and max(ends) >= max(widths) else []


def _exponents(parameterization: str | families.ABC, layers: int) -> families.ABC:
    if isinstance(parameterization, families.ABC):
        return parameterization
    named = {"standard": families.standard, "ntk": families.ntk, "mup": families.mup}
    known = parameterization in named
    require(known, "parameterization", repr(parameterization), f"be one of {', '.join(named)} or an ABC", "choose one")
    exponents = named[parameterization](layers)
    return exponents._replace(c=0.0) if parameterization == "standard" else exponents


def _recipe(
    optimizer: optax.GradientTransformation,
    steps: int,
    every: int | None,
    loss: Loss,
    batch_size: int | None,
    outputs: int,
) -> Recipe:
    check_optimizer(optimizer)
    require(steps >= 1, "steps", steps, "be >= 1", "train for at least one step")
    divides = every is None or (every >= 1 and steps % every == 0)
    require(divides, "record_every", every, f"divide steps, {steps}", "choose a divisor, or None for the end alone")
    return Recipe(optimizer, steps, every or steps, loss, batch_size, outputs)


def _require_batch(x: Array, batch_size: int | None) -> None:
    fits = batch_size is None or 1 <= batch_size <= len(x)
    require(fits, "batch_size", batch_size, f"lie in 1..{len(x)}", "use None for full batches")
