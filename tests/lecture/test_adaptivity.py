"""The topic of adaptivity: at a size for tests, and with wrong laws in place of the right ones."""

import jax
import numpy as np
import pytest

from jaxtheory.lecture import judge, run
from jaxtheory.lecture.adaptivity import TOPIC, Config, half_planes, loops, rate_table
from jaxtheory.lecture.adaptivity.exponents import exponents, minus, named_apart

TINY = {"samples": (32, 64, 128), "functions": 4, "steps": 50, "width": 8, "octaves": (6, 8, 10), "grid": 256}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(TOPIC, Config(out=tmp_path_factory.mktemp("tiny"), replicates=6, noises=50, **TINY))


@pytest.mark.slow
def test_every_claim_is_measured_and_bayes_bounds_hold_at_any_size(outcome):
    verdicts = {verdict.claim.name: verdict for verdict in outcome.verdicts}
    assert len(verdicts) == 19
    assert all(np.isfinite(verdict.measured) for verdict in verdicts.values())
    assert verdicts["field_bound"].measured > 0
    assert verdicts["loop_bound"].measured > 0
    assert all(abs(verdicts[name].measured - verdicts[name].claim.predicted) < 0.15
               for name in ("plane_linear", "field_linear", "loop_gaussian_linear"))  # fmt: skip
    assert all((outcome.figure.parent / f"figure{end}").exists() for end in (".png", ".svg", "-dark.svg"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_networks_adapt_on_another_seed_and_a_field_fails(tmp_path):
    """With the Gaussian field in the place of half-planes, no claim that a network gains holds."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        config = Config(seed=1, out=tmp_path)
        claims, found = half_planes.predict(config).claims, half_planes.measure(config)
        assert all(verdict.holds for verdict in judge(claims, found))
        field = exponents(config.samples, found.field_network_risks.values)
    kernel = exponents(config.samples, found.field_kernel_risks.values)
    wrong = {"plane_network": field.value, "plane_network_error": field.error, "plane_gain": minus(field, kernel).value}
    wrong |= named_apart("plane_between", field, field)
    held = {verdict.claim.name: verdict.holds for verdict in judge(claims, found.assign(wrong))}
    assert not held["plane_network"]
    assert not held["plane_between"]


@pytest.mark.slow
def test_wavelets_adapt_and_another_noise_fails(tmp_path):
    """Two seeds hold; the law of a class of other covariance, whose energies fall as k^(−1.5), fails."""
    with jax.enable_x64(True):
        claims = loops.predict(Config()).claims
        for seed in (1, 2):
            config = Config(seed=seed, out=tmp_path / str(seed))
            found = loops.measure(config)
            assert all(verdict.holds for verdict in judge(claims, found))
    wrong = [claim._replace(predicted=-1 / 3, rival=-0.5) for claim in claims if claim.name.endswith("_linear")]
    assert not any(verdict.holds for verdict in judge(wrong, found))


def test_measured_rates_are_those_of_the_table_and_another_smoothness_fails(monkeypatch):
    """Three seeds; then blocks of the isotropic class of the roughest axis under the anisotropic claims."""
    claims = rate_table.predict(Config()).claims
    for seed in (0, 1, 2):
        found = rate_table.measure(Config(seed=seed, noises=100))
        assert all(verdict.holds for verdict in judge(claims, found))
    rough = {name: row._replace(smoothness=(min(row.smoothness),) * len(row.smoothness))
             for name, row in rate_table._ROWS.items() if name in ("plane", "space", "seven")}  # fmt: skip
    monkeypatch.setattr(rate_table, "_ROWS", rough)
    found = rate_table.measure(Config(noises=100))
    assert not any(verdict.holds for verdict in judge([c for c in claims if c.name[5:] in rough], found))


def test_an_exponent_and_its_error_are_those_of_repetitions():
    """The spread of the slope over independent sets of functions, against its standard error."""
    rng, sizes = np.random.default_rng(0), np.array([1.0, 2.0, 4.0])
    slopes, errors = [], []
    for _ in range(400):
        common = rng.gamma(4.0, size=(30, 1))
        found = exponents(sizes, common * rng.gamma(9.0, size=(30, 3)) / sizes)
        slopes.append(found.value)
        errors.append(found.error)
    assert abs(np.mean(slopes) + 1) < 5 * np.std(slopes) / 20
    assert abs(np.mean(errors) / np.std(slopes) - 1) < 0.2


def test_published_sizes_are_those_of_the_paper_preset():
    paper = Config.of("paper")
    assert (paper.samples[-1], paper.functions, paper.steps, paper.grid) == (8192, 64, 20_000, 65_536)
