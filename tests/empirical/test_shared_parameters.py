"""Parameters read in several ways, in pieces or as other types: kernels against explicit Jacobians in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxtheory import empirical

RNG = np.random.default_rng(0)
X, W, U = (RNG.normal(size=shape) for shape in ((2, 4), (4, 4), (4, 4)))
STACK, BIASES = RNG.normal(size=(3, 4, 4)), RNG.normal(size=(3, 4))
TOKENS = RNG.integers(4, size=(2, 3))


def layers(x, stack):
    """A scan over dense layers."""
    return lax.scan(lambda h, layer: (jnp.tanh(h @ layer["w"] + layer["b"][None]), None), x, stack)[0]


def heads(p, x):
    """One weight with a bias that is a matrix, once as it is and once transposed."""
    first = jnp.tanh(jnp.einsum("ni,ihd->nhd", x, p["w"]) + p["b"][None]).sum(1)
    return first + jnp.sin(jnp.einsum("ni,ihd->nhd", x**2, p["w"]) + p["b"].T[None]).sum(2)


def state_space(p, x):
    """A diagonal state space in continuous time, discretized, over a sequence by an associative scan (S5)."""
    poles = lax.complex(-jnp.exp(p["decay"]), p["frequency"])
    turn = jnp.exp(poles * jnp.exp(p["step"]).astype(complex))
    into = lax.complex(p["b"], p["b_imaginary"]) * ((turn - 1) / poles)[:, None]
    out = lax.complex(p["c"], p["c_imaginary"])

    def one(inputs):
        driven = inputs.astype(complex) @ into.T
        join = lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1])  # noqa: E731
        states = lax.associative_scan(join, (jnp.broadcast_to(turn[None], driven.shape), driven))[1]
        return jnp.tanh(2 * jnp.real(states @ out.T) + p["d"][None] * inputs).mean(0)

    return jax.vmap(one)(x)


def standardized(p, x):
    """A weight of zero mean and unit variance for each unit."""
    moved = p["w"] - p["w"].mean(0, keepdims=True)
    return jnp.tanh(x @ (moved / jnp.sqrt(p["w"].var(0, keepdims=True) + 1e-5))) @ p["u"]


POLES = {name: RNG.normal(size=3) for name in ("decay", "frequency", "step")}
MAPS = {name: RNG.normal(size=(3, 2)) for name in ("b", "b_imaginary")}
READ = {"c": RNG.normal(size=(2, 3)), "c_imaginary": RNG.normal(size=(2, 3)), "d": RNG.normal(size=2)}

READ_TWICE = {
    "a diagonal state space": (state_space, POLES | MAPS | READ, RNG.normal(size=(2, 5, 2))),
    "weight standardization": (standardized, {"w": W, "u": U}, X),
    "a weight and a bias repeated by tile": (
        lambda p, x: jnp.tanh(x @ jnp.tile(p["w"], (2, 1)) + jnp.tile(p["b"], 2)[None]),
        {"w": W[:2], "b": U[0, :2]},
        X,
    ),
    "a complex weight of two real ones": (
        lambda p, x: jnp.abs(x.astype(complex) @ lax.complex(p["w"], p["u"])),
        {"w": W, "u": U},
        X,
    ),
    "rows and columns of one table": (
        lambda p, t: jnp.tanh(p["e"][t]).mean(1) + jnp.sin(p["e"].T[t]).sum(1),
        {"e": W},
        TOKENS,
    ),
    "two parts of one bias": (
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"] + p["b"][None, :4]) @ p["w"] + p["b"][None, 4:]),
        {"w": W, "b": BIASES.ravel()[:8]},
        X,
    ),
    "a bias and its reverse": (
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"] + p["b"][None]) @ p["w"] + p["b"][None, ::-1]),
        {"w": W, "b": BIASES[0]},
        X,
    ),
    "a bias and its transpose": (heads, {"w": STACK.reshape(4, 3, 4)[:, :, :3], "b": BIASES[:, :3]}, X),
    "layers with biases in either order": (
        lambda p, x: layers(x, p) + layers(x, {"w": p["w"], "b": p["b"][::-1]}),
        {"w": STACK, "b": BIASES},
        X,
    ),
    "layers in either order": (
        lambda p, x: layers(x, p) + layers(x, jax.tree.map(lambda a: a[::-1], p)),
        {"w": STACK, "b": BIASES},
        X,
    ),
    "parameters behind one barrier": (
        lambda p, x: (lambda w, u: jnp.tanh(x @ w) @ u)(*lax.optimization_barrier((p["w"], p["u"]))),
        {"w": W, "u": U},
        X,
    ),
    "a real weight among complex numbers": (
        lambda p, x: jnp.abs(lax.complex(x, x**2) @ p["w"].astype(complex)),
        {"w": W},
        X,
    ),
    "a weight also rounded to integers": (
        lambda p, x: jnp.tanh(x @ p["w"]) + (x.astype(int) @ (3 * p["w"]).astype(int)).astype(x.dtype),
        {"w": W},
        X,
    ),
    "leaves without entries": (
        lambda p, x: jnp.tanh(x @ p["w"]) + x[:, :0] @ p["none"],
        {"w": W, "none": np.zeros((0, 4)), "unused": np.ones((2, 0))},
        X,
    ),
    "a loop that never turns": (
        lambda p, x: lax.scan(lambda h, _: (jnp.tanh(h @ p["w"]), None), x, None, length=0)[0] @ p["w"],
        {"w": W},
        X,
    ),
}
FAST = {"rows and columns of one table", "two parts of one bias", "parameters behind one barrier"}


def jacobians(f, params, x):
    """[n, o, P] by jacrev."""
    found = [np.asarray(j) for j in jax.tree.leaves(jax.jacrev(f)(params, x)) if j.size]
    return np.concatenate([j.reshape(*j.shape[:2], -1) for j in found], axis=-1)


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in READ_TWICE])
def test_a_parameter_that_is_read_in_several_ways(name, float64):
    f, params, x = READ_TWICE[name]
    params, x = jax.tree.map(jnp.asarray, (params, x))
    j = jacobians(f, params, x)
    expected = np.einsum("ikp,jlp->ijkl", j, j)
    actual = empirical.ntk(f, params, x, method="structured")
    assert actual.dtype == jnp.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-13 * abs(expected).max())
