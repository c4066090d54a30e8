"""What networks can express: explicit constructions, lower bounds for all networks of a size, and exact counts.

- `relu_network`: networks as lists of (W, b), their algebra and audit; x², products, sawtooth, tensor products
- `linear_regions`, `regions`: exact regions and breakpoints, the bounds of Montúfar and of Serra
- `barron`, `greedy`: universal approximation: constants, the exact Monte Carlo law, greedy rates
- `kolmogorov`: the superposition theorem in exact integers
- `ridgelet`: the distribution of a two-layer network's weights, its constant known before any fit
- `depth`, `three_layers`, `two_layers`: certificates, the deeper networks they are held against, and the adversary

>>> depth.neurons_needed(lambda n: depth.inner_product_certificate(20, 5, n), 0.01)
40555
>>> relu_network.audit(three_layers.inner_product(20, 5)).neurons
528
"""

from jaxtheory.expressivity import (
    barron,
    depth,
    greedy,
    kolmogorov,
    regions,
    relu_network,
    ridgelet,
    three_layers,
    two_layers,
)
from jaxtheory.expressivity.regions import Regions, breakpoints, linear_regions
from jaxtheory.expressivity.relu_network import Audit, Network, audit

__all__ = [
    "Audit",
    "Network",
    "Regions",
    "audit",
    "barron",
    "breakpoints",
    "depth",
    "greedy",
    "kolmogorov",
    "linear_regions",
    "regions",
    "relu_network",
    "ridgelet",
    "three_layers",
    "two_layers",
]
