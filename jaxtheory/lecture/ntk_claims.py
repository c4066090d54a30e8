"""What is claimed of the tangent kernel before it is measured."""

from typing import Any

import numpy as np

from jaxtheory.infinite.corrections import relu_pair_moments
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims

COSINE = 0.5  # of the two unit inputs whose kernel is drawn


def predict(config: Any) -> Claims:
    """What is known of the kernel's mean, spread and motion, and of what training learns first."""
    mean, deviation = relu_pair_moments(COSINE)
    curves = {"sd": [deviation / m**0.5 for m in config.widths], "mean": [mean]}
    return Claims((*_about_start(mean, deviation), *_about_drift(config), *_about_lazy(config), *_about_rich()), curves)


def _about_start(mean: float, deviation: float) -> tuple[Claim, ...]:
    features = mean - COSINE * (1 - np.arccos(COSINE) / np.pi)
    return (
        Claim(
            "mean", "start: mean kernel at cosine 1/2, narrowest ReLU network", "Cho, Saul (2009), eqs. 3-8", mean,
            "4.5 standard errors over draws", standard_errors=SIGNIFICANT, rival=float(features),
            rival_law="the last layer's part alone",
        ),
        Claim(
            "deviation", "start: standard deviation · √width, all widths", "Cho, Saul (2009), eqs. 3-8", deviation,
            "4.5 standard errors over draws", standard_errors=SIGNIFICANT,
        ),
        Claim(
            "deviation_slope", "start: exponent of width in the deviation", "Jacot et al. (2018), Thm 1", -0.5,
            "4.5 standard errors of the fit",
            standard_errors=SIGNIFICANT, rival=-1.0, rival_law="a spread of order 1/width",
        ),
    )  # fmt: skip


def _about_drift(config: Any) -> tuple[Claim, ...]:
    """On orthogonal inputs, where what a unit's flip changes is not averaged out and the bound −1/2 is an equality.

    Inputs in general position give a faster fall for ReLU, about −2/3 at widths 256 to 4096: −1/2 is there a bound.
    """
    first, last = float(config.drift_widths[0]), float(config.drift_widths[-1])
    flips = (first**-0.25 - last**-0.25) / np.log(last / first)  # of a slope, where 1 + m^(−1/4) is the next order
    general: dict[str, Any] = {"rival": -2 / 3, "rival_law": "inputs in general position"}
    return (
        Claim(
            "drift_relu", "orthogonal inputs: exponent of width in the kernel's motion in training, ReLU",
            "Lee et al. (2019), Thm 2.1", -0.5, "theory: flips of units, next term m^(−1/4) of it; 4.5 standard errors",
            tolerance=float(flips), standard_errors=SIGNIFICANT, **general,
        ),
        Claim(
            "drift_tanh", "orthogonal inputs: the same for tanh, which has no kink to flip", "Dyer, Gur-Ari (2020)",
            -1.0, "theory: next term m^(−1/2) of it, 1/32 at the least width; 4.5 standard errors", tolerance=1 / 32,
            standard_errors=SIGNIFICANT, rival=-0.5, rival_law="that of ReLU",
        ),
        Claim(
            "drift_parameters", "orthogonal inputs: exponent of width in ‖θ_t − θ_0‖ / ‖θ_0‖",
            "Lee et al. (2019), Thm 2.1", -0.5, "theory: next term m^(−1/2) of it; 4.5 standard errors",
            tolerance=1 / 32, standard_errors=SIGNIFICANT, **general,
        ),
    )  # fmt: skip


def _about_lazy(config: Any) -> tuple[Claim, ...]:
    remainder = min(config.lazy_widths) ** -0.5
    return (
        Claim(
            "gap_slope", "digits: exponent of width in |network − its linearization| on test digits",
            "Lee et al. (2019), Thm 2.1", -0.5, "4.5 standard errors of the fit",
            standard_errors=SIGNIFICANT, relation="<=",
            rival=0.0, rival_law="a gap at any width",
        ),
        Claim(
            "round_off", "digits: linearization trained in weights minus its kernel's closed form, relative",
            "Lee et al. (2019), section 2.2", 0.0, "theory: √steps roundings of float32, condition 100",
            tolerance=100 * 1.2e-7 * config.lazy_steps**0.5,
        ),
        Claim(
            "order", "digits: exponent of the kernel's rate ηλ in a component's measured learning rate",
            "Lee et al. (2019), equation 9", 1.0, "theory: drift of λ by width^(−1/2); 4.5 standard errors",
            tolerance=remainder, standard_errors=SIGNIFICANT, rival=0.0, rival_law="all components at one rate",
        ),
    )  # fmt: skip


def _about_rich() -> tuple[Claim, ...]:
    """On digits beside pixels of noise, which a fixed kernel cannot leave out and a learned one does.

    Without the noise the best fixed kernel does better than the learned one: nothing is claimed there.
    """
    source, basis = "Ghorbani, Mei, Misiakiewicz, Montanari (2020)", "significance: 4.5 standard errors below"
    return (
        Claim(
            "alignment_growth", "digits and noise pixels: growth in training of the kernel's alignment with the labels",
            "Atanasov, Bordelon, Pehlevan (2022)", 0.0, "significance: 4.5 standard errors above",
            standard_errors=-SIGNIFICANT,
            relation=">=",
        ),
        Claim(
            "learned_less_initial", "digits and noise pixels: test error of the learned kernel minus the initial one's",
            source, 0.0, basis, standard_errors=-SIGNIFICANT, relation="<=",
        ),
        Claim(
            "learned_less_fixed", "digits and noise pixels: test error of the learned kernel minus the best fixed's",
            source, 0.0, basis, standard_errors=-SIGNIFICANT, relation="<=",
        ),
        Claim(
            "learned_less_network", "digits and noise pixels: test error of the learned kernel minus the network's",
            "Long (2021)", 0.0, "4.5 standard errors over seeds", standard_errors=SIGNIFICANT, rival=0.01,
            rival_law="one digit in a hundred more",
        ),
    )  # fmt: skip
