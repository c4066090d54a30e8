"""The main computation of each room, with the work that its sizes say and the peers that compute the same.

A new row is a function of `Sizes` and an entry in `ROWS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxtheory import empirical, infinite, kernels, meanfield, networks, transport
from jaxtheory.benchmark.work import Peer, Run, Work, installed, normal
from jaxtheory.double_descent import width_path
from jaxtheory.interop import neural_tangents
from jaxtheory.smoothness import wavelets

_ROOT2 = 2**0.5


@dataclass(frozen=True)
class Sizes:
    """Of every computation."""

    matrix: int = 2048
    """rows and columns of the products that give the ceiling"""
    vector: int = 2**25
    """numbers that are added for the ceiling of bandwidth"""
    gram: tuple[int, int] = (4096, 512)
    """points and their dimension"""
    ridge: tuple[int, int] = (8000, 10)
    """points and their dimension"""
    infinite: tuple[int, int, int] = (1000, 256, 3)
    """points, their dimension, hidden layers"""
    images: tuple[int, int] = (64, 16)
    """images of 8 x 8 x 3, flattened and pooled"""
    empirical: tuple[int, int, int] = (128, 512, 10)
    """points, width of three hidden layers and dimension, outputs"""
    path: tuple[int, int] = (300, 1500)
    """samples and as many test points; largest width"""
    particles: tuple[int, int, int, int] = (20_000, 500, 100, 5)
    """particles, points, their dimension, steps"""
    widths: tuple[int, ...] = tuple(range(64, 257, 32))
    """of the networks that are trained together"""
    training: tuple[int, int, int, int] = (500, 64, 4, 50)
    """samples and as many test points, their dimension, seeds, steps"""
    transport: tuple[int, int, int] = (2000, 3, 50)
    """points of each cloud, their dimension, iterations"""
    signals: tuple[int, int] = (64, 2**14)
    """signals and their length"""


SIZES = {
    "quick": Sizes(),
    "large": Sizes(
        matrix=16384, vector=2**28, gram=(32768, 1024), ridge=(100_000, 100), infinite=(16384, 1024, 3),
        images=(512, 128), empirical=(1024, 2048, 10), path=(2000, 12000), particles=(1_000_000, 1000, 100, 20),
        widths=tuple(range(128, 1025, 64)), training=(4000, 784, 8, 200), transport=(20_000, 3, 50),
        signals=(4096, 2**14),
    ),
}  # fmt: skip


def gram(sizes: Sizes) -> Work:
    """The matrix of a Gaussian kernel."""
    n, dim = sizes.gram
    x = normal(0, n, dim)
    kernel = jax.jit(kernels.gaussian(dim**0.5))
    peers = {}
    if installed("sklearn"):
        from sklearn.metrics.pairwise import rbf_kernel

        points = np.asarray(x)
        peers["scikit-learn, on the host"] = Peer(lambda: rbf_kernel(points, gamma=0.5 / dim))
    return Work(lambda: kernel(x, x), 2 * n**2 * dim, 2 * x.nbytes + 4 * n**2, peers)


def ridge_regression(sizes: Sizes) -> Work:
    """Kernel ridge regression by preconditioned conjugate gradients, without the Gram matrix; flops an iteration."""
    n, dim = sizes.ridge
    x, scale = normal(0, n, dim), (dim / 10) ** 0.5
    y = jnp.sin(2 * x[:, 0]) + 0.1 * normal(1, n)
    fit = partial(kernels.fit, kernels.gaussian(3.0 * scale), x, y, 0.1, solver="cg")
    peers = {}
    if installed("sklearn") and 4 * n**2 < 2**33:
        from sklearn.kernel_ridge import KernelRidge

        points, targets = np.asarray(x), np.asarray(y)
        oracle = KernelRidge(alpha=0.1, kernel="rbf", gamma=1 / (18 * scale**2))
        peers["scikit-learn, on the host"] = Peer(lambda: oracle.fit(points, targets).dual_coef_)
    iterations = int(fit().iterations)
    return Work(fit, iterations * n**2 * (dim + 2), x.nbytes + 2 * y.nbytes, peers)


def infinite_dense(sizes: Sizes) -> Work:
    """The tangent kernel of a dense ReLU network at infinite width."""
    n, dim, depth = sizes.infinite
    x, kernel = normal(0, n, dim), infinite.mlp(depth, "relu", _ROOT2, 0.1).ntk
    peers = {}
    if installed("neural_tangents"):
        stax = neural_tangents.load().stax
        dense = stax.Dense(1, _ROOT2, 0.1)
        peers["neural-tangents"] = _tangents([*[dense, stax.Relu()] * depth, dense], x)
    return Work(lambda: kernel(x), 2 * n**2 * dim, x.nbytes + 4 * n**2, peers)


def infinite_images(head: Literal["flatten", "gap"], sizes: Sizes) -> Work:
    """The tangent kernel of four 3 x 3 convolutions at infinite width; flops of the 54 an entry and layer."""
    n = sizes.images[head == "gap"]
    x, kernel = normal(0, n, 8, 8, 3), infinite.cnn(4, "relu", _ROOT2, 0.1, head=head).ntk
    pairs = n**2 * (64 if head == "flatten" else 64**2)
    peers = {}
    if installed("neural_tangents"):
        stax = neural_tangents.load().stax
        layer = [stax.Conv(1, (3, 3), padding="SAME", W_std=_ROOT2, b_std=0.1), stax.Relu()]
        last = [stax.Flatten() if head == "flatten" else stax.GlobalAvgPool(), stax.Dense(1, _ROOT2, 0.1)]
        peers["neural-tangents"] = _tangents([*layer * 4, *last], x)
    return Work(lambda: kernel(x), pairs * 4 * 54, x.nbytes + 4 * n**2, peers)


def _tangents(layers: list[Any], x: Array) -> Peer:
    kernel_fn = neural_tangents.load().stax.serial(*layers)[2]
    kernel = jax.jit(lambda x: kernel_fn(x, None, "ntk"))
    return Peer(lambda: kernel(x))


def empirical_ntk(sizes: Sizes) -> Work:
    """The trace of the tangent kernel of a dense network."""
    n, width, outputs = sizes.empirical
    x, net = normal(0, n, width), networks.multilayer(width, width, outputs, hidden_layers=3)
    params = net.init(jax.random.key(1))
    explained = empirical.explain(net.apply, params, x)

    @jax.jit
    def plain() -> Array:
        rows = jax.tree.leaves(jax.vmap(jax.jacrev(lambda p, one: net.apply(p, one[None])[0]), (None, 0))(params, x))
        flat = [leaf.reshape(n, -1) for leaf in rows]
        return jnp.stack([jnp.einsum("ip,jp->ij", leaf, leaf, precision="highest") for leaf in flat]).sum(0)

    peers = {"vmap(jacrev) and einsum": Peer(plain)}
    if installed("neural_tangents"):
        nt = neural_tangents.load()
        how = nt.NtkImplementation(2)
        kernel = jax.jit(nt.empirical_ntk_fn(net.apply, trace_axes=(1,), vmap_axes=0, implementation=how))
        peers["neural-tangents, NTK-vector products"] = Peer(lambda: kernel(x, None, params))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((params, x)))
    run = partial(empirical.ntk, net.apply, params, x, output="trace")
    return Work(run, explained.methods[explained.chosen].flops, size + 4 * n**2, peers)


def every_width(sizes: Sizes) -> Work:
    """Least squares at every width."""
    n, widths = sizes.path
    x, y, tests = normal(0, n, widths), normal(1, n), normal(2, n, widths)
    points, targets = np.asarray(x), np.asarray(y)
    some = range(50, widths + 1, max(widths // 30, 1))
    loop = Peer(lambda: [np.linalg.lstsq(points[:, :p], targets)[0] for p in some], widths / len(some))
    work = partial(width_path, x, y, tests, y)
    flops = (30 * n**2 + 12 * 2 * n * n) * widths
    return Work(work, flops, 2 * x.nbytes + 2 * y.nbytes + 4 * 8 * widths, {"numpy.linalg.lstsq at each width": loop})


def particle_flow(sizes: Sizes) -> Work:
    """A mean-field network's gradient flow."""
    count, n, dim, steps = sizes.particles
    x, start = normal(0, n, dim), normal(1, count, dim) / dim**0.5
    y = jnp.sin(x[:, 0])
    F = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y)
    run = partial(meanfield.simulate, meanfield.gradient_flow(F, 0.1), start, steps=steps, key=jax.random.key(2))

    def step(theta: Array) -> Array:
        risk = lambda t: ((jnp.tanh(x @ t.T).mean(1) - y) ** 2).mean() / 2  # noqa: E731
        return theta - 0.1 * count * jax.grad(risk)(theta)

    peers = {}
    if 8 * count * n < 2**33:
        plain = jax.jit(lambda theta: jax.lax.fori_loop(0, steps, lambda _, t: step(t), theta))
        peers["jax.grad of the whole risk"] = Peer(lambda: plain(start))
    return Work(run, steps * 3 * 2 * count * n * dim, steps * 2 * start.nbytes, peers)


def training(sizes: Sizes) -> Work:
    """Networks of many widths; three products of each layer a step, but none to the data."""
    (n, dim, seeds, steps), widths = sizes.training, sizes.widths
    x, y, adam = normal(0, n, dim), normal(1, n, 10), optax.adam(1e-3)
    mesh = jax.make_mesh((1,), ("points",), devices=jax.devices()[:1])
    each = partial(networks.train_widths, x, y, x, y, mesh=mesh, seeds=seeds, optimizer=adam, steps=steps,
                   record_every=steps)  # fmt: skip
    loop = Peer(lambda: [each(widths=(width,)).dataset.test_loss.values for width in widths])
    flops = seeds * steps * sum(2 * n * width * (2 * dim + 3 * 10) for width in widths)
    numbers = seeds * sum(width * (dim + 11) + 10 for width in widths)
    moved = steps * 2 * 3 * 4 * numbers  # parameters and two moments, read and written
    return Work(partial(each, widths=widths), flops, moved, {"a call for each width": loop})


def sinkhorn(sizes: Sizes) -> Work:
    """Entropic transport between two clouds, a number of iterations."""
    n, dim, iterations = sizes.transport
    x, y, epsilon = normal(0, n, dim), normal(1, n, dim) + 0.5, 0.1
    run = partial(transport.entropic, x, y, epsilon=epsilon, tolerance=1e-30, max_iterations=iterations)
    peers = {"ott-jax, batch_size=256": Peer(_ott(x, y, epsilon, iterations))} if installed("ott") else {}
    return Work(run, iterations * 2 * 2 * n**2 * dim, 2 * x.nbytes, peers)


def _ott(x: Array, y: Array, epsilon: float, iterations: int) -> Run:
    from jax.interpreters import batching

    vars(batching).setdefault("is_vmappable", lambda _: False)  # ott-jax 0.6 asks for it; JAX 0.10 has it no more
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn as theirs

    @jax.jit
    def solve() -> Any:
        problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=epsilon, batch_size=256))
        solver = theirs.Sinkhorn(threshold=0.0, min_iterations=iterations, max_iterations=iterations)
        found = solver(problem)
        return found.f, found.g

    return solve


def wavelet_transform(sizes: Sizes) -> Work:
    """Daubechies wavelets of four moments, to the last level."""
    signals, length = sizes.signals
    x, levels = normal(0, signals, length), int(np.log2(length / 7))
    transform = jax.jit(jax.vmap(lambda row: wavelets.dwt(row, "db4", levels)))
    peers = {}
    if installed("pywt"):
        import pywt

        host = np.asarray(x)
        peers["PyWavelets, on the host"] = Peer(lambda: pywt.wavedec(host, "db4", "periodization", levels))
    return Work(lambda: transform(x), 2 * 2 * 8 * x.size, 2 * x.nbytes, peers)


ROWS: dict[str, Callable[[Sizes], Work]] = {
    "gram": gram,
    "ridge": ridge_regression,
    "infinite": infinite_dense,
    "infinite-flatten": partial(infinite_images, "flatten"),
    "infinite-pooled": partial(infinite_images, "gap"),
    "empirical": empirical_ntk,
    "width-path": every_width,
    "particles": particle_flow,
    "training": training,
    "sinkhorn": sinkhorn,
    "wavelets": wavelet_transform,
}
