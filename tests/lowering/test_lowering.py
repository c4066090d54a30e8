"""Every public function's program is one for GPUs and TPUs: it lowers, never waits for the host, and stays small.

`python scripts/record_lowering.py` renews the recorded sizes.
"""

import json
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from conftest import relaxed_promotion
from lowering.programs import host_calls, imprecise, lowered, programs, spread, traced

RECORDED: dict[str, int] = json.loads((Path(__file__).parent / "sizes.json").read_text())
SMALL, FAST = 20_000, 25
# Of each platform's libraries of linear algebra; anything else must be looked at before it is added.
CUSTOM_CALLS = {
    *(f"cusolver_{name}_ffi" for name in ("potrf", "syevd", "gesvdj", "geqrf", "orgqr", "getrf")),
    "cu_lu_pivots_to_permutation",
    *("Eigh", "Qr", "ProductOfElementaryHouseholderReflectors", "LuDecomposition"),
    *("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"),
}
# name: why some of its products may ask for less
LESS_PRECISE = {
    **{
        f"empirical.{name}": "calls the user's network as it is; functions that take networks ask for more"
        for name in ("filter_params", "from_linen", "from_equinox", "from_haiku", "from_nnx")
    },
}


def each(count: int) -> list[object]:
    """All programs, of which `count` of the small ones belong to the fast set."""
    quick = spread((name for name, size in RECORDED.items() if size <= SMALL), count)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in programs()]


@pytest.fixture(autouse=True)
def as_users_call():
    """Without the tests' own checks, and without lines of code in the programs, whose sizes these would decide."""
    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    jaxtyping.config.update("jaxtyping_disable", True)
    with relaxed_promotion():
        yield
    jaxtyping.config.update("jaxtyping_disable", False)
    jax.config.update("jax_traceback_in_locations_limit", limit)


@pytest.mark.parametrize("name", each(FAST))
def test_a_program_of_float32_lowers_for_gpus_and_tpus(name):
    """No callback, no float64, all bits of products, known library calls, at most 1.5 times the recorded size."""
    jaxpr = traced(name, np.float32)
    assert host_calls(jaxpr) == set()
    assert name in LESS_PRECISE or imprecise(jaxpr) == []
    found = lowered(name, np.float32, ("cuda", "tpu"))
    assert not found.float64
    assert found.custom_calls <= CUSTOM_CALLS
    assert found.bytes <= 1.5 * RECORDED.get(name, np.inf)


@pytest.mark.parametrize("name", each(5))
def test_a_program_of_float64_lowers_for_gpus(name, float64):
    assert host_calls(traced(name, float64)) == set()
    assert lowered(name, float64, ("cuda",)).custom_calls <= CUSTOM_CALLS


@pytest.mark.slow
def test_every_program_has_a_recorded_size():
    """Else: python scripts/record_lowering.py."""
    assert set(RECORDED) == set(programs())


def test_what_may_not_be_in_a_program_is_found():
    """A callback in a loop, and a product in fewer bits."""

    def program(x):
        def turn(_, value):
            return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(value.shape, value.dtype), value)

        return jax.lax.fori_loop(0, 2, turn, x) @ x

    jaxpr = jax.make_jaxpr(program)(np.ones((2, 2), np.float32))
    assert host_calls(jaxpr) == {"pure_callback"}
    assert len(imprecise(jaxpr)) == 1
