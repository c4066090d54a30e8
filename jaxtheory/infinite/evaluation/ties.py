"""One parameter in two roles: a weight and its transpose are correlated, which no limit here takes into account."""

from collections.abc import Iterable

from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import views
from jaxtheory.infinite.graph.nodes import LinearLayer, Node, Random


def require_untied(nodes: Iterable[Node]) -> None:
    """Raise where overlapping numbers of one leaf serve in two roles.

    Two layers that contract different axes of it, or a table whose rows are looked up and that is also a layer's
    weight, as in a language model whose output weights are its embedding: the output at a token of the input is then
    no Gaussian of mean zero.
    """
    seen: list[Random] = []
    for node in nodes:
        if not isinstance(node, Random):
            continue
        for other in seen:
            if _roles(node) != _roles(other) and views.overlap(node.key, other.key):
                reason = f"its weight is used in another role by {other.site.operation} at {other.site.place}"
                refuse(node.site, reason, "give each role a weight of its own (W and its transpose do not go together)")
        seen.append(node)


def _roles(node: Random) -> tuple[object, ...]:
    """Which axes of its leaf it makes channels of, which it contracts and how; of taps none."""
    if isinstance(node, LinearLayer) and node.taps is None:
        return LinearLayer, node.key.rest
    return type(node.taps if isinstance(node, LinearLayer) else node), ()
