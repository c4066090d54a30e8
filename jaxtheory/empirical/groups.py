"""The tangent kernel by groups of parameters: what each layer, adapter or pattern of names adds to it."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Inexact, PyTree

from jaxtheory import placement
from jaxtheory._host import short
from jaxtheory.checks import boundary, require
from jaxtheory.empirical.kernel import ntk
from jaxtheory.empirical.outputs import Output
from jaxtheory.empirical.validation import Function, examples, parameters, require_function
from jaxtheory.programs.models import filter_params

Groups = str | Mapping[str, str] | Callable[[str], str | None]


@boundary
@placement.automatic
def ntk_by_group(
    f: Function,
    params: PyTree,
    x1: PyTree,
    x2: PyTree | None = None,
    *,
    groups: Groups = "layer",
    output: Output = "full",
    **options: Any,
) -> dict[str, Inexact[Array, "n1 n2 *outputs"]]:
    r"""The kernel of each group of parameters: Θ = Σ_g Θ_g with Θ_g the sum over the parameters of g alone.

    Args:
        f, params, x1, x2, output: as in `ntk`.
        groups: "leaf" is every array by its path; "layer" is all arrays of one module, by the path above them. A
            mapping from names to regular expressions takes the arrays whose path (as `jax.tree_util.keystr` writes
            it, for example "['block']['lora_a']") the expression finds. A function gives the name of a path's group,
            or None. Arrays in no group are held fixed.
        options: `batch`, `method`, `block`, `memory`, `mesh` of `ntk`.

    Returns:
        Group to its kernel, in the order in which the groups first occur in params. Where every array is in a group
        the kernels add up to that of `ntk`.

    Raises:
        ValueError: as `ntk`; an expression that finds nothing, an array found by two, no group at all.

    Cost: one program for all groups; each group costs `ntk` of its own parameters, with derivatives that reach back
    as far as its first layer. Source: Jacot, Gabriel, Hongler (2018), the sum over parameters taken apart.

    >>> import jax.numpy as jnp
    >>> f = lambda p, x: (x @ p["in"]) @ p["out"]
    >>> params = {"in": jnp.eye(2), "out": jnp.ones((2, 1))}
    >>> parts = ntk_by_group(f, params, jnp.array([[1.0, 2.0]]), groups="leaf", output="trace")
    >>> {name: float(part[0, 0]) for name, part in parts.items()}
    {"['in']": 10.0, "['out']": 5.0}
    """
    require_function(f)
    params, x1 = parameters(params, real=False), examples("x1", x1)
    x2 = None if x2 is None else examples("x2", x2)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    members = tuple((name, tuple(found)) for name, found in _members(groups, paths).items())
    require(bool(members), "groups", groups, f"name at least one of {paths}", "match a path")
    return _by_group(f, params, x1, x2, members, output, options=tuple(sorted(options.items())))


@partial(jax.jit, static_argnames=("f", "members", "output", "options"))
def _by_group(
    f: Function,
    params: PyTree,
    x1: PyTree,
    x2: PyTree | None,
    members: tuple[tuple[str, tuple[str, ...]], ...],
    output: Output,
    *,
    options: tuple[tuple[str, Any], ...],
) -> dict[str, Array]:
    kernels = {}
    for name, paths in members:
        part, kept = filter_params(f, params, lambda path, _, paths=paths: path in paths)  # type: ignore[misc]
        kernels[name] = ntk(part, kept, x1, x2, output=output, **dict(options))
    return kernels


def _members(groups: Groups, paths: list[str]) -> dict[str, list[str]]:
    """Group to the paths in it."""
    if isinstance(groups, Mapping):
        return _matched(groups, paths)
    if isinstance(groups, str):
        known = groups in ("leaf", "layer")
        hint = "choose one, or pass a mapping from names to regular expressions"
        require(known, "groups", repr(groups), "be 'leaf', 'layer', a mapping or a function", hint)
    name_of = groups if callable(groups) else (_layer if groups == "layer" else str)
    found: dict[str, list[str]] = {}
    for path in paths:
        name = name_of(path)
        require(
            isinstance(name, str | None), "groups", short(name), "return a name or None", "return a part of the path"
        )
        if name is not None:
            found.setdefault(name, []).append(path)
    return found


def _matched(groups: Mapping[str, str], paths: list[str]) -> dict[str, list[str]]:
    found = {name: [path for path in paths if re.search(pattern, path)] for name, pattern in groups.items()}
    empty = {name: groups[name] for name, members in found.items() if not members}
    require(not empty, "groups", empty, f"find parameters among {paths}", "correct these regular expressions")
    twice = [path for path in paths if sum(path in members for members in found.values()) > 1]
    require(not twice, "groups", twice, "put each parameter into one group", "make the expressions exclude each other")
    return dict(sorted(found.items(), key=lambda item: paths.index(item[1][0])))


def _layer(path: str) -> str:
    """The path without its last part: ['block']['w'] to ['block'], .linear.weight.value to .linear.weight."""
    path = path.removesuffix(".value")  # of a flax.nnx variable
    parts = re.findall(r"\[[^\]]*\]|\.[^.\[]+", path)
    return "".join(parts[:-1]) or path
