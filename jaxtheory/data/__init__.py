"""Data to test a theorem on: real images that install with the package, the user's own files, random teachers.

Classification sets are `Split(x, y, x_test, y_test)`, one flattened image a row; synthetic regressions are
`Regression(x, y, signal)`, where `signal` is y without its noise. Everything random takes a key.

- real, offline: `mnist5k`, `digits` (they need the extra `jaxtheory[data]`); `split` cuts any set in two
- the user's own: `load_arrays`, from an npz file or a folder of MNIST-like IDX files
- labels and inputs: `flip_labels`, `one_hot`, `standardize`
- synthetic: `gaussian_linear`, `sphere`, `random_teacher`

>>> import jax
>>> from jaxtheory import data
>>> x = data.sphere(100, 20, jax.random.key(0)).x
>>> data.random_teacher(x, 50, jax.random.key(1), activation=jax.nn.relu, noise=0.1).y.shape
(100,)
"""

from jaxtheory.data.files import load_arrays
from jaxtheory.data.labels import flip_labels, one_hot, standardize
from jaxtheory.data.real import digits, mnist5k
from jaxtheory.data.splits import Split, split
from jaxtheory.data.synthetic import Inputs, Regression, gaussian_linear, random_teacher, sphere

__all__ = [
    "Inputs",
    "Regression",
    "Split",
    "digits",
    "flip_labels",
    "gaussian_linear",
    "load_arrays",
    "mnist5k",
    "one_hot",
    "random_teacher",
    "sphere",
    "split",
    "standardize",
]
