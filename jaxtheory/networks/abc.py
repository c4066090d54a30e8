r"""The abc family of parameterizations: how multipliers, initial variances and learning rates scale with width.

A weight of layer l is W = n^(−a_l) w with w ~ N(0, σ² n^(−2 b_l)) trained at the rate η n^(−c). Then

    (a, b, c) → (a + θ, b − θ, c − 2θ)

for every layer at once changes neither the function at initialization nor SGD's course (for Adam with ε → 0: c − θ).
Of the family only the exponent r decides the limit: r = 0 learns features, r > 0 is the kernel regime.
Source: Yang and Hu (2021), definition 3.1, theorem 3.3 and section 5.
"""

from typing import NamedTuple

from jaxtheory.checks import boundary, require


class ABC(NamedTuple):
    """Exponents of width: multipliers a and standard deviations b, one a layer; the learning rate's c."""

    a: tuple[float, ...]
    b: tuple[float, ...]
    c: float


@boundary
def standard(layers: int) -> ABC:
    """Fan-in variance, no multiplier, and the largest stable rate, n^(−1): the kernel regime.

    >>> standard(3).b
    (0.0, 0.5, 0.5)
    """
    check_layers(layers)
    return ABC((0.0,) * layers, (0.0, *[0.5] * (layers - 1)), 1.0)


@boundary
def ntk(layers: int) -> ABC:
    """Unit-variance weights with multipliers n^(−1/2): the kernel regime at a rate that does not depend on width.

    >>> ntk(3).a
    (0.0, 0.5, 0.5)
    """
    check_layers(layers)
    return ABC((0.0, *[0.5] * (layers - 1)), (0.0,) * layers, 0.0)


@boundary
def mean_field(layers: int) -> ABC:
    """The readout divided by n and the rate multiplied by n: feature learning with one hidden layer.

    With more hidden layers, whose multipliers stay n^(−1/2), the output vanishes too fast to train: use `mup`.

    >>> mean_field(2)
    ABC(a=(0.0, 1.0), b=(0.0, 0.0), c=-1.0)
    """
    require(layers == 2, "layers", layers, "be 2 for the mean-field scaling", "use mup for deeper networks")
    return ABC((0.0, 1.0), (0.0, 0.0), -1.0)


@boundary
def mup(layers: int) -> ABC:
    """Maximal update: every layer learns features at a rate that does not depend on width.

    >>> mup(3)
    ABC(a=(-0.5, 0.0, 0.5), b=(0.5, 0.5, 0.5), c=0.0)
    """
    check_layers(layers)
    return ABC((-0.5, *[0.0] * (layers - 2), 0.5), (0.5,) * layers, 0.0)


@boundary
def mup_adam(layers: int) -> ABC:
    """Maximal update for Adam and others whose steps are of size one an entry, in the gauge where the rate is one.

    Each layer of `mup` is shifted on its own, (a + θ, b − θ, c − θ), to c = 0. Source: Yang and Hu (2021); Yang et
    al. (2022), Tensor Programs V.

    >>> mup_adam(3)
    ABC(a=(0.0, 1.0, 1.0), b=(0.0, -0.5, 0.0), c=0.0)
    """
    check_layers(layers)
    return ABC((0.0, *[1.0] * (layers - 1)), (0.0, *[-0.5] * (layers - 2), 0.0), 0.0)


@boundary
def shifted(abc: ABC, theta: float, *, adam: bool = False) -> ABC:
    """The same training in another gauge: (a + θ, b − θ, c − 2θ), or c − θ for Adam.

    >>> shifted(ntk(2), -0.5)
    ABC(a=(-0.5, 0.0), b=(0.5, 0.5), c=1.0)
    """
    rate = abc.c - (theta if adam else 2 * theta)
    return ABC(tuple(a + theta for a in abc.a), tuple(b - theta for b in abc.b), rate)


@boundary
def feature_exponent(abc: ABC) -> float:
    r"""r = min(a_{L+1} + b_{L+1}, 2 a_{L+1} + c) + c − 1 + min_l (2 a_l + [l = 1]): features move by n^(−r).

    >>> feature_exponent(mup(4)), feature_exponent(ntk(4)), feature_exponent(standard(4))
    (0.0, 0.5, 0.5)
    """
    fits = len(abc.a) == len(abc.b) >= 2
    require(fits, "abc", abc, "have one exponent a and b for each of two or more layers", "make it by mup(layers)")
    last, hidden = len(abc.a) - 1, abc.a[:-1]
    readout = min(abc.a[last] + abc.b[last], 2 * abc.a[last] + abc.c)
    return readout + abc.c - 1 + min(2 * a + (1 if l == 0 else 0) for l, a in enumerate(hidden))  # noqa: E741


def check_layers(layers: int) -> None:
    """At least one hidden layer and a readout."""
    require(layers >= 2, "layers", layers, "be >= 2, the readout included", "add a hidden layer")
