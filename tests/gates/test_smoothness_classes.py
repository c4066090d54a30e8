"""The gates of `smoothness`: sparse recovery, rates of classes, and wavelet statistics."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, key, number, points, quantity, static, tree

from jaxtheory.smoothness import (
    adaptive_grid,
    anisotropic,
    boundary_grid,
    classes,
    group_lasso,
    jumps,
    lasso,
    phase_transitions,
    thresholds,
)
from jaxtheory.smoothness.wavelets import Coefficients

RNG = np.random.default_rng(0)
WIDE = RNG.normal(size=(3, 5))
TALL = RNG.normal(size=(6, 4))
DATA = RNG.normal(size=6)
PYRAMID = Coefficients(np.array([1.0, -0.5]), (np.array([[0.75, -2.0]]), np.array([[0.25, 1.5, -1.0, 0.5]])))
FOUND = {"precision": "the gap is round-off; compared with scikit-learn and linear programming"}

SPARSE = [
    Entry(
        "smoothness.phase_transitions.donoho_tanner",
        phase_transitions.donoho_tanner,
        {"undersampling": number(0.5)},
        invalid={"undersampling": (0.0, -1.0, 1.5)},
        integer_values={"undersampling": 1},
        derivatives=(Derivative(("undersampling",), at={"undersampling": 0.625}),),
    ),
    Entry(
        "smoothness.phase_transitions.lasso_risk",
        phase_transitions.lasso_risk,
        {"undersampling": number(0.6), "sparsity": number(0.25), "noise": number(0.5), "lam": number(0.75)},
        invalid={"undersampling": (0.0,), "sparsity": (-0.5, 1.5), "noise": (0.0, -1.0), "lam": (0.0, -1.0)},
        integer_values=dict.fromkeys(("undersampling", "sparsity", "noise", "lam"), 1),
        derivatives=(
            Derivative(
                ("sparsity", "noise", "lam"), order=1, condition=10, reason="a minute of compilation for the second"
            ),
        ),
        slow=True,
    ),
    Entry(
        "smoothness.lasso.basis_pursuit",
        lasso.basis_pursuit,
        {"design": quantity(WIDE), "y": quantity(DATA[:3])},
        scale={"y": {"coefficients": 1, "residual": 0, "gap": 0}},
        permute={"design,y": {"coefficients": None}},
        derivatives=(Derivative(("design", "y"), output=lambda found: found.coefficients, condition=10),),
        skip=FOUND | {"jit": "the gap is round-off"},
        slow=True,
    ),
    Entry(
        "smoothness.group_lasso.group_lasso",
        group_lasso.group_lasso,
        {
            "design": quantity(TALL),
            "y": quantity(DATA),
            "groups": integers([0, 0, 2, 2]),
            "penalty": number(0.25),
        },
        invalid={"penalty": (-1.0,)},
        permute={"design,y": {"coefficients": None, "fitted": 0}},
        derivatives=(Derivative(("design", "y", "penalty"), output=lambda found: found.coefficients),),
        skip=FOUND,
        slow=True,
    ),
]
RATES = [
    Entry(
        "smoothness.classes.rates",
        classes.rates,
        {"function_class": static(classes.Isotropic(1.0)), "estimator": static("linear")},
        {"function_class": (1.0, classes.Isotropic(-1.0), classes.Manifold(1.0, np.nan)), "estimator": ("best",)},
        skip={"precision": "Python numbers"},
    ),
]
THRESHOLDS = [
    Entry(
        "smoothness.thresholds.mad",
        thresholds.mad,
        {"y": quantity(DATA)},
        scale={"y": {"": 1}},
        permute={"y": {"": None}},
        derivatives=(Derivative(("y",)),),
    ),
    Entry(
        "smoothness.thresholds.minimax",
        lambda sigma: thresholds.minimax(64, sigma),
        {"sigma": number(0.5)},
        invalid={"sigma": (-1.0, np.inf)},
        scale={"sigma": {"": 1}},
    ),
    Entry(
        "smoothness.thresholds.block_js",
        lambda y, sigma: thresholds.block_js(y, sigma, block=4),
        {"y": quantity(4 * DATA), "sigma": number(0.5)},
        invalid={"sigma": (0.0, -1.0)},
        derivatives=(Derivative(("y", "sigma")),),
    ),
    Entry(
        "smoothness.thresholds.denoise_bands",
        lambda coefficients, sigma: [
            thresholds.denoise_bands(coefficients, sigma, "block", coarse=0),
            thresholds.denoise_bands(coefficients, method="minimax", coarse=0),
        ],
        {"coefficients": tree(PYRAMID), "sigma": number(0.5)},
        invalid={"sigma": (0.0, -1.0)},
        slow=True,
    ),
]
CELLS = {"level": static(1), "dim": static(2)}
BAD_CELLS = {"level": (-1, 40), "dim": (0,)}
HOST = {"precision": "computed on the host", "jit": "the numbers must be known"}


def on_grid(surpluses, x):
    """An interpolant on the nine points of level 1 in the plane."""
    empty = boundary_grid.interpolate(lambda x: 0 * x[:, 0], 1, 2)
    return boundary_grid.evaluate(empty._replace(surpluses=surpluses), x)


ADAPTED = adaptive_grid.interpolate(lambda x: 1 + x[:, 0] ** 2, 2, 0.1, start=2)
GRIDS = [
    Entry("smoothness.boundary_grid.size", boundary_grid.size, CELLS, BAD_CELLS, skip=HOST),
    Entry("smoothness.boundary_grid.points", boundary_grid.points, CELLS, BAD_CELLS, skip=HOST),
    Entry(
        "smoothness.boundary_grid.interpolate",
        lambda level, dim: boundary_grid.interpolate(lambda x: 1 + x[:, 0] * x[:, 1], level, dim),
        {"level": static(1), "dim": static(2)},
        BAD_CELLS,
        skip={"precision": "float32 is the default dtype"},
    ),
    Entry(
        "smoothness.boundary_grid.evaluate",
        on_grid,
        {"surpluses": static(jnp.linspace(-1.0, 1.0, 9)), "x": points([[0.3, 0.6], [0.1, 0.9]])},
        at_infinity={"x": "outside the cube the nearest point of it is meant"},
        derivatives=(Derivative(("x",)),),
        skip={"axes": "the grid is in the plane"},
    ),
]
ADAPTIVE = [
    Entry(
        "smoothness.adaptive_grid.interpolate",
        lambda dim, tolerance, budget, start: adaptive_grid.interpolate(
            lambda x: 1 + x[:, 0] ** 2, dim, tolerance, budget=budget, start=start
        ),
        {"dim": static(2), "tolerance": static(0.1), "budget": static(100), "start": static(1)},
        {"dim": (0,), "tolerance": (-1.0, np.nan, np.inf), "budget": (0, 4), "start": (-1,)},
        skip={"precision": "float32 is the default dtype", "jit": "the grid grows on the host"},
    ),
    Entry(
        "smoothness.adaptive_grid.interpolate_on",
        lambda levels: adaptive_grid.interpolate_on(lambda x: 1 + x[:, 0] ** 2, levels),
        {"levels": static(((0, 0), (1, 0), (2, 0)))},
        {"levels": ((), ((1, 0),), ((0, 0), (0, 0)), ((0, 0), (-1, 0)))},
        skip={"precision": "float32 is the default dtype", "jit": "the grid is made on the host"},
    ),
    Entry(
        "smoothness.adaptive_grid.points",
        lambda levels: adaptive_grid.points(ADAPTED._replace(levels=levels)),
        {"levels": static(ADAPTED.levels)},
        skip=HOST,
    ),
    Entry(
        "smoothness.adaptive_grid.evaluate",
        lambda surpluses, x: adaptive_grid.evaluate(ADAPTED._replace(surpluses=surpluses), x),
        {"surpluses": quantity(np.linspace(-1.0, 1.0, len(ADAPTED.surpluses))), "x": points([[0.3, 0.6], [0.1, 0.9]])},
        at_infinity={"x": "outside the cube the nearest point of it is meant"},
        ignores={"surpluses": "those of basis functions that are 0 at the points"},
        scale={"surpluses": {"": 1}},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("x", "surpluses")),),
        skip={"axes": "the grid is in the plane"},
    ),
]
NORMS = [
    Entry(
        "smoothness.anisotropic.norm",
        lambda weights: anisotropic.norm(weights, (0.5, 1.0), 2.0, 2.0, levels=1, order=2),
        {"weights": quantity([1.0, -0.5, 0.25, 2.0, 0.5, -1.0, 1.5, 0.75, -0.25])},
        scale={"weights": {"": 1}},
        derivatives=(Derivative(("weights",)),),
    ),
    Entry(
        "smoothness.anisotropic.sample",
        lambda key: anisotropic.sample(key, (1.0, 2.0), 1.0, 1.0, 2, order=1).weights,
        {"key": key()},
    ),
    Entry(
        "smoothness.anisotropic.evaluate",
        lambda terms, x: anisotropic.evaluate(
            anisotropic.Terms(terms, jnp.asarray([[1.0, 2.0], [2.0, 1.0]]), jnp.zeros((2, 2))), x
        ),
        {"terms": quantity([1.0, -0.5]), "x": points([[0.3, 0.6], [0.1, 0.9], [1.5, 0.2]])},
        at_infinity={"x": "splines are 0 far away"},
        scale={"terms": {"": 1}},
        derivatives=(Derivative(("terms", "x")),),
        skip={"axes": "the splines are of the plane"},
    ),
    Entry(
        "smoothness.anisotropic.modulus_norm",
        lambda x: anisotropic.modulus_norm(x, (0.5, 1.5), 2.0, 2.0),
        {"x": quantity(RNG.normal(size=(4, 8)))},
        scale={"x": {"": 1}},
        derivatives=(Derivative(("x",)),),
    ),
]
DRAWS = {"precision": "the draws of the two precisions differ"}
JUMPS = [
    Entry(
        "smoothness.jumps.half_spaces",
        lambda **given: jumps.half_spaces(count=3, **given),
        {"key": key(), "x": points(RNG.uniform(-0.5, 0.5, (4, 2)))},
        at_infinity={"x": "a point far away lies on one side of each hyperplane"},
        permute={"x": {"": 0}},
        skip=DRAWS,
    ),
    Entry(
        "smoothness.jumps.half_space_covariance",
        jumps.half_space_covariance,
        {
            "x1": points([[0.5, 0.0], [-0.5, 0.25], [0.0, -0.5], [0.25, 0.5]]),
            "x2": points([[-0.25, -0.25], [0.75, 0.25], [0.0, 0.25]]),
        },
        invalid={"x1": (np.float32([[2.0, 0.0]] * 4),), "x2": (np.float32([[0.8, 0.8]] * 3),)},
        permute={"x1": {"": 0}, "x2": {"": 1}},
        derivatives=(Derivative(("x1", "x2")),),
        skip={"axes": "both have as many columns"},
    ),
    Entry(
        "smoothness.jumps.jump_loop",
        jumps.jump_loop,
        {"key": key(), "t": quantity([0.05, 0.35, 0.5, 0.95]), "heights": quantity([2.0, 1.0, 0.5])},
        invalid={"heights": (np.float32([1.0, -1.0, 1.0]),)},
        skip=DRAWS,
    ),
    Entry(
        "smoothness.jumps.gaussian_loop",
        lambda **given: jumps.gaussian_loop(samples=6, **given),
        {"key": key(), "energy": number(12.0)},
        invalid={"energy": (-1.0,)},
        skip=DRAWS,
    ),
    Entry(
        "smoothness.jumps.loop_linear_risk",
        lambda **given: jumps.loop_linear_risk(6, **given),
        {"energy": number(12.0), "sigma": number(0.5)},
        invalid={"energy": (0.0, -1.0), "sigma": (-0.5,)},
        derivatives=(Derivative(("energy", "sigma")),),
    ),
]
ENTRIES = SPARSE + RATES + THRESHOLDS + GRIDS + ADAPTIVE + NORMS + JUMPS


class TestSmoothnessClasses(Gates):
    """Sparse recovery, rates and thresholds."""

    entries = ENTRIES
