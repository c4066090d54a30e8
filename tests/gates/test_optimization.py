"""The gates of `optimization`: landscapes, saddles and implicit bias."""

import jax
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, points, quantity, static

from jaxtheory import optimization
from jaxtheory.optimization import implicit_bias as bias
from jaxtheory.optimization import landscapes, saddles

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 5)), RNG.normal(size=3)
PLANE = np.array([[1.0, 0.75], [1.0, -0.5], [3.0, 0.25]])
SIGNS = np.array([1.0, 1.0, 1.0])
SIGMA = np.array([2.0, 0.5])
TIMES = np.array([0.25, 1.0])
SPECTRUM = np.array([0.5, 1.0, 3.0])
HESSIAN = np.array([[2.0, 0.25], [0.25, 1.0]])
NOISE = np.array([[1.0, 0.5], [0.5, 2.0]])
WEIGHTS = np.array([[1.0, -0.5, 0.25], [0.5, 2.0, 1.0]])


def separate(x, y, **options):
    """The across-limit of its own separator."""
    return bias.limit_across(bias.max_margin(x, y), x, y)


def interpolant(x, y, scale):
    """What the interpolant is; its residual is round-off, of which no digit agrees."""
    found = bias.hyperbolic_interpolant(x, y, scale=scale)
    return {"beta": found.beta, "dual": found.dual, "status": found.status}


def modes(depth):
    """Deep linear modes at one depth, with derivatives at zero, equal and larger singular values."""
    points_ = ({}, {"singular_values": [0.0, 2.0]}, {"singular_values": [0.125, 0.0625]})
    return Entry(
        "optimization.implicit_bias.deep_linear_modes",
        lambda singular_values, start, times: bias.deep_linear_modes(singular_values, depth, start, times),
        {"singular_values": quantity(SIGMA), "start": number(0.125), "times": quantity(TIMES)},
        invalid={"singular_values": (np.float32([-1, 1]),), "start": (0.0, -1.0), "times": (np.float32([-1, 1]),)},
        permute={"singular_values": {"": 1}, "times|": {"": 0}},
        derivatives=(
            *(Derivative(("start", "times"), at=at) for at in points_),
            Derivative(("singular_values", "start", "times")),
        ),
    )


ENTRIES = [
    Entry(
        "optimization.exit_time",
        optimization.exit_time,
        {"key": key(), "gamma": number(1.0), "noise": number(0.5), "step_size": number(0.25), "max_time": number(50.0)},
        invalid=dict.fromkeys(("gamma", "noise", "step_size", "max_time"), (0.0, -1.0)),
        skip={"precision": "the draws of the two precisions differ"},
    ),
    Entry(
        "optimization.mean_exit_time",
        optimization.mean_exit_time,
        {"gamma": static(1.0), "noise": static(0.01)},
        invalid={"gamma": (0.0, np.nan, np.inf), "noise": (-1.0, np.nan)},
        skip={"precision": "computed in float64 on the host"},
    ),
    Entry(
        "optimization.octopus",
        optimization.octopus,
        {"x": quantity([4.0, 0.5, 0.25]), "L": number(1.5), "gamma": number(1.0), "tau": number(1.0)},
        invalid={"L": (0.0,), "gamma": (-1.0,), "tau": (0.0,)},
        integer_values={"x": [4, 1, 1]},
        derivatives=(
            Derivative(("x", "L", "gamma", "tau")),
            Derivative(("x",), at={"x": [4.0, 0.0, 0.0]}),
            Derivative(("x", "tau"), at={"x": [1.5, 0.25, 0.0]}, condition=10),
        ),
    ),
    Entry(
        "optimization.saddles.escape_times",
        lambda **given: saddles.escape_times(max_dim=3, method="perturbed", max_steps=2000, **given),
        {
            "key": key(),
            "dim": static(3),
            "L": number(1.0),
            "gamma": number(1.0),
            "tau": number(2.5),
            "step_size": number(0.25),
            "tolerance": number(1e-3),
        },
        invalid={
            "dim": (0, 4),
            "L": (0.0,),
            "gamma": (-1.0,),
            "tau": (0.5,),
            "step_size": (0.0, 0.75),
            "tolerance": (0.0,),
        },
        integer_values={"tau": 3},
        skip={"precision": "runs in the two precisions part at their kicks", "kinds": "no integer step size is stable"},
    ),
    Entry(
        "optimization.saddles.growth",
        saddles.growth,
        {"L": static(1.0), "gamma": static(1.0), "step_size": static(0.25)},
        invalid={"L": (0.0, np.nan), "gamma": (-1.0,), "step_size": (0.5, 0.0, np.nan)},
        skip={"precision": "computed in float64 on the host"},
    ),
    Entry(
        "optimization.saddles.practical_constants",
        saddles.practical_constants,
        {"gamma": number(1.0), "step_size": number(0.25)},
        invalid={"gamma": (0.0,), "step_size": (-1.0,)},
        skip={"precision": "Python numbers pass through"},
    ),
    Entry(
        "optimization.saddles.theory_constants",
        saddles.theory_constants,
        {
            "smoothness": static(4.0),
            "hessian": static(10.0),
            "accuracy": static(0.01),
            "gap": static(100.0),
            "dim": static(10),
            "failure": static(0.1),
        },
        invalid={"accuracy": (2.0, np.nan), "failure": (1.0, 0.0), "dim": (0,), "gap": (np.inf,)},
        skip={"precision": "computed in float64 on the host"},
    ),
    modes(3),
    Entry(
        "optimization.implicit_bias.deep_linear_modes (closed forms)",
        lambda singular_values, start, times: [
            bias.deep_linear_modes(singular_values, depth, start, times) for depth in (1, 2)
        ],
        {"singular_values": quantity([2.0, 0.0]), "start": number(0.125), "times": quantity(TIMES)},
        invalid={"singular_values": (np.float32([-1, 1]),), "start": (0.0,), "times": (np.float32([-1, 1]),)},
        derivatives=(
            Derivative(("start", "times")),
            Derivative(("singular_values",), at={"singular_values": [1.0, 0.125]}),
        ),
    ),
    Entry(
        "optimization.implicit_bias.balanced_start",
        bias.balanced_start,
        {"key": key(), "dim": static(2), "depth": static(2), "size": number(0.25)},
        invalid={"size": (0.0, -1.0), "dim": (0,), "depth": (0,)},
        skip={"precision": "the draws of the two precisions differ"},
    ),
    Entry(
        "optimization.implicit_bias.diagonal_descent",
        lambda **given: bias.diagonal_descent(steps=5, **given)[0],
        {"x": points(X), "y": quantity(Y), "scale": number(0.5), "step_size": number(0.125)},
        invalid={"scale": (0.0,), "step_size": (-1.0,)},
        permute={"x,y": {"": None}},
        derivatives=(Derivative(("x", "y", "scale", "step_size")),),
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.effective_rank",
        bias.effective_rank,
        {"singular_values": quantity([[3.0, 1.0, 0.0], [2.0, 2.0, 1.0]])},
        invalid={"singular_values": (np.float32([[1, -1, 0]]),)},
        scale={"singular_values": {"": 0}},
        derivatives=(Derivative(("singular_values",), at={"singular_values": [[3.0, 1.0, 0.5], [2.0, 2.0, 1.0]]}),),
    ),
    Entry(
        "optimization.implicit_bias.filtered_risk",
        lambda eigenvalues, coefficients, samples, noise, time: [
            bias.filtered_risk(eigenvalues, coefficients, samples=samples, noise=noise, **{name: time})
            for name in ("time", "lam")
        ],
        {
            "eigenvalues": quantity([0.0, 1.0, 3.0]),
            "coefficients": quantity([1.0, -2.0, 0.5]),
            "samples": number(10.0),
            "noise": number(0.5),
            "time": quantity([0.5, 2.0]),
        },
        invalid={
            "eigenvalues": (np.float32([-1, 1, 1]),),
            "samples": (0.0,),
            "noise": (-1.0,),
            "time": (np.float32([-1.0, 1.0]),),
        },
        permute={"eigenvalues,coefficients": {"0.risk": None, "1.risk": None}},
        derivatives=(
            Derivative(("coefficients", "samples", "noise", "time")),
            Derivative(("eigenvalues", "time"), at={"eigenvalues": [0.25, 1.0, 4.0]}),
        ),
    ),
    Entry("optimization.implicit_bias.flow_ratio", bias.flow_ratio, {}, skip={"precision": "a constant on the host"}),
    Entry(
        "optimization.implicit_bias.hyperbolic_entropy",
        bias.hyperbolic_entropy,
        {"beta": quantity([[1.0, -0.5, 0.0]]), "scale": number(0.5)},
        invalid={"scale": (0.0, -1.0)},
        derivatives=(Derivative(("beta", "scale")), Derivative(("beta", "scale"), at={"beta": [[0.0, 0.0, 3.0]]})),
    ),
    Entry(
        "optimization.implicit_bias.hyperbolic_interpolant",
        interpolant,
        {"x": points(X), "y": quantity(Y), "scale": number(0.5)},
        invalid={"scale": (0.0, -1.0)},
        permute={"x,y": {"beta": None}},
        derivatives=(Derivative(("x", "y", "scale"), output=lambda found: found["beta"], condition=100),),
        skip={"axes": "three points on a line have two rows too many", "kinds": "rounded rows may be dependent"},
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.limit_across",
        separate,
        {"x": points(PLANE), "y": quantity(SIGNS)},
        invalid={"y": (np.float32([1, 2, 1]),)},
        derivatives=(Derivative(("x",)),),
        skip={
            "axes": "on a line nothing lies across",
            "kinds": "rounded points need not span the plane",
            "permute": "see max_margin",
        },
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.max_margin",
        bias.max_margin,
        {"x": points(PLANE), "y": quantity(SIGNS)},
        invalid={"y": (np.float32([1, 2, 1]),), "x": (np.float32([[1, 0], [-1, 0], [3, 0]]),)},
        scale={"x": {"direction": 0, "margin": 1, "weights": 0}},
        permute={"x,y": {"direction": None, "margin": None, "weights": 0}},
        derivatives=(Derivative(("x",), output=lambda found: (found.direction, found.margin, found.weights)),),
        integer_values={"x": [[1, 1], [1, -1], [3, 0]]},
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.margin_path",
        lambda **given: bias.margin_path(doublings=2, **given),
        {"x": points(PLANE), "y": quantity(SIGNS), "step_size": number(0.25)},
        invalid={"step_size": (0.0, 50.0), "y": (np.float32([1, 2, 1]),)},
        integer_values={"x": [[1, 1], [1, -1], [3, 0]]},
        derivatives=(Derivative(("x", "step_size"), reverse=False, order=1, reason="loops of unknown length"),),
        skip={"kinds": "no integer step size is stable"},
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.minimum_norm",
        bias.minimum_norm,
        {"x": points(X), "y": quantity(Y), "start": quantity([1.0, 0.0, -1.0, 0.5, 0.25])},
        permute={"x,y": {"": None}},
        derivatives=(Derivative(("x", "y", "start"), condition=10),),
        skip={"axes": "start has an entry for each column"},
    ),
    Entry(
        "optimization.implicit_bias.minimum_norm (from the origin)",
        bias.minimum_norm,
        lambda n: {"x": points(X[:n] if n < 3 else X), "y": quantity(Y[:n] if n < 3 else Y)},
        scale={"y": {"": 1}, "x": {"": -1}},
        derivatives=(Derivative(("x", "y"), condition=10),),
    ),
    Entry(
        "optimization.implicit_bias.stationary_covariance",
        bias.stationary_covariance,
        {"hessian": quantity(HESSIAN), "noise": quantity(NOISE), "step_size": number(0.5)},
        invalid={"step_size": (0.0, 2.0), "hessian": (-HESSIAN,)},
        integer_values={"hessian": [[1, 0], [0, 1]], "step_size": 1},
        scale={"noise": {"": 1}},
        derivatives=(
            Derivative(("hessian", "noise", "step_size")),
            Derivative(("hessian", "noise", "step_size"), at={"hessian": np.eye(2)}),
        ),
    ),
    Entry(
        "optimization.landscapes.deep_linear",
        lambda first, second, target: landscapes.deep_linear([first, second], target),
        {"first": quantity(WEIGHTS), "second": quantity(HESSIAN), "target": quantity(WEIGHTS - 1)},
        derivatives=(Derivative(("first", "second", "target")),),
        skip={"wrong kinds": "the layers are named weights"},
    ),
    Entry(
        "optimization.landscapes.deep_linear_spectrum",
        lambda singular_values: [
            landscapes.deep_linear_spectrum(singular_values, kept, depth)
            for kept in ([True, False], [True, True])
            for depth in (2, 3)
        ],
        {"singular_values": quantity([2.0, 0.75])},
        invalid={"singular_values": (np.float32([1.0, -1.0]), np.float32([0.0, 1.0]))},
        derivatives=(Derivative(("singular_values",)),),
    ),
    Entry(
        "optimization.landscapes.global_success",
        lambda **given: landscapes.global_success(
            lambda x: (x**2 - 1.0) ** 2, jax.random.normal, starts=2, steps=20, **given
        ),
        {"key": key(), "step_size": number(0.03125), "minimum": number(0.0), "tolerance": number(0.5)},
        invalid={"step_size": (0.0,), "tolerance": (-1.0,), "minimum": (np.inf,)},
        skip={"precision": "the draws of the two precisions differ", "kinds": "no integer step size is stable"},
        slow=True,
    ),
    Entry(
        "optimization.landscapes.matrix_factorization",
        landscapes.matrix_factorization,
        {"x": quantity([[1.0, 0.5], [0.25, -1.0]]), "target": quantity(HESSIAN)},
        derivatives=(Derivative(("x", "target")),),
    ),
    Entry(
        "optimization.landscapes.matrix_factorization_spectrum",
        landscapes.matrix_factorization_spectrum,
        {"eigenvalues": quantity([3.0, 1.0, -1.0]), "index": static(1)},
        invalid={"index": (3, -1, 2), "eigenvalues": (np.float32([3.0, -1.0, 1.0]),)},
        scale={"eigenvalues": {"": 1}},
        derivatives=(Derivative(("eigenvalues",)),),
    ),
    Entry(
        "optimization.landscapes.phase_retrieval",
        landscapes.phase_retrieval,
        {"x": quantity([1.0, 0.25, -0.5]), "signal": quantity([1.0, 0.0, 0.5])},
        permute={"x,signal": {"": None}},
        derivatives=(Derivative(("x", "signal")), Derivative(("x", "signal"), at={"x": [1.0, 0.0, 0.5]})),
    ),
    Entry(
        "optimization.landscapes.phase_retrieval_spectrum",
        landscapes.phase_retrieval_spectrum,
        {"dim": static(3), "point": static("saddle")},
        invalid={"dim": (1,), "point": ("top",)},
    ),
    Entry(
        "optimization.landscapes.relu_student",
        landscapes.relu_student,
        {"student": points(WEIGHTS), "teacher": points(WEIGHTS[:1] + 0.5)},
        permute={"student": {"": None}},
        derivatives=(
            Derivative(("student", "teacher")),
            Derivative(("student", "teacher"), at={"teacher": 2 * WEIGHTS[:1]}, order=1, reason="see below"),
            # the third derivative jumps where neurons are parallel, so that differences err by their step
            Derivative(("student",), at={"teacher": 2 * WEIGHTS[:1]}, step=1e-6, condition=1e4),
        ),
        condition=1000,
    ),
]


class TestOptimization(Gates):
    """Every public function of the room."""

    entries = ENTRIES
