"""Every width of least squares from one factorization, against one decomposition a width."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxtheory.double_descent import WidthPath, width_path
from jaxtheory.results import Status

SAMPLES, LIMIT = 20, 60  # one shape for most tests, and so one program for each dtype, with a ridge and without


def draw(samples=SAMPLES, limit=LIMIT, tests=40, outputs=2, seed=0, dtype=np.float64):
    """A Gaussian regression problem: features, targets, test features, test targets."""
    rng = np.random.default_rng(seed)
    features, test_features = rng.standard_normal((samples, limit)), rng.standard_normal((tests, limit))
    beta = rng.standard_normal((limit, outputs)) / np.sqrt(limit)
    targets = features @ beta + 0.3 * rng.standard_normal((samples, outputs))
    return [np.asarray(value, dtype) for value in (features, targets, test_features, test_features @ beta)]


def degenerate(kind, dtype=np.float64):
    """`draw` with what lowers the rank: repeated or dependent columns, repeated rows, pixels that are mostly zero."""
    features, targets, test_features, test_targets = draw(dtype=dtype)
    rng = np.random.default_rng(3)
    if kind in ("columns", "both"):
        for x in (features, test_features):
            x[:, 5], x[:, 9], x[:, 30], x[:, 13] = x[:, 4], x[:, 0], x[:, 2], 1024 * x[:, 1]
            x[:, [12, 16, 40]] = 0
            x[:, 11] = x[:, 0] + x[:, 3]
    if kind in ("rows", "both"):
        features[3], features[17] = features[7], features[2]
    if kind == "pixels":
        share = np.exp(-5 * rng.random(LIMIT))
        features, test_features = (
            (rng.integers(1, 256, x.shape) * (rng.random(x.shape) < share)).astype(dtype)
            for x in (features, test_features)
        )
    return [features, targets, test_features, test_targets]


def solve(features, targets, ridge):
    """The oracle: one float64 LAPACK least squares (SVD, cut-off max(n, p) eps) a width, the ridge as appended rows."""
    width = features.shape[1]
    design = np.vstack([features, np.sqrt(ridge) * np.eye(width)]) if ridge else features
    right = np.vstack([targets, np.zeros((width, targets.shape[1]))]) if ridge else targets
    return np.linalg.lstsq(design, right, rcond=None)[0]


def oracle(problem, width, ridge):
    """Train error, test error, fraction of wrong labels and norm."""
    features, targets, test_features, test_targets = (np.asarray(value, np.float64) for value in problem)
    beta = solve(features[:, :width], targets, ridge)
    test, train = test_features[:, :width] @ beta, features[:, :width] @ beta
    squared = [((train - targets) ** 2).sum(1).mean(), ((test - test_targets) ** 2).sum(1).mean()]
    wrong = (test.argmax(1) != test_targets.argmax(1)).mean()
    return np.array([*squared, wrong, np.linalg.norm(beta)])


def left_out(problem, width, ridge):
    """The mean squared error at each point of the solution without it."""
    features, targets = np.asarray(problem[0], float)[:, :width], np.asarray(problem[1], float)
    errors = []
    for i in range(len(features)):
        rest = np.delete(np.arange(len(features)), i)
        errors.append(((features[i] @ solve(features[rest], targets[rest], ridge) - targets[i]) ** 2).sum())
    return np.mean(errors)


def at(path: WidthPath, width):
    """What `oracle` gives, of one width."""
    index = int(np.flatnonzero(np.asarray(path.width) == width)[0])
    return np.array([path.train_mse[index], path.test_mse[index], path.test_error[index], path.norm[index]], float)


def assert_solved(path, problem, ridge, widths, rtol=1e-9):
    """Test error and norm to `rtol`, the training error to the rounding of y."""
    for width in widths:
        expected, actual = oracle(problem, width, ridge), at(path, width)
        np.testing.assert_allclose(actual[1:], expected[1:], rtol=rtol, err_msg=f"width {width}")
        np.testing.assert_allclose(actual[0], expected[0], rtol=1e-9, atol=1e-18, err_msg=f"width {width}")


@pytest.mark.parametrize("ridge", [0.0, 0.1, 1e-11, 1e-6, 30.0, 1e10])
@pytest.mark.first_case
def test_every_width_is_the_least_squares_solution(float64, ridge):
    """Through n = 20: 1e-9 in test error, norm and, to round-off of y, train error."""
    problem = draw()
    path = width_path(*problem, ridge=ridge)
    assert not path.status.any()
    assert_solved(path, problem, ridge, range(1, LIMIT + 1))


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1, 30.0, 1e6])
def test_every_width_of_many_blocks_is_the_least_squares_solution(float64, ridge):
    problem = draw(150, 400)
    path = width_path(*problem, ridge=ridge)
    assert not path.status.any()
    assert_solved(path, problem, ridge, range(1, 401))


SHAPES = [pytest.param(*shape, marks=pytest.mark.slow) for shape in ((20, 20), (20, 41), (20, 19), (30, 1), (12, 100))]


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "limit"), [(20, 7), (2, 9), *SHAPES])
@pytest.mark.smoke
@pytest.mark.first_case
def test_any_shape_ends_where_it_should(float64, samples, limit):
    """P below, at and above n, and blocks that do not divide: last width against the oracle."""
    problem = draw(samples, limit, seed=samples)
    path = width_path(*problem)
    assert path.width.tolist() == list(range(1, limit + 1))
    for width in {1, min(samples - 1, limit), min(samples, limit), min(samples + 1, limit), limit}:
        np.testing.assert_allclose(at(path, width), oracle(problem, width, 0.0), rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("kind", ["columns", "rows", "both", "pixels"])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.first_case
def test_where_the_rank_is_deficient_the_answer_is_that_of_the_pseudo_inverse(float64, kind, ridge):
    """Every width says OK: repeated and dependent columns, repeated rows, pixels that few points have."""
    problem = degenerate(kind)
    path = width_path(*problem, ridge=ridge)
    assert not path.status.any()
    assert_solved(path, problem, ridge, range(1, LIMIT + 1), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["columns", "rows", "both", "pixels"])
@pytest.mark.first_case
def test_where_the_rank_is_deficient_float32_is_right_or_says_so(kind):
    """Wherever it says OK it is within 1% of the pseudo-inverse in float64 of the same numbers."""
    problem = degenerate(kind, np.float32)
    path = width_path(*problem)
    good = np.flatnonzero(np.asarray(path.status) == Status.OK) + 1
    for width in good:
        expected = oracle(problem, width, 0.0)
        np.testing.assert_allclose(at(path, width)[[1, 3]], expected[[1, 3]], rtol=1e-2, err_msg=f"width {width}")
    assert len(good) > 10


@pytest.mark.slow
def test_raw_pixels_of_digits_have_the_answer_of_the_pseudo_inverse(float64):
    """The first 200 of MNIST with pixels shuffled: many are zero, or not zero in one image alone."""
    from jaxtheory import data

    digits = data.mnist5k(train=400, dtype="float64")
    pixels = np.round(np.asarray(digits.x).reshape(400, -1) * 255)[:, np.random.default_rng(0).permutation(784)]
    labels = np.eye(10)[np.asarray(digits.y)]
    problem = [pixels[:200], labels[:200], pixels[200:], labels[200:]]
    path = width_path(*problem)
    assert not path.status.any()
    assert_solved(path, problem, 0.0, (20, 100, 150, 180, 200, 220, 250, 280, 300, 400, 784), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_leave_one_out_is_leaving_one_out(float64, ridge):
    """Refitting without each point in turn, at widths on both sides of n = 20, also with repeats."""
    for problem in (draw(), degenerate("both")):
        path = width_path(*problem, ridge=ridge)
        for width in (5, 12, 19, 20, 21, 60):
            # At n = p + 1 the refit is square: both sides carry its condition number, squared by the error.
            expected = left_out(problem, width, ridge)
            np.testing.assert_allclose(path.loo_mse[width - 1], expected, rtol=1e-7, err_msg=f"width {width}")


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_condition_is_the_frobenius_condition_number(float64, ridge):
    problem = draw()
    path = width_path(*problem, ridge=ridge)
    for width in (1, 10, 19, 20, 21, 60):
        design = np.asarray(problem[0])[:, :width]
        singular = np.sqrt(np.linalg.svd(design, compute_uv=False) ** 2 + ridge)
        expected = np.sqrt((singular**2).sum() * (singular**-2.0).sum())
        np.testing.assert_allclose(path.condition[width - 1], expected, rtol=1e-9)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6), width=st.integers(1, LIMIT - 1), spread=st.sampled_from([0, 3, 12, 30]),
    ridge=st.sampled_from([0.0, 0.1]),
)  # fmt: skip
@pytest.mark.slow
def test_an_answer_does_not_depend_on_later_columns(seed, width, spread, ridge):
    """Bit for bit, whatever the scales of the columns: others in the place of those beyond a width.

    Leave-one-out errors are the same to rounding, which the smallest 1 − leverage divides.
    """
    rng = np.random.default_rng(seed)
    scale = (10.0 ** rng.uniform(-spread, spread, LIMIT)).astype(np.float32)
    features, targets, tests, test_targets = draw(seed=seed, dtype=np.float32)
    others = draw(seed=seed + 1, dtype=np.float32)
    one = width_path(features * scale, targets, tests * scale, test_targets, ridge=ridge)
    changed = (rng.permutation(scale) * others[0], rng.permutation(scale) * others[2])
    for x, y in zip((features, tests), changed, strict=True):
        y[:, :width] = (x * scale)[:, :width]
    other = width_path(changed[0], targets, changed[1], test_targets, ridge=ridge)
    for name in set(one._fields) - {"loo_mse"}:
        np.testing.assert_array_equal(getattr(one, name)[:width], getattr(other, name)[:width], err_msg=name)
    basis = np.linalg.qr(features[:, :width].astype(np.float64))[0]
    outside = np.array([1 - (basis[:, : p + 1] ** 2).sum(axis=1).max() for p in range(min(width, len(targets) - 1))])
    clear = np.flatnonzero((outside > 0.01) & (one.status[: len(outside)] == 0))
    rounding = len(targets) * np.finfo(np.float32).eps * np.linalg.norm(targets)
    change = np.sqrt(one.loo_mse[clear]) - np.sqrt(other.loo_mse[clear])
    assert (np.abs(change) <= rounding / outside[clear]).all()


@pytest.mark.parametrize(("power", "ridge"), [(-83, 0.0), (-70, 0.0), (83, 0.0), (-50, 0.1), (60, 0.1)])
@pytest.mark.first_case
@pytest.mark.first_case
def test_units_of_the_features_are_free(power, ridge):
    """Features and tests times 2^k, a ridge times 4^k: coefficients over 2^k, and the same errors, to the bit."""
    features, targets, tests, test_targets = draw(dtype=np.float32)
    one = width_path(features, targets, tests, test_targets, ridge=ridge)
    scaled = [np.ldexp(x, power) for x in (features, tests)]
    other = width_path(scaled[0], targets, scaled[1], test_targets, ridge=math.ldexp(ridge, 2 * power))
    for name in ("train_mse", "test_mse", "test_error", "loo_mse", "condition", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(np.ldexp(one.norm, -power), other.norm)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.first_case
@pytest.mark.slow
def test_fewer_columns_give_the_first_widths(ridge, scaled):
    """path(A[:, :37]) = path(A)[:37], bit for bit, also with columns of scales 1e-8 to 1e8."""
    features, targets, tests, test_targets = draw(dtype=np.float32)
    scale = 10.0 ** np.random.default_rng(1).uniform(-8, 8, LIMIT) if scaled else np.ones(LIMIT)
    features, tests = ((x * scale).astype(np.float32) for x in (features, tests))
    whole = width_path(features, targets, tests, test_targets, ridge=ridge)
    part = width_path(features[:, :37], targets, tests[:, :37], test_targets, ridge=ridge)
    for name, value in part._asdict().items():
        np.testing.assert_array_equal(value, getattr(whole, name)[:37], err_msg=name)


def test_monomials_interpolate_at_the_threshold(float64):
    """x^k, x in [-10, 10], later columns up to 1e29: at n features nothing is left of the training error."""
    rng = np.random.default_rng(0)
    x, tests, powers = rng.uniform(-10, 10, SAMPLES), rng.uniform(-10, 10, 40), np.arange(LIMIT) % 30
    targets, test_targets = (np.sin(np.stack([v, 2 * v], 1)) for v in (x, tests))
    path = width_path(x[:, None] ** powers, targets, tests[:, None] ** powers, test_targets)
    good = np.asarray(path.status) == Status.OK
    assert good[:8].all()
    assert (np.asarray(path.train_mse)[SAMPLES - 1 :] < 1e-12)[good[SAMPLES - 1 :]].all()
    problem = (x[:, None] ** powers, targets, tests[:, None] ** powers, test_targets)
    assert_solved(path, problem, 0.0, np.flatnonzero(good[:8]) + 1, rtol=1e-6)


@pytest.mark.slow
def test_a_huge_last_column_does_not_reach_width_22():
    """Standard normal A [20, 30], T [40, 30], y, z of default_rng(0), the last column times 1e8: 7.342 at width 22."""
    rng = np.random.default_rng(0)
    a, t = rng.standard_normal((20, 30)), rng.standard_normal((40, 30))
    y, z = rng.standard_normal(20), rng.standard_normal(40)
    a[:, -1] *= 1e8
    t[:, -1] *= 1e8
    path = width_path(*(np.asarray(x, np.float32) for x in (a, y, t, z)))
    assert path.status[21] == Status.OK
    np.testing.assert_allclose(path.test_mse[21], 7.342, rtol=1e-3)


@pytest.mark.slow
def test_float32_is_right_or_says_so():
    """Features of decaying scale, condition numbers from 1 to past 1/eps: no width marked ok is off by a tenth."""
    features, targets, test_features, test_targets = draw(60, 150, dtype=np.float32)
    flagged = 0
    for decay in (0.0, 2.0, 4.0, 8.0):
        scale = (np.arange(1.0, 151.0) ** -decay)[None].astype(np.float32)
        problem = (features * scale, targets, test_features * scale, test_targets)
        path = width_path(*problem)
        for width in np.flatnonzero(np.asarray(path.status) == Status.OK) + 1:
            expected = oracle(problem, width, 0.0)
            np.testing.assert_allclose(at(path, width)[[1, 3]], expected[[1, 3]], rtol=0.1)
        flagged += int((path.status == Status.ILL_CONDITIONED).sum())
        if decay == 0:
            assert (path.status == Status.OK).mean() > 0.95
    assert flagged > 100


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-8, 1e-4, 1.0])
def test_a_norm_beside_a_ridge_is_right_or_flagged(size):
    """A column far below √λ: the residual it could take up has 10⁸ times its coefficient's norm as slack."""
    features, targets, *test = draw(20, 6, dtype=np.float32)
    scale = np.where(np.arange(6) == 3, np.float32(size), np.float32(1.0))[None]
    path = width_path(features * scale, targets, test[0] * scale, test[1], ridge=1e-8)
    wide = features.astype(np.float64) * scale
    for width in range(1, 7):
        shown = wide[:, :width]
        exact = np.linalg.solve(shown.T @ shown + 1e-8 * np.eye(width), shown.T @ targets.astype(np.float64))
        if path.status[width - 1] == Status.OK:
            np.testing.assert_allclose(path.norm[width - 1], np.linalg.norm(exact), rtol=0.1)
        else:
            assert width >= 4
    assert (path.status == Status.OK).all() == (size > 1e-5)


def test_peak_in_float32_is_not_clipped():
    """A cut-off of small singular values would lower the peak at p = n; float32 keeps it to 1%."""
    problem = draw(dtype=np.float32)
    path = width_path(*problem)
    for width in (19, 20, 21):
        np.testing.assert_allclose(at(path, width)[1], oracle(problem, width, 0.0)[1], rtol=1e-2)


def test_features_that_are_zero_on_the_training_points_get_no_coefficient(float64):
    """Dead units shift the threshold, whatever the test points see."""
    features, targets, test_features, test_targets = draw()
    dead = [0, 5, 6, 11, 13, 30]
    features[:, dead] = 0
    path = width_path(features, targets, test_features, test_targets)
    assert not path.status.any()
    assert_solved(path, (features, targets, test_features, test_targets), 0.0, range(2, LIMIT + 1))
    assert path.norm[0] == 0
    np.testing.assert_allclose(path.test_mse[0], (test_targets**2).sum(1).mean(), rtol=1e-13)


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_vmap_over_a_sharded_axis_divides_the_seeds(kind):
    """Each of 8 devices keeps its seed: the compiled program exchanges nothing between them."""
    problems = [draw(6, 14, tests=5, seed=seed, dtype=np.float32) for seed in range(8)]
    stacked = [np.stack(values) for values in zip(*problems, strict=True)]
    for ridge in (0.0, 0.1):
        paths = jax.vmap(lambda *p, ridge=ridge: width_path(*p, ridge=ridge))
        expected = paths(*stacked)
        mesh = jax.make_mesh((8,), ("seeds",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("seeds"))) for x in stacked]
            compiled = jax.jit(paths).lower(*placed).compile()
            found = compiled(*placed)
        text = compiled.as_text()
        assert not any(f"{word}(" in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))
        assert found.test_mse.addressable_shards[0].data.shape == (1, 14)
        # batched products round otherwise: a few dozen roundings times the largest condition number
        allowed = 50 * np.finfo(np.float32).eps * float(expected.condition.max())
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=allowed, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3, 9])
def test_reverse_forward_and_second_derivatives_are_those_of_differences(float64, limit):
    """In all arrays and the ridge, below and above the threshold n = 5, along one line."""
    problem = [jnp.asarray(x) for x in draw(5, limit, tests=4, seed=1)]
    moves = [jnp.asarray(x) for x in draw(5, limit, tests=4, seed=2)]

    for ridge in (0.0, 0.3):

        def along(step, ridge=ridge):
            moved = [x + step * y for x, y in zip(problem, moves, strict=True)]
            path = width_path(*moved, ridge=ridge * (1 + step) if ridge else 0.0)
            return path.test_mse[-1] + path.norm[-1] + path.loo_mse[-1]

        def second(step):
            return jax.grad(jax.grad(along))(step)

        values = {k: float(jax.jit(along)(k * 1e-3)) for k in (-2, -1, 0, 1, 2)}
        first = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / 12e-3
        bend = (16 * (values[1] + values[-1]) - values[2] - values[-2] - 30 * values[0]) / 12e-6
        np.testing.assert_allclose(jax.jit(jax.grad(along))(0.0), first, rtol=1e-6)
        np.testing.assert_allclose(jax.jvp(along, (0.0,), (1.0,))[1], first, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(second)(0.0), bend, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_reverse_mode_is_forward_mode_at_every_width(float64, seed):
    """Also where what is not chosen (here the norm by the residual, which is 0 up to rounding) has no derivative."""
    problem, moves = ([jnp.asarray(x) for x in draw(5, 16, tests=4, seed=s)] for s in (seed, seed + 10))

    def along(step):
        path = width_path(*(x + step * y for x, y in zip(problem, moves, strict=True)))
        return jnp.stack([path.train_mse[:4], path.test_mse[:4], path.norm[:4], path.loo_mse[:4]]), path.norm

    for one, other in zip(jax.jacrev(along)(0.0), jax.jacfwd(along)(0.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.slow
def test_a_traced_ridge_may_be_zero_and_not_less(float64):
    problem = draw()
    paths = jax.vmap(lambda ridge: width_path(*problem, ridge=ridge))(jnp.array([-1.0, 0.0, 0.1, jnp.nan]))
    assert (paths.status[jnp.array([0, 3])] == Status.INVALID_INPUT).all()
    assert (paths.status[jnp.array([1, 2])] == Status.OK).all()
    for row, ridge in ((1, 0.0), (2, 0.1)):
        expected = [oracle(problem, width, ridge)[1] for width in (5, 20, 60)]
        np.testing.assert_allclose(paths.test_mse[row][jnp.array([4, 19, 59])], expected, rtol=1e-9)


@pytest.mark.slow
def test_nan_inside_jit_is_a_status_from_its_column_on(float64):
    features, *rest = draw()
    path = jax.jit(lambda a: width_path(a, *rest))(jnp.asarray(features).at[3, 7].set(jnp.nan))
    assert (path.status[:7] == Status.OK).all()
    assert (path.status[7:] == Status.NOT_FINITE).all()


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


@pytest.mark.slow
def test_a_single_output_is_a_sign(float64):
    features, targets, test_features, test_targets = draw(15, 30, outputs=1)
    path = width_path(features, targets[:, 0], test_features, np.sign(test_targets[:, 0]))
    beta = solve(np.asarray(features), np.asarray(targets), 0.0)
    wrong = (np.sign(np.asarray(test_features) @ beta)[:, 0] != np.sign(np.asarray(test_targets))[:, 0]).mean()
    np.testing.assert_allclose(path.test_error[-1], wrong, rtol=1e-15)


def test_widths_are_picked_from_the_whole_path(dtype):
    problem = draw(dtype=dtype)
    whole, some = width_path(*problem), width_path(*problem, widths=jnp.array([60, 3, 15]))
    for every, picked in zip(whole, some, strict=True):
        np.testing.assert_array_equal(every[jnp.array([59, 2, 14])], picked)
    assert some.test_mse.dtype == dtype


@pytest.mark.slow
def test_memory_is_what_the_docstring_states():
    """Compiled temporary memory within the stated number of floats."""
    from jaxtheory.double_descent.width_path import _path

    n, limit, m, outputs = 100, 500, 300, 3
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((n, limit), (n, outputs), (m, limit), (m, outputs), ())]
    compiled = _path.lower(*shapes, min_norm=True).compile()
    stated = 4 * (3 * (m + n) * limit + 12 * n * n + 4 * m * n)
    assert compiled.memory_analysis().temp_size_in_bytes <= stated
