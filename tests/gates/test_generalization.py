"""The gates of `generalization`: norms, bounds and measures of one small network, capacities, rankings."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, quantity, static, tree

from jaxtheory import generalization as gen

# numbers that float32 and bfloat16 hold
FIRST = np.array([[1.0, -2.0, 0.5], [-1.5, 0.75, 1.0], [0.25, 0.5, -1.0]])
SECOND = jnp.asarray([[1.0, -0.5, 0.25], [-2.0, 1.0, 0.5]], jnp.float32)
# weights [d_in, d_out], with no norm on the border of a cell of the bounds' grids
LAYERS = [1.1 * FIRST[:2, :2].T, 1.3 * np.asarray(SECOND, np.float64)[:, :2].T]
NET = (np.vstack([FIRST[:2], [[0.0, 0.0, 1.0]]]), np.asarray(SECOND, np.float64))
X = np.array([[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0], [2.0, -0.5], [-1.0, -1.0]])
Y = np.array([0, 1, 0, 1, 0])
SEEN = X - [0.0, 0.4]
RIGHT = (np.maximum(SEEN @ LAYERS[0], 0) @ LAYERS[1]).argmax(1)  # what the network says of them
GRAM = np.eye(4) + 0.5 * np.outer([1.0, -1.0, 0.5, 2.0], [1.0, -1.0, 0.5, 2.0])
MEASURE, GAP = np.array([[1.0, 3.0, 2.0], [2.0, 4.0, 5.0]]), np.array([[0.1, 0.2, 0.4], [0.1, 0.3, 0.2]])
NO_DTYPE = {"precision": "returns a Python number"}
NO_JIT = {"jit": "runs in NumPy, outside jit"} | NO_DTYPE
RANDOM = {"precision": "float32 and float64 draw different numbers"}
LEFT_OUT = dict.fromkeys(("measure", "gap"), "pairs that are not finite are left out")
BARE = ("inverse margin", "parameters")


def after(function):
    """A function of a chain as one of its first layer, which has a scale of its own."""
    return lambda net: function((net, SECOND))


def layers(function):
    """The same, with the values of the two layers by name."""
    return lambda net: dict(zip(("first", "second"), function((net, SECOND)), strict=True))


def table(model, x, y):
    """Measures and bounds by name."""
    found = gen.measures(model, (x, y))
    bounds = {f"{m.name}, bound": m.bound for m in found.measures if m.name not in BARE}
    return {m.name: m.measure for m in found.measures} | bounds | {"empirical": found.empirical}


def quadratic(w):
    """A loss with a minimum."""
    return jnp.sum(w["a"] ** 2) / 2 + jnp.sum(w["b"] ** 4)


def logistic(w, x, y):
    """Surrogate loss of a linear classifier."""
    return jnp.logaddexp(0.0, -y * (x @ w)).mean()


def wrong(w, x, y):
    """Its error."""
    return (y * (x @ w) <= 0).astype(x.dtype).mean()


def posterior(n):
    """A sample of n points for a linear classifier."""
    return {
        "loss": static(logistic), "wrong": static(wrong), "params": tree(np.array([1.0, 0.5])),
        "prior": tree(np.array([0.0, 0.25])), "x": quantity(X[:n]), "y": integers(1 - 2 * Y[:n]), "key": key(),
        "steps": static(3), "draws": static(3),
    }  # fmt: skip


def part_prior(n):
    """The same, with a prior that learns from a part of it."""
    given = posterior(n)
    dropped = {name: arg for name, arg in given.items() if name not in ("params", "prior")}
    return dropped | {"learn": static(lambda x, y: jnp.mean(x, axis=0)), "share": static(0.5)}


def squares(params, x, y):
    return jnp.mean((x @ params["a"] - y) ** 2)


CAPACITIES = [
    Entry("generalization.vc_dimension", gen.vc_dimension, {"layer_sizes": static([2, 3, 1])},
          invalid={"layer_sizes": ([3], [3, 0, 1], [2.5, 1], "abc", None)}, skip=NO_DTYPE),
    Entry("generalization.log_growth", gen.log_growth, {"layer_sizes": static([2, 3, 2]), "samples": static(5)},
          invalid={"layer_sizes": ([3], [3, 1], [2.5, 2]), "samples": (0, -1)}, skip=NO_DTYPE),
    Entry("generalization.rademacher", gen.rademacher,
          {"gram": quantity(GRAM), "radius": number(2.0), "key": key()},
          invalid={"radius": (-1.0,), "gram": (-np.eye(4, dtype=np.float32), np.ones((4, 3), np.float32),
                                               np.ones((4, 4), np.float32) - 2 * np.eye(4, dtype=np.float32)[::-1])},
          scale={"gram": {"value": 0.5, "lower": 0.5, "upper": 0.5}, "radius": {"value": 1, "lower": 1, "upper": 1}},
          scale_condition=1.0, derivatives=(Derivative(("gram", "radius")),)),
    Entry("generalization.ntk_complexity", gen.ntk_complexity,
          {"gram": quantity(GRAM), "y": quantity([1.0, -1.0, 2.0, 0.5])},
          invalid={"gram": (-np.eye(4, dtype=np.float32), np.ones((4, 4), np.float32))},
          scale={"gram": {"": -0.5}, "y": {"": 1}}, scale_condition=1.0, derivatives=(Derivative(("gram", "y")),)),
    Entry("generalization.kl_inverse", gen.kl_inverse, {"q": quantity([0.125, 0.5]), "c": quantity([0.0625, 1.5])},
          invalid={"q": (np.float32([-0.1, 0.5]), np.float32([0.5, 1.5])), "c": (np.float32([0.1, -0.1]),)},
          at_infinity={"c": "the answer is then 1"}, permute={"q,c": {"": 0}},
          derivatives=(Derivative(("q", "c")), Derivative(("q", "c"), at={"q": [0.01, 0.9], "c": [3.0, 0.01]}))),
    Entry("generalization.gaussian_posterior", gen.gaussian_posterior, posterior,
          invalid={"steps": (0,), "draws": (0,)}, skip=RANDOM, slow=True),
    Entry("generalization.learned_prior", gen.learned_prior, part_prior,
          invalid={"steps": (0,), "share": (0.0, 1.0, 0.1)},
          skip=RANDOM | {"small": "each part has an example"}, slow=True),
]  # fmt: skip

NORMS = [
    Entry("generalization.spectral_norms", layers(gen.spectral_norms), {"net": quantity(FIRST)},
          scale={"net": {"first": 1, "second": 0}},
          derivatives=(Derivative(("net",)),
                       Derivative(("net",), at={"net": np.outer([1.0, 2.0, 0.0], [1.0, 0.5, 2.0])}))),
    Entry("generalization.frobenius_norms", layers(gen.frobenius_norms), {"net": quantity(FIRST)},
          scale={"net": {"first": 1, "second": 0}}, derivatives=(Derivative(("net",)),)),
    Entry("generalization.group_norms", layers(gen.group_norms), {"net": quantity(FIRST)},
          scale={"net": {"first": 1, "second": 0}}, permute={"net": {"first": None}},
          derivatives=(Derivative(("net",)),
                       Derivative(("net",), at={"net": FIRST * [[1], [1], [0]]}, order=1,
                                  reason="the length of a row of zeros has no second derivative"))),
    Entry("generalization.spectral_complexity", after(gen.spectral_complexity), {"net": quantity(FIRST)},
          scale={"net": {"": 1}}, derivatives=(Derivative(("net",)),)),
    Entry("generalization.weight_ratio", lambda net: gen.weight_ratio((net, SECOND), (jnp.eye(3), 0 * SECOND)),
          {"net": quantity(FIRST)},
          derivatives=(Derivative(("net",)), Derivative(("net",), at={"net": np.diag([3.0, 1.0, 1.0])}))),
    Entry("generalization.path_norm", after(gen.path_norm), {"net": quantity(FIRST)}, scale={"net": {"": 1}},
          derivatives=(Derivative(("net",)), Derivative(("net",), at={"net": FIRST * [[1], [0], [0]]}))),
    Entry("generalization.l1_path_norm", after(gen.l1_path_norm), {"net": quantity(FIRST)}, scale={"net": {"": 1}},
          derivatives=(Derivative(("net",)),)),
    Entry("generalization.margins", gen.margins,
          {"outputs": quantity([[1.0, 0.5, -1.0], [0.25, 2.0, 1.0], [-2.0, 0.5, 3.0]]), "y": integers([0, 2, 1])},
          invalid={"y": (np.int32([0, 3, 1]), np.int32([0, -1, 1]), np.int32([0, 1]))},
          at_infinity={"outputs": "an output of minus infinity is never the largest"},
          scale={"outputs": {"": 1}}, shift={("outputs",): ("",)}, permute={"outputs,y": {"": 0}},
          derivatives=(Derivative(("outputs",)),)),
]  # fmt: skip

NETWORKS = [
    Entry("generalization.chain", gen.chain, {"model": tree(LAYERS)},
          invalid={"model": ([np.ones((2, 3)), np.ones((4, 1))], [np.ones(3)], [])},
          derivatives=(Derivative(("model",)),)),
    Entry("generalization.forward", gen.forward, {"net": tree(NET), "x": quantity(X)},
          invalid={"x": (np.ones((5, 3), np.float32),), "net": ((np.ones((3, 3)), np.ones((2, 2))),)},
          permute={"x": {"": 0}}, derivatives=(Derivative(("net", "x")),)),
    Entry("generalization.cushions", gen.cushions, {"net": tree(NET), "x": quantity(X), "margin": number(0.5)},
          invalid={"margin": (0.0, -1.0), "x": (np.ones((0, 2), np.float32),)},
          permute={"x": {"layer": None, "interlayer": None, "contraction": None, "complexity": None}},
          derivatives=(Derivative(("net", "x", "margin")),)),
    Entry("generalization.compressed", gen.compressed,
          {"net": tree(NET), "x": quantity(X), "y": integers(Y), "key": key(), "budgets": static((2, 3))},
          invalid={"budgets": ((), (0,), (2.5,)), "y": (np.int32([0, 2, 0, 1, 0]), np.int32([0, 1]))},
          permute={"x,y": {"empirical": None, "bound": None}},
          skip={"precision": "the bound counts the bits of the type"}),
    Entry("generalization.feature_freedom", gen.feature_freedom,
          {"net": tree(NET), "x": quantity(X), "ridge": number(0.125)},
          invalid={"ridge": (0.0, -1.0), "x": (np.ones((5, 3), np.float32),)}, permute={"x": {"": None}},
          derivatives=(Derivative(("ridge",)),)),
    Entry("generalization.spectral_pruning", gen.spectral_pruning,
          {"net": tree(NET), "x": quantity(SEEN), "y": integers(Y), "widths": static((1,)), "ridge": number(0.125)},
          invalid={"widths": ((), (0,), (3,), (1.5,)), "ridge": (0.0, -1.0), "y": (np.int32([0, 2, 0, 1, 0]),)},
          permute={"x,y": dict.fromkeys(("losses", "change", "change_bound", "empirical", "bound"), None)}),
    Entry("generalization.layer_margins", gen.layer_margins,
          {"net": tree(NET), "x": quantity(SEEN), "y": integers(Y)},
          invalid={"y": (np.int32([0, 2, 0, 1, 0]), np.int32([0, 1])), "x": (np.ones((5, 3), np.float32),)},
          permute={"x,y": {"distances": 1, "spreads": None}}, derivatives=(Derivative(("x",)),)),
    Entry("generalization.gradient_signal", gen.gradient_signal,
          {"loss": static(squares), "params": tree({"a": np.array([1.0, -0.5])}), "x": quantity(X),
           "y": quantity([1.0, 0.5, -1.0, 2.0, 0.25])},
          invalid={"x": (np.ones((1, 2), np.float32),)}, permute={"x,y": dict.fromkeys(("norm", "variance"), None)},
          derivatives=(Derivative(("params",)),)),
    Entry("generalization.worst_direction", gen.worst_direction,
          {"loss": static(quadratic), "params": tree({"a": np.array([1.0, -2.0]), "b": np.array([[0.5]])}),
           "radius": number(0.25)},
          invalid={"radius": (0.0, -1.0)}, derivatives=(Derivative(("params", "radius")),)),
    Entry("generalization.random_direction", gen.random_direction,
          {"loss": static(quadratic), "params": tree({"a": np.array([1.0, -2.0]), "b": np.array([[0.5]])}),
           "deviation": number(0.25), "key": key(), "draws": static(4)},
          invalid={"deviation": (0.0, -1.0), "draws": (1,)}, derivatives=(Derivative(("params", "deviation")),),
          skip=RANDOM),
    Entry("generalization.relative_flatness", gen.relative_flatness,
          {"loss": static(lambda w: jnp.sum(jnp.tanh(w) ** 2)), "weight": quantity([[1.0, -0.5], [0.25, 0.75]])},
          invalid={"weight": (np.zeros((0, 2), np.float32),)}, derivatives=(Derivative(("weight",)),)),
    Entry("generalization.measures", table,
          lambda n: {"model": tree(LAYERS), "x": quantity(SEEN[:n]), "y": integers(RIGHT[:n])},
          invalid={"y": (np.int32([0, 2, 0, 1, 0]), np.int32([0, 1]))},
          skip={"wrong kinds": "takes inputs and labels as one argument, data"}, slow=True),
]  # fmt: skip

RANKINGS = [
    Entry("generalization.kendall", gen.kendall, {"measure": quantity(MEASURE[0]), "gap": quantity(GAP[0])},
          invalid={"gap": (np.ones(4),)}, ignores=LEFT_OUT, scale={"measure": {"": 0}, "gap": {"": 0}},
          shift={("measure",): ("",)}, permute={"measure,gap": {"": None}}, skip=NO_JIT),
    Entry("generalization.rank", gen.rank,
          {"measure": quantity(MEASURE), "gap": quantity(GAP), "axes": static(("width",)), "draws": static(5)},
          invalid={"gap": (np.ones((2, 4)),), "axes": (("a", "b"),), "draws": (0,)}, ignores=LEFT_OUT,
          scale={"measure": {"tau": 0, "granulated": 0}}, permute={"measure,gap": {"tau": None, "granulated": None}},
          skip=NO_JIT),
]  # fmt: skip

LOCAL = [
    Entry(
        "generalization.local_rademacher",
        gen.local_rademacher,
        {"eigs": quantity([1.0, 0.5, 0.125]), "n": number(8.0), "variance": number(0.25)},
        invalid={"n": (0.0, -1.0), "variance": (-1.0,), "eigs": (np.float32([1.0, -1.0, 0.5]),)},
        permute={"eigs": {"": None}},
        derivatives=(Derivative(("eigs", "n", "variance"), condition=10),),
    ),
    Entry(
        "generalization.local_complexity",
        gen.local_complexity,
        {"eigs": quantity([1.0, 0.5, 0.125]), "n": quantity([8.0, 50.0])},
        invalid={"n": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])), "eigs": (np.float32([1.0, -1.0, 0.5]),)},
        permute={"eigs": {"fixed_point": None, "modes": None}, "n": {"fixed_point": 0, "modes": 0}},
        derivatives=(Derivative(("eigs", "n"), output=lambda found: found.fixed_point, condition=10),),
    ),
]
ENTRIES = [*CAPACITIES, *LOCAL, *NORMS, *NETWORKS, *RANKINGS]


class TestGeneralization(Gates):
    """Every public function of the room."""

    entries = ENTRIES
