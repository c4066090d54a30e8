"""The gates of `expressivity`: functions of arrays. Networks and exact counts are in `test_expressivity_host`."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, points, quantity, tree

from jaxtheory.expressivity import barron, depth, greedy, kolmogorov, relu_network, ridgelet, two_layers

RNG = np.random.default_rng(0)
LINE = np.linspace(-1, 1, 6)[:, None]
VALUES = RNG.normal(size=6)
POSITIVE = np.array([0.5, 1.0, 1.5, 2.0])
PAIRS_A, PAIRS_B = np.array([[1.0], [-2.0], [0.5]]), np.array([0.25, -0.5, 1.0])
PAIRS = ridgelet.Grid(*(jnp.asarray(v, jnp.float32) for v in (PAIRS_A, PAIRS_B, np.ones(3))), (0.1, 0.5))
STEP = kolmogorov.superpose(lambda x: x.sum(1), dim=2, base=6, digits=1)
NET = [(RNG.normal(size=(2, 3)), RNG.normal(size=3)), (RNG.normal(size=(3, 1)), RNG.normal(size=1))]
PLANE = np.array([[0.5, -1.0], [0.25, 0.75]])
DRAWS = {"precision": "the draws of the two precisions differ"}
PLAIN = {"precision": "Python numbers pass through"}
OFF = "neurons are 0 on one side"
DECAYS = "the Gaussian decays"
NONE, MINUS = np.zeros(4, np.float32), np.float32([-1, 1, 1, 1])

BOUNDS = [
    Entry(
        "expressivity.barron.constant",
        barron.constant,
        {"frequencies": points(LINE[:4]), "magnitudes": quantity(POSITIVE), "density": quantity(POSITIVE[::-1])},
        invalid={"magnitudes": (MINUS,), "density": (NONE, MINUS)},
        scale={
            "frequencies": {"value": 1, "standard_error": 1},
            "magnitudes": {"value": 1, "standard_error": 1},
            "density": {"value": -1, "standard_error": -1},
        },
        permute={"frequencies,magnitudes,density": {"value": None, "standard_error": None}},
        derivatives=(Derivative(("frequencies", "magnitudes", "density"), condition=10),),
    ),
    Entry(
        "expressivity.barron.gaussian_constant",
        lambda width: barron.gaussian_constant(3, width),
        {"width": number(0.5)},
        invalid={"width": (0.0, -1.0)},
        skip=PLAIN,
    ),
    Entry(
        "expressivity.barron.bound",
        lambda **given: barron.bound(neurons=10, **given),
        {"constant": number(2.0), "radius": number(0.5)},
        invalid={"constant": (-1.0,), "radius": (0.0, -1.0)},
        skip=PLAIN,
    ),
    Entry(
        "expressivity.barron.monte_carlo",
        lambda key, x: barron.monte_carlo(key, x, 4),
        {"key": key(), "x": points(LINE)},
        permute={"x": {"": 0}},
        skip=DRAWS,
    ),
    Entry(
        "expressivity.barron.monte_carlo_law",
        lambda x: barron.monte_carlo_law(x, 4),
        {"x": points(LINE)},
        at_infinity={"x": "far out the target is 0"},
        permute={"x": {"": None}},
        derivatives=(Derivative(("x",)), Derivative(("x",), at={"x": 0 * LINE})),
    ),
    Entry(
        "expressivity.depth.legendre",
        lambda t: depth.legendre(t, 3, 4),
        {"t": quantity([0.5, -0.75, 1.0])},
        derivatives=(Derivative(("t",)),),
    ),
    Entry(
        "expressivity.depth.tube_certificate",
        depth.tube_certificate,
        {"dim": quantity([4.0, 6.0]), "neurons": quantity([2.0, 3.0]), "ratio": quantity([2.0, 3.0])},
        invalid={
            "dim": (np.float32([1.0, 4.0]),),
            "neurons": (np.float32([-1.0, 2.0]),),
            "ratio": (np.float32([0.5, 2.0]),),
        },
        permute={"dim,neurons,ratio": {"": 0}},
        derivatives=(Derivative(("neurons", "ratio")),),
        slow=True,
    ),
    Entry(
        "expressivity.relu_network.evaluate",
        relu_network.evaluate,
        {"net": tree(NET), "x": points(PLANE)},
        at_infinity={"net": OFF, "x": OFF},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("net", "x")),),
        skip={"axes": "the network takes two inputs"},
    ),
    Entry(
        "expressivity.kolmogorov.step_bound",
        lambda **given: kolmogorov.step_bound(dim=2, terms=5, **given),
        {"norm": number(1.0), "oscillation": number(0.5)},
        invalid={"norm": (-1.0,), "oscillation": (-1.0,)},
        skip=PLAIN,
    ),
    *[
        Entry(
            f"expressivity.kolmogorov.{f.__name__}",
            lambda x, f=f: f(STEP, x),
            {"x": points([[0.25, 0.5], [0.0, 0.75]])},
            invalid={"x": (np.float32([[2.0, 0.0], [0.0, 0.0]]), np.float32([[-0.5, 0.0], [0.0, 0.0]]))},
            integer_values={"x": [[0, 0], [0, 0]]},
            skip={"axes": "the function has two variables", "precision": "the tables are of the default dtype"},
        )
        for f in (kolmogorov.evaluate, kolmogorov.inner_sums)
    ],
]

FITS = [
    Entry(
        "expressivity.greedy.fit",
        lambda **given: greedy.fit(neurons=2, **given),
        {
            "x": points(LINE),
            "y": quantity(VALUES),
            "directions": points([[1.0], [-1.0]]),
            "offsets": quantity([-1.5, -0.5, 0.25]),
            "weights": quantity(np.full(6, 0.125)),
        },
        invalid={"weights": (np.float32([-1, 1, 1, 1, 1, 1]),)},
        at_infinity={"offsets": OFF},
        integer_values={"weights": np.ones(6, int)},
        scale={"y": {"coefficients": 1, "errors": 1, "directions": 0, "offsets": 0}},
        permute={"x,y,weights": {"coefficients": None, "errors": None}},
        derivatives=(Derivative(("y",), output=lambda net: (net.coefficients, net.errors), condition=10),),
        slow=True,
    ),
    Entry(
        "expressivity.greedy.evaluate",
        lambda x: greedy.evaluate(
            greedy.Greedy(
                jnp.ones((2, 1)), jnp.asarray([0.0, 0.5]), jnp.asarray([1.0, -3.0]), jnp.ones(2), jnp.int32(0)
            ),
            x,
        ),
        {"x": points(LINE)},
        at_infinity={"x": OFF},
        permute={"x": {"": 0}},
    ),
    Entry(
        "expressivity.two_layers.adversary",
        lambda **given: two_layers.adversary(neurons=1, starts=1, steps=2, **given),
        {
            "key": key(),
            "train": tree((LINE, VALUES)),
            "fresh": tree((LINE, VALUES)),
            "spread": number(1.0),
            "rate": number(0.25),
        },
        invalid={"spread": (0.0, -1.0), "rate": (0.0, -1.0)},
        skip=DRAWS,
        slow=True,
    ),
]

RIDGELETS = [
    Entry(
        "expressivity.ridgelet.gaussian_derivative",
        lambda t: ridgelet.gaussian_derivative(t, 3),
        {"t": quantity([0.5, -1.0, 30.0])},
        at_infinity={"t": DECAYS},
        derivatives=(Derivative(("t",)),),
    ),
    Entry(
        "expressivity.ridgelet.gaussian_transform",
        lambda a, b: ridgelet.gaussian_transform(a, b, derivative=2),
        {"a": points(PAIRS_A), "b": quantity(PAIRS_B)},
        at_infinity={"a": DECAYS, "b": DECAYS},
        permute={"a,b": {"": 0}},
        derivatives=(Derivative(("a", "b")), Derivative(("a", "b"), at={"a": 0 * PAIRS_A})),
    ),
    Entry(
        "expressivity.ridgelet.transform",
        lambda **given: ridgelet.transform(derivative=2, **given),
        {
            "values": quantity(VALUES[:3]),
            "x": points(LINE[:3]),
            "weights": quantity(POSITIVE[:3]),
            "a": points(PAIRS_A),
            "b": quantity(PAIRS_B),
        },
        at_infinity={"x": DECAYS, "a": DECAYS, "b": DECAYS},
        scale={"values": {"": 1}},
        permute={"a,b": {"": 0}, "values,x,weights": {"": None}},
        derivatives=(Derivative(("values", "x", "weights", "a", "b")),),
    ),
    Entry(
        "expressivity.ridgelet.transform_slices",
        lambda **given: ridgelet.transform_slices(derivative=2, **given),
        {
            "values": quantity(VALUES[:3]),
            "x": points(LINE[:3]),
            "weights": quantity(POSITIVE[:3]),
            "directions": points([[1.0], [-1.0]]),
            "scales": quantity([2.0, 3.0]),
            "offsets": quantity([0.25, -0.5]),
            "frequencies": quantity(np.arange(8) / 4),
        },
        invalid={
            "scales": (np.float32([0.0, 1.0]),),
            "frequencies": (np.float32(np.arange(8)), np.float32(np.ones(8))),
        },
        at_infinity={"offsets": DECAYS},
        scale={"values": {"": 1}},
        derivatives=(Derivative(("values", "weights", "offsets")),),
        skip={"kinds": "no integer frequencies are close enough"},
        slow=True,
    ),
    Entry(
        "expressivity.ridgelet.reconstruct",
        lambda **given: ridgelet.reconstruct(pairs=PAIRS, activation="relu", **given),
        {"spectrum": quantity([1.0, -0.5, 2.0]), "x": points(LINE), "constant": number(-2.0)},
        invalid={"constant": (0.0,)},
        scale={"spectrum": {"": 1}},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("spectrum", "x", "constant")),),
    ),
    Entry(
        "expressivity.ridgelet.sample_network",
        lambda **given: ridgelet.sample_network(pairs=PAIRS, neurons=2, activation="relu", **given),
        {
            "key": key(),
            "spectrum": quantity([1.0, -0.5, 2.0]),
            "x": points(LINE),
            "values": quantity(VALUES),
            "constant": number(-2.0),
        },
        invalid={"constant": (0.0,), "spectrum": (np.zeros(3, np.float32),)},
        skip=DRAWS,
        slow=True,
    ),
    Entry(
        "expressivity.ridgelet.evaluate",
        lambda x: ridgelet.evaluate(ridgelet.Sampled(PAIRS.a, PAIRS.b, PAIRS.b, PAIRS.b), x, activation="tanh"),
        {"x": points(LINE)},
        at_infinity={"x": "tanh is bounded"},
        permute={"x": {"": 0}},
    ),
]
ENTRIES = BOUNDS + FITS + RIDGELETS


class TestExpressivity(Gates):
    """Every function of the room that takes arrays."""

    entries = ENTRIES
