"""Complex weights made of real parameters, whose products have structured rules, against jacrev in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from jax import lax

from jaxtheory import empirical

RNG = np.random.default_rng(0)
X, A, B = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((3, 4), (4, 4), (4, 4)))
STACK = {"a": RNG.normal(size=(3, 4, 4)), "b": RNG.normal(size=(3, 4, 4))}


def product(x, a, b):
    return x.astype(complex) @ lax.complex(a, b)


def turn(h, layer):
    y = product(h, layer["a"], layer["b"])
    return jnp.tanh(y.real) + 0.1 * y.imag, None


def branches(p, x):
    """Either of two weights, as the example says."""
    first, second = ((p["a"][i], p["b"][i]) for i in (0, 1))
    one = lambda v: lax.cond(v.sum() > 0, lambda v: product(v, *first).imag, lambda v: product(v, *second).real, v)  # noqa: E731
    return lax.map(one, x)


def modes(p, x):
    """A filter of Fourier modes."""
    kept = jnp.einsum("nk,ko->no", jnp.fft.rfft(x, axis=1), lax.complex(p["a"][:3], p["b"][:3]))
    return jnp.fft.irfft(kept, n=4, axis=1)


def arithmetic(p, x):
    """Real, imaginary and scaled parts added, rearranged and multiplied from either side."""
    w = (2j * p["b"] - p["a"].astype(complex)).T[::-1].reshape(2, 8)[:, :4]
    return jnp.real(((1 + 2j) * x[:, :2]) @ w) + jnp.imag(w.T @ x[:, 2:].T.astype(complex)).T


# the function, its parameters, and how many leaves may fall back
WEIGHTS = {
    "modes": (modes, {"a": A, "b": B}, 0),
    "under jit": (lambda p, x: jnp.abs(jax.jit(product)(x, p["a"], p["b"])), {"a": A, "b": B}, 0),
    "parts along an axis": (
        lambda p, x: jnp.abs(x.astype(complex) @ (p["w"][..., 0] + 1j * p["w"][..., 1])),
        {"w": jnp.stack([A, B], -1)},
        0,
    ),
    "a real weight": (lambda p, x: jnp.abs(lax.complex(x, x**2) @ p["a"].astype(complex)), {"a": A}, 0),
    "arithmetic": (arithmetic, {"a": A, "b": B}, 0),
    "also by its modulus": (
        lambda p, x: jnp.abs(product(x, p["a"], p["b"])) + jnp.abs(lax.complex(p["a"], p["b"])).sum(0),
        {"a": A, "b": B},
        2,
    ),
    "a part times zero": (
        lambda p, x: jnp.abs(x.astype(complex) @ (p["a"].astype(complex) + 0j * p["b"])),
        {"a": A, "b": B},
        2,
    ),
    "layers": (lambda p, x: lax.scan(jax.checkpoint(turn), x, p)[0], STACK, 0),
    "recurrent": (lambda p, x: lax.scan(lambda h, _: turn(h, p), x, None, length=3)[0], {"a": A, "b": B}, 0),
    "branches": (branches, STACK, 0),
    "the Fourier matrix": (lambda p, x: jnp.abs((x @ p["a"]).astype(complex) @ np.fft.fft(np.eye(4))), {"a": A}, 0),
}


def flattened(f, params, x):
    """[n, o, P] by jacrev."""
    leaves = jax.tree.leaves(jax.jacrev(f)(params, x))
    return np.concatenate([np.asarray(j).reshape(*j.shape[:2], -1) for j in leaves], -1)


@pytest.mark.parametrize("name", [n if n == "modes" else pytest.param(n, marks=pytest.mark.slow) for n in WEIGHTS])
def test_complex_weights_have_rules(name, float64):
    """What JAX keeps of the function is not changed: its Jacobian is the same before and after."""
    f, params, fallbacks = WEIGHTS[name]
    params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, X))
    with relaxed_promotion():
        jacobian = flattened(f, params, x)
        actual = empirical.ntk(f, params, x, method="structured")
        rows = empirical.explain(f, params, x).rows
        np.testing.assert_array_equal(flattened(f, params, x), jacobian)
    expected = np.einsum("ikp,jlp->ijkl", jacobian, jacobian)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * abs(expected).max())
    assert sum(row.rule == "fallback" and "cheaper" not in row.detail for row in rows) == fallbacks


def test_complex_weights_of_each_number_are_direct(float64):
    """A filter of frequencies and a diagonal state: number by number, so the Jacobian is no larger."""

    def f(p, x):
        filtered = jnp.fft.irfft(lax.complex(p["a"], p["b"]) * jnp.fft.rfft(x, axis=1), n=4, axis=1)
        state = lambda h, u: (lax.complex(p["c"], p["d"]) * h + u, None)  # noqa: E731
        return lax.scan(state, jnp.zeros(len(x), complex), filtered.T.astype(complex))[0].real[:, None]

    params = {name: jnp.asarray(RNG.normal(size=3 if name in "ab" else ())) for name in "abcd"}
    x = jnp.asarray(X, jnp.float64)
    with relaxed_promotion():
        jacobian = flattened(f, params, x)
        actual = empirical.ntk(f, params, x, method="structured")
        rows = empirical.explain(f, params, x).rows
    expected = np.einsum("ikp,jlp->ijkl", jacobian, jacobian)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * abs(expected).max())
    assert [row.rule for row in rows] == ["direct"] * 4
