"""Arguments of the path that are refused by name, and the bound on the rank of its features."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.double_descent import width_path
from jaxtheory.double_descent.repeats import rank_bound


def few_numbers():
    """Features of few numbers, whose digits are mostly zeros: integers, of both signs and zeros; one-hot; signs."""
    rng = np.random.default_rng(0)
    for samples, limit in [(20, 60), (9, 30)]:
        x = rng.integers(-1, 2, (samples, limit)) * (rng.random((1, limit)) < 0.3)
        yield x * rng.choice([1, -1], (samples, 1))
    yield from (2.0**power * np.eye(60)[:, rng.permutation(60)] for power in (0, 1, 40))
    yield rng.choice([1, -1], (24, 400))


@pytest.mark.slow
def test_the_bound_on_the_rank_counts_different_rows_and_columns():
    """Against np.unique."""
    for x in few_numbers():
        x = x.astype(np.float32)
        for width, found in enumerate(np.asarray(rank_bound(jnp.asarray(x))), start=1):
            seen = x[:, :width] + 0.0
            rows, columns = np.unique(seen, axis=0), np.unique(seen.T, axis=0)
            counts = [int((part != 0).any(axis=1).sum()) for part in (rows, columns)]
            assert found == min(counts)


BAD = {
    "ridge must be >= 0": {"ridge": -0.001},
    "widths must lie in 1..12": {"widths": jnp.array([0, 3])},
    "widths must lie": {"widths": jnp.array([13])},
    "widths must name at least one": {"widths": jnp.array([], jnp.int32)},
    "ridge must be >= 0 and finite": {"ridge": float("nan")},
    "features must be finite": {"features": jnp.ones((5, 12)).at[0, 0].set(jnp.nan)},
    "targets must be finite": {"targets": jnp.full(5, jnp.inf)},
    "targets must have 5 rows": {"targets": jnp.ones(4)},
    "test_targets must have 3 rows": {"test_targets": jnp.ones(5)},
    "test_features must have the columns": {"test_features": jnp.ones((3, 11))},
    "features must be of shape \\[n P\\]": {"features": jnp.ones(5)},
    "features must be \\[n, P\\] with n >= 2 and P >= 1, got features=\\(5, 0\\)": {"features": jnp.ones((5, 0))},
    "ridge must be a (single )?number": {"ridge": jnp.ones(3)},
    "widths must be integers": {"widths": jnp.array([3.0])},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(unchecked, message):
    x, t = jnp.eye(5, 12), jnp.ones((3, 12))
    good = {"features": x, "targets": jnp.ones(5), "test_features": t, "test_targets": jnp.ones(3)}
    with pytest.raises(ValueError, match=message):
        width_path(**(good | BAD[message]))
