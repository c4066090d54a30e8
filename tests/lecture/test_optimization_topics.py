"""The topics on saddles, implicit bias and generalization end to end, at sizes for tests."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_topics

from jaxtheory.lecture import generalization, implicit_bias, run, saddles

TINY = {
    topic.name: (topic, tiny_topics.TINY[topic.name].config)
    for topic in (saddles.TOPIC, implicit_bias.TOPIC, generalization.TOPIC)
}


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
