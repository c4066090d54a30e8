"""The gates of `feature_learning`."""

import jax
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, quantity, static, tree

from jaxtheory import feature_learning

X = [[1.0, 0.25], [0.5, -1.0]]
TRAINING = {
    "x": quantity(X),
    "y": quantity([1.0, -0.5]),
    "richness": number(1.0),
    "step_size": number(0.25),
    "momentum": number(0.5),
    "test_x": quantity([[0.5, 0.5]]),
    "depth": static(2),
    "steps": static(2),
}
INVALID = {"richness": (0.0, -1.0), "step_size": (0.0, -1.0), "momentum": (-0.1, 1.0)}


def trained(name: str, **options):
    """A function that takes what `solve` takes; a program of training costs seconds."""
    arguments = {**TRAINING, **options.pop("args", {})}
    return Entry(
        f"feature_learning.{name}", getattr(feature_learning, name), arguments, invalid=INVALID,
        integer_values={"momentum": 0.0, "richness": 1.0, "step_size": 1.0}, slow=True, **options,
    )  # fmt: skip


SOLVED = {"key": key(), "samples": static(512), "groups": static(4)}
ENTRIES = [
    # sums over 128 samples a group, a chain of four products deep
    trained("solve", args=SOLVED, condition=3000, skip={"precision": "the draws depend on the precision"}),
    trained("linear", condition=3000),
    trained(
        "networks", args={"key": key(), "width": static(8)}, condition=3000,
        skip={"precision": "the draws depend on the precision"},
    ),
    trained(
        "fluctuations", args={"key": key(), "width": static(8), "networks": static(4)}, condition=3000,
        skip={"precision": "the draws depend on the precision"},
    ),
    Entry(
        "feature_learning.linear_modes",
        feature_learning.linear_modes,
        {
            "singular_values": quantity([0.5, 2.0]),
            "times": quantity([0.25, 1.5]),
            "start": number(0.25),
            "imbalance": number(0.5),
        },
        invalid={"singular_values": (np.float32([-1, 1]),), "times": (np.float32([-1, 1]),), "start": (-1.0,)},
        integer_values={"start": 1, "imbalance": 1},
        derivatives=(
            Derivative(("singular_values", "times", "start", "imbalance"), condition=10),
            Derivative(("singular_values", "times"), {"start": 0.0}),
        ),
    ),
    Entry(
        "feature_learning.linear_flow",
        # the residual is the error of each precision's own tolerance
        lambda **arguments: {
            name: field for name, field in feature_learning.linear_flow(**arguments)._asdict().items()
            if name != "residual"
        },
        {
            "weights": tree([[[0.5, 0.25]], [[0.5], [1.0]]]),
            "target": quantity([[1.0, 0.5], [0.25, 2.0]]),
            "times": quantity([0.25, 1.0]),
        },
        invalid={"times": (np.float32([1, 0.5]), np.float32([1, np.inf]))},
        # the adaptive steps of the two precisions have tolerances 1e-6 and 1e-10
        condition=1000,
        slow=True,
    ),
]  # fmt: skip


class TestFeatureLearning(Gates):
    """Every public function of the room."""

    entries = ENTRIES


def test_derivatives_of_a_solution_go_forward():
    def final(step_size):
        run = feature_learning.linear(X, [1.0, -0.5], depth=1, richness=1.0, step_size=step_size, steps=2)
        return run.predictions[-1].sum()

    with jax.enable_x64(True):
        slope = jax.jvp(final, (0.25,), (1.0,))[1]
        np.testing.assert_allclose(slope, (final(0.25 + 1e-5) - final(0.25 - 1e-5)) / 2e-5, rtol=1e-8)
