"""What a program itself must change, since multipliers of its parameters cannot do it."""

import math
from collections.abc import Callable, Mapping

from jaxtyping import PyTree

from jaxtheory.networks.parameterization.reading import traced
from jaxtheory.networks.parameterization.records import Reading, Score

Apply = Callable[[PyTree, PyTree], PyTree]

_SAME = 0.01  # relative difference of numbers that rounding may make


def what_to_change(
    apply: Apply,
    wider: PyTree,
    x: PyTree,
    reading: Reading,
    *,
    depth: int | None,
    weights: Mapping[int, str],
    growth: Mapping[int, float],
    grown: set[int],
) -> tuple[str, ...]:
    """What multipliers of parameters cannot do.

    Scores of attention, sums of activations or of their products, branches of deep networks, numbers of its own, norms
    of weights, inputs of which a part does not grow.

    Args:
        apply, wider, x: the program, the wider parameters and the data.
        reading: of the base network. depth: as in `maximal_update`.
        weights: paths of the parameters that are contracted and grow.
        growth: of the standard deviation of each of them.
        grown: sizes of the base network's axes that grow.
    """
    other = _of_wider(apply, wider, x)
    if other is not None and len(other.scores) == len(reading.scores):
        scores = [a for a, b in zip(reading.scores, other.scores, strict=True) if _falls_slowly(a, b)]
    else:
        scores = [a for a in reading.scores if a.size > 1 and abs(a.scale * a.size**0.5 - 1) < _SAME]
    lines = [
        f"attention scores over d = {size} numbers are scaled by {scale:.4g}, not in proportion to 1/d; "
        f"maximal update needs c/d, e.g. c = sqrt(d) of the base network"
        for size, scale in sorted(set(scores))
    ]
    lines += _sums(reading, other, weights, grown)
    if other is not None:
        lines += _numbers(reading, other, weights) + _norms(reading, other, weights, growth)
    lines += _parts(reading, other, weights, grown)
    if depth is not None and not reading.branches:
        lines.append("depth was given, but the program has no residual branch h + g(h); rates do not depend on it")
    if depth is not None and any(abs(scale * depth**0.5 - 1) > _SAME for _, scale in reading.branches):
        lines.append(f"residual branches are not multiplied by 1/sqrt({depth}), which their rates take for granted")
    return tuple(dict.fromkeys(lines))


def _falls_slowly(base: Score, wide: Score) -> bool:
    """Whether the scale of scores falls more slowly than 1/d, halfway to 1/√d, as d grows."""
    return base.size != wide.size and abs(wide.scale / base.scale) > (wide.size / base.size) ** -0.75


def _of_wider(apply: Apply, wider: PyTree, x: PyTree) -> Reading | None:
    try:
        return traced(apply, wider, x)
    except Exception:  # a module with its widths in its code takes no other parameters; any error may say so
        return None


def _sums(reading: Reading, other: Reading | None, weights: Mapping[int, str], grown: set[int]) -> list[str]:
    """Σ_i h_i and Σ_i h_i g_i over d features: learned, their terms agree, so that they are of order d without 1/d."""
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
        what, mean = ("a product of activations", "the products' mean") if found.pair else ("an activation", "its mean")
        lines.append(
            f"{what}{after}, summed over {found.score.size} numbers, is multiplied by {found.score.scale:.4g}, "
            f"not in proportion to 1/d; maximal update needs c/d, e.g. {mean}"
        )
    return lines


def _numbers(reading: Reading, other: Reading, weights: Mapping[int, str]) -> list[str]:
    """Numbers beside a weight that depend on width, such as 1/√d."""
    own, lines = {leaf for leaf, _ in reading.normalized}, []
    for (leaf, base), (same, wide) in zip(reading.factors, other.factors, strict=False):
        if leaf == same and leaf in weights and leaf not in own and abs(wide / base - 1) > _SAME:
            lines.append(
                f"{weights[leaf]}, its inputs or its product, is multiplied by {base:.4g} in the base network and by "
                f"{wide:.4g} in this one; maximal update wants no such number: remove what depends on width"
            )
    return lines


def _norms(reading: Reading, other: Reading, weights: Mapping[int, str], growth: Mapping[int, float]) -> list[str]:
    """Weights over norms of their own, whose size is not that of the initial draw: the program must give it."""
    lines = []
    for leaf, size in reading.normalized:
        wide = dict(other.normalized).get(leaf)
        if leaf not in weights or wide is None:
            continue
        numbers = [math.prod(factor for at, factor in found.factors if at == leaf) for found in (reading, other)]
        missing = growth[leaf] * size * numbers[0] / (wide * numbers[1])
        if abs(missing - 1) > _SAME:
            lines.append(
                f"{weights[leaf]} is divided by a norm of its own, which its standard deviation does not change; "
                f"maximal update needs what it gives times {missing:.4g} in this network, and 1 in the base network"
            )
    return lines


def _parts(reading: Reading, other: Reading | None, weights: Mapping[int, str], grown: set[int]) -> list[str]:
    """Inputs of a weight that were joined from parts: as others grow, those of one size are less and less of them."""
    wider, lines = dict(other.mixtures if other is not None else ()), []
    for leaf, base in reading.mixtures:
        wide = wider.get(leaf, [0 if size in grown else size for size in base])
        fixed = [a for a, b in zip(base, wide, strict=False) if a == b]
        if leaf in weights and 0 < len(fixed) < len(base):
            lines.append(
                f"{weights[leaf]} has inputs of which {sum(fixed)} do not grow with the others, so that their share "
                f"falls as 1/width; maximal update needs a weight of their own for them"
            )
    return lines
