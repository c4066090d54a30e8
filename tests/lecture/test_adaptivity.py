"""The topic of adaptivity: at a size for tests, and with wrong laws in place of the right ones."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import judge, run
from jaxtheory.lecture.adaptivity import TOPIC, Config, compositions, half_planes, loops, manifolds, rate_table
from jaxtheory.lecture.exponents import exponents, minus, named_apart
from jaxtheory.results import Status

TINY = tiny_topics.TINY["adaptivity"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured_and_bayes_bounds_hold_at_any_size(outcome):
    verdicts = {verdict.claim.name: verdict for verdict in outcome.verdicts}
    assert len(verdicts) == 26
    assert all(np.isfinite(verdict.measured) for verdict in verdicts.values())
    assert verdicts["field_bound"].measured > 0
    assert verdicts["loop_bound"].measured > 0
    assert all(abs(verdicts[name].measured - verdicts[name].claim.predicted) < 0.15
               for name in ("plane_linear", "field_linear", "loop_gaussian_linear"))  # fmt: skip
    assert all((outcome.figure.parent / f"figure{end}").exists() for end in (".png", ".svg", "-dark.svg"))


@pytest.mark.slow
@pytest.mark.parametrize("study", [half_planes, loops])
def test_shares_of_a_sweep_are_the_sweep(study, tmp_path):
    """Two of three parts leave points missing, and a run continues there to what one run finds, bit by bit."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        config = replace(TINY, out=tmp_path / "shared", replicates=3)
        for part, missing in (("0/3", 2 / 3), ("2/3", 1 / 3), (None, 0)):
            (found,) = study.sweep(replace(config, shard=part)).values()
            status = found.status.load().values
            assert (status == Status.NOT_COMPUTED).mean() == pytest.approx(missing)
        (whole,) = study.sweep(replace(config, out=tmp_path / "whole")).values()
    xr.testing.assert_identical(found.load().drop_attrs(), whole.load().drop_attrs())


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


def test_functions_on_all_of_space_have_the_exponential_covariance():
    """The mean of f(x) f(x') over draws, at four distances."""
    x = np.zeros((5, 12))
    x[1:, 3] = (0.1, 0.5, 1.0, 3.0)
    rng = np.random.default_rng(0)
    values = np.stack([manifolds.functions(rng, x) for _ in range(2000)])
    products = values[:, :1] * values
    error = products.std(axis=0, ddof=1) / len(products) ** 0.5
    assert (np.abs(products.mean(axis=0) - np.exp(-x[:, 3])) < 4.5 * error).all()


@pytest.mark.parametrize("dim", [1, 2, 3, 12])
def test_the_law_of_nearest_neighbours_is_that_of_their_weights(dim):
    """1 − 2 wᵀk + wᵀK w + σ²‖w‖² with w = 1/m on the m nearest of all distances."""
    z, x = manifolds._design(dim, 12)
    distance = lambda a, b: np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))  # noqa: E731
    cross, gram = np.exp(-distance(z, x)), np.exp(-distance(x, x))
    order = np.argsort(-cross, axis=1)
    risks = []
    for m in range(1, 12):
        w = np.zeros_like(cross)
        np.put_along_axis(w, order[:, :m], 1 / m, axis=1)
        risks.append((1 - 2 * (w * cross).sum(axis=1) + ((w @ gram) * w).sum(axis=1) + 1 / m).mean())
    assert manifolds._law(dim, 12) == pytest.approx(min(risks), rel=1e-10)


@pytest.mark.slow
def test_the_dimension_of_the_manifold_decides_and_another_one_fails():
    """Two seeds hold; risks on the next set fail under each claim."""
    claims = manifolds.predict(Config()).claims
    found = [manifolds.measure(Config(seed=seed)) for seed in (1, 2)]
    for one in found:
        assert all(verdict.holds for verdict in judge(claims, one))
    ends = ("", "_error", "_draws")
    for name, other in (("circle", "torus"), ("torus", "torus_3"), ("torus_3", "cube"), ("cube", "torus_3")):
        wrong = found[0].assign({f"manifold_{name}{end}": found[0][f"manifold_{other}{end}"] for end in ends})
        assert f"manifold_{name}" in {verdict.claim.name for verdict in judge(claims, wrong) if not verdict.holds}


def test_composed_splines_are_found_from_values_alone():
    """A hierarchy of the class, from wrong inner functions: nothing is left of it at other points."""
    rng = np.random.default_rng(0)
    x, z = rng.uniform(size=(2, 2000, 4))
    truth = 0.5 * rng.normal(size=(4, 5))
    edges = np.linspace(-2.5, 2.5, 20)

    def values(at):
        grid = np.arange(6) / 5
        sums = sum(np.interp(at[:, i], grid, np.append(row, row[0])) for i, row in enumerate(truth))
        return np.interp(sums, edges, compositions.outer(edges))

    start = truth + 0.05 * rng.normal(size=truth.shape)
    before, after = (compositions.fitted(x[:count], values(x[:count]), start, z) for count in (0, 2000))
    assert np.mean((before - values(z)) ** 2) > 1e-3
    assert np.mean((after - values(z)) ** 2) < 1e-6


@pytest.mark.slow
def test_a_hierarchy_has_the_exponent_of_its_parts_and_sums_fail():
    """Two seeds hold; the exponent of four variables without structure fails, and a sum in the hierarchy's place."""
    claims = compositions.predict(Config()).claims
    for seed in (1, 2):
        found = compositions.measure(Config(seed=seed))
        assert all(verdict.holds for verdict in judge(claims, found))
    wrong = found.assign(composite=-1 / 3, composite_sum=-found.composite_sum)
    assert not any(verdict.holds for verdict in judge(claims, wrong))


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
    assert (paper.manifold_samples[-1], paper.manifold_functions) == (16_384, 400)
    assert (paper.composite_samples[-1], paper.composite_functions) == (32_768, 40)
    assert (paper.samples[-1], paper.functions, paper.steps, paper.grid) == (8192, 64, 20_000, 65_536)
