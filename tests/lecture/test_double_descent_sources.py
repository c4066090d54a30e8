"""The topic of the sources of error: at a size for tests, and with wrong laws in place of the right ones."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_topics

from jaxtheory.lecture import judge, run
from jaxtheory.lecture.double_descent_sources import TOPIC, Config, classifiers, components, digits, epochs

TINY = tiny_topics.TINY["double-descent-sources"].config


@pytest.mark.slow
def test_every_claim_is_measured(tmp_path):
    outcome = run(TOPIC, replace(TINY, out=tmp_path))
    assert len(outcome.verdicts) == 19
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    assert all((tmp_path / f"figure{end}").exists() for end in (".png", ".svg", "-dark.svg"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "module", "name", "value"),
    [(components.STUDY, components, "_LAM", 3e-4), (classifiers.STUDY, classifiers, "_SIGNAL", 1.5),
     (epochs.STUDY, epochs, "_NOISE", 0.8), (digits.STUDY, digits, "_WRONG", 0.0)],
    ids=["ridge", "signal", "noise", "clean labels"],
)  # fmt: skip
def test_measurements_follow_their_law_and_reject_another(study, module, name, value, monkeypatch):
    """Three seeds hold; where the measurement has another ridge, signal or noise than the law, some claim fails.

    Digits with clean labels have no peak that a ridge could remove.
    """
    with jax.enable_x64(True):
        claims = study.predict(Config()).claims
        assert all(v.holds for seed in range(1, 4) for v in judge(claims, study.measure(Config(seed=seed))))
        monkeypatch.setattr(module, name, value)
        assert not all(verdict.holds for verdict in judge(claims, study.measure(Config(seed=1))))


def test_newton_steps_end_where_the_gradient_vanishes():
    """Both for fewer and for more features than points, at a ridge that hardly counts."""
    rng = np.random.default_rng(0)
    for shape in ((30, 5), (20, 60), (40, 40)):
        signed = rng.standard_normal(shape)
        b = classifiers.newton(signed, 1e-7)
        gradient = 1e-7 * b - (signed / (1 + np.exp(signed @ b))[:, None]).mean(axis=0)
        assert np.abs(gradient).max() < 1e-10


def test_as_many_features_as_images_fit_every_label():
    """A draw on which full Newton steps go too far and end at a training error of 45 %."""
    training = digits._one(Config(seed=2), 14)[0, :, 1]
    np.testing.assert_array_equal(training[digits._RATIOS.index(1.0) :], 0.0)


def test_published_sizes_are_those_of_the_paper_preset():
    paper = Config.of("paper")
    assert (paper.samples, paper.points, paper.images, paper.seeds) == (400, 600, 500, 100)
