"""Forbidden numbers raise outside jit and are NaN inside, also where the computation is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.smoothness import (
    anisotropic,
    besov,
    bspline,
    estimation,
    hyperbolic_cross,
    mixed,
    signals,
    spaces,
    sparse_grid,
)
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


REFUSED = {
    "s": [lambda v: anisotropic.level_vectors(v, 3), lambda v: anisotropic.sample(jax.random.key(0), v, 1.0, 1.0, 2)],
    "energies": [lambda v: hyperbolic_cross.product_error(v, 1, 2), lambda v: mixed.cross_errors(v, 1, 2)],
    "values": [lambda v: hyperbolic_cross.dirichlet_power(v, 2)],
    "terms": [lambda v: mixed.effective_terms(v, 2)],
    "exponents": [lambda v: besov.level_weights(v, 1.0, jnp.float32)],
    "dtype": [lambda v: sparse_grid.interpolate(lambda x: x[:, 0], 1, 1, dtype=v or "no")],
}


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in REFUSED.items() for call in calls])
@pytest.mark.parametrize("value", [None, "ab", ["a", "b"], [[1.0], [1.0, 2.0]], {"a": 1.0}])
def test_what_is_no_number_is_refused_by_name(name, call, value, unchecked):
    with pytest.raises(ValueError, match=rf"{name} must be .*; "):
        call(value)


def test_sizes_out_of_every_range_are_refused_or_right(unchecked):
    """A budget of 1e300 overflowed an integer, no blocks ended in NumPy, and a radius of 1e300 in Python's power."""
    with pytest.raises(ValueError, match="budget must leave at most"):
        anisotropic.hyperbolic_set((1.0, 2.0), 1e300)
    with pytest.raises(ValueError, match="counts must be >= 1"):
        besov.unit_blocks(jax.random.key(0), [], 1.0, "gaussian", jnp.float32)
    with pytest.raises(ValueError, match="weights must be one for each of 2 blocks"):
        besov.unit_blocks(jax.random.key(0), [1, 2], 1.0, "gaussian", jnp.float32, [0.0])
    assert (signals.disc(4, 1e300) == 1).all()


@pytest.mark.parametrize("scale", [2.0**120, 2.0**-120])
def test_splines_on_knots_of_any_unit_are_those_of_unit_knots(scale):
    """Quotients by spans of 2^120 left float32, and their products were off by 7 %."""
    x, knots = jnp.array([0.5, 2.7, 4.9]), jnp.arange(6.0)
    found = bspline.basis(scale * x, scale * knots, 3)
    np.testing.assert_array_equal(found, bspline.basis(x, knots, 3))


CASES = [(name, call, v) for name, calls in CALLS.items() for call in calls for v in (jnp.nan, jnp.inf)]
CASES += [("sigma", call, -1.0) for call in CALLS["sigma"]]


@pytest.mark.parametrize(("name", "call", "value"), CASES)
def test_a_forbidden_number_raises_outside_jit_and_is_nan_inside(name, call, value):
    with pytest.raises(ValueError, match=f"{name} must be "):
        call(value)
    assert jnp.isnan(jax.jit(call)(value))
