"""Kernels by groups of parameters, against Jacobians of each leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tolerances import assert_close

from jaxtheory import empirical

PARAMS = {"one": {"b": (4,), "w": (3, 4)}, "two": {"lora_a": (4, 2), "lora_b": (2, 2), "w": (4, 2)}}


def net(p, x):
    h = jnp.tanh(x @ p["one"]["w"] + p["one"]["b"][None])
    return h @ p["two"]["w"] + h @ p["two"]["lora_a"] @ p["two"]["lora_b"]


@pytest.fixture
def drawn(float64, key):
    shapes, tree = jax.tree.flatten(PARAMS, is_leaf=lambda s: isinstance(s, tuple))
    keys = jax.random.split(key, len(shapes) + 1)
    leaves = [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False)]
    return jax.tree.unflatten(tree, leaves), jax.random.normal(keys[-1], (5, 3))


def by_leaf(params, x1, x2):
    """Θ of each leaf by its path, from jacrev."""
    first, second = (jax.tree_util.tree_leaves_with_path(jax.jacrev(net)(params, x)) for x in (x1, x2))
    flat = lambda j: np.asarray(j).reshape(*j.shape[:2], -1)  # noqa: E731
    return {
        jax.tree_util.keystr(path): np.einsum("ikp,jlp->ijkl", flat(a), flat(b))
        for (path, a), (_, b) in zip(first, second, strict=True)
    }


def summed(leaves, *words):
    return sum(kernel for path, kernel in leaves.items() if any(word in path for word in words))


@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_leaves_layers_and_patterns(drawn, method):
    params, x = drawn
    leaves = by_leaf(params, x, x[:2])
    found = empirical.ntk_by_group(net, params, x, x[:2], groups="leaf", method=method)
    assert list(found) == list(leaves)
    for name, kernel in found.items():
        assert_close(kernel, leaves[name], condition=30)
    layers = empirical.ntk_by_group(net, params, x, x[:2], method=method)
    assert_close(layers["['one']"], summed(leaves, "one"), condition=30)
    assert_close(layers["['two']"], summed(leaves, "two"), condition=30)
    assert len(layers) == 2
    lora = empirical.ntk_by_group(net, params, x, x[:2], groups={"lora": "lora_[ab]"}, method=method)
    assert list(lora) == ["lora"]
    assert_close(lora["lora"], summed(leaves, "lora"), condition=30)


def test_groups_add_up_to_the_kernel(drawn):
    params, x = drawn
    biases = lambda path: "vectors" if "'b'" in path else "matrices"  # noqa: E731
    for output in ("trace", "diagonal"):
        found = empirical.ntk_by_group(net, params, x, groups=biases, output=output)
        assert set(found) == {"vectors", "matrices"}
        assert_close(sum(found.values()), empirical.ntk(net, params, x, output=output), condition=30)


def test_a_flax_module_has_its_layers(key):
    f, params = empirical.from_nnx(
        nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 1, rngs=nnx.Rngs(1)))
    )
    x = jax.random.normal(key, (3, 3))
    found = empirical.ntk_by_group(f, params, x, output="trace")
    assert len(found) == 2  # weights and bias of each
    assert_close(sum(found.values()), empirical.ntk(f, params, x, output="trace"), condition=30)


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        ({"a": "conv"}, r"groups must find parameters among .*got groups=\{'a': 'conv'\}"),
        ({"a": "one", "b": "w"}, r"put each parameter into one group, got .*\['one'\]\['w'\]"),
        ("module", "be 'leaf', 'layer', a mapping or a function"),
        (lambda path: None, "name at least one"),
        ({}, "name at least one"),
    ],
)
def test_groups_that_say_nothing_are_named(drawn, groups, match):
    with pytest.raises(ValueError, match=match):
        empirical.ntk_by_group(net, *drawn, groups=groups)
