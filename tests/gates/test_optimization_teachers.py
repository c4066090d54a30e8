"""The gates of `optimization`: multi-index models, the mean of escape times, grokking."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, number, quantity, static

from jaxtheory import optimization
from jaxtheory.optimization import teacher_student

ENTRIES = [
    Entry(
        "optimization.teacher_student.mean_escape_samples",
        lambda **given: teacher_student.mean_escape_samples("tanh", dim=20, **given),
        {"step_size": number(0.03125), "start": number(0.25), "target": number(0.5)},
        invalid={"step_size": (0.0, -1.0), "start": (1.5,), "target": (0.0, 1.0)},
        integer_values={"start": 0, "step_size": 1},
        condition=1000,  # 2048 cells
        skip={"kinds": "no integer target is valid"},
        derivatives=(Derivative(("step_size",), order=1, condition=100, reason="long recursions"),),
    ),
    Entry(
        "optimization.linear_grokking",
        optimization.linear_grokking,
        {
            "eigenvalues": quantity([2.0, 1.0, 0.25]),
            "weights": quantity([0.5, 1.0, 0.25]),
            "times": quantity([0.5, 2.0]),
            "margin": number(0.5),
            "level": number(0.75),
        },
        invalid={
            "eigenvalues": (np.float32([-1, 1, 1]),),
            "weights": (np.float32([-1, 1, 1]),),
            "times": (np.float32([-1, 1]),),
            "margin": (0.0, -1.0),
            "level": (0.0, 1.0, 2.0),
        },
        permute={"eigenvalues,weights": {"test_loss": None, "delay": None}, "times": {"test_accuracy": 0}},
        derivatives=(Derivative(("eigenvalues", "weights", "margin", "level"), condition=10),),
        skip={"kinds": "no integer level is valid"},
    ),
    Entry(
        "optimization.marchenko_pastur",
        optimization.marchenko_pastur,
        {"aspect": number(2.0)},
        invalid={"aspect": (0.0, -1.0)},
        derivatives=(Derivative(("aspect",)),),
    ),
    Entry(
        "optimization.teacher_student.isotropic_leap",
        teacher_student.isotropic_leap,
        {
            "function": static(lambda x: x[0] + x[0] * x[1]),
            "variables": static(2),
            "degree": static(3),
            "tolerance": static(1e-6),
        },
        invalid={"tolerance": (0.0, np.nan, 2.0), "variables": (0, 7), "degree": (0, 63)},
        skip={"precision": "computed in float64 on the host"},
    ),
    Entry(
        "optimization.teacher_student.multi_index_flow",
        lambda **given: teacher_student.multi_index_flow([[1, 0], [1, 1], [0, 2]], **given),
        {
            "coefficients": quantity([0.5, 1.0, 0.25]),
            "student": quantity([0.0, 0.5, -0.25]),
            "start": quantity([0.125, 0.25]),
            "times": quantity([0.5, 2.0]),
        },
        invalid={
            "start": (np.float32([1, 1]), np.float32([-2, 0])),
            "times": (np.float32([2, 1]), np.float32([-1, 1])),
        },
        integer_values={"start": [1, 0]},
        derivatives=(
            Derivative(
                ("coefficients", "student", "start"),
                reverse=False,
                order=1,
                condition=100,
                reason="loops of unknown length",
            ),
        ),
    ),
]


class TestOptimizationTeachers(Gates):
    """Public functions of the room that say when a student has learned."""

    entries = ENTRIES
