r"""The feature-learning limit of deep networks: infinite width, features that move, one axis from lazy to rich.

    h¹ = W⁰x/√d,  h^{l+1} = W^l φ(h^l)/√N,  f = w·φ(h^L)/(γ0 N),  steps η γ0² N on Σ_μ ℓ(f_μ, y_μ)

As N → ∞ the neurons of a layer become independent draws of one law, and predictions and kernels become numbers. The
richness γ0 says how far features move: γ0 → 0 is the constant tangent kernel (`infinite.limit`), L = 1 is the
mean-field flow of particles (`meanfield`).

- `solve`: the course of training in the limit, by samples of the law, with standard errors.
- `linear`, `linear_modes`, `linear_flow`: deep linear networks without sampling, Saxe's modes, flows from any start.
- `fluctuations`: N times the variance of networks of width N about the limit.
- `networks`: networks of finite width in the same scaling.

Method of `solve`. In the field theory of Bordelon and Pehlevan (2022), with g = φ'(h) z and Δ = −∂ℓ/∂f,

    h^l(t) = u^l(t) + Σ_{s<t} [A^{l−1}(t, s) + ηγ0 Δ(s) Φ^{l−1}(t, s)] g^l(s),       u^l ~ GP(0, Φ^{l−1})
    z^l(t) = r^l(t) + Σ_{s≤t} [B^l(t, s) + ηγ0 Δ(s) G^{l+1}(t, s)] φ(h^l(s)),        r^l ~ GP(0, G^{l+1})
    Φ^l = E[φφ],  G^l = E[gg],  A^l(t, s) = E[∂φ(h^l(t))/∂r^l(s)],  B^l(t, s) = E[∂g^{l+1}(t)/∂u^{l+1}(s)]

every quantity at time t depends on earlier ones alone (and within a step on lower layers forward, higher ones
backward). The Gaussian fields u and r are the images of the features and of the cotangents under the initial matrix and
its transpose, and the responses A and B are what conditioning a Gaussian matrix on those images yields. So one sweep
draws, for each product with a hidden matrix, one Gaussian vector of M samples orthogonal to what is known, and computes
with M neurons as a network does (`gaussian_matrix`). No response function is stored, nothing is inverted, and no fixed
point is iterated. Orthonormal draws and pairs of opposite readouts remove most of the sampling noise; independent
groups of samples give the standard errors.

Source: Bordelon and Pehlevan (2022), equations 7-9; Bolthausen (2014) for the conditioning; Yang and Hu (2021).
"""

from jaxtheory.feature_learning.finite import Networks, networks
from jaxtheory.feature_learning.fluctuations import Fluctuations, fluctuations
from jaxtheory.feature_learning.linear import LinearFlow, LinearSolution, linear, linear_flow, linear_modes
from jaxtheory.feature_learning.solution import Kernels, Solution, State
from jaxtheory.feature_learning.solver import solve
from jaxtheory.results import Estimate

__all__ = [
    "Estimate",
    "Fluctuations",
    "Kernels",
    "LinearFlow",
    "LinearSolution",
    "Networks",
    "Solution",
    "State",
    "fluctuations",
    "linear",
    "linear_flow",
    "linear_modes",
    "networks",
    "solve",
]
