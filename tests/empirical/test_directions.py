"""Output directions taken in parts: the same kernels, within a bound on memory that many outputs do not break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import empirical
from jaxtheory.empirical.outputs import cotangents, numbered, output_spec


def per_example(params, x):
    return jnp.einsum("nf,fab->nab", jnp.tanh(x @ params["w"]), params["v"])


def problem():
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape))  # noqa: E731
    return {"w": draw(4, 6), "v": draw(6, 7, 3)}, draw(3, 4)


def kernels():
    """The full kernel by jax.jacrev, and what each output keeps of it."""
    params, x = problem()
    leaves = jax.tree.leaves(jax.jacrev(per_example)(params, x))
    flat = [np.asarray(leaf).reshape(3, 21, -1) for leaf in leaves]
    full = sum(np.einsum("ikp,jlp->ijkl", j, j) for j in flat).reshape(3, 3, 7, 3, 7, 3)
    return {
        "full": full,
        "trace": np.einsum("ijabab->ij", full) / 21,
        "diagonal": np.einsum("ijabab->ijab", full),
        (0,): np.einsum("ijabac->ijbc", full) / 7,
    }


@pytest.mark.smoke
def test_parts_hold_every_direction_once():
    """Seven by three directions in parts of two by two, padded by zeros."""
    spec = output_spec((0,), (7, 3))
    numbers = numbered(spec, spec._replace(traced=2, kept=2))
    assert numbers.shape == (4, 2, 4)
    basis = np.concatenate(
        [np.asarray(cotangents(spec, jnp.dtype("float32"), part)) for part in numbers.reshape(-1, 4)]
    )
    basis = basis.reshape(len(basis), -1)
    assert sorted(basis.sum(1)) == [0.0] * 11 + [1.0] * 21
    np.testing.assert_array_equal(basis.T @ basis, np.eye(21))


SLOW = [("jacobian", "trace"), ("jacobian", "diagonal"), ("products", "trace"), ("products", "full"),
        ("products", "diagonal"), ("jacobian", "full"), ("structured", "diagonal"), ("structured", (0,)),
        ("directions", "trace"), ("directions", "diagonal"), ("directions", (0,)), ("jacobian", (0,))]  # fmt: skip
FAST = [("structured", "trace"), ("structured", "full"), ("directions", "diagonal")]


@pytest.mark.parametrize(
    ("method", "output"), [*FAST, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW if pair not in FAST)]
)
@pytest.mark.first_case
def test_parts_give_the_same_numbers(method, output, float64):
    """With one input and with two, where memory allows but few directions at a time."""
    params, x = problem()
    expected = kernels()[output]
    # what a sweep of few directions needs, and no sweep of all
    need = empirical.explain(per_example, params, x, output=output, method=method).methods[method].bytes
    memory = need / 8
    table = empirical.explain(per_example, params, x, output=output, method=method, block=1, memory=memory)
    assert table.directions < 21
    for second in (None, x[:2]):
        actual = empirical.ntk(per_example, params, x, second, output=output, method=method, block=1, memory=memory)
        wanted = expected if second is None else expected[:, :2]
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-12 * abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "output"), [("structured", "trace"), ("directions", "diagonal"), ("jacobian", "full")]
)
def test_parts_over_a_mesh(method, output, float64):
    """Rows over eight devices, each of which goes over the parts."""
    params, x = problem()
    expected, options = kernels()[output], {"output": output, "method": method, "memory": 2e3, "block": 1}
    assert empirical.explain(per_example, params, x, **options).directions < 21
    actual = empirical.ntk(per_example, params, x, mesh=jax.make_mesh((8,), ("rows",)), **options)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * abs(expected).max())


def language_model(layers, width, vocabulary, tokens):
    """Shapes and logits of the last token of a transformer without attention's mask."""
    shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)  # noqa: E731
    layer = {"qkv": shape(width, 3 * width), "o": shape(width, width), "up": shape(width, 2 * width),
             "down": shape(2 * width, width), "scale": shape(width)}  # fmt: skip
    params = {"table": shape(vocabulary, width), "out": shape(width, vocabulary), "layers": [layer] * layers}

    def normal(h, scale):
        return h * jax.lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-6) * scale[None, None]

    def f(params, x):
        h = params["table"][x]
        for p in params["layers"]:
            heads = (normal(h, p["scale"]) @ p["qkv"]).reshape(*h.shape[:2], 4, -1)
            q, k, v = jnp.split(heads, 3, axis=-1)
            weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k), axis=-1)
            h = h + jnp.einsum("bhts,bshd->bthd", weights, v).reshape(h.shape) @ p["o"]
            h = h + jax.nn.relu(normal(h, p["scale"]) @ p["up"]) @ p["down"]
        return h[:, -1] @ params["out"]

    return f, params, lambda n: jax.ShapeDtypeStruct((n, tokens), jnp.int32)


def temporaries(f, params, x, **options):
    compiled = jax.jit(lambda p, x: empirical.ntk(f, p, x, **options)).lower(params, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


ONE_PAIR = [{"output": "trace", "block": 1}, {"output": "diagonal"}, {"output": "full", "block": 1}]


@pytest.mark.parametrize(
    "options", [{"output": "trace"}, *(pytest.param(option, marks=pytest.mark.slow) for option in ONE_PAIR)]
)
def test_memory_is_kept_with_many_outputs(options, unchecked):
    """Twice the gradients of one output, for 300 outputs: all directions of one pair of examples would not fit."""
    f, params, x = language_model(1, 32, 300, 8)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    bound = 2 * 8 * count * 4
    # the blocks of the full kernel are put in order in a second copy of it
    copy = 4 * (8 * 300) ** 2 if options["output"] == "full" else 0
    assert temporaries(f, params, x(8), memory=bound, **options) <= bound + copy


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"block": 1}])
def test_a_language_model_needs_twice_the_memory_of_a_loop(options, unchecked):
    """Six layers of width 256, a thousand words: by default at most 2 n P numbers."""
    f, params, x = language_model(6, 256, 1000, 64)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert temporaries(f, params, x(16), output="trace", **options) <= 2 * 16 * count * 4


@pytest.mark.parametrize(
    ("method", "outputs", "n"),
    [
        ("jacobian", 1, 43),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("jacobian", 12, 64), ("directions", 12, 43)]),
    ],
)
def test_memory_is_kept_in_blocks_that_are_not_full(method, outputs, n):
    """Rows held once, not once more without what the last block repeats, and both sides of crossed directions."""
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(64, 300), (300, outputs)]]
    count, x = 300 * (64 + outputs), jax.ShapeDtypeStruct((n, 64), jnp.float32)
    bound = outputs * n * count * 2
    assert temporaries(lambda p, x: jnp.tanh(x @ p[0]) @ p[1], params, x, method=method, memory=bound) <= bound
