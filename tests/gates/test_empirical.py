"""The gates of `empirical`: tangent kernels of a small network, and operators."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, quantity, static, tree

from jaxtheory import empirical

# numbers that float32 and bfloat16 hold
X = np.array([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0], [2.0, -0.5], [-1.0, -1.0]])
PARAMS = {"v": np.array([[1.0], [-0.5], [0.25]]), "w": np.array([[0.5, -1.0, 0.25], [0.75, 0.5, -0.5]])}
V = np.array([[1.0], [-2.0], [0.5], [0.25], [1.5]])
RANDOM = {"precision": "float32 and float64 draw different numbers"}
MODEL = dict.fromkeys(("kinds", "wrong kinds"), "the model reads x")
SHAPES = {"precision": "returns Python numbers", "jit": "counts from shapes, outside jit"}


def net(params, x):
    """Two layers; the sine of what is not finite is not a number."""
    return jnp.sin(x @ params["w"]) @ params["v"]


def drawn(key):
    """Parameters of the same shapes."""
    first, second = jax.random.split(key)
    return {"v": jax.random.normal(first, (3, 1)), "w": jax.random.normal(second, (2, 3))}


def explained(x1):
    """Costs of the methods."""
    found = empirical.explain(net, PARAMS_32, x1)
    return {name: cost.flops for name, cost in found.methods.items()} | {"rows": found.rows_per_block}


def kept(params, x):
    """The network with a layer held fixed."""
    f, rest = empirical.filter_params(net, params, lambda path, _: "w" in path)
    return f(rest, x)


def of_linen(params, x):
    """A dense layer of linen."""
    f, held = empirical.from_linen(linen.Dense(3), {"params": params})
    return f(held, x)


def of_nnx(x):
    """A dense layer of nnx."""
    f, held = empirical.from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    return f(held, x)


def of_equinox(x):
    """A dense layer of Equinox."""
    f, held = empirical.from_equinox(eqx.nn.Linear(2, 3, key=jax.random.key(0)))
    return f(held, x)


def of_haiku(params, x):
    """A dense layer of Haiku."""
    f, held = empirical.from_haiku(hk.transform(lambda x: hk.Linear(3)(x)), {"linear": params})
    return f(held, x)


def of_operator(function):
    """The product of an operator of the loss with a vector."""
    return lambda params, x, y, v: function(net, params, x, y, loss="squared")(v)


PARAMS_32 = {name: jnp.asarray(value, jnp.float32) for name, value in PARAMS.items()}
WRONG_X = (np.ones((5, 3), np.float32),)

KERNELS = [
    Entry("empirical.ntk", empirical.ntk,
          lambda n: {"f": static(net), "params": tree(PARAMS), "x1": quantity(X[:n]), "x2": quantity(X[:3])},
          invalid={"x1": WRONG_X, "params": ({"v": np.ones((3, 1), int), "w": np.ones((2, 3), int)},), "f": (None, 3)},
          permute={"x1": {"": 0}},
          derivatives=(Derivative(("params", "x1")),
                       Derivative(("params",), at={"x1": X[[0, 0, 1]], "x2": X[[0, 1]]}))),
    Entry("empirical.kernel_fn", lambda params, x1: empirical.kernel_fn(net, params)(x1),
          {"params": tree(PARAMS), "x1": quantity(X)}, invalid={"x1": WRONG_X}),
    Entry("empirical.ntk_operator", lambda params, x, v: empirical.ntk_operator(net, params, x)(v),
          {"params": tree(PARAMS), "x": quantity(X), "v": quantity(V)},
          invalid={"x": WRONG_X, "v": (np.ones(5, np.float32),)}, scale={"v": {"": 1}}, permute={"x,v": {"": 0}},
          derivatives=(Derivative(("params", "x", "v")),)),
    Entry("empirical.ntk_by_group",
          lambda params, x1: empirical.ntk_by_group(net, params, x1, jnp.asarray(X[:2], params["w"].dtype),
                                                    groups="leaf", output="trace"),
          {"params": tree(PARAMS), "x1": quantity(X)}, invalid={"x1": WRONG_X},
          permute={"x1": {"['v']": 0, "['w']": 0}}),
    Entry("empirical.projected_gradients", empirical.projected_gradients,
          {"f": static(net), "params": tree(PARAMS), "x": quantity(X), "size": static(2), "key": key()},
          invalid={"x": WRONG_X, "size": (0,), "f": (None, 3)}, permute={"x": {"": 0}},
          derivatives=(Derivative(("params", "x"), order=1),)),
    *(Entry(f"empirical.{operator.__name__}", of_operator(operator),
            {"params": tree(PARAMS), "x": quantity(X), "y": quantity(V), "v": quantity(vector)},
            invalid={"x": WRONG_X, "v": (np.ones(4, np.float32),)}, scale={"v": {"": 1}},
            derivatives=(Derivative(("params", "v"), order=1),))
      for operator, vector in ((empirical.ggn_operator, np.arange(9.0) - 3),
                               (empirical.empirical_fisher_operator, np.arange(9.0) - 3),
                               (empirical.weighted_ntk_operator, V))),
    Entry("empirical.influence", lambda **given: empirical.influence(**given)._replace(residual=None),
          {"f": static(net), "params": tree(PARAMS), "x": quantity(X), "y": quantity(V), "x_test": quantity(X[:2]),
           "y_test": quantity(V[1:3]), "damping": quantity(0.5)},
          invalid={"x": WRONG_X, "damping": (0.0, -1.0)}, permute={"x,y": {"values": 1}}, slow=True),
    Entry("empirical.ntk_drift", empirical.ntk_drift,
          {"f": static(net), "params": tree(PARAMS), "x": quantity(X), "residual": quantity(V)},
          invalid={"x": WRONG_X, "residual": (np.ones(5, np.float32),)},
          scale={"residual": {"kernel": 0, "velocity": 1, "speed": 1}}, slow=True),
    Entry("empirical.linearize", lambda params, moved: empirical.linearize(net, params)(moved, jnp.asarray(X[:2])),
          {"params": tree(PARAMS), "moved": tree(jax.tree.map(lambda p: p + 0.25, PARAMS))},
          invalid={"moved": ({"v": np.ones((3, 1))},)},
          derivatives=(Derivative(("params", "moved")), Derivative(("params",), at={"moved": PARAMS}))),
    Entry("empirical.taylor", lambda params, moved: empirical.taylor(net, params, 2)(moved, jnp.asarray(X[:2])),
          {"params": tree(PARAMS), "moved": tree(jax.tree.map(lambda p: p + 0.25, PARAMS))},
          invalid={"moved": ({"v": np.ones((3, 1))},)}, derivatives=(Derivative(("params", "moved"), order=1),)),
    Entry("empirical.nngp", empirical.nngp,
          {"init": static(drawn), "f": static(net), "x1": quantity(X), "x2": static(None), "key": key(),
           "samples": static(3)},
          invalid={"x1": WRONG_X, "samples": (1,), "init": (None, 3)}, skip=RANDOM),
    Entry("empirical.mean_ntk", empirical.mean_ntk,
          {"init": static(drawn), "f": static(net), "x1": quantity(X), "x2": static(None), "key": key(),
           "samples": static(3)},
          invalid={"x1": WRONG_X, "samples": (1,), "init": (None, 3)}, skip=RANDOM, slow=True),
    Entry("empirical.explain", explained, {"x1": static(np.ones((5, 2), np.float32))},
          invalid={"x1": WRONG_X}, skip=SHAPES),
]  # fmt: skip

MODELS = [
    Entry("empirical.filter_params", kept, {"params": tree(PARAMS), "x": quantity(X)}, skip=MODEL),
    Entry("empirical.from_linen", of_linen,
          {"params": tree({"bias": np.array([0.5, -1.0, 0.25]), "kernel": PARAMS["w"]}), "x": quantity(X)}, skip=MODEL),
    Entry("empirical.from_equinox", of_equinox, {"x": quantity(X)},
          skip=MODEL | {"precision": "the parameters have the type they were made in"}),
    Entry("empirical.from_haiku", of_haiku,
          {"params": tree({"b": np.array([0.5, -1.0, 0.25]), "w": PARAMS["w"]}), "x": quantity(X)}, skip=MODEL),
    Entry("empirical.from_nnx", of_nnx, {"x": quantity(X)},
          skip=MODEL | {"precision": "the parameters have the type they were made in"}),
]  # fmt: skip

ENTRIES = [*KERNELS, *MODELS]


class TestEmpirical(Gates):
    """Every public function of the room."""

    entries = ENTRIES
