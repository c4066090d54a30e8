"""What has no limit, or none that is known here, says so: the operation, the user's line, the reason and the hint."""

from typing import NoReturn

from jaxtheory.programs.sites import UNKNOWN, Site, site

__all__ = ["UNKNOWN", "NoLimitError", "Site", "refuse", "site"]


class NoLimitError(ValueError):
    """A network, or an operation in it, whose infinite-width limit does not exist or is not known here."""


def refuse(where: Site, reason: str, hint: str) -> NoReturn:
    """Raise a `NoLimitError` for an operation.

    >>> refuse(Site("sort", "model.py:3"), "it sorts channels", "leave it out")
    Traceback (most recent call last):
    jaxtheory.infinite.errors.NoLimitError: sort at model.py:3 has no infinite-width limit here: it sorts channels; ...
    """
    raise NoLimitError(f"{where.operation} at {where.place} has no infinite-width limit here: {reason}; {hint}.")
