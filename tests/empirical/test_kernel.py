"""Every way of computing the tangent kernel, against explicit Jacobians from jax.jacrev."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from empirical.architectures import NETWORKS, draw
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close

from jaxtheory import empirical
from jaxtheory.empirical import blocks, cost, kernel, structured
from scripts import benchmark_ntk


@partial(jax.jit, static_argnames="f")
def oracle(f, params, x1, x2):
    """J(x1) J(x2)ᵀ by jacrev, [n1, n2, *out, *out]."""
    first, second = (jax.tree.leaves(jax.jacrev(f)(params, x)) for x in (x1, x2))
    out = jax.eval_shape(f, params, x1).shape[1:]
    flat = lambda j, n: j.reshape(n, max(1, int(np.prod(out))), -1)  # noqa: E731
    total = sum(
        jnp.einsum("ikp,jlp->ijkl", flat(a, len(x1)), flat(b, len(x2)), precision="highest")
        for a, b in zip(first, second, strict=True)
    )
    return total.reshape(len(x1), len(x2), *out, *out)


# one of every family of primitives; the others are run with the slow tests
FAST = {
    *("dense", "einsum layouts", "conv", "conv, dilated and grouped", "transposed conv", "embedding", "layer norm"),
    *("scan over layers", "remat", "cond", "custom rules", "scaled weights", "tied embedding", "image output"),
}
ARCHITECTURES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
SLOW_32 = [pytest.param("float32", marks=pytest.mark.slow), "float64"]


@pytest.mark.parametrize("dtype", SLOW_32, indirect=True)
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.first_case
def test_structured_is_the_contraction_of_jacobians(name, dtype, key):
    """Both strategies of every group: rows kept apart and rows summed."""
    network = NETWORKS[name]
    params, x = draw(network, key, 5, dtype)
    expected = oracle(network.f, params, x, x[:3])
    assert_close(kernel.ntk(network.f, params, x, x[:3], method="structured"), expected, condition=30)
    found = structured.structure(network.f, params, x)
    assert sum(leaf.rule == "fallback" for leaf in found.leaves) == network.fallbacks


REDUCTIONS = {
    "full": lambda theta: theta,
    "trace": lambda theta: jnp.einsum("ijkk->ij", theta) / theta.shape[2],
    "diagonal": lambda theta: jnp.einsum("ijkk->ijk", theta),
    "sum-of-logits": lambda theta: theta.sum((2, 3)) / theta.shape[2],
}


SLOW_OUTPUTS = [pytest.param(output, marks=pytest.mark.slow) for output in ("diagonal", "trace", "sum-of-logits")]
SLOW_METHODS = [pytest.param(method, marks=pytest.mark.slow) for method in ("auto", "jacobian", "products")]


@pytest.mark.parametrize("output", ["full", *SLOW_OUTPUTS])
@pytest.mark.parametrize("method", ["structured", *SLOW_METHODS])
@pytest.mark.slow
def test_every_method_block_and_mesh_gives_the_same_numbers(method, output, float64, key):
    """To 1e-10 in float64, for both inputs alike and for two; 7 examples divide into no block and no 8 devices."""
    network = NETWORKS["conv"]
    params, x = draw(network, key, 7, float64)
    full, mesh = oracle(network.f, params, x, x), jax.make_mesh((8,), ("rows",))
    expected = REDUCTIONS[output](full)
    for options in ({}, {"block": 2}, {"block": (3, 2)}, {"mesh": mesh}):
        one = kernel.ntk(network.f, params, x, output=output, method=method, **options)
        two = kernel.ntk(network.f, params, x, x[:4], output=output, method=method, **options)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-10 * abs(expected).max())
        np.testing.assert_allclose(two, expected[:, :4], rtol=0, atol=1e-10 * abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("output", ["full", "diagonal"])
def test_strips_give_the_same_numbers(output, float64, key, monkeypatch):
    """Small kernels are taken in one piece; told that a loop costs nothing, in strips with half the pairs left out."""
    network = NETWORKS["conv"]
    params, x = draw(network, key, 7, float64)
    monkeypatch.setattr(cost, "LOOP_FLOPS", 0)
    anew = lambda params, x: network.f(params, x)  # noqa: E731
    assert empirical.explain(anew, params, x, output=output).rows_per_block == 2
    expected = REDUCTIONS[output](oracle(network.f, params, x, x))
    actual = kernel.ntk(anew, params, x, output=output, method="structured")
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("axes", [(0,), (1, 2), (-1,)])
def test_contraction_over_given_output_axes(axes, float64, key):
    """The mean over equal indices of the given axes; the others stay twice."""
    network = NETWORKS["image output"]
    params, x = draw(network, key, 2, float64)
    letters = ["abc", "def"]
    positive = [axis % 3 for axis in axes]
    second = "".join(letters[0][i] if i in positive else letters[1][i] for i in range(3))
    kept = [[c for i, c in enumerate(side) if i not in positive] for side in (letters[0], second)]
    full = oracle(network.f, params, x, x)
    count = int(np.prod([full.shape[2 + i] for i in positive]))
    expected = jnp.einsum(f"ij{letters[0]}{second}->ij{''.join(kept[0] + kept[1])}", full) / count
    assert_close(kernel.ntk(network.f, params, x, output=axes, method="structured"), expected, condition=30)


@pytest.mark.smoke
def test_symmetric_calls_do_half_the_work(key):
    """Of 8 by 8 blocks the 36 on and above the diagonal are contracted, the others never."""

    def pair(first, second):
        return jnp.einsum("ip,jp->ij", first, second)[:, None, :, None]

    x = jax.random.normal(key, (64, 3))
    half = jax.jit(lambda x: blocks.symmetric(lambda x: x, pair, x, blocks.Tiles(8, 64, True)))
    jaxpr = jax.make_jaxpr(half)(x)
    trips = [e.params["length"] for e in _equations(jaxpr.jaxpr) if e.primitive.name == "scan"]
    assert trips == [36]
    assert_close(half(x)[:, 0, :, 0], x @ x.T)


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


def test_kernel_is_differentiable(float64, key):
    """Against a central difference whose error is h^2."""
    network = NETWORKS["dense"]
    params, x = draw(network, key, 3, float64)
    direction = jax.tree.map(jnp.ones_like, params)
    moved = lambda t: kernel.ntk(network.f, jax.tree.map(lambda p: p + t, params), x, method="structured").sum()  # noqa: E731
    slope = jax.grad(lambda p: kernel.ntk(network.f, p, x, method="structured").sum())(params)
    exact = sum(jnp.vdot(s, d) for s, d in zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True))
    step = 1e-4
    assert abs((moved(step) - moved(-step)) / (2 * step) - exact) < 100 * step**2 * abs(exact)


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["mlp n=128 o=10", pytest.param("cnn n=64 o=10", marks=pytest.mark.slow)])
def test_memory_is_a_quarter_of_the_jacobians(name, unchecked):
    """Compiled temporaries stay below n*o*P*itemsize/4, with no fallback: contracting Jacobians cannot pass."""
    case = benchmark_ntk.CASES[name]()
    quarter = len(case.x) * 10 * sum(leaf.size for leaf in jax.tree.leaves(case.params)) * 4 / 4
    with relaxed_promotion():
        lowered = jax.jit(lambda p, x: kernel.ntk(case.f, p, x, memory=quarter)).lower(case.params, case.x)
        table = empirical.explain(case.f, case.params, case.x, memory=quarter)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < quarter
    assert table.chosen == "structured"
    assert not table.fallbacks


@pytest.mark.slow
def test_memory_is_what_it_is_told(unchecked):
    """One output of the CNN in a quarter of its Jacobians, below the bound by default; and an impossible bound."""
    case = benchmark_ntk.CASES["cnn n=64 o=1"]()
    quarter = 64 * sum(leaf.size for leaf in jax.tree.leaves(case.params)) * 4 / 4
    with relaxed_promotion():
        lowered = jax.jit(lambda p, x: kernel.ntk(case.f, p, x, memory=quarter)).lower(case.params, case.x)
        with pytest.raises(ValueError, match="memory must hold one pair"):
            empirical.explain(case.f, case.params, case.x, memory=1e4)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < quarter


@pytest.mark.slow
def test_sweeps_give_the_same_numbers(float64, key):
    """Little memory means more sweeps over channels, not another kernel."""
    network, memory = NETWORKS["conv"], 5.2e4
    params, x = draw(network, key, 7, float64)
    assert empirical.explain(network.f, params, x, method="structured", memory=memory).sweeps > 1
    actual = kernel.ntk(network.f, params, x, method="structured", memory=memory)
    assert_close(actual, oracle(network.f, params, x, x), condition=30)


def test_explain_names_what_it_does_not_understand(key):
    """One fallback each, with its reason."""
    reasons = {
        "weight norm": "div, integer_pow",
        "masked weights": "mul",
        "binary weights, straight through": "custom_vjp_call with a derivative that is not its function's",
        "product of parameters": "a product with another parameter",
    }
    for name, reason in reasons.items():
        network = NETWORKS[name]
        params, x = draw(network, key, 3, jnp.float32)
        table = empirical.explain(network.f, params, x)
        assert len(table.fallbacks) == 1
        assert reason in table.fallbacks[0].detail, table.fallbacks[0].detail
        assert "fallback" in str(table)


def test_a_tile_of_one_copy_only_rearranges(key):
    """As a class token for each example of a batch of one."""
    f = lambda p, x: jnp.tanh(jnp.tile(p["token"], (len(x), 1)) @ p["w"] + x @ p["w"])  # noqa: E731
    params = {"token": jnp.ones((1, 3)), "w": jax.random.normal(key, (3, 2))}
    assert not [row for row in empirical.explain(f, params, jnp.ones((2, 3))).rows if "tile" in row.detail]


@pytest.mark.parametrize("method", ["structured", "jacobian", "products"])
@pytest.mark.parametrize("output", ["trace", "full"])
def test_outputs_that_no_parameter_enters_have_the_kernel_zero(method, output):
    kernel = empirical.ntk(lambda p, x: 2 * x, {"w": jnp.ones((2, 2))}, jnp.ones((3, 2)), method=method, output=output)
    np.testing.assert_array_equal(kernel, np.zeros((3, 3) if output == "trace" else (3, 3, 2, 2)))


def test_bad_input_is_refused(unchecked):
    x, w = jnp.ones((4, 3)), jnp.ones((3, 2))
    dense = lambda w, x: x @ w  # noqa: E731
    cases = [
        ("have a batch axis first", lambda w, x: (x @ w).sum(), w, {}),
        ("floating-point outputs", lambda w, x: (x @ w > 0).astype(jnp.int32), w, {}),
        ("params must be a floating-point array", dense, jnp.ones((3, 2), jnp.int32), {}),
        ("lie within the 4 by 4 examples", dense, w, {"block": 5}),
        ("lie within", dense, w, {"block": (2, 0)}),
        ("output must be one of", dense, w, {"output": "mean"}),
        ("method must be one of", dense, w, {"method": "fast"}),
        ("return one array", lambda w, x: (x @ w, x), w, {}),
        (
            "while loop",
            lambda w, x: jax.lax.while_loop(lambda h: h.sum() < 9, lambda h: 2 * h, (x @ w) ** 2),
            w,
            {},
        ),
    ]
    for message, f, params, options in cases:
        with pytest.raises(ValueError, match=message):
            kernel.ntk(f, params, x, **options)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(["dense", "scale", "conv", "residual", "twice", "norm"]), min_size=1, max_size=4),
    st.integers(0, 2**16),
)
def test_random_networks(kinds, seed):
    """Compositions drawn by hypothesis, against jacrev in float64."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), len(kinds) + 1)
        params = [
            jax.random.normal(k, {"conv": (3, 1, 1), "scale": (4,)}.get(kind, (4, 4)))
            for k, kind in zip(keys, kinds, strict=False)
        ]
        x = jax.random.normal(keys[-1], (3, 4))
        f = lambda params, x: random_network(kinds, params, x)  # noqa: E731
        actual = kernel.ntk(f, params, x, method="structured")
        assert_close(actual, oracle(f, params, x, x), condition=100)


def random_network(kinds, params, x):
    """One layer a kind; each keeps 4 features."""
    for kind, p in zip(kinds, params, strict=True):
        if kind == "conv":
            x = jax.lax.conv_general_dilated(x[:, :, None], p, (1,), "SAME", dimension_numbers=("NTC", "TIO", "NTC"))[
                ..., 0
            ]
        elif kind == "scale":
            x = jnp.sin(x * p[None, :])
        elif kind == "twice":
            x = jnp.tanh(jnp.tanh(x @ p) @ p)
        elif kind == "norm":
            x = (x @ p) / jnp.sqrt(1 + ((x @ p) ** 2).sum(-1, keepdims=True))
        else:
            x = jnp.tanh(x @ p) + (x if kind == "residual" else 0 * x)
    return x
