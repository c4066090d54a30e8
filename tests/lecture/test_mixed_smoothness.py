"""The topic of mixed smoothness end to end, at a size for tests."""

import itertools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory.lecture import command, judge, mixed_smoothness, run
from jaxtheory.lecture.mixed_smoothness import crosses, networks, risks
from jaxtheory.smoothness import mixed, sparse_grid

TINY = tiny_topics.TINY["mixed-smoothness"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(mixed_smoothness.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured_and_the_exact_ones_hold(outcome):
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    failed = [v.claim.name for v in outcome.verdicts if not v.holds and not v.claim.standard_errors]
    assert not failed


@pytest.mark.slow
def test_curves_hold_every_dimension_and_rule(outcome):
    data = xr.open_zarr(outcome.dataset, consolidated=False).load()
    assert data.cross_risk.sizes == {"octave": 5, "seed": 20}
    assert [data[f"grid_{dim}"].size for dim in (1, 2, 3, 5, 10)] == [2, 1, 1, 1, 1]


def arguments(folder):
    """TINY as a command line."""
    names = ("levels", "points", "octaves", "replicates", "networks", "network_points")
    fields = {name: np.atleast_1d(getattr(TINY, name)) for name in names}
    return ["--out", str(folder), *(str(word) for name, values in fields.items() for word in (f"--{name}", *values))]


@pytest.mark.slow
def test_two_shards_and_a_run_leave_what_one_run_leaves(outcome, tmp_path, capsys, monkeypatch):
    """And the run computes nothing again: each shard has committed five of the ten chunks of √100 points."""
    monkeypatch.setattr(command, "keep_compilations", lambda: None)
    topic, words = mixed_smoothness.TOPIC, arguments(tmp_path)
    assert command.main(topic, [*words, "--shard", "1/2"]) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/risk-cross.zarr: 50 of 100 points missing" in told
    assert "shard 1/2 is done; start the others" in told
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.json", "risk-cross.zarr", "risk-full.zarr"}
    assert command.main(topic, [*words, "--shard=0/2"]) == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/risk-full.zarr: 0 of 100 points missing" in told
    assert "start the same without --shard" in told
    commits = {path: path.stat().st_mtime_ns for path in tmp_path.glob("risk-*.zarr/status/c/**/*") if path.is_file()}
    command.main(topic, words)
    assert len(commits) == 2 * 10
    assert {path: path.stat().st_mtime_ns for path in commits} == commits
    shared, alone = (
        xr.open_zarr(path, consolidated=False) for path in (tmp_path / "measurements.zarr", outcome.dataset)
    )
    xr.testing.assert_identical(shared.load(), alone.load())


def test_exponents_reject_the_wrong_logarithms():
    """With the law of another class put in, (log N)^(d−1)/N, the claim of every dimension fails."""
    claims = [crosses.slope_claims(dim)[0] for dim in (2, 3, 5, 10)]
    for one in claims:
        dim = int(one.name.removeprefix("mixed_"))
        right = crosses.law("cross", dim, 240)
        terms = mixed.effective_terms(right.terms[200:], dim, u=0.5)
        true = crosses.exponent(terms, right.errors[200:])
        wrong = np.polyfit(np.log(terms), (dim - 1) * np.log(np.log(right.terms[200:])) - np.log(right.terms[200:]), 1)
        verdicts = [judge([one], xr.Dataset({one.name: slope}))[0] for slope in (true, wrong[0])]
        assert [verdict.holds for verdict in verdicts] == [True, False]


def test_vacuous_bounds_are_no_claims():
    """In ten dimensions the bound at level 5 is above the largest value of the function: nothing is claimed of it."""
    with jax.enable_x64(True):
        names = {
            claim.name
            for claim in mixed_smoothness.TOPIC.predict(mixed_smoothness.Config(networks=TINY.networks)).claims
        }
    assert "interpolation_5" in names
    assert "interpolation_10" not in names


@pytest.mark.parametrize("rule", ["cross", "full"])
def test_blocks_of_a_rule_are_those_of_a_search(rule):
    """Sizes 2^{|j|} and energies 4^{−|j|} summed over the j that each step of the rule adds."""
    sizes, energies = risks.blocks(rule)
    key = sum if rule == "cross" else max
    table = list(itertools.product(range(4), repeat=3))
    for step in range(4):
        new = [j for j in table if key(j) == step]
        assert sizes[step] == sum(2 ** sum(j) for j in new)
        assert math.isclose(energies[step], sum(4.0 ** -sum(j) for j in new))


def test_published_sizes_are_those_of_the_paper_preset():
    paper = mixed_smoothness.Config.of("paper")
    assert (paper.levels, paper.replicates) == ((14, 12, 10, 8, 6), 2000)
    assert (paper.networks, paper.network_points) == ((16, 13, 11, 9), 32768)
    paper = replace(paper, networks=TINY.networks)  # whose parameters are counted one by one
    with jax.enable_x64(True):
        claims = {claim.name: claim for claim in mixed_smoothness.TOPIC.predict(paper).claims}
    assert claims["isotropic_10"].predicted == -0.1
    assert claims["mixed_10"].predicted == -1


def test_the_target_fills_every_block_and_its_law_is_the_error_of_the_interpolant(float64):
    """Surpluses ± 2^{−|j|}, and the closed form of the L² error against a product rule in the plane."""
    grid = sparse_grid.interpolate(networks.target, 3, 2, dtype=jnp.float64)
    levels, offsets = sparse_grid.blocks(3, 2)
    np.testing.assert_allclose(np.abs(grid.surpluses), 2.0 ** -np.repeat(levels.sum(axis=1), np.diff(offsets)))
    np.testing.assert_allclose(grid.surpluses, networks._interpolant(2, 3).surpluses)
    side = (np.arange(192) + 0.5) / 192
    x = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    missed = np.asarray(networks.target(jnp.asarray(x)) - sparse_grid.evaluate(grid, jnp.asarray(x)))
    exact = mixed.cross_errors(4.0 ** -np.arange(40) / 3, 3, 2).errors[-1]
    assert np.sqrt((missed**2).mean()) == pytest.approx(exact, rel=2e-3)  # of 192 points to the finest fourth of a cell


@pytest.mark.parametrize("dim", networks.DIMENSIONS)
def test_powers_of_counted_networks_are_those_of_the_theorem(dim):
    """N^(−s) (log N)^((d−1)(s+u)) and a logarithm of the gadgets, fitted; the other claims' laws are left out."""
    power, logs = networks.far(dim)
    assert abs(power + 1) < 1e-4
    found = dict(zip((f"network_power_{dim}", f"network_logs_{dim}"), (power, logs), strict=True))
    claims = [c for c in networks.predict(TINY).claims if c.name in found]
    assert len(claims) == 2
    assert all(verdict.holds for verdict in judge(claims, xr.Dataset(found)))


@pytest.mark.slow
def test_networks_meet_their_laws_on_other_seeds_and_coarse_products_do_not(float64, monkeypatch):
    config = replace(TINY, networks=(8, 7, 7, 7), network_points=1024, seed=1)
    claims = networks.predict(config).claims
    for seed in (1, 2):
        assert all(verdict.holds for verdict in judge(claims, networks.measure(replace(config, seed=seed))))
    built = networks._network
    monkeypatch.setattr(networks, "_network", lambda grid, level, _: built(grid, level, 0.5))
    coarse = judge(claims, networks.measure(config))
    assert not any(verdict.holds for verdict in coarse if verdict.claim.name.startswith("network_error"))
