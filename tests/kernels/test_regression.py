"""Every solver against scikit-learn and a dense solve; estimates of the error against leaving points out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from tolerances import assert_close

from jaxtheory import kernels
from jaxtheory.kernels.solvers import differentiable_cholesky, jittered_cholesky
from jaxtheory.results import Status


@pytest.fixture
def problem(float64, key):
    x = jax.random.normal(key, (120, 6), jnp.float64)
    y = jnp.stack([jnp.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    return x, y


METHODS = {
    "cholesky": {"solver": "cholesky"},
    "rpcholesky": {"solver": "cg", "preconditioner": "rpcholesky", "rank": 40},
    "nystrom": {"solver": "cg", "preconditioner": "nystrom", "rank": 40},
    "plain": {"solver": "cg", "preconditioner": "none"},
    "eigenpro": {"solver": "eigenpro", "rank": 30, "max_iterations": 3000},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
@pytest.mark.first_case
def test_every_solver_is_scikit_learns_kernel_ridge(method, ridge, problem):
    """Relative error of α ≤ residual · condition number, both of which are known."""
    x, y = problem
    options = {"tolerance": 1e-10, "block": 50} | METHODS[method]
    model = kernels.fit(kernels.gaussian(2.0), x, y, ridge, **options)
    oracle = KernelRidge(alpha=ridge, kernel="rbf", gamma=1 / 8).fit(x, y)
    largest = float(jnp.linalg.eigvalsh(kernels.gaussian(2.0)(x, x))[-1])
    assert int(model.status) == Status.OK
    assert model.residual <= 1e-10
    error = jnp.linalg.norm(model.alpha - oracle.dual_coef_) / jnp.linalg.norm(oracle.dual_coef_)
    assert error <= 1e-10 * (largest + ridge) / ridge
    test = x[:9] + 0.3
    assert np.abs(kernels.predict(model, test, block=4) - oracle.predict(test)).max() <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["cholesky", "cg", "eigenpro"])
@pytest.mark.first_case
def test_residual_and_dtype_are_those_of_the_problem(solver, key):
    """In float32; in float64 the residual is held against scikit-learn's solution above."""
    dtype = jnp.dtype("float32")
    x = jax.random.normal(key, (60, 6), dtype)
    y = jnp.sin(x[:, 0])
    model = kernels.fit(kernels.laplace(2.0), x, y, 0.1, solver=solver)
    exact = np.asarray(kernels.laplace(2.0)(x, x), np.float64) + 0.1 * np.eye(60)
    residual = np.linalg.norm(exact @ np.asarray(model.alpha, np.float64) - y) / np.linalg.norm(y)
    assert model.alpha.dtype == model.residual.dtype == dtype
    assert abs(model.residual - residual) < 60 * float(jnp.finfo(dtype).eps)
    assert int(model.status) == Status.OK


@pytest.mark.parametrize("method", ["rpcholesky", "nystrom"])
@pytest.mark.first_case
@pytest.mark.slow
def test_preconditioner_saves_iterations(method, problem):
    x, y = problem
    plain, better = (
        kernels.fit(kernels.gaussian(3.0), x, y, 1e-3, tolerance=1e-8, **METHODS[name]) for name in ("plain", method)
    )
    assert int(plain.status) == int(better.status) == Status.OK
    assert int(better.iterations) < int(plain.iterations) / 3


@pytest.mark.slow
def test_rpcholesky_error_is_within_its_theorem(problem):
    """Mean trace error ≤ (1 + ε) tr(K − K_q) with rank = q/ε + q log(1/(ε η)) (Chen et al., Theorem 3.1)."""
    x, _ = problem
    gram = kernels.gaussian(3.0)(x, x)
    eigs = jnp.linalg.eigvalsh(gram)[::-1]
    q, epsilon = 6, 1.0
    best = eigs[q:].sum()
    rank = int(np.ceil(q / epsilon + q * np.log(1 / (epsilon * float(best / eigs.sum())))))
    for pivots in (1, 8):
        keys = jax.random.split(jax.random.key(3), 12)
        factors = [kernels.rpcholesky(kernels.gaussian(3.0), x, rank, k, pivots=pivots) for k in keys]
        errors = np.array([np.trace(gram - f @ f.T) for f in factors])
        assert errors.mean() - 3 * errors.std() / 12**0.5 <= (1 + epsilon) * best
        assert min(np.linalg.eigvalsh(gram - f @ f.T)[0] for f in factors[:3]) > -1e-10


@pytest.mark.slow
def test_nystrom_is_below_the_kernel_and_full_rank_is_exact(problem):
    x, _ = problem
    gram = kernels.laplace(3.0)(x, x)
    factor = kernels.nystrom(kernels.laplace(3.0), x, 120, jax.random.key(0))
    assert_close(factor @ factor.T, gram, condition=1e3)
    factor = kernels.nystrom(kernels.laplace(3.0), x, 30, jax.random.key(0))
    assert jnp.linalg.eigvalsh(gram - factor @ factor.T)[0] > -1e-10


def test_low_rank_inverse_is_the_inverse(float64, key):
    factor, shift = jax.random.normal(key, (20, 5), jnp.float64), jnp.float64(1e-3)
    basis = kernels.low_rank_inverse(factor, shift)
    dense = jnp.linalg.inv(factor @ factor.T + shift * jnp.eye(20))
    assert_close((jnp.eye(20) - basis @ basis.T) / shift, dense, condition=1e5)


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
@pytest.mark.first_case
def test_centres_solve_the_normal_equations(ridge, problem):
    x, y = problem
    model = kernels.fit(kernels.gaussian(2.0), x, y, ridge, centres=x[:30], tolerance=1e-9, block=50)
    cross, corner = kernels.gaussian(2.0)(x, x[:30]), kernels.gaussian(2.0)(x[:30], x[:30])
    exact = np.linalg.lstsq(
        np.concatenate([cross, np.sqrt(ridge) * np.linalg.cholesky(corner).T]),
        np.concatenate([y, np.zeros((30, 2))]),
    )[0]
    assert int(model.status) == Status.OK
    assert_close(kernels.predict(model, x), cross @ exact, condition=1e7)
    assert model.alpha.shape == (30, 2)


def exact_fit(kernel, x, y, ridge, centres):
    """f at the points by weighted least squares in float64, in the eigenbasis of K_cc, and the weights."""
    cross, corner = (np.asarray(kernel(jnp.float64(z), jnp.float64(centres))) for z in (x, centres))
    values, vectors = np.linalg.eigh(corner)
    kept = values > 1e-13 * values[-1]
    features, least = cross @ vectors[:, kept] / np.sqrt(values[kept]), np.min(np.float64(ridge))
    weights = least / np.broadcast_to(np.float64(ridge), len(x))
    gram = features.T @ (weights[:, None] * features) + least * np.eye(kept.sum())
    return features @ np.linalg.solve(gram, features.T @ (weights * np.float64(y))), weights


def is_flagged(kernel, x, y, ridge, centres):
    """Whether float32 is ILL_CONDITIONED; what is OK must be within the tolerance, √ε."""
    x, y, ridge, centres = map(jnp.float32, (x, y, ridge, centres))
    model = kernels.fit(kernel, x, y, ridge, centres=centres)
    expected, weights = exact_fit(kernel, x, y, ridge, centres)
    gap = np.asarray(kernels.predict(model, x)) - expected
    error = np.sqrt((weights * gap**2).sum() / (weights * np.float64(y) ** 2).sum())
    assert model.status == Status.ILL_CONDITIONED or (model.status == Status.OK and error < 2**-11.5)
    return model.status != Status.OK


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [kernels.gaussian(0.5), kernels.matern(2.5, 0.7)], ids=["gaussian", "matern"])
@pytest.mark.parametrize("data", ["line", "plane", "repeated"])
@pytest.mark.first_case
def test_centres_in_float32_are_right_or_flagged(data, kernel, float64):
    """Points on a line have functions below float32's rounding, which these ridges do not hide."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 2)) * (1, data != "line")
    x = np.concatenate([x[:20], x[:20]]) if data == "repeated" else x
    y = np.sin(x[:, 0]) + 0.1 * rng.standard_normal(40)
    flagged = [is_flagged(kernel, x, y, ridge, x[:m]) for ridge, m in ((1e-8, 40), (1e-5, 20), (1e-2, 40))]
    assert any(flagged) == (data == "line")


@pytest.mark.slow
def test_functions_that_reach_beyond_the_centres_are_told_of(float64):
    """Small on the centres and large at other points: left out, they move f by up to 0.8% at these noises."""
    flagged = []
    for seed in (0, 2, 5):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((60, 2))
        y, noise = np.sin(2 * x[:, 0]) + 0.3 * rng.standard_normal(60), 0.01 * 10 ** rng.uniform(0, 3, 60)
        flagged.append(is_flagged(kernels.arc_cosine(1), x, y, noise, x[:25]))
    assert any(flagged)


@pytest.mark.slow
def test_all_points_as_centres_is_the_full_regression(problem):
    x, y = problem
    full = kernels.fit(kernels.laplace(2.0), x, y, 0.1)
    model = kernels.fit(kernels.laplace(2.0), x, y, 0.1, centres=x, tolerance=1e-10)
    assert_close(kernels.predict(model, x), kernels.predict(full, x), condition=1e5)


@pytest.mark.slow
def test_a_gram_matrix_stands_for_a_kernel(problem):
    x, y = problem
    everything = kernels.laplace(2.0)(x, x)
    by_index = kernels.fit(everything, jnp.arange(100), y[:100], 0.1)
    by_point = kernels.fit(kernels.laplace(2.0), x[:100], y[:100], 0.1)
    test = jnp.arange(100, 120)
    assert_close(kernels.predict(by_index, test), kernels.predict(by_point, x[100:]), condition=1e3)


@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_ridge_path_is_brute_force(ridge, problem):
    """α by a dense solve; leave-one-out by leaving each point out; GCV and KARE by their own formulas."""
    x, y = problem
    gram = np.asarray(kernels.laplace(2.0)(x, x))
    path = kernels.ridge_path(kernels.laplace(2.0), x, y, jnp.array([ridge, 10.0]))
    shifted = gram + ridge * np.eye(120)
    assert_close(path.alpha[0], np.linalg.solve(shifted, y), condition=1e4)
    left_out = []
    for i in range(120):
        rest = np.delete(np.arange(120), i)
        alpha = np.linalg.solve(shifted[np.ix_(rest, rest)], y[rest])
        left_out.append(np.asarray(y[i]) - gram[i, rest] @ alpha)
    assert_close(path.leave_one_out[0], np.mean(np.square(left_out)), condition=1e4)
    hat = gram @ np.linalg.inv(shifted)
    gcv = np.mean((y - hat @ y) ** 2) / (1 - np.trace(hat) / 120) ** 2
    mean_inverse = np.linalg.inv(gram / 120 + ridge / 120 * np.eye(120))
    kare = np.trace(y.T @ mean_inverse @ mean_inverse @ y) / 120 / 2 / (np.trace(mean_inverse) / 120) ** 2
    assert_close(path.gcv[0], gcv, condition=1e4)
    assert_close(path.gcv[0], kare, condition=1e4)
    assert_close(path.degrees_of_freedom[0], np.trace(hat), condition=1e4)
    assert_close(path.train[0], np.mean((y - hat @ y) ** 2), condition=1e6)
    assert path.status.tolist() == [Status.OK, Status.OK]


def test_min_norm_on_duplicates_is_reported(float64):
    x, y = jnp.array([[0.0], [0.0], [1.0]]), jnp.array([0.0, 1.0, 2.0])
    path = kernels.ridge_path(kernels.laplace(), x, y, jnp.array([0.0]))
    assert_close(path.alpha[0], np.linalg.pinv(np.asarray(kernels.laplace()(x, x))) @ y, condition=1e2)
    assert int(path.status[0]) == Status.ILL_CONDITIONED
    assert jnp.isnan(path.leave_one_out[0])


def test_jitter_is_reported_and_no_more_than_needed(dtype):
    good = jittered_cholesky(jnp.eye(4, dtype=dtype))
    assert good.jitter == 0
    flat = jittered_cholesky(jnp.ones((4, 4), dtype))
    eps = float(jnp.finfo(dtype).eps)
    assert 0 < flat.jitter <= 100 * eps
    assert_close(flat.lower @ flat.lower.T, jnp.ones((4, 4), dtype) + flat.jitter * jnp.eye(4, dtype=dtype))
    bad = jittered_cholesky(jnp.diag(jnp.array([1.0, -0.5], dtype)))
    assert not jnp.isfinite(bad.lower).all()
    assert_close(bad.jitter, jnp.asarray(eps**0.5 * 0.25, dtype))


def test_fit_with_jitter_says_so(float64):
    """Duplicates with equal targets: the interpolant exists, Cholesky needs jitter, refinement removes its error."""
    x = jnp.concatenate([jnp.linspace(0.0, 1.0, 20)[:, None]] * 2)
    model = kernels.fit(kernels.laplace(), x, jnp.sin(3 * x[:, 0]), 0.0)
    assert model.jitter > 0
    assert int(model.status) == Status.OK
    assert model.residual < 1e-8


def test_differentiable_cholesky_has_the_right_gradient(float64, key):
    root = jax.random.normal(key, (5, 5), jnp.float64)

    def volume(s):
        matrix = s * root @ root.T + jnp.eye(5)
        return 2 * jnp.sum(jnp.log(jnp.diagonal(differentiable_cholesky(matrix).lower)))

    inverse = np.linalg.inv(2.0 * root @ root.T + np.eye(5))
    assert_close(jax.grad(volume)(2.0), np.trace(inverse @ np.asarray(root @ root.T)), condition=1e2)


@pytest.mark.slow
def test_fit_works_inside_jit(problem):
    x, y = problem
    ridges = jnp.array([0.1, 1.0])
    inside = jax.lax.map(lambda r: kernels.fit(kernels.laplace(), x, y, r).alpha, ridges)
    assert_close(inside[1], kernels.fit(kernels.laplace(), x, y, 1.0).alpha, condition=1e2)
    negative = jax.jit(lambda r: kernels.fit(kernels.laplace(), x, y, r))(-0.1)
    assert int(negative.status) == Status.INVALID_INPUT
