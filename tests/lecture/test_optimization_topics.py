"""The topics on saddles, implicit bias and generalization end to end, at sizes for tests."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxtheory.lecture import generalization, implicit_bias, run, saddles

TINY = {
    "saddles": (
        saddles.TOPIC,
        saddles.Config(seeds=20, dim=6, curvatures=(1.0,), perturbed_dims=(2, 3, 4), noises=(0.1,), exits=50, teacher=3,
                       surplus=(0, 2), starts=8),
    ),
    "implicit-bias": (
        implicit_bias.TOPIC,
        implicit_bias.Config(doublings=8, scales=(0.1, 1.0), features=12, steps=2000, depths=(2,), step_size=1e-2,
                             walkers=200, rates=(0.5,)),
    ),
    "generalization": (
        generalization.TOPIC,
        generalization.Config(samples=40, widths=(32,), depths=(1,), batches=(8, 40), noises=(0.0, 0.9), seeds=2,
                              steps=100),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_claim_is_measured_and_drawn(name, tmp_path):
    topic, config = TINY[name]
    outcome = run(topic, replace(config, out=tmp_path))
    with jax.enable_x64(config.x64):
        assert len(outcome.verdicts) == len(topic.predict(config).claims)
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    assert outcome.figure.stat().st_size > 10_000


@pytest.mark.slow
def test_exact_laws_hold_at_any_size(tmp_path):
    """What is theory without statistics holds in the smallest run too."""
    topic, config = TINY["implicit-bias"]
    held = {v.claim.name: v.holds for v in run(topic, replace(config, out=tmp_path)).verdicts}
    assert all(held[name] for name in ("ratio", "bias", "across", "modes_2"))
