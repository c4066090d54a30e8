"""Tests run on 8 virtual CPU devices, with strict promotion for our own code and shapes checked by beartype.

`pytest -m accelerator` alone runs on the devices there are.
"""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import matplotlib as mpl
import pytest
import threadpoolctl

jax.config.update("jax_num_cpu_devices", 8)
# Most of the time of the tests is compilation, much of it of the same programs; workers and runs share the folder.
# It is set here and not in the environment: a process that a test kills would leave half a program behind.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
mpl.use("Agg")
# Oracles are many small decompositions: threads inside each would only wait for each other.
threadpoolctl.threadpool_limits(1)


def pytest_configure(config: pytest.Config) -> None:
    """Leave accelerators alone, but where they are asked for; compile the fast set in less time, to slower programs.

    The slow set, the examples, the smoke tests and those for accelerators run the programs that a user runs.
    """
    if config.option.markexpr != "accelerator":
        jax.config.update("jax_platforms", "cpu")
    if "not slow" in config.option.markexpr:
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples of docstrings are a set of their own; all cases but the first of `first_case` belong to the slow set."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.example)
        call = getattr(item, "callspec", None)
        if item.get_closest_marker("first_case") and call is not None and any(call.indices.values()):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What is imported stays: collections of garbage need not walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def strict_promotion() -> Iterator[None]:
    """Our code never mixes dtypes or ranks by accident."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def room_for_programs() -> Iterator[None]:
    """Compiled programs are maps of memory, and the kernel grants a process so many: past a third, begin anew."""
    yield
    maps, limit = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if maps.exists() and limit.exists() and 3 * maps.read_text().count("\n") > int(limit.read_text()):
        jax.clear_caches()
        gc.collect()


@contextlib.contextmanager
def relaxed_promotion() -> Iterator[None]:
    """Around a named third-party call (optax's Adam, ott-jax's Sinkhorn) that fails under strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def float64() -> Iterator[type]:
    """The test runs with 64-bit types enabled."""
    with jax.enable_x64(True):
        yield jnp.float64


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[jnp.dtype]:
    """The test runs once in each precision, with 64-bit types enabled only for the second."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes go unchecked by beartype, so that a test meets the error a user meets."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def key() -> jax.Array:
    """One fixed key for every test; tests fold in what they need."""
    return jax.random.key(20)
