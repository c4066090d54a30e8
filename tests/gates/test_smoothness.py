"""The gates of `smoothness`: bases, classes and estimators; those of the host are in `test_smoothness_host`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, points, quantity, static, tree

from jaxtheory.smoothness import (
    approximation,
    besov,
    bspline,
    estimation,
    hyperbolic_cross,
    interval_wavelets,
    lasso,
    mixed,
    signals,
    spaces,
    sparse_grid,
    sparse_network,
    wavelets,
)
from jaxtheory.smoothness.wavelets import Coefficients

RNG = np.random.default_rng(0)
PYRAMID = Coefficients(np.array([1.0, -0.5]), (np.array([[0.75, -2.0]]), np.array([[0.25, 1.5, -1.0, 0.5]])))
DISTINCT = PYRAMID._replace(details=(PYRAMID.details[0], np.array([[0.25, 1.5, -1.25, 0.625]])))
EDGED = Coefficients(RNG.normal(size=8), (RNG.normal(size=(1, 8)),))
SAMPLES = RNG.normal(size=8)
IMAGE = RNG.normal(size=(4, 4))
TIMES = np.array([0.05, 0.35, 0.5, 0.95])
KNOTS = np.array([0.0, 1.0, 2.5, 3.0, 4.5, 6.0])
INSIDE = np.array([2.75, 0.5, 2.6])
DESIGN = RNG.normal(size=(6, 4))
GRAM = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]])
NEGATIVE = np.float32([-1.0, 1.0, 1.0])
DRAWS = {"precision": "the draws of the two precisions differ"}
BEYOND = "beyond the knots, the cube or [0, 1] the function is constant"


def splines(order):
    """Σ c_i N_m through ReLU networks."""

    def total(weights, x):
        net = bspline.relu_sum(weights, jnp.ones(2), jnp.asarray([[0.0], [1.0]]), order, 0.1)
        return bspline.evaluate_sum(net, x)

    return total


def sparse(surpluses, x):
    """An interpolant on the five points of level 2 in the plane."""
    empty = sparse_grid.interpolate(lambda x: 0 * x[:, 0], 2, 2)
    return sparse_grid.evaluate(empty._replace(surpluses=surpluses), x)


def sparse_relu(surpluses, x):
    """Its ReLU network."""
    empty = sparse_grid.interpolate(lambda x: 0 * x[:, 0], 2, 2)
    return sparse_network.evaluate(sparse_network.from_grid(empty._replace(surpluses=surpluses), 0.1), x)


WAVELETS = [
    Entry(
        "smoothness.wavelets.dwt",
        lambda x: wavelets.dwt(x, "db2"),
        {"x": quantity(SAMPLES)},
        scale={"x": {"approximation": 1, "details.0": 1, "details.2": 1}},
        derivatives=(Derivative(("x",)),),
    ),
    Entry("smoothness.wavelets.idwt", lambda c: wavelets.idwt(c, "db2"), {"c": tree(PYRAMID)}),
    Entry(
        "smoothness.wavelets.tensor_dwt",
        lambda x: wavelets.tensor_dwt(x, "haar"),
        {"x": quantity(IMAGE)},
        scale={"x": {"": 1}},
    ),
    Entry("smoothness.wavelets.floating", wavelets.floating, {"coefficients": tree(PYRAMID)}),
    Entry("smoothness.wavelets.ravel", wavelets.ravel, {"coefficients": tree(PYRAMID)}),
    Entry(
        "smoothness.wavelets.level",
        wavelets.level,
        {"detail": quantity(np.ones((1, 4)))},
        skip={"poison": "reads the shape alone", "precision": "an integer"},
    ),
    Entry(
        "smoothness.interval_wavelets.interval_dwt",
        interval_wavelets.interval_dwt,
        {"x": quantity(RNG.normal(size=16))},
        scale={"x": {"approximation": 1, "details.0": 1}},
        slow=True,
    ),
    Entry("smoothness.interval_wavelets.interval_idwt", interval_wavelets.interval_idwt, {"coefficients": tree(EDGED)}),
    Entry(
        "smoothness.approximation.linear_errors",
        approximation.linear_errors,
        {"coefficients": tree(PYRAMID)},
        derivatives=(Derivative(("coefficients",)),),
    ),
    Entry(
        "smoothness.approximation.n_term_errors",
        approximation.n_term_errors,
        {"coefficients": tree(PYRAMID)},
        derivatives=(Derivative(("coefficients",), at={"coefficients": DISTINCT}),),
    ),
    Entry(
        "smoothness.approximation.spline_terms",
        lambda x: approximation.spline_terms(x, 1),
        {"x": quantity(SAMPLES)},
        scale={"x": {"weights": 1, "scales": 0, "shifts": 0}},
        skip={"precision": "terms that vanish are sorted by their rounding"},
        slow=True,
    ),
    Entry(
        "smoothness.approximation.evaluate_terms",
        lambda weights, x: approximation.evaluate_terms(
            approximation.SplineTerms(weights, jnp.ones(2), jnp.asarray([-1.0, 0.0])), x, 1
        ),
        {"weights": static(jnp.asarray([1.0, -0.5])), "x": quantity(TIMES)},
    ),
]

CLASSES = [
    Entry(
        "smoothness.besov.norm",
        lambda c: [besov.norm(c, 0.75, p, p) for p in (1.5, 2.0)],
        {"c": tree(PYRAMID)},
        derivatives=(
            Derivative(("c",)),
            Derivative(
                ("c",),
                at={"c": jax.tree.map(np.zeros_like, PYRAMID)._replace(approximation=np.array([1.0, 2.0]))},
                order=1,
                output=lambda norms: norms[1],
                reason="levels that are 0 leave a root",
            ),
        ),
    ),
    Entry(
        "smoothness.besov.lp_norm",
        lambda values: [besov.lp_norm(values, p) for p in (0.5, 2.0, math.inf)],
        {"values": quantity(SAMPLES)},
        scale={"values": {"0": 1, "1": 1, "2": 1}},
        permute={"values": {"0": None, "1": None, "2": None}},
        derivatives=(Derivative(("values",)),),
    ),
    Entry(
        "smoothness.besov.block_norms",
        lambda values: besov.block_norms(values, [3, 5], 1.5),
        {"values": quantity(SAMPLES)},
        scale={"values": {"": 1}},
        derivatives=(Derivative(("values",)),),
    ),
    Entry(
        "smoothness.besov.modulus",
        lambda x: besov.modulus(x, 2, 2.0),
        {"x": quantity(SAMPLES)},
        scale={"x": {"": 1}},
    ),
    Entry(
        "smoothness.besov.modulus_norm",
        lambda x: besov.modulus_norm(x, 0.5, 2.0, 2.0),
        {"x": quantity(SAMPLES)},
        scale={"x": {"": 1}},
        derivatives=(Derivative(("x",)),),
        slow=True,
    ),
    Entry("smoothness.besov.sample", lambda key: besov.sample(key, 1.0, 1.0, 1.0, 3), {"key": key()}, skip=DRAWS),
    Entry(
        "smoothness.besov.unit_blocks",
        lambda key: besov.unit_blocks(key, [1, 2], 1.0, "gaussian", jnp.float32),
        {"key": key()},
        skip=DRAWS,
    ),
    Entry(
        "smoothness.mixed.norm",
        lambda values: mixed.norm(values, 0.5, 2.0, 2.0, levels=2, dim=2),
        {"values": quantity(SAMPLES[:5])},
        scale={"values": {"": 1}},
        derivatives=(Derivative(("values",)),),
    ),
    Entry("smoothness.mixed.sample", lambda key: mixed.sample(key, 1.0, 1.0, 1.0, 2, 2), {"key": key()}, skip=DRAWS),
    Entry(
        "smoothness.spaces.sobolev_norm",
        spaces.sobolev_norm,
        {"x": quantity(SAMPLES), "s": number(1.25)},
        invalid={"s": (np.inf,)},
        scale={"x": {"": 1}},
        derivatives=(Derivative(("x", "s")), Derivative(("s",), at={"x": np.ones(8)})),
    ),
    Entry(
        "smoothness.spaces.total_variation",
        spaces.total_variation,
        {"x": quantity(SAMPLES)},
        scale={"x": {"": 1}},
        shift={("x",): ("",)},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "smoothness.spaces.holder_norm",
        spaces.holder_norm,
        {"x": quantity(SAMPLES), "s": number(0.5)},
        invalid={"s": (0.0, 1.0, -1.0)},
        scale={"x": {"": 1}},
        derivatives=(Derivative(("x", "s")),),
        skip={"kinds": "no integer exponent lies in (0, 1)"},
    ),
    *[
        Entry(f"smoothness.signals.{f.__name__}", f, {"t": quantity(TIMES)}, at_infinity={"t": BEYOND})
        for f in (signals.blocks, signals.bumps, signals.heavisine)
    ],
    Entry(
        "smoothness.signals.doppler",
        signals.doppler,
        {"t": quantity(TIMES), "epsilon": number(0.25)},
        invalid={"epsilon": (0.0, -1.0)},
        integer_values={"t": [0, 0, 1, 1], "epsilon": 1},
        derivatives=(Derivative(("t", "epsilon"), condition=1e4),),
    ),
    Entry(
        "smoothness.signals.smooth",
        lambda **given: signals.smooth(frequencies=4, **given),
        {"key": key(), "t": quantity(TIMES), "beta": number(1.5)},
        invalid={"beta": (0.0, -1.0)},
        derivatives=(Derivative(("t", "beta"), condition=100),),
        skip=DRAWS,
    ),
    Entry(
        "smoothness.signals.piecewise_smooth",
        lambda **given: signals.piecewise_smooth(jumps=2, **given),
        {"key": key(), "t": quantity(TIMES), "beta": number(1.5)},
        invalid={"beta": (0.0, -1.0)},
        skip=DRAWS,
        slow=True,
    ),
    Entry(
        "smoothness.signals.horizon",
        lambda **given: signals.horizon(size=4, **given),
        {"key": key(), "alpha": number(2.0), "beta": number(1.5)},
        invalid={"alpha": (0.0,), "beta": (-1.0,)},
        skip=DRAWS,
        slow=True,
    ),
]

SPLINES = [
    Entry(
        "smoothness.bspline.evaluate",
        lambda **given: bspline.evaluate(degree=2, **given),
        {"x": quantity(INSIDE), "knots": quantity(KNOTS), "coefficients": quantity([1.0, -2.0, 0.5])},
        invalid={"knots": (KNOTS[::-1],)},
        at_infinity={"x": BEYOND},
        scale={"coefficients": {"": 1}},
        permute={"x": {"": 0}},
        derivatives=(Derivative(("x", "knots", "coefficients"), condition=10),),
    ),
    Entry(
        "smoothness.bspline.basis",
        lambda **given: bspline.basis(degree=2, derivative=1, **given),
        {"x": quantity(INSIDE), "knots": quantity(KNOTS)},
        invalid={"knots": (KNOTS[::-1],)},
        at_infinity={"x": BEYOND},
    ),
    Entry(
        "smoothness.bspline.cardinal",
        lambda x: bspline.cardinal(x, 3),
        {"x": points([[1.5, 2.25], [0.5, 3.25]])},
        at_infinity={"x": BEYOND},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "smoothness.bspline.evaluate_tensor",
        lambda **given: bspline.evaluate_tensor(degree=1, **given),
        {
            "x": quantity([[0.5, 1.0], [1.25, 1.5]]),
            "knots": static((np.arange(3.0), np.arange(4.0))),
            "coefficients": quantity([[1.0, -0.5]]),
        },
        at_infinity={"x": BEYOND},
    ),
    Entry(
        "smoothness.bspline.dictionary",
        lambda x: bspline.dictionary(x, 1, 1),
        {"x": quantity(TIMES)},
        at_infinity={"x": BEYOND},
    ),
    Entry(
        "smoothness.bspline.relu_sum",
        lambda **given: bspline.relu_sum(order=1, accuracy=0.1, **given),
        {"weights": quantity([1.0, 2.0]), "scales": quantity([1.0, 2.0]), "shifts": points([[0.0], [1.0]])},
        skip={"precision": "the block is of the host"},
    ),
    Entry(
        "smoothness.bspline.evaluate_sum",
        splines(1),
        {"weights": quantity([1.0, -0.5]), "x": points([[0.5], [1.25]])},
        at_infinity={"x": BEYOND},
        derivatives=(Derivative(("weights", "x")),),
    ),
    Entry(
        "smoothness.hyperbolic_cross.project",
        lambda x: hyperbolic_cross.project(x, 1),
        {"x": quantity(IMAGE)},
        scale={"x": {"samples": 1}},
        derivatives=(Derivative(("x",)),),
    ),
    Entry(
        "smoothness.sparse_grid.evaluate",
        sparse,
        {"surpluses": static(jnp.asarray([1.0, 0.5, -0.5, 0.25, 0.75])), "x": points([[0.3, 0.6], [0.1, 0.9]])},
        at_infinity={"x": BEYOND},
        derivatives=(Derivative(("x",)),),
        skip={"axes": "the grid is in the plane"},
    ),
    Entry(
        "smoothness.sparse_network.evaluate",
        sparse_relu,
        {"surpluses": static(jnp.asarray([1.0, 0.5, -0.5, 0.25, 0.75])), "x": points([[0.3, 0.6], [0.1, 0.9]])},
        at_infinity={"x": BEYOND},
        derivatives=(Derivative(("x",)),),
        skip={"axes": "the grid is in the plane"},
    ),
]

ESTIMATORS = [
    Entry(
        "smoothness.estimation.threshold",
        lambda y, at: [estimation.threshold(y, at, kind) for kind in ("soft", "hard")],
        {"y": quantity(SAMPLES), "at": number(0.75)},
        invalid={"at": (-1.0, np.nan)},
        at_infinity={"at": "then nothing is left"},
    ),
    Entry(
        "smoothness.estimation.universal",
        lambda sigma: estimation.universal(8, sigma),
        {"sigma": number(0.5)},
        invalid={"sigma": (-1.0, np.inf)},
    ),
    Entry(
        "smoothness.estimation.sure",
        estimation.sure,
        {"y": quantity(8 * SAMPLES), "sigma": number(0.5)},
        invalid={"sigma": (0.0, -1.0)},
        permute={"y": {"": None}},
    ),
    Entry(
        "smoothness.estimation.denoise",
        lambda coefficients, sigma: estimation.denoise(coefficients, sigma, coarse=0),
        {"coefficients": tree(PYRAMID), "sigma": number(0.5)},
        invalid={"sigma": (0.0, -1.0)},
        slow=True,
    ),
    Entry(
        "smoothness.estimation.linear_oracle",
        estimation.linear_oracle,
        {"noisy": tree(PYRAMID), "truth": tree(PYRAMID), "sigma": number(0.5)},
        invalid={"sigma": (-1.0,)},
        derivatives=(Derivative(("noisy", "truth", "sigma")),),
    ),
    Entry(
        "smoothness.estimation.linear_oracle_risk",
        estimation.linear_oracle_risk,
        {"truth": tree(PYRAMID), "sigma": number(0.5)},
        invalid={"sigma": (-1.0,)},
        derivatives=(Derivative(("truth", "sigma")),),
    ),
    Entry(
        "smoothness.estimation.ideal_risk",
        estimation.ideal_risk,
        {"truth": tree(PYRAMID), "sigma": number(0.625)},
        invalid={"sigma": (-1.0,)},
        derivatives=(Derivative(("truth", "sigma")),),
    ),
    Entry(
        "smoothness.estimation.ridge_risks",
        estimation.ridge_risks,
        {
            "gram": quantity(GRAM),
            "signal": quantity([1.0, -1.0, 0.5]),
            "sigma": number(0.5),
            "ridges": quantity([0.5, 2.0]),
        },
        invalid={"gram": (-GRAM,), "sigma": (-1.0,), "ridges": (np.float32([0.0, 1.0]),)},
        permute={"ridges": {"": 0}},
        derivatives=(Derivative(("gram", "signal", "sigma", "ridges")),),
        slow=True,
    ),
    Entry(
        "smoothness.estimation.minimax_risk",
        lambda n: [estimation.minimax_risk(1.0, 1.0, n, estimator=arm) for arm in ("linear", "adaptive")],
        {"n": quantity([64.0, 1000.0, 200.0])},
        invalid={"n": (NEGATIVE, np.float32([2.0**61, 2.0, 2.0]))},
        integer_values={"n": [64, 200, 100]},
        permute={"n": {"0": 0, "1": 0}},
    ),
    Entry(
        "smoothness.lasso.lasso",
        lasso.lasso,
        {"design": quantity(DESIGN), "y": quantity(SAMPLES[:6]), "penalty": number(0.25)},
        invalid={"penalty": (-1.0,)},
        permute={"design,y": {"coefficients": None, "fitted": 0}},
        derivatives=(Derivative(("design", "y", "penalty"), output=lambda found: found.coefficients),),
        skip={"precision": "the gap is round-off; compared with scikit-learn"},
        slow=True,
    ),
]
ENTRIES = WAVELETS + CLASSES + SPLINES + ESTIMATORS


class TestSmoothness(Gates):
    """Every function of the room that runs on a device."""

    entries = ENTRIES
