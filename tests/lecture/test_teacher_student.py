"""The topic of students and teachers end to end at a size for tests; a wrong law fails."""

from dataclasses import replace

import numpy as np
import pytest

from jaxtheory.lecture import judge, run, teacher_student
from jaxtheory.lecture.teacher_student import collapse, exponents
from jaxtheory.optimization.teacher_student import information_exponent

TINY = teacher_student.Config(
    dim=20, committees=3, dims=(16, 32, 64), steep_dims=(16, 32), walkers=2, students=14, descents=5000
)  # fmt: skip


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


def test_the_links_have_the_exponents_that_name_them():
    assert [information_exponent(link) for link in exponents.LINKS.values()] == list(exponents.LINKS)
