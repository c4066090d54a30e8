"""What a program itself must change, since multipliers of its parameters cannot do it."""

from collections.abc import Callable

from jaxtyping import PyTree

from jaxtheory.networks.parameterization.reading import traced
from jaxtheory.networks.parameterization.records import Reading, Score

Apply = Callable[[PyTree, PyTree], PyTree]


def what_to_change(
    apply: Apply,
    wider: PyTree,
    x: PyTree,
    reading: Reading,
    *,
    depth: int | None,
    weights: dict[int, str],
    grown: set[int],
) -> tuple[str, ...]:
    """What multipliers of parameters cannot do.

    Scores of attention, sums of products of activations, branches of deep networks, numbers of its own.

    Args:
        apply, wider, x: the program, the wider parameters and the data.
        reading: of the base network. depth: as in `maximal_update`.
        weights: paths of the parameters that are contracted and grow.
        grown: sizes of the base network's axes that grow.
    """
    other = _of_wider(apply, wider, x)
    if other is not None and len(other.scores) == len(reading.scores):
        scores = [a for a, b in zip(reading.scores, other.scores, strict=True) if _falls_slowly(a, b)]
    else:
        scores = [a for a in reading.scores if a.size > 1 and abs(a.scale * a.size**0.5 - 1) < 0.01]
    lines = [
        f"attention scores over d = {size} numbers are scaled by {scale:.4g}, not in proportion to 1/d; "
        f"maximal update needs c/d, e.g. c = sqrt(d) of the base network"
        for size, scale in sorted(set(scores))
    ]
    lines += _products(reading, other, weights, grown)
    for (leaf, base), (same, wider_factor) in zip(reading.factors, other.factors if other else (), strict=False):
        if leaf == same and leaf in weights and abs(wider_factor / base - 1) > 0.01:
            lines.append(
                f"{weights[leaf]}, or its product, is multiplied by {base:.4g} in the base network and by "
                f"{wider_factor:.4g} in this one; maximal update wants no such number: remove what depends on width"
            )
    if depth is not None and not reading.branches:
        lines.append("depth was given, but the program has no residual branch h + g(h); rates do not depend on it")
    if depth is not None and any(abs(scale * depth**0.5 - 1) > 0.01 for _, scale in reading.branches):
        lines.append(f"residual branches are not multiplied by 1/sqrt({depth}), which their rates take for granted")
    return tuple(lines)


def _falls_slowly(base: Score, wide: Score) -> bool:
    """Whether the scale of scores falls more slowly than 1/d, halfway to 1/√d, as d grows."""
    return base.size != wide.size and wide.scale / base.scale > (wide.size / base.size) ** -0.75


def _of_wider(apply: Apply, wider: PyTree, x: PyTree) -> Reading | None:
    try:
        return traced(apply, wider, x)
    except Exception:  # a module with its widths in its code takes no other parameters; any error may say so
        return None


def _products(reading: Reading, other: Reading | None, weights: dict[int, str], grown: set[int]) -> list[str]:
    """Σ_i h_i g_i over d features: learned, its terms agree, so that it is of order d unless it is scaled by 1/d."""
    if other is not None and len(other.contractions) == len(reading.contractions):
        pairs = zip(reading.contractions, other.contractions, strict=True)
        slow = [a for a, b in pairs if _falls_slowly(a.score, b.score)]
    else:
        scale = {a: abs(a.score.scale) for a in reading.contractions if a.score.size in grown - {1}}
        slow = [a for a, s in scale.items() if s > a.score.size**-0.75]
    lines = []
    for found in dict.fromkeys(slow):
        names = [weights[leaf] for leaf in sorted(found.leaves) if leaf in weights]
        after = f" after {', '.join(names)}" if names else ""
        lines.append(
            f"a product of activations{after}, summed over {found.score.size} numbers, is multiplied by "
            f"{found.score.scale:.4g}, not in proportion to 1/d; maximal update needs c/d, e.g. the products' mean"
        )
    return lines
