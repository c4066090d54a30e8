"""What a sweep must have in common with the store that it continues, and the error that says where it has not."""

import functools
import json
from typing import Any

import jax
import numpy as np

import jaxtheory
from jaxtheory.checks import require
from jaxtheory.sweeps.axes import Layout
from jaxtheory.sweeps.outputs import Variable


def declared_version(point: Any) -> int | str:
    """The `version` of a point, through `functools.partial` and `jax.jit`, or 0.

    A point that computes something else than before must say so, `point.version = 2`: neither its code nor the data
    that it closes over is compared.

    >>> def point(seed, key): ...
    >>> point.version = 3
    >>> declared_version(functools.partial(point, seed=1))
    3
    """
    while True:
        if hasattr(point, "version"):
            break
        inner = point.func if isinstance(point, functools.partial) else getattr(point, "__wrapped__", None)
        if inner is None:
            return 0
        point = inner
    require(isinstance(point.version, int | str), "point.version", point.version, "be an int or a str", "use 1, 2, ...")
    return point.version


def terms(
    layout: Layout, coordinates: dict[str, np.ndarray], schema: dict[str, Variable], key: jax.Array, version: int | str
) -> dict[str, Any]:
    """Attributes of the store that two calls must share."""
    axes = {name: {"dtype": str(label.dtype), "values": label.tolist()} for name, label in coordinates.items()}
    words = ", ".join(str(word) for word in np.asarray(jax.random.key_data(key)).ravel())
    return {
        "grid": json.dumps(axes),
        "key": f"{jax.random.key_impl(key)}: {words}",
        "point_version": version,
        "dtype": str(jax.dtypes.canonicalize_dtype(float)),
        "static": list(layout.static),
        "paired": list(layout.paired),
        "outputs": json.dumps({name: str(variable) for name, variable in schema.items()}),
    }


def environment(mesh: jax.sharding.Mesh, block: int) -> dict[str, Any]:
    """What may change between two calls, and is then recorded: versions, devices, points a block."""
    return {
        "jaxtheory": jaxtheory.__version__,
        "jax": jax.__version__,
        "device_kind": mesh.devices.flat[0].device_kind,
        "device_count": mesh.size,
        "block": block,
    }


def require_same(path: Any, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise a `ValueError` that names every term in which the call differs from the store, with both values."""
    found = _flat(stored)
    wanted = _flat(asked)
    differences = [
        f"{name}: {_excerpts(found.get(name, 'none'), wanted.get(name, 'none'))}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    require(
        not differences,
        "out",
        str(path),
        "hold the sweep that is asked for (differing in " + "; ".join(differences) + ")",
        "use another path, delete it, or call with what the store has",
    )


def _flat(attributes: dict[str, Any]) -> dict[str, str]:
    """Term by term: one for each axis and each output."""
    axes = json.loads(attributes["grid"])
    flat = {f"axis {name}": "{dtype} {values}".format(**axis) for name, axis in axes.items()}
    flat |= {f"output {name}": kind for name, kind in json.loads(attributes["outputs"]).items()}
    terms = ("key", "point_version", "dtype", "static", "paired")
    return flat | {"order of axes": ", ".join(axes)} | {name: str(attributes[name]) for name in terms}


def _excerpts(stored: str, asked: str) -> str:
    """Both values from a little before they part, where they are long."""
    part = next((i for i, (a, b) in enumerate(zip(stored, asked, strict=False)) if a != b), 0)
    start = max(0, part - 20)
    stored, asked = (text if len(text) <= 80 else f"…{text[start : start + 60]}…" for text in (stored, asked))
    return f"{stored} in the store, {asked} here"
