"""Every topic on five seeds at a size for tests: what holds at any size does, and a wrong law in its place fails."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from tiny_topics import TINY

from jaxtheory.lecture import TOPICS, judge, run


def with_the_wrong_law(claim):
    """The same claim of its rival's value; of a sign, of the opposite effect."""
    if claim.standard_errors < 0:
        return claim._replace(relation={"<=": ">=", ">=": "<="}[claim.relation])
    return claim._replace(predicted=claim.rival, rival=None, relation="=")


def apart(verdict):
    """Whether no measurement meets both the law and its rival."""
    claim = verdict.claim
    return claim.standard_errors < 0 or abs(claim.rival - claim.predicted) > 2 * verdict.allowance


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", TINY)
def test_laws_hold_and_wrong_laws_fail_whatever_the_seed(name, seed, tmp_path):
    config, always = TINY[name]
    outcome = run(TOPICS[name], replace(config, out=tmp_path, seed=seed))
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    failed = [verdict for verdict in outcome.verdicts if verdict.claim.name in always and not verdict.holds]
    assert not failed
    told = [verdict.claim for verdict in outcome.verdicts if verdict.holds and verdict.rejects and apart(verdict)]
    assert told
    measured = xr.open_zarr(outcome.dataset, consolidated=False)
    assert not [verdict.claim for verdict in judge([*map(with_the_wrong_law, told)], measured) if verdict.holds]


def test_every_topic_has_a_size_for_tests():
    """Topics made of studies bring their own."""
    assert set(TINY) <= set(TOPICS)
    assert all(set(TINY[name].config.__dataclass_fields__) >= {"seed", "out"} for name in TINY)
