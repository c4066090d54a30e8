"""The gates of the observables, exact laws, radial limit and Wasserstein distances of `meanfield`."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, points, quantity, static
from gates.test_meanfield import NEURON, THETA, WEIGHTS, WELL, X, Y
from gates.test_transport import LINE, NEGATIVE, PAIR, A, B

from jaxtheory import meanfield
from jaxtheory.meanfield import observables, oracles, radial, wasserstein

GATES = ("valid", "jit", "poison", "kinds", "wrong kinds", "precision")
DRAWS = {"precision": "draws differ between dtypes"}
SPREAD = np.random.default_rng(0).standard_normal((8, 2))
GRID = np.linspace(-8.0, 8.0, 65)


def weighted(function):
    """A function of a cloud, with its particles and weights as arguments."""
    return lambda particles, weights, **others: function(meanfield.as_cloud(particles, weights), **others)


def laid_out(n):
    """Points and weights, for small numbers of them."""
    rng = np.random.default_rng(n)
    return {"particles": points(rng.standard_normal((n, 2))), "weights": quantity(rng.uniform(0.5, 1, n))}


OBSERVABLES = [
    Entry(
        "meanfield.observables.moments",
        weighted(observables.moments),
        laid_out,
        invalid={"weights": (np.float32([0.4, -0.1, 0.3, 0.2, 1.0]),)},
        shift={("particles",): ("covariance",)},
        scale={"particles": {"mean": 1}, "weights": {"mean": 0, "covariance": 0}},
        permute={"particles,weights": {"mean": None, "covariance": None}},
        derivatives=(Derivative(("particles", "weights"), at={"particles": np.zeros((5, 2))}),),
    ),
    Entry(
        "meanfield.observables.entropy",
        weighted(lambda cloud: observables.entropy(cloud, neighbours=1)),
        {"particles": points(SPREAD), "weights": quantity(np.linspace(1, 2, 8))},
        invalid={"weights": (np.float32([1, -1, 1, 1, 1, 1, 1, 1]),)},
        shift={("particles",): ("value", "standard_error")},
        scale={"weights": {"value": 0, "standard_error": 0}, "particles": {"standard_error": 0}},
        scale_condition=10,
        permute={"particles,weights": {"value": None, "standard_error": None}},
        derivatives=(Derivative(("particles", "weights"), output=lambda found: found.value),),
    ),
    Entry(
        "meanfield.observables.free_energy",
        lambda particles, weights, temperature: observables.free_energy(
            WELL, temperature, meanfield.as_cloud(particles, weights), neighbours=1
        ),
        {"particles": quantity(SPREAD), "weights": quantity(np.linspace(1, 2, 8)), "temperature": number(0.5)},
        invalid={"weights": (np.float32([1, -1, 1, 1, 1, 1, 1, 1]),), "temperature": (-1.0,)},
        permute={"particles,weights": {"value": None, "standard_error": None}},
        derivatives=(Derivative(("particles", "weights", "temperature"), output=lambda found: found.value),),
    ),
    Entry(
        "meanfield.observables.duality_gap",
        lambda particles, temperature: observables.duality_gap(
            WELL, temperature, particles, observables.grid_nodes(jnp.asarray(GRID, jnp.float32)), neighbours=1
        ),
        {"particles": quantity(SPREAD[:, :1]), "temperature": number(1.5)},
        invalid={"temperature": (-1.0, 0.0)},
        permute={"particles": {"value": None, "standard_error": None}},
        skip={"precision": "its nodes are float32"},
        derivatives=(Derivative(("particles", "temperature"), output=lambda found: found.value),),
    ),
    Entry(
        "meanfield.observables.grid_nodes",
        observables.grid_nodes,
        {"axes": quantity(GRID)},
        skip=dict.fromkeys(("valid", "jit", "poison", "kinds", "wrong kinds", "precision"), "tested as `axis` below"),
    ),
    Entry(
        "meanfield.observables.grid_nodes (axis)",
        lambda axis: observables.grid_nodes(axis)._replace(coarse=None),  # which has log-weights of -inf
        {"axis": quantity([-1.0, -0.5, 0.0, 0.5, 1.0])},
        integer_values={"axis": [0, 1, 2, 3, 4]},
        skip={"wrong kinds": "its axis is one of `axes`"},
        invalid={"axis": (np.float32([0, 1, 2, 3, 9]), np.float32([4, 3, 2, 1, 0]))},
    ),
    Entry(
        "meanfield.observables.gaussian_nodes",
        lambda draw, variance: observables.gaussian_nodes(draw, 3, 2, variance),
        {"draw": key(), "variance": number(1.5)},
        invalid={"variance": (0.0, -1.0)},
        skip=DRAWS,
    ),
    Entry(
        "meanfield.observables.dual_certificate",
        lambda particles, weights, at: observables.dual_certificate(WELL, meanfield.as_cloud(particles, weights), at),
        {"particles": quantity(THETA), "weights": quantity(WEIGHTS), "at": quantity(THETA[:2] + 0.5)},
        at_infinity={"at": "the variation is infinite there, so lowest elsewhere"},
        invalid={"weights": (NEGATIVE,)},
        permute={"particles,weights": {"lowest": None, "on_support": None}},
        skip={"wrong kinds": "points are named so in the error"},
    ),
    Entry(
        "meanfield.observables.chaos_error",
        observables.chaos_error,
        {"outputs": quantity(THETA), "limit": quantity([0.5, -0.5]), "particles": static(10)},
        invalid={"particles": (0,)},
        permute={"outputs": {"value": None, "standard_error": None}},
        shift={("outputs", "limit"): ("value", "standard_error")},
        derivatives=(Derivative(("outputs", "limit"), output=lambda found: found.value),),
    ),
    Entry(
        "meanfield.observables.clt_variance",
        observables.clt_variance,
        {"outputs": quantity(THETA), "particles": static(10)},
        invalid={"particles": (0,)},
        permute={"outputs": {"value": None, "standard_error": None}},
        shift={("outputs",): ("value", "standard_error")},
        derivatives=(Derivative(("outputs",), output=lambda found: found.value),),
    ),
    Entry(
        "meanfield.observables.initial_chaos",
        lambda particles, weights, x: observables.initial_chaos(NEURON, meanfield.as_cloud(particles, weights), x),
        {"particles": quantity(THETA), "weights": quantity(WEIGHTS), "x": quantity(X)},
        invalid={"weights": (NEGATIVE,)},
        at_infinity=dict.fromkeys(("particles", "x"), "tanh is bounded"),
        permute={"particles,weights": {"": None}, "x": {"": 0}},
        derivatives=(Derivative(("particles", "weights", "x")),),
    ),
]


def without_residual(found):
    """The fields of a result that do not measure rounding."""
    return {name: value for name, value in found._asdict().items() if name != "residual"}


LAWS = [
    Entry(
        "meanfield.oracles.linear_gaussian",
        oracles.linear_gaussian,
        {
            "x": points(X),
            "y": quantity(Y),
            "ridge": number(0.3),
            "temperature": number(0.2),
            "particles": static(4),
            "step_size": number(0.1),
        },
        invalid={"ridge": (0.0,), "temperature": (-1.0,), "step_size": (-0.1, 9.0), "particles": (0,)},
        scale={"y": {"mean": 1, "mean_covariance": 0}, "temperature": {"mean_covariance": 1, "particle_covariance": 1}},
        permute={"x,y": {"mean": None, "mean_covariance": None, "particle_covariance": None}},
        derivatives=(Derivative(("x", "y", "ridge", "temperature", "step_size"), at={"x": np.eye(3)[:, :2]}),),
    ),
    Entry(
        "meanfield.oracles.gibbs_fixed_point",
        lambda x, y, ridge, temperature: without_residual(
            oracles.gibbs_fixed_point(NEURON, x, y, ridge=ridge, temperature=temperature, grid=GRID.tolist())
        ),
        {"x": quantity(X[:, :1]), "y": quantity(Y), "ridge": number(0.5), "temperature": number(0.4)},
        invalid={"ridge": (0.0,), "temperature": (-1.0,)},
        at_infinity={"x": "tanh is bounded"},
        permute={"x,y": {"outputs": 0, "density": None}},
        derivatives=(Derivative(("x", "y", "ridge", "temperature"), output=lambda found: list(found.values())[:4]),),
        slow=True,
    ),
    Entry(
        "meanfield.oracles.jko_gaussian",
        oracles.jko_gaussian,
        {
            "mean": quantity([1.0, -0.5]),
            "covariance": quantity(A),
            "stiffness": quantity(B),
            "center": quantity([0.2, 0.1]),
            "temperature": number(0.7),
            "step_size": number(0.8),
        },
        invalid={"temperature": (-1.0,), "step_size": (0.0,), "covariance": (np.float32([[1, 0], [0, -1]]),)},
        derivatives=(
            Derivative(
                ("mean", "covariance", "stiffness", "center", "temperature", "step_size"),
                at={"covariance": np.eye(2), "stiffness": np.eye(2)},
            ),
            Derivative(("temperature", "step_size"), at={"stiffness": np.zeros((2, 2))}),
        ),
    ),
    Entry(
        "meanfield.oracles.svgd_gaussian",
        lambda mean, covariance, precision, center, step_size: oracles.svgd_gaussian(
            mean, covariance, precision=precision, center=center, step_size=step_size, steps=2
        ),
        {
            "mean": quantity([1.0, -0.5]),
            "covariance": quantity(A),
            "precision": quantity(B),
            "center": quantity([0.2, 0.1]),
            "step_size": number(0.1),
        },
        invalid={"step_size": (-0.1,)},
        derivatives=(Derivative(("mean", "covariance", "precision", "center", "step_size")),),
    ),
]

RADIAL = [
    Entry(
        "meanfield.radial.ramp",
        radial.ramp,
        {"z": quantity([0.7, 1.2, 1.6])},
        at_infinity={"z": "the ramp is bounded"},
        derivatives=(Derivative(("z",)),),
    ),
    Entry(
        "meanfield.radial.mixture",
        lambda draw, delta: radial.mixture(draw, 5, 3, delta),
        {"draw": key(), "delta": number(0.8)},
        invalid={"delta": (0.0, 1.0, -1.0)},
        skip=DRAWS,
    ),
    Entry(
        "meanfield.radial.tabulate",
        lambda reach, a: radial.tabulate("softplus", 3, reach=reach, points=16)(a),
        {"reach": number(2.0), "a": number(1.2)},
        invalid={"reach": (0.0, -1.0)},
        skip={"wrong kinds": "its result is called with a number by `risk`"},
    ),
    Entry(
        "meanfield.radial.risk",
        lambda delta, particles: radial.risk(lambda a: jnp.exp(-(a**2)), 5, delta).value(meanfield.as_cloud(particles)),
        {"delta": number(0.6), "particles": quantity([0.5, 1.0, 1.5])},
        invalid={"delta": (0.0, 1.0)},
        permute={"particles": {"": None}},
        at_infinity={"particles": "this ψ vanishes there"},
        derivatives=(Derivative(("particles", "delta")),),
    ),
    Entry(
        "meanfield.radial.initial_radii",
        lambda scale: radial.initial_radii(5, 3, scale),
        {"scale": number(0.8)},
        invalid={"scale": (-1.0,)},
        scale={"scale": {"": 1}},
        derivatives=(Derivative(("scale",)),),
    ),
    Entry(
        "meanfield.radial.sgd",
        lambda particles, draw, delta, step_size: one_step(
            radial.sgd("tanh", delta, step_size=step_size), particles, draw
        ),
        {"particles": quantity(THETA), "draw": key(), "delta": number(0.6), "step_size": number(0.1)},
        at_infinity={"particles": "the slope of tanh is then 0"},
        invalid={"delta": (0.0, 1.0), "step_size": (0.0,)},
        skip=DRAWS,
    ),
    Entry(
        "meanfield.radial.least_risk",
        lambda delta: radial.least_risk(radial.ramp, delta, points=50),
        {"delta": number(0.3)},
        invalid={"delta": (0.0, 1.0)},
        skip=dict.fromkeys(("jit", "precision"), "a number found outside `jit`"),
    ),
    Entry(
        "meanfield.radial.threshold",
        lambda: {"threshold": radial.threshold(radial.ramp)},
        {},
        skip=dict.fromkeys(("jit", "precision"), "a number found outside `jit`"),
        slow=True,
    ),
]


def one_step(flow, particles, draw):
    """The particles after one step of a flow."""
    cloud = meanfield.as_cloud(particles)
    return flow.step(cloud, flow.init(cloud), draw, jnp.int32(0))[0].particles


TARGETS = {"particles": quantity(THETA), "weights": quantity(WEIGHTS), "target": quantity(THETA[::-1] + 0.5)}
TOWARDS = [
    Entry(
        "meanfield.sinkhorn_divergence",
        lambda particles, weights, target, target_weights, epsilon: meanfield.sinkhorn_divergence(
            target, target_weights, epsilon=epsilon
        )(meanfield.as_cloud(particles, weights)),
        TARGETS | {"target_weights": quantity(WEIGHTS[::-1]), "epsilon": number(1.0)},
        invalid={"epsilon": (0.0,), "weights": (NEGATIVE,), "target_weights": (NEGATIVE,)},
        permute={"particles,weights": {"": None}, "target,target_weights": {"": None}},
        condition=1e3,
        slow=True,
    ),
    Entry(
        "meanfield.sliced",
        lambda particles, weights, target, draw: meanfield.sliced(target, draw, projections=5)(
            meanfield.as_cloud(particles, weights)
        ),
        TARGETS | {"draw": key()},
        invalid={"weights": (NEGATIVE,)},
        permute={"particles,weights": {"": None}},
        skip={"precision": "directions differ between dtypes"},
        slow=True,
    ),
]
CALLS = dict.fromkeys(("precision", "sizes"), "measured on the function of `transport` that it calls")
SAME = "the function of `transport`, whose gates it passes there"
WEIGHED = {"x_weights": quantity(WEIGHTS), "y_weights": quantity(WEIGHTS[::-1])}
REGULARIZED = PAIR | WEIGHED | {"epsilon": number(1.0), "tolerance": number(1e-4)}
DISTANCES = [
    Entry(
        "meanfield.wasserstein.w1d",
        wasserstein.w1d,
        {"x": points(LINE), "y": points(LINE[::-1] + 0.5), "p": number(1.5)} | WEIGHED,
        invalid={"p": (0.5,), "x_weights": (NEGATIVE,), "y_weights": (np.ones(3, np.float32),)},
        skip=CALLS,
    ),
    Entry(
        "meanfield.wasserstein.sliced",
        lambda x, y, draw, p: wasserstein.sliced(x, y, draw, p=p, projections=5),
        PAIR | {"draw": key(), "p": number(2.0)},
        invalid={"p": (0.5,)},
        skip=CALLS,
    ),
    Entry(
        "meanfield.wasserstein.exact",
        wasserstein.exact,
        PAIR | {"p": number(1.5)},
        invalid={"p": (0.0, -1.0)},
        skip=CALLS,
    ),
    Entry(
        "meanfield.wasserstein.sinkhorn",
        wasserstein.sinkhorn,
        REGULARIZED,
        invalid={"epsilon": (0.0,), "tolerance": (-1.0,), "x_weights": (NEGATIVE,)},
        condition=1e3,
        skip=CALLS,
    ),
    Entry(
        "meanfield.wasserstein.entropic",
        wasserstein.entropic,
        REGULARIZED,
        invalid={"epsilon": (0.0,), "x_weights": (NEGATIVE,)},
        condition=1e3,
        skip=CALLS,
    ),
    *(
        Entry(f"meanfield.wasserstein.{name}", getattr(wasserstein, name), {}, skip=dict.fromkeys(GATES, SAME))
        for name in ("bures", "certified", "squared_distances")
    ),
    Entry(
        "meanfield.wasserstein.gaussian_w2",
        lambda x, mean, covariance: wasserstein.gaussian_w2(x, mean, covariance),
        {"x": quantity(THETA), "mean": quantity([0.2, 0.1]), "covariance": quantity(B)},
        invalid={"covariance": (np.float32([[1, 0], [0, -1]]),)},
        integer_values={"covariance": [[2, 0], [0, 1]]},
        permute={"x": {"": None}},
        derivatives=(
            Derivative(("x", "mean", "covariance"), at={"covariance": np.eye(2)}),
            Derivative(
                ("x", "mean"),
                at={"x": np.outer([-1.0, 0.0, 1.0, 2.0], [1.0, 2.0]), "covariance": np.outer([1.0, 2.0], [1.0, 2.0])},
                order=1,
                reason="the rank changes",
            ),
        ),
    ),
    Entry(
        "meanfield.wasserstein.empirical_rate",
        lambda draw, p: wasserstein.empirical_rate(1, (4, 8, 16), draw, p=p, repeats=4),
        {"draw": key(), "p": number(2.0)},
        invalid={"p": (0.5,)},
        skip=DRAWS,
    ),
]

ENTRIES = OBSERVABLES + LAWS + RADIAL + TOWARDS + DISTANCES


class TestMeasures(Gates):
    """Every public function of the room's submodules."""

    entries = ENTRIES
