"""PAC-Bayes with a prior that is learned from one part of the data, and a bound from the other."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.checks import boundary, labels_or_targets, require, require_arrays
from jaxtheory.generalization.pac_bayes import Certificate, gaussian_posterior


@boundary(static=("share", "delta", "steps", "rate", "draws"))
def learned_prior(
    loss: Callable[[Any, Array, Array], Array],
    wrong: Callable[[Any, Array, Array], Array],
    learn: Callable[[Array, Array], PyTree],
    x: Float[Array, "n ..."],
    y: Array,
    key: Key[Array, ""],
    *,
    params: PyTree | None = None,
    share: float = 0.5,
    delta: float = 0.05,
    steps: int = 500,
    rate: float = 1e-2,
    draws: int = 256,
) -> Certificate:
    r"""A PAC-Bayes bound whose prior N(w₀, λI) is centred at w₀ = learn(the first ⌊share · n⌋ examples).

    The prior depends on S₀, the first part, alone, and so is fixed before the others, S₁, are seen: with m = n − |S₀|,

        kl(L̂_{S₁}(Q) ‖ L(Q)) ≤ (KL(Q‖P_λ) + ln(2√m/δ_j)) / m

    holds for all posteriors Q, those that depend on all of the data included, as in `gaussian_posterior`. The empirical
    error is that of S₁: examples of S₀ must not be counted in it, nor in m. What a larger share costs in m it gains in
    KL, since w₀ is nearer to the weights that all of the data lead to.

    Args:
        loss, wrong: mean surrogate and mean 0-1 loss (params, x, y).
        learn: (x, y) → weights; it sees nothing but its arguments.
        x, y: a sample of independent examples in random order: sort them by nothing.
        key: of the posterior's noise and draws.
        params: w, where the posterior starts, e.g. trained on all of the data from the same initialization; w₀ if None.
        share: of the prior's examples, in (0, 1), with at least one example on each side.
        delta, steps, rate, draws: as in `gaussian_posterior`.

    Returns:
        `Certificate` of S₁.

    Raises:
        ValueError: a share that leaves no example to a part, another number of labels, and as `gaussian_posterior`.

    Cost: learning, and that of `gaussian_posterior` on S₁.
    Source: Ambroladze, Parrado-Hernández, Shawe-Taylor (2006); Dziugaite, Hsu, Gharbieh, Arpino, Roy (2021).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> x = jnp.tile(jnp.array([[1.0], [-1.0], [0.5], [-0.5]]), (100, 1))
    >>> loss = lambda w, x, y: jnp.logaddexp(0.0, -y * (x @ w)).mean() / jnp.log(2.0)
    >>> wrong = lambda w, x, y: (y * (x @ w) <= 0).astype(x.dtype).mean()
    >>> learn = lambda x, y: x.T @ y / len(x)
    >>> found = learned_prior(loss, wrong, learn, x, jnp.sign(x[:, 0]), jax.random.key(0), steps=50)
    >>> bool(found.bound < 0.25)
    True
    """
    labels = labels_or_targets("y", y)
    require(labels.shape[:1] == x.shape[:1], "y", labels.shape, f"pair with {len(x)} examples", "pass (x, y)")
    require(0 < share < 1, "share", share, "lie within (0, 1)", "use 0.5")
    first = int(share * len(x))
    told, wish = f"{first} and {len(x) - first} examples", "leave at least one example to each part"
    require(1 <= first < len(x), "share", told, wish, "pass a larger sample, or share=0.5")
    prior = learn(x[:first], labels[:first])
    require_arrays("learn", prior)
    start = prior if params is None else params
    return gaussian_posterior(
        loss, wrong, start, prior, x[first:], labels[first:], key=key, delta=delta, steps=steps, rate=rate, draws=draws
    )
