"""A topic of the lecture: predictions saved first, then measurements, then the verdicts and the figure."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture import claims
from jaxtheory.lecture.claims import Claims, Verdict


class Config(Protocol):
    """What every topic's configuration has: a frozen dataclass with these fields and its published sizes."""

    preset: Any
    out: Path
    seed: int
    x64: bool

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset, "quick" or "paper"."""
        ...


class Topic(NamedTuple):
    """One result of the theory, as four plain functions of its configuration.

    `predict(config)` says what will be measured, `measure(config)` measures it into a dataset that holds a scalar
    for every claim (long sweeps keep their progress under `config.out`), `draw(dataset, claims)` makes the figure.
    """

    name: str
    Config: Any
    predict: Callable[[Any], Claims]
    measure: Callable[[Any], xr.Dataset]
    draw: Callable[[xr.Dataset, Claims], Figure]


class Outcome(NamedTuple):
    """What a run of a topic left: its verdicts and its files."""

    topic: str
    verdicts: list[Verdict]
    figure: Path
    dataset: Path


def run(topic: Topic, config: Any) -> Outcome:
    """Predict, save, measure, save, judge against the saved file, draw; continue what an earlier run left.

    Files under `config.out`: predictions.json (written before anything is measured, never rewritten),
    measurements.zarr, verdicts.txt, figure.png and figure.pdf.

    Args:
        topic: what to run.
        config: its configuration; `x64` holds for this run only.

    Raises:
        ValueError: `config.out` holds predictions of another configuration.

    Cost: the topic's own; nothing measured is lost when it is stopped.
    """
    asked = settings(config)
    predictions = config.out / "predictions.json"
    with jax.enable_x64(config.x64):
        if not predictions.exists():
            claims.save(predictions, topic.predict(config), asked)
        saved = claims.load(predictions, asked)
        dataset = topic.measure(config)
        path = config.out / "measurements.zarr"
        dataset.to_zarr(path, mode="w", consolidated=False)
        verdicts = claims.judge(saved.claims, dataset)
        (config.out / "verdicts.txt").write_text(claims.table(verdicts) + "\n", encoding="utf-8")
        with figures.style():
            picture, _ = figures.save(topic.draw(dataset, saved), config.out / "figure")
    return Outcome(topic.name, verdicts, picture, path)


def settings(config: Any) -> dict[str, Any]:
    """The configuration as plain values, without the place it is written to."""
    plain = {key: value for key, value in dataclasses.asdict(config).items() if key != "out"}
    return {key: _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
