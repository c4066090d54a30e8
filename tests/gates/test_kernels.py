"""The gates of `kernels`: kernel functions, Gram matrices, regression and processes. See `test_kernels_spectra`."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static

from jaxtheory import kernels

X = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 1.5], [0.5, 0.5]])
X2 = X[:2]  # coincident points
APART = X2 + np.array([[0.25, -0.5], [1.5, 0.75]])
PARALLEL = np.array([[0.0, 2.0], [-4.0, 2.0]])  # to the first two points of X, at angles 0 and π
TWICE = X[[0, 1, 0, 3]]
WIDE = np.random.default_rng(0).normal(size=(4, 6))
Y = np.array([1.0, -2.0, 0.5, 3.0])
MATRIX = np.array([[2.0, 0.5, 0.0, 0.0], [0.5, 3.0, -0.25, 0.0], [0.0, -0.25, 4.0, 0.5], [0.0, 0.0, 0.5, 5.0]])
SMOOTH = kernels.matern(2.5)

FAR_AWAY = dict.fromkeys(("x1", "x2"), "the kernel is 0 at a distance that is infinite")
AS_ORDER_ONE = dict.fromkeys(
    ("jit", "poison", "kinds", "axes", "wrong kinds", "precision"), "the program of order 1, with another function"
)
DRAWS = {"precision": "the draws of the two precisions differ"}


def pair(name, make, *derivatives, invalid=None, **more):
    """An entry of a kernel function at two sets of points, some of them in both."""
    numbers = more.pop("numbers", {})
    return Entry(
        f"kernels.{name}",
        lambda x1, x2, **given: make(**given)(x1, x2),
        {"x1": points(X), "x2": points(X2)} | numbers,
        invalid=invalid or {},
        permute={"x1": {"": 0}, "x2": {"": 1}},
        derivatives=derivatives,
        **more,
    )


def distance(name, make, *derivatives, **more):
    """A kernel of the distance in units of a bandwidth."""
    return pair(
        name,
        make,
        *derivatives,
        numbers={"bandwidth": number(2.0)},
        invalid={"bandwidth": (-1.0, 0.0)},
        shift={("x1", "x2"): ("",)},
        at_infinity=FAR_AWAY,
        **more,
    )


def regressor(model):
    """What a fit finds; its residual is rounding itself."""
    return {"alpha": model.alpha, "jitter": model.jitter, "status": model.status}


def sets(n):
    """The first n points and their targets."""
    return {"x": points(X[:n]), "y": quantity(Y[:n])}


ALL = ("x1", "x2", "bandwidth")
# programs of second derivatives of factorizations and loops take long to compile
FIRST = {"order": 1, "reason": "its program is long"}
# the third derivative jumps where points coincide or are parallel, so that differences err by their step
JUMP = {"step": 1e-6, "condition": 1e3}
IN_SIX = {"x1": WIDE, "x2": WIDE[:2]}

KERNELS = [
    distance("gaussian", kernels.gaussian, Derivative(ALL, at=IN_SIX)),
    distance("laplace", kernels.laplace, Derivative(ALL, at={"x2": APART}), Derivative(("bandwidth",))),
    distance("matern", lambda bandwidth: kernels.matern(1.5, bandwidth), Derivative(ALL, **JUMP)),
    Entry(
        "kernels.matern (a length for each coordinate)",
        lambda x, bandwidth: kernels.matern(2.5, bandwidth)(x, x),
        {"x": quantity(X), "bandwidth": quantity([1.0, 2.0])},
        invalid={"bandwidth": (np.float32([1, -1]), np.float32([1, 0]), np.float32([[1, 1]]), np.float32([1, 1, 1]))},
        derivatives=(Derivative(("x", "bandwidth")),),
    ),
    Entry(
        "kernels.matern (smoothness)",
        lambda smoothness: kernels.matern(smoothness)(jnp.asarray(X, jnp.float32), jnp.asarray(X, jnp.float32)),
        {"smoothness": static(0.5)},
        invalid={"smoothness": (1.0, np.nan, np.inf, "gaussian")},
        skip={"precision": "the points have one precision"},
    ),
    pair(
        "arc_cosine",
        lambda order: kernels.arc_cosine(order),
        Derivative(("x1", "x2"), at={"x2": PARALLEL}, **JUMP),
        numbers={"order": static(1)},
        invalid={"order": (-1, 3, 0.5, "relu")},
        scale={"x1": {"": 1}},
    ),
    pair("arc_cosine (order 0)", lambda: kernels.arc_cosine(0), scale={"x1": {"": 0}}, skip=AS_ORDER_ONE),
    pair(
        "arc_cosine (order 2)",
        lambda: kernels.arc_cosine(2),
        skip=AS_ORDER_ONE,
    ),
    pair(
        "polynomial",
        lambda degree, offset, scale: kernels.polynomial(degree, offset, scale),
        Derivative(("x1", "x2", "offset", "scale")),
        numbers={"degree": static(2), "offset": number(1.0), "scale": number(0.5)},
        invalid={"degree": (0, -1, 1.5), "offset": (-1.0,), "scale": (0.0, -1.0)},
        integer_values={"scale": 1},
    ),
    pair(
        "periodic_spline",
        lambda period: kernels.periodic_spline(2, period),
        Derivative(("x1", "x2", "period"), **JUMP),
        numbers={"period": number(5.0)},
        invalid={"period": (-1.0, 0.0)},
        shift={("x1", "x2"): ("",)},
    ),
    Entry(
        "kernels.periodic_spline (smoothness)",
        lambda smoothness: kernels.periodic_spline(smoothness)(np.float32(X), np.float32(X)),
        {"smoothness": static(2)},
        invalid={"smoothness": (0, 9, 1.5, np.nan, "gaussian")},
        skip={"precision": "the points have one precision"},
    ),
    Entry(
        "kernels.precomputed",
        lambda gram, x1, x2: kernels.precomputed(gram)(x1, x2),
        {"gram": quantity(MATRIX), "x1": integers([0, 3, 2]), "x2": integers([0, 1])},
        invalid={
            "gram": (np.ones((2, 3), np.float32),),
            "x1": (np.array([4]), np.array([-1]), np.array([0.5]), np.array([[1]])),
        },
        scale={"gram": {"": 1}},
        permute={"x1": {"": 0}, "x2": {"": 1}},
    ),
]

PRODUCTS = [
    Entry(
        "kernels.gram",
        lambda x1, block: kernels.gram(SMOOTH, x1, block=block),
        lambda n: {"x1": points(X[:n]), "block": static(3)},
        invalid={"block": (0, -1)},
        shift={("x1",): ("",)},
        derivatives=(Derivative(("x1",), at={"x1": TWICE}, **FIRST),),
    ),
    Entry(
        "kernels.gram (two sets)",
        lambda x1, x2: kernels.gram(SMOOTH, x1, x2, block=3),
        {"x1": points(X), "x2": points(X2)},
        at_infinity=FAR_AWAY,
        permute={"x1": {"": 0}, "x2": {"": 1}},
    ),
    Entry(
        "kernels.matvec",
        lambda x, v, block: kernels.matvec(SMOOTH, x, v, block),
        lambda n: {"x": points(X[:n]), "v": quantity(Y[:n]), "block": static(3)},
        invalid={"block": (0, -1), "v": (np.ones(3, np.float32),)},
        scale={"v": {"": 1}},
        permute={"x,v": {"": 0}},
    ),
    Entry(
        "kernels.matvec (two sets)",
        lambda x, v, x2: kernels.matvec(SMOOTH, x, v, 3, x2=x2),
        {"x": points(X2), "v": quantity(Y), "x2": points(X)},
        at_infinity=dict.fromkeys(("x", "x2"), "the kernel is 0 at a distance that is infinite"),
        permute={"x": {"": 0}, "x2,v": {"": None}},
    ),
    Entry(
        "kernels.diagonal",
        lambda x: kernels.diagonal(kernels.polynomial(2), x),
        {"x": points(X)},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "kernels.rpcholesky",
        lambda x, rank, key, pivots: kernels.rpcholesky(SMOOTH, x, rank, key, pivots=pivots),
        {"x": points(X), "rank": static(2), "key": key(), "pivots": static(1)},
        invalid={"rank": (0, 5), "pivots": (0, -1), "key": (0, None)},
        derivatives=(Derivative(("x",), **FIRST),),
        skip=DRAWS,
        slow=True,
    ),
    Entry(
        "kernels.nystrom",
        lambda x, rank, key, block: kernels.nystrom(SMOOTH, x, rank, key, block=block),
        {"x": points(X), "rank": static(2), "key": key(), "block": static(4)},
        invalid={"rank": (0, 5), "block": (0,), "key": (0, None)},
        derivatives=(Derivative(("x",), at={"x": TWICE}, **FIRST),),
        skip=DRAWS,
        slow=True,
    ),
    Entry(
        "kernels.low_rank_inverse",
        kernels.low_rank_inverse,
        {"factor": quantity(X), "shift": number(0.5)},
        invalid={"shift": (0.0, -1.0)},
        integer_values={"shift": 1},
        permute={"factor": {"": 0}},
        derivatives=(Derivative(("factor", "shift"), at={"factor": X[:, :1] * [1.0, 2.0]}, **FIRST),),
    ),
]

REGRESSION = [
    Entry(
        "kernels.fit",
        lambda x, y, ridge: regressor(kernels.fit(SMOOTH, x, y, ridge)),
        lambda n: sets(n) | {"ridge": number(1.0)},
        invalid={"ridge": (-1.0, np.float32([-1.0, 1.0, 1.0, 1.0])), "y": (np.ones(3, np.float32),)},
        scale={"y": {"alpha": 1}},
        permute={"x,y": {"alpha": 0}},
        slow=True,
    ),
    Entry(
        "kernels.predict",
        lambda x, y: kernels.predict(kernels.fit(SMOOTH, x, y, 1.0), x),
        sets(4),
        scale={"y": {"": 1}},
        permute={"x,y": {"": 0}},
        slow=True,
    ),
    Entry(
        "kernels.ridge_path",
        lambda x, y, ridges: kernels.ridge_path(SMOOTH, x, y, ridges)._replace(residual=None),
        sets(4) | {"ridges": quantity([1.0, 2.0])},
        invalid={"ridges": (np.float32([-1.0, 1.0]),)},
        scale={"y": {"alpha": 1}},
        permute={"x,y": {"alpha": 1, "leave_one_out": None, "gcv": None}},
        derivatives=(Derivative(("x", "y", "ridges"), at={"x": TWICE}, **FIRST),),
        slow=True,
    ),
    Entry(
        "kernels.posterior",
        lambda x, y, noise, x_test: kernels.posterior(SMOOTH, x, y, noise, x_test),
        sets(4) | {"noise": number(0.5), "x_test": points(APART)},
        invalid={"noise": (-1.0,)},
        scale={"y": {"mean": 1, "covariance": 0}},
        permute={"x,y": {"mean": None, "covariance": None}, "x_test": {"mean": 0}},
        derivatives=(Derivative(("x", "y", "noise", "x_test"), at={"x_test": X2}, **FIRST),),
        slow=True,
    ),
    Entry(
        "kernels.log_marginal_likelihood",
        lambda x, y, noise: kernels.log_marginal_likelihood(SMOOTH, x, y, noise)._replace(error=None),
        sets(4) | {"noise": number(0.5)},
        invalid={"noise": (-1.0,)},
        permute={"x,y": {"value": None}},
        derivatives=(Derivative(("x", "y", "noise"), at={"x": TWICE}, output=lambda found: found.value, **FIRST),),
        slow=True,
    ),
]

ENTRIES = [*KERNELS, *PRODUCTS, *REGRESSION]


class TestKernels(Gates):
    """Every public function but those of `test_kernels_spectra`."""

    entries = ENTRIES
