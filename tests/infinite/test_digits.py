"""Limits on real digits: positive semidefinite to round-off with repeated images, and all 5,000 in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from infinite.recursion import relu_kernels

from jaxtheory import data, infinite
from jaxtheory.kernels.gram import gram

DEPTH, SIGMA_W, SIGMA_B = 3, 1.3, 0.1


def round_off(matrix, dimension, dtype):
    """Of an entry: (d + 10 L) ε of the largest, d products and ten operations a layer; eigenvalues move by n times."""
    return (dimension + 10 * DEPTH) * float(jnp.finfo(dtype).eps) * np.abs(matrix).max()


@pytest.mark.parametrize("name", ["relu", "erf", pytest.param("tanh", marks=pytest.mark.slow)])
@pytest.mark.first_case
@pytest.mark.first_case
def test_kernels_are_positive_semidefinite_on_digits(name, dtype):
    """With repeated images, negatives and blank ones; pixels are sixteenths, so that inner products are exact."""
    x = np.asarray(data.digits(200).x)
    x = jnp.asarray(np.concatenate([x, x[:40], x[:20], -x[:10], np.zeros((2, 64))]), dtype)
    for kernel in infinite.mlp(DEPTH, name, SIGMA_W, SIGMA_B).both(x):
        matrix = np.asarray(kernel, np.float64)
        least = np.linalg.eigvalsh((matrix + matrix.T) / 2)[0]
        assert least >= -len(matrix) * round_off(matrix, x.shape[1], dtype)


@pytest.mark.slow
def test_five_thousand_digits_in_bounded_memory():
    """The NTK of every pair of MNIST images in blocks: the matrix itself and some blocks."""
    n, block = 5000, 1000
    x = jnp.asarray(data.mnist5k(n).x)
    x = x.at[-100:].set(x[:100])
    kernel = infinite.mlp(DEPTH, "relu", SIGMA_W, SIGMA_B).ntk
    compiled = jax.jit(lambda x: gram(kernel, x, block=block)).lower(x).compile()
    memory = compiled.memory_analysis()
    assert memory.output_size_in_bytes + memory.temp_size_in_bytes < 4 * (n**2 + 8 * block**2)
    found = np.asarray(compiled(x))
    some = np.random.default_rng(0).choice(n, 60, replace=False)
    expected = relu_kernels(np.asarray(x, np.float64)[some], DEPTH, SIGMA_W, SIGMA_B)[1]
    # An angle near 0 is known to √(2 (d + 10) ε), and the NTK to 1/π of that a layer.
    error = round_off(found, 784, jnp.float32)
    near = DEPTH * np.sqrt(2 * 794 * np.finfo(np.float32).eps) / np.pi * found.max()
    apart = ~np.eye(len(some), dtype=bool)
    assert np.abs(found[np.ix_(some, some)] - expected)[apart].max() < error
    lifted = found.astype(np.float64)
    lifted[np.diag_indices(n)] += n * error + 2 * near  # what the angles move, on blocks of two that coincide
    scipy.linalg.cholesky(lifted, lower=True, overwrite_a=True, check_finite=True)  # raises unless positive definite
