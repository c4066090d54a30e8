"""What is decided before a limit is computed: fan-ins, sums that vanish, and whether there is a limit at all."""

import math
from typing import NamedTuple

import jax
import numpy as np

from jaxtheory.checks import known
from jaxtheory.infinite import inputs
from jaxtheory.infinite.errors import NoLimitError, refuse
from jaxtheory.infinite.evaluation.plans import Compiled, Decision, Settings, compile_plans, outside
from jaxtheory.infinite.evaluation.roles import find_roles, leaves
from jaxtheory.infinite.evaluation.widths import difference, refuse_width, wider_shapes, widths_between
from jaxtheory.infinite.graph.nodes import Use
from jaxtheory.infinite.graph.views import Leaf
from jaxtheory.infinite.models import Model
from jaxtheory.infinite.prior import Prior, Role
from jaxtheory.infinite.trace import estimated_power, nominal_sizes, relative_deviation
from jaxtheory.programs.calls import Program

_GROWS = 0.25


class _Measured(NamedTuple):
    """Numbers of the probes [k 2] and sizes of the uses, as NumPy arrays; None where these are not to be had."""

    probes: np.ndarray
    uses: np.ndarray | None


def decide(model: Model, prior: Prior, given: inputs.Spec, settings: Settings, check: bool) -> Decision:
    """Roles of the parameters, then, from the program at twice its width, what vanishes and what has a limit."""
    closed = model.trace(given)
    trial = Decision(leaves(prior, model.paths, model.shapes, {}), {}, assumed=True)
    made = _first_reading(closed, trial, given, settings)
    if made is None:  # perhaps of what is assumed: without that it has a reason of its own, or none
        return trial._replace(assumed=False)
    roles = find_roles(made.visited, model.paths, model.shapes, made.factors)
    trial = trial._replace(leaves=leaves(prior, model.paths, model.shapes, roles), roles=roles)
    if any(map(_differ, made.decision.leaves, trial.leaves)):
        made = outside(compile_plans, closed, trial, given, settings)
    decision = trial._replace(assumed=False)
    if not check:
        return decision
    powers = _powers_of_width(model, prior, given, settings, made)
    fluctuating = powers is not None and any(abs(power) <= _GROWS for power in powers)
    unrolled = settings.draws is not None and fluctuating and made.loops > 0
    return decision._replace(powers=powers, rolled=not unrolled)


def _first_reading(closed: Program, trial: Decision, given: inputs.Spec, settings: Settings) -> Compiled | None:
    """The program read to see its roles; None where it has no limit.

    A matrix that by its name is a scale has mean 1 until it is seen to be contracted: it is then read as a weight.
    """
    weights = [leaf._replace(mean=0.0, variance=1.0) if _named_scale(leaf) else leaf for leaf in trial.leaves]
    for each in (trial.leaves, weights) if any(map(_named_scale, trial.leaves)) else (trial.leaves,):
        try:
            return outside(compile_plans, closed, trial._replace(leaves=each), given, settings)
        except NoLimitError:
            continue
    return None


def _named_scale(leaf: Leaf) -> bool:
    return sum(size > 1 for size in leaf.shape) > 1 and known(leaf.mean) and float(leaf.mean) != 0


def _differ(one: Leaf, other: Leaf) -> bool:
    if known((one.mean, other.mean)) and float(one.mean) != float(other.mean):
        return True
    if known(one.variance) and known(other.variance):
        return float(one.variance) != float(other.variance)
    return one.variance is not other.variance


def _powers_of_width(
    model: Model, prior: Prior, given: inputs.Spec, settings: Settings, made: Compiled
) -> tuple[float, ...] | None:
    """Powers of the width of sums that average to zero; None where the network cannot be read at twice its width.

    Numbers in the program may be powers of its own width: where it has a limit only so, they are read so.
    """
    found = _at_twice_the_width(model, given, made)
    if found is None:
        _require_no_constants(made)
        return None
    other, closed = found
    wide_leaves = leaves(prior, other.paths, other.shapes, made.decision.roles)
    if not all(known((leaf.mean, leaf.variance)) for leaf in wide_leaves):
        return None
    narrow, first = _measure(made, given), None
    roles = made.decision.roles
    used = [(i, roles.get(path, Role())) for i, path in enumerate(model.paths)]
    fan_ins = [(i, tuple(role.inputs)) for i, role in used if role.inputs or role.table]
    for widths in (frozenset[int](), widths_between(model.shapes, other.shapes, fan_ins)):
        decision = made.decision._replace(leaves=wide_leaves, widths=widths)
        try:
            wide = outside(compile_plans, closed, decision, given, settings)
        except NoLimitError:
            return None
        measured = _measure(wide, given)
        off, powers = difference(made.probes, narrow.probes, measured.probes), _powers(made, narrow, wide, measured)
        if off is None and not any(power > _GROWS for power in powers):
            return powers
        first = first or (off, powers)
    assert first is not None
    if first[0] is not None:
        refuse_width(first[0], model.paths)
    return first[1]


def _at_twice_the_width(model: Model, given: inputs.Spec, made: Compiled) -> tuple[Model, Program] | None:
    """The network at twice its width and its jaxpr; None for one that holds its own width."""
    for after in wider_shapes(model.shapes, made.output.node, made.visited):
        try:
            other = model.at_widths(after, inputs.structs(given, model.inputs))
            return other, other.trace(given)
        except Exception:
            continue
    return None


def _require_no_constants(made: Compiled) -> None:
    """Raise where numbers of the program belong to this width, and nothing is known of others."""
    if made.constants:
        reason = "its numbers differ between channels and belong to this width, so that their average is not a limit"
        refuse(made.constants[0], reason, "leave out a mask, compute numbers from shapes, or pass check_width=False")


def _measure(made: Compiled, given: inputs.Spec) -> _Measured:
    probed, used = outside(jax.jit(made.sizes), inputs.generic(given))
    return _Measured(np.asarray(probed, np.float64), None if used is None else np.asarray(used, np.float64))


def _powers(made: Compiled, narrow: _Measured, wide: Compiled, measured: _Measured) -> tuple[float, ...]:
    """log2 of how a size changes where the width is doubled."""
    if len(made.uses) != len(wide.uses):
        return tuple(map(estimated_power, made.uses))
    ours = _nominal(made.uses) if narrow.uses is None or measured.uses is None else narrow.uses
    theirs = _nominal(wide.uses) if narrow.uses is None or measured.uses is None else measured.uses
    rows = zip(made.uses, wide.uses, ours, theirs, strict=True)
    return tuple(
        estimated_power(one) if one.channels == other.channels else _log_ratio(float(a), float(b))
        for one, other, a, b in rows
    )


def _log_ratio(before: float, after: float) -> float:
    return math.log2(after / before) if before > 0 and after > 0 else -1.0


def _nominal(uses: list[Use]) -> np.ndarray:
    sizes = nominal_sizes([x for use in uses for x in use.nodes])
    return np.array([float(relative_deviation(use, lambda x: sizes[x.number])) for use in uses])
