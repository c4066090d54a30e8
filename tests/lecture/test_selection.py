"""What a claim is measured at is not chosen in its favour, and laws put in by hand are told from their rivals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from jaxtheory.lecture import generalization, judge
from jaxtheory.lecture.claims import estimated
from jaxtheory.lecture.double_descent_networks import digits as networks
from jaxtheory.lecture.generalization import digits
from jaxtheory.lecture.mean_field import matchings
from jaxtheory.lecture.mixed_smoothness import interpolation
from jaxtheory.meanfield import wasserstein
from jaxtheory.results import fit_slope


@pytest.mark.slow
def test_noise_alone_shows_no_effect_at_the_places_that_other_seeds_choose():
    """Independent losses of every width, sample size, step and seed: each difference has mean 0, within 4 errors."""
    rng, found = np.random.default_rng(0), []
    for _ in range(150):
        logs = xr.Dataset(
            {
                "test_loss": (("width", "seed", "step"), rng.normal(size=(6, 3, 5))),
                "clean_loss": (("width", "seed"), rng.normal(size=(6, 3))),
                "decay_loss": (("width", "seed"), rng.normal(size=(6, 3))),
                "samples_loss": (("samples", "width", "seed"), rng.normal(size=(4, 6, 3))),
                "ensemble_loss": ("width", rng.normal(size=6)),
            },
            {"samples": [1, 2, 3, 4], "width": np.arange(6)},
        )
        found.append([networks._differences(logs, seed, 2, 5) for seed in range(3)])
    for name in found[0][0]:
        values = np.array([np.mean([one[name] for one in draw]) for draw in found])
        assert abs(values.mean()) < 4 * values.std(ddof=1) / math.sqrt(len(values)), name


@pytest.mark.parametrize("count", [1, 2, 10])
def test_equal_lengths_give_the_mean_of_chi(count):
    """K = I/n: E√(χ²_n/n) = √(2/n) Γ((n+1)/2)/Γ(n/2); the fourth moments of signs change it by 1/4n at most."""
    mean, remainder = digits._gaussian_signs(jnp.eye(count))
    assert mean == pytest.approx(math.sqrt(2 / count) * math.gamma((count + 1) / 2) / math.gamma(count / 2), rel=1e-7)
    assert remainder == pytest.approx(1 / (4 * count))


def test_a_test_set_bound_without_its_term_for_chance_fails():
    """Half of the errors observed on a few images lie below the true one."""
    claim = generalization.TOPIC.predict(generalization.Config()).claims[0]
    for share, holds in ((0.99, True), (0.5, False), (0.75, False)):
        error = math.sqrt(share * (1 - share) / 144)
        data = xr.Dataset(estimated("held_out", share, error, 144))
        assert judge([claim], data)[0].holds is holds


def rates(law):
    """Distances by a law of n, with the relative errors that the quick preset measures."""
    n = np.array(matchings._SIZES, float)
    distance = jnp.asarray(np.sqrt(law(n) / n))
    return wasserstein.Rate(distance, 0.007 * distance, fit_slope(jnp.asarray(n), distance))


@pytest.mark.parametrize(
    ("law", "constant", "growth"),
    [
        (lambda n: np.log(n) / (2 * np.pi) + 0.15, True, True),
        (lambda n: np.log(n) / (4 * np.pi) + 0.15, False, True),
        (lambda n: 0.6 + 0 * n, False, False),
    ],
)
def test_the_logarithm_of_matching_in_the_plane_is_told_from_none_and_from_half(law, constant, growth):
    claims = {claim.name: claim for claim in matchings.predict(None).claims}
    for name, holds in (("log_constant", constant), ("log_growth", growth)):
        data = xr.Dataset(matchings._log_slope(name, rates(law), 240))
        assert judge([claims[name]], data)[0].holds is holds


@pytest.mark.parametrize("d", [2, 3, 5])
def test_spheres_have_volume_one_and_their_points_its_radius(d):
    radius = matchings._radius(d)
    volume = 2 * math.pi ** ((d + 1) / 2) / math.gamma((d + 1) / 2) * radius**d
    assert volume == pytest.approx(1.0)
    x = matchings._on_sphere(jax.random.key(0), (7, d))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), radius, rtol=1e-6)


@pytest.mark.parametrize(("dim", "cells"), [(1, 8), (2, 4), (3, 4)])
def test_the_rival_of_sparse_grids_is_the_error_of_a_full_one(dim, cells):
    """Multilinear interpolation of Π 4x(1 − x) by numpy, at the centres of cells beside the maximum."""
    node = np.linspace(0, 1, cells + 1)
    middle = 0.5 + 0.5 / cells
    value = 4 * middle * (1 - middle)
    between = np.interp(middle, node, 4 * node * (1 - node))
    expected = value**dim - between**dim
    assert interpolation.full_grid_error(dim, cells**dim) == pytest.approx(expected)
