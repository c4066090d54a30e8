"""neural-tangents is there, TensorFlow is not, and JAX is as it was."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion

from jaxtheory import kernels
from jaxtheory.interop import neural_tangents

UNTOUCHED = """
import sys, jax, jax.core, jax.lax, jax.interpreters.ad
modules = jax, jax.core, jax.lax, jax.interpreters.ad
jax.lax.erf, jax.core.ShapedArray
before = [dict(vars(module)) for module in modules], set(sys.modules)
from jaxtheory.interop.neural_tangents import load
nt = load()
changed = [
    (module.__name__, name)
    for module, old in zip(modules, before[0])
    for name in set(old) | set(vars(module))
    if vars(module).get(name) is not old.get(name)
]
# A submodule that was imported on the way is an attribute of its package.
print([c for c in changed if not hasattr(getattr(sys.modules[c[0]], c[1], None), "__file__")])
print(sys.modules["jax.core"] is modules[1], "jax.util" in sys.modules, "tensorflow" in sys.modules)
print(nt.stax.Relu.__name__)
"""

HIDDEN = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "neural_tangents" else find(name, *rest)
from jaxtheory.interop.neural_tangents import load
load()
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)


def test_nothing_stays_patched_and_tensorflow_is_not_imported():
    """In a fresh process: every name of the four modules is the object it was."""
    done = run(UNTOUCHED)
    assert done.stdout.splitlines() == ["[]", "True False False", "Relu"], done.stdout + done.stderr


def test_without_it_the_error_says_how_to_install():
    done = run(HIDDEN)
    assert "ImportError: neural-tangents is not installed; install it with pip install" in done.stderr


def test_loading_twice_is_the_same_module():
    assert neural_tangents.load() is neural_tangents.load() is sys.modules["neural_tangents"]


@pytest.fixture(scope="module")
def relu():
    stax = neural_tangents.load().stax
    return stax.serial(stax.Dense(512, math.sqrt(2), None), stax.Relu(), stax.Dense(1, 1.0, None))


@pytest.mark.smoke
@pytest.mark.parametrize(("get", "expected"), [("ntk", (2, 0.942331, 0.318310, 0)), ("nngp", None)])
def test_kernel_of_a_relu_network_is_the_closed_form(relu, get, expected, float64):
    """Six published digits of the tangent kernel, and the arc-cosine formula, at four angles between unit vectors."""
    cosine = np.array([1.0, 0.5, 0.0, -1.0])
    theta = np.arccos(cosine)
    if expected is None:
        expected = (np.sin(theta) + (math.pi - theta) * cosine) / math.pi
    else:
        expected = np.asarray(expected) / 1.0
    x1 = jnp.asarray([[math.sqrt(2), 0.0]])
    x2 = jnp.asarray(math.sqrt(2) * np.stack([cosine, np.sin(theta)], 1))
    kernel = neural_tangents.as_kernel(relu[2], get)
    # Its inputs are divided by the square root of their number.
    np.testing.assert_allclose(kernel(x1, x2)[0], expected, atol=6e-7)
    np.testing.assert_allclose(jax.jit(kernel)(x1, x2)[0], expected, atol=6e-7)


def test_same_array_twice_has_the_exact_diagonal(relu, float64):
    x = jax.random.normal(jax.random.key(0), (5, 3))
    gram = neural_tangents.as_kernel(relu[2], "ntk")(x, x)
    np.testing.assert_allclose(np.diag(gram), 2 * (np.asarray(x) ** 2).mean(1), rtol=1e-14)


def test_it_is_a_kernel_function_like_any_other(relu, float64):
    """Blocks of a Gram matrix, and the whole."""
    x, kernel = jax.random.normal(jax.random.key(2), (7, 3)), neural_tangents.as_kernel(relu[2], "nngp")
    # Only the diagonal is not one argument twice in a block: √eps in the angle.
    np.testing.assert_allclose(kernels.gram(kernel, x, block=3), kernel(x, x), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:size requires ndarray:DeprecationWarning")  # neural-tangents' own
def test_empirical_kernels_run_but_for_structured_derivatives(relu, key):
    nt = neural_tangents.load()
    init_fn, apply_fn, _ = relu
    with relaxed_promotion():
        _, params = init_fn(key, (-1, 3))
        x = jax.random.normal(key, (4, 3))
        one, two = (nt.empirical_ntk_fn(apply_fn, implementation=how)(x, None, params) for how in (1, 2))
        jacobian = jax.vmap(jax.grad(lambda p, x: apply_fn(p, x[None])[0, 0]), (None, 0))(params, x)
        flat = np.concatenate([np.asarray(leaf).reshape(4, -1) for leaf in jax.tree.leaves(jacobian)], 1)
    np.testing.assert_allclose(one, flat @ flat.T, rtol=1e-4)
    np.testing.assert_allclose(two, flat @ flat.T, rtol=1e-4)
    for how in (0, 3):
        with pytest.raises(NotImplementedError, match=r"do not run on this JAX; use jaxtheory\.empirical\.ntk"):
            nt.empirical_ntk_fn(apply_fn, implementation=how)


@pytest.mark.slow
def test_predict_runs(relu, float64):
    """The mean of a Gaussian process at its training points is their labels."""
    nt, x = neural_tangents.load(), jax.random.normal(jax.random.key(1), (6, 3))
    y = jnp.sin(x[:, :1])
    with relaxed_promotion():
        predict = nt.predict.gradient_descent_mse_ensemble(relu[2], x, y, diag_reg=0.0)
        mean = predict(x_test=x, get="nngp")
    np.testing.assert_allclose(mean, y, atol=1e-6)


def test_another_kernel_is_refused(relu, unchecked):
    with pytest.raises(ValueError, match="get must be 'nngp' or 'ntk', got get='both'"):
        neural_tangents.as_kernel(relu[2], "both")
