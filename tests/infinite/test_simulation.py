"""Against Monte Carlo: drawn networks of many kinds have the kernels of their limit, within standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from infinite.simulation import measure, structs
from infinite.zoo import NETWORKS, Network, as_written

from jaxtheory import infinite
from jaxtheory.infinite import prior

WIDTH, OUTPUTS, DRAWS = 128, 64, 48
RULE = prior.ntk(1.3, 0.4)
FAST = ("tied attention", "siamese")


def front(path, shape):
    """Weights (and kernels OIHW) whose outputs are their first axis."""
    return RULE(path, (*shape[1:], shape[0]) if path != "o" else shape)


RULES = {"weights on the left": front, "channels first": front}


def agree(net: Network, rule, seed: int, draws: infinite.MonteCarlo | None = None) -> None:
    """Within 5 standard errors and the bias of finite width, which is of order 1/width times the kernel's size."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, net.tokens, (3, *net.example)) if net.tokens else rng.standard_normal((3, *net.example))
    x = jnp.asarray(x, jnp.int32 if net.tokens else jnp.float32)
    f = as_written(net.f)
    shapes = structs(net.shapes(WIDTH, 1), jnp.float32)
    limit = infinite.limit(f, shapes, x, prior=rule, monte_carlo=draws).estimate(x)
    found = measure(f, net.shapes(WIDTH, OUTPUTS), rule, x, jax.random.key(seed), DRAWS, OUTPUTS)
    for kernel, own, mean, drawn in (
        (limit.nngp, limit.nngp_error, found.nngp, found.nngp_error),
        (limit.ntk, limit.ntk_error, found.ntk, found.ntk_error),
    ):
        error = np.hypot(np.asarray(own), drawn)
        bias = 4 / WIDTH * np.abs(mean).max() + 1e-5  # and what single precision leaves of an exact zero
        z = (np.abs(np.asarray(kernel) - mean) - bias) / error
        assert z.max() < 5, f"z = {z.max():.1f}"


@pytest.mark.parametrize("name", FAST)
@pytest.mark.first_case
@pytest.mark.slow
def test_drawn_networks_have_the_kernels_of_the_limit(name):
    """A few of them in every run."""
    agree(NETWORKS[name], RULE, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in FAST])
def test_every_network_has_the_kernels_of_its_limit(name):
    """All of them."""
    agree(NETWORKS[name], RULES.get(name, RULE), 1)


# random networks: a program of operations on (batch, tokens, channels), each with weights of its own


def _dense(p, h):
    return jnp.einsum("btc,cd->btd", h, p["w"]) + p["b"]


def _norm(p, h):
    h = h - h.mean(-1, keepdims=True)
    return h / jnp.sqrt((h**2).mean(-1, keepdims=True) + 0.01)


def _attend(p, h):
    scores = jax.nn.softmax(jnp.einsum("btc,bsc->bts", h, h) / h.shape[-1], axis=-1)
    return jnp.einsum("bts,bsc->btc", scores, h)


OPERATIONS = {
    "dense": _dense,
    "relu": lambda p, h: jax.nn.relu(h),
    "erf": lambda p, h: jax.lax.erf(h),
    "residual": lambda p, h: h + jax.nn.relu(_dense(p, h)),
    "gate": lambda p, h: h * jax.lax.erf(_dense(p, h)),
    "square": lambda p, h: h * h,
    "norm": _norm,
    "shift": lambda p, h: jnp.concatenate([h[:, 1:], h[:, :1]], 1),
    "reverse": lambda p, h: h[:, ::-1],
    "running sum": lambda p, h: jnp.cumsum(h, 1) / 2,
    "centre tokens": lambda p, h: h - h.mean(1, keepdims=True),
    "attention": _attend,
    "halves": lambda p, h: jnp.concatenate([h[..., h.shape[-1] // 2 :], h[..., : h.shape[-1] // 2] ** 2], -1),
    "scale": lambda p, h: 0.7 * h + 0.2,
}


def program(names):
    """The network of a list of operations, and its shapes."""

    def f(p, x):
        h = _dense(p["in"], x)
        for i, name in enumerate(names):
            h = OPERATIONS[name](p[f"layer{i}"], h)
        return h.mean(1) @ p["out"]

    def shapes(n, o):
        layers = {f"layer{i}": {"w": (n, n), "b": (n,)} for i in range(len(names))}
        return {"in": {"w": (3, n), "b": (n,)}, **layers, "out": (n, o)}

    return Network(f, shapes, (3, 3))


def composed(names, seed, draws=None):
    """Whether there was a limit to compare with."""
    try:
        agree(program(names), RULE, seed, draws)
    except infinite.NoLimitError as refusal:
        assert "has no infinite-width limit here" in str(refusal)  # noqa: PT017
        return False
    return True


@pytest.mark.slow
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=4), st.integers(0, 100))
def test_random_networks_agree_or_are_refused(names, seed):
    """No list of architectures: whatever is composed is right, or says that it is not handled."""
    composed(names, seed)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=2, max_size=6), st.integers(0, 100))
def test_many_random_networks_agree_or_are_refused(names, seed):
    """More and longer ones; what is refused is drawn, or refused again."""
    if not composed(names, seed):
        composed(names, seed, infinite.MonteCarlo(jax.random.key(seed), 128, 16))
