"""The contract of a topic: predictions are saved first, and verdicts are held against what was saved."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import xarray as xr

from jaxtheory import figures
from jaxtheory.lecture import Claim, Claims, Topic, command, judge, run, site, table
from jaxtheory.lecture.claims import averaged, estimated
from jaxtheory.lecture.registry import TOPICS
from jaxtheory.lecture.site import explorer

pytestmark = pytest.mark.smoke


def claim(**changes):
    return Claim("risk", "the risk", "Nobody (2000)", 1.0, "theory", tolerance=0.1)._replace(**changes)


def known(measured, error):
    """A measurement whose standard error is known."""
    return xr.Dataset(estimated("risk", measured, error, math.inf))


@pytest.mark.parametrize(
    ("changes", "measured", "error", "holds"),
    [
        ({}, 1.09, 0.0, True),
        ({}, 1.11, 0.0, False),
        ({}, 0.89, 0.0, False),
        ({"standard_errors": 3.0}, 1.11, 0.01, True),
        ({"standard_errors": 3.0}, 1.14, 0.01, False),
        ({"relation": "<="}, -50.0, 0.0, True),
        ({"relation": "<="}, 1.2, 0.0, False),
        ({"relation": ">="}, 50.0, 0.0, True),
        ({"relation": ">="}, 0.8, 0.0, False),
        ({}, float("nan"), 0.0, False),
        ({"relation": "<="}, float("-inf"), 0.0, False),
    ],
)
def test_a_verdict_is_the_allowance_and_nothing_more(changes, measured, error, holds):
    dataset = known(measured, error)
    assert judge([claim(**changes)], dataset)[0].holds is holds


@pytest.mark.parametrize("missing", ["risk", "risk_error", "risk_draws"])
def test_a_claim_that_was_not_measured_is_an_error(missing):
    """Nor is a statistical claim measured whose error comes from nobody knows how many draws."""
    with pytest.raises(ValueError, match=missing):
        judge([claim(standard_errors=2.0)], known(1.0, 0.1).drop_vars(missing))


def test_the_table_shows_every_column():
    text = table(judge([claim(standard_errors=1.0)], known(3.0, 0.25)))
    for word in (
        "claim",
        "source",
        "predicted",
        "measured",
        "tolerance",
        "the risk",
        "Nobody (2000)",
        "3 ± 0.25",
        "FAILS",
    ):
        assert word in text


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Costs of runs are kept in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@dataclass(frozen=True)
class Config:
    """A topic small enough to test the contract."""

    preset: Literal["quick", "paper"] = "quick"
    out: Path = Path("runs/coin")
    seed: int = 0
    x64: bool = False
    tosses: int = 400

    @classmethod
    def of(cls, preset):
        return cls() if preset == "quick" else cls(preset=preset, tosses=10**4)


def measure(config):
    """A fair coin."""
    assert (config.out / "predictions.json").exists()
    heads = np.random.default_rng(config.seed).integers(0, 2, config.tosses)
    return xr.Dataset(averaged("risk", heads, None))


def draw(dataset, claims):
    figure, (ax,) = figures.canvas()
    figures.points(ax, [0], [float(dataset.risk)])
    return figure


def predict(config):
    return Claims((claim(predicted=0.5, tolerance=0.0, standard_errors=4.0),), {})


COIN = Topic("coin", Config, predict, measure, draw)


def test_a_run_leaves_predictions_data_verdicts_and_figure(tmp_path):
    config = Config(out=tmp_path / "coin")
    outcome = run(COIN, config)
    assert outcome.verdicts[0].holds
    names = {path.name for path in config.out.iterdir()}
    drawn = {"figure.png", "figure.pdf", "figure.svg", "figure-dark.svg"}
    assert names == {"predictions.json", "measurements.zarr", "verdicts.txt", "run.json"} | drawn
    assert float(xr.open_zarr(outcome.dataset, consolidated=False).risk) == outcome.verdicts[0].measured


def test_verdicts_are_held_against_the_saved_file_not_a_new_prediction(tmp_path):
    """A prediction changed after the fact changes nothing: the file decides, and is not rewritten."""
    config = Config(out=tmp_path)
    run(COIN, config)
    saved = tmp_path / "predictions.json"
    content = json.loads(saved.read_text())
    content["claims"][0]["predicted"] = 0.9
    saved.write_text(json.dumps(content))
    assert not run(COIN, config).verdicts[0].holds
    assert json.loads(saved.read_text()) == content


def test_another_configuration_is_refused_by_name(tmp_path):
    config = Config(out=tmp_path)
    run(COIN, config)
    with pytest.raises(ValueError, match=r"tosses: saved 400, given 500.*choose another --out"):
        run(COIN, replace(config, tosses=500))


def test_a_complete_run_is_not_measured_again(tmp_path):
    config = Config(out=tmp_path)
    first = run(COIN, config)
    never = COIN._replace(measure=lambda config: pytest.fail("measured again"))
    assert run(never, config) == first
    (tmp_path / "figure.pdf").unlink()
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        run(never, config)


def test_a_run_that_failed_before_it_measured_does_not_bind_its_folder(tmp_path):
    def broken(config):
        raise ValueError("tosses must be a number")

    with pytest.raises(ValueError, match="must be a number"):
        run(COIN._replace(measure=broken), Config(out=tmp_path, tosses=3))
    assert run(COIN, Config(out=tmp_path)).verdicts[0].holds


def test_what_the_user_can_put_right_ends_in_one_line(tmp_path, capsys, monkeypatch):
    """Another configuration, a folder that is a file, and Ctrl-C."""
    monkeypatch.setattr(command, "keep_compilations", lambda: None)
    folder, file = tmp_path / "run", tmp_path / "file"
    file.write_text("")
    run(COIN, Config(out=folder))
    assert command.main(COIN, ["--out", str(folder), "--tosses", "7"]) == 2
    assert command.main(COIN, ["--out", str(file)]) == 2
    assert command.main(COIN, ["--out", str(file / "below")]) == 2

    def stopped(config):
        raise KeyboardInterrupt

    assert command.main(COIN._replace(measure=stopped), ["--out", str(tmp_path / "new")]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for line, words in zip(
        lines, ("tosses: saved 400, given 7", "file", "below", "continues where it was"), strict=True
    ):
        assert words in line


def test_topics_can_be_chosen(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "keep_compilations", lambda: None)
    monkeypatch.setattr(explorer, "write", lambda path: path)  # its arrays have a test of their own
    monkeypatch.setattr(command, "TOPICS", {"coin": COIN, "die": COIN._replace(name="die")})
    assert command.main_all(["dice"]) == 2
    assert "no topic is called dice; the topics are coin, die" in capsys.readouterr().err
    assert command.main_all(["coin", "--jobs", "0"]) == 2
    assert "--jobs must be >= 1, got 0" in capsys.readouterr().err
    assert command.main_all(["coin", "--out", str(tmp_path), "--seed", "3"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"coin", "coin.html", "index.html", "assets"}


def test_the_command_line_is_the_preset_with_changes():
    config = command.parse(COIN, ["--preset", "paper", "--seed", "7", "--x64"])
    assert config == Config(preset="paper", out=Path("runs/coin_paper"), seed=7, x64=True, tosses=10**4)
    assert command.parse(COIN, ["--tosses=3"]).tosses == 3
    assert command.parse(COIN, ["--preset=paper"]).tosses == 10**4
    assert command.parse(COIN, []) == Config()


def test_help_tells_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        command.parse(TOPICS["double-descent"], ["--help"])
    text = capsys.readouterr().out
    for option in ("--preset", "--out", "--seed", "--x64", "--no-x64", "--samples", "200", "training images"):
        assert option in text


def test_an_unknown_option_ends_with_a_message(capsys):
    with pytest.raises(SystemExit):
        command.parse(COIN, ["--tossses", "3"])
    assert "tossses" in capsys.readouterr().err


def test_a_topic_that_broke_is_told_on_the_front_page(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "write", lambda path: path)
    outcome = run(COIN, Config(out=tmp_path / "coin"))
    page = site.write(tmp_path, [outcome], {"broken": "ValueError: <no data>"}).read_text()
    for part in ('src="coin/figure.svg"', "1 of 1 claims hold", "broken", "&lt;no data&gt;"):
        assert part in page


@pytest.mark.parametrize(
    ("rival", "error", "verdict"), [(1.5, 0.01, "holds"), (1.14, 0.01, "undecided"), (1.5, 0.2, "undecided")]
)
def test_a_claim_that_cannot_reject_its_rival_does_not_hold(rival, error, verdict):
    """Allowance 0.1 + 1 standard error, and 3 standard errors more between it and the rival."""
    told = claim(rival=rival, rival_law="another law", standard_errors=1.0, tolerance=np.float64(0.1))
    found = judge([told], known(1.0, error))
    assert found[0].holds is (verdict == "holds")
    assert table(found).splitlines()[-1].endswith(verdict)


def test_a_sign_without_an_effect_fails():
    """A null effect never passes: the measurement must lie beyond zero by three standard errors."""
    told = claim(predicted=0.0, tolerance=0.0, standard_errors=-3.0, relation="<=")
    assert not judge([told], known(0.0, 1e-9))[0].holds
    assert not judge([told], known(0.0, 0.0))[0].holds
    assert not judge([told], known(-0.29, 0.1))[0].holds
    assert judge([told], known(-0.31, 0.1))[0].holds
