"""The gates of `kernels`."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Entry, number, points, quantity, static

from jaxtheory import kernels

EIGS = np.array([1.0, 0.5, 0.25, 0.125])
X = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 1.5], [0.5, 0.5]])
Y = np.array([1.0, -2.0, 0.5, 3.0])

ENTRIES = [
    Entry(
        "kernels.gaussian",
        lambda x, bandwidth: kernels.gaussian(bandwidth)(x, x),
        {"x": points(X), "bandwidth": number(2.0)},
        invalid={"bandwidth": (-1.0, 0.0)},
        shift={("x",): ("",)},
    ),
    Entry(
        "kernels.degrees_of_freedom",
        kernels.degrees_of_freedom,
        {"eigs": quantity(EIGS), "ridge": number(1.0)},
        invalid={"eigs": (np.float32([1, -1, 1, 1]),), "ridge": (-1.0,)},
        permute={"eigs": {"": None}},
    ),
    Entry(
        "kernels.ridge_path",
        lambda y, ridges: kernels.ridge_path(jnp.eye(4) + 1, None, y, ridges),
        {"y": quantity(Y), "ridges": quantity([1.0, 2.0])},
        invalid={"ridges": (np.float32([-1.0, 1.0]),)},
        scale={"y": {"alpha": 1}},
        skip={"precision": "its residual is rounding itself"},
    ),
    Entry(
        "kernels.optimal_rate",
        kernels.optimal_rate,
        {"capacity": static(2.0), "source": static(0.5)},
        skip={"precision": "returns Python numbers, which have no dtype"},
    ),
]


class TestKernels(Gates):
    """The public functions of the room."""

    entries = ENTRIES
