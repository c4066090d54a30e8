"""Double descent: what happens to least squares and to networks as their width passes the number of samples.

`width_path` solves min-norm or ridge regression exactly at every width of nested features (by `width_ridge` one ridge
means one thing at all of them), `linear_flow` at every time of training. What the curves must be is known:
`finite_gaussian` at any size, `flow_risk` at any time (of random designs `isotropic_flow` and `covariance_flow`), and
in the proportional limit `isotropic`, `general_covariance`, `random_feature_spectrum` and `mei_montanari`;
`optimal_ridge` is the ridge that removes the peak of any of them. `variance_components` says how much of the error
data, initialization and label noise cause, and `ensemble_risk` what averages over them leave. On the sphere in high
dimension the risk of a kernel or of random features falls in steps, at n or N next to powers of d: `staircase`, and
`sphere_risk` at any dimension. Of classifiers, `separability_threshold` says when noisy labels can be separated, and
`max_margin`, `logistic` and `covariance_logistic` (also of the hinge and squared losses) what is learned.

>>> import jax
>>> import jax.numpy as jnp
>>> a, t = jax.random.normal(jax.random.key(0), (10, 30)), jax.random.normal(jax.random.key(1), (5, 30))
>>> width_path(a, a.sum(axis=1), t, t.sum(axis=1), widths=jnp.array([5, 10, 30])).test_mse.shape
(3,)
>>> f"{isotropic(0.5, signal=1.0, noise=0.25, lam=0.1).excess:.4f}"
'0.1768'
"""

from jaxtheory.double_descent.asymptotics import Asymptotics, isotropic, mei_montanari
from jaxtheory.double_descent.classifiers import Classifier, logistic
from jaxtheory.double_descent.components import Components, Ensemble, ensemble_risk, variance_components
from jaxtheory.double_descent.covariance_classifiers import covariance_logistic
from jaxtheory.double_descent.epochs import FlowRisk, flow_risk, linear_flow
from jaxtheory.double_descent.finite import finite_gaussian
from jaxtheory.double_descent.flows import FlowCurve, covariance_flow, isotropic_flow
from jaxtheory.double_descent.optimal import Optimum, optimal_ridge
from jaxtheory.double_descent.separability import MaxMargin, max_margin, separability_threshold
from jaxtheory.double_descent.spectral import FeatureRisk, SpectralRisk, general_covariance, random_feature_spectrum
from jaxtheory.double_descent.staircase import SphereRisk, sphere_risk, staircase
from jaxtheory.double_descent.width_path import WidthPath, width_path, width_ridge

__all__ = [
    "Asymptotics",
    "Classifier",
    "Components",
    "Ensemble",
    "FeatureRisk",
    "FlowCurve",
    "FlowRisk",
    "MaxMargin",
    "Optimum",
    "SpectralRisk",
    "SphereRisk",
    "WidthPath",
    "covariance_flow",
    "covariance_logistic",
    "ensemble_risk",
    "finite_gaussian",
    "flow_risk",
    "general_covariance",
    "isotropic",
    "isotropic_flow",
    "linear_flow",
    "logistic",
    "max_margin",
    "mei_montanari",
    "optimal_ridge",
    "random_feature_spectrum",
    "separability_threshold",
    "sphere_risk",
    "staircase",
    "variance_components",
    "width_path",
    "width_ridge",
]
