"""The gates of `losses`."""

import jax
import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, quantity, static

from jaxtheory import losses

OUTPUTS = np.array([[0.5, -0.75, 2.0], [0.25, 0.625, -0.5]])
SIGNS = np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]])
FLAT = "the loss of a correct prediction at infinity is 0"


def one(name: str, **options):
    """A loss of one sample."""
    arguments = {
        "prediction": quantity(OUTPUTS[0]),
        "target": quantity(SIGNS[0] if name != "cross_entropy" else [1, 0, 0]),
    }
    derivatives = (Derivative(("prediction",)), Derivative(("prediction",), {"prediction": np.zeros(3)}))
    return Entry(f"losses.{name}", getattr(losses, name), arguments, derivatives=derivatives, **options)


ENTRIES = [
    one("squared", permute={"prediction,target": {"": None}}, shift={("prediction", "target"): ("",)}),
    one(
        "logistic",
        invalid={"target": (np.array([0.0, 1.0, -1.0]), np.array([0.5, 1.0, 1.0]))},
        at_infinity=dict.fromkeys(("prediction", "target"), FLAT),
    ),
    one(
        "cross_entropy", invalid={"target": (np.array([1.0, -1.0, 0.0]),)}, shift={("prediction",): ("",)}, condition=10
    ),
    one(
        "hinge",
        invalid={"target": (np.array([0.0, 1.0, -1.0]),)},
        at_infinity=dict.fromkeys(("prediction", "target"), FLAT),
    ),
    Entry(
        "losses.resolve",
        lambda f: losses.resolve("hinge")(f, jnp.ones(1)),
        {"f": quantity([0.5])},
        at_infinity={"f": FLAT},
        skip={"wrong kinds": "takes a name or a function, whose errors are tested beside it"},
    ),
    Entry(
        "losses.values",
        losses.values,
        {"loss": static("cross_entropy"), "predictions": quantity(OUTPUTS), "targets": integers([2, 0])},
        invalid={"targets": (np.array([3, 0]), np.array([-1, 0]))},
        permute={"predictions,targets": {"": 0}},
        derivatives=(Derivative(("predictions",)),),
        condition=10,
    ),
    Entry(
        "losses.slopes",
        losses.slopes,
        {"loss": static("logistic"), "predictions": quantity(OUTPUTS), "targets": quantity(SIGNS)},
        at_infinity=dict.fromkeys(("predictions", "targets"), FLAT),
        permute={"predictions,targets": {"": 0}},
        derivatives=(Derivative(("predictions",)),),
    ),
    Entry(
        "losses.curvatures",
        losses.curvatures,
        {"loss": static("squared"), "predictions": quantity(OUTPUTS), "targets": quantity(SIGNS)},
        skip={"poison": "the curvature of the squared loss does not depend on its arguments"},
    ),
]


class TestLosses(Gates):
    """Every public function of the module."""

    entries = ENTRIES


def test_labels_under_jit_are_those_outside():
    found = jax.jit(lambda f, y: losses.slopes("squared", f, y))(jnp.asarray(OUTPUTS), jnp.array([2, 0]))
    np.testing.assert_allclose(found, OUTPUTS - np.eye(3)[[2, 0]], rtol=1e-6)
