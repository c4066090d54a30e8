"""The gates of `double_descent`: kernels and random features on the sphere in high dimension."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, number, quantity

from jaxtheory import kernels
from jaxtheory.double_descent import sphere_risk, staircase


def listed(eigenvalues, multiplicity, **given):
    """Of a spectrum given as arrays, without rounding errors."""
    return sphere_risk(kernels.SphereSpectrum(eigenvalues, multiplicity, np.zeros(3, np.float32)), **given)


SPHERE = {
    "eigenvalues": quantity([0.5, 0.125, 0.0625]),
    "multiplicity": quantity([1.0, 3.0, 5.0]),
    "power": quantity([0.5, 1.0, 0.25]),
    "n": quantity([4.0, 6.0]),
    "width": number(5.0),
    "ridge": number(0.125),
    "noise": number(0.25),
    "trace": number(2.0),
    "unlearnable": number(0.5),
}

ENTRIES = [
    Entry(
        "double_descent.sphere_risk",
        listed,
        SPHERE,
        invalid={
            "multiplicity": (np.float32([1.0, -3.0, 5.0]),),
            "power": (np.float32([1.0, -1.0, 0.0]), np.ones(2, np.float32)),
            "n": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])),
            "width": (0.0, -1.0),
            "trace": (0.0, -1.0),
            **dict.fromkeys(("ridge", "noise", "unlearnable"), (-1.0,)),
        },
        at_infinity={"width": "the kernel"},
        integer_values={"trace": 2},
        permute={"eigenvalues,multiplicity,power": {"test": None, "learned": 1}, "n": {"test": 0, "learned": 0}},
        derivatives=(
            Derivative(
                tuple(SPHERE),
                order=1,
                reason="the fixed point's second derivatives are those of random_feature_spectrum",
            ),
        ),
        slow=True,
    ),
    Entry(
        "double_descent.staircase",
        staircase,
        {"power": quantity([0.5, 1.0, 0.25]), "samples": quantity([0.5, 1.5]), "width": number(1.25)},
        invalid={
            "power": (np.float32([1.0, -1.0, 0.0]),),
            "samples": (np.float32([-0.5, 1.0]),),
            "width": (-0.5,),
        },
        at_infinity=dict.fromkeys(("samples", "width"), "what does not limit"),
        scale={"power": {"": 1}},
        permute={"samples": {"": 0}},
        derivatives=(Derivative(("power",)),),
    ),
]


class TestSphere(Gates):
    """The functions of `double_descent.staircase`."""

    entries = ENTRIES
