"""The gates of `spectra`: operators of a small matrix, and alignments."""

import jax.numpy as jnp
import numpy as np
from gates.gates import Gates
from gates.harness import Derivative, Entry, key, quantity

from jaxtheory import spectra

MATRIX = np.diag([4.0, 2.0, 1.0, 0.5]) + 0.25
OTHER = np.eye(4) + 0.5 * np.outer([1.0, -1.0, 0.5, 2.0], [1.0, -1.0, 0.5, 2.0])
RANDOM = {"precision": "float32 and float64 draw different numbers"}
OWN = dict.fromkeys(("kinds", "wrong kinds"), "the matrix belongs to the operator, which is a function")


def of_matrix(function, *fields, **options):
    """A function of an operator as one of its matrix; the named fields."""

    def call(matrix, key):
        apply = lambda v: jnp.matmul(jnp.asarray(matrix), v, precision="highest")  # noqa: E731
        found = function(apply, (4,), key=key, **options)
        return {name: getattr(found, name) for name in fields}

    return call


ENTRIES = [
    Entry("spectra.trace", of_matrix(spectra.trace, "value", "standard_error", probes=4),
          {"matrix": quantity(MATRIX), "key": key()}, scale={"matrix": {"value": 1, "standard_error": 1}},
          derivatives=(Derivative(("matrix",)),), skip=OWN | RANDOM),
    Entry("spectra.diagonal", of_matrix(spectra.diagonal, "value", "standard_error", probes=4),
          {"matrix": quantity(MATRIX), "key": key()}, scale={"matrix": {"value": 1, "standard_error": 1}},
          skip=OWN | RANDOM),
    Entry("spectra.top_eigenpairs", of_matrix(spectra.top_eigenpairs, "values", "status", count=2),
          {"matrix": quantity(MATRIX), "key": key()}, scale={"matrix": {"values": 1, "status": 0}}, skip=OWN),
    Entry("spectra.spectral_density", of_matrix(spectra.spectral_density, "nodes", "weights", probes=2, steps=3),
          {"matrix": quantity(MATRIX), "key": key()}, scale={"matrix": {"nodes": 1, "weights": 0}}, skip=OWN | RANDOM,
          slow=True),
    Entry("spectra.effective_rank", spectra.effective_rank, {"eigenvalues": quantity([4.0, 2.0, 0.5, 0.0])},
          scale={"eigenvalues": {"": 0}}, permute={"eigenvalues": {"": None}},
          derivatives=(Derivative(("eigenvalues",), at={"eigenvalues": [4.0, 2.0, 2.0, 0.5]}),)),
    Entry("spectra.alignment", spectra.alignment, {"kernel1": quantity(MATRIX), "kernel2": quantity(OTHER)},
          invalid={"kernel2": (np.eye(3, dtype=np.float32),)}, scale={"kernel1": {"": 0}, "kernel2": {"": 0}},
          derivatives=(Derivative(("kernel1", "kernel2")), Derivative(("kernel1",), at={"kernel1": OTHER}))),
    Entry("spectra.centered_alignment", spectra.centered_alignment,
          {"kernel1": quantity(MATRIX), "kernel2": quantity(OTHER)},
          invalid={"kernel2": (np.eye(3, dtype=np.float32),)}, scale={"kernel1": {"": 0}, "kernel2": {"": 0}},
          shift={("kernel1",): ("",), ("kernel2",): ("",)}, derivatives=(Derivative(("kernel1", "kernel2")),)),
    Entry("spectra.target_alignment", spectra.target_alignment,
          {"kernel": quantity(MATRIX), "targets": quantity([1.0, -1.0, 2.0, 0.5])},
          invalid={"targets": (np.ones(3, np.float32),)}, scale={"kernel": {"": 0}, "targets": {"": 0}},
          derivatives=(Derivative(("kernel", "targets")),)),
]  # fmt: skip


class TestSpectra(Gates):
    """Every public function of the room."""

    entries = ENTRIES
