"""A topic of the lecture: predictions saved first, then measurements, then the verdicts and the figure."""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import jaxtheory
from jaxtheory import figures
from jaxtheory.checks import require
from jaxtheory.lecture import claims
from jaxtheory.lecture.claims import Claims, Verdict
from jaxtheory.lecture.site.picture import save_svg
from jaxtheory.results import Status


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
    for every claim (long sweeps keep their progress under `config.out`), `draw(dataset, claims)` makes the figure, or
    several.
    Where `measure` reads its numbers off sweeps, `sweep(config)` is those sweeps alone, of which `config.shard` may
    ask for a share.
    """

    name: str
    Config: Any
    predict: Callable[[Any], Claims]
    measure: Callable[[Any], xr.Dataset]
    draw: Callable[[xr.Dataset, Claims], Figure | Sequence[Figure]]
    sweep: Callable[[Any], dict[str, xr.Dataset]] | None = None


_LEFT = ("verdicts.txt", "figure.png", "figure.pdf", "figure.svg", "figure-dark.svg", "run.json")


class Outcome(NamedTuple):
    """What a run of a topic left: its verdicts and its files."""

    topic: str
    verdicts: list[Verdict]
    figure: Path
    dataset: Path


def run(topic: Topic, config: Any) -> Outcome:
    """Predict, save, measure, save, judge against the saved file, draw; continue what an earlier run left.

    Files under `config.out`: predictions.json (written before anything is measured, and not rewritten after),
    measurements.zarr, verdicts.txt, figure.png, .pdf and .svg, figure-dark.svg, and run.json (versions, device,
    seconds). Where all of them are there nothing is measured again: remove the folder, or one of them, to repeat a run.

    Args:
        topic: what to run.
        config: its configuration; `x64` holds for this run only.

    Raises:
        ValueError: `config.out` holds predictions of another configuration, or `config.shard` asks for a share.

    Cost: the topic's own; nothing measured is lost when it is stopped.
    """
    part = getattr(config, "shard", None)
    require(part is None, "shard", part, "be None where claims are judged", "call lecture.share for a part")
    with _numbers(config):
        saved = _predictions(topic, config)
        path = config.out / "measurements.zarr"
        if path.exists() and all((config.out / name).exists() for name in _LEFT):
            with xr.open_zarr(path, consolidated=False) as dataset:
                return Outcome(topic.name, claims.judge(saved.claims, dataset), config.out / "figure.png", path)
        start = time.perf_counter()
        dataset = topic.measure(config)
        dataset.to_zarr(path, mode="w", consolidated=False)
        verdicts = claims.judge(saved.claims, dataset)
        (config.out / "verdicts.txt").write_text(claims.table(verdicts) + "\n", encoding="utf-8")
        _draw(topic, dataset, saved, config.out)
        ran = {"version": jaxtheory.__version__, "jax": jax.__version__, "device": jax.devices()[0].device_kind}
        ran |= {"seconds": round(time.perf_counter() - start, 1)}
        (config.out / "run.json").write_text(json.dumps(ran) + "\n", encoding="utf-8")
    return Outcome(topic.name, verdicts, config.out / "figure.png", path)


def _draw(topic: Topic, dataset: xr.Dataset, saved: Claims, out: Path) -> None:
    """The topic's figures as figure, figure-2, ...: PNG, PDF and SVG."""
    with figures.style():
        drawn = topic.draw(dataset, saved)
        for i, figure in enumerate([drawn] if isinstance(drawn, Figure) else drawn):
            name = f"figure-{i + 1}" if i else "figure"
            figures.save(figure, out / name)
            save_svg(figure, out / name)


def prepare(topic: Topic, config: Any) -> None:
    """Save a topic's predictions, so that a configuration or a folder that cannot be used is found before measuring.

    Raises:
        ConfigurationError: `config.out` holds a run of another configuration.
        OSError: `config.out` cannot be written.
    """
    with _numbers(config):
        _predictions(topic, config)


def share(topic: Topic, config: Any) -> dict[str, tuple[int, int]]:
    """Do the share "i/n" = `config.shard` of a topic's sweeps, its predictions saved first; nothing is judged.

    Any number of such runs, at once or in turn, fill the sweeps under one `config.out`; `run` then finds them there.

    Returns:
        For each sweep its points that are not computed yet, and all of its points.

    Raises:
        ValueError: the topic measures without sweeps, or as `run` does.
    """
    require(topic.sweep is not None, "topic", topic.name, "measure by sweeps to be shared", "run it whole")
    assert topic.sweep is not None
    with _numbers(config):
        _predictions(topic, config)
        states = {name: found.status.values for name, found in topic.sweep(config).items()}
    return {name: (int((state == Status.NOT_COMPUTED).sum()), state.size) for name, state in states.items()}


@contextlib.contextmanager
def _numbers(config: Any) -> Iterator[None]:
    """The precision that was asked for, which products have too: accelerators would round float32 to fewer bits."""
    with jax.enable_x64(config.x64), jax.default_matmul_precision("highest"):
        yield


def _predictions(topic: Topic, config: Any) -> Claims:
    """What was predicted when this configuration first ran; a folder where nothing was measured is taken over."""
    path, asked = config.out / "predictions.json", settings(config)
    started = path.exists() and any(other != path for other in config.out.iterdir())
    if path.exists() and not started and claims.configuration(path) != claims.plain(asked):
        path.unlink()
    if not path.exists():
        claims.save(path, topic.predict(config), asked)
    return claims.load(path, asked)


def settings(config: Any) -> dict[str, Any]:
    """The configuration as plain values, without the place it is written to and the share that one run does."""
    plain = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("out", "shard")}
    return {key: _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
