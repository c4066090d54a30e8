"""What the theory says before anything is measured, and how a measurement is held against it.

Significance. A claim is statistical where its allowance, or its sign, counts standard errors of the measurement. All
of them use one level, `SIGNIFICANT` = 4.5 standard errors: with m statistical claims, all true, and five seeds, 5m
independent tests fail together with probability below 1% where each has level 1 − 0.99^(1/5m) (Šidák), two-sided
k = Φ⁻¹(1 − α/2). `needed(m)` is that k: 4.3 for 100 claims, 4.4 for 190, 4.5 for 290. This holds for a known error;
an error estimated from n independent draws is judged by Student's quantile of the same level, so that every
statistical measurement says how many it has (`name_draws`): 4.5 standard errors become 4.9 for 64 draws, 6.7 for 16
and 69 for 4. Three rules go with it:

- a sign holds only if the effect is beyond zero by that many standard errors, so a null effect passes with
  probability 3.4e-6;
- a claim with a rival holds only if the rival is 3 standard errors beyond everything that is allowed;
- where the measurement selects (the worst width, the best kernel), it selects against the claim or on other draws.
"""

import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from jaxtheory.checks import require

SIGNIFICANT = 4.5  # standard errors that a claim is allowed, or that a sign must have
_BEYOND = 3.0  # standard errors between what is allowed and the rival


class ConfigurationError(ValueError):
    """A folder that holds the run of another configuration."""


class Claim(NamedTuple):
    """One number of a theorem: the measurement of the same name must meet it.

    The allowance is `tolerance + standard_errors · (standard error of the measurement)`: the first part comes from
    theory (a remainder, a round-off), the second from statistics; `basis` says which and why. A sign is claimed with
    `standard_errors < 0`: the measurement must then lie beyond `predicted` by so many standard errors.

    `rival` is the nearest other value that could be true, `rival_law` what it would mean; the claim holds only if
    the allowance and 3 standard errors more do not reach it. `kind` says whether a simulation is held against a law,
    or one formula against another. A statement "study: what is measured" belongs to the study it names.
    """

    name: str
    statement: str
    source: str
    predicted: float
    basis: str
    tolerance: float = 0.0
    standard_errors: float = 0.0
    relation: Literal["=", "<=", ">="] = "="
    kind: Literal["simulation", "formula"] = "simulation"
    rival: float | None = None
    rival_law: str = ""


def statistical(
    name: str,
    statement: str,
    source: str,
    predicted: float,
    theory: str = "",
    *,
    over: str = "",
    tolerance: float = 0.0,
    relation: Literal["=", "<=", ">="] = "=",
    rival: tuple[float | None, str] = (None, ""),
) -> Claim:
    """A claim that is allowed `SIGNIFICANT` standard errors, beside the `tolerance` that `theory` gives.

    Args:
        name, statement, source, predicted, tolerance, relation: of the claim.
        theory: where the tolerance comes from, or what the prediction takes into account.
        over: what the standard errors are over, as "over runs".
        rival: its value and what it would mean.

    >>> statistical("peak", "height of the peak", "Gauss (1809)", 1.0, "exact", over="over runs").basis
    'exact; 4.5 standard errors over runs'
    """
    counted = f"{SIGNIFICANT:g} standard errors {over}".rstrip()
    basis = f"{theory}; {counted}" if theory else counted
    return Claim(name, statement, source, predicted, basis, tolerance, SIGNIFICANT, relation, "simulation", *rival)


def negative(name: str, statement: str, source: str) -> Claim:
    """A difference that theory makes negative, and that must be so by `SIGNIFICANT` standard errors.

    >>> negative("gain", "error of one minus that of the other", "Gauss (1809)").basis
    'significance: 4.5 standard errors below'
    """
    basis = f"significance: {SIGNIFICANT:g} standard errors below"
    return Claim(name, statement, source, 0.0, basis, standard_errors=-SIGNIFICANT, relation="<=")


def positive(name: str, statement: str, source: str) -> Claim:
    """A difference that theory makes positive, and that must be so by `SIGNIFICANT` standard errors.

    >>> positive("growth", "what is learned", "Gauss (1809)").relation
    '>='
    """
    basis = f"significance: {SIGNIFICANT:g} standard errors above"
    return Claim(name, statement, source, 0.0, basis, standard_errors=-SIGNIFICANT, relation=">=")


class Claims(NamedTuple):
    """All that a topic predicts: claims to be judged, and curves to be drawn under the measurements."""

    claims: tuple[Claim, ...]
    curves: dict[str, list[float]]


class Verdict(NamedTuple):
    """A claim beside its measurement."""

    claim: Claim
    measured: float
    standard_error: float
    allowance: float
    holds: bool
    rejects: bool | None = None
    """whether the measurement tells the law from its rival; None where no rival is named"""


def needed(statistical: int, *, seeds: int = 5, budget: float = 0.01) -> float:
    """Standard errors that keep the chance that any true statistical claim fails on any seed below `budget`.

    Šidák's correction of two-sided tests at a normal error: Φ⁻¹(1 − α/2), α = 1 − (1 − budget)^(1/(seeds · m)).

    Args:
        statistical: m ≥ 1 claims that count standard errors. seeds: independent runs of all. budget: in (0, 1).

    Raises:
        ValueError: fewer than one claim or seed, or a budget outside (0, 1).

    >>> round(needed(160), 1)
    4.4
    """
    require(statistical >= 1, "statistical", statistical, "be >= 1", "pass the number of statistical claims")
    require(seeds >= 1, "seeds", seeds, "be >= 1", "use 5")
    require(0 < budget < 1, "budget", budget, "be between 0 and 1", "use 0.01")
    level = -np.expm1(np.log1p(-budget) / (seeds * statistical))
    return -NormalDist().inv_cdf(level / 2)


def student(standard_errors: float, draws: int | float) -> float:
    """Student's quantile for a mean of so many normal draws, at the level that `standard_errors` has for a known error.

    >>> round(student(4.5, 16), 1), round(student(4.5, math.inf), 1)
    (6.7, 4.5)
    """
    from scipy.special import ndtr, stdtrit

    require(draws >= 2, "draws", draws, "be >= 2 for a standard error", "draw more")
    return float(np.copysign(stdtrit(draws - 1, ndtr(-abs(standard_errors))), standard_errors))


def estimated(name: str, value: Any, error: Any, draws: Any) -> dict[str, float]:
    """A value, its standard error and the independent draws that the error comes from, as the claim `name` wants them.

    Where independent errors are combined, the smallest of their numbers of draws is a lower bound of the degrees of
    freedom (Welch, 1947) and serves as `draws`; `math.inf` is for an error that is known.

    >>> estimated("peak", 2.0, 0.5, 9)
    {'peak': 2.0, 'peak_error': 0.5, 'peak_draws': 9.0}
    """
    return {name: float(value), f"{name}_error": float(error), f"{name}_draws": float(draws)}


def averaged(name: str, values: Any, over: str | None = "seed") -> dict[str, float]:
    """The mean of independent draws, its standard error and their number, as the claim `name` wants them.

    Args:
        name: of the claim.
        values: a DataArray with draws along `over`, or numbers [draws].
        over: the dimension of draws; None where `values` are numbers.

    >>> averaged("peak", np.array([1.0, 3.0]), None)
    {'peak': 2.0, 'peak_error': 1.0, 'peak_draws': 2.0}
    """
    draws = np.asarray(values if over is None else values.transpose(over)).astype(float)
    return estimated(name, draws.mean(), draws.std(ddof=1) / len(draws) ** 0.5, len(draws))


def averages(values: Mapping[str, Any], over: str | None = "seed") -> dict[str, float]:
    """The same of several claims: `averaged` of each name and its draws.

    >>> averages({"peak": np.array([1.0, 3.0]), "end": np.array([0.0, 0.0])}, None)["end_draws"]
    2.0
    """
    return {key: number for name, draws in values.items() for key, number in averaged(name, draws, over).items()}


def judge(claims: Sequence[Claim], dataset: xr.Dataset) -> list[Verdict]:
    """Hold each claim against `dataset[claim.name]` and its standard error `dataset[claim.name + "_error"]`.

    Args:
        claims: predictions, as they were saved.
        dataset: measurements; a statistical claim needs its error and, as `dataset[claim.name + "_draws"]`, the number
            of independent draws that the error is estimated from (`estimated` and `averaged` give all three).

    Returns:
        One verdict a claim; a measurement that is NaN fails, and so does one that cannot reject the claim's rival.

    Raises:
        ValueError: a claim that was not measured.

    >>> claim = Claim("pi", "area of the unit disc", "Archimedes", 3.1416, "rounding of the prediction", 1e-4)
    >>> judge([claim], xr.Dataset({"pi": 3.14159}))[0].holds
    True
    """
    return [_verdict(claim, dataset) for claim in claims]


def _verdict(claim: Claim, dataset: xr.Dataset) -> Verdict:
    statistics = [f"{claim.name}_error", f"{claim.name}_draws"] if claim.standard_errors else []
    needed = [claim.name, *statistics]
    missing = [name for name in needed if name not in dataset]
    require(not missing, "dataset", sorted(map(str, dataset)), f"hold {missing}", "measure what was predicted")
    spread = dataset.variables.get(f"{claim.name}_error", 0.0)  # Dataset.get takes "a.b" for an attribute of a
    measured, error = float(dataset[claim.name]), float(spread)
    draws = float(dataset[f"{claim.name}_draws"]) if claim.standard_errors else math.inf
    allowance = claim.tolerance + student(claim.standard_errors, draws) * error
    excess = measured - claim.predicted
    distance = {"=": abs(excess), "<=": excess, ">=": -excess}[claim.relation]
    rejects = _rejects(claim, allowance, error)
    meets = bool(np.isfinite(measured) and distance <= allowance)
    if claim.standard_errors < 0:  # no effect is no sign, not even one that is measured without error
        meets = meets and distance < 0
    return Verdict(claim, measured, error, allowance, meets and rejects is not False, rejects if meets else None)


def _rejects(claim: Claim, allowance: float, error: float) -> bool | None:
    """Whether no measurement that meets the claim comes within 3 standard errors of its rival."""
    if claim.standard_errors < 0:  # a sign: its rival is no effect, `predicted` itself
        return True
    if claim.rival is None:
        return None
    return bool(abs(claim.rival - claim.predicted) > allowance + _BEYOND * error)


def save(path: Path, claims: Claims, config: Mapping[str, Any]) -> None:
    """Write predictions and the configuration they were made for, in one step that cannot be half done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"config": dict(config), "claims": [c._asdict() for c in claims.claims], "curves": claims.curves})
    draft = path.with_suffix(f".{uuid.uuid4().hex}.partial")  # the runs of a job array may come here at once
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as it comes back from a file."""
    return json.loads(json.dumps(dict(config)))


def configuration(path: Path) -> dict[str, Any]:
    """The configuration that saved predictions were made for."""
    return json.loads(path.read_text(encoding="utf-8"))["config"]


def load(path: Path, config: Mapping[str, Any]) -> Claims:
    """Read saved predictions back.

    Raises:
        ValueError: they were made for another configuration; the message names what differs.
    """
    saved = json.loads(path.read_text(encoding="utf-8"))
    given = plain(config)
    differ = {k: (saved["config"].get(k), given.get(k)) for k in given if saved["config"].get(k) != given.get(k)}
    hint = "choose another --out, or remove that folder to start afresh"
    told = ", ".join(f"{name}: saved {old!r}, given {new!r}" for name, (old, new) in differ.items())
    try:
        require(not differ, "out", path.parent, f"hold a run of this configuration ({told})", hint)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return Claims(tuple(Claim(**claim) for claim in saved["claims"]), saved["curves"])


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as lines of text: claim, kind, source, predicted, measured, tolerance, rival, verdict."""
    header = HEADER
    rows = [header, *map(cells, verdicts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


HEADER = ("claim", "kind", "source", "predicted", "measured", "tolerance", "rival", "verdict")


def cells(verdict: Verdict) -> tuple[str, ...]:
    """One row of the table of claims."""
    claim = verdict.claim
    relation = {"=": "", "<=": "≤ ", ">=": "≥ "}[claim.relation]
    error = f" ± {verdict.standard_error:.2g}" if verdict.standard_error else ""
    return (
        claim.statement,
        {"simulation": "simulation against law", "formula": "formula against formula"}[claim.kind],
        claim.source,
        f"{relation}{claim.predicted:.5g}",
        f"{verdict.measured:.5g}{error}",
        f"{verdict.allowance:.2g} ({claim.basis})",
        _rival(claim),
        "holds" if verdict.holds else "undecided" if verdict.rejects is False else "FAILS",
    )


def _rival(claim: Claim) -> str:
    if claim.standard_errors < 0:
        return f"{claim.predicted:.5g} (no effect)"
    return "" if claim.rival is None else f"{claim.rival:.5g} ({claim.rival_law})"
