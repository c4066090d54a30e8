"""The gates of `double_descent`: exact laws, gradient flow and the path over widths."""

import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, integers, number, quantity, static

from jaxtheory import double_descent
from jaxtheory.double_descent import isotropic, mei_montanari, optimal_ridge

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 3)), RNG.normal(size=5)
T, S = RNG.normal(size=(2, 3)), RNG.normal(size=2)
WIDE, FEW = RNG.normal(size=(4, 6)), RNG.normal(size=4)
TEST, TARGETS = RNG.normal(size=(3, 6)), RNG.normal(size=3)
EIGS, BETA = np.array([2.0, 1.0, 0.25, 0.0]), np.array([1.0, -0.5, 2.0, 1.0])
POSITIVE = np.array([2.0, 1.0, 0.25, 0.5])
NEGATIVE = np.float32([1.0, 1.0, -1.0, 1.0])
TIMES = np.array([0.25, 1.0])
ALL = ("gamma", "signal", "noise", "lam", "unseen")

COMPONENTS = {
    "eigs": quantity(EIGS),
    "beta": quantity(BETA),
    "n": number(2.0),
    "width": quantity([2.0, 3.0]),
    "lam": number(0.125),
    "noise": number(0.5),
    "tail": number(0.25),
}
NO_COMPONENTS = {
    "eigs": (NEGATIVE,),
    "n": (0.0,),
    "width": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])),
    **dict.fromkeys(("lam", "noise", "tail"), (-1.0,)),
}


def best_ridge(signal, noise):
    """Of isotropic data with two features a sample."""
    return optimal_ridge(lambda lam: isotropic(2.0, signal=signal, noise=noise, lam=lam).excess)


ENTRIES = [
    Entry(
        "double_descent.isotropic",
        isotropic,
        {
            "gamma": quantity([0.5, 2.0]),
            "signal": number(1.0),
            "noise": number(0.5),
            "lam": number(0.25),
            "unseen": number(0.125),
        },
        invalid={"gamma": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])), **dict.fromkeys(ALL[1:], (-1.0,))},
        integer_values={"gamma": [1, 2]},
        permute={"gamma": {"excess": 0, "train": 0}},
        derivatives=(
            # at the threshold and beyond
            Derivative(ALL, at={"gamma": [1.0, 2.0]}),
            # the min-norm solution
            Derivative(("gamma", "signal", "noise"), at={"lam": 0.0}),
        ),
    ),
    Entry(
        "double_descent.mei_montanari",
        lambda **given: mei_montanari(activation="relu", **given),
        {
            "psi1": quantity([0.5, 3.0]),
            "psi2": number(2.0),
            "lam": number(0.125),
            "signal": number(1.0),
            "noise": number(0.5),
            "nonlinear": number(0.25),
        },
        invalid={
            "psi1": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])),
            "psi2": (0.0, -1.0),
            **dict.fromkeys(("lam", "signal", "noise", "nonlinear"), (-1.0,)),
        },
        at_infinity={"psi1": "the kernel limit", "psi2": "the limit of many samples"},
        integer_values={"psi1": [1, 3]},
        permute={"psi1": {"excess": 0, "train": 0}},
        derivatives=(
            # at the threshold and beyond
            Derivative(("psi1", "psi2", "lam", "signal", "noise", "nonlinear"), at={"psi1": [2.0, 3.0]}),
        ),
    ),
    Entry(
        "double_descent.finite_gaussian",
        double_descent.finite_gaussian,
        {"p": integers([1, 5]), "n": integers([3, 3]), "beta": quantity(np.append(BETA, 0.5)), "noise": number(0.5)},
        invalid={
            "p": (np.int32([0, 5]), np.int32([6, 1])),
            "n": (np.int32([0, 3]),),
            "noise": (-1.0,),
        },
        derivatives=(Derivative(("beta", "noise")),),
    ),
    Entry(
        "double_descent.flow_risk",
        double_descent.flow_risk,
        {
            "eigs": quantity(EIGS),
            "beta": quantity(BETA),
            "n": number(8.0),
            "noise": number(0.5),
            "times": quantity(TIMES),
        },
        invalid={"eigs": (NEGATIVE,), "n": (3.0, 0.0), "noise": (-1.0,), "times": (np.float32([-1.0, 1.0]),)},
        permute={"eigs,beta": {"bias": None, "excess": None}, "times": {"bias": 0, "variance": 0, "excess": 0}},
        derivatives=(Derivative(("eigs", "beta", "n", "noise", "times"), at={"eigs": POSITIVE}),),
    ),
    Entry(
        "double_descent.linear_flow",
        double_descent.linear_flow,
        {"features": quantity(X), "targets": quantity(Y), "times": quantity(TIMES)},
        invalid={"times": (np.float32([-1.0, 1.0]),)},
        scale={"targets": {"": 1}},
        permute={"features,targets": {"": None}, "times": {"": 0}},
        derivatives=(
            Derivative(("features", "targets", "times")),
            Derivative(
                ("features", "targets", "times"),
                # singular values 1, 1 and 0
                at={"features": np.eye(5, 3) * [1.0, 1.0, 0.0]},
                order=1,
                reason="second derivatives need distinct singular values",
            ),
        ),
    ),
    Entry(
        "double_descent.linear_flow (fewer samples than features)",
        double_descent.linear_flow,
        lambda n: {"features": quantity(T[:n]), "targets": quantity(S[:n]), "times": quantity(TIMES)},
        skip=dict.fromkeys(("wrong kinds", "kinds", "poison", "jit"), "as above"),
    ),
    Entry(
        "double_descent.optimal_ridge",
        best_ridge,
        {"signal": number(1.0), "noise": number(0.5)},
        invalid={"signal": (-1.0,), "noise": (-1.0,)},
        derivatives=(Derivative(("signal", "noise"), condition=100),),
        slow=True,
    ),
    Entry(
        "double_descent.optimal_ridge (range)",
        lambda low, high: optimal_ridge(lambda lam: lam + 4 / lam, low=low, high=high),
        {"low": static(0.01), "high": static(100.0)},
        invalid={"low": (0.0, -1.0, np.nan, 200.0), "high": (np.inf, np.nan, "abc")},
    ),
    Entry(
        "double_descent.general_covariance",
        double_descent.general_covariance,
        {
            "eigs": quantity(EIGS),
            "beta": quantity(BETA),
            "n": quantity([2.0, 8.0]),
            "lam": number(0.125),
            "noise": number(0.5),
        },
        invalid={"eigs": (NEGATIVE,), "n": (np.float32([0.0, 1.0]),), "lam": (-1.0,), "noise": (-1.0,)},
        permute={"eigs,beta": {"excess": None, "train": None}, "n": {"excess": 0, "train": 0}},
        derivatives=(Derivative(("eigs", "beta", "n", "lam", "noise"), at={"eigs": POSITIVE}),),
    ),
    Entry(
        "double_descent.random_feature_spectrum",
        double_descent.random_feature_spectrum,
        {
            "eigs": quantity(EIGS),
            "beta": quantity(BETA),
            "n": number(2.0),
            "k": quantity([2.0, 3.0]),
            "ridge": number(0.25),
            "noise": number(0.5),
        },
        invalid={
            "eigs": (NEGATIVE,),
            "n": (0.0,),
            "k": (np.float32([0.0, 1.0]), np.float32([-1.0, 1.0])),
            "ridge": (-1.0,),
            "noise": (-1.0,),
        },
        at_infinity={"k": "the kernel itself"},
        permute={"eigs,beta": {"test": None, "train": None}, "k": {"test": 0, "train": 0}},
        derivatives=(Derivative(("eigs", "beta", "n", "k", "ridge", "noise"), at={"eigs": POSITIVE}),),
    ),
    Entry(
        "double_descent.variance_components",
        double_descent.variance_components,
        COMPONENTS,
        invalid=NO_COMPONENTS,
        at_infinity={"width": "the kernel itself"},
        permute={"eigs,beta": {"bias": None, "excess": None}, "width": {"bias": 0, "excess": 0}},
        derivatives=(
            Derivative(tuple(COMPONENTS), at={"eigs": POSITIVE}),
            # the kernel itself
            Derivative(
                ("eigs", "beta", "n", "lam", "noise", "tail"),
                at={"eigs": POSITIVE, "width": [np.inf, np.inf]},
                order=1,
                reason="second derivatives are as above",
            ),
            # every mode is fitted, below and beyond
            Derivative(
                ("eigs", "beta", "noise"),
                at={"eigs": POSITIVE, "n": 9.0, "lam": 0.0, "tail": 0.0, "width": [5.0, 7.0]},
                order=1,
                reason="second derivatives are as above",
            ),
        ),
    ),
    Entry(
        "double_descent.ensemble_risk",
        double_descent.ensemble_risk,
        COMPONENTS | {"members": number(2.0), "bags": number(3.0), "overlap": number(0.5)},
        invalid=NO_COMPONENTS | {"members": (0.0,), "bags": (0.5,), "overlap": (-0.5, 1.5)},
        at_infinity=dict.fromkeys(("width", "members", "bags"), "averages over all draws"),
        integer_values={"overlap": 1, "members": 2, "bags": 3},
        permute={"eigs,beta": {"excess": None}, "width": {"excess": 0}},
        derivatives=(
            Derivative(
                (*COMPONENTS, "members", "bags", "overlap"),
                at={"eigs": POSITIVE},
                order=1,
                reason="second derivatives are those of `variance_components`",
            ),
        ),
    ),
    Entry(
        "double_descent.separability_threshold",
        double_descent.separability_threshold,
        {"signal": quantity([0.5, 2.0])},
        invalid={"signal": (np.float32([-1.0, 1.0]),)},
        permute={"signal": {"": 0}},
        derivatives=(Derivative(("signal",), condition=10),),
    ),
    Entry(
        "double_descent.max_margin",
        double_descent.max_margin,
        {"aspect": quantity([0.75, 2.0]), "signal": number(1.0)},
        invalid={"aspect": (np.float32([0.0, 1.0]),), "signal": (-1.0,)},
        permute={"aspect": {"margin": 0, "error": 0}},
        derivatives=(Derivative(("aspect", "signal"), condition=10),),
        slow=True,
    ),
    Entry(
        "double_descent.logistic",
        double_descent.logistic,
        {"samples_per_dimension": quantity([0.75, 2.0]), "ridge": number(0.125), "signal": number(1.0)},
        invalid={"samples_per_dimension": (np.float32([0.0, 1.0]),), "ridge": (-1.0,), "signal": (-1.0,)},
        integer_values={"samples_per_dimension": [1, 2], "ridge": 1},
        permute={"samples_per_dimension": {"error": 0, "test_loss": 0}},
        derivatives=(
            Derivative(("samples_per_dimension", "ridge", "signal"), condition=10, order=1, reason="compilation time"),
        ),
        slow=True,
    ),
    Entry(
        "double_descent.covariance_logistic",
        double_descent.covariance_logistic,
        {
            "eigs": quantity(EIGS),
            "beta": quantity(BETA),
            "n": quantity([3.0, 8.0]),
            "ridge": number(0.125),
            "signal": number(1.0),
        },
        invalid={
            "eigs": (NEGATIVE,),
            "beta": (np.zeros(4, np.float32),),
            "n": (np.float32([0.0, 1.0]),),
            "ridge": (0.0,),
            "signal": (-1.0,),
        },
        integer_values={"ridge": 1},
        permute={"eigs,beta": {"error": None, "test_loss": None}, "n": {"error": 0}},
        derivatives=(
            Derivative(
                ("eigs", "beta", "ridge", "signal"),
                at={"eigs": POSITIVE},
                condition=10,
                order=1,
                reason="compilation time",
            ),
        ),
        slow=True,
    ),
    Entry(
        "double_descent.isotropic_flow",
        double_descent.isotropic_flow,
        {"gamma": number(0.5), "times": quantity([0.25, 2.0]), "signal": number(1.0), "noise": number(0.5)},
        invalid={
            "gamma": (0.0, -1.0),
            "times": (np.float32([-1.0, 1.0]),),
            **dict.fromkeys(("signal", "noise"), (-1.0,)),
        },
        permute={"times": {"excess": 0, "train": 0}},
        derivatives=(
            Derivative(("gamma", "times", "signal", "noise")),
            # at the threshold
            Derivative(("times", "signal", "noise"), at={"gamma": 1.0}),
        ),
    ),
    Entry(
        "double_descent.covariance_flow",
        double_descent.covariance_flow,
        {
            "eigs": quantity(EIGS),
            "beta": quantity(BETA),
            "n": number(2.0),
            "noise": number(0.5),
            "times": quantity([0.25, 2.0]),
        },
        invalid={"eigs": (NEGATIVE,), "n": (0.0,), "noise": (-1.0,), "times": (np.float32([-1.0, 1.0]),)},
        permute={"eigs,beta": {"excess": None, "train": None}, "times": {"excess": 0}},
        derivatives=(
            Derivative(
                ("eigs", "beta", "n", "noise", "times"),
                at={"eigs": POSITIVE},
                condition=10,
                order=1,
                reason="compilation time",
            ),
        ),
        slow=True,
    ),
    Entry(
        "double_descent.width_path",
        double_descent.width_path,
        {
            "features": quantity(WIDE),
            "targets": quantity(FEW),
            "test_features": quantity(TEST),
            "test_targets": quantity(TARGETS),
            "ridge": number(0.25),
        },
        invalid={"ridge": (-1.0,)},
        permute={"features,targets": {"train_mse": None}, "test_features,test_targets": {"test_mse": None}},
        skip={"derivatives": "tests/double_descent/test_width_path.py, against closed forms"},
        slow=True,
    ),
    Entry(
        "double_descent.width_ridge",
        double_descent.width_ridge,
        {"ridge": number(0.25), "width": quantity([2.0, 3.0])},
        invalid={"ridge": (-1.0,), "width": (np.float32([0.0, 1.0]),)},
        permute={"width": {"": 0}},
        derivatives=(Derivative(("ridge", "width")),),
    ),
]


class TestDoubleDescent(Gates):
    """Every public function of the room."""

    entries = ENTRIES
