"""Scripts: a topic's configuration as a command line, the run, and what it took."""

import itertools
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import tqdm
import tyro

from jaxtheory.lecture import claims, costs, processes, site
from jaxtheory.lecture.claims import ConfigurationError
from jaxtheory.lecture.registry import TOPICS
from jaxtheory.lecture.topic import Outcome, Topic, prepare, run, share

Preset = Literal["quick", "paper"]

_compiling: list[float] = []


@dataclass(frozen=True)
class Lecture:
    """The topics of the lecture, and a static site with their figures and claims."""

    topics: tyro.conf.Positional[tuple[str, ...]] = ()
    """which topics, by name; all by default"""
    preset: Preset = "quick"
    """quick: about a minute a topic on two cores; paper: the published sizes, for an accelerator"""
    out: Path | None = None
    """folder: one subfolder a topic, and the site, index.html; by default runs/lecture, or runs/lecture_paper"""
    seed: int = 0
    """of every random draw"""
    x64: bool | None = None
    """compute in float64; each topic's own choice by default"""
    jobs: int | None = None
    """topics at once, a process each; by default one for each core and 6 GiB of memory, and 1 on an accelerator"""


def main(topic: Topic, arguments: Sequence[str] | None = None) -> int:
    """Run a topic from the command line: `--preset quick|paper`, then any field of its configuration.

    Returns:
        0 if every claim holds, or where `--shard` asks for no more than a share of the sweeps; 1 if a claim fails; 2 if
        the folder cannot be used; 130 if the user stopped it.
    """
    config = parse(topic, sys.argv[1:] if arguments is None else arguments)
    keep_compilations()
    return _explained(lambda: _one(topic, config))


def parse(topic: Topic, arguments: Sequence[str]) -> Any:
    """The configuration that a command line asks for: the preset's, with the options given changed.

    A preset other than quick has a folder of its own, so that both can be kept.

    >>> from jaxtheory.lecture.double_descent import TOPIC
    >>> config = parse(TOPIC, ["--preset", "paper", "--seeds", "3"])
    >>> config.seeds, config.out.name
    (3, 'double_descent_paper')
    """
    preset = "quick"
    for given, value in itertools.pairwise([*arguments, ""]):
        if given.split("=")[0] == "--preset":
            preset = given.partition("=")[2] or value
    known = preset if preset in ("quick", "paper") else "quick"  # tyro says what is wrong with another
    default = topic.Config.of(known)
    default = replace(default, out=_folder(default.out, known))
    return tyro.cli(
        topic.Config, default=default, args=list(arguments), description=costs.described(topic.measure, topic.name)
    )


def main_all(arguments: Sequence[str] | None = None) -> int:
    """Run the named topics, or all; one that breaks is reported on the page and does not stop the others.

    Returns:
        0 if every topic ran and every claim holds, 1 otherwise; 2 for a name that no topic has or a folder that cannot
        be used; 130 if the user stopped it.
    """
    words = [Lecture.__doc__ or "", *(costs.summary(tuple(TOPICS), preset) for preset in ("quick", "paper"))]
    options = tyro.cli(Lecture, args=arguments, prog="jaxtheory lecture", description="\n\n".join(words))
    unknown = [name for name in options.topics if name not in TOPICS]
    if options.jobs is not None and options.jobs < 1:
        print(f"--jobs must be >= 1, got {options.jobs}; leave it out for what fits this machine", file=sys.stderr)
        return 2
    if unknown:
        print(f"no topic is called {', '.join(unknown)}; the topics are {', '.join(TOPICS)}", file=sys.stderr)
        return 2
    keep_compilations()
    return _explained(lambda: _all(options))


def _one(topic: Topic, config: Any) -> int:
    prepare(topic, config)
    if getattr(config, "shard", None) is not None:
        print(_told(config, share(topic, config)))
        return 0
    outcome = timed(topic, config)
    return 0 if all(verdict.holds for verdict in outcome.verdicts) else 1


def _all(options: Lecture) -> int:
    out = _folder(Path("runs/lecture"), options.preset) if options.out is None else options.out
    chosen = {name: topic for name, topic in TOPICS.items() if not options.topics or name in options.topics}
    jobs = processes.fitting(len(chosen)) if options.jobs is None else min(options.jobs, len(chosen))
    configs = {}
    for name in costs.longest_first(tuple(chosen), options.preset) if jobs > 1 else chosen:
        topic = chosen[name]
        config = replace(topic.Config.of(options.preset), out=out / name, seed=options.seed)
        configs[name] = config if options.x64 is None else replace(config, x64=options.x64)
    print(costs.summary(tuple(chosen), options.preset), flush=True)
    outcomes, failures = {}, {}
    for name, result in tqdm.tqdm(processes.results(named, configs, jobs), desc="topics", total=len(chosen)):
        if isinstance(result, Exception):
            traceback.print_exception(result)
            failures[name] = f"{type(result).__name__}: {result}"
        else:
            outcomes[name] = result
        # after each topic: pages of what is there
        site.write(out, [outcomes[known] for known in chosen if known in outcomes], failures)
    verdicts = [verdict for name in chosen if name in outcomes for verdict in outcomes[name].verdicts]
    print(f"\n{claims.table(verdicts)}\n\npage: {out / 'index.html'}")
    return 0 if not failures and all(verdict.holds for verdict in verdicts) else 1


def _folder(out: Path, preset: str) -> Path:
    """The default folder of a preset."""
    return out if preset == "quick" else out.with_name(f"{out.name}_{preset}")


def _explained(command: Callable[[], int]) -> int:
    """The command's exit code; what the user can put right himself ends in one line."""
    try:
        return command()
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was", file=sys.stderr)
        return 130
    except (OSError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 2


def named(name: str, config: Any) -> Outcome:
    """Run a topic by its name, which another process can look up."""
    keep_compilations()
    return timed(TOPICS[name], config)


def timed(topic: Topic, config: Any) -> Outcome:
    """Run, then print the table of claims, where things were saved, and what it took."""
    _listen()
    fresh = not config.out.exists() or {path.name for path in config.out.iterdir()} <= {"predictions.json"}
    if fresh:
        print(costs.estimate(topic.name, config.preset), flush=True)
    compiled, start = sum(_compiling), time.perf_counter()
    outcome = run(topic, config)
    compiling, total = sum(_compiling) - compiled, time.perf_counter() - start
    print(claims.table(outcome.verdicts))
    print(f"\nfigure: {outcome.figure} (and .pdf)   data: {outcome.dataset}")
    device = jax.devices()[0]
    if fresh:
        costs.record(topic, config, f"{len(jax.devices())} × {device.device_kind}", total, peak_memory())
    print(
        f"device: {len(jax.devices())} × {device.device_kind}   compile: {compiling:.1f} s   "
        f"warm: {total - compiling:.1f} s   peak memory: {peak_memory() / 2**30:.2f} GiB"
    )
    return outcome


def _told(config: Any, points: dict[str, tuple[int, int]]) -> str:
    """What a shard leaves to the others."""
    lines = [
        f"{config.out / name}.zarr: {missing} of {size} points missing" for name, (missing, size) in points.items()
    ]
    whole = not any(left for left, _ in points.values())
    rest = "all is there: start the same without --shard for figure and verdicts" if whole else "start the others"
    return "\n".join([*lines, f"shard {config.shard} is done; {rest}"])


def peak_memory() -> int:
    """Bytes at the peak: the device's own count where it keeps one, else the process's resident set."""
    stats = jax.devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return int(stats.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit))


def keep_compilations() -> None:
    """Keep compiled programs between runs, where the user has not said where: under the user's cache folder."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(costs.cache()))


def _listen() -> None:
    """Collect compile times from JAX's own events, once a process."""
    if not _compiling:
        _compiling.append(0.0)
        jax.monitoring.register_event_duration_secs_listener(_collect)


def _collect(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event.startswith("/jax/core/compile/"):
        _compiling.append(duration_secs)
