"""The gates of `kernels`: training under any loss, from a state, with coupled outputs; layouts and step sizes."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, number, quantity, static
from gates.test_kernels_spectra import CROSS, NTK, PROBABILITIES, TIMES, even, symmetric

from jaxtheory import kernels

SIGNS = np.array([[1.0, -1.0], [-1.0, 1.0]])
START = np.array([[0.5, -1.0], [2.0, 0.25]])
TENSOR = NTK.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3)


def from_state(function, **options):
    """Training of two coupled outputs from a state, with arrays as arguments."""

    def call(train, velocity, **given):
        state = kernels.TrainingState(train, None, velocity)
        return function(state=state, **options, **given)

    return symmetric(call)


def outputs(trajectory):
    return trajectory.train, trajectory.state.velocity


def run(name, function, more, invalid, **options):
    return Entry(
        f"kernels.{name}",
        function,
        {
            "ntk_train": quantity(NTK),
            "y": quantity(SIGNS),
            "train": quantity(START),
            "velocity": quantity(SIGNS / 2),
            "learning_rate": number(0.25),
        }
        | more,
        invalid={"learning_rate": (0.0, -1.0), "ntk_train": (np.float32(-NTK),), "velocity": (np.ones(3, np.float32),)}
        | invalid,
        integer_values={"learning_rate": 1},
        slow=True,
        **options,
    )


ENTRIES = [
    run(
        "gradient_flow (logistic, from a state)",
        from_state(kernels.gradient_flow, loss="logistic", max_steps=2000),
        {"times": quantity(TIMES), "friction": number(2.0), "tolerance": number(1e-5)},
        {"times": (np.float32([-1, 1]), np.float32([1, 0])), "friction": (0.0, -1.0), "tolerance": (0.0,)},
        derivatives=(
            Derivative(
                ("ntk_train", "train", "velocity", "learning_rate", "friction", "times"),
                at={"tolerance": 1e-11},
                output=outputs,
            ),
        ),
    ),
    run(
        "gradient_flow (from a state)",
        from_state(kernels.gradient_flow),
        {"times": quantity(TIMES), "friction": number(2.0)},
        {"times": (np.float32([-1, 1]),), "friction": (0.0, -1.0)},
        at_infinity={"times": "the flow has a limit"},
        derivatives=(
            Derivative(
                ("ntk_train", "y", "train", "velocity", "learning_rate", "friction", "times"),
                at={"ntk_train": 2 * np.eye(4)},
                output=outputs,
                order=1,
                reason="second derivatives need distinct eigenvalues",
            ),
        ),
    ),
    run(
        "gradient_descent (logistic, from a state)",
        from_state(kernels.gradient_descent, loss="logistic", max_steps=16),
        {"steps": integers([3, 0, 5]), "momentum": number(0.5)},
        {"steps": (np.array([-1]),), "momentum": (-0.5, 1.5)},
        derivatives=(Derivative(("ntk_train", "train", "velocity", "learning_rate", "momentum"), output=outputs),),
    ),
    run(
        "gradient_descent (from a state)",
        from_state(kernels.gradient_descent),
        {"steps": integers([0, 1, 5]), "momentum": number(0.5)},
        {"steps": (np.array([-1]),), "momentum": (-0.5, 1.5)},
    ),
    Entry(
        "kernels.matrix_layout",
        kernels.matrix_layout,
        {"kernel": quantity(TENSOR)},
        invalid={"kernel": (np.float32(NTK),)},
        scale={"kernel": {"": 1}},
        derivatives=(Derivative(("kernel",)),),
    ),
    Entry(
        "kernels.tensor_layout",
        kernels.tensor_layout,
        {"kernel": quantity(NTK), "outputs": static(2)},
        invalid={"kernel": (np.float32(TENSOR),), "outputs": (0, 3, 1.5)},
        scale={"kernel": {"": 1}},
        derivatives=(Derivative(("kernel",)),),
    ),
    Entry(
        "kernels.max_learning_rate",
        symmetric(kernels.max_learning_rate),
        {"kernel": quantity(NTK), "momentum": number(0.5)},
        invalid={"kernel": (np.float32(-NTK), np.float32(CROSS)), "momentum": (-0.5, 1.5)},
        scale={"kernel": {"": -1}},
        derivatives=(Derivative(("momentum",)),),
    ),
    Entry(
        "kernels.max_learning_rate (local)",
        lambda kernel, outputs, targets: kernels.max_learning_rate(
            even(kernel), loss="cross_entropy", outputs=outputs, targets=targets
        ),
        {
            "kernel": quantity(NTK),
            "outputs": quantity(np.float64(PROBABILITIES[::-1])),
            "targets": quantity(PROBABILITIES),
        },
        invalid={"outputs": (np.ones((4, 3), np.float32),)},
        derivatives=(Derivative(("kernel", "outputs"), order=1, reason="those of eigenvectors are held fixed"),),
        slow=True,
    ),
]


class TestKernelDynamics(Gates):
    """Variants of the dynamics of `test_kernels_spectra`, and the functions beside them."""

    entries = ENTRIES
