"""Every width of least squares from one factorization, against one decomposition a width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtheory.double_descent import WidthPath, width_path
from jaxtheory.results import Status


def draw(samples, limit, tests=40, outputs=2, seed=0, dtype=np.float64):
    """A Gaussian regression problem: features, targets, test features, test targets."""
    rng = np.random.default_rng(seed)
    features, test_features = rng.standard_normal((samples, limit)), rng.standard_normal((tests, limit))
    beta = rng.standard_normal((limit, outputs)) / np.sqrt(limit)
    targets = features @ beta + 0.3 * rng.standard_normal((samples, outputs))
    return [jnp.asarray(value, dtype) for value in (features, targets, test_features, test_features @ beta)]


def solve(features, targets, ridge):
    """The oracle: one float64 LAPACK least squares (SVD) a width, the ridge as appended rows."""
    width = features.shape[1]
    design = np.vstack([features, np.sqrt(ridge) * np.eye(width)]) if ridge else features
    right = np.vstack([targets, np.zeros((width, targets.shape[1]))]) if ridge else targets
    return np.linalg.lstsq(design, right, rcond=None)[0]


def oracle(problem, width, ridge):
    features, targets, test_features, test_targets = (np.asarray(value, np.float64) for value in problem)
    beta = solve(features[:, :width], targets, ridge)
    test, train = test_features[:, :width] @ beta, features[:, :width] @ beta
    squared = [((train - targets) ** 2).sum(1).mean(), ((test - test_targets) ** 2).sum(1).mean()]
    wrong = (test.argmax(1) != test_targets.argmax(1)).mean()
    return np.array([*squared, wrong, np.linalg.norm(beta)])


def at(path: WidthPath, width):
    index = int(np.flatnonzero(np.asarray(path.width) == width)[0])
    return np.array([path.train_mse[index], path.test_mse[index], path.test_error[index], path.norm[index]], float)


ALL_WIDTHS = [pytest.param(ridge, 1, marks=pytest.mark.slow) for ridge in (0.0, 1e-6, 0.1, 30.0, 1e6)]


@pytest.mark.parametrize(("ridge", "step"), [(0.0, 13), (0.1, 13), *ALL_WIDTHS])
def test_every_width_is_the_least_squares_solution(float64, ridge, step):
    """Every width or every 13th, through n = 150: 1e-9 in test error, norm and, to round-off of y, train error."""
    problem = draw(150, 400)
    path = width_path(*problem, ridge=ridge if ridge == 0 else jnp.asarray(ridge))
    assert not path.status.any()
    for width in sorted({*range(1, 401, step), 149, 150, 151}):
        expected, actual = oracle(problem, width, ridge), at(path, width)
        np.testing.assert_allclose(actual[1:], expected[1:], rtol=1e-9, err_msg=f"width {width}")
        np.testing.assert_allclose(actual[0], expected[0], rtol=1e-9, atol=1e-18, err_msg=f"width {width}")


SHAPES = [pytest.param(*shape, marks=pytest.mark.slow) for shape in ((20, 19), (20, 21), (30, 1), (12, 100))]


@pytest.mark.parametrize(("samples", "limit"), [(20, 7), (20, 20), (20, 41), (2, 9), *SHAPES])
@pytest.mark.smoke
def test_any_shape_ends_where_it_should(float64, samples, limit):
    """P below, at and above n, and blocks that do not divide: last width against the oracle."""
    problem = draw(samples, limit, seed=samples)
    for ridge in (0.0, 0.5):
        path = width_path(*problem, ridge=ridge)
        assert path.width.tolist() == list(range(1, limit + 1))
        for width in {1, min(samples - 1, limit), min(samples, limit), min(samples + 1, limit), limit}:
            np.testing.assert_allclose(at(path, width), oracle(problem, width, ridge), rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("width", [5, 29, 30, 31, 60])
def test_leave_one_out_is_leaving_one_out(float64, ridge, width):
    """Refitting without each point in turn, at widths on both sides of n = 30."""
    problem = draw(30, 60)
    features, targets = np.asarray(problem[0])[:, :width], np.asarray(problem[1])
    errors = []
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        errors.append(((features[i] @ solve(features[rest], targets[rest], ridge) - targets[i]) ** 2).sum())
    path = width_path(*problem, ridge=ridge, widths=jnp.array([width]))
    # At n = p + 1 the refit is square: both sides carry its condition number, at most 1e4 here, squared by the error.
    np.testing.assert_allclose(path.loo_mse[0], np.mean(errors), rtol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_condition_is_the_frobenius_condition_number(float64, ridge):
    problem = draw(20, 45)
    path = width_path(*problem, ridge=ridge)
    for width in (1, 10, 19, 20, 21, 45):
        design = np.asarray(problem[0])[:, :width]
        singular = np.sqrt(np.linalg.svd(design, compute_uv=False) ** 2 + ridge)
        expected = np.sqrt((singular**2).sum() * (singular**-2.0).sum())
        np.testing.assert_allclose(path.condition[width - 1], expected, rtol=1e-9)


@pytest.mark.slow
def test_float32_is_right_or_says_so():
    """Features of decaying scale, condition numbers from 1 to past 1/eps: no width marked ok is off by a tenth."""
    features, targets, test_features, test_targets = draw(60, 150, dtype=np.float32)
    flagged = 0
    for decay in (0.0, 2.0, 4.0, 8.0):
        scale = (jnp.arange(1.0, 151.0) ** -decay)[None]
        problem = (features * scale, targets, test_features * scale, test_targets)
        path = width_path(*problem)
        for width in np.flatnonzero(np.asarray(path.status) == Status.OK) + 1:
            expected = oracle(problem, width, 0.0)
            np.testing.assert_allclose(at(path, width)[[1, 3]], expected[[1, 3]], rtol=0.1)
        flagged += int((path.status == Status.ILL_CONDITIONED).sum())
        if decay == 0:
            assert (path.status == Status.OK).mean() > 0.95
    assert flagged > 100


def test_peak_in_float32_is_not_clipped():
    """A cut-off of small singular values would lower the peak at p = n; float32 keeps it to 1%."""
    problem = draw(100, 101, dtype=np.float32)
    path = width_path(*problem, widths=jnp.array([99, 100, 101]))
    for width in (99, 100, 101):
        np.testing.assert_allclose(at(path, width)[1], oracle(problem, width, 0.0)[1], rtol=1e-2)


def test_features_that_are_zero_on_the_training_points_do_not_count(float64):
    """Dead units shift the threshold: the path is that of the live features, whatever the test points see."""
    features, targets, test_features, test_targets = draw(12, 40)
    dead = jnp.zeros(40, bool).at[jnp.array([0, 5, 6, 11, 13, 30])].set(True)
    path = width_path(jnp.where(dead, 0.0, features), targets, test_features, test_targets)
    alive = np.flatnonzero(~np.asarray(dead))
    reference = width_path(features[:, alive], targets, test_features[:, alive], test_targets)
    for width in range(1, 41):
        live = int((alive < width).sum())
        if live:
            np.testing.assert_allclose(path.test_mse[width - 1], reference.test_mse[live - 1], rtol=1e-9)
    assert path.norm[0] == 0
    np.testing.assert_allclose(path.test_mse[0], (test_targets**2).sum(1).mean(), rtol=1e-13)


def test_dependent_features_are_flagged_until_the_rank_is_restored(float64):
    features, targets, test_features, test_targets = draw(12, 40)
    features, test_features = (value.at[:, 4].set(value[:, 3]) for value in (features, test_features))
    path = width_path(features, targets, test_features, test_targets)
    assert (path.status[:4] == Status.OK).all()
    assert (path.status[4:12] != Status.OK).all()
    for width in (14, 20, 40):
        assert path.status[width - 1] == Status.OK
        expected = oracle((features, targets, test_features, test_targets), width, 0.0)
        np.testing.assert_allclose(at(path, width), expected, rtol=1e-9, atol=1e-18)


def test_repeated_samples_are_flagged_past_the_threshold(float64):
    features, targets, test_features, test_targets = draw(12, 40)
    features = features.at[1].set(features[0])
    path = width_path(features, targets, test_features, test_targets)
    assert (path.status[12:] != Status.OK).all()
    assert (width_path(features, targets, test_features, test_targets, ridge=0.1).status == Status.OK).all()


@pytest.mark.slow
def test_vmap_over_seeds_and_ridges_is_the_loop(float64):
    problems = [draw(15, 40, seed=seed) for seed in range(3)]
    stacked = [jnp.stack(values) for values in zip(*problems, strict=True)]
    ridges = jnp.array([1e-3, 1.0])
    paths = jax.jit(
        jax.vmap(lambda *p: jax.vmap(lambda ridge: width_path(*p, ridge=ridge))(ridges)),
    )(*stacked)
    for i, problem in enumerate(problems):
        for j, ridge in enumerate(ridges):
            single = width_path(*problem, ridge=ridge)
            for batched, alone in zip(paths, single, strict=True):
                np.testing.assert_allclose(batched[i, j], alone, rtol=1e-10, atol=1e-18)


def test_a_traced_ridge_that_is_no_ridge_is_a_status(float64):
    problem = draw(10, 20)
    statuses = jax.vmap(lambda ridge: width_path(*problem, ridge=ridge).status)(jnp.array([-1.0, 0.0, 1.0, jnp.nan]))
    assert (statuses[jnp.array([0, 1, 3])] == Status.INVALID_INPUT).all()
    assert (statuses[2] == Status.OK).all()


def test_nan_inside_jit_is_a_status(float64):
    features, *rest = draw(10, 20)
    path = jax.jit(lambda a: width_path(a, *rest))(features.at[3, 7].set(jnp.nan))
    assert (path.status != Status.OK).all()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), shape=st.sampled_from([(5, 12), (12, 5), (8, 30)]), log_ridge=st.floats(-6, 3),
    outputs=st.integers(1, 3),
)  # fmt: skip
def test_more_features_never_raise_the_training_objective(seed, shape, log_ridge, outputs):
    """min ‖y − Aβ‖² + ridge‖β‖² falls with p, as its search space grows; random problems, both sides of n."""
    with jax.enable_x64(True):
        problem = draw(*shape, tests=3, outputs=outputs, seed=seed)
        ridge = 10.0**log_ridge
        path = width_path(*problem, ridge=ridge)
        objective = np.asarray(shape[0] * path.train_mse + ridge * path.norm**2)
        assert (np.diff(objective) <= 1e-9 * objective[0]).all()


def test_a_single_output_is_a_sign(float64):
    features, targets, test_features, test_targets = draw(15, 30, outputs=1)
    path = width_path(features, targets[:, 0], test_features, jnp.sign(test_targets[:, 0]))
    beta = solve(np.asarray(features), np.asarray(targets), 0.0)
    wrong = (np.sign(np.asarray(test_features) @ beta)[:, 0] != np.sign(np.asarray(test_targets))[:, 0]).mean()
    np.testing.assert_allclose(path.test_error[-1], wrong, rtol=1e-15)


def test_widths_are_picked_from_the_whole_path(dtype):
    problem = draw(15, 40, dtype=dtype)
    whole, some = width_path(*problem), width_path(*problem, widths=jnp.array([40, 3, 15]))
    for every, picked in zip(whole, some, strict=True):
        np.testing.assert_array_equal(every[jnp.array([39, 2, 14])], picked)
    assert some.test_mse.dtype == dtype


def test_memory_is_what_the_docstring_states():
    """Compiled temporary memory within the stated number of floats."""
    from jaxtheory.double_descent.width_path import _path

    n, limit, m, outputs = 100, 500, 300, 3
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((n, limit), (n, outputs), (m, limit), (m, outputs), ())]
    compiled = _path.lower(*shapes, jnp.arange(1, limit + 1), min_norm=True).compile()
    stated = 4 * (6 * (m + n) * n + (m + n) * limit + 12 * n * n)
    assert compiled.memory_analysis().temp_size_in_bytes <= stated


BAD = {
    "ridge must be >= 0": {"ridge": -0.001},
    "widths must lie in 1..12": {"widths": jnp.array([0, 3])},
    "widths must lie": {"widths": jnp.array([13])},
    "widths must name at least one": {"widths": jnp.array([], jnp.int32)},
    "ridge must be finite": {"ridge": float("nan")},
    "features must be finite": {"features": jnp.ones((5, 12)).at[0, 0].set(jnp.nan)},
    "targets must be finite": {"targets": jnp.full(5, jnp.inf)},
    "targets must have 5 rows": {"targets": jnp.ones(4)},
    "test_targets must have 3 rows": {"test_targets": jnp.ones(5)},
    "test_features must have the columns": {"test_features": jnp.ones((3, 11))},
    "features must be \\[n, P\\]": {"features": jnp.ones(5)},
    "features must be \\[n, P\\] with n >= 2 and P >= 1, got features=\\(5, 0\\)": {"features": jnp.ones((5, 0))},
    "features must be floating, got features=int32": {"features": jnp.ones((5, 12), jnp.int32)},
    "ridge must be one number": {"ridge": jnp.ones(3)},
    "widths must be integers": {"widths": jnp.array([3.0])},
    "targets must have the dtype": {"targets": jnp.ones(5, jnp.int32)},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(unchecked, message):
    x, t = jnp.eye(5, 12), jnp.ones((3, 12))
    good = {"features": x, "targets": jnp.ones(5), "test_features": t, "test_targets": jnp.ones(3)}
    with pytest.raises(ValueError, match=message):
        width_path(**(good | BAD[message]))
