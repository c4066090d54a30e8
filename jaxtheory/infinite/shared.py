"""One parameter in two roles: a weight and its transpose are correlated, which no limit here takes into account."""

from collections.abc import Iterable

from jaxtheory.infinite import views
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.nodes import Use


def require_untied(uses: Iterable[Use]) -> None:
    """Raise where two uses of overlapping numbers of one leaf contract different axes of it."""
    seen: list[Use] = []
    for use in uses:
        for other in seen:
            if use.key.rest != other.key.rest and views.overlap(use.key, other.key):
                reason = f"its weight is used in another role by {other.site.operation} at {other.site.line}"
                refuse(use.site, reason, "give each role a weight of its own (W and its transpose do not go together)")
        seen.append(use)
