"""Sizes of a model: the integers among its attributes, and the model with other integers in their places."""

import dataclasses
from collections.abc import Mapping
from typing import Any

Place = tuple[str | int, ...]  # names of attributes, keys of dictionaries and indices of lists


def sizes(value: object, place: Place = ()) -> dict[Place, int]:
    """Every positive integer inside a value, by its place.

    >>> sizes({"features": [8, 16], "name": "mlp"})
    {('features', 0): 8, ('features', 1): 16}
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return {place: value} if value >= 1 else {}
    return {at: size for key, part in _parts(value).items() for at, size in sizes(part, (*place, key)).items()}


def resized(value: Any, larger: Mapping[Place, int], place: Place = ()) -> Any:
    """A value with other integers at some places; modules and containers around them are copies.

    >>> resized({"features": [8, 16]}, {("features", 1): 32})
    {'features': [8, 32]}
    """
    if place in larger:
        return larger[place]
    if not any(other[: len(place)] == place for other in larger):
        return value
    parts = {key: resized(part, larger, (*place, key)) for key, part in _parts(value).items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {str(key): part for key, part in parts.items() if part is not getattr(value, str(key))}
        return value.clone(**changed) if hasattr(value, "clone") else dataclasses.replace(value, **changed)
    if isinstance(value, dict):
        return type(value)(parts)
    return type(value)(*parts.values()) if hasattr(value, "_fields") else type(value)(parts.values())


def name_of(place: Place) -> str:
    """A place as Python writes it.

    >>> name_of(("layers", 0, "features"))
    'layers[0].features'
    """
    name = ""
    for key in place:
        name += f"[{key!r}]" if not isinstance(key, str) else f".{key}" if name else key
    return name


def _parts(value: object) -> dict[str | int, object]:
    """Attributes of a module or a dataclass, entries of a dictionary, items of a tuple or a list."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return {name: getattr(value, name) for name in names if name not in ("parent", "name")}
    if isinstance(value, dict):
        return value
    return dict(enumerate(value)) if isinstance(value, tuple | list) else {}
