"""The exact mean risk of one-pass SGD, against averaging simulated runs to the same error.

python scripts/benchmark_one_pass.py [--modes 400] [--width 100]

The law is a recursion over eigenvalues; its own error is that of float32 against float64. A mean over runs has the
error sd/√runs: the runs that the same error takes follow from the spread of some runs, and their time from the time of
these.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxtheory.benchmark.timing import in_turns
from jaxtheory.scaling import one_pass_equivalent, one_pass_risk


@dataclass(frozen=True)
class Config:
    """Power-law data and target, batches of one point."""

    modes: int = 400
    """v, with eigenvalues j^(−2)"""
    width: int = 100
    """features d"""
    steps: int = 500
    """of SGD, of size 0.2"""
    runs: int = 256
    """simulated at once"""
    repeats: int = 3
    """warm runs, of which the fastest counts"""


def problem(config: Config) -> tuple[jax.Array, jax.Array, jax.Array]:
    """W, eigenvalues and target."""
    i = jnp.arange(1, config.modes + 1, dtype=float)
    features = jax.random.normal(jax.random.key(0), (config.modes, config.width), jnp.float32) / config.width**0.5
    return features.astype(i.dtype), i**-2.0, i**-0.3


@partial(jax.jit, static_argnames=("steps", "runs"))
def simulate(
    key: jax.Array, features: jax.Array, eigs: jax.Array, target: jax.Array, steps: int, runs: int
) -> jax.Array:
    """The risk of each run at the end."""
    root = jnp.sqrt(eigs)
    seen, goal = root[:, None] * features, root * target

    def step(theta: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        x = jax.random.normal(key, (runs, len(root)), root.dtype)
        z, y = (jnp.matmul(x, part, precision="highest") for part in (seen, goal))
        return theta - 0.2 * ((z * theta).sum(axis=1) - y)[:, None] * z, None

    theta = jax.lax.scan(step, jnp.zeros((runs, features.shape[1]), root.dtype), jax.random.split(key, steps))[0]
    return ((jnp.matmul(theta, seen.T, precision="highest") - goal[None]) ** 2).sum(axis=1)


def main(config: Config) -> None:
    """Run all three in turns, print the table."""
    features, eigs, target = problem(config)
    law = partial(one_pass_risk, features, eigs, target, batch=1.0, step_size=0.2, steps=config.steps)
    limit = partial(one_pass_equivalent, eigs, target, config.width, batch=1.0, step_size=0.2, steps=config.steps)
    runs = partial(simulate, jax.random.key(1), features, eigs, target, config.steps, config.runs)
    taken = in_turns([lambda: law().risk, lambda: limit().risk, runs], config.repeats, processor=True)[..., 1]
    exact, equivalent, simulated = taken[:, 1:].min(axis=1)
    with jax.enable_x64(True):
        precise = one_pass_risk(*problem(config), batch=1.0, step_size=0.2, steps=config.steps)
    truth = float(precise.risk[-1])
    risk = np.asarray(runs())
    found, spread = float(law().risk[-1]), float(risk.std(ddof=1)) / truth
    print(
        f"v = {config.modes}, d = {config.width}, {config.steps} steps, {jax.devices()[0].device_kind}, processor time"
    )
    print(f"law {exact:.4f} s, without drawing features {equivalent:.4f} s, {config.runs} runs {simulated:.3f} s")
    print(f"mean of the runs over the law {risk.mean() / truth:.3f} ± {spread / config.runs**0.5:.3f}")
    own = abs(found / truth - 1)
    for name, error in (("1 %", 1e-2), (f"{own:.1e}, the law's own", own)):
        needed = (spread / error) ** 2
        seconds = simulated * needed / config.runs
        print(f"error {name}: {needed:.2g} runs, {seconds:.3g} s, {seconds / exact:.2g} times the law")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
