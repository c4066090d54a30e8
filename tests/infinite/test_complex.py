"""Complex activations are their real and imaginary parts, and known masks and orders of channels what they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure, structs
from infinite.test_scores import agree
from infinite.zoo import as_written
from jax import lax

from jaxtheory import infinite
from jaxtheory.infinite import prior

RULE = prior.ntk(1.3, 0.2)
X = jnp.asarray(np.random.default_rng(6).standard_normal((3, 2, 4)), jnp.float32)
TURN = np.exp(1j * np.array([0.3, 1.1])[:, None]).astype(np.complex64)


def shapes(n, outputs):
    return {**dict.fromkeys("ab", (4, n)), "w": (n, outputs)}


def parts(p, x):
    return x @ p["a"], x @ p["b"]


def turned(p, x):
    z = lax.complex(*parts(p, x)) * TURN
    return jax.nn.relu(z.real).mean(1) @ p["w"]


def turned_in_reals(p, x):
    a, b = parts(p, x)
    return jax.nn.relu(a * TURN.real - b * TURN.imag).mean(1) @ p["w"]


def of_many_operations(p, x):
    """A sum with a conjugate, a quotient, a reshape, a transpose and a slice."""
    a, b = parts(p, x)
    z = lax.complex(a, b)
    z = (2 * z + jnp.conj(z) * TURN) / TURN
    z = -z.transpose(1, 0, 2).reshape(2, -1, 1, z.shape[-1])[:, :, 0].transpose(1, 0, 2)
    return jax.nn.relu(z[:, :1].imag).sum(1) @ p["w"]


def of_many_operations_in_reals(p, x):
    """Im of −(2z / t + z̄), whose 1 / t is the conjugate of t."""
    (a, b), t = parts(p, x), TURN[0, 0]
    return jax.nn.relu(-(2 * (b * t.real - a * t.imag) - b))[:, :1].sum(1) @ p["w"]


def both(f, **options):
    return infinite.limit(as_written(f), structs(shapes(32, 1), jnp.float32), X, prior=RULE, **options).both(X)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (turned, turned_in_reals),
        pytest.param(of_many_operations, of_many_operations_in_reals, marks=pytest.mark.slow),
    ],
)
def test_operations_are_those_of_the_parts(one, other):
    """Complex arithmetic against its formula."""
    found, expected = both(one, check_width=False), both(other, check_width=False)
    np.testing.assert_allclose(found.nngp, expected.nngp, rtol=2e-6)
    np.testing.assert_allclose(found.ntk, expected.ntk, rtol=2e-6)
    assert float(found.nngp[0, 0]) > 0


def test_other_operations_on_complex_values_are_refused():
    """A modulus is a function of two Gaussians: as two arrays it may be drawn."""
    with pytest.raises(infinite.NoLimitError, match=r"complex values.*as two arrays") as caught:
        both(lambda p, x: jnp.abs(lax.complex(*parts(p, x))).mean(1) @ p["w"])
    assert "test_complex.py:" in str(caught.value)


def every(count):
    return lambda n: np.arange(n) % count == 0


def of_hidden(change):
    def f(p, x):
        return change(jax.nn.relu(x[:, 0] @ p["a"])) @ p["w"]

    return f


CHANNELS = {
    "a mask": (lambda h: h * every(4)(h.shape[-1]), 1 / 4),
    "a choice": (lambda h: jnp.where(every(2)(h.shape[-1]), h, 0.0), 1 / 2),
    "a choice of two": (lambda h: jnp.where(every(4)(h.shape[-1]), 3 * h, h), 9 / 4 + 3 / 4),
    "a shuffle": (lambda h: h.reshape(len(h), 4, -1).swapaxes(1, 2).reshape(h.shape), 1),
    "unequal parts": (lambda h: jnp.concatenate(jnp.split(h, [h.shape[-1] // 4], -1)[::-1], -1), 1),
}


@pytest.mark.parametrize(
    "name", [n if n in ("a choice", "a shuffle") else pytest.param(n, marks=pytest.mark.slow) for n in CHANNELS]
)
def test_known_numbers_of_channels_are_averaged(name):
    """Both kernels are those of the plain network times the mean square of the numbers."""
    change, factor = CHANNELS[name]
    rule = prior.ntk(1.3)
    given = structs(shapes(32, 1), jnp.float32)
    plain, found = (
        infinite.limit(as_written(of_hidden(c)), given, X, prior=rule, check_width=False).both(X)
        for c in (lambda h: h, change)
    )
    np.testing.assert_allclose(found.nngp, factor * plain.nngp, rtol=2e-5)
    np.testing.assert_allclose(found.ntk, factor * plain.ntk, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CHANNELS, "complex"])
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    f = as_written(turned if name == "complex" else of_hidden(CHANNELS[name][0]))
    exact = infinite.limit(f, structs(shapes(64, 1), jnp.float32), X, prior=RULE).estimate(X)
    agree(exact, measure(f, shapes(512, 64), RULE, X, jax.random.key(3), 32, 64), 512)


@pytest.mark.slow
def test_another_order_of_channels_is_left_out():
    """The step that the message names gives the limit: drawn networks with the order have it too."""
    flipped = of_hidden(lambda h: h[:, ::-1])
    with pytest.raises(infinite.NoLimitError, match="leave out an order of channels"):
        both(flipped)
    with pytest.raises(infinite.NoLimitError, match="leave out an order of channels"):
        both(of_hidden(lambda h: h[:, np.random.default_rng(0).permutation(h.shape[-1])]))
    exact = infinite.limit(
        as_written(of_hidden(lambda h: h)), structs(shapes(64, 1), jnp.float32), X, prior=RULE, check_width=False
    ).estimate(X)
    agree(exact, measure(flipped, shapes(512, 64), RULE, X, jax.random.key(4), 8, 64), 512)
