"""float32 on the default device, whatever that is, against float64 on the CPU: `pytest -m accelerator`."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerator.cases import CASES
from tolerances import assert_close


def computed(case, dtype):
    arrays = jax.tree.map(lambda a: jnp.asarray(a, dtype), case.arguments)
    return jax.tree.leaves(jax.device_get(case.function(*arrays)))


@pytest.mark.accelerator
def test_accelerators_are_not_hidden():
    """They are, wherever anything but `-m accelerator` is asked for."""
    assert jax.config.jax_platforms == os.environ.get("JAX_PLATFORMS")


@pytest.mark.accelerator
@pytest.mark.parametrize("name", CASES)
def test_float32_here_is_float64_on_the_cpu(name):
    case = CASES[name]
    found = computed(case, np.float32)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        exact = computed(case, np.float64)
    assert len(found) == len(exact) > 0
    for ours, truth in zip(found, exact, strict=True):
        assert (ours.dtype, truth.dtype) == (np.float32, np.float64)
        assert_close(ours, truth, condition=case.condition, dtype=np.float32)
