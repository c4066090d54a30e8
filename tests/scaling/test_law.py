"""Fits of E + A/N^α + B/D^β to tables with known truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jaxtheory.results import Status
from jaxtheory.scaling import allocate, fit_scaling_law

# the published refit of the Chinchilla runs
TRUTH = np.array([1.8172, 482.01, 0.3478, 2085.43, 0.3658])
SIZES, TOKENS = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 7), np.geomspace(1e9, 3e11, 7)))


def loss_of(params, tokens, truth=TRUTH):
    floor, a, alpha, b, beta = truth
    return floor + a / params**alpha + b / tokens**beta


def fit(params, tokens, loss, seed=0, **options):
    return fit_scaling_law(params, tokens, loss, key=jax.random.key(seed), **{"resamples": 100} | options)


def noisy(loss, seed, size=0.01):
    return loss * np.exp(size * np.random.default_rng(seed).normal(size=loss.shape))


@pytest.mark.slow
def test_exact_tables_give_the_truth():
    law = fit(SIZES, TOKENS, loss_of(SIZES, TOKENS))
    assert law.status == Status.OK
    np.testing.assert_allclose(law.estimate, TRUTH, rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [(0.5, 10.0, 0.15, 3e4, 0.6), (3.0, 4e4, 0.7, 50.0, 0.25)])
def test_starts_far_from_the_truth_find_it(truth):
    law = fit(SIZES, TOKENS, loss_of(SIZES, TOKENS, truth))
    assert law.status == Status.OK
    np.testing.assert_allclose(law.estimate, truth, rtol=1e-2)


@pytest.mark.slow
def test_units_do_not_matter():
    """N in billions, D in batches of 2^20, the loss in bits: the exponents are the same to the noise of rounding."""
    loss = noisy(loss_of(SIZES, TOKENS), 1)
    law, moved = fit(SIZES, TOKENS, loss), fit(SIZES / 1e9, TOKENS / 2**20, loss / np.log(2))
    for one, other in ((law.estimate, moved.estimate), (law.low, moved.low), (law.high, moved.high)):
        np.testing.assert_allclose(one.params_exponent, other.params_exponent, rtol=2e-3)
        np.testing.assert_allclose(one.tokens_exponent, other.tokens_exponent, rtol=2e-3)
    np.testing.assert_allclose(law.estimate.floor, moved.estimate.floor * np.log(2), rtol=2e-3)


@pytest.mark.slow
def test_few_runs_that_diverged_hardly_matter():
    """Three of 49 losses are doubled: 6 %, which least squares does not survive."""
    loss = noisy(loss_of(SIZES, TOKENS), 2, 0.003)
    loss[[5, 20, 40]] *= 2
    robust, squares = fit(SIZES, TOKENS, loss), fit(SIZES, TOKENS, loss, huber=np.inf)
    error = [abs(law.estimate.params_exponent / TRUTH[2] - 1) for law in (robust, squares)]
    assert error[0] < 0.05 < error[1]


UNDETERMINED = {
    "one aspect ratio": (SIZES, 20 * SIZES, loss_of(SIZES, 20 * SIZES)),
    "a power of N": (SIZES, SIZES**1.5, loss_of(SIZES, SIZES**1.5)),
    "one size": (np.full(49, 1e8), TOKENS, loss_of(1e8, TOKENS)),
    "one number of tokens": (SIZES, np.full(49, 1e10), loss_of(SIZES, 1e10)),
    "flat in tokens": (SIZES, TOKENS, 1.8 + 482 / SIZES**0.35),
    "narrow": (1e8 * (SIZES / 1e8) ** 0.02, 1e10 * (TOKENS / 1e10) ** 0.02, None),
    "noise": (SIZES, TOKENS, np.full(49, 2.0)),
}


@pytest.mark.parametrize("noise", [0.0, 0.003])
@pytest.mark.parametrize("table", UNDETERMINED.values(), ids=UNDETERMINED)
def test_data_that_do_not_determine_the_exponents_are_not_ok(table, noise):
    params, tokens, loss = table
    loss = loss_of(params, tokens) if loss is None else loss
    assert fit(params, tokens, noisy(loss, 3, noise)).status == Status.ILL_CONDITIONED


@pytest.mark.slow
def test_intervals_of_95_percent_cover_the_truth():
    """In 200 repetitions with 1 % noise, for each coefficient: between 90 % and 98.5 %."""
    covered = []
    for seed in range(200):
        law = fit(SIZES, TOKENS, noisy(loss_of(SIZES, TOKENS), seed), seed)
        assert law.status == Status.OK
        covered.append((np.array(law.low) <= TRUTH) & (np.array(law.high) >= TRUTH))
    share = np.mean(covered, axis=0)
    assert (share >= 0.9).all(), share
    assert (share <= 0.985).all(), share


def test_allocation_minimizes_the_law():
    """Against a search over N at each budget; the intervals hold the estimate."""
    law = fit(SIZES, TOKENS, noisy(loss_of(SIZES, TOKENS), 4))
    compute = np.array([1e19, 1e21, 1e23])
    found = allocate(law, compute, cost=6.0)
    assert found.status == Status.OK
    fitted = [float(value) for value in law.estimate]
    for at, budget in enumerate(compute):

        def loss(log_n, budget=budget):
            return loss_of(np.exp(log_n), budget / 6 / np.exp(log_n), fitted)

        best = minimize_scalar(loss, bounds=(np.log(1e5), np.log(1e14)), method="bounded")
        np.testing.assert_allclose(np.log(found.estimate.params[at]), best.x, atol=1e-2)
        np.testing.assert_allclose(found.estimate.loss[at], best.fun, rtol=1e-5)
    np.testing.assert_allclose(found.estimate.params * found.estimate.tokens, compute / 6, rtol=1e-4)
    for low, middle, high in zip(found.low, found.estimate, found.high, strict=True):
        assert (low < middle).all()
        assert (middle < high).all()


def test_an_allocation_by_an_undetermined_law_is_not_ok():
    law = fit(*UNDETERMINED["one aspect ratio"])
    assert allocate(law, jnp.array([1e20])).status == Status.ILL_CONDITIONED


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"params": SIZES[:5]}, "params must have the shape of loss"),
        ({"loss": -SIZES}, "loss must be positive and finite"),
        ({"resamples": 1}, "resamples must be >= 2"),
        ({"level": 1.0}, r"level must lie in \(0, 1\)"),
        ({"huber": 0.0}, "huber must be > 0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(changed, message, unchecked):
    with pytest.raises(ValueError, match=message):
        fit(**{"params": SIZES, "tokens": TOKENS, "loss": SIZES} | changed)
