"""The gates of `scaling`: exact risks of one-pass SGD, fits of scaling laws, frontiers."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, number, quantity

from jaxtheory import scaling

RNG = np.random.default_rng(0)
FEATURES, EIGS, TARGET = RNG.normal(size=(4, 3)), np.array([2.0, 1.0, 0.5, 0.25]), np.array([1.0, -0.5, 2.0, 1.0])
NEGATIVE = np.float32([1.0, 1.0, -1.0, 1.0])
STEPS = {"batch": quantity([1.0, 2.0, 3.0]), "step_size": quantity([0.25, 0.125, 0.0625])}
SMALL_STEPS = {**STEPS, "step_size": quantity([0.0625, 0.03125, 0.015625])}
STEPS_INVALID = {"batch": (np.float32([0.5, 1.0, 1.0]),), "step_size": (np.float32([-1.0, 1.0, 1.0]),)}
ENDLESS = {"batch": "gradient descent on the risk"}

ENTRIES = [
    Entry(
        "scaling.one_pass_risk",
        lambda **given: scaling.one_pass_risk(**given, steps=3),
        {
            "features": quantity(FEATURES),
            "eigs": quantity(EIGS),
            "target": quantity(TARGET),
            **STEPS,
            "momentum": number(0.5),
        },
        invalid={"eigs": (NEGATIVE,), "momentum": (-0.5, 2.0), **STEPS_INVALID},
        at_infinity=ENDLESS,
        integer_values={"batch": [1, 2, 3], "momentum": 0},
        permute={"eigs,features,target": {"risk": None, "floor": None}},
        derivatives=(
            # within the range of the batch
            Derivative(("features", "eigs", "target", "batch", "step_size", "momentum"), at={"batch": [1.5, 2.0, 3.0]}),
            Derivative(
                ("target", "step_size", "momentum"),
                # singular values 1, 1 and 0
                at={"features": np.eye(4, 3) * [1.0, 1.0, 0.0]},
                order=1,
                reason="polynomials in these, of which the first entry checks the second derivatives",
            ),
        ),
    ),
    Entry(
        "scaling.one_pass_equivalent",
        lambda **given: scaling.one_pass_equivalent(**given, steps=3),
        {"eigs": quantity(EIGS), "target": quantity(TARGET), "width": number(3.0), **SMALL_STEPS},
        invalid={"eigs": (NEGATIVE,), "width": (0.0, -1.0), **STEPS_INVALID},
        at_infinity=ENDLESS,
        integer_values={"batch": [1, 2, 3]},
        permute={"eigs,target": {"risk": None, "floor": None}},
        derivatives=(
            Derivative(
                ("eigs", "target", "width", "step_size"),
                at={"eigs": [1.0, 1.0, 0.5, 0.25]},
                order=1,
                # the quadrature's own error, 1e-6, has a derivative
                condition=1e4,
                reason="the second derivatives take minutes to compile",
            ),
        ),
    ),
]


class TestScaling(Gates):
    """Every public function of the room."""

    entries = ENTRIES
