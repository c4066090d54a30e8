"""Kernel ridge regression beside scikit-learn's KernelRidge: seconds, peak memory and test error, in one run.

    python scripts/benchmark_kernels.py                 # exact solve at n = 4000, then CG at n = 20,000
    python scripts/benchmark_kernels.py --large 50000

The exact solve runs both libraries on the same data in both precisions, warm, the best of `--repeats`. The iterative
solve runs without the Gram matrix; then scikit-learn is given the same points, in float32 as well and in a process of
its own, whose n² matrix may not fit.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.kernel_ridge import KernelRidge

from jaxtheory import kernels
from jaxtheory.benchmark.timing import in_turns
from jaxtheory.results import Status

DIM, BANDWIDTH, NOISE = 10, 3.0, 0.1


def synthetic(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian points and a smooth function of three coordinates, with noise of standard deviation 0.1."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, DIM))
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + NOISE * rng.standard_normal(n)
    return x, y


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _coefficients(regression: KernelRidge, x: np.ndarray, y: np.ndarray) -> Any:
    return regression.fit(x, y).dual_coef_


def exact(n: int, repeats: int) -> None:
    """Fit at n points: the same Gaussian kernel, ridge and data in both libraries."""
    for dtype in (np.float32, np.float64):
        x, y = (a.astype(dtype) for a in synthetic(n, 0))
        ridge = KernelRidge(alpha=0.1, kernel="rbf", gamma=1 / 18)
        with jax.enable_x64(dtype == np.float64):
            points, targets = jnp.asarray(x), jnp.asarray(y)
            fit = partial(kernels.fit, kernels.gaussian(BANDWIDTH), points, targets, 0.1, solver="cholesky")
            theirs, ours = in_turns([partial(_coefficients, ridge, x, y), fit], repeats, processor=True)[:, 1:]
            model = fit()
            named = Status(int(model.status)).name
        ratio, (wall, processor) = np.median(ours / theirs, axis=0), zip(theirs.min(0), ours.min(0), strict=True)
        print(f"exact n={n} {dtype.__name__}, scikit-learn and jaxtheory: ", end="")
        print(f"wall {wall[0]:.2f} and {wall[1]:.2f} s (median ratio {ratio[0]:.2f}), ", end="")
        print(f"processor {processor[0]:.2f} and {processor[1]:.2f} s (median ratio {ratio[1]:.2f}); ", end="")
        print(f"{named}, residual {model.residual:.1e}, jitter {model.jitter:.0e}")


def iterative(n: int, reference: bool, block: int, rank: int | None) -> None:
    """Preconditioned conjugate gradients at n points without the Gram matrix, float32."""
    x, y = synthetic(n + 2000, 1)
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    before, start = peak_gib(), time.perf_counter()
    points, targets = jnp.asarray(x32[:n]), jnp.asarray(y32[:n])
    model = kernels.fit(kernels.gaussian(BANDWIDTH), points, targets, 0.1, solver="cg", block=block, rank=rank)
    predicted = kernels.predict(model, jnp.asarray(x32[n:]), block=block)
    error = float(np.mean((np.asarray(predicted) - y[n:]) ** 2))
    seconds = time.perf_counter() - start
    print(f"cg n={n}: {seconds:.1f} s, {int(model.iterations)} iterations, residual {model.residual:.1e}, ", end="")
    print(f"{Status(int(model.status)).name}, test error {error:.6f}, process peak {peak_gib():.2f} GiB ", end="")
    print(f"(+{peak_gib() - before:.2f}; the float32 Gram alone is {4 * n**2 / 2**30:.2f} GiB)")
    if reference:
        theirs = in_a_process(_scikit_learn, x32, y32, n)
        if theirs:
            print(f"relative difference of test errors {abs(error / theirs - 1):.1e}")


def in_a_process(run: Callable[..., None], *arguments: Any) -> float | None:
    """The test error that `run` sends back, or None where its process died."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=run, args=(*arguments, sender))
    child.start()
    sender.close()
    try:
        error, seconds, gib = receiver.recv()
    except EOFError:
        child.join()
        print(f"{run.__name__[1:]}: its process ended with exit code {child.exitcode}")
        return None
    child.join()
    print(f"{run.__name__[1:]}: {seconds:.1f} s, test error {error:.6f}, process peak {gib:.2f} GiB")
    return error


def _scikit_learn(x: np.ndarray, y: np.ndarray, n: int, sender: Any) -> None:
    start = time.perf_counter()
    oracle = KernelRidge(alpha=0.1, kernel="rbf", gamma=1 / 18).fit(x[:n], y[:n])
    error = float(np.mean((oracle.predict(x[n:]) - y[n:]) ** 2))
    sender.send((error, time.perf_counter() - start, peak_gib()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exact", type=int, default=4000, help="points of the exact solve")
    parser.add_argument("--large", type=int, default=20_000, help="points of the iterative solve")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of the exact solve; the best counts")
    parser.add_argument("--block", type=int, default=2048, help="rows and columns of the kernel's blocks")
    parser.add_argument("--rank", type=int, default=None, help="rank of the preconditioner; 6 √n by default")
    parser.add_argument("--no-reference", action="store_true", help="leave out scikit-learn's n² solve at the large n")
    options = parser.parse_args()
    print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}")
    iterative(options.large, not options.no_reference, options.block, options.rank)
    exact(options.exact, options.repeats)


if __name__ == "__main__":
    main()
