"""What a sweep must have in common with the store that it continues, and the error that says where it has not."""

import functools
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxtheory
from jaxtheory.checks import require
from jaxtheory.sweeps import content
from jaxtheory.sweeps.axes import Column
from jaxtheory.sweeps.layout import Attributes
from jaxtheory.sweeps.outputs import Schema
from jaxtheory.sweeps.sweep import Frame, Sweep, Version

DRAWS = "SHA-256 of values, 64 bits"
_BY_PLACE = "by the points' places"


def version_of(point: Callable[..., Any], given: int | str | None) -> Version:
    """The version given, or that of `point.version`, through `functools.partial` and `jax.jit`, or 0.

    A declared version is trusted; without one, a change of the code or of what it closes over is warned of.

    >>> def point(seed, key): ...
    >>> point.version = 3
    >>> version_of(functools.partial(point, seed=1), None)[:2]
    (3, True)
    """
    declared = _declared(point) if given is None else given
    usual = isinstance(declared, int | str | None)
    require(usual, "version", declared, "be an int or a str", "use 1, 2, ...")
    return Version(declared or 0, declared is not None, content.digest(point, strict=False).hex()[:16])


def _declared(point: object) -> Any:
    while not hasattr(point, "version"):
        inner = point.func if isinstance(point, functools.partial) else getattr(point, "__wrapped__", None)
        if inner is None:
            return None
        point = inner
    return point.version


def terms(sweep: Sweep, frame: Frame, schema: Schema | None) -> Attributes:
    """Attributes of the store that two calls must share, but for the values along the axes; outputs where known."""
    key, version = sweep.key, sweep.version.number
    words = ", ".join(str(word) for word in np.asarray(jax.random.key_data(key)).ravel())
    return {
        "draws": DRAWS,
        "grid": grid_term(frame),
        "key": f"{jax.random.key_impl(key)}: {words}",
        "point_version": version,
        "dtype": str(jax.dtypes.canonicalize_dtype(float)),
        "static": json.dumps(sorted(sweep.static)),
        "paired": json.dumps(sorted(sweep.paired)),
    } | ({} if schema is None else {"outputs": json.dumps(schema.shown())})


def grid_term(frame: Frame) -> str:
    """The axes with their values in the order of the store, as JSON."""
    dims = frame.along
    axes: Attributes = {}
    for name in dims:
        column = frame.columns[name]
        axes[name] = {"dtype": _kind(column), "values": column.labels.tolist()}
        if column.by_content:
            axes[name]["contents"] = [identity.hex() for identity in column.identities]
        if dims[name] != name:
            axes[name]["dim"] = dims[name]
    return json.dumps(axes)


def _kind(column: Column) -> str:
    return "object" if column.by_content else str(column.labels.dtype)


def environment(mesh: jax.sharding.Mesh, block: int, code: str) -> Attributes:
    """What may change between two calls, and is then recorded: versions, devices, points a block, the point's code."""
    return {
        "jaxtheory": jaxtheory.__version__,
        "jax": jax.__version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "device_kind": mesh.devices.flat[0].device_kind,
        "device_count": mesh.size,
        "block": block,
        "code": code,
    }


def differences(stored: Attributes, asked: Attributes, here: str = "here") -> list[str]:
    """Every term in which two sweeps differ, but for the values of their axes, with both of its values."""
    found, wanted = _flat(stored), _flat({"outputs": stored["outputs"]} | asked)
    old = _BY_PLACE in (found["draws"], wanted["draws"])
    return [
        f"{name}: {_excerpts(found.get(name, 'none'), wanted.get(name, 'none'), here)}"
        for name in (["draws"] if old else sorted(found.keys() | wanted.keys()))
        if found.get(name) != wanted.get(name)
    ]


def require_same(path: object, stored: Attributes, asked: Attributes) -> None:
    """Raise a `ValueError` that names every term in which the call differs from the store, with both values."""
    differ, old = differences(stored, asked), "draws" not in stored
    reading = "open it with xarray.open_zarr, and continue under another path: its points would be drawn anew"
    require(
        not differ,
        "out",
        str(path),
        "hold the sweep that is asked for (differing in " + "; ".join(differ) + ")",
        reading if old else "use another path, delete it, or call with what the store has",
    )


def _flat(attributes: Attributes) -> dict[str, str]:
    """Term by term: one for each axis, without its values, and one for each output."""
    axes = json.loads(attributes["grid"])
    dims = {name: axis.get("dim", name) for name, axis in axes.items()}
    flat = {f"axis {name}": axis["dtype"] for name, axis in axes.items()}
    outputs = json.loads(attributes["outputs"]).items()
    flat |= {name if name.startswith("coordinate ") else f"output {name}": kind for name, kind in outputs}
    zips = {dim: sorted(name for name in dims if dims[name] == dim) for dim in dims.values()}
    flat |= {f"axis {dim} zipped with": ", ".join(names) for dim, names in zips.items() if len(names) > 1}
    flat |= {"draws": attributes.get("draws", _BY_PLACE)}
    return flat | {name: str(attributes[name]) for name in ("key", "point_version", "dtype", "static", "paired")}


def warn_of_other_code(path: object, known: list[Attributes], version: Version) -> None:
    """Say so where the point's code or constants are not those that filled the store, unless a version vouches."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    comparable = [past for past in known if past.get("python") == python]
    if version.declared or not comparable or any(past.get("code") == version.code for past in comparable):
        return
    warnings.warn(
        f"the code of the point, or what it closes over, is not what filled {path}: its points are kept as they are; "
        f"pass version={version.number!r} to say that they are the same, or use another path",
        stacklevel=2,
    )


def _excerpts(stored: str, asked: str, here: str) -> str:
    """Both values from a little before they part, where they are long."""
    part = next((i for i, (a, b) in enumerate(zip(stored, asked, strict=False)) if a != b), 0)
    start = max(0, part - 20)
    stored, asked = (text if len(text) <= 80 else f"…{text[start : start + 60]}…" for text in (stored, asked))
    return f"{stored} in the store, {asked} {here}"
