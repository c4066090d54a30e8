"""A Gaussian process with the limit of a Flax CNN classifies digits."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import data, figures, infinite, kernels
from jaxtheory.lecture.claims import Claims, averaged, negative
from jaxtheory.lecture.study import Study

_NOISE, _SHAPE = 0.1, (8, 8, 1)


class _DigitsCNN(nn.Module):
    """Two convolutions and a flattened readout, as anybody writes them."""

    width: int = 64

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


def predict(config: Any) -> Claims:
    """The process with the CNN's limit errs less than the one with a linear kernel."""
    claim = negative("gp_gain", "digits: error of the process with the CNN's limit minus that of a linear kernel",
                     "Novak et al. (2019), section 4")  # fmt: skip
    return Claims((claim,), {})


def measure(config: Any) -> xr.Dataset:
    """Misclassification of Gaussian processes on digits, the CNN's limit and a linear kernel on the same splits."""
    key, dtype = jax.random.split(jax.random.key(config.seed), 3)[2], jnp.float64 if config.x64 else jnp.float32
    cnn, linear = _limit(key, dtype), kernels.polynomial(1)
    wrong = []
    for each in jax.random.split(key, config.splits):
        split = data.digits(config.images, key=each, dtype=jnp.dtype(dtype).name)
        flat, flat_test, labels = split.x, split.x_test[:400], split.y_test[:400]
        x, x_test = (part.reshape(-1, *_SHAPE) for part in (flat, flat_test))
        targets = data.one_hot(split.y, 10, dtype=dtype) - jnp.asarray(0.1, dtype)
        pairs = ((cnn, x, x_test), (linear, flat, flat_test))
        wrong.append([_misclassified(kernel, a, targets, b, labels) for kernel, a, b in pairs])
    cnn_error, linear_error = np.asarray(wrong).T
    errors = {"cnn_error": ("split", cnn_error), "linear_error": ("split", linear_error)}
    return xr.Dataset(errors | averaged("gp_gain", jnp.asarray(cnn_error - linear_error), None))


def _limit(key: Array, dtype: Any) -> Any:
    """The NNGP of the CNN, whose width and parameters are those of any draw."""
    model, image = _DigitsCNN(), jnp.zeros((1, *_SHAPE), dtype)
    shapes = jax.eval_shape(model.init, key, image)
    return infinite.limit(model, shapes, image, prior=infinite.prior.ntk(2**0.5, 0.1)).nngp


def _misclassified(kernel: Any, x: Array, y: Array, x_test: Array, labels: Array) -> float:
    """Of the posterior mean, with noise a tenth of the mean variance."""
    gram, cross = kernel(x, x), kernel(x_test, x)
    level = float(jnp.diagonal(gram).mean()) * _NOISE
    weights = jnp.linalg.solve(gram + level * jnp.eye(len(gram), dtype=gram.dtype), y)
    return float((jnp.matmul(cross, weights, precision="highest").argmax(1) != labels).mean())


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Errors of the two processes on the same splits; below the diagonal the CNN's limit errs less."""
    line, cnn = 100 * dataset.linear_error.values, 100 * dataset.cnn_error.values
    top = 1.1 * line.max()
    figures.points(ax, line, cnn, label="splits of the digits", color=figures.PALETTE[1])
    ax.plot([0, top], [0, top], color="#777777", linestyle=":", label="no gain")
    ax.set(xlim=(0, top), ylim=(0, top))
    what = "CNN's limit: % misclassified"
    figures.label_axes(ax, "linear kernel: % misclassified", what, "Gaussian processes on digits")


STUDY = Study("digits", predict, measure, draw)
