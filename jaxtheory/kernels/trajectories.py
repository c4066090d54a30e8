"""What a training run of the lazy regime starts from and what it returns."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import constrain, quantity, require
from jaxtheory.kernels.functions import widest
from jaxtheory.kernels.layouts import coupled


class TrainingState(NamedTuple):
    """Outputs at one time, and the velocity, from which training continues.

    The velocity v moves the outputs by Θ v on the training points and by Θ* v on test points: ȧ of a flow with
    friction, the last update a_k − a_{k−1} of gradient descent (optax's trace, times −η); None where there is none.
    """

    train: Float[Array, "n ..."]
    test: Float[Array, "m ..."] | None
    velocity: Float[Array, "n ..."] | None


class Trajectory(NamedTuple):
    """Outputs at every time: on the training points and, where they were given, on test points (else None).

    `state` is that at the last of the times asked for, from which the same function continues.
    """

    train: Float[Array, "t n ..."]
    test: Float[Array, "t m ..."] | None
    status: Int[Array, ""]
    state: TrainingState


class Setup(NamedTuple):
    """Arrays of a training run in one dtype: kernels as matrices, y and outputs of their own shapes [n ...].

    A matrix of N rows acts on outputs reshaped to [N c]: N = n where all outputs share a kernel, N = n o where they
    couple.
    """

    ntk: Float[Array, "p p"]
    y: Float[Array, "n ..."]
    start: Float[Array, "n ..."]
    velocity: Float[Array, "n ..."] | None
    cross: Float[Array, "q p"] | None
    test_start: Float[Array, "m ..."] | None

    @property
    def test_shape(self) -> tuple[int, ...]:
        """The shape of the outputs on test points."""
        rows = 0 if self.cross is None else self.cross.shape[0]
        return (rows // (self.ntk.shape[0] // self.y.shape[0]), *self.y.shape[1:])

    def columns(self, outputs: Float[Array, "n ..."]) -> Float[Array, "p c"]:
        """Outputs as columns on which the kernel acts."""
        return outputs.reshape(self.ntk.shape[0], -1)


def setup(
    ntk: Array,
    y: Array,
    initial: Array | None,
    cross: Array | None,
    initial_test: Array | None,
    state: TrainingState | None = None,
    *,
    name: str = "y",
) -> Setup:
    """The arrays of a training run in one dtype, after checks of their shapes; initial outputs are 0 by default.

    >>> setup(jnp.eye(1), jnp.ones(1, jnp.bfloat16), None, None, None).y.dtype
    dtype('float32')
    """
    velocity = None
    if state is not None:
        alone = initial is None and initial_test is None
        require(alone, "initial", "an array", "be left out where state is given", "pass one of them")
        initial, initial_test, velocity = (_real(f"state.{name}", value) for name, value in state._asdict().items())
    require(y.ndim >= 1, name, f"shape {y.shape}", "hold a target for each point", "pass an array [n]")
    n, outputs = y.shape[0], math.prod(y.shape[1:])
    require(n >= 1 and outputs >= 1, name, f"shape {y.shape}", "hold at least one target", "pass data")
    ntk = coupled("ntk_train", ntk, outputs)
    rows = ntk.shape[0]
    wish = f"be {n} by {n}, as {name} has {n} rows" + f", or {n * outputs} by {n * outputs}" * (outputs > 1)
    require(ntk.shape in ((n, n), (n * outputs, n * outputs)), "ntk_train", ntk.shape, wish, "check both")
    start = jnp.zeros_like(y) if initial is None else initial
    require(start.shape == y.shape, "initial", start.shape, f"have the shape of {name}, {y.shape}", "pass f_0(x)")
    if velocity is not None:
        wish = f"have the shape of {name}, {y.shape}"
        require(velocity.shape == y.shape, "state.velocity", velocity.shape, wish, "pass the state of a trajectory")
    if cross is not None:
        cross = coupled("ntk_test", cross, outputs)
        fits = cross.shape[1] == rows and cross.shape[0] % (rows // n) == 0
        require(fits, "ntk_test", cross.shape, f"have {rows} columns", "pass Θ(x_test, x) in the layout of ntk_train")
    found = Setup(ntk, y, start, velocity, cross, initial_test)
    if initial_test is not None:
        require(cross is not None, "ntk_test", None, "be given with initial_test", "pass Θ(x_test, x)")
        shape = found.test_shape
        require(initial_test.shape == shape, "initial_test", initial_test.shape, f"have the shape {shape}", "check it")
    dtype = widest(*(each.dtype for each in found if each is not None))
    return jax.tree.map(lambda each: each.astype(dtype), found)


def _real(name: str, value: Any) -> Array | None:
    return None if value is None else jnp.asarray(quantity(name, value))


def as_times(times: Any, dtype: Any, ascending: bool = False) -> Float[Array, " t"]:
    """Times as an array [t], ≥ 0; finite and in ascending order too if asked for.

    >>> as_times(1.0, "float32")
    Array([1.], dtype=float32)
    """
    times = jnp.atleast_1d(jnp.asarray(times, dtype))
    require(times.ndim == 1, "times", f"shape {times.shape}", "be one number or an array [t]", "use times.ravel()")
    require(times.size >= 1, "times", f"shape {times.shape}", "hold at least one time", "pass e.g. 1.0")
    if not ascending:
        return constrain("times", times, lambda t: t >= 0, "be >= 0", "start at 0")
    wish, action = "be finite, ascending and >= 0", "sort them; only the squared loss has a limit in time"
    return constrain("times", times, _ascending, wish, action)


def _ascending(times: Any) -> Any:
    return (times >= 0) & (times < math.inf) & (times[1:] >= times[:-1]).all()
