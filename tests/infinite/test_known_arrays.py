"""Known kernels, vectors and matrices on hidden arrays, against the same linear maps of the kernel of positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.recursion import relu_kernels
from infinite.simulation import structs
from infinite.zoo import NHWC
from jax import lax
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior

SIGMA_W = 1.4
RULE = prior.ntk(SIGMA_W, 0.0)
RNG = np.random.default_rng(2)
IMAGES = RNG.standard_normal((2, 4, 5, 2)).astype(np.float32)
TOKENS = RNG.standard_normal((3, 4, 2)).astype(np.float32)
BLUR = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
ANY = RNG.standard_normal((3, 2)).astype(np.float32)
SHAPES = {"k": (3, 3, 2, 8), "o": (8, 3)}


@pytest.fixture(autouse=True)
def as_users_write(unchecked):
    """With NumPy's promotion, and without shapes checked by beartype."""
    with relaxed_promotion():
        yield


def both(f, shapes, x):
    return infinite.limit(f, structs(shapes, jnp.float32), x, prior=RULE, check_width=False).both(x)


def hidden(p, x):
    return jax.nn.relu(lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=NHWC))


@pytest.fixture(scope="module")
def pixels():
    """Kernels of all pairs of pixels, read out by the weights that read the filtered images out."""
    with relaxed_promotion():
        return both(lambda p, x: hidden(p, x) @ p["o"], SHAPES, IMAGES)


def grouped(kernel, strides=(1, 1), padding="SAME", **options):
    """A kernel for each channel."""

    def filtered(h):
        wide = jnp.tile(jnp.asarray(kernel)[:, :, None, None], (1, 1, 1, h.shape[-1]))
        options["feature_group_count"] = h.shape[-1]
        return lax.conv_general_dilated(h, wide, strides, padding, dimension_numbers=NHWC, **options)

    return filtered


def mapped(h):
    one = lambda image: jax.scipy.signal.convolve2d(image, jnp.asarray(ANY), mode="same")  # noqa: E731
    return jax.vmap(jax.vmap(one, -1, -1))(h)


FILTERS = {
    "blur": grouped(BLUR),
    "strided": grouped(ANY, (2, 1), "VALID"),
    "dilated": grouped(ANY, (1, 2), ((2, 1), (0, 3)), rhs_dilation=(2, 1)),
    "of an image with holes": grouped(ANY, (1, 1), ((1, 1), (2, 0)), lhs_dilation=(2, 3)),
    "mapped over channels": mapped,
    "one tap": grouped(np.full((1, 1), 3.0, np.float32)),
    "no tap": grouped(np.zeros((2, 2), np.float32)),
    "to one pixel": grouped(RNG.standard_normal((4, 5)).astype(np.float32), (1, 1), "VALID"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_linear_maps_of_pixels(name, pixels):
    """The filter itself, on the kernel as an image of its left pixels, then of its right ones."""
    apply = FILTERS[name]
    found = both(lambda p, x: apply(hidden(p, x)) @ p["o"], SHAPES, IMAGES)

    def twice(kernel):
        left = apply(kernel.transpose(0, 1, 4, 5, 2, 3).reshape(-1, 4, 5, 1))
        left = left.reshape(2, 2, 4, 5, *left.shape[1:3]).transpose(0, 1, 4, 5, 2, 3)
        right = apply(left.reshape(-1, 4, 5, 1))
        return right.reshape(*left.shape[:4], *right.shape[1:3])

    for kernel, plain in zip(found, pixels, strict=True):
        expected = twice(plain)
        np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-5 * abs(np.asarray(expected)).max())


@pytest.mark.slow
def test_patches_are_what_a_convolution_contracts():
    """Patches of 2 × 2 times weights are a convolution; with weights for each position, its equal positions alone."""
    patches = lambda h: lax.conv_general_dilated_patches(h, (2, 2), (1, 1), "VALID", dimension_numbers=NHWC)  # noqa: E731
    flat = {"k": (3, 3, 2, 8), "w": (32, 3)}
    found = both(lambda p, x: patches(hidden(p, x)) @ p["w"], flat, IMAGES)
    wide = {"k": (3, 3, 2, 8), "w": (2, 2, 8, 3)}
    conv = lambda p, x: lax.conv_general_dilated(hidden(p, x), p["w"], (1, 1), "VALID", dimension_numbers=NHWC)  # noqa: E731
    expected = both(conv, wide, IMAGES)
    local = lambda p, x: lax.conv_general_dilated_local(  # noqa: E731
        hidden(p, x), p["w"], (1, 1), "VALID", (2, 2), dimension_numbers=NHWC
    )
    # by shape alone, the fan-in of [h w (2 · 2 · c) o] is not that of 2 · 2 · c
    rule = lambda path, shape: RULE(path, shape[-2:] if len(shape) == 4 and path == "w" else shape)  # noqa: E731
    given = structs({"k": (3, 3, 2, 8), "w": (3, 4, 32, 3)}, jnp.float32)
    own = infinite.limit(local, given, IMAGES, prior=rule, check_width=False).both(IMAGES)
    equal = np.eye(12).reshape(3, 4, 3, 4)
    for kernel, other, plain in zip(found, own, expected, strict=True):
        assert_close(kernel, plain, condition=100)
        np.testing.assert_allclose(other, plain * equal, rtol=1e-4, atol=1e-5)


V, W = np.array([0.1, -0.2, 0.3, 0.7], np.float32), np.linspace(-1, 1, 16, dtype=np.float32)
M = RNG.standard_normal((4, 4)).astype(np.float32)
DENSE = {"a": (2, 16), "o": (16, 3)}
NNGP = relu_kernels(TOKENS.reshape(12, 2).astype(float), 1, SIGMA_W, 0.0)[0].reshape(3, 4, 3, 4).swapaxes(1, 2)
PRODUCTS = {
    "positions": (lambda h: jnp.einsum("t,ntc->ntc", V, h), np.einsum("t,s,ijts->ijts", V, V, NNGP)),
    "sum over positions": (lambda h: jnp.einsum("t,ntc->nc", V, h), np.einsum("t,s,ijts->ij", V, V, NNGP)),
    "a new axis": (
        lambda h: jnp.einsum("t,nc->ntc", V, h.mean(1)),
        np.einsum("t,s,ij->ijts", V, V, NNGP.mean((2, 3))),
    ),
    "channels": (lambda h: jnp.einsum("c,ntc->ntc", W, h), NNGP * (W**2).mean()),
    "a scalar": (lambda h: jnp.dot(3.0, h), NNGP * 9),
    "two axes": (
        lambda h: jnp.einsum("hw,nhwc->nc", V.reshape(2, 2), h.reshape(-1, 2, 2, 16)),
        np.einsum("t,s,ijts->ij", V, V, NNGP),
    ),
    "a matrix": (lambda h: jnp.einsum("ts,nsc->ntc", M, h), np.einsum("ta,sb,ijab->ijts", M, M, NNGP)),
    "on the right": (
        lambda h: jnp.einsum("nsc,st->nct", h, M).swapaxes(1, 2),
        np.einsum("at,bs,ijab->ijts", M, M, NNGP),
    ),
    "channels and positions": (
        lambda h: jnp.einsum("tc,ntc->nc", V[:, None] * W, h),
        np.einsum("t,s,ijts->ij", V, V, NNGP) * (W**2).mean(),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.first_case
def test_products_with_known_arrays(name):
    """Any einsum of a hidden array and known numbers that leaves its channels."""
    f, expected = PRODUCTS[name]
    found = infinite.limit(
        lambda p, x: f(jax.nn.relu(x @ p["a"])) @ p["o"],
        structs(DENSE, jnp.float32),
        TOKENS,
        prior=RULE,
        check_width=False,
    )
    np.testing.assert_allclose(found.nngp(TOKENS), expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


REFUSED = {
    "mixing": (
        lambda h: lax.conv_general_dilated(h, jnp.ones((2, 2, 8, 8)), (1, 1), "SAME", dimension_numbers=NHWC),
        "mixes channels",
    ),
    "of each channel": (
        lambda h: lax.conv_general_dilated(
            h, RNG.standard_normal((2, 2, 1, 8)).astype(np.float32), (1, 1), "SAME",
            dimension_numbers=NHWC, feature_group_count=8,
        ),
        "differs between channels",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_other_kernels_are_refused(name):
    f, words = REFUSED[name]
    with pytest.raises(infinite.NoLimitError, match=words):
        both(lambda p, x: f(hidden(p, x)) @ p["o"], SHAPES, IMAGES)
