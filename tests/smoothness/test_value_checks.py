"""Forbidden numbers raise outside jit and are NaN inside, also where the computation is compiled."""

import jax
import jax.numpy as jnp
import pytest

from jaxtheory.smoothness import estimation, spaces
from jaxtheory.smoothness.wavelets import Coefficients

ONES = Coefficients(jnp.ones(1), (jnp.ones((1, 2)),))
CALLS = {
    "sigma": [
        lambda v: estimation.sure(jnp.ones(4), v),
        lambda v: estimation.linear_oracle(ONES, ONES, v).details[0].sum(),
        lambda v: estimation.linear_oracle_risk(ONES, v),
        lambda v: estimation.ideal_risk(ONES, v),
    ],
    "s": [lambda v: spaces.sobolev_norm(jnp.ones(8), v)],
}


CASES = [(name, call, v) for name, calls in CALLS.items() for call in calls for v in (jnp.nan, jnp.inf)]
CASES += [("sigma", call, -1.0) for call in CALLS["sigma"]]


@pytest.mark.parametrize(("name", "call", "value"), CASES)
def test_a_forbidden_number_raises_outside_jit_and_is_nan_inside(name, call, value):
    with pytest.raises(ValueError, match=f"{name} must be "):
        call(value)
    assert jnp.isnan(jax.jit(call)(value))
