"""The gates of `infinite.phase` and `infinite.corrections`: order and chaos, and moments at finite width."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, quantity, static

from jaxtheory.infinite import corrections, phase

BAD = (-1.0, -1e-6)
BOTH = {"sigma_w": BAD, "sigma_b": BAD}
CHAOS = {"sigma_w": number(2.0), "sigma_b": number(0.5)}
PAIR = [1.0, 0.5, 2.0]
ROUNDED = {"sigma_b": 1}


def fields(found):
    """Where roots end, and the slopes there."""
    return found[:-1]


ENTRIES = [
    Entry(
        "infinite.phase.length_map",
        lambda q, sigma_w, sigma_b: phase.length_map("erf")(q, sigma_w, sigma_b),
        {"q": quantity([0.5, 2.0]), **CHAOS},
        invalid={"q": (np.float32([-1.0, 1.0]),), **BOTH},
        permute={"q": {"": 0}},
        derivatives=(Derivative(("q", "sigma_w", "sigma_b")),),
    ),
    Entry(
        "infinite.phase.correlation_map",
        lambda c, q, sigma_w, sigma_b: phase.correlation_map("erf")(c, q, sigma_w, sigma_b),
        {"c": quantity([0.5, -0.25]), "q": quantity([1.0, 2.0]), **CHAOS},
        invalid={"c": (np.float32([0.0, 1.5]), np.float32([-1.5, 0.0])), "q": (np.float32([0.0, 1.0]),), **BOTH},
        permute={"c,q": {"": 0}},
        derivatives=(Derivative(("c", "q", "sigma_w", "sigma_b")),),
    ),
    Entry(
        "infinite.phase.fixed_point",
        lambda sigma_w, sigma_b: phase.fixed_point("erf", sigma_w, sigma_b),
        CHAOS,
        invalid=BOTH,
        integer_values=ROUNDED,
        derivatives=(
            # order
            Derivative(("sigma_w", "sigma_b"), at={"sigma_w": 0.75}, output=fields, order=1, reason="as below"),
            # chaos
            Derivative(("sigma_w", "sigma_b"), output=fields, condition=100),
        ),
        slow=True,
    ),
    Entry(
        "infinite.phase.diagram",
        lambda sigma_w, sigma_b: phase.diagram("erf", sigma_w, sigma_b),
        {"sigma_w": quantity([0.75, 2.0]), "sigma_b": quantity([0.5])},
        invalid={"sigma_w": (np.float32([-1.0, 1.0]),), "sigma_b": (np.float32([-1.0]),)},
        integer_values={"sigma_b": [1], "sigma_w": [1, 2]},
        permute={"sigma_w": {"variance": 0, "chi_one": 0, "status": 0}},
        slow=True,
    ),
    Entry(
        "infinite.phase.critical_point",
        lambda sigma_b: phase.critical_point("erf", sigma_b),
        {"sigma_b": number(0.5)},
        invalid={"sigma_b": BAD},
        integer_values=ROUNDED,
        derivatives=(Derivative(("sigma_b",), output=fields, condition=100),),
        slow=True,
    ),
    Entry(
        "infinite.phase.propagate",
        lambda sigma_w, sigma_b, covariance: phase.propagate("erf", sigma_w, sigma_b, covariance, depth=2),
        {**CHAOS, "covariance": quantity(PAIR)},
        invalid={
            "covariance": (
                np.float32([-1.0, 0.0, 1.0]),
                np.float32([1.0, 0.0, -1.0]),
                np.float32([1.0, 2.0, 1.0]),
                np.float32([1.0, -2.0, 1.0]),
                np.float32([0.0, 1.0, 1.0]),
            ),
            **BOTH,
        },
        derivatives=(
            Derivative(("sigma_w", "sigma_b", "covariance"), order=1, reason="second ones are those of duals"),
        ),
    ),
    Entry(
        "infinite.phase.deep_ntk",
        lambda sigma_w, sigma_b: phase.deep_ntk("erf", sigma_w, sigma_b),
        {"sigma_w": number(0.75), "sigma_b": number(0.5)},
        invalid=BOTH,
        integer_values={"sigma_w": 2, **ROUNDED},
        derivatives=(Derivative(("sigma_w", "sigma_b"), order=1, reason="second ones are those of fixed_point"),),
        slow=True,
    ),
    Entry(
        "infinite.corrections.relu_moments",
        corrections.relu_moments,
        {"widths": static((4, 8))},
        invalid={"widths": ((), (0,), (4, -1), (2.5,), "abc", None, 3)},
        skip={"precision": "computed in float64 on the host"},
    ),
    Entry(
        "infinite.corrections.relu_pair_moments",
        corrections.relu_pair_moments,
        {"cosine": static(0.5)},
        invalid={"cosine": (1.5, -2.0, np.nan, np.inf, "abc", None)},
        skip={"precision": "computed in float64 on the host"},
    ),
    Entry(
        "infinite.corrections.sample_relu",
        corrections.sample_relu,
        {"key": key(), "x": quantity([1.0, -0.5]), "widths": static((3,)), "draws": static(2)},
        invalid={"widths": ((), (0,), (2.5,), "abc"), "draws": (0, -1)},
        skip={"precision": "the draws of the two precisions differ"},
        derivatives=(Derivative(("x",), order=1, reason="a plain network: second ones would only cost time"),),
        slow=True,
    ),
]


class TestPhase(Gates):
    """Every public function of the two modules."""

    entries = ENTRIES
