r"""A ReLU network as the matrices of its layers, which is all that norm-based bounds look at.

Biases are weights of a constant unit: layer l is z ↦ A_l (z, 1) with the rows (0, …, 0, 1) kept below all but the
last, so that f(x) = A_L φ(A_{L−1} φ(⋯ A_1 (x, 1))) and every bound for networks without biases applies as it
stands. A convolution is the matrix it is, its true operator on the image, with stride and padding.

>>> import jax.numpy as jnp
>>> net = chain([(jnp.ones((3, 4)), jnp.zeros(4)), (jnp.ones((4, 2)), None)])
>>> [matrix.shape for matrix in net], forward(net, jnp.ones((5, 3))).shape
([(5, 4), (2, 5)], (5, 2))
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, holds, known, quantity, require
from jaxtheory.programs.models import is_module

Chain = tuple[Float[Array, "_ _"], ...]
_LARGEST = 2**26  # entries of one unrolled layer: 256 MiB in float32


@boundary
@jax.default_matmul_precision("highest")  # of a module's own products
def chain(model: Any, x: Float[Array, "n ..."] | None = None) -> Chain:
    """The matrices of a network of affine layers with ReLU between them.

    Args:
        model: a flax.nnx module or an Equinox module of one example, both without dropout; a pair (flax.linen module,
            variables); or a list of layers, the first one first: weights [d_in, d_out], pairs (weight, bias) of such,
            objects with `weight` and `bias` (of `networks`: [d_in, d_out]; of Equinox and others that state
            `in_features` and `out_features`: [d_out, d_in]), objects with `kernel` [d_in, d_out] and `bias` (of
            Flax), or dictionaries of these two or of `w` and `b` (of Haiku).
        x: for modules, a few inputs: the layers are found by running it, and the chain must reproduce its outputs.

    Returns:
        A_1, …, A_L in the coordinates (x, 1).

    Raises:
        ValueError: weights that are not finite or do not fit together; a module with layers other than dense and
            convolutional ones (they are named), or whose outputs are not those of its layers with ReLU between
            (pooling, skips, another activation), or that calls them inside of a scan, vmap, remat or jit of its own; a
            layer too large to unroll.

    Cost: that of unrolling: d_in convolutions of one image for each convolutional layer.

    >>> [matrix.shape for matrix in chain([jnp.ones((3, 4)), (jnp.ones((4, 2)), jnp.zeros(2))])]
    [(5, 4), (2, 5)]
    """
    listed = is_list(model)
    pairs = [_layer(entry) for entry in model] if listed else _traced(model, x)
    require(len(pairs) > 0, "model", model, "hold at least one layer", "pass its weights, the first layer first")
    _check_shapes(pairs)
    last = len(pairs) - 1
    net = tuple(_homogeneous(w, b, keep=i < last) for i, (w, b) in enumerate(pairs))
    _check_finite(net)
    if not listed and known(net, x):
        _check_reproduces(net, model, x)
    return matrices("model", net)


@boundary
def forward(net: Chain, x: Float[Array, "n ..."]) -> Float[Array, "n outputs"]:
    """The network's outputs, from its matrices: h ← A φ(h), with (x, 1) first.

    Args:
        net: A_1, …, A_L.
        x: n inputs, flattened here.

    Cost: n Σ d_in d_out multiplications.

    >>> print(forward((jnp.array([[1.0, -1.0, 0.5]]),), jnp.array([[2.0, 3.0]])))
    [[-0.5]]
    """
    return preactivations(net, x)[-1]


def preactivations(net: Chain, x: Float[Array, "n ..."]) -> list[Float[Array, "n d"]]:
    """What each layer computes before its ReLU, the constant unit included."""
    require(len(x) >= 1, "x", x.shape, "hold an example", "pass inputs as rows")
    net, flat = matrices("net", net), x.reshape(len(x), -1)
    wish = f"have {net[0].shape[1] - 1} numbers an example, as the first layer takes"
    require(flat.shape[1] == net[0].shape[1] - 1, "x", x.shape, wish, "pass inputs of this network")
    dtype = jnp.result_type(flat, net[0])
    h = jnp.concatenate([flat, jnp.ones_like(flat[:, :1])], axis=1).astype(dtype)
    values = []
    for matrix in net:
        values.append(jnp.matmul(h, matrix.T.astype(dtype), precision="highest"))
        h = jax.nn.relu(values[-1])
    return values


def matrices(name: str, net: Any) -> Chain:
    """A chain as floating-point matrices of one type that fit together.

    Raises:
        ValueError: no sequence of matrices, or matrices that cannot be multiplied.
    """
    hint = "pass what generalization.chain returns"
    require(isinstance(net, (tuple, list)) and len(net) > 0, name, type(net).__name__, "be a tuple of matrices", hint)
    found = [jnp.asarray(quantity(name, matrix)) for matrix in net]
    shapes = [matrix.shape for matrix in found]
    require(all(len(shape) == 2 for shape in shapes), name, shapes, "hold matrices [d_out, d_in]", hint)
    fits = all(first[0] == second[1] for first, second in itertools.pairwise(shapes))
    require(fits, name, shapes, "hold matrices that multiply, the first layer first", hint)
    dtype = jnp.result_type(*found)
    return tuple(matrix.astype(dtype) for matrix in found)


def is_list(model: Any) -> bool:
    """Whether a model is a list of layers; a pair (linen module, variables) is not."""
    pair = isinstance(model, tuple) and len(model) == 2 and callable(getattr(model[0], "init_with_output", None))
    return isinstance(model, (list, tuple)) and not pair


def count_parameters(model: Any) -> int:
    """Numbers that are trained: kernels and biases as they are stored, each once."""
    if is_list(model):
        layers = [_layer(entry) for entry in model]
        return sum(int(jnp.size(part)) for layer in layers for part in layer if part is not None)
    if isinstance(model, tuple):
        return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(model[1]["params"]))
    if is_module(model, "equinox"):
        return sum(
            int(leaf.size) for leaf in jax.tree.leaves(model) if hasattr(leaf, "dtype") and leaf.dtype.kind in "fV"
        )
    from flax import nnx

    return sum(int(jnp.size(leaf)) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _layer(entry: Any) -> tuple[Array, Array | None]:
    """Weight [d_out, d_in] and bias of one layer of a list."""
    out_first = False
    if isinstance(entry, dict) and ("kernel" in entry or "w" in entry):
        weight, bias = entry["kernel"] if "kernel" in entry else entry["w"], entry.get("bias", entry.get("b"))
    elif hasattr(entry, "kernel"):
        weight, bias = entry.kernel, getattr(entry, "bias", None)
        weight, bias = (None if part is None else part[...] for part in (weight, bias))
    elif hasattr(entry, "weight"):
        weight, bias = entry.weight, getattr(entry, "bias", None)
        out_first = hasattr(entry, "in_features") and hasattr(entry, "out_features")
    else:
        weight, bias = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
    weight = jnp.asarray(quantity("model", weight))
    told = f"a layer of shape {weight.shape}"
    require(weight.ndim == 2, "model", told, "hold matrices", "pass convolutions as a module with inputs x")
    return (weight if out_first else weight.T), None if bias is None else jnp.asarray(quantity("model", bias))


def _homogeneous(weight: Array, bias: Array | None, *, keep: bool) -> Array:
    column = jnp.zeros_like(weight[:, :1]) if bias is None else bias.reshape(-1, 1).astype(weight.dtype)
    above = jnp.concatenate([weight, column], axis=1)
    unit = jnp.zeros_like(above[:1]).at[0, -1].set(1)
    return jnp.concatenate([above, unit]) if keep else above


def _check_shapes(pairs: list[tuple[Array, Array | None]]) -> None:
    for i, (weight, bias) in enumerate(pairs):
        fits = bias is None or bias.size == weight.shape[0]
        told = f"layer {i} with {weight.shape[0]} outputs and a bias of shape {getattr(bias, 'shape', None)}"
        require(fits, "model", told, "have a bias for each output", "pass pairs (weight [d_in, d_out], bias [d_out])")
    shapes = [weight.shape for weight, _ in pairs]
    turned = all(first[1] == second[0] for first, second in itertools.pairwise(shapes))
    action = "transpose the weights: they are [d_in, d_out]" if turned else "pass the layers in order"
    for i, (first, second) in enumerate(itertools.pairwise(shapes)):
        told = f"layer {i} with {first[0]} outputs before one with {second[1]} inputs"
        require(first[0] == second[1], "model", told, "be a chain", action)


def _check_finite(net: Chain) -> None:
    for i, matrix in enumerate(net):
        finite = holds(np.isfinite, matrix)
        require(finite, "model", f"layer {i} with entries that are not finite", "be finite", "train it again")


def _check_reproduces(net: Chain, model: Any, x: Any) -> None:
    values, outputs = preactivations(net, x), _outputs(model, x)
    gap = float(jnp.abs(values[-1] - outputs).max()) if values[-1].shape == outputs.shape else np.inf
    # of the last layer's sums, whose terms may cancel
    last = jax.nn.relu(values[-2]) if len(net) > 1 else jnp.abs(x.reshape(len(x), -1))
    scale = float((last @ jnp.abs(net[-1][:, : last.shape[1]]).T).max()) + float(jnp.abs(outputs).max())
    told = f"{type(model).__name__} whose outputs differ by {gap:.3g} from its layers with ReLU between"
    wish = "be a chain of dense and convolutional layers with ReLU between"
    require(gap <= 1e-3 * scale, "model", told, wish, "pass a network without pooling, skips or other activations")


def _outputs(model: Any, x: Any) -> Array:
    if isinstance(model, tuple):
        return model[0].apply(model[1], x)
    rested = _at_rest(model)
    return jax.vmap(rested)(x) if is_module(model, "equinox") else rested(x)


def _traced(model: Any, x: Any) -> list[tuple[Array, Array | None]]:
    """The affine layers in the order in which the model calls them on x, as matrices on flattened inputs."""
    require(x is not None, "x", x, "be given with a module", "pass a few inputs, to find its layers by running it")
    if isinstance(model, tuple):
        calls = _linen_calls(model[0], model[1], x)
    else:
        calls = _equinox_calls(model, x) if is_module(model, "equinox") else _nnx_calls(model, x)
    try:
        return [_unrolled(*call) for call in calls]
    except jax.errors.UnexpectedTracerError as error:
        wish = "call its layers outside of scan, vmap, remat and jit of its own"
        raise ValueError(
            f"model must {wish}, got model={type(model).__name__}; write its layers one by one."
        ) from error


def _equinox_calls(model: Any, x: Array) -> list[tuple[Any, tuple[int, ...], Array | None]]:
    """As `_nnx_calls`: dense and convolutional layers in the order of the model's fields, which `chain` checks."""
    import equinox as eqx

    kinds, shared = (eqx.nn.Linear, eqx.nn.Conv), eqx.nn.Shared
    model = jax.tree.map(lambda part: part() if isinstance(part, shared) else part, model, is_leaf=_is_a(shared))
    layers = jax.tree.leaves(model, is_leaf=_is_a(kinds))
    known_layers = [layer for layer in layers if isinstance(layer, kinds)]
    others = [leaf for leaf in layers if not isinstance(leaf, kinds) and hasattr(leaf, "dtype")]
    _require_known([f"an array of shape {leaf.shape}" for leaf in others])
    calls, shape = [], x.shape[1:]
    for layer in known_layers:
        given = (int(np.prod(shape)),) if isinstance(layer, eqx.nn.Linear) else shape
        calls.append((_without_offset(layer, given), given, layer.bias))
        shape = jax.eval_shape(layer, jax.ShapeDtypeStruct(given, x.dtype)).shape
    return calls


def _is_a(kinds: Any) -> Callable[[Any], bool]:
    return lambda part: isinstance(part, kinds)


def _require_known(unknown: list[str]) -> None:
    require(not unknown, "model", unknown, "have dense and convolutional layers only", "fold or remove these layers")


def _without_offset(layer: Any, shape: tuple[int, ...]) -> Callable[[Array], Array]:
    """A layer of one example less what it gives for 0."""
    return lambda one: layer(one) - layer(jnp.zeros(shape, one.dtype))


def _nnx_calls(model: Any, x: Array) -> list[tuple[Any, tuple[int, ...], Array | None]]:
    """(map without bias, shape of one input, bias) of each layer, found by running a copy that takes notes."""
    from flax import nnx

    hint = "pass an nnx or Equinox module, (linen module, variables), or a list of weights"
    require(isinstance(model, nnx.Module), "model", type(model).__name__, "be a module or a list of layers", hint)
    copy = _at_rest(model)
    calls: list = []
    own = {path: sub for path, sub in nnx.iter_modules(copy) if _holds_parameters(sub)}
    unknown = [f"{type(s).__name__} at {p}" for p, s in own.items() if not isinstance(s, nnx.Linear | nnx.Conv)]
    _require_known(unknown)
    for layer in own.values():
        layer.__class__ = _noting(type(layer), calls)
    copy(x[:1])
    return calls


def _at_rest(model: Any) -> Any:
    """A copy that is not in training: without dropout."""
    if is_module(model, "equinox"):
        import equinox as eqx

        return eqx.nn.inference_mode(model)
    from flax import nnx

    copy: Any = nnx.clone(model)
    copy.eval()
    return copy


def _holds_parameters(module: Any) -> bool:
    from flax import nnx

    return any(isinstance(value, nnx.Param) for value in vars(module).values())


def _noting(kind: type, calls: list) -> type:
    """The same kind of layer, which notes what it computes when called."""

    def call(self: Any, inputs: Array) -> Array:
        bias = None if self.bias is None else self.bias[...]
        zero = kind.__call__(self, jnp.zeros_like(inputs))
        calls.append((lambda one: kind.__call__(self, one[None])[0] - zero[0], inputs.shape[1:], bias))
        return kind.__call__(self, inputs)

    return type(kind.__name__, (kind,), {"__call__": call})


def _linen_calls(module: Any, variables: Any, x: Array) -> list[tuple[Any, tuple[int, ...], Array | None]]:
    """As `_nnx_calls`, through linen's own interception of method calls."""
    import flax.linen as nn

    calls: list = []

    def note(next_fun: Any, args: tuple, kwargs: dict, context: Any) -> Any:
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, nn.Dense | nn.Conv):
            params = layer.variables["params"]
            bare = {"params": {"kernel": params["kernel"]}}
            plain = layer.clone(use_bias=False, parent=None, name=None)
            calls.append((lambda one: plain.apply(bare, one[None])[0], args[0].shape[1:], params.get("bias")))
        elif context.method_name == "__call__" and any(
            hasattr(v, "shape") for v in layer.variables.get("params", {}).values()
        ):
            _require_known([f"{type(layer).__name__} at {layer.path}"])
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(note):
        module.apply(variables, x[:1])
    return calls


def _unrolled(linear: Any, shape: tuple[int, ...], bias: Array | None) -> tuple[Array, Array | None]:
    """The matrix of a linear map of images, and its bias at every output position."""
    size = int(np.prod(shape))
    outputs = jax.eval_shape(linear, jax.ShapeDtypeStruct(shape, jnp.float32)).shape
    entries = size * int(np.prod(outputs))
    told = f"a layer of {entries} entries when unrolled"
    require(entries <= _LARGEST, "model", told, f"have layers of at most {_LARGEST} entries", "use a smaller image")
    basis = jnp.eye(size).reshape(size, *shape)
    matrix = jax.lax.map(linear, basis, batch_size=64).reshape(size, -1).T
    return matrix, None if bias is None else jnp.broadcast_to(bias, outputs).reshape(-1)
