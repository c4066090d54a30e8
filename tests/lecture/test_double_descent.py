"""The first topic end to end on real digits, at a size for tests."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.double_descent import mei_montanari
from jaxtheory.lecture import double_descent, run

pytestmark = pytest.mark.smoke

TINY = tiny_topics.TINY["double-descent"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(double_descent.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def dataset(outcome):
    return xr.open_zarr(outcome.dataset, consolidated=False).load()


@pytest.mark.slow
def test_every_claim_is_measured(outcome):
    assert {verdict.claim.name for verdict in outcome.verdicts} >= {"peak", "round_off", "sphere_2", "ridge_2"}
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)


@pytest.mark.slow
def test_curves_hold_every_width_seed_and_ridge(dataset):
    assert dataset.test_mse.sizes == {"ridge": 3, "seed": 2, "width": 100}
    assert dataset.ridge.values.tolist() == [0.0, 1.0, 30.0]
    assert dataset.sphere_test_mse.sizes == {"sphere_ridge": 2, "sphere_seed": 3, "sphere_width": 72}


@pytest.mark.slow
def test_ridges_share_their_draws(dataset):
    """One wide feature set regularized less and less tends to the min-norm solution on the same draws."""
    gap = dataset.norm.sel(ridge=0.0) - dataset.norm.sel(ridge=[1.0, 30.0])
    assert (gap.isel(width=-1) > 0).all()
    assert (gap.isel(width=-1, ridge=0) < gap.isel(width=-1, ridge=1)).all()


@pytest.mark.slow
def test_an_interrupted_run_continues(outcome, dataset):
    """Without one sweep's last chunk and the figure, the run gives the same again."""
    folder = outcome.dataset.parent
    before = (folder / "figure.png").read_bytes()
    status = max((folder / "digits.zarr" / "status").rglob("c/*/*"))
    status.unlink()
    (folder / "figure.png").unlink()
    again = run(double_descent.TOPIC, replace(TINY, out=folder))
    xr.testing.assert_identical(xr.open_zarr(again.dataset, consolidated=False).load(), dataset)
    assert (folder / "figure.png").read_bytes() == before


@pytest.mark.slow
def test_predicted_ridges_are_the_solvers(float64):
    """λ of the paper is the solver's ridge times d/(nN): the claim at N = n equals the formula written out."""
    config = replace(TINY, x64=True)
    claims = {claim.name: claim for claim in double_descent.TOPIC.predict(config).claims}
    law = mei_montanari(2.0, 2.0, 2.0 * 12 / 24**2, activation="relu", signal=1.0, noise=0.2)
    np.testing.assert_allclose(claims["ridge_2"].predicted, float(law.excess), rtol=1e-12)


def test_published_sizes_are_those_of_the_paper_preset():
    paper = double_descent.Config.of("paper")
    assert (paper.samples, paper.seeds, paper.x64) == (4000, 20, True)
