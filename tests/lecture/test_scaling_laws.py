"""The topic of scaling laws: at a size for tests, and with wrong laws in place of the right ones."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import judge, run
from jaxtheory.lecture.claims import estimated
from jaxtheory.lecture.scaling_laws import TOPIC, Config, fits, frontier, one_pass, regimes

TINY = tiny_topics.TINY["scaling-laws"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured_and_exact_means_hold_at_any_size(outcome):
    verdicts = {verdict.claim.name: verdict for verdict in outcome.verdicts}
    assert len(verdicts) == 18
    assert all(np.isfinite(verdict.measured) for verdict in verdicts.values())
    assert all(verdicts[f"one_pass_{t}"].holds for t in (10, 100, 500))
    assert all((outcome.figure.parent / f"figure{end}").exists() for end in (".png", ".svg", "-dark.svg"))


@pytest.mark.slow
@pytest.mark.parametrize("study", [one_pass.STUDY, regimes.STUDY], ids=lambda study: study.name)
def test_simulations_follow_their_law_and_reject_another(study, monkeypatch):
    """Three seeds hold; with the step of SGD 30 % off, or another spectrum than the law's, some claim fails."""
    with jax.enable_x64(True):
        configs = [Config(seed=seed) for seed in range(1, 4)]
        claims = study.predict(configs[0]).claims
        assert all(verdict.holds for config in configs for verdict in judge(claims, study.measure(config)))
        jax.clear_caches()  # the module's constants are part of compiled programs
        monkeypatch.setattr(one_pass, "_STEP_SIZE", 0.39)
        monkeypatch.setattr(regimes, "_ALPHA", 1.2)
        wrong = judge(claims, study.measure(configs[0]))
        jax.clear_caches()
    assert not all(verdict.holds for verdict in wrong)


@pytest.mark.slow
def test_the_frontier_of_another_target_fails(monkeypatch):
    """Curves at β + 0.2 under the names of β: both exponents are off."""
    config, exact = Config(), frontier.curves
    with jax.enable_x64(True):
        claims = frontier.predict_frontier(config).claims
        frontier._found.cache_clear()
        monkeypatch.setattr(frontier, "curves", lambda grid, alpha, beta: exact(grid, alpha, beta + 0.2))
        verdicts = judge(claims, frontier.measure_frontier(config))
        frontier._found.cache_clear()
    assert [verdict.holds for verdict in verdicts] == [False, False]


def test_narrow_intervals_fail():
    """Coverage of one standard error, 68 %, does not hold at the quick preset's number of tables."""
    config = Config()
    claims = fits.predict_coverage(config).claims
    error = np.sqrt(0.95 * 0.05 / config.repetitions)
    held = [judge(claims, xr.Dataset(estimated("coverage", c, error, math.inf)))[0].holds for c in (0.94, 0.68)]
    assert held == [True, False]


def test_published_sizes_are_those_of_the_paper_preset():
    paper = Config.of("paper")
    assert (paper.streams, paper.modes, paper.widest, paper.steps) == (4000, 8192, 1024, 24_000)
