"""The gates of `activations`."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, quantity, static

from jaxtheory import activations

COVARIANCE = {"q11": quantity([1.0, 2.0]), "q12": quantity([0.5, -1.0]), "q22": quantity([1.0, 2.0])}
WHOLE = {"q11": [1.0, 2.0], "q12": [0.0, 0.0], "q22": [1.0, 2.0]}
NEGATIVE = (np.float32([-1.0, 1.0]),)
UNKNOWN = ("nothing", None)  # as an activation
HOST = {"precision": "float64 on the host in every mode"}


def of_covariances(make, *others, phi, derivatives, **options):
    """An entry of a function that gives a dual."""

    def function(phi, q11, q12, q22):
        return make(phi, *others)(q11, q12, q22)

    return Entry(
        f"activations.{make.__name__}",
        function,
        {"phi": static(phi), **COVARIANCE},
        invalid={"phi": UNKNOWN, "q11": NEGATIVE, "q22": NEGATIVE, "q12": (np.float32([1.5, 0.0]),)},
        integer_values=WHOLE,
        derivatives=derivatives,
        **options,
    )


GENERIC = Derivative(("q11", "q12", "q22"))
ONCE = dict.fromkeys(
    ("jit", "poison", "kinds", "wrong kinds", "precision"), "its other entry; sums of arguments are not checked"
)


def smooth_at_correlation_one(name, make, *activations_):
    """The dual of √a u and √b v of correlation cos θ, whose derivatives in (a, b, θ) exist at θ = 0 and at θ = π."""

    def function(a, b, angle):
        return make(*activations_)(a, jnp.sqrt(a * b) * jnp.cos(angle), b)

    arguments = {"a": quantity([1.0, 2.0]), "b": quantity([1.0, 3.0]), "angle": quantity([0.5, 2.0])}
    at = {"a": np.array([1.0, 2.0]), "b": np.array([1.0, 3.0]), "angle": np.array([0.0, np.pi])}
    return Entry(name, function, arguments, derivatives=(Derivative(("a", "b", "angle"), at),), skip=ONCE, slow=True)


ENTRIES = [
    of_covariances(activations.dual, phi="relu", derivatives=(GENERIC,)),
    of_covariances(activations.cross_dual, "sin", phi="tanh", derivatives=(GENERIC,)),
    of_covariances(activations.derivative_dual, phi="erf", derivatives=(GENERIC,)),
    of_covariances(activations.dual_pair, phi="abs", derivatives=(GENERIC,)),
    smooth_at_correlation_one("activations.dual, at correlation ±1", activations.dual, "tanh"),
    smooth_at_correlation_one("activations.dual_pair, at correlation ±1", activations.dual_pair, "erf"),
    Entry(
        "activations.expectation",
        lambda function, variance: activations.expectation(function, variance=variance),
        {"function": static("tanh"), "variance": quantity(1.5)},
        invalid={"variance": (-1.0,)},
        skip={"jit": "computed on the host: a traced variance is refused by name", **HOST},
    ),
    Entry(
        "activations.gaussian_moments",
        activations.gaussian_moments,
        {"activation": static("relu")},
        invalid={"activation": (*UNKNOWN, jnp.log)},
        skip=HOST,
    ),
    Entry(
        "activations.hermite_coefficients",
        activations.hermite_coefficients,
        {"activation": static("relu"), "degree": static(3)},
        invalid={"activation": UNKNOWN, "degree": (-1, "abc", None)},
        skip=HOST,
    ),
    Entry(
        "activations.resolve",
        lambda activation: activations.resolve(activation)(jnp.float32(0.5)),
        {"activation": static("tanh")},
        invalid={"activation": UNKNOWN},
        skip={"precision": "it returns a function"},
    ),
]


class TestActivations(Gates):
    """Every public function."""

    entries = ENTRIES
