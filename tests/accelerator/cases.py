"""For every room one computation or two: a function of float arrays, arguments, and its condition number.

The arguments are float32 numbers, so that both precisions begin with the same. The condition number, relative and in
norm, is that of the mathematical problem times the number of steps that follow one another; it comes from norms and
spectra of the arguments, never from a run. Nothing here draws at random: a draw depends on the dtype.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxtheory import (
    activations,
    data,
    empirical,
    generalization,
    infinite,
    kernels,
    meanfield,
    networks,
    sweeps,
)
from jaxtheory.double_descent import linear_flow, width_path
from jaxtheory.expressivity import relu_network
from jaxtheory.interop import neural_tangents
from jaxtheory.optimization import implicit_bias, landscapes
from jaxtheory.smoothness import bspline, interval_wavelets, lasso, wavelets


class Case(NamedTuple):
    """`function(*arguments)` loses at most `condition` times the round-off of its dtype."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    condition: float


def normal(seed: int, *shape: int) -> np.ndarray:
    """Standard Gaussian numbers of float32, as float64."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def largest(matrix: np.ndarray) -> float:
    """The spectral norm."""
    return float(np.linalg.norm(matrix, 2))


def condition(matrix: np.ndarray) -> float:
    """The ratio of its extreme singular values."""
    return float(np.linalg.cond(matrix))


X, Y, X_NEW, Y_NEW = normal(0, 64, 20), normal(1, 64, 32), normal(2, 16, 20), normal(3, 16, 32)
IMAGES = normal(4, 6, 6, 6, 3)
DEPTH, WIDTH, STEPS, RATE = 3, 64, 20, 0.05
RIDGE, BANDWIDTH = 64.0, 3.0


def weights(seed: int, *sizes: int) -> list[np.ndarray]:
    """Matrices of a network, orthogonal as far as they are square, so that products lose little."""
    pairs = list(itertools.pairwise(sizes))
    turns = [np.linalg.qr(normal(seed + i, max(pair), max(pair)))[0] for i, pair in enumerate(pairs)]
    matrices = [turn[:rows, :columns] for turn, (rows, columns) in zip(turns, pairs, strict=True)]
    return [matrix.astype(np.float32).astype(np.float64) for matrix in matrices]


def chain_condition(matrices: list[np.ndarray], x: np.ndarray) -> float:
    """Of x W_1 … W_L with 1-Lipschitz maps between: every rounding is passed on by the norms that follow it."""
    value = x
    for matrix in matrices[:-1]:
        value = np.maximum(value @ matrix, 0)
    out = float(np.linalg.norm(value @ matrices[-1]))
    return len(matrices) * float(np.linalg.norm(x)) * float(np.prod([largest(m) for m in matrices])) / out


NET, MOVED = weights(10, 20, WIDTH, WIDTH, 32), weights(20, 20, WIDTH, WIDTH, 32)
LOSS = chain_condition(NET, X)
EXPLICIT = relu_network.network([(matrix, np.zeros_like(matrix[0])) for matrix in NET])


def relu_net(params: Any, x: Any) -> Any:
    """As a user writes it, without a word about precision."""
    for weight in params[:-1]:
        x = jax.nn.relu(x @ weight)
    return x @ params[-1]


def kernel_ridge(x: Any, y: Any, x_new: Any) -> Any:
    model = kernels.fit(kernels.gaussian(BANDWIDTH), x, y, RIDGE / 4, solver="cholesky")
    return kernels.predict(model, x_new)


def kernel_training(x: Any, y: Any) -> Any:
    gram, times = kernels.gram(kernels.gaussian(BANDWIDTH), x), jnp.asarray([RATE, 4 * RATE], x.dtype)
    return kernels.gradient_flow(gram, y, learning_rate=1.0, times=times).train


def regressions(x: Any, y: Any, ridges: Any) -> Any:
    path = kernels.ridge_path(kernels.laplace(4.0), x, y, ridges)
    return path.alpha, path.train, path.degrees_of_freedom


def trained(matrices: Any, x: Any, y: Any) -> Any:
    """Gradient descent on half the mean square, from given weights."""
    net = networks.multilayer(20, WIDTH, 32, hidden_layers=2, abc=networks.standard(3), dtype=x.dtype)
    start = [networks.Layer(weight, None) for weight in matrices]
    loss = lambda params: ((net.apply(params, x) - y) ** 2).sum(axis=1).mean() / 2  # noqa: E731
    params = networks.train(loss, start, optimizer=optax.sgd(RATE), steps=STEPS).params
    return net.apply(params, x)


def linearized(params: Any, moved: Any, x: Any) -> Any:
    return empirical.linearize(relu_net, params)(moved, x)


def tangent_energy(params: Any, x: Any, v: Any) -> Any:
    return jnp.vdot(v, empirical.ntk_operator(relu_net, params, x)(v), precision="highest")


def attention_kernel(tokens: Any) -> Any:
    return infinite.attention().nngp(tokens)


def every_width(x: Any, y: Any, x_new: Any, y_new: Any) -> Any:
    path = width_path(x, y, x_new, y_new, ridge=jnp.asarray(RIDGE, x.dtype))
    return path.train_mse, path.test_mse, path.norm, path.loo_mse


def particles(x: Any, y: Any, start: Any) -> Any:
    functional = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y)
    run = meanfield.simulate(meanfield.gradient_flow(functional, RATE), start, steps=STEPS, key=jax.random.key(0))
    return run.state.cloud.particles


def kernel_flow(start: Any, target: Any) -> Any:
    functional = meanfield.mmd(kernels.gaussian(4.0), target)
    run = meanfield.simulate(meanfield.gradient_flow(functional, RATE), start, steps=STEPS, key=jax.random.key(0))
    return run.state.cloud.particles


def transport(a: Any, b: Any) -> Any:
    mean = jnp.zeros(a.shape[0], a.dtype)
    return meanfield.wasserstein.bures(mean, a, mean + 1, b)


def sparse_fit(design: Any, y: Any) -> Any:
    return lasso.lasso(design, y, jnp.asarray(0.01, y.dtype)).coefficients


def splines(x: Any, coefficients: Any) -> Any:
    knots = jnp.linspace(0.0, 1.0, coefficients.shape[0] + 4, dtype=x.dtype)
    return bspline.evaluate(x, knots, coefficients, 3)


def interval(x: Any) -> Any:
    return jax.tree.leaves(interval_wavelets.interval_dwt(x, "db3", 3))


def measured(matrices: Any, x: Any) -> Any:
    net = generalization.chain(list(matrices))
    return generalization.forward(net, x), generalization.spectral_complexity(net), generalization.path_norm(net)


def swept(ridges: Any, samples: Any) -> Any:
    """On all devices there are, or on the default one where that was chosen."""

    def point(ridge: Any, place: Any, key: Any) -> dict[str, Any]:
        return {"value": jnp.tanh(ridge * place), "path": sweeps.named(jnp.cumsum(ridge * samples), "time")}

    here = jax.config.jax_default_device
    mesh = None if here is None else jax.make_mesh((1,), ("points",), devices=[here])
    grid = sweeps.grid(ridge=ridges, place=np.arange(3.0, dtype=ridges.dtype))
    found = sweeps.run(point, grid, mesh=mesh, progress=False)
    return found["value"].values, found["path"].values


def exported(x: Any, x_new: Any) -> Any:
    stax = neural_tangents.load().stax
    kernel_fn = stax.serial(stax.Dense(1, 2**0.5), stax.Relu(), stax.Dense(1, 2**0.5), stax.Relu(), stax.Dense(1))[2]
    return neural_tangents.as_kernel(kernel_fn, "ntk")(x, x_new)


def positive(seed: int, n: int) -> np.ndarray:
    """A covariance of condition number about 4, in float32."""
    a = normal(seed, n, 4 * n) / np.sqrt(4 * n)
    return (np.eye(n) + a @ a.T).astype(np.float32).astype(np.float64)


ANGLES = np.linspace(-0.9, 0.9, 64).astype(np.float32).astype(np.float64)
ONES = np.ones_like(ANGLES)
SPARSE = normal(44, 64, 24)
GRAM = np.exp(-((X[:, None] - X[None]) ** 2).sum(axis=2) / (2 * BANDWIDTH**2))

CASES: dict[str, Case] = {
    # The dual's logarithmic derivative in each of its three arguments is below 2 for |ρ| ≤ 0.9.
    "activations: dual": Case(lambda q, c: activations.dual("tanh")(q, c, q), (ONES, ANGLES), 3 * 2),
    # Descent below 2/L does not expand: RATE of the round-off of forward and backward passes is added at each step.
    "networks: train": Case(trained, (NET, X, Y), (1 + 2 * RATE * STEPS) * LOSS),
    "kernels: fit": Case(kernel_ridge, (X, Y, X_NEW), 1 + largest(GRAM) / (RIDGE / 4)),
    # λ_max ≤ n where the kernel is 1 on the diagonal.
    "kernels: ridge_path": Case(regressions, (X, Y, np.array([RIDGE / 4, RIDGE])), 2 * (1 + len(X) / (RIDGE / 4))),
    # exp(−tλ) is known to t times the round-off of an eigenvalue, which is that of the largest.
    "kernels: gradient_flow": Case(kernel_training, (X, Y), 1 + 4 * RATE * largest(GRAM)),
    "infinite: mlp": Case(infinite.mlp(DEPTH, "relu", 2**0.5, 0.1).ntk, (X,), DEPTH + 1),
    "infinite: cnn": Case(infinite.cnn(2, "relu", 2**0.5, 0.1).ntk, (IMAGES,), DEPTH + 1),
    "infinite: attention": Case(attention_kernel, (normal(45, 4, 5, 8),), 2 * DEPTH),
    "empirical: ntk": Case(partial(empirical.ntk, relu_net, output="trace"), (NET, X), 2 * LOSS),
    # Through one layer after another: the value and a derivative for each.
    "empirical: linearize": Case(linearized, (NET, MOVED, X), (1 + DEPTH) * LOSS),
    # vᵀΘv = |Jᵀv|², without cancellation.
    "empirical: operator": Case(tangent_energy, (NET, X, Y), 2 * LOSS),
    # Squares of solutions of (ZᵀZ + ridge) β = Zᵀ y.
    "double_descent: width_path": Case(every_width, (X, Y, X_NEW, Y_NEW), 2 * (1 + largest(X) ** 2 / RIDGE)),
    "double_descent: linear_flow": Case(
        linear_flow, (X, Y, np.array([0.5, 4.0])), 1 + 4 * largest(X) ** 2 / len(X) + condition(X)
    ),
    # Particles move by at most RATE times a bounded force, three operations deep, at each step.
    "meanfield: gradient_flow": Case(particles, (X / 4, Y[:, 0], normal(30, 256, 20) / 4), 1 + 3 * RATE * STEPS),
    "meanfield: mmd": Case(kernel_flow, (normal(31, 60, 5), normal(32, 40, 5)), 1 + 3 * RATE * STEPS),
    "meanfield: bures": Case(transport, (positive(33, 12), positive(34, 12)), 4 * condition(positive(33, 12))),
    "expressivity: relu_network": Case(partial(relu_network.evaluate, EXPLICIT), (X,), LOSS),
    "smoothness: wavelets": Case(lambda x: jax.tree.leaves(wavelets.dwt(x, "db4")), (normal(50, 64, 64),), 2 * 6),
    "smoothness: interval_wavelets": Case(interval, (normal(51, 512),), 3),
    # Splines are a partition of unity: |f| ≤ max |c|, and the recursion has 3 stages.
    "smoothness: bspline": Case(splines, (np.linspace(0.25, 0.75, 100), np.abs(normal(52, 20)) + 1), 2 * 3),
    "smoothness: lasso": Case(sparse_fit, (SPARSE, normal(53, 64)), condition(SPARSE) ** 2),
    "optimization: minimum_norm": Case(implicit_bias.minimum_norm, (X.T, normal(54, 20)), 2 * condition(X)),
    "optimization: phase_retrieval": Case(landscapes.phase_retrieval, (X[0], X[1]), 4 * 3),
    "generalization: chain": Case(measured, (NET, X), 2 * LOSS),
    "generalization: ntk_complexity": Case(
        generalization.ntk_complexity, (positive(55, 40), normal(56, 40)), condition(positive(55, 40))
    ),
    "sweeps: run": Case(swept, (np.linspace(0.5, 2.0, 5), np.abs(normal(60, 50))), 1),
    # (x − mean)/std of numbers whose mean is of the order of their spread.
    "data: standardize": Case(data.standardize, (X + 1,), 2 * 2),
    "interop: neural_tangents": Case(exported, (X, X_NEW), DEPTH),
}
