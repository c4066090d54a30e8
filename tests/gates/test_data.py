"""The gates of `data`: labels, inputs, draws with a known law, and the sets that install with the package."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static

from jaxtheory import data

RNG = np.random.default_rng(0)
X, BETA = RNG.standard_normal((6, 3)), np.array([1.0, -2.0, 0.5])
TIED = np.array([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0], [4.0, 2.0, 5.0], [2.0, 2.0, 1.0], [1.0, 2.0, 3.0], [4.0, 2.0, 0.0]])
LABELS = "integers: what is forbidden is -1 inside jit, as tests/data/test_labels.py shows"
FILES = "reads files, as tests/data/test_files.py does"
NO_ARRAYS = dict.fromkeys(("jit", "kinds", "precision"), "takes no arrays, and its draw does not run inside jit")


def rows(n):
    draw = np.random.default_rng(1).standard_normal((2, n, 2))
    return {"x": points(draw[0]), "reference": points(draw[1])}


def sphere(samples, features, key, radius):
    return data.sphere(samples, features, key, radius=radius, dtype=jnp.result_type(float))


ENTRIES = [
    Entry(
        "data.flip_labels",
        data.flip_labels,
        {"y": integers([0, 1, 2, 0, 1]), "fraction": number(0.4), "key": key(), "classes": static(3)},
        invalid={"fraction": (-0.1, 1.5), "y": (np.array([0, 3]), np.array([-1, 0])), "classes": (1, 0)},
        integer_values={"fraction": 1.0},
        skip={"poison": LABELS, "invalid": LABELS},
    ),
    Entry(
        "data.one_hot",
        data.one_hot,
        {"y": integers([[0, 2], [1, 1]]), "classes": static(3), "dtype": static("float32")},
        invalid={"y": (np.array([0, 3]), np.array([-1, 0])), "classes": (0, -1)},
        skip={"precision": "its precision is an argument"},
    ),
    Entry(
        "data.standardize",
        data.standardize,
        rows,
        shift={("x", "reference"): ("",)},
        permute={"x": {"": 0}, "reference": {"": None}},
        derivatives=(Derivative(("x", "reference")),),
    ),
    Entry(
        "data.standardize, of itself",
        lambda x: data.standardize(x),
        {"x": points(X)},
        scale={"x": {"": 0}},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("x",), {"x": TIED[:, [0, 2]]}),),
    ),
    Entry(
        "data.gaussian_linear",
        data.gaussian_linear,
        {
            "samples": static(4),
            "coefficients": quantity(BETA),
            "key": key(),
            "spectrum": quantity([4.0, 1.0, 0.5]),
            "noise": number(0.25),
        },
        invalid={"noise": (-1.0,), "spectrum": (np.float32([1, -1, 1]),), "samples": (0,)},
        derivatives=(Derivative(("coefficients", "spectrum", "noise")),),
        skip={"precision": "draws of another precision are other draws"},
    ),
    Entry(
        "data.sphere",
        sphere,
        {"samples": static(4), "features": static(3), "key": key(), "radius": number(2.0)},
        invalid={"radius": (0.0, -1.0), "samples": (0,), "features": (0,)},
        derivatives=(Derivative(("radius",)),),
        skip={"precision": "draws of another precision are other draws"},
    ),
    Entry(
        "data.random_teacher",
        data.random_teacher,
        {
            "x": points(X),
            "width": static(5),
            "key": key(),
            "activation": static(jnp.tanh),
            "noise": number(0.1),
        },
        invalid={"noise": (-1.0,), "width": (0,)},
        derivatives=(Derivative(("x", "noise")),),
        skip={"precision": "draws of another precision are other draws"},
    ),
    Entry(
        "data.split",
        data.split,
        {"x": quantity(X), "y": integers([0, 1, 2, 0, 1, 2]), "train": static(4), "key": key()},
        invalid={"train": (0, 7), "y": (np.arange(5),)},
        skip={"wrong kinds": "labels may be of any kind of numbers; others are named in tests/data/test_real.py"},
    ),
    Entry("data.digits", data.digits, {"train": static(5)}, invalid={"train": (0, 1798, 2.5)}, skip=NO_ARRAYS),
    Entry("data.mnist5k", data.mnist5k, {"train": static(5)}, invalid={"train": (0, 5001, 2.5)}, skip=NO_ARRAYS),
    Entry(
        "data.load_arrays",
        lambda path: None,
        {},
        skip=dict.fromkeys(("valid", "jit", "precision", "wrong kinds"), FILES),
    ),
]


class TestData(Gates):
    """Every public function of `data`."""

    entries = ENTRIES
