"""The gates of `kernels`: leverage scores and features drawn by them."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, quantity

from jaxtheory import kernels

FEATURES = np.random.default_rng(0).normal(size=(3, 5))

ENTRIES = [
    Entry(
        "kernels.leverage_scores",
        kernels.leverage_scores,
        {"features": quantity(FEATURES), "ridge": number(0.5)},
        invalid={"ridge": (0.0, -1.0, 1e-9)},
        permute={"features": {"": None}},
        derivatives=(
            Derivative(("features", "ridge")),
            Derivative(("features", "ridge"), at={"features": np.ones((3, 5))}),
        ),
    ),
    Entry(
        "kernels.leverage_features",
        lambda **given: kernels.leverage_features(count=4, **given),
        {"key": key(), "features": quantity(FEATURES), "ridge": number(0.5)},
        invalid={"ridge": (0.0, -1.0)},
        derivatives=(Derivative(("features", "ridge"), output=lambda found: found.features),),
        skip={"precision": "the draws of the two precisions differ"},
        slow=True,
    ),
    Entry(
        "kernels.features_needed",
        kernels.features_needed,
        {"dimension": number(10.0), "delta": number(0.25)},
        invalid={"dimension": (0.0, -1.0), "delta": (0.0, 1.5)},
        derivatives=(Derivative(("dimension", "delta"), condition=100),),
        skip={"precision": "a Python number for Python numbers"},
    ),
]


class TestKernelsLeverage(Gates):
    """Leverages and what they are for."""

    entries = ENTRIES
