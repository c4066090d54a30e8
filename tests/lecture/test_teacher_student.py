"""The topic of students and teachers end to end at a size for tests; a wrong law fails."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_topics

from jaxtheory.lecture import judge, run, teacher_student
from jaxtheory.lecture.teacher_student import collapse, exponents, grokking
from jaxtheory.optimization.teacher_student import information_exponent

TINY = tiny_topics.TINY["teacher-student"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(teacher_student.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured_and_collapse_holds_at_any_size(outcome):
    held = {verdict.claim.name: verdict.holds for verdict in outcome.verdicts}
    assert len(held) == 15
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    assert all(held[name] for name in held if name.startswith("collapse"))
    assert outcome.figure.stat().st_size > 10_000


@pytest.mark.slow
def test_a_law_of_other_decays_fails(monkeypatch, float64):
    """Twice the decay of the features: every claim but the cosine, which does not depend on it."""
    config = teacher_student.Config()
    seen = collapse.measure(config)
    right = collapse.neural_collapse
    wrong = lambda *sizes, weight_decay, feature_decay: right(  # noqa: E731
        *sizes, weight_decay=weight_decay, feature_decay=2 * feature_decay
    )
    monkeypatch.setattr(collapse, "neural_collapse", wrong)
    held = {verdict.claim.name: verdict.holds for verdict in judge(collapse.claims(config).claims, seen)}
    assert held == {"collapse_gap": False, "collapse_objective": False, "collapse_weights": False,
                    "collapse_cosine": True}  # fmt: skip


@pytest.mark.slow
def test_the_law_of_infinitely_many_points_does_not_grok(monkeypatch, float64):
    """Eigenvalues 1, those of the covariance of fresh points: the accuracy of the test and the delay fail."""
    config = teacher_student.Config()
    seen = grokking.measure(config)
    assert all(verdict.holds for verdict in judge(grokking.claims(config).claims, seen))
    monkeypatch.setattr(grokking, "marchenko_pastur", lambda aspect: (np.ones(1), np.ones(1)))
    held = {verdict.claim.name: verdict.holds for verdict in judge(grokking.claims(config).claims, seen)}
    assert not held["grokking_test"]
    assert not held["grokking_delay"]


def test_the_links_have_the_exponents_that_name_them():
    assert [information_exponent(link) for link in exponents.LINKS.values()] == list(exponents.LINKS)
