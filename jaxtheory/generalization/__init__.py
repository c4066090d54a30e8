"""Norms, bounds and complexity measures of trained networks, with all their constants.

A network is the `chain` of matrices of its layers; `measures` gives every measure of it bare and as a bound, and says
whether the bound is vacuous. Capacities that do not look at weights (VC dimension, Rademacher complexity, global and
local, NTK label complexity), PAC-Bayes certificates (with priors from part of the data too), networks pruned by the
degrees of freedom of their layers, margins of all layers, the signal of gradients, sharpness, relative flatness and the
ranking of measures by Kendall's tau are functions of their own.

>>> import jax.numpy as jnp
>>> table = measures([jnp.eye(2), jnp.eye(2)], (jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([0, 1])))
>>> {m.name: float(m.measure) for m in table.measures}["parameters"]
8.0
"""

from jaxtheory.generalization.capacity import Rademacher, log_growth, ntk_complexity, rademacher, vc_dimension
from jaxtheory.generalization.chain import Chain, chain, forward
from jaxtheory.generalization.compression import Compressed, Cushions, compressed, cushions
from jaxtheory.generalization.data_prior import learned_prior
from jaxtheory.generalization.flatness import relative_flatness
from jaxtheory.generalization.gradients import GradientSignal, gradient_signal
from jaxtheory.generalization.hidden_margins import LayerMargins, layer_margins
from jaxtheory.generalization.local import LocalComplexity, local_complexity, local_rademacher
from jaxtheory.generalization.measures import SOURCES, Measure, Table, measures
from jaxtheory.generalization.norms import (
    frobenius_norms,
    group_norms,
    l1_path_norm,
    margins,
    path_norm,
    spectral_complexity,
    spectral_norms,
    weight_ratio,
)
from jaxtheory.generalization.pac_bayes import Certificate, gaussian_posterior, kl_inverse
from jaxtheory.generalization.pruning import Pruned, feature_freedom, spectral_pruning
from jaxtheory.generalization.ranking import Ranking, kendall, rank
from jaxtheory.generalization.sharpness import Rise, random_direction, worst_direction

__all__ = [
    "SOURCES",
    "Certificate",
    "Chain",
    "Compressed",
    "Cushions",
    "GradientSignal",
    "LayerMargins",
    "LocalComplexity",
    "Measure",
    "Pruned",
    "Rademacher",
    "Ranking",
    "Rise",
    "Table",
    "chain",
    "compressed",
    "cushions",
    "feature_freedom",
    "forward",
    "frobenius_norms",
    "gaussian_posterior",
    "gradient_signal",
    "group_norms",
    "kendall",
    "kl_inverse",
    "l1_path_norm",
    "layer_margins",
    "learned_prior",
    "local_complexity",
    "local_rademacher",
    "log_growth",
    "margins",
    "measures",
    "ntk_complexity",
    "path_norm",
    "rademacher",
    "random_direction",
    "rank",
    "relative_flatness",
    "spectral_complexity",
    "spectral_norms",
    "spectral_pruning",
    "vc_dimension",
    "weight_ratio",
    "worst_direction",
]
