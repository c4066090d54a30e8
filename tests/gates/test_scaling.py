"""The gates of `scaling`: exact risks of one-pass SGD, fits of scaling laws, frontiers."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, number, quantity

from jaxtheory import scaling

RNG = np.random.default_rng(0)
FEATURES, EIGS, TARGET = RNG.normal(size=(4, 3)), np.array([2.0, 1.0, 0.5, 0.25]), np.array([1.0, -0.5, 2.0, 1.0])
NEGATIVE = np.float32([1.0, 1.0, -1.0, 1.0])
STEPS = {"batch": quantity([1.0, 2.0, 3.0]), "step_size": quantity([0.25, 0.125, 0.0625])}
SMALL_STEPS = {**STEPS, "step_size": quantity([0.0625, 0.03125, 0.015625])}
STEPS_INVALID = {"batch": (np.float32([0.5, 1.0, 1.0]),), "step_size": (np.float32([-1.0, 1.0, 1.0]),)}
ENDLESS = {"batch": "gradient descent on the risk"}

RUNS = [axis.ravel() for axis in np.meshgrid([1.0, 4.0, 16.0, 64.0], [1.0, 8.0, 32.0, 256.0])]
LOSS = (1 + 2 / RUNS[0] ** 0.5 + 3 / RUNS[1] ** 0.5) * np.exp(2e-3 * RNG.normal(size=16))


def law():
    """A law with three resampled fits."""
    samples = scaling.Coefficients(*(np.array(v) * [0.9, 1.0, 1.2] for v in (1.0, 2.0, 0.5, 3.0, 0.25)))
    low, estimate, high = (scaling.Coefficients(*(jnp.float32(v[i]) for v in samples)) for i in range(3))
    samples = scaling.Coefficients(*(jnp.asarray(v, jnp.float32) for v in samples))
    return scaling.ScalingLaw(estimate, low, high, samples, jnp.float32(0.0), jnp.int32(0))


LAW = law()
SIZES = np.geomspace(2.0, 16.0, 7)

ENTRIES = [
    Entry(
        "scaling.one_pass_risk",
        lambda **given: scaling.one_pass_risk(**given, steps=3),
        {
            "features": quantity(FEATURES),
            "eigs": quantity(EIGS),
            "target": quantity(TARGET),
            **STEPS,
            "momentum": number(0.5),
        },
        invalid={"eigs": (NEGATIVE,), "momentum": (-0.5, 2.0), **STEPS_INVALID},
        at_infinity=ENDLESS,
        integer_values={"batch": [1, 2, 3], "momentum": 0},
        permute={"eigs,features,target": {"risk": None, "floor": None}},
        derivatives=(
            # within the range of the batch
            Derivative(("features", "eigs", "target", "batch", "step_size", "momentum"), at={"batch": [1.5, 2.0, 3.0]}),
            Derivative(
                ("target", "step_size", "momentum"),
                # singular values 1, 1 and 0
                at={"features": np.eye(4, 3) * [1.0, 1.0, 0.0]},
                order=1,
                reason="polynomials in these, of which the first entry checks the second derivatives",
            ),
        ),
    ),
    Entry(
        "scaling.one_pass_equivalent",
        lambda **given: scaling.one_pass_equivalent(**given, steps=3),
        {"eigs": quantity(EIGS), "target": quantity(TARGET), "width": number(3.0), **SMALL_STEPS},
        invalid={"eigs": (NEGATIVE,), "width": (0.0, -1.0), **STEPS_INVALID},
        at_infinity=ENDLESS,
        integer_values={"batch": [1, 2, 3]},
        permute={"eigs,target": {"risk": None, "floor": None}},
        derivatives=(
            Derivative(
                ("eigs", "target", "width", "step_size"),
                at={"eigs": [1.0, 1.0, 0.5, 0.25]},
                order=1,
                # the quadrature's own error, 1e-6, has a derivative
                condition=1e4,
                reason="the second derivatives take minutes to compile",
            ),
        ),
    ),
    Entry(
        "scaling.fit_scaling_law",
        lambda key, **given: scaling.fit_scaling_law(**given, key=key, resamples=8),
        {
            "params": quantity(RUNS[0]),
            "tokens": quantity(RUNS[1]),
            "loss": quantity(LOSS),
            "key": key(),
            "huber": number(0.125),
            "level": number(0.75),
        },
        invalid={
            **{name: (np.float32([1.0, -1.0] * 8), np.zeros(16, np.float32)) for name in ("params", "tokens", "loss")},
            "huber": (0.0, -1.0),
            "level": (0.0, 1.0, 2.0),
        },
        at_infinity={"huber": "least squares"},
        integer_values={"huber": 1},
        scale={"loss": {"estimate.params_exponent": 0, "estimate.floor": 1, "low.tokens_scale": 1, "objective": 0}},
        condition=1000,  # of the exponents, in the logarithms
        slow=True,
    ),
    Entry(
        "scaling.allocate",
        lambda compute, cost, level: scaling.allocate(LAW, compute, cost=cost, level=level),
        {"compute": quantity([16.0, 64.0]), "cost": number(2.0), "level": number(0.5)},
        invalid={
            "compute": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])),
            "cost": (0.0, -1.0),
            "level": (0.0, 1.0),
        },
        integer_values={"level": 1},
        permute={"compute": {"estimate.params": 0, "low.loss": 0}},
        derivatives=(Derivative(("compute", "cost"), output=lambda found: found.estimate),),
    ),
    Entry(
        "scaling.compute_optimal",
        scaling.compute_optimal,
        {
            "widths": quantity(SIZES),
            "risk": quantity(1 / SIZES[:, None] + 1 / np.arange(0.5, 40)),
            "compute": quantity([30.0, 40.0, 60.0]),
            "batch": number(1.0),
        },
        invalid={
            "widths": (np.float32(-SIZES), np.float32(SIZES - 2)),
            "risk": (np.zeros((7, 40), np.float32),),
            "compute": (np.float32([0.0, 30.0, 40.0]),),
            "batch": (0.0, -1.0),
        },
        integer_values={"widths": [2, 3, 4, 5, 6, 8, 16], "risk": np.add.outer([5, 4, 3, 2, 3, 4, 5], np.zeros(40))},
        scale={"risk": {"risk": 1, "width": 0, "steps": 0, "risk_law.slope": 0}},
        scale_condition=100,
        permute={
            "compute": {"risk": 0, "width": 0, "risk_law.slope": None},
            "widths,risk": {"risk": None, "width": None},
        },
        derivatives=(
            # the place of the vertex divides by the curvature, 0.1 here, so that higher derivatives are large
            Derivative(
                ("risk",),
                output=lambda found: (found.risk, found.width, found.risk_law.slope),
                condition=100,
                step=2.5e-5,
            ),
        ),
    ),
    Entry(
        "scaling.four_regimes",
        scaling.four_regimes,
        {
            "eigs": quantity(EIGS),
            "target": quantity(TARGET),
            "sizes": quantity([2.0, 3.0]),
            "fixed": number(1.0),
            "noise": number(0.25),
        },
        invalid={
            "eigs": (NEGATIVE,),
            "sizes": (np.float32([1.0, 2.0]), np.float32([0.5, 2.0])),
            "fixed": (0.0, -1.0, 2.5),
            "noise": (-1.0,),
        },
        permute={"eigs,target": {"data": None, "width": None}, "sizes": {"data": 0, "variance": 0}},
        derivatives=(Derivative(("eigs", "target", "sizes", "fixed", "noise"), order=1, reason="a long program"),),
    ),
    Entry(
        "scaling.frontier_exponents",
        scaling.frontier_exponents,
        {"alpha": quantity([0.75, 1.0, 2.0]), "beta": quantity([0.25, 1.5, 1.0])},
        invalid={
            "alpha": (np.float32([0.0, 1.0, 1.0]), np.float32([-1.0, 1.0, 1.0])),
            "beta": (np.float32([-2.0, 1.0, 1.0]),),
        },
        integer_values={"alpha": [1, 1, 1], "beta": [1, 0, 2]},
        permute={"alpha,beta": {"risk": 0, "width": 0, "phase": 0}},
        derivatives=(
            Derivative(("alpha", "beta")),
            Derivative(("alpha", "beta"), at={"alpha": [0.2, 0.28, 0.4], "beta": [0.8, 1.0, 0.25]}),
        ),
    ),
]


class TestScaling(Gates):
    """Every public function of the room."""

    entries = ENTRIES
