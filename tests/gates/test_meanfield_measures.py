"""The gates of the observables, exact laws, radial limit and Wasserstein distances of `meanfield`."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static
from gates.test_meanfield import NEURON, THETA, WEIGHTS, WELL, X, Y

from jaxtheory import meanfield
from jaxtheory.meanfield import observables, oracles, radial, wasserstein

DRAWS = {"precision": "draws differ between dtypes"}
DIRECTIONS = {"precision": "directions differ between dtypes"}
NEGATIVE = np.float32([0.4, -0.1, 0.3, 0.2])
PAIR = {"x": points(THETA), "y": points(THETA[::-1] + 0.5)}
SPREAD = np.random.default_rng(0).standard_normal((8, 2))
GRID = np.linspace(-8.0, 8.0, 65)
A, B = np.array([[1.0, 0.4], [0.4, 0.6]]), np.array([[2.0, -0.3], [-0.3, 0.5]])
GAUSSIANS = {"mean1": quantity([1.0, -0.5]), "covariance1": quantity(A), "mean2": quantity([0.2, 0.1])}
LINE = np.array([[-0.5], [0.0], [1.0], [2.0]])


def coincident(order=2, **at):
    """Derivatives where every point of x is a point of y."""
    return Derivative(("x", "y"), at={"y": THETA} | at, output=cost, order=order)


def cost(found):
    """The number that is differentiated: a cost, or the result itself."""
    return getattr(found, "cost", getattr(found, "value", found))


def weighted(function):
    """A function of a cloud, with its particles and weights as arguments."""
    return lambda particles, weights, **others: function(meanfield.as_cloud(particles, weights), **others)


def laid_out(n):
    """Points and weights, for small numbers of them."""
    rng = np.random.default_rng(n)
    return {"particles": points(rng.standard_normal((n, 2))), "weights": quantity(rng.uniform(0.5, 1, n))}


def clouds(n):
    """Two clouds of n points."""
    rng = np.random.default_rng(n)
    return {name: points(rng.standard_normal((n, 2))) for name in ("x", "y")}


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


def stacked(function):
    """A distance as a function of both clouds at once, so that they are scaled together."""
    return lambda both: function(both[:4], both[4:])


TOGETHER = {"wrong kinds": "its clouds are named x and y in the error"}
BOTH = {"both": quantity(np.concatenate([THETA, THETA[::-1] + 0.5]))}
DISTANCES = [
    Entry(
        "meanfield.wasserstein.w1d",
        wasserstein.w1d,
        {
            "x": points([[0.3], [-1.0], [2.0]]),
            "y": points([[0.1], [1.0], [0.7], [-2.0]]),
            "p": number(1.5),
            "x_weights": quantity([0.2, 0.5, 0.3]),
            "y_weights": quantity(WEIGHTS),
        },
        invalid={"p": (0.5,), "x_weights": (np.float32([1, -1, 1]),), "y_weights": (np.ones(3, np.float32),)},
        shift={("x", "y"): ("",)},
        scale={"x_weights": {"": 0}},
        permute={"x,x_weights": {"": None}},
        derivatives=(
            Derivative(("x", "y", "p", "x_weights", "y_weights")),
            Derivative(("x", "y"), at={"y": LINE, "x": LINE[1:], "p": np.array(2.0)}),
            Derivative(("x", "y"), at={"y": LINE, "x": LINE[1:], "p": np.array(4.0)}),
        ),
    ),
    Entry(
        "meanfield.wasserstein.w1d (equal weights)",
        stacked(lambda x, y: wasserstein.w1d(x, y, 1.0)),
        {"both": quantity(BOTH["both"].value.ravel()[:8])},
        scale={"both": {"": 1}},
        skip=TOGETHER,
    ),
    Entry(
        "meanfield.wasserstein.sliced",
        lambda x, y, draw, p: wasserstein.sliced(x, y, draw, p=p, projections=5),
        PAIR | {"draw": key(), "p": number(2.0)},
        invalid={"p": (0.5,)},
        shift={("x", "y"): ("value", "standard_error")},
        permute={"x": {"value": None}},
        skip=DIRECTIONS,
        derivatives=(coincident(), Derivative(("x", "y", "p"), output=cost)),
    ),
    Entry(
        "meanfield.wasserstein.sliced (scaled)",
        lambda both, draw: wasserstein.sliced(both[:4], both[4:], draw, p=1.0, projections=5),
        BOTH | {"draw": key()},
        scale={"both": {"value": 1, "standard_error": 1}},
        skip=DIRECTIONS | TOGETHER,
    ),
    Entry(
        "meanfield.wasserstein.bures",
        wasserstein.bures,
        GAUSSIANS | {"covariance2": quantity(B)},
        invalid={"covariance1": (np.float32([[1, 0], [0, -1]]), np.float32([[1, 2], [0, 1]]))},
        shift={("mean1", "mean2"): ("",)},
        derivatives=(
            Derivative(
                ("mean1", "covariance1", "mean2", "covariance2"),
                at=dict.fromkeys(("covariance1", "covariance2"), np.eye(2)),
            ),
            Derivative(("mean1", "covariance2"), at={"covariance1": np.diag([1.0, 0.0]), "mean2": [1.0, -0.5]}),
        ),
    ),
    Entry(
        "meanfield.wasserstein.bures (scaled)",
        lambda pair: wasserstein.bures(jnp.zeros(2), pair[0], jnp.zeros(2), pair[1]),
        {"pair": quantity([A, B])},
        scale={"pair": {"": 1}},
        skip={
            "kinds": "integers round to matrices that are not positive",
            "precision": "its means are float32",
            "wrong kinds": "covariances are named so in the error",
        },
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
        "meanfield.wasserstein.exact",
        wasserstein.exact,
        lambda n: clouds(n) | {"p": number(1.5)},
        invalid={"p": (0.0, -1.0)},
        shift={("x", "y"): ("cost",)},
        permute={"x": {"cost": None}},
        derivatives=(
            Derivative(("x", "y", "p"), output=cost),
            Derivative(("x", "y"), at={"y": clouds(5)["x"].value, "p": np.array(2.0)}, output=cost),
            Derivative(("x", "y"), at={"y": clouds(5)["x"].value, "p": np.array(4.0)}, output=cost),
        ),
    ),
    Entry(
        "meanfield.wasserstein.exact (scaled)",
        stacked(lambda x, y: wasserstein.exact(x, y, 1.0)),
        BOTH,
        scale={"both": {"cost": 1, "residual": 0}},
        skip=TOGETHER,
    ),
    Entry(
        "meanfield.wasserstein.sinkhorn",
        wasserstein.sinkhorn,
        PAIR
        | {
            "x_weights": quantity(WEIGHTS),
            "y_weights": quantity(WEIGHTS[::-1]),
            "epsilon": number(1.0),
            "tolerance": number(1e-4),
        },
        invalid={"epsilon": (0.0,), "tolerance": (-1.0,), "x_weights": (NEGATIVE,)},
        shift={("x", "y"): ("cost",)},
        scale={"x_weights": {"cost": 0, "residual": 0}},
        permute={"x,x_weights": {"cost": None}},
        condition=1e3,
        derivatives=(
            Derivative(
                ("x", "y", "x_weights", "y_weights", "epsilon"),
                at={"tolerance": np.array(1e-13)},
                output=cost,
                condition=1e3,
            ),
            coincident(tolerance=np.array(1e-13)),
        ),
    ),
    Entry(
        "meanfield.wasserstein.squared_distances",
        wasserstein.squared_distances,
        clouds,
        shift={("x", "y"): ("",)},
        permute={"x": {"": 0}, "y": {"": 1}},
        derivatives=(coincident(y=clouds(5)["x"].value),),
    ),
    Entry(
        "meanfield.wasserstein.certified",
        wasserstein.certified,
        at_infinity={"costs": "an infinite cost forbids a pair that is not matched"},
        args={"costs": quantity([[0.1, 2.0], [1.0, 0.2]]), "partners": integers([0, 1])},
        invalid={"costs": (np.float32([[-1.0, 2.0], [1.0, 0.2]]),)},
        scale={"costs": {"cost": 1, "residual": 0}},
        derivatives=(Derivative(("costs",), output=cost),),
    ),
    Entry(
        "meanfield.wasserstein.empirical_rate",
        lambda draw, p: wasserstein.empirical_rate(1, (4, 8, 16), draw, p=p, repeats=4),
        {"draw": key(), "p": number(2.0)},
        invalid={"p": (0.5,)},
        skip=DRAWS,
    ),
]

ENTRIES = OBSERVABLES + LAWS + RADIAL + DISTANCES


class TestMeasures(Gates):
    """Every public function of the room's submodules."""

    entries = ENTRIES
