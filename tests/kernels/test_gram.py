"""Kernel functions against scikit-learn and expectations; Gram matrices in blocks, over devices, and never formed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics.pairwise as pairwise
from tolerances import assert_close

from jaxtheory import kernels


def points(key, n, dim, dtype=jnp.float64):
    return jax.random.normal(key, (n, dim), dtype)


@pytest.mark.parametrize("dim", [2, 9])
def test_kernels_are_those_of_scikit_learn(dim, float64, key):
    x1, x2 = points(key, 11, dim), points(jax.random.fold_in(key, 1), 7, dim)
    distance = pairwise.euclidean_distances(x1, x2)
    assert_close(kernels.gaussian(1.7)(x1, x2), pairwise.rbf_kernel(x1, x2, gamma=1 / (2 * 1.7**2)))
    assert_close(kernels.laplace(1.7)(x1, x2), np.exp(-distance / 1.7))
    assert_close(kernels.polynomial(3, 0.5, 2.0)(x1, x2), pairwise.polynomial_kernel(x1, x2, 3, 2.0, 0.5))
    from sklearn.gaussian_process.kernels import Matern

    for smoothness in (0.5, 1.5, 2.5):
        assert_close(
            kernels.matern(smoothness, 1.7)(x1, x2), Matern(1.7, nu=smoothness)(np.asarray(x1), np.asarray(x2))
        )


@pytest.mark.parametrize("order", [0, 1, 2])
def test_arc_cosine_is_an_expectation_over_neurons(order, float64, key):
    """2 E[φ(w·x) φ(w·x')] over 400,000 neurons, within 5 standard errors entry by entry."""
    x = points(key, 4, 3)
    w = jax.random.normal(jax.random.fold_in(key, 1), (400_000, 3), jnp.float64)
    z = w @ x.T
    phi = jnp.where(z > 0, z**order, 0.0)
    products = 2 * phi[:, :, None] * phi[:, None, :]
    error = products.std(axis=0) / 400_000**0.5
    assert (jnp.abs(products.mean(axis=0) - kernels.arc_cosine(order)(x, x)) < 5 * error).all()


def fourier(s, turns, terms):
    """1 + Σ 2 cos(2πk t)/k^{2s}, and a bound on what is left out."""
    k = np.arange(1, terms + 1)
    return 1 + (2 * np.cos(2 * np.pi * k * turns[..., None]) / k ** (2.0 * s)).sum(-1), 2 * terms ** (1 - 2.0 * s)


@pytest.mark.parametrize(("s", "terms"), [(1, 20_000), (2, 2_000), (5, 100), (8, 40)])
def test_periodic_spline_is_its_fourier_series(s, terms, float64):
    rng = np.random.default_rng(s)
    x1, x2 = rng.uniform(-7, 7, (5, 2)), rng.uniform(-7, 7, (4, 2))
    x2[0] = x1[0] + [0, 3.5]  # coincident, and half a period apart
    each, left_out = fourier(s, (x1[:, None] - x2[None]) / 7.0, terms)
    gap = np.abs(kernels.periodic_spline(s, 7.0)(x1, x2) - each.prod(-1)).max()
    assert gap < 2 * left_out * each.max() + 1e-13


def test_periodic_spline_in_float32_at_whole_periods():
    """10 ε of the largest value, 1 + π²/3, and no more where points are many periods apart."""
    rng = np.random.default_rng(0)
    turns = np.float32(rng.integers(-1000, 1000, 200) + rng.integers(-512, 512, 200) / 1024)
    found = kernels.periodic_spline(1)(turns, np.zeros(1, np.float32))[:, 0]
    t = np.mod(np.float64(turns), 1)
    exact = 1 + 2 * np.pi**2 * (t * t - t + 1 / 6)
    assert np.abs(found - exact).max() < 10 * np.finfo(np.float32).eps * exact.max()


def test_periodic_spline_derivatives_where_points_coincide(float64):
    """The Hessian is −2 Σ (2πk)²/k^{2s}: −(2π)⁴/12 for s = 2; the kink of s = 1 has none, nor a slope."""

    def at(s, t):
        return kernels.periodic_spline(s)(jnp.reshape(t, (1, 1)), jnp.zeros((1, 1)))[0, 0]

    assert_close(jax.grad(jax.grad(partial(at, 2)))(0.0), -((2 * np.pi) ** 4) / 12)
    assert jax.grad(partial(at, 1))(0.0) == 0


@pytest.mark.slow
def test_kernels_have_gradients_at_coincident_points(float64, key):
    x = jnp.concatenate([points(key, 3, 6)] * 2)
    for kernel in (kernels.laplace(), kernels.matern(2.5), kernels.gaussian(), kernels.arc_cosine(1)):
        assert jnp.isfinite(jax.grad(lambda z, k=kernel: jnp.sum(k(z, z) ** 2))(x)).all()
        assert_close(jnp.diagonal(kernel(x, x))[:3], jnp.diagonal(kernel(x[:3], x[3:])))


def test_parameters_are_leaves_and_do_not_compile_again(float64):
    traces = []

    @jax.jit
    def value(kernel):
        traces.append(1)
        return kernel(jnp.zeros((1, 1)), jnp.ones((1, 1)))[0, 0]

    assert value(kernels.gaussian(1.0)) != value(kernels.gaussian(2.0))
    assert value(kernels.polynomial(2)) == value(kernels.polynomial(2, 1.0))
    assert len(traces) == 2
    assert_close(jax.grad(lambda b: value(kernels.gaussian(b)))(2.0), jnp.exp(-1 / 8) / 8)


@pytest.mark.parametrize("block", [None, 1, 4, 5, 13, 50])
@pytest.mark.parametrize("other", [None, 6])
@pytest.mark.first_case
def test_blocks_do_not_change_the_gram_matrix_or_its_products(block, other, float64, key):
    x = points(key, 13, 5)
    x2 = None if other is None else points(jax.random.fold_in(key, 1), other, 5)
    dense = kernels.laplace()(x, x if x2 is None else x2)
    assert_close(kernels.gram(kernels.laplace(), x, x2, block=block), dense)
    v = jax.random.normal(key, (dense.shape[1], 3), jnp.float64)
    assert_close(kernels.matvec(kernels.laplace(), x, v, block or 2048, x2=x2), dense @ v)
    assert_close(kernels.matvec(kernels.laplace(), x, v[:, 0], block or 2048, x2=x2), dense @ v[:, 0])


@pytest.mark.parametrize("devices", [1, 2, 5])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.first_case
def test_devices_do_not_change_the_gram_matrix(devices, other, key):
    mesh = jax.make_mesh((devices,), ("rows",), devices=jax.devices()[:devices])
    x = points(key, 40, 5, jnp.float32)
    x2 = points(jax.random.fold_in(key, 1), 7, 5, jnp.float32) if other else None
    sharded = kernels.gram(kernels.laplace(), x, x2, block=4, mesh=mesh)
    assert_close(sharded, kernels.gram(kernels.laplace(), x, x2))
    assert {shard.data.shape[0] for shard in sharded.addressable_shards} == {40 // devices}


def counted(calls):
    def kernel(x1, x2):
        jax.debug.callback(lambda: calls.append(x1.shape[0] * x2.shape[0]))
        return x1 @ x2.T

    return kernel


def test_symmetric_work_is_done_once(key):
    """16 blocks of a 4 by 4 division make 10 pairs; a second set of points takes all 16."""
    x, calls = points(key, 16, 2, jnp.float32), []
    jax.block_until_ready(kernels.gram(counted(calls), x, block=4))
    jax.effects_barrier()
    assert sum(calls) == 10 * 16
    calls.clear()
    jax.block_until_ready(kernels.matvec(counted(calls), x, jnp.ones(16), 4))
    jax.effects_barrier()
    assert sum(calls) == 10 * 16
    calls.clear()
    jax.block_until_ready(kernels.gram(counted(calls), x, x, block=4))
    jax.effects_barrier()
    assert sum(calls) == 16 * 16


def peak(function, *arguments):
    """Bytes the compiled program holds at once: its temporaries and its output."""
    memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes


@pytest.mark.parametrize("n", [1024, 4096])
@pytest.mark.first_case
def test_peak_memory_is_what_is_stated(n):
    """gram: n² and a few blocks; matvec: a few blocks and vectors, whatever n. Bytes of the compiled program."""
    block, dim = 256, 20
    x, v = jnp.zeros((n, dim)), jnp.zeros((n, 2))
    blocks = 8 * 4 * block**2 + 16 * 4 * n * (dim + 2)
    assert peak(lambda x: kernels.gram(kernels.laplace(), x, block=block), x) <= 4 * n**2 + blocks
    assert peak(lambda x, v: kernels.matvec(kernels.laplace(), x, v, block), x, v) <= blocks
    assert peak(lambda x, v: kernels.matvec(kernels.laplace(), x, v, block, x2=x), x, v) <= blocks


def test_bad_arguments_are_named(unchecked, key):
    x = points(key, 6, 2, jnp.float32)
    with pytest.raises(ValueError, match=r"block must be at least 1, got block=0"):
        kernels.gram(kernels.laplace(), x, block=0)
    with pytest.raises(ValueError, match=r"x2 must hold points like those of x1, \(6, 2\), got x2=\(6, 1\)"):
        kernels.gram(kernels.laplace(), x, x[:, :1])
    with pytest.raises(ValueError, match="ridge must be one number"):
        kernels.fit(kernels.laplace(), x, x[:, 0], jnp.ones(2))
    with pytest.raises(ValueError, match=r"multiple of 4 rows"):
        kernels.gram(kernels.laplace(), x, mesh=jax.make_mesh((4,), ("rows",), devices=jax.devices()[:4]))
    with pytest.raises(ValueError, match=r"v must have 6 rows"):
        kernels.matvec(kernels.laplace(), x, jnp.ones(5))
    for make in (lambda: kernels.laplace(0.0), lambda: kernels.matern(1.0), lambda: kernels.arc_cosine(3)):
        with pytest.raises(ValueError, match="got"):
            make()
    with pytest.raises(ValueError, match="offset must be >= 0"):
        kernels.polynomial(2, -1.0)
