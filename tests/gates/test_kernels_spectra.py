"""The gates of `kernels`: dynamics, spectra, random features and learning curves. See `test_kernels`."""

import jax
import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static

from jaxtheory import kernels

X = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 1.5], [0.5, 0.5]])
Y = np.array([1.0, -2.0, 0.5, 3.0])
NTK = np.array([[2.0, 0.5, 0.0, 0.0], [0.5, 3.0, -0.25, 0.0], [0.0, -0.25, 4.0, 0.5], [0.0, 0.0, 0.5, 5.0]])
CROSS = np.array([[1.0, 0.5, -0.25, 0.0], [0.25, 0.0, 2.0, 0.5]])
REPEATED = 2 * np.eye(4)
PROBABILITIES = np.array([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5]])
EIGS = np.array([1.0, 0.5, 0.25, 0.125])
TIMES = np.array([0.25, 1.0])
# programs of second derivatives of factorizations and loops take long to compile
FIRST = {"order": 1, "reason": "its program is long"}
DRAWS = {"precision": "the draws of the two precisions differ"}
HOST = {"precision": "returns Python numbers"}
WIDE = {
    "jit": "64-bit types are switched on outside jit",
    "precision": "computed in float64, whatever comes in",
}


def even(matrix):
    """The symmetric part, so that derivatives and differences stay among symmetric matrices."""
    square = isinstance(matrix, jax.Array) and matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    return (matrix + matrix.T) / 2 if square else matrix


def symmetric(function):
    """A function of square matrices as one of their symmetric parts."""
    names = ("ntk_train", "nngp_train", "nngp_test_test", "gram")
    return lambda **given: function(**{name: even(v) if name in names else v for name, v in given.items()})


def in_float64(function):
    """A function that needs 64-bit types, with them."""

    def call(**given):
        with jax.enable_x64(True):
            return function(**given)

    return call


def arrays(trajectory):
    return trajectory.train, trajectory.test


def trajectory(name, function, more, invalid, rates, **options):
    """An entry of the squared loss from initial outputs, with derivatives at repeated eigenvalues."""
    moved = ("ntk_train", "y", "initial", "ntk_test", "initial_test", *rates)
    return Entry(
        f"kernels.{name}",
        symmetric(function),
        {
            "ntk_train": quantity(NTK),
            "y": quantity(Y),
            "initial": quantity(Y[::-1]),
            "ntk_test": quantity(CROSS),
            "initial_test": quantity(Y[:2]),
            "learning_rate": number(0.25),
        }
        | more,
        invalid={"learning_rate": (0.0, -1.0), "ntk_train": (np.float32(-NTK),), "y": (np.ones(3, np.float32),)}
        | invalid,
        integer_values={"learning_rate": 1},
        permute={"ntk_test,initial_test": {"test": 1}},
        # second derivatives need distinct eigenvalues
        derivatives=(Derivative(moved, at={"ntk_train": REPEATED}, output=arrays, **FIRST),),
        slow=True,
        **options,
    )


DYNAMICS = [
    trajectory(
        "gradient_flow",
        kernels.gradient_flow,
        {"times": quantity(TIMES)},
        {"times": (np.float32([-1, 1]),)},
        ("learning_rate", "times"),
        at_infinity={"times": "the flow has a limit"},
    ),
    trajectory(
        "gradient_flow (heavy ball)",
        kernels.gradient_flow,
        {"times": quantity(TIMES), "friction": number(2.0)},
        {"times": (np.float32([-1, 1]),), "friction": (0.0, -1.0)},
        ("learning_rate", "times", "friction"),
        skip=dict.fromkeys(("jit", "poison", "kinds", "precision", "wrong kinds", "permute"), "as without friction"),
    ),
    trajectory(
        "gradient_descent",
        kernels.gradient_descent,
        {"steps": integers([0, 1, 5]), "momentum": number(0.5)},
        {"steps": (np.array([-1]),), "momentum": (-0.5, 1.5)},
        ("learning_rate", "momentum"),
    ),
    Entry(
        "kernels.ensemble_flow",
        symmetric(kernels.ensemble_flow),
        {
            "ntk_train": quantity(NTK),
            "ntk_test": quantity(CROSS),
            "nngp_train": quantity(NTK / 2),
            "nngp_test": quantity(CROSS / 2),
            "nngp_test_test": quantity(NTK[:2, :2]),
            "y": quantity(Y),
            "learning_rate": number(0.25),
            "times": quantity(TIMES),
        },
        invalid={
            "learning_rate": (0.0, -1.0),
            "times": (np.float32([-1, 1]),),
            "ntk_train": (np.float32(-NTK),),
            "nngp_test": (np.float32(NTK),),
        },
        integer_values={"learning_rate": 1},
        at_infinity={"times": "the flow has a limit"},
        scale={"y": {"mean": 1, "covariance": 0}},
        slow=True,
    ),
    Entry(
        "kernels.cross_entropy_flow",
        symmetric(kernels.cross_entropy_flow),
        {
            "ntk_train": quantity(NTK),
            "labels": quantity(PROBABILITIES),
            "learning_rate": number(0.5),
            "times": quantity(TIMES),
            "initial": quantity(X),
            "ntk_test": quantity(CROSS),
            "tolerance": number(1e-5),
            "max_steps": static(2000),
        },
        invalid={
            "learning_rate": (0.0, -1.0),
            "times": (np.float32([-1, 1]), np.float32([1, 0]), np.float32([1, np.inf])),
            "ntk_train": (np.float32(-NTK),),
            "labels": (np.float32([[1, 1], [1, 0], [1, 0], [1, 0]]), np.float32([[2, -1], [1, 0], [1, 0], [1, 0]])),
            "tolerance": (0.0, -1.0),
            "max_steps": (0,),
        },
        integer_values={"labels": [[1, 0], [0, 1], [0, 1], [1, 0]], "learning_rate": 1, "tolerance": 1},
        derivatives=(
            Derivative(
                ("ntk_train", "learning_rate", "initial", "ntk_test", "times"),
                at={"tolerance": 1e-11},  # the steps that differences take are not the same
                output=arrays,
            ),
        ),
        slow=True,
    ),
]

SPECTRA = [
    Entry(
        "kernels.degrees_of_freedom",
        kernels.degrees_of_freedom,
        {"eigs": quantity(EIGS), "ridge": number(1.0), "multiplicity": quantity([1.0, 2.0, 1.0, 3.0])},
        invalid={
            "eigs": (np.float32([1, -1, 1, 1]),),
            "ridge": (-1.0,),
            "multiplicity": (np.float32([1, -1, 1, 1]), np.ones(3, np.float32)),
        },
        permute={"eigs,multiplicity": {"": None}},
        derivatives=(Derivative(("eigs", "ridge", "multiplicity")),),
    ),
    Entry(
        "kernels.empirical_spectrum",
        symmetric(kernels.empirical_spectrum),
        lambda n: {"gram": quantity(NTK[:n, :n])},
        invalid={"gram": (np.ones((2, 3), np.float32),)},
        scale={"gram": {"": 1}},
        derivatives=(Derivative(("gram",), **FIRST),),
    ),
    Entry(
        "kernels.lanczos_density",
        lambda x, key, order, probes: kernels.lanczos_density(
            kernels.gaussian(), x, key, order=order, probes=probes, block=4
        ),
        {"x": points(X), "key": key(), "order": static(2), "probes": static(2)},
        invalid={"order": (0, 5), "probes": (0,), "key": (0, None)},
        derivatives=(Derivative(("x",), **FIRST),),
        skip=DRAWS,
        slow=True,
    ),
    Entry(
        "kernels.spectral_sum",
        lambda nodes, weights: kernels.spectral_sum(kernels.SpectralDensity(nodes, weights), jnp.square),
        {"nodes": quantity([[1.0, 2.0], [0.5, 3.0]]), "weights": quantity([[0.25, 1.0], [0.5, 0.5]])},
        scale={"weights": {"value": 1, "standard_error": 1}},
        derivatives=(Derivative(("nodes", "weights")),),
    ),
    Entry(
        "kernels.multiplicities",
        in_float64(kernels.multiplicities),
        {"dim": static(3), "k_max": static(3)},
        invalid={"dim": (1, 2.5), "k_max": (-1, 1.5)},
        skip=WIDE,
    ),
    Entry(
        "kernels.series_eigenvalues",
        in_float64(kernels.series_eigenvalues),
        {"coefficients": quantity([1.0, 0.5, 0.25]), "dim": static(3), "k_max": static(2)},
        invalid={"dim": (1,), "k_max": (-1,)},
        scale={"coefficients": {"": 1}},
        derivatives=(Derivative(("coefficients",)),),
        skip=WIDE,
    ),
    Entry(
        "kernels.sphere_eigenvalues",
        in_float64(kernels.sphere_eigenvalues),
        {"profile": static(jnp.exp), "dim": static(3), "k_max": static(2), "radius": static(2.0)},
        invalid={"dim": (1,), "k_max": (-1,), "radius": (0.0, -1.0, np.nan, np.inf)},
        skip=WIDE,
    ),
]

CURVES = [
    Entry(
        "kernels.effective_regularization",
        kernels.effective_regularization,
        {"eigs": quantity(EIGS), "multiplicity": quantity(np.ones(4)), "n": number(2.0), "ridge": number(0.0)},
        invalid={
            "eigs": (np.float32([1, -1, 1, 1]),),
            "multiplicity": (np.float32([1, -1, 1, 1]),),
            "ridge": (-1.0,),
            "n": (-1.0, 0.0),
        },
        scale={"eigs": {"": 1}},
        permute={"eigs,multiplicity": {"": None}},
    ),
    Entry(
        "kernels.learning_curve",
        kernels.learning_curve,
        {
            "eigs": quantity(EIGS),
            "coefficients": quantity(Y),
            "n": quantity([2.0, 6.0]),
            "ridge": number(0.5),
            "noise": number(0.25),
            "multiplicity": quantity([1.0, 2.0, 1.0, 3.0]),
            "tail": number(0.25),
            "unlearnable": number(0.5),
        },
        invalid={
            "eigs": (np.float32([1, -1, 1, 1]),),
            "multiplicity": (np.float32([1, -1, 1, 1]),),
            "coefficients": (np.ones(3, np.float32),),
            "n": (np.float32([0, 1]), np.float32([1, -1])),
            **dict.fromkeys(("ridge", "noise", "tail", "unlearnable"), (-1.0,)),
        },
        permute={"eigs,coefficients,multiplicity": {"test": None, "learnability": 1}, "n": {"test": 0}},
        derivatives=(
            Derivative(
                ("eigs", "coefficients", "n", "ridge", "noise", "multiplicity", "tail", "unlearnable"),
                **FIRST,
            ),
        ),
    ),
    Entry(
        "kernels.optimal_rate",
        kernels.optimal_rate,
        {"capacity": static(2.0), "source": static(0.5)},
        invalid={"capacity": (1.0, np.nan, np.inf), "source": (0.0, -1.0, np.nan)},
        skip=HOST,
    ),
    Entry(
        "kernels.noiseless_rate",
        kernels.noiseless_rate,
        {"capacity": static(2.0), "source": static(0.5)},
        invalid={"capacity": (1.0, np.nan, np.inf), "source": (0.0, -1.0, np.nan)},
        skip=HOST,
    ),
]

FEATURES = [
    Entry(
        "kernels.random_features",
        lambda x, width, key, scale, bias, weights: kernels.random_features(
            x, width, key, activation="tanh", scale=scale, bias=bias, weights=weights
        ),
        {
            "x": points(X),
            "width": static(3),
            "key": key(),
            "scale": number(0.5),
            "bias": number(0.25),
            "weights": static("sphere"),
        },
        invalid={
            "width": (0,),
            "scale": (0.0, -1.0),
            "bias": (-1.0,),
            "weights": ("uniform", None),
            "key": (0, None),
        },
        integer_values={"scale": 1},
        permute={"x": {"": 0}},
        skip=DRAWS,
    ),
    Entry(
        "kernels.feature_weights",
        kernels.feature_weights,
        {"features": static(3), "width": static(4), "key": key(), "weights": static("gaussian")},
        invalid={"features": (0,), "width": (0,), "weights": ("uniform", None), "key": (0, None)},
        skip={"precision": "the dtype is an argument"},
    ),
]

ENTRIES = [*DYNAMICS, *SPECTRA, *CURVES, *FEATURES]


class TestSpectra(Gates):
    """Every public function but those of `test_kernels`."""

    entries = ENTRIES
