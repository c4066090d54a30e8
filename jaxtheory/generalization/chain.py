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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import holds, require

Chain = tuple[Float[Array, "_ _"], ...]
_LARGEST = 2**26  # entries of one unrolled layer: 256 MiB in float32


@jax.default_matmul_precision("highest")  # of a module's own products
def chain(model: Any, x: Float[Array, "n ..."] | None = None) -> Chain:
    """The matrices of a network of affine layers with ReLU between them.

    Args:
        model: a flax.nnx module; a pair (flax.linen module, variables); or a list of weights [d_in, d_out], of pairs
            (weight, bias), or of objects with `weight` and `bias`, the first layer first.
        x: for modules, a few inputs: the layers are found by running it, and the chain must reproduce its outputs.

    Returns:
        A_1, …, A_L in the coordinates (x, 1).

    Raises:
        ValueError: weights that are not finite or do not fit together; a module with layers other than dense and
            convolutional ones (they are named), or whose outputs are not those of its layers with ReLU between
            (pooling, skips, another activation); a layer too large to unroll.

    Cost: that of unrolling: d_in convolutions of one image for each convolutional layer.
    """
    pairs = _pairs(model) if isinstance(model, list) else _traced(model, x)
    last = len(pairs) - 1
    matrices = tuple(_homogeneous(w, b, keep=i < last) for i, (w, b) in enumerate(pairs))
    _check(matrices)
    if not isinstance(model, list):
        _check_reproduces(matrices, model, x)
    return matrices


def forward(net: Chain, x: Float[Array, "n ..."]) -> Float[Array, "n outputs"]:
    """The network's outputs, from its matrices: h ← A φ(h), with (x, 1) first.

    Cost: n Σ d_in d_out multiplications.
    """
    return preactivations(net, x)[-1]


def preactivations(net: Chain, x: Float[Array, "n ..."]) -> list[Float[Array, "n d"]]:
    """What each layer computes before its ReLU, the constant unit included."""
    h = jnp.concatenate([x.reshape(len(x), -1), jnp.ones_like(x.reshape(len(x), -1)[:, :1])], axis=1)
    values = []
    for matrix in net:
        values.append(jnp.matmul(h, matrix.T, precision="highest"))
        h = jax.nn.relu(values[-1])
    return values


def _pairs(model: list) -> list[tuple[Array, Array | None]]:
    require(len(model) > 0, "model", model, "hold at least one layer", "pass its weights, the first layer first")
    pairs = [(e.weight, e.bias) if hasattr(e, "weight") else e if isinstance(e, tuple) else (e, None) for e in model]
    flat = all(jnp.ndim(weight) == 2 for weight, _ in pairs)
    shapes = [jnp.shape(weight) for weight, _ in pairs]
    require(flat, "model", shapes, "hold matrices [d_in, d_out]", "pass convolutions as a module with inputs x")
    return [(weight.T, bias) for weight, bias in pairs]


def _homogeneous(weight: Array, bias: Array | None, *, keep: bool) -> Array:
    column = jnp.zeros_like(weight[:, :1]) if bias is None else bias.reshape(-1, 1)
    above = jnp.concatenate([weight, column], axis=1)
    unit = jnp.zeros_like(above[:1]).at[0, -1].set(1)
    return jnp.concatenate([above, unit]) if keep else above


def _check(net: Chain) -> None:
    for i, matrix in enumerate(net):
        finite = holds(np.isfinite, matrix)
        require(finite, "model", f"layer {i} with entries that are not finite", "be finite", "train it again")
    for i, (first, second) in enumerate(itertools.pairwise(net)):
        fits = first.shape[0] == second.shape[1]
        told = f"layer {i} with {first.shape[0] - 1} outputs before one with {second.shape[1] - 1} inputs"
        require(fits, "model", told, "be a chain", "pass the layers in order")


def _check_reproduces(net: Chain, model: Any, x: Any) -> None:
    expected = model[0].apply(model[1], x) if isinstance(model, tuple) else model(x)
    gap = float(jnp.abs(forward(net, x) - expected).max())
    scale = float(jnp.abs(expected).max()) + 1
    told = f"{type(model).__name__} whose outputs differ by {gap:.3g} from its layers with ReLU between"
    wish = "be a chain of dense and convolutional layers with ReLU between"
    require(gap <= 1e-3 * scale, "model", told, wish, "pass a network without pooling, skips or other activations")


def _traced(model: Any, x: Any) -> list[tuple[Array, Array | None]]:
    """The affine layers in the order in which the model calls them on x, as matrices on flattened inputs."""
    require(x is not None, "x", x, "be given with a module", "pass a few inputs, to find its layers by running it")
    calls = _linen_calls(model[0], model[1], x) if isinstance(model, tuple) else _nnx_calls(model, x)
    return [_unrolled(*call) for call in calls]


def _nnx_calls(model: Any, x: Array) -> list[tuple[Any, tuple[int, ...], Array | None]]:
    """(map without bias, shape of one input, bias) of each layer, found by running a copy that takes notes."""
    from flax import nnx

    require(isinstance(model, nnx.Module), "model", type(model).__name__, "be a flax module or weights", "see chain")
    copy: Any = nnx.clone(model)
    calls: list = []
    copy.eval()
    own = {path: sub for path, sub in nnx.iter_modules(copy) if _holds_parameters(sub)}
    unknown = [f"{type(s).__name__} at {p}" for p, s in own.items() if not isinstance(s, nnx.Linear | nnx.Conv)]
    require(not unknown, "model", unknown, "have dense and convolutional layers only", "fold or remove these layers")
    for layer in own.values():
        layer.__class__ = _noting(type(layer), calls)
    copy(x[:1])
    return calls


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
    unknown: list[str] = []

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
            unknown.append(f"{type(layer).__name__} at {layer.path}")
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(note):
        module.apply(variables, x[:1])
    require(not unknown, "model", unknown, "have dense and convolutional layers only", "fold or remove these layers")
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
