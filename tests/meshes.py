"""Every method that runs on a mesh, small; and a child program that runs them over processes with Gloo on loopback.

    python tests/meshes.py PROCESSES DEVICES NAME...

prints for each name the relative error of the rows that all processes hold, against one device alone.
"""

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jaxtheory import empirical, infinite, kernels, meanfield

N, DIM, OUTPUTS, WIDTH, RANK, BLOCK, PARTICLES = 24, 5, 2, 7, 8, 4, 16
KERNEL = kernels.laplace(2.0)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, OTHER, V = normal(0, N, DIM), normal(1, 7, DIM), normal(2, N, OUTPUTS)
WEIGHTS = [normal(3, DIM, WIDTH), normal(4, WIDTH, OUTPUTS)]


def network(weights: Any, x: Any) -> Any:
    return jnp.tanh(x @ weights[0]) @ weights[1]


def tangent(method: str) -> Callable[..., Any]:
    return lambda mesh, weights, x: empirical.ntk(network, weights, x, output="full", method=method, mesh=mesh)


def regression(mesh: Mesh | None, x: Any, y: Any) -> Any:
    options = {"solver": "cg", "block": BLOCK, "rank": RANK, "tolerance": 1e-5}
    return kernels.fit(KERNEL, x, y, 1.0, mesh=mesh, **options).alpha


def particles(mesh: Mesh | None, x: Any, start: Any) -> Any:
    risk = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, jnp.sin(x[:, 0]))
    flow = meanfield.langevin(risk, 0.01, 0.1)
    return meanfield.simulate(flow, start, steps=4, key=jax.random.key(1), mesh=mesh).state.cloud.particles


# name: (a method of (mesh, *inputs), inputs)
METHODS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "gram": (lambda mesh, x: kernels.gram(KERNEL, x, block=BLOCK, mesh=mesh), (X,)),
    "gram of two": (lambda mesh, x, other: kernels.gram(KERNEL, x, other, mesh=mesh), (X, OTHER)),
    "infinite": (lambda mesh, x: kernels.gram(infinite.mlp(2, "relu", 1.2, 0.1).ntk, x, mesh=mesh), (X,)),
    "matvec": (lambda mesh, x, v: kernels.matvec(KERNEL, x, v, BLOCK, mesh=mesh), (X, V)),
    "matvec of two": (lambda mesh, x, v: kernels.matvec(KERNEL, x, v, BLOCK, x2=x[::-1], mesh=mesh), (X, V)),
    "fit": (regression, (X, V)),
    "structured": (tangent("structured"), (WEIGHTS, X)),
    "jacobian": (tangent("jacobian"), (WEIGHTS, X)),
    "products": (tangent("products"), (WEIGHTS, X)),
    "operator": (lambda mesh, w, x, v: empirical.ntk_operator(network, w, x, mesh=mesh)(v), (WEIGHTS, X, V)),
    "particles": (particles, (X, normal(5, PARTICLES, DIM))),
}


def member(port: int, count: int, index: int, devices: int, names: list[str]) -> list[float]:
    """One process; the first of them finds the errors of all rows."""
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    mesh, errors = jax.make_mesh((count * devices,), ("any",)), []
    for run, inputs in (METHODS[name] for name in names):
        inputs = jax.tree.map(jnp.asarray, inputs)
        found = run(mesh, *inputs)
        assert len({shard.device for shard in found.addressable_shards}) == devices
        assert not found.is_fully_replicated
        everything = multihost_utils.process_allgather(found, tiled=True)
        if index == 0:
            alone = np.asarray(run(None, *inputs))
            errors.append(float(np.linalg.norm(everything - alone) / np.linalg.norm(alone)))
    jax.distributed.shutdown()  # waits for the others: a coordinator that leaves first takes them down
    return errors


def main(count: int, devices: int, names: list[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ends, children = [os.pipe() for _ in range(count)], []
    for index, (_, writer) in enumerate(ends):
        children.append(os.fork())  # after the imports and before any device: a process costs its run alone
        if children[-1] == 0:
            try:
                os.write(writer, json.dumps(member(port, count, index, devices, names)).encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
    errors, *others = [json.loads(os.read(reader, 10_000)) for reader, _ in ends]
    assert others == [[]] * (count - 1)
    for child in children:
        os.waitpid(child, 0)
    print(json.dumps(dict(zip(names, errors, strict=True))))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or list(METHODS))
