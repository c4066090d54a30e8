r"""What is left of randomness at finite width, where the law is exact: ReLU networks without biases.

    h_l = √(2/n_{l−1}) relu(W_l h_{l−1}),   f = aᵀh_L/√n_L,   all weights N(0, 1)

For one input the gates of a layer are fair coins, independent of everything quadratic in its weights. So moments
travel from layer to layer by linear recursions, whatever the widths.

>>> f"{relu_moments((100,)).ntk_variance:.3f}"
'0.030'
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, constrain, require


class ReluMoments(NamedTuple):
    """Exact moments of a network at initialization, for one input, each relative to the mean."""

    features: float
    """E‖h_L‖⁴ / (E‖h_L‖²)²."""
    output: float
    """E f⁴ / (E f²)², 3 for the Gaussian that it becomes at infinite width."""
    ntk_variance: float
    """Var Θ̂(x, x) / Θ∞(x, x)², where E Θ̂(x, x) = Θ∞(x, x) = (depth + 1)‖x‖²/n_0."""


class PairMoments(NamedTuple):
    """The tangent kernel of one hidden layer at initialization, for two inputs of length 1."""

    mean: float
    """E Θ̂(x, x'), at every width."""
    deviation: float
    """√(m Var Θ̂(x, x')) at width m, at every width."""


class Draws(NamedTuple):
    """Networks at initialization: squared norm of the last features over n_L, output, tangent kernel."""

    features: Float[Array, " draws"]
    output: Float[Array, " draws"]
    ntk: Float[Array, " draws"]


class _State(NamedTuple):
    """What moments at l layers of n exceed those at infinite width, with x = ‖h‖²/n, T = tr M/n, S, H as below.

    E x² = 1 + xx, E xT = l + xt, E T² = l² + tt, E tr M²/n² = s, E hᵀMh/n² = h, M the NTK of the features. All
    are positive, so that nothing cancels at large widths.
    """

    xx: float
    xt: float
    tt: float
    s: float
    h: float


@boundary
def relu_moments(widths: Sequence[int]) -> ReluMoments:
    r"""Fourth moment of features and outputs, and the variance of the NTK, of a ReLU network of given hidden widths.

        E‖h_L‖⁴/(E‖h_L‖²)² = ∏_l (1 + 5/n_l),   E f⁴/(E f²)² = 3 ∏_l (1 + 5/n_l)

    The tangent kernel of the features is M_l = 2 D_l (x_{l−1} I + W_l M_{l−1} W_lᵀ/n_{l−1}) D_l, with D_l the gates, so
    that E x², E xT, E T², E S, E H (see the code) obey a linear recursion, and Θ̂ = x_L + aᵀM_L a/n_L has

        E Θ̂² = E x_L² + 2 E x_L T_L/n_L + (E T_L² + 2 E S_L)/n_L²

    At equal widths all three depend on depth/width alone once both are large: the first tends to e^(5 L/n). They do not
    depend on σ_w, which multiplies Θ̂ by a constant, nor on the input.

    Args:
        widths: n_1, ..., n_L ≥ 1, the hidden layers.

    Returns:
        `ReluMoments` of Python floats.

    Raises:
        ValueError: no hidden layer, or one without units.

    Cost: O(L). Source: Hanin and Nica (2020), Finite depth and width corrections to the NTK, Theorem 1 (bounds; the
    recursion is exact); Hanin and Rolnick (2018) for the norms.

    >>> f"{relu_moments((100, 100)).features:.4f}"
    '1.1025'
    """
    widths = _hidden(widths)
    state = _State(0.0, 0.0, 0.0, 0.0, 0.0)
    for below, width in enumerate(widths):
        state = _layer(state, width, below)
    excess = state.xx + 2 * state.xt + state.tt + 2 * state.s
    return ReluMoments(1 + state.xx, 3 * (1 + state.xx), excess / (len(widths) + 1) ** 2)


def _hidden(widths: Sequence[int]) -> tuple[int, ...]:
    """The hidden widths as Python integers."""
    array = np.asarray(widths)
    ok = array.ndim == 1 and array.size > 0 and array.dtype.kind in "iu" and bool((array >= 1).all())
    require(ok, "widths", widths, "name at least one hidden layer of at least one unit", "pass (64,) for one")
    return tuple(int(width) for width in array)


def _layer(state: _State, n: int, below: int) -> _State:
    """n units on `below` layers of m, each seeing t = 2d(x + wᵀMw/m) and z = 2d(wᵀh)²/m, d a fair coin."""
    xx, xt, tt, s, h = state
    mixed, squared = xx + xt, xx + 2 * xt + tt  # of E x(x + T) = l + 1, of E (x + T)² = (l + 1)²
    limit = below + 1
    z_t = 2 * (limit + mixed + 2 * h)
    t_squared = 2 * (limit**2 + squared + 2 * s)
    return _State(
        xx=xx + 5 / n * (1 + xx),
        xt=mixed + (z_t - limit - mixed) / n,
        tt=squared + (t_squared - limit**2 - squared) / n,
        s=s + (t_squared - s) / n,
        h=h + (z_t - h) / n,
    )


@boundary(static=("cosine",))
def relu_pair_moments(cosine: float) -> PairMoments:
    r"""Mean and spread of the NTK between two unit inputs, for f(x) = √(2/m) Σ_j a_j relu(w_j·x), all weights N(0, 1).

        Θ̂ = (1/m) Σ_j 2 [φφ' + a_j² φ̇φ̇' cos θ],   E a² = 1,  E a⁴ = 3

    is a mean of m independent shares, whose moments are arc-cosine kernels: with δ = π − θ,
    E φ̇φ̇' = δ/2π, E φφ' = (sin θ + δ cos θ)/2π, E (φφ')² = (3 sin θ cos θ + δ (1 + 2 cos² θ))/2π.

    Args:
        cosine: cos θ = x·x' in [−1, 1].

    Raises:
        ValueError: a cosine out of range or traced.

    Cost: O(1). Source: Cho and Saul (2009), equations 3-8, for the expectations.

    >>> [f"{value:.4f}" for value in relu_pair_moments(1.0)]  # mean 2, and 12/m is 3/m of its square
    ['2.0000', '3.4641']
    """
    require(-1 <= cosine <= 1, "cosine", cosine, "lie in [-1, 1]", "divide x·x' by the lengths of x and x'")
    opposite = np.pi - np.arccos(cosine)
    sine = np.sin(opposite)
    derivative = opposite / (2 * np.pi)
    product = (sine + opposite * cosine) / (2 * np.pi)
    square = (3 * sine * cosine + opposite * (1 + 2 * cosine**2)) / (2 * np.pi)
    mean = 2 * (product + cosine * derivative)
    second = 4 * (square + 2 * cosine * product + 3 * cosine**2 * derivative)
    return PairMoments(float(mean), float(max(second - mean**2, 0.0) ** 0.5))


@boundary(static=("draws",))
def sample_relu(key: Key[Array, ""], x: Float[Array, " inputs"], widths: Sequence[int], *, draws: int) -> Draws:
    """Features, output and tangent kernel of independent networks at one input, by one vmapped gradient.

    Args:
        key: a random key.
        x: the input; dtype follows it.
        widths: hidden widths ≥ 1, static.
        draws: how many networks, ≥ 1.

    Returns:
        `Draws`, to be set beside `relu_moments`; NaN for an input inside `jit` that is not finite.

    Raises:
        ValueError: an empty or non-finite input, no hidden layer, no draw.

    Cost: draws times three forward passes; memory draws times the number of parameters.

    >>> sample_relu(jax.random.key(0), jnp.ones(3), (8,), draws=4).ntk.shape
    (4,)
    """
    require(len(x) >= 1, "x", x, "have at least one entry", "pass an input of the network")
    require(draws >= 1, "draws", draws, "be >= 1", "draw at least one network")
    x = constrain("x", x, lambda v: abs(v) < jnp.inf, "be finite", "pass an input of the network")
    return _sample_relu(key, x, _hidden(widths), draws=draws)


@partial(jax.jit, static_argnames=("widths", "draws"))
def _sample_relu(key: Key[Array, ""], x: Float[Array, " inputs"], widths: tuple[int, ...], *, draws: int) -> Draws:
    return jax.vmap(partial(_draw, x=x, widths=widths))(jax.random.split(key, draws))


def _draw(key: Key[Array, ""], x: Float[Array, " inputs"], widths: tuple[int, ...]) -> Draws:
    sizes, keys = (x.shape[0], *widths, 1), jax.random.split(key, len(widths) + 1)
    shapes = zip(keys, sizes[1:], sizes[:-1], strict=True)
    weights = [jax.random.normal(each, (after, before), x.dtype) for each, after, before in shapes]

    def network(weights: list[Array]) -> tuple[Array, Array]:
        h = x
        for weight in weights[:-1]:
            h = jax.nn.relu(jnp.matmul(weight, h, precision="highest")) * (2 / len(h)) ** 0.5
        return jnp.matmul(weights[-1], h, precision="highest")[0] / len(h) ** 0.5, (h**2).mean()

    (output, features), gradient = jax.value_and_grad(network, has_aux=True)(weights)
    return Draws(features, output, jnp.stack([(leaf**2).sum() for leaf in gradient]).sum())
