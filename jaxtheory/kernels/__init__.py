"""Kernels and what follows from them, whoever made the kernel: regression, dynamics, spectra, learning curves.

A kernel function is `kernel(x1, x2) -> [n1 n2]`; a Gram matrix may stand in its place. `ridge` is what is added to the
unnormalized Gram matrix.

- kernels: `gaussian`, `laplace`, `matern`, `periodic_spline`, `arc_cosine`, `polynomial`, `precomputed`
- at size: `gram`, `matvec`
- regression: `fit`, `predict`, `ridge_path` (all ridges, leave-one-out, GCV); `posterior`, `log_marginal_likelihood`
- training of wide networks, of any loss: `gradient_flow`, `gradient_descent`, `cross_entropy_flow`, `ensemble_flow`
- its kernels and step sizes: `matrix_layout`, `tensor_layout` of coupled outputs; `max_learning_rate`
- spectra: `sphere_eigenvalues`, `empirical_spectrum`, `lanczos_density`, `degrees_of_freedom`
- random features: `random_features`, nested in the width, and their `feature_weights`; `leverage_features`, fewer
- errors before any data: `learning_curve`, `optimal_rate`, `noiseless_rate`

>>> import jax.numpy as jnp
>>> from jaxtheory import kernels
>>> x = jnp.linspace(-1.0, 1.0, 30)[:, None]
>>> model = kernels.fit(kernels.laplace(0.5), x, jnp.sin(3 * x[:, 0]), ridge=1e-4)
>>> f"{kernels.predict(model, jnp.array([[0.5]]))[0]:.2f}"
'0.99'
"""

from jaxtheory.kernels.cross_entropy import cross_entropy_flow
from jaxtheory.kernels.dynamics import Ensemble, ensemble_flow, gradient_descent, gradient_flow
from jaxtheory.kernels.features import FeatureWeights, feature_weights, random_features
from jaxtheory.kernels.functions import Kernel, arc_cosine, gaussian, laplace, matern, polynomial, precomputed
from jaxtheory.kernels.gram import diagonal, gram, matvec
from jaxtheory.kernels.layouts import matrix_layout, tensor_layout
from jaxtheory.kernels.learning_curves import (
    LearningCurve,
    effective_regularization,
    learning_curve,
    noiseless_rate,
    optimal_rate,
)
from jaxtheory.kernels.leverage import LeverageFeatures, features_needed, leverage_features, leverage_scores
from jaxtheory.kernels.preconditioners import low_rank_inverse, nystrom, rpcholesky
from jaxtheory.kernels.processes import Evidence, Posterior, log_marginal_likelihood, posterior
from jaxtheory.kernels.regression import KernelRegressor, fit, predict
from jaxtheory.kernels.ridge_path import RidgePath, ridge_path
from jaxtheory.kernels.spectra import (
    SpectralDensity,
    degrees_of_freedom,
    empirical_spectrum,
    lanczos_density,
    spectral_sum,
)
from jaxtheory.kernels.sphere import SphereSpectrum, multiplicities, series_eigenvalues, sphere_eigenvalues
from jaxtheory.kernels.splines import periodic_spline
from jaxtheory.kernels.stability import max_learning_rate
from jaxtheory.kernels.trajectories import TrainingState, Trajectory
from jaxtheory.results import Estimate

__all__ = [
    "Ensemble",
    "Estimate",
    "Evidence",
    "FeatureWeights",
    "Kernel",
    "KernelRegressor",
    "LearningCurve",
    "LeverageFeatures",
    "Posterior",
    "RidgePath",
    "SpectralDensity",
    "SphereSpectrum",
    "TrainingState",
    "Trajectory",
    "arc_cosine",
    "cross_entropy_flow",
    "degrees_of_freedom",
    "diagonal",
    "effective_regularization",
    "empirical_spectrum",
    "ensemble_flow",
    "feature_weights",
    "features_needed",
    "fit",
    "gaussian",
    "gradient_descent",
    "gradient_flow",
    "gram",
    "lanczos_density",
    "laplace",
    "learning_curve",
    "leverage_features",
    "leverage_scores",
    "log_marginal_likelihood",
    "low_rank_inverse",
    "matern",
    "matrix_layout",
    "matvec",
    "max_learning_rate",
    "multiplicities",
    "noiseless_rate",
    "nystrom",
    "optimal_rate",
    "periodic_spline",
    "polynomial",
    "posterior",
    "precomputed",
    "predict",
    "random_features",
    "ridge_path",
    "rpcholesky",
    "series_eigenvalues",
    "spectral_sum",
    "sphere_eigenvalues",
    "tensor_layout",
]
