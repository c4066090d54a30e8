"""The gates of `sweeps`: grids of known values, points that are traced, stores in a folder of their own."""

import tempfile
from pathlib import Path

import numpy as np
import xarray
from gates.gates import Gates
from gates.harness import Derivative, Entry, number, quantity, static

from jaxtheory import sweeps

X = np.array([0.5, 2.0, 3.25])
KNOWN = {"jit": "values of axes are known before anything is traced"}
ANY = {"wrong kinds": "an axis may hold strings, where it is static", "kinds": "an axis keeps the dtype of its values"}
EDGES = {"x": "an axis may hold infinity"}
NUMBERS = dict.fromkeys(("jit", "precision"), "takes and gives Python numbers")


def axis(x):
    return sweeps.grid(x=x).axes["x"]


def zipped_axis(x):
    return np.asarray(sweeps.grid(sweeps.zipped(y=range(len(x)), x=x)).axes["x"])


def point(x, key):
    return {"square": x**2}


def run(x):
    found = sweeps.run(point, sweeps.grid(x=x), progress=False)
    return {name: found[name].values for name in ("square", "status")}


def random_axis(count, seed):
    return np.asarray(sweeps.random(count, seed, rate=sweeps.uniform(0.0, 1.0)).axes["rate"])


def stored(folder, values):
    out = Path(folder) / f"{values[0]}.zarr"
    sweeps.run(point, sweeps.grid(x=values), out=out, progress=False)
    return out


def merged(count):
    with tempfile.TemporaryDirectory() as folder:
        stores = [stored(folder, [float(i), 5.0]) for i in range(count)]
        found = sweeps.merge(stores, Path(folder) / "all.zarr").load()
        return {"square": found["square"].values, "status": found.status.values}


def status(values):
    with tempfile.TemporaryDirectory() as folder:
        report = sweeps.status(stored(folder, values))
        return {"done": report.done, "total": report.total}


def components(x):
    table = xarray.Dataset({"x": (("a", "b"), np.asarray(x, np.float64))})
    found = sweeps.variance_components(table, ("a", "b"))
    return {name: found[name].values for name in ("x", "x_standard_error")}


ENTRIES = [
    Entry("sweeps.grid", axis, {"x": quantity(X)}, at_infinity=EDGES, skip=KNOWN | ANY),
    Entry("sweeps.zipped", zipped_axis, {"x": quantity(X)}, at_infinity=EDGES, skip=KNOWN | ANY),
    Entry(
        "sweeps.random",
        random_axis,
        {"count": static(3), "seed": static(0)},
        invalid={"count": (0, 2.5, "3"), "seed": (-1, 0.5)},
        skip=NUMBERS,
    ),
    Entry(
        "sweeps.uniform",
        lambda low, high: sweeps.uniform(low, high)(0.5),
        {"low": number(0.0), "high": number(2.0)},
        invalid={"low": (2.0, 3.0)},
        skip=NUMBERS,
    ),
    Entry(
        "sweeps.log_uniform",
        lambda low, high: sweeps.log_uniform(low, high)(0.5),
        {"low": number(1.0), "high": number(4.0)},
        invalid={"low": (0.0, -1.0, 4.0)},
        skip=NUMBERS,
    ),
    Entry(
        "sweeps.named",
        lambda array: sweeps.named(array, "time").array,
        {"array": quantity(X)},
        scale={"array": {"": 1}},
        permute={"array": {"": 0}},
        derivatives=(Derivative(("array",)),),
        skip={"wrong kinds": "what the point returns is checked by `run`", "kinds": "an output keeps its dtype"},
    ),
    Entry("sweeps.run", run, {"x": quantity(X)}, permute={"x": {"square": 0, "status": 0}}, skip=KNOWN | ANY),
    Entry("sweeps.merge", merged, {"count": static(2)}, invalid={"count": (0,)}, skip=KNOWN),
    Entry(
        "sweeps.variance_components",
        components,
        {"x": quantity(np.arange(12.0).reshape(4, 3) ** 1.5)},
        scale={"x": {"x": 2, "x_standard_error": 2}},
        scale_condition=1.0,
        permute={"x": {"x": None, "x_standard_error": None}},
        skip=KNOWN | {"wrong kinds": "a dataset holds numbers", "precision": "computed in float64 on the host"},
    ),
    Entry("sweeps.status", status, {"values": static([1.0, 2.0])}, skip=KNOWN),
]


class TestSweeps(Gates):
    """Every public function of `sweeps`."""

    entries = ENTRIES
