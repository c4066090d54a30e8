"""Every topic on five seeds at a size for tests: what holds at any size does, and a wrong law in its place fails."""

import contextlib
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import relaxed_promotion
from tiny_topics import TINY

from jaxtheory.lecture import TOPICS, judge

OF_ADAM = {"edge-of-stability", "feature-learning"}  # optax's, which raises decays to the number of the step


def predicted_and_measured(topic, config):
    """Claims, then measurements; the figure is drawn in the topic's own test."""
    promotion = relaxed_promotion() if topic.name in OF_ADAM else contextlib.nullcontext()
    with promotion, jax.enable_x64(config.x64), jax.default_matmul_precision("highest"):
        return topic.predict(config).claims, topic.measure(config)


def with_the_wrong_law(claim):
    """The same claim of its rival's value; of a sign, of the opposite effect."""
    if claim.standard_errors < 0:
        return claim._replace(relation={"<=": ">=", ">=": "<="}[claim.relation])
    return claim._replace(predicted=claim.rival, rival=None, relation="=")


def apart(verdict):
    """Whether no measurement meets both the law and its rival."""
    claim = verdict.claim
    return claim.standard_errors < 0 or abs(claim.rival - claim.predicted) > 2 * verdict.allowance


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", TINY)
def test_laws_hold_and_wrong_laws_fail_whatever_the_seed(name, seed, tmp_path):
    config, always, undefined = TINY[name]
    claims, measured = predicted_and_measured(TOPICS[name], replace(config, out=tmp_path, seed=seed))
    verdicts = judge(claims, measured)
    assert {verdict.claim.name for verdict in verdicts if not np.isfinite(verdict.measured)} <= set(undefined)
    assert not [verdict for verdict in verdicts if verdict.claim.name in always and not verdict.holds]
    told = [verdict.claim for verdict in verdicts if verdict.holds and verdict.rejects and apart(verdict)]
    assert told
    assert not [verdict.claim for verdict in judge([*map(with_the_wrong_law, told)], measured) if verdict.holds]


def test_every_topic_has_a_size_for_tests():
    assert set(TINY) == set(TOPICS)
    assert all(set(TINY[name].config.__dataclass_fields__) >= {"seed", "out"} for name in TINY)
