"""Child of test_gram: a Gram matrix over two processes of two devices each, with Gloo on loopback."""

import json
import os
import socket
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory import kernels


def rows(port: int, index: int) -> list[float]:
    """Largest errors of this process' rows, for x against itself and against other points."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    mesh = jax.make_mesh((4,), ("rows",))
    x, other = (np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32) for seed, n in ((0, 40), (1, 7)))
    errors: list[float] = []
    for x2 in (None, jnp.asarray(other)):
        found = kernels.gram(kernels.laplace(), jnp.asarray(x), x2, block=4, mesh=mesh)
        distances = np.linalg.norm(x[:, None].astype(float) - (x if x2 is None else other)[None], axis=-1)
        gaps = [np.abs(np.asarray(shard.data) - np.exp(-distances)[shard.index]) for shard in found.addressable_shards]
        errors += [float(gap.max()) for gap in gaps]
    jax.distributed.shutdown()  # waits for the other: a coordinator that leaves first takes it down
    return errors


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ends = [os.pipe() for _ in range(2)]
    for index, (_, writer) in enumerate(ends):
        if os.fork() == 0:
            try:
                os.write(writer, json.dumps(rows(port, index)).encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writer)
    print(json.dumps([json.loads(os.read(reader, 10_000)) for reader, _ in ends]))


if __name__ == "__main__":
    sys.exit(main())
