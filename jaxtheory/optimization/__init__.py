r"""Optimization landscapes and implicit bias: where descent gets stuck, how it escapes, and which solution it finds.

`saddles` holds the landscape on which gradient descent takes exponential time and perturbed descent does not;
`landscapes` has losses whose critical points are known with their Hessian spectra; `implicit_bias` states which of
many interpolants gradient descent finds, each law as an exact prediction beside its run; `teacher_student` has the
exact dynamics of students that learn from teachers; `edge_of_stability` says what gradient descent does at large steps;
`overparametrized` has the residual of wide networks from the spectrum of their kernel; `label_noise` has the flat
minima of SGD with noisy labels; `linear_grokking` predicts how long test accuracy is behind training accuracy.

>>> import jax, numpy as np
>>> run = saddles.escape_times(jax.random.key(0), dim=5, L=1.0, gamma=1.0, tau=float(np.e), method="perturbed")
>>> bool(run.total < 300)  # gradient descent needs about 500
True
"""

from jaxtheory.optimization import (
    edge_of_stability,
    implicit_bias,
    label_noise,
    landscapes,
    overparametrized,
    saddles,
    teacher_student,
)
from jaxtheory.optimization.collapse import Collapse, neural_collapse
from jaxtheory.optimization.grokking import Grokking, Spectrum, linear_grokking, marchenko_pastur
from jaxtheory.optimization.langevin_exit import Exit, exit_time, mean_exit_time
from jaxtheory.optimization.metastability import Crossing, eyring_kramers
from jaxtheory.optimization.octopus import octopus

__all__ = [
    "Collapse",
    "Crossing",
    "Exit",
    "Grokking",
    "Spectrum",
    "edge_of_stability",
    "exit_time",
    "eyring_kramers",
    "implicit_bias",
    "label_noise",
    "landscapes",
    "linear_grokking",
    "marchenko_pastur",
    "mean_exit_time",
    "neural_collapse",
    "octopus",
    "overparametrized",
    "saddles",
    "teacher_student",
]
