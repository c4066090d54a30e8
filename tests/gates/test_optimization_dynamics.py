"""The gates of `optimization`: teachers and students, large steps, crossing times, descent by signs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, points, quantity, static, tree
from gates.test_kernels_spectra import symmetric
from gates.test_optimization import PLANE, SIGNS

from jaxtheory import optimization
from jaxtheory.optimization import edge_of_stability, label_noise, overparametrized, teacher_student
from jaxtheory.optimization import implicit_bias as bias

WIDE = np.array([[1.0, 0.5, 2.0], [0.5, 1.0, -0.25]])


def committee(activation):
    """Two students of one teacher; in float64 to round-off, as differences of runs with other steps need it."""

    def run(**given):
        tolerance = 1e-13 if jax.config.jax_enable_x64 else None
        return teacher_student.online_sgd(activation=activation, tolerance=tolerance, **given)

    return Entry(
        f"optimization.teacher_student.online_sgd ({activation})".removesuffix(" (erf)"),
        run,
        {
            "q": quantity([[1.25, 0.25], [0.25, 0.75]]),
            "r": quantity([[0.25], [0.125]]),
            "t": quantity([[1.0]]),
            "step_size": number(0.5),
            "times": quantity([0.5, 2.0]),
            "noise": number(0.25),
        },
        invalid={
            "q": (np.float32([[1, 0.5], [0, 1]]), np.float32([[1, 2], [2, 1]])),
            "r": (np.float32([[2], [0]]),),
            "t": (np.float32([[-1.0]]),),
            "step_size": (0.0, -1.0),
            "times": (np.float32([2, 1]), np.float32([-1, 1])),
            "noise": (-1.0,),
        },
        derivatives=(
            Derivative(
                ("r", "t", "step_size", "noise"),
                reverse=False,
                order=1,
                condition=10,
                reason="loops of unknown length",
            ),
        ),
        slow=activation == "relu",
    )


def hyperbolic(theta, x):
    """A model of two parameters."""
    return theta[0] * theta[1] * x


def hyperbola(theta):
    """A loss whose minima are a curve."""
    return (theta[0] * theta[1] - 0.5) ** 2 / 2


def quartic(w):
    """A loss with a fourth derivative."""
    return w[0] ** 4 + w[0] ** 2 * w[1] ** 2 / 2 - w[1] ** 3


def valley(x):
    """Two minima and a stiffer saddle."""
    return (x[0] ** 2 - 1) ** 2 / 2 + (2 - x[0] ** 2) ** 2 * x[1] ** 2


def crossing(minimum, saddle, temperature):
    """Over a saddle stiffer than the minima; how far the points are from critical is round-off."""
    found = optimization.eyring_kramers(valley, minimum, saddle, temperature=temperature)
    return found._replace(shift=None)


def curvature(params, key):
    """The sharpness of a quartic; its residual is round-off, of which no digit agrees."""
    found = edge_of_stability.sharpness(lambda w: (w[0] + w[1]) ** 4 + 3 * w[2] ** 2, params, key)
    return {"value": found.value, "status": found.status}


ENTRIES = [
    committee("erf"),
    committee("relu"),
    Entry(
        "optimization.eyring_kramers",
        crossing,
        {"minimum": quantity([-1.0, 0.0]), "saddle": quantity([0.0, 0.0]), "temperature": number(0.125)},
        invalid={"temperature": (0.0, -1.0), "minimum": (np.float32([0, 0]),), "saddle": (np.float32([1, 0]),)},
        integer_values={"minimum": [-1, 0], "saddle": [0, 0], "temperature": 1},
        derivatives=(Derivative(("minimum", "saddle", "temperature"), condition=10),),
    ),
    Entry(
        "optimization.overparametrized.relu_gram",
        overparametrized.relu_gram,
        {"x": points([[1.0, 0.0], [0.6, 0.8], [-0.5, 1.5]])},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "optimization.overparametrized.residual_decay",
        symmetric(lambda **given: overparametrized.residual_decay(steps=np.array([0, 3, 40]), **given)),
        {
            "gram": quantity([[1.0, 0.25], [0.25, 0.5]]),
            "residual": quantity([1.0, -0.5]),
            "step_size": number(0.5),
        },
        invalid={"step_size": (0.0, -1.0), "gram": (np.float32([[1, 0], [0, -1]]),)},
        integer_values={"gram": [[2, 1], [1, 2]], "residual": [1, 0], "step_size": 1},
        scale={"residual": {"norms": 1, "bounds": 1, "smallest": 0}},
        derivatives=(
            Derivative(
                ("gram", "residual", "step_size"),
                at={"gram": np.eye(2)},
                output=lambda found: found.norms,
                order=1,
                reason="second derivatives in the kernel need distinct eigenvalues",
            ),
            Derivative(("gram", "residual", "step_size"), output=lambda found: found.norms),
        ),
        slow=True,
    ),
    Entry(
        "optimization.overparametrized.width_threshold",
        lambda **given: overparametrized.width_threshold(5, rule="trajectory", **given),
        {"smallest": number(0.25), "failure": number(0.5), "accuracy": number(0.5), "scale": number(1.0)},
        invalid=dict.fromkeys(("smallest", "failure", "accuracy", "scale"), (0.0, -1.0)),
        integer_values=dict.fromkeys(("smallest", "failure", "accuracy", "scale"), 1),
        derivatives=(Derivative(("smallest", "failure", "accuracy", "scale"), condition=1e7),),
    ),
    Entry(
        "optimization.label_noise.flatness_penalty",
        label_noise.flatness_penalty,
        {"hessian": quantity([[1.0, 0.25], [0.25, 0.5]]), "step_size": number(0.5)},
        invalid={"step_size": (0.0, -1.0, 2.0)},
        integer_values={"hessian": [[1, 0], [0, 1]], "step_size": 1},
        derivatives=(
            Derivative(("hessian", "step_size"), at={"hessian": np.eye(2)}),
            Derivative(("hessian", "step_size"), at={"hessian": np.zeros((2, 2))}),
        ),
    ),
    Entry(
        "optimization.label_noise.effective_loss",
        lambda params, **given: label_noise.effective_loss(hyperbola, batch_size=2, **given)(jnp.asarray(params)),
        {"params": quantity([2.0, 0.25]), "step_size": number(0.25), "noise_variance": number(0.5)},
        invalid={"step_size": (0.0, -1.0), "noise_variance": (-1.0,)},
        integer_values={"params": [1, 1], "step_size": 0.5, "noise_variance": 1},
        skip=dict.fromkeys(("kinds", "wrong kinds"), "the parameters go to a function that it returns"),
        derivatives=(Derivative(("params", "step_size", "noise_variance")),),
    ),
    Entry(
        "optimization.label_noise.label_noise_sgd",
        lambda draw, **given: label_noise.label_noise_sgd(
            draw, hyperbolic, batch_size=2, steps=4, record_every=2, **given
        ),
        {
            "draw": key(),
            "start": quantity([2.0, 0.25]),
            "x": quantity([1.0, -0.5]),
            "y": quantity([0.5, 0.25]),
            "step_size": number(0.25),
            "noise_variance": number(0.5),
        },
        invalid={"step_size": (0.0, -1.0), "noise_variance": (-1.0,)},
        ignores=dict.fromkeys(("x", "y"), "a batch need not hold every point"),
        integer_values={"start": [2, 1], "x": [1, 0], "y": [1, 0], "step_size": 1, "noise_variance": 1},
        skip={"precision": "draws differ between dtypes"},
        slow=True,
    ),
    Entry(
        "optimization.label_noise.product_flow",
        label_noise.product_flow,
        {
            "label": number(1.0),
            "imbalance": number(3.0),
            "steps": quantity([0.0, 2.0, 50.0]),
            "step_size": number(0.25),
            "noise_variance": number(0.5),
        },
        invalid={
            "step_size": (0.0, -1.0, 1.0),
            "noise_variance": (-1.0,),
            "steps": (np.float32([1.0, -1.0]),),
            "imbalance": (9.0,),
        },
        integer_values={"step_size": 0.25, "noise_variance": 1, "imbalance": 1, "label": 1},
        derivatives=(
            Derivative(("label", "imbalance", "steps", "step_size", "noise_variance"), at={"steps": [1.0, 2.0, 50.0]}),
            Derivative(("imbalance", "noise_variance"), at={"imbalance": 0.0}),
        ),
        slow=True,
    ),
    Entry(
        "optimization.neural_collapse",
        lambda **given: optimization.neural_collapse(classes=3, per_class=4, **given),
        {"weight_decay": number(0.125), "feature_decay": number(0.125)},
        invalid={"weight_decay": (0.0, -1.0), "feature_decay": (0.0, -1.0)},
        derivatives=(Derivative(("weight_decay", "feature_decay"), condition=10),),
    ),
    Entry(
        "optimization.edge_of_stability.sharpness",
        curvature,
        {"params": tree([1.0, 0.5, -0.25]), "key": key()},
        derivatives=(Derivative(("params",), order=1, reason="the direction counts as constant"),),
    ),
    Entry(
        "optimization.edge_of_stability.stability_threshold",
        lambda step_size, beta: [
            edge_of_stability.stability_threshold(step_size, optimizer=name, beta=beta)
            for name in ("momentum", "nesterov", "adam")
        ],
        {"step_size": number(0.5), "beta": number(0.75)},
        invalid={"step_size": (0.0, -1.0), "beta": (1.0, -0.5)},
        integer_values={"beta": 0},
        derivatives=(Derivative(("step_size", "beta")),),
        skip={"precision": "Python numbers pass through"},
    ),
    Entry(
        "optimization.edge_of_stability.catapult",
        lambda **given: edge_of_stability.catapult(steps=5, **given),
        {"output": number(1.0), "curvature": number(2.0), "step_size": number(1.25), "width": number(20.0)},
        invalid={"curvature": (0.0, -1.0, 0.125), "step_size": (0.0,), "width": (0.0, -2.0)},
        derivatives=(Derivative(("output", "curvature", "step_size", "width")),),
    ),
    Entry(
        "optimization.edge_of_stability.central_flow",
        lambda **given: edge_of_stability.central_flow(
            lambda w: w[1] * w[0] ** 2 / 2 - 0.5 * w[1] + 0.25 * w[0] * w[1], steps=4, **given
        ),
        {"params": tree([0.125, 1.0]), "step_size": number(1.0)},
        invalid={"step_size": (0.0, -1.0, 5.0)},
        condition=1000,
        slow=True,
    ),
    Entry(
        "optimization.edge_of_stability.rmsprop_flow",
        lambda **given: edge_of_stability.rmsprop_flow(
            lambda w: w[1] * w[0] ** 2 / 2 - 0.5 * w[1] + 0.25 * w[0] * w[1], steps=4, **given
        ),
        {
            "params": tree([0.125, 1.0]),
            "step_size": number(1.0),
            "decay": number(0.75),
            "eps": number(0.25),
            "second_moment": tree([1.0, 2.0]),
        },
        invalid={
            "step_size": (0.0, -1.0, 5.0),
            "decay": (0.25, 1.0),
            "eps": (-1.0,),
            "second_moment": (np.float32([-1.0, 1.0]),),
        },
        integer_values={"eps": 1},
        condition=1000,
        skip={"kinds": "no integer lies in [1/2, 1)"},
        slow=True,
    ),
    Entry(
        "optimization.edge_of_stability.steady_curvature",
        lambda center, offset, **given: edge_of_stability.steady_curvature(quartic, center, offset, **given),
        {
            "center": tree([0.5, -0.25]),
            "offset": tree([0.25, 0.125]),
            "step_size": number(0.5),
            "beta": number(0.5),
        },
        invalid={"step_size": (0.0, -1.0), "beta": (1.0, -0.5)},
        derivatives=(Derivative(("center", "offset", "step_size", "beta")),),
    ),
    Entry(
        "optimization.teacher_student.information_exponent",
        teacher_student.information_exponent,
        {"link": static("relu"), "tolerance": static(1e-8)},
        invalid={"tolerance": (0.0, np.nan, 2.0)},
        skip={"precision": "computed in float64 on the host"},
    ),
    Entry(
        "optimization.teacher_student.leap_exponent",
        teacher_student.leap_exponent,
        {"exponents": static([[1, 0], [1, 2]])},
        invalid={"exponents": ([[1, -1]], [[0, 0]])},
        skip={"jit": "an integer of the host"},
    ),
    Entry(
        "optimization.teacher_student.overlap_flow",
        teacher_student.overlap_flow,
        {
            "teacher": quantity([0.5, 1.0, 0.5]),
            "student": quantity([0.0, 0.5, -0.25]),
            "start": number(0.125),
            "times": quantity([0.5, 2.0]),
        },
        invalid={"start": (1.5, -2.0), "times": (np.float32([2, 1]), np.float32([-1, 1]))},
        derivatives=(
            Derivative(
                ("teacher", "student", "start"), reverse=False, order=1, condition=100, reason="loops of unknown length"
            ),
        ),
    ),
    Entry(
        "optimization.teacher_student.escape_samples",
        lambda **given: teacher_student.escape_samples(link="relu", dim=20, max_steps=1000, **given),
        {"key": key(), "step_size": number(0.03125), "start": number(0.25), "target": number(0.5)},
        invalid={"step_size": (0.0, -1.0), "start": (1.5,), "target": (0.0, 2.0)},
        integer_values={"start": 0, "target": 1},
        skip={"precision": "the draws of the two precisions differ"},
    ),
    Entry(
        "optimization.implicit_bias.sign_margin",
        lambda x, y: bias.sign_margin(x, y)._replace(gap=None),  # round-off
        {"x": points(PLANE), "y": quantity(SIGNS)},
        invalid={"y": (np.float32([1, 2, 1]),), "x": (np.float32([[1, 0], [-1, 0], [3, 0]]),)},
        scale={"x": {"direction": 0, "margin": 1, "weights": 0}},
        integer_values={"x": [[1, 1], [1, -1], [3, 0]]},
        skip={"jit": "linear programs on the host"},
    ),
    Entry(
        "optimization.implicit_bias.sgd_covariance",
        lambda **given: [
            bias.sgd_covariance(batch_size=2, replacement=replacement, **given) for replacement in (True, False)
        ],
        {"x": points(PLANE), "y": quantity([1.0, -0.5, 0.25]), "step_size": number(0.0625)},
        invalid={"step_size": (0.0, -1.0, 8.0), "x": (np.float32([[1, 0], [2, 0], [-1, 0]]),)},
        permute={"x,y": {"0": None, "1": None}},
        derivatives=(Derivative(("x", "y", "step_size"), condition=10),),
        skip={"kinds": "no integer step size is stable"},
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.mirror_interpolant",
        lambda x, y, start: bias.mirror_interpolant(x, y, jax.numpy.exp, start=start)._replace(residual=None),
        {"x": points(WIDE), "y": quantity([1.0, 0.5]), "start": quantity([0.25, -0.5, 0.0])},
        derivatives=(Derivative(("x", "y", "start"), condition=10),),
        skip={"axes": "start has an entry for each column", "kinds": "rounded targets may have no interpolant"},
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.mirror_descent",
        lambda **given: bias.mirror_descent(inverse=jax.numpy.exp, steps=4, **given),
        {
            "x": points(WIDE),
            "y": quantity([1.0, 0.5]),
            "start": quantity([0.25, -0.5, 0.0]),
            "step_size": number(0.125),
        },
        invalid={"step_size": (0.0, -1.0)},
        derivatives=(Derivative(("x", "y", "start", "step_size")),),
        skip={"axes": "start has an entry for each column"},
    ),
    Entry(
        "optimization.implicit_bias.margin_kkt",
        lambda params, x, y: bias.margin_kkt(
            lambda w, x: jax.numpy.matmul(x, w[0], precision="highest") * w[1], params, x, y
        ),
        {"params": tree([np.array([1.0, 0.25]), 0.5]), "x": points(PLANE), "y": quantity(SIGNS)},
        invalid={"y": (np.float32([1, 2, 1]),)},
        permute={"x,y": {"weights": 0, "margin": None, "stationarity": None}},
        derivatives=(Derivative(("params", "x"), condition=10),),
        skip={"axes": "the model takes two columns"},
        slow=True,
    ),
    Entry(
        "optimization.implicit_bias.optimizer_margins",
        lambda x, y: bias.optimizer_margins(x, y, optax.sgd(0.25, momentum=0.5), doublings=2),
        {"x": points(PLANE), "y": quantity(SIGNS)},
        invalid={"y": (np.float32([1, 2, 1]),)},
        integer_values={"x": [[1, 1], [1, -1], [3, 0]]},
        permute={"x,y": {"euclidean": None, "largest": None, "norm": None}},
        derivatives=(Derivative(("x",), reverse=False, order=1, reason="loops of unknown length"),),
    ),
    Entry(
        "optimization.implicit_bias.sign_descent",
        lambda **given: bias.sign_descent(doublings=2, **given),
        {"x": points(PLANE), "y": quantity(SIGNS), "step_size": number(0.25)},
        invalid={"step_size": (0.0, -1.0), "y": (np.float32([1, 2, 1]),)},
        integer_values={"x": [[1, 1], [1, -1], [3, 0]]},
        permute={"x,y": {"margin": None, "norm": None}},
    ),
]


class TestOptimizationDynamics(Gates):
    """Every public function of the room that follows a dynamics in time."""

    entries = ENTRIES
