"""Wrong laws fail: a claim with a rival holds at the law's value and not at the rival's."""

import jax
import numpy as np
import pytest
import xarray as xr

from jaxtheory.lecture import judge
from jaxtheory.lecture.registry import TOPICS


@pytest.mark.slow
@pytest.mark.parametrize("name", TOPICS)
def test_the_rival_of_every_claim_fails(name):
    """At no error: what the rival predicts does not hold; a sign does not hold at no effect; names are unique."""
    config = TOPICS[name].Config()
    with jax.enable_x64(config.x64):
        claims = TOPICS[name].predict(config).claims
    names = [claim.name for claim in claims]
    assert len(names) == len(set(names))
    for claim in claims:
        if claim.standard_errors < 0:
            at_rival, error = claim.predicted, 1e-9
        elif claim.rival is not None:
            at_rival, error = claim.rival, 0.0
            right = xr.Dataset({claim.name: claim.predicted, f"{claim.name}_error": 0.0})
            assert judge([claim], right)[0].holds, claim
            assert claim.rival_law, claim
        else:
            continue
        wrong = xr.Dataset({claim.name: at_rival, f"{claim.name}_error": error})
        assert not judge([claim], wrong)[0].holds, claim
    assert np.all([claim.kind in ("simulation", "formula") for claim in claims])
