"""How a program uses its parameters: which axes of a weight it contracts, and which tables it looks rows up in.

That decides a weight's fan-in, whatever the order in which a library stores its axes: [in, out] in Flax and Haiku,
[out, in] in Equinox and in the Conv1D of Hugging Face.
"""

from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.graph.views import Leaf, Parts
from jaxtheory.infinite.models import Shapes
from jaxtheory.infinite.prior import ByRole, Moments, Prior, Role, check_moments


def find_roles(visited: list[Node], paths: list[str], shapes: Shapes, factors: set[str]) -> dict[str, Role]:
    """Roles of all parameters by path; an empty one where a parameter is only added.

    Raises:
        ValueError: a parameter that is contracted over different axes in different places.
    """
    roles: dict[str, Role] = {}
    for node in visited:
        if isinstance(node, n.LinearLayer | n.Embedding):
            number = node.key.leaf
            axes = frozenset() if isinstance(node, n.Embedding) else _fan_in_axes(node, shapes[number])
            role = Role(axes, isinstance(node, n.Embedding))
            if roles.setdefault(paths[number], role) != role:
                found = f"axes {sorted(roles[paths[number]].inputs)} in one place and {sorted(axes)} in another"
                hint = "split it into a parameter for each place"
                raise ValueError(f"parameter {paths[number]} must have one fan-in, got {found} contracted; {hint}.")
    return {path: Role(factor=path in factors) for path in paths} | roles


def _fan_in_axes(use: n.LinearLayer, shape: tuple[int, ...]) -> frozenset[int]:
    own = sum(role == "own" for role in use.roles)
    return frozenset(a for parts in use.key.rest[own:] for a in _axes_of(parts, shape))


def _axes_of(parts: Parts, shape: tuple[int, ...]) -> list[int]:
    """The axes of a leaf over which strided parts run."""
    axes, stride = [], 1
    for axis in reversed(range(len(shape))):
        extent = stride * shape[axis]
        if shape[axis] > 1 and any(s < extent and s * size > stride for size, s in parts):
            axes.append(axis)
        stride = extent
    return axes


def moments(prior: Prior, path: str, shape: tuple[int, ...], role: Role | None = None) -> Moments:
    """What a prior says of a parameter, in its role where prior knows of roles."""
    if role is not None and isinstance(prior, ByRole):
        return check_moments(path, prior.in_role(path, shape, role))
    return check_moments(path, prior(path, shape))


def leaves(prior: Prior, paths: list[str], shapes: Shapes, roles: dict[str, Role]) -> list[Leaf]:
    """All parameters with their moments."""
    return [
        Leaf(i, path, shape, *moments(prior, path, shape, roles.get(path)))
        for i, (path, shape) in enumerate(zip(paths, shapes, strict=True))
    ]
