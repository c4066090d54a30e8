"""A topic made of studies: each study owns its claims, its measurement and its panel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures, sweeps
from jaxtheory.checks import require
from jaxtheory.lecture.claims import Claims
from jaxtheory.lecture.topic import Topic

_PANEL = (5.4, 4.3)  # inches
_Config = TypeVar("_Config", bound="BaseConfig")


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """What every topic is configured by; a topic's own `Config` adds its sizes."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: about half a minute on two cores; paper: the published sizes, for an accelerator"""
    out: Path = field(compare=False)
    """folder for predictions, measurements, table and figure; an interrupted run continues there"""
    seed: int = 0
    """of every random draw"""
    x64: bool = True
    """compute in float64"""
    PAPER: ClassVar[Mapping[str, Any]] = {}
    """what the preset "paper" has in place of a topic's own sizes"""

    @classmethod
    def of(cls: type[_Config], preset: str) -> _Config:
        """The configuration of a preset."""
        return replace(cls(), preset="paper", **cls.PAPER) if preset == "paper" else cls()  # type: ignore[call-arg]


@dataclass(frozen=True, kw_only=True)
class SweptConfig(BaseConfig):
    """What a topic is configured by whose measurements are sweeps, of which a run may do a share."""

    shard: str | None = field(default=None, compare=False)
    """i/n: only this share of the sweeps' points, for a job array; a run without it draws and judges"""


class Study(NamedTuple):
    """One statement of a topic: what is predicted, how it is measured, and the panel that shows both.

    `predict(config)` gives the claims and the curves of the theory, `measure(config)` a dataset that holds a scalar
    (and its `_error`) for every claim, and `draw(ax, dataset, claims)` one panel. Names of claims, curves, variables
    and dimensions are unique within a topic. What is measured is kept in `config.out/studies/<name>.zarr` as soon as it
    is there, so that an interrupted topic continues with its next study. Where `measure` reads its numbers off sweeps,
    `sweep(config)` is those sweeps alone, of which `config.shard` may ask for a share. A second panel of what another
    study measures has `draw` alone (`panel`).
    """

    name: str
    predict: Callable[[Any], Claims] | None
    measure: Callable[[Any], xr.Dataset] | None
    draw: Callable[[Axes, xr.Dataset, Claims], None]
    sweep: Callable[[Any], dict[str, xr.Dataset]] | None = None


def panel(name: str, draw: Callable[[Axes, xr.Dataset, Claims], None]) -> Study:
    """A second panel of what another study measures."""
    return Study(name, None, None, draw)


def swept(config: Any, name: str, point: Callable[..., Any], grid: sweeps.Grid, **options: Any) -> xr.Dataset:
    """A study's sweep, kept and continued under `config.out`; `config.shard` asks for a share of it."""
    options = {"key": config.seed, "shard": config.shard, "out": config.out / f"{name}.zarr"} | options
    return sweeps.run(point, grid, **options)


def kept(out: Path, name: str, make: Callable[[], xr.Dataset]) -> xr.Dataset:
    """A part of a measurement: read back if an earlier run finished it, for a store counts once it has its name."""
    path, draft = out / f"{name}.zarr", out / f"{name}.partial.zarr"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make().to_zarr(draft, mode="w", consolidated=False)
        draft.rename(path)
    return xr.open_zarr(path, consolidated=False).load()


def prefixed(name: str, dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with the study's name before that of every variable and dimension."""
    return dataset.rename({old: f"{name}_{old}" for old in (*dataset.data_vars, *dataset.dims)})


def of_studies(
    name: str, Config: Any, *drawn: Sequence[Study], columns: int = 3, size: tuple[float, float] = _PANEL
) -> Topic:
    """The topic whose claims, measurements, sweeps and panels are those of its studies, in their order.

    Args:
        name: of the topic, as the command line takes it.
        Config: its configuration, a subclass of `BaseConfig`.
        *drawn: the studies of each figure, at least one.
        columns: panels in a row of the figure.
        size: width and height of a panel, in inches.

    Raises:
        ValueError: (when it runs) two studies use one name.
    """

    studies = [study for panels in drawn for study in panels]

    def predict(config: Any) -> Claims:
        predicted = [study.predict(config) for study in studies if study.predict is not None]
        claims = tuple(claim for part in predicted for claim in part.claims)
        curves = [item for part in predicted for item in part.curves.items()]
        _require_distinct("claims", [claim.name for claim in claims])
        _require_distinct("curves", [name for name, _ in curves])
        return Claims(claims, dict(curves))

    def measure(config: Any) -> xr.Dataset:
        making = [(study.name, partial(study.measure, config)) for study in studies if study.measure is not None]
        measured = [kept(config.out / "studies", part, make) for part, make in making]
        _require_distinct("measurements", [str(name) for part in measured for name in part.variables])
        return xr.merge(measured, join="exact", compat="equals", combine_attrs="drop_conflicts")

    def draw(dataset: xr.Dataset, claims: Claims) -> list[Figure]:
        return [_figure(panels, dataset, claims, columns, size) for panels in drawn]

    sweeping = [study.sweep for study in studies if study.sweep is not None]

    def sweep(config: Any) -> dict[str, xr.Dataset]:
        found = [item for part in sweeping for item in part(config).items()]
        _require_distinct("sweeps", [name for name, _ in found])
        return dict(found)

    return Topic(name, Config, predict, measure, draw, sweep if sweeping else None)


def _figure(
    studies: Sequence[Study], dataset: xr.Dataset, claims: Claims, columns: int, size: tuple[float, float]
) -> Figure:
    """A panel for each study, in rows."""
    wide = min(columns, len(studies))
    figure, axes = figures.canvas(rows=-(-len(studies) // wide), columns=wide, panel=size)
    for ax, study in zip(axes, studies, strict=False):
        study.draw(ax, dataset, claims)
    for ax in axes[len(studies) :]:
        ax.set_axis_off()
    return figure


def _require_distinct(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, what, twice, "have one name each within a topic", "put the study's name before them")
