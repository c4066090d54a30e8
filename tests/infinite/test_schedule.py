"""Schedules: every request is computed once, on all places that are asked for, and after those that it needs."""

from functools import partial

import jax
import numpy as np
import pytest
from infinite.zoo import NHWC
from jax import lax
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.schedule import demand, pair_item
from jaxtheory.infinite.schedule.requests import Plan
from jaxtheory.programs.sites import Site

STRUCT = jax.ShapeDtypeStruct


def test_an_activation_and_a_later_sum_of_its_argument_are_added(float64):
    """The pair (relu(h), h + W relu(h)) needs the variance of its later node; the kernels are those by hand."""

    def f(p, x):
        h = x @ p["a"]
        r = jax.nn.relu(h)
        return (r + (h + r @ p["b"])) @ p["o"]

    shapes = {"a": STRUCT((3, 64), float), "b": STRUCT((64, 64), float), "o": STRUCT((64, 1), float)}
    x = jax.random.normal(jax.random.key(0), (3, 3))
    found = infinite.limit(f, shapes, x, prior=prior.ntk(1.0)).both(x)
    q = np.asarray(x @ x.T) / 3
    norm = np.sqrt(np.outer(np.diag(q), np.diag(q)))
    angle = np.arccos(np.clip(q / norm, -1, 1))
    kappa1 = (norm * np.sin(angle) + (np.pi - angle) * q) / (2 * np.pi)  # E relu(h) relu(h')
    kappa0 = (np.pi - angle) / (2 * np.pi)
    # E relu(h) h' = q/2, and ⟨∂h, ∂h'⟩ = q; W relu(h) adds its kernel once by its variance, once by its gradient
    nngp = 2 * kappa1 + 2 * q
    np.testing.assert_allclose(found.nngp, nngp, rtol=1e-7)  # arccos near 1 loses half of the digits
    np.testing.assert_allclose(found.ntk, nngp + kappa1 + (2 + 2 * kappa0) * q, rtol=1e-7)


@pytest.mark.slow
def test_an_activation_used_before_and_after_is_the_activation_computed_twice(float64):
    """With positions: the variance of a pixel and the covariance of two pixels of the later node are one request."""

    def convolve(kernel, h):
        return lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=NHWC)

    def f(again, p, x):
        h = convolve(p["a"], x)
        r = jax.nn.relu(h)
        return ((jax.nn.relu(h) if again else r) + (h + convolve(p["b"], r))).mean((1, 2)) @ p["o"]

    shapes = {"a": STRUCT((3, 3, 2, 32), float), "b": STRUCT((3, 3, 32, 32), float), "o": STRUCT((32, 1), float)}
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 2))
    limits = [infinite.limit(partial(f, a), shapes, x, prior=prior.ntk(1.2), check_width=False) for a in (False, True)]
    once, twice = (limit.both(x) for limit in limits)
    assert_close(once.nngp, twice.nngp)
    assert_close(once.ntk, twice.ntk)


def test_what_is_asked_for_on_more_places_later_is_planned_again():
    """Whatever the ages of the nodes: the last plan is for all places, and each task stands after its needs."""
    early, middle, late = (Node(Site("none", "", ""), (2,), 1, True, True) for _ in range(3))
    top, high = pair_item(late, late, (1, 2)), pair_item(late, middle, (1, 2))
    low, base = pair_item(middle, middle, (1, 2)), pair_item(early, early, (1, 2))

    def plan(item, mask):
        needs = {top: [(high, (False,)), (low, (False,))], low: [(high, (True,))], high: [(base, mask)], base: []}
        return Plan(needs[item], lambda values: None)

    schedule = demand({top: (False,)}, plan, lambda item: False)
    expected = [(base, (True,)), (high, (True,)), (low, (False,)), (top, (False,))]
    assert [(task.item, task.mask) for task in schedule.tasks] == expected
    schedule = demand({top: (False,)}, plan, lambda item: item == base)
    assert [task.item for task in schedule.tasks] == [high, low, top]
    assert schedule.given == {base: (True,)}
