"""A topic made of studies is the union of their claims, measurements and panels."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import xarray as xr

from jaxtheory.lecture import Claim, Claims, run
from jaxtheory.lecture.study import BaseConfig, Study, of_studies

pytestmark = pytest.mark.smoke


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    out: Path = field(default=Path("runs/areas"), compare=False)


def area(name, value, measured):
    claim = Claim(name, f"{name}: area", "Archimedes", value, "rounding of the prediction", 1e-3)
    return Study(
        name,
        lambda config: Claims((claim,), {f"{name}_curve": [0.0, value]}),
        lambda config: xr.Dataset({name: measured}),
        lambda ax, dataset, claims: ax.plot(claims.curves[f"{name}_curve"], label=name) and ax.legend(),
    )


def test_studies_stand_in_their_order_and_each_has_its_panel(tmp_path):
    studies = [area("disc", 3.1416, 3.14159), area("square", 4.0, 4.1)]
    topic = of_studies("areas", Config, studies, columns=3)
    config = Config(out=tmp_path)
    verdicts = run(topic, config).verdicts
    assert [(v.claim.name, v.holds) for v in verdicts] == [("disc", True), ("square", False)]
    (figure,) = topic.draw(topic.measure(config), topic.predict(config))
    assert [ax.get_legend().get_texts()[0].get_text() for ax in figure.axes] == ["disc", "square"]


def test_each_group_of_studies_is_a_figure(tmp_path):
    topic = of_studies("areas", Config, [area("disc", 3.1416, 3.1416)], [area("square", 4.0, 4.0)])
    config = Config(out=tmp_path)
    assert all(verdict.holds for verdict in run(topic, config).verdicts)
    assert {"figure.png", "figure-2.png"} <= {path.name for path in tmp_path.iterdir()}
    drawn = topic.draw(topic.measure(config), topic.predict(config))
    titles = [figure.axes[0].get_legend().get_texts()[0].get_text() for figure in drawn]
    assert titles == ["disc", "square"]


def test_what_a_study_measured_is_kept_when_the_next_one_fails(tmp_path):
    """A run that stops in its second study continues there: the first is not measured again."""
    calls = []
    disc = area("disc", 3.1416, 3.1416)
    counted = disc._replace(measure=lambda config: calls.append("disc") or disc.measure(config))
    square = area("square", 4.0, 4.0)
    broken = square._replace(measure=lambda config: 1 / 0)
    config = Config(out=tmp_path)
    with pytest.raises(ZeroDivisionError):
        run(of_studies("areas", Config, [counted, broken]), config)
    verdicts = run(of_studies("areas", Config, [counted, square]), config).verdicts
    assert [verdict.holds for verdict in verdicts] == [True, True]
    assert calls == ["disc"]


def test_one_name_for_two_studies_is_refused(tmp_path):
    topic = of_studies("areas", Config, [area("disc", 3.1416, 3.1), area("disc", 4.0, 4.0)])
    with pytest.raises(ValueError, match="claims must have one name each"):
        run(topic, Config(out=tmp_path))
