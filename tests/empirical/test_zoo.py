"""Networks of many architectures in every way of computing the kernel, against explicit Jacobians in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion

from jaxtheory import empirical
from scripts import zoo

FAST = {"graph network", "bag of words", "state space"}
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in zoo.ARCHITECTURES]


def drawn(name):
    """The network in float64 and two examples."""
    f, params, x = zoo.ARCHITECTURES[name](zoo.Draws())

    def relaxed(params, x):
        with relaxed_promotion():
            return f(params, x)

    wide = lambda a: jnp.asarray(a, jnp.float64 if np.issubdtype(a.dtype, np.floating) else None)  # noqa: E731
    return relaxed, jax.tree.map(wide, params), wide(x[:2])


def trace(f, params, x):
    """The mean over outputs of J Jᵀ, one example's explicit Jacobian after the other."""
    one = jax.jit(lambda x: jax.tree.leaves(jax.jacrev(lambda p: f(p, x[None])[0])(params)))
    rows = [np.concatenate([np.asarray(leaf).ravel() for leaf in one(example)]) for example in x]
    return np.stack(rows) @ np.stack(rows).T / f(params, x[:1]).size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.first_case
def test_a_network_of_the_zoo(name, float64):
    """The automatic choice; in the slow tests every method."""
    f, params, x = drawn(name)
    methods = ("auto",) if name in FAST else ("auto", "structured", "jacobian", "directions")
    expected = trace(f, params, x)
    for method in methods:
        actual = empirical.ntk(f, params, x, output="trace", method=method)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-11 * abs(expected).max(), err_msg=method)


@pytest.mark.smoke
def test_the_choice_counts_what_a_table_moves(unchecked):
    """A gradient of a table of 20000 words is mostly zeros: no method that writes them is taken."""
    f, params, x = zoo.ARCHITECTURES["bag of words"](zoo.Draws())
    table = empirical.explain(f, params, x, output="trace")
    assert table.chosen == "structured"
    assert "rows apart" in table.rows[1].detail
    work = {method: cost.work for method, cost in table.methods.items()}
    assert all(work[other] > 10 * work["structured"] for other in ("jacobian", "directions", "products"))


@pytest.mark.smoke
def test_a_loop_over_directions_does_not_repeat_the_forward_pass(unchecked):
    """Compilers take it out of the loop in every method, so the factored derivatives stay ahead."""
    f, params, x = zoo.ARCHITECTURES["mixer"](zoo.Draws())
    table = empirical.explain(f, params, x, output="trace")
    assert table.chosen == "structured"
