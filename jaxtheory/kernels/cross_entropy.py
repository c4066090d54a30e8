"""The lazy regime under cross-entropy: `gradient_flow` of one loss, with the names of classification."""

from jaxtyping import Array, Float

from jaxtheory.checks import boundary, require
from jaxtheory.kernels.dynamics import gradient_flow
from jaxtheory.kernels.trajectories import TrainingState, Trajectory


@boundary(static=("max_steps",))
def cross_entropy_flow(
    ntk_train: Float[Array, "p p ..."],
    labels: Float[Array, "n o"],
    *,
    learning_rate: float | Float[Array, ""],
    times: float | Float[Array, "..."],
    friction: float | Float[Array, ""] | None = None,
    initial: Float[Array, "n o"] | None = None,
    ntk_test: Float[Array, "q p ..."] | None = None,
    initial_test: Float[Array, "m o"] | None = None,
    state: TrainingState | None = None,
    tolerance: float | Float[Array, ""] = 1e-5,
    max_steps: int = 20_000,
) -> Trajectory:
    r"""Logits under gradient flow of the summed cross-entropy −Σ y log softmax(f), with a constant NTK.

        ḟ = η Θ (y − softmax f):   f_t = f_0 + Θ a_t,   f*_t = f*_0 + Θ* a_t,   ȧ = η (y − softmax(f_0 + Θ a))

    so that one equation in a [n o] serves training and test points. Dormand-Prince 5(4) with adaptive steps. It is
    `gradient_flow` with loss="cross_entropy"; gradient descent with momentum is `gradient_descent` with the same.

    Args:
        ntk_train, ntk_test: Θ(x, x), Θ(x_test, x), [n n], [n o, n o] or [n n o o].
        labels: rows of probabilities (one-hot labels). initial, initial_test: logits at time 0, 0 by default.
        learning_rate: η > 0. times: [t] or one number; finite, ≥ 0, ascending.
        friction, state, tolerance, max_steps: as `gradient_flow`.

    Returns, Derivatives: as `gradient_flow`; INVALID_INPUT also for rows of labels that are no probabilities.

    Raises:
        ValueError: shapes, η ≤ 0, times that descend or are infinite (separable data have no limit).

    Cost: 6 products 2 n² o a step; memory n² + (8 + t) n o.
    Source: Lee et al. (2019), section 2.2; Dormand and Prince (1980).

    >>> import jax.numpy as jnp
    >>> path = cross_entropy_flow(jnp.eye(1), jnp.array([[1.0, 0.0]]), learning_rate=1.0, times=jnp.array([0.0, 1.0]))
    >>> f"{path.train[1, 0, 0]:.4f}"
    '0.3960'
    """
    require(labels.ndim == 2, "labels", f"shape {labels.shape}", "hold a row for each point", "use jax.nn.one_hot")
    return gradient_flow(
        ntk_train, labels, learning_rate=learning_rate, times=times, friction=friction, initial=initial,
        ntk_test=ntk_test, initial_test=initial_test, loss="cross_entropy", state=state, tolerance=tolerance,
        max_steps=max_steps,
    )  # fmt: skip
