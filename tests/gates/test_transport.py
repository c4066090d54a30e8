"""The gates of transport between weighted clouds."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity

from jaxtheory import transport

THETA = np.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 0.5], [0.0, 2.0]])
WEIGHTS = np.array([0.4, 0.1, 0.3, 0.2])
NEGATIVE = np.float32([0.4, -0.1, 0.3, 0.2])
LINE = np.array([[-0.5], [0.0], [1.0], [2.0]])
A, B = np.array([[1.0, 0.4], [0.4, 0.6]]), np.array([[2.0, -0.3], [-0.3, 0.5]])
PAIR = {"x": points(THETA), "y": points(THETA[::-1] + 0.5)}
GAUSSIANS = {"mean1": quantity([1.0, -0.5]), "covariance1": quantity(A), "mean2": quantity([0.2, 0.1])}
EXACTLY = {"tolerance": np.array(1e-13)}
DIRECTIONS = {"precision": "directions differ between dtypes"}


def coincident(order=2, **at):
    """Derivatives where every point of x is a point of y."""
    return Derivative(("x", "y"), at={"y": THETA} | at, output=cost, order=order)


def cost(found):
    """The number that is differentiated: a cost, or the result itself."""
    return getattr(found, "cost", getattr(found, "value", found))


def clouds(n):
    """Two clouds of n points."""
    rng = np.random.default_rng(n)
    return {name: points(rng.standard_normal((n, 2))) for name in ("x", "y")}


def without_residual(function):
    """A function without the field that measures rounding."""

    def call(**arguments):
        return {name: value for name, value in function(**arguments)._asdict().items() if name != "residual"}

    return call


def stacked(function):
    """A distance as a function of both clouds at once, so that they are scaled together."""
    return lambda both: function(both[:4], both[4:])


TOGETHER = {"wrong kinds": "its clouds are named x and y in the error"}
BOTH = {"both": quantity(np.concatenate([THETA, THETA[::-1] + 0.5]))}
ENTRIES = [
    Entry(
        "transport.w1d",
        transport.w1d,
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
        "transport.w1d (equal weights)",
        stacked(lambda x, y: transport.w1d(x, y, 1.0)),
        {"both": quantity(BOTH["both"].value.ravel()[:8])},
        scale={"both": {"": 1}},
        skip=TOGETHER,
    ),
    Entry(
        "transport.sliced",
        lambda x, y, draw, p: transport.sliced(x, y, draw, p=p, projections=5),
        PAIR | {"draw": key(), "p": number(2.0)},
        invalid={"p": (0.5,)},
        shift={("x", "y"): ("value", "standard_error")},
        permute={"x": {"value": None}},
        skip=DIRECTIONS,
        derivatives=(coincident(), Derivative(("x", "y", "p"), output=cost)),
    ),
    Entry(
        "transport.sliced (scaled)",
        lambda both, draw: transport.sliced(both[:4], both[4:], draw, p=1.0, projections=5),
        BOTH | {"draw": key()},
        scale={"both": {"value": 1, "standard_error": 1}},
        skip=DIRECTIONS | TOGETHER,
    ),
    Entry(
        "transport.bures",
        transport.bures,
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
        "transport.bures (scaled)",
        lambda pair: transport.bures(jnp.zeros(2), pair[0], jnp.zeros(2), pair[1]),
        {"pair": quantity([A, B])},
        scale={"pair": {"": 1}},
        skip={
            "kinds": "integers round to matrices that are not positive",
            "precision": "its means are float32",
            "wrong kinds": "covariances are named so in the error",
        },
    ),
    Entry(
        "transport.exact",
        transport.exact,
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
        "transport.exact (scaled)",
        stacked(lambda x, y: transport.exact(x, y, 1.0)),
        BOTH,
        scale={"both": {"cost": 1, "residual": 0}},
        skip=TOGETHER,
    ),
    Entry(
        "transport.sinkhorn",
        transport.sinkhorn,
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
        "transport.squared_distances",
        transport.squared_distances,
        clouds,
        shift={("x", "y"): ("",)},
        permute={"x": {"": 0}, "y": {"": 1}},
        derivatives=(coincident(y=clouds(5)["x"].value),),
    ),
    Entry(
        "transport.certified",
        transport.certified,
        at_infinity={"costs": "an infinite cost forbids a pair that is not matched"},
        args={"costs": quantity([[0.1, 2.0], [1.0, 0.2]]), "partners": integers([0, 1])},
        invalid={"costs": (np.float32([[-1.0, 2.0], [1.0, 0.2]]),)},
        scale={"costs": {"cost": 1, "residual": 0}},
        derivatives=(Derivative(("costs",), output=cost),),
    ),
    Entry(
        "transport.entropic",
        transport.entropic,
        PAIR
        | {
            "x_weights": quantity(WEIGHTS),
            "y_weights": quantity(WEIGHTS[::-1]),
            "epsilon": number(1.0),
            "p": number(1.5),
            "tolerance": number(1e-4),
        },
        invalid={"epsilon": (0.0,), "p": (0.0, -1.0), "tolerance": (-1.0,), "x_weights": (NEGATIVE,)},
        shift={("x", "y"): ("cost", "potentials.f")},
        scale={"x_weights": {"cost": 0, "residual": 0, "potentials.f": 0}},
        permute={"x,x_weights": {"cost": None, "potentials.f": 0, "potentials.g": None}},
        condition=1e3,
        derivatives=(
            Derivative(
                ("x", "y", "x_weights", "y_weights", "epsilon", "p"),
                at={"tolerance": np.array(1e-13)},
                output=lambda found: (found.cost, found.potentials),
                condition=1e3,
                order=1,
                reason="the second derivatives of potentials; those of the cost follow",
            ),
            Derivative(("x", "y", "x_weights", "epsilon", "p"), at=EXACTLY, output=cost, condition=1e3),
            coincident(tolerance=np.array(1e-13), p=np.array(4.0), epsilon=np.array(20.0)),
        ),
    ),
    Entry(
        "transport.entropic (penalized)",
        transport.entropic,
        PAIR
        | {
            "x_weights": quantity(2 * WEIGHTS),
            "y_weights": quantity(WEIGHTS[::-1]),
            "epsilon": number(1.0),
            "penalty": number(0.7),
            "tolerance": number(1e-3),  # its residual is one that float32 sees
        },
        invalid={"penalty": (0.0, -1.0), "x_weights": (NEGATIVE,)},
        shift={("x", "y"): ("cost",)},
        permute={"x,x_weights": {"cost": None, "potentials.f": 0, "potentials.g": None}},
        condition=1e3,
        derivatives=(
            Derivative(("x", "y", "x_weights", "epsilon", "penalty"), at=EXACTLY, output=cost, condition=1e3),
        ),
    ),
    Entry(
        "transport.entropic (scaled)",
        lambda both: transport.entropic(both[:4], both[4:], p=1.0, epsilon=jnp.abs(both).max() / 4),
        BOTH,
        scale={"both": {"cost": 1, "residual": 0, "potentials.f": 1}},
        condition=1e3,
        skip=TOGETHER | {"kinds": "its ε is computed from the numbers"},
    ),
    Entry(
        "transport.line_barycenter",
        lambda samples, weights, masses: transport.line_barycenter(samples, weights, masses=masses),
        {
            "samples": quantity([[0.3, -1.0, 2.0], [0.1, 1.0, 0.7]]),
            "weights": quantity([0.4, 0.6]),
            "masses": quantity([[0.2, 0.5, 0.3], [0.35, 0.1, 0.55]]),
        },
        invalid={"weights": (np.float32([-1, 2]),), "masses": (np.float32([[1, 1, -1], [1, 1, 1]]),)},
        scale={"samples": {"points": 1}, "weights": {"points": 0}, "masses": {"points": 0}},
        permute={"samples,weights,masses": {"points": None}},
        derivatives=(Derivative(("samples", "weights", "masses")),),
    ),
    Entry(
        "transport.fixed_support_barycenter",
        without_residual(transport.fixed_support_barycenter),
        {
            "costs": quantity([[[0.0, 1.0, 0.5], [0.75, 0.25, 1.0]], [[1.0, 0.5, 0.0], [0.25, 0.75, 0.5]]]),
            "masses": quantity([[0.25, 0.75], [0.5, 0.5]]),
            "weights": quantity([0.4, 0.6]),
            "epsilon": number(0.5),
            "tolerance": number(1e-4),
        },
        invalid={
            "weights": (np.float32([-1, 2]),),
            "masses": (np.float32([[1, -1], [1, 1]]),),
            "epsilon": (0.0, -1.0),
            "tolerance": (0.0,),
        },
        integer_values={"masses": [[1, 2], [1, 1]], "epsilon": 1, "tolerance": 1},
        scale={"weights": {"masses": 0}, "masses": {"masses": 0}},
        shift={("costs",): ("masses",)},
        permute={"costs,masses,weights": {"masses": None}},
        derivatives=(
            Derivative(
                ("costs", "masses", "weights", "epsilon"),
                at={"tolerance": np.array(1e-13)},
                output=lambda found: found["masses"],
            ),
        ),
        slow=True,
    ),
    Entry(
        "transport.gaussian_barycenter",
        without_residual(transport.gaussian_barycenter),
        {
            "means": quantity([[1.0, -0.5], [0.2, 0.1]]),
            "covariances": quantity([A, B]),
            "weights": quantity([0.4, 0.6]),
            "tolerance": number(1e-4),
        },
        invalid={"weights": (np.float32([-1, 2]),), "tolerance": (0.0,)},
        integer_values={"covariances": [[[2, 0], [0, 1]], [[1, 0], [0, 3]]]},
        scale={"weights": {"mean": 0, "covariance": 0}},
        condition=1e3,
        derivatives=(
            Derivative(
                ("means", "covariances", "weights"),
                at={"tolerance": np.array(1e-12), "covariances": np.array([np.eye(2), np.eye(2)])},
                output=lambda found: (found["mean"], found["covariance"]),
            ),
        ),
        slow=True,
    ),
]


class TestTransport(Gates):
    """Every public function of the room."""

    entries = ENTRIES
