"""The gates of `results`, `guarded` and the argument checks."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, quantity, static

from jaxtheory import guarded, results

X = np.array([1.0, 2.0, 4.0, 8.0])

ENTRIES = [
    Entry(
        "results.status_where",
        lambda where: results.status_where((where > 0, results.Status.NOT_FINITE)),
        {"where": quantity([-1.0, -2.0])},
        skip=dict.fromkeys(("poison", "kinds", "wrong kinds"), "takes conditions, not numbers"),
    ),
    Entry(
        "results.finite_status",
        lambda values: results.Status.NOT_FINITE * results.finite_status(values),
        {"values": quantity([1.0, 2.0])},
        skip={
            "poison": "its status is tested in tests/test_results.py",
            "kinds": "takes any pytree",
            "wrong kinds": "takes any pytree",
        },
    ),
    Entry(
        "results.explain",
        results.explain,
        {"status": static(2)},
        skip=dict.fromkeys(("poison", "kinds", "wrong kinds", "jit"), "takes codes and returns text, outside jit"),
    ),
    Entry(
        "guarded.root",
        guarded.root,
        {"x": quantity([4.0, 0.5])},
        at_infinity={"x": "the root of a negative number is defined as 0, of any size"},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "guarded.norm",
        guarded.norm,
        {"x": quantity([[3.0, -4.0, 12.0]]), "axis": static(1)},
        scale={"x": {"": 1}},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "guarded.power_of_two",
        guarded.power_of_two,
        {"x": quantity([3.0, -9.0])},
        scale={"x": {"": 1}},
        skip={"poison": "the unit of what is not finite is 1, and the quotient by it not finite"},
    ),
    Entry(
        "guarded.over",
        guarded.over,
        {"numerator": quantity([1.0, 2.0]), "denominator": quantity([4.0, 3.0])},
        at_infinity={"denominator": "the quotient is then 0"},
        derivatives=(Derivative(("numerator", "denominator")),),
    ),
    Entry(
        "guarded.divided",
        guarded.divided,
        {"x": quantity([1.0, 2.0]), "first": quantity([4.0, 3.0]), "second": quantity([0.5, 3.0])},
        at_infinity=dict.fromkeys(("first", "second"), "the quotient is then 0"),
        scale={"x": {"": 1}, "first": {"": -1}, "second": {"": -1}},
        derivatives=(Derivative(("x", "first", "second")),),
    ),
    Entry(
        "guarded.dot",
        guarded.dot,
        {"a": quantity([[1.0, 2.0], [0.5, -1.0]]), "b": quantity([4.0, 3.0])},
        scale={"a": {"": 1}, "b": {"": 1}},
        derivatives=(Derivative(("a", "b")),),
    ),
    Entry(
        "guarded.orthogonal",
        guarded.orthogonal,
        {"basis": quantity([[0.6, 0.8, 0.0]]), "vector": quantity([4.0, 3.0, -1.0])},
        scale={"vector": {"": 1}},
        derivatives=(Derivative(("vector",)),),
    ),
    Entry(
        "guarded.polynomial",
        lambda x: guarded.polynomial([1.0, -0.5, 2.0], x),
        {"x": quantity([0.5, -2.0])},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "results.relative_residual",
        results.relative_residual,
        {"product": quantity([1.0, 2.0]), "target": quantity([1.0, 1.5])},
        derivatives=(Derivative(("product", "target")),),
    ),
    Entry(
        "results.standard_error",
        results.standard_error,
        {"samples": quantity(X), "axis": static(0)},
        scale={"samples": {"": 1}},
        shift={("samples",): ("",)},
        permute={"samples": {"": None}},
        derivatives=(Derivative(("samples",)),),
    ),
    Entry(
        "results.fit_slope",
        results.fit_slope,
        {"x": quantity(X), "y": quantity(1 / X + 0.1), "error": quantity(0.1 * X)},
        invalid={"x": (np.float32([1, 2, -1, 3]),), "error": (np.float32([0, 1, 1, 1]),)},
        scale={"x": {"slope": 0}},
        at_infinity={"error": "a value with an infinite error has no weight"},
        scale_condition=60,  # log 2^83
        derivatives=(Derivative(("x", "y", "error")),),
    ),
]


class TestResults(Gates):
    """Every public function of these modules."""

    entries = ENTRIES
