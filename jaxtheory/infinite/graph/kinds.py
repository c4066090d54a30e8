"""Values by their kind."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def only(kind: type[T], values: Iterable[object]) -> list[T]:
    """The values of a kind, in order."""
    return [value for value in values if isinstance(value, kind)]
