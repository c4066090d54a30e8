"""The gates of `meanfield`: clouds, functionals, flows. Its submodules are in test_meanfield_measures.py."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, points, quantity

from jaxtheory import meanfield

DRAWS = {"precision": "draws differ between dtypes"}
X, Y = np.array([[1.2, 0.3], [-0.4, 1.0], [0.2, -1.1]]), np.array([0.8, -0.5, 0.3])
THETA = np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 0.5], [0.0, 2.0]])
WEIGHTS = np.array([0.4, 0.1, 0.3, 0.2])
NEURON = meanfield.neuron("tanh")


def kernel(x, y):
    """A smooth symmetric kernel that is not stationary."""
    return jnp.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / 2) + 0.1 * x @ y.T


def bump(x, y):
    """A positive kernel."""
    return jnp.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / 2)


def skewed(x, y):
    """A kernel that is not symmetric."""
    return kernel(x, y) * (1 + 0.1 * x[:, :1])


def energy(theta):
    """A smooth potential of a particle, a number or an array."""
    return (theta**2).sum() / 2 + jnp.cos(theta).sum()


def triple(a, b, c):
    """An energy of three particles that is not symmetric."""
    return (jnp.cos(a - b) * c).sum() + (a * b * c).sum()


def slow_well(theta):
    """Confinement whose minimum is not at 0."""
    return ((theta - 1) ** 2).sum() / 2


WELL = meanfield.potential(slow_well)
CONFINED = meanfield.gradient_flow(WELL, 0.1)
RISK = meanfield.risk(NEURON, meanfield.squared_loss, jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32))


def stepped(flow, particles, draw, weights=None):
    """The cloud after one step of a flow."""
    cloud = meanfield.as_cloud(particles, weights)
    cloud, _ = flow.step(cloud, flow.init(cloud), draw, jnp.int32(0))
    return {"particles": cloud.particles, "weights": cloud.weights}


def flow_entry(name, make, skip=None, invalid=None, **arguments):
    """An entry for a flow that takes numbers: one step from four particles."""
    numbers = {argument: number(value) for argument, value in arguments.items()}

    def step(particles, draw, **numbers):
        return stepped(make(**numbers), particles, draw)

    below = dict.fromkeys(numbers, (-1.0,))
    return Entry(
        f"meanfield.{name}",
        step,
        {"particles": quantity(THETA), "draw": key()} | numbers,
        invalid=below | (invalid or {}),
        skip=skip or {},
    )


def stochastic_drift(make):
    """One gradient of an estimator on fresh data, at particles that are not its anchor."""

    def gradient(x, y, particles, draw):
        estimator = make(meanfield.risk(NEURON, meanfield.squared_loss, x, y))
        memory = estimator.init(meanfield.as_cloud(particles))
        return estimator.gradient(meanfield.as_cloud(particles + 0.1), memory, draw, jnp.int32(1))[0]

    return gradient


DATA = {"x": quantity(X), "y": quantity(Y)}
PARTICLES = {"particles": quantity(THETA), "weights": quantity(WEIGHTS)}
AT_EQUAL = Derivative(("particles", "weights"), at={"particles": np.repeat(THETA[:1], 4, 0)})

CLOUDS = [
    Entry(
        "meanfield.as_cloud",
        meanfield.as_cloud,
        PARTICLES,
        invalid={"weights": (np.float32([0.4, -0.1, 0.3, 0.2]),)},
        scale={"particles": {"particles": 1}, "weights": {"weights": 1}},
    ),
    Entry(
        "meanfield.mean",
        lambda particles, weights: meanfield.mean(meanfield.as_cloud(particles, weights), lambda t: t**2 + t, block=3),
        PARTICLES,
        invalid={"weights": (np.float32([0.4, -0.1, 0.3, 0.2]),)},
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL,),
    ),
    Entry(
        "meanfield.pair_mean",
        lambda particles, weights: meanfield.pair_mean(meanfield.as_cloud(particles, weights), skewed, block=3),
        PARTICLES,
        invalid={"weights": (np.float32([0.4, -0.1, 0.3, 0.2]),)},
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL,),
    ),
]


def value(make, **constants):
    """A functional's value on a weighted cloud."""

    def at(particles, weights, **numbers):
        return make(**constants, **numbers).value(meanfield.as_cloud(particles, weights))

    return at


FUNCTIONALS = [
    Entry(
        "meanfield.squared_loss",
        meanfield.squared_loss,
        {"prediction": quantity([1.5, -0.5]), "target": quantity([1.0, 2.0])},
        shift={("prediction", "target"): ("",)},
        derivatives=(Derivative(("prediction", "target"), at={"prediction": [1.0, 2.0]}),),
    ),
    Entry(
        "meanfield.logistic_loss",
        meanfield.logistic_loss,
        {"prediction": quantity([1.5, -0.5]), "target": quantity([1.0, -1.0])},
        at_infinity={
            "prediction": "the loss of a right answer without bound is 0",
            "target": "the loss of a right answer without bound is 0",
        },
        invalid={"target": ([0.0, 1.0],)},
        derivatives=(Derivative(("prediction",), at={"prediction": [0.0, 0.0]}),),
    ),
    Entry(
        "meanfield.neuron",
        lambda x, theta: meanfield.neuron("gaussian")(jnp.asarray(x), jnp.asarray(theta)),
        {"x": quantity([1.2, 0.3]), "theta": quantity([0.5, -1.0])},
        at_infinity={"x": "the activation is bounded", "theta": "the activation is bounded"},
        skip=dict.fromkeys(("kinds", "wrong kinds"), "a unit is called by `predict`, which converts"),
        derivatives=(Derivative(("x", "theta"), at={"x": [0.0, 0.0]}),),
    ),
    Entry(
        "meanfield.two_layer",
        lambda x, theta: meanfield.two_layer("relu")(jnp.asarray(x), jnp.asarray(theta)),
        {"x": quantity([1.2, 0.3]), "theta": quantity([-1.0, 0.5, 1.0])},
        at_infinity={"x": "the activation may be 0 there", "theta": "the activation may be 0 there"},
        skip=dict.fromkeys(("kinds", "wrong kinds"), "a unit is called by `predict`, which converts"),
        scale={"x": {"": 1}},
        derivatives=(Derivative(("x", "theta")),),
    ),
    Entry(
        "meanfield.predict",
        lambda x, particles, weights: meanfield.predict(NEURON, meanfield.as_cloud(particles, weights), x, block=3),
        {"x": quantity(X)} | PARTICLES,
        at_infinity=dict.fromkeys(("x", "particles"), "tanh is bounded"),
        permute={"particles,weights": {"": None}, "x": {"": 0}},
        derivatives=(Derivative(("x", "particles", "weights")),),
    ),
    Entry(
        "meanfield.risk",
        lambda x, y, particles: meanfield.risk(NEURON, meanfield.squared_loss, x, y).value(
            meanfield.as_cloud(particles)
        ),
        DATA | {"particles": quantity(THETA)},
        at_infinity=dict.fromkeys(("x", "particles"), "tanh is bounded"),
        permute={"particles": {"": None}, "x,y": {"": None}},
        derivatives=(Derivative(("x", "y", "particles")),),
    ),
    Entry(
        "meanfield.potential",
        value(lambda: meanfield.potential(energy)),
        PARTICLES,
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL,),
    ),
    Entry(
        "meanfield.quadratic",
        value(lambda ridge: meanfield.quadratic(ridge)),
        PARTICLES | {"ridge": number(0.5)},
        invalid={"ridge": (-1.0,)},
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL, Derivative(("ridge", "particles"), at={"particles": np.zeros((4, 2))})),
    ),
    Entry(
        "meanfield.interaction",
        value(lambda: meanfield.interaction(skewed, block=3)),
        PARTICLES,
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL,),
    ),
    Entry(
        "meanfield.mmd",
        lambda particles, target, target_weights: meanfield.mmd(kernel, target, target_weights).value(
            meanfield.as_cloud(particles)
        ),
        {"particles": points(THETA), "target": points(X), "target_weights": quantity([0.2, 0.3, 0.5])},
        invalid={"target_weights": (np.float32([0.2, -0.3, 0.5]),)},
        permute={"target,target_weights": {"": None}, "particles": {"": None}},
        derivatives=(Derivative(("particles", "target", "target_weights"), at={"particles": np.repeat(X[:1], 4, 0)}),),
    ),
    Entry(
        "meanfield.stein_discrepancy",
        value(lambda: meanfield.stein_discrepancy(energy, kernel, block=3)),
        PARTICLES,
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL,),
        slow=True,
    ),
    Entry(
        "meanfield.many_body",
        value(lambda: meanfield.many_body(triple, 3, block=3)),
        PARTICLES,
        permute={"particles,weights": {"": None}},
        derivatives=(AT_EQUAL,),
        slow=True,
    ),
    Entry(
        "meanfield.first_variation",
        lambda particles, weights, at: meanfield.first_variation(RISK)(meanfield.as_cloud(particles, weights), at),
        PARTICLES | {"at": quantity(THETA[:2] + 0.5)},
        at_infinity=dict.fromkeys(("particles", "at"), "tanh is bounded"),
        invalid={"weights": (np.float32([0.4, -0.1, 0.3, 0.2]),)},
        permute={"particles,weights": {"": None}, "at": {"": 0}},
        skip={"precision": "the data of its functional are float32", "wrong kinds": "points are named so in the error"},
        derivatives=(Derivative(("particles", "weights", "at")),),
    ),
    Entry(
        "meanfield.wasserstein_gradient",
        lambda particles, weights: meanfield.wasserstein_gradient(WELL)(meanfield.as_cloud(particles, weights)),
        PARTICLES,
        invalid={"weights": (np.float32([0.4, -0.1, 0.3, 0.2]),)},
        permute={"particles,weights": {"": 0}},
        derivatives=(Derivative(("particles",)),),
    ),
]

FLOWS = [
    flow_entry(
        "gradient_flow", lambda step_size: meanfield.gradient_flow(WELL, step_size, method="heun"), step_size=0.1
    ),
    flow_entry(
        "langevin",
        lambda temperature, step_size: meanfield.langevin(WELL, temperature, step_size),
        temperature=0.5,
        step_size=0.1,
        skip=DRAWS,
        invalid={"step_size": (0.0,)},
    ),
    flow_entry(
        "kinetic",
        lambda temperature, step_size, friction: meanfield.kinetic(WELL, temperature, step_size, friction=friction),
        temperature=0.5,
        step_size=0.1,
        friction=1.5,
        skip=DRAWS,
        invalid={"friction": (0.0,)},
    ),
    flow_entry(
        "conic",
        lambda weight_rate, step_size: meanfield.conic(WELL, weight_rate, step_size),
        weight_rate=0.5,
        step_size=0.1,
    ),
    flow_entry(
        "noise_injection",
        lambda level: meanfield.gradient_flow(meanfield.noise_injection(WELL, level), 0.1),
        level=0.5,
        skip=DRAWS,
    ),
    flow_entry(
        "jko",
        lambda step_size: meanfield.jko(meanfield.potential(energy), step_size),
        step_size=0.5,
        invalid={"step_size": (0.0,)},
    )._replace(slow=True),
    flow_entry(
        "fictitious_play",
        lambda temperature, share, step_size: meanfield.fictitious_play(
            WELL, temperature, share, step_size=step_size, inner_steps=2
        ),
        temperature=0.5,
        share=0.4,
        step_size=0.1,
        skip=DRAWS,
        invalid={"share": (-0.1, 1.1)},
    )._replace(slow=True),
    flow_entry(
        "fisher_rao",
        lambda rate, temperature: meanfield.fisher_rao(WELL, rate, temperature=temperature, kernel=bump),
        rate=0.5,
        temperature=0.7,
    ),
    flow_entry(
        "birth_death",
        lambda rate: meanfield.birth_death(WELL, rate, base=meanfield.kinetic(WELL, 0.5, 0.1)),
        rate=0.5,
        skip=DRAWS,
    ),
    flow_entry(
        "stein",
        lambda temperature, step_size: meanfield.stein(WELL, kernel, temperature, step_size, block=3),
        temperature=0.5,
        step_size=0.1,
    ),
    flow_entry(
        "consensus",
        lambda **numbers: meanfield.consensus(slow_well, **numbers),
        drift=1.0,
        noise=0.5,
        sharpness=2.0,
        step_size=0.1,
        skip=DRAWS,
        invalid={"drift": (0.0,)},
    ),
    Entry(
        "meanfield.baoab_turn",
        meanfield.baoab_turn,
        {
            "position": quantity([1.0, -0.5]),
            "velocity": quantity([0.2, 0.4]),
            "noise": quantity([-0.3, 1.0]),
            "step_size": number(0.2),
            "friction": number(1.5),
            "temperature": number(0.7),
        },
        invalid={"step_size": (-0.2,), "friction": (-1.0,), "temperature": (-0.5,)},
        derivatives=(Derivative(("position", "velocity", "step_size", "temperature")),),
    ),
    Entry(
        "meanfield.simulate",
        lambda particles, draw: meanfield.simulate(CONFINED, particles, steps=2, key=draw, observe=WELL),
        {"particles": quantity(THETA), "draw": key()},
        permute={"particles": {"state.cloud.particles": 0, "records": None}},
    ),
    Entry(
        "meanfield.exact",
        stochastic_drift(meanfield.exact),
        DATA | {"particles": quantity(THETA), "draw": key()},
        at_infinity=dict.fromkeys(("x", "particles"), "tanh is bounded"),
        skip=dict.fromkeys(("wrong kinds", "kinds"), "its functional converts"),
    ),
    Entry(
        "meanfield.stochastic",
        stochastic_drift(lambda F: meanfield.stochastic(F, 3)),
        DATA | {"particles": quantity(THETA), "draw": key(1)},
        at_infinity=dict.fromkeys(("x", "particles"), "tanh is bounded"),
        ignores=dict.fromkeys(("x", "y"), "a batch need not hold every point"),
        skip=dict.fromkeys(("wrong kinds", "kinds"), "its functional converts"),
    ),
    Entry(
        "meanfield.svrg",
        stochastic_drift(lambda F: meanfield.svrg(F, 3, 2)),
        DATA | {"particles": quantity(THETA), "draw": key(1)},
        at_infinity=dict.fromkeys(("x", "particles"), "tanh is bounded"),
        skip=dict.fromkeys(("wrong kinds", "kinds"), "its functional converts"),
    ),
    Entry(
        "meanfield.dual_averaged",
        lambda x, y, particles, draw: stepped(
            meanfield.gradient_flow(
                meanfield.dual_averaged(NEURON, meanfield.logistic_loss, x, y, regularizer=WELL, inner_steps=1), 0.1
            ),
            particles,
            draw,
        ),
        {"x": quantity(X), "y": quantity([1.0, -1.0, 1.0]), "particles": quantity(THETA), "draw": key()},
        at_infinity=dict.fromkeys(("x", "y", "particles"), "tanh and the slope of the loss are bounded"),
        permute={"x,y": {"particles": None}, "particles": {"particles": 0}},
    ),
]

ENTRIES = CLOUDS + FUNCTIONALS + FLOWS


class TestMeanfield(Gates):
    """Every public function of the room itself."""

    entries = ENTRIES
