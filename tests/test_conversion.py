"""The conversion of arguments at the public boundary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, host_numbers, labels_or_targets


@boundary
def added(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, " n"]:
    return x + y


@pytest.mark.parametrize("x", [[1, 2], [True, False], np.arange(2)])
def test_numbers_beside_float64_of_numpy_take_the_enabled_precision(x):
    """Warnings are errors here: JAX would warn of a float64 that it truncates."""
    expected = np.asarray(x, np.float64) + 0.5
    for enabled, dtype in ((False, jnp.float32), (True, jnp.float64)):
        with jax.enable_x64(enabled):
            found = added(x, np.full(2, 0.5))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)


def test_one_key_is_one_key():
    """A batch of keys where one is needed failed inside a random function; jax.vmap over keys is as before."""

    @boundary
    def draw(key: Key[Array, ""]) -> Float[Array, ""]:
        return jax.random.normal(key)

    keys = jax.random.split(jax.random.key(0), 3)
    for several in (keys, jax.random.key_data(keys)):
        with pytest.raises(ValueError, match=r"key must be one random key, got keys of shape \(3,\); pass one, or map"):
            draw(several)
    with pytest.raises(
        ValueError, match=r"key must be rows of 2 words if it is raw, got \(3,\); pass jax.random.key\(0\)"
    ):
        draw(jnp.zeros(3, jnp.uint32))
    single = [draw(key) for key in keys]
    np.testing.assert_array_equal(jax.vmap(draw)(keys), single)
    np.testing.assert_array_equal(jax.vmap(draw)(jax.random.key_data(keys)), single)


def test_masked_entries_and_numbers_beyond_floats_are_no_numbers():
    """NumPy makes NaN of a masked entry in a list, and Python cannot make a float of every integer."""

    @boundary
    def f(x: Float[Array, " n"], scale: float = 1.0, levels: tuple[float, ...] = ()) -> Float[Array, " n"]:
        return x * scale

    for wrong in ({"x": [1.0, np.ma.masked]}, {"x": [1.0], "scale": 10**400}, {"x": [1], "levels": [np.ma.masked]}):
        with pytest.raises(ValueError, match=rf"{list(wrong)[-1]} must be .*, got .*; pass"):
            f(**wrong)
    with pytest.raises(
        TypeError, match=r"f\(\): got an unexpected keyword argument 'scael'; its .* x, scale, levels\."
    ):
        f([1.0], scael=2.0)
    with pytest.raises(ValueError, match=r"y must be integers within int32"):
        labels_or_targets("y", np.array([2**40]))


def test_sequences_become_tuples_of_python_numbers_or_are_refused():
    """A list as a static tuple failed to hash, and anything else failed inside."""

    @boundary
    def kept(s: tuple[float, ...], widths: tuple[int, ...] = (1,), block: int | tuple[int, int] = 1) -> object:
        return s, widths, block

    assert kept([1, 2.5], np.array([3, 4]), [5, 6]) == ((1.0, 2.5), (3, 4), (5, 6))
    assert kept(jnp.ones(1), range(2), 7) == ((1.0,), (0, 1), 7)
    for bad in (None, 2.0, "ab", ["a"], [[1.0]], {"a": 1.0}, [None], [1j], jax.random.key(0)):
        with pytest.raises(ValueError, match=r"s must be a tuple of numbers, got .*; pass e.g. \(1.0, 2.0\)"):
            kept(bad)
    for bad in ([1.5], [True], np.array([True]), ["1"], 3):
        with pytest.raises(ValueError, match=r"widths must be a tuple of integers, got "):
            kept((1.0,), bad)
    with pytest.raises(ValueError, match="block must be a tuple of 2 integers or an integer, got "):
        kept((1.0,), (1,), (1, 2, 3))
    with pytest.raises(ValueError, match="s must be known when the program is compiled"):
        jax.jit(kept)(jnp.ones(2))


def test_integers_that_their_type_cannot_hold_are_refused():
    """JAX wraps 64-bit integers of NumPy: label 2^32 was label 0, and Python's overflowed without a name."""

    @boundary
    def kept(y: Int[Array, " n"]) -> Int[Array, " n"]:
        return y

    for bad in (np.array([2**32]), [2**31], np.array([-(2**40)])):
        with pytest.raises(ValueError, match=r"y must be integers within int32, got "):
            kept(bad)
    for good in (np.array([2**31 - 1]), np.array([2**32 - 1], np.uint32), [True], []):
        np.testing.assert_array_equal(kept(np.asarray(good, None if good else int)), good)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(kept(np.array([2**40])), [2**40])


def test_dtypes_are_floating():
    @boundary
    def kept(dtype: object) -> object:
        return dtype

    assert kept(None) == jnp.float32
    assert kept(jnp.bfloat16) == jnp.bfloat16
    for bad in ("abc", int, 3, [1.0], {"a": 1}, "complex64"):
        with pytest.raises(ValueError, match=r"dtype must be a floating type, got .*; use dtype='float32'"):
            kept(bad)
    with pytest.raises(ValueError, match="dtype must be at most 32 bits wide"):
        kept("float64")


def test_traced_numbers_that_shape_a_program_are_named():
    @boundary
    def ones(n: int) -> Float[Array, " n"]:
        return jnp.ones(n) if n > 1 else jnp.ones(1)

    with pytest.raises(ValueError, match=r"n must be known when the program is compiled, got .*static_argnames"):
        jax.jit(ones)(3)


@pytest.mark.parametrize("bad", [None, "abc", ["a"], [[1.0], [1.0, 2.0]], [None], 1j, object()])
def test_what_is_no_number_is_named_on_the_host(bad):
    """Strings of digits and None became numbers, and rows that differ failed inside NumPy."""
    for convert in (host_numbers, labels_or_targets):
        with pytest.raises(ValueError, match=r"x must be .*; pass an array"):
            convert("x", bad)
    np.testing.assert_array_equal(host_numbers("x", [1, 2], axes=1), [1.0, 2.0])
    with pytest.raises(ValueError, match="x must be numbers with 1 axes"):
        host_numbers("x", 2.0, axes=1)
    with pytest.raises(ValueError, match="x must be known outside jit"):
        jax.jit(lambda v: jnp.asarray(host_numbers("x", v)))(1.0)
