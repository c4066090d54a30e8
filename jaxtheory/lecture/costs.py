"""What a topic cost when it last ran here: the estimate that is printed before the next run and in `--help`.

Time and memory depend on the machine, so nothing is estimated from another one: each complete run of a preset adds a
line to `costs.jsonl` in the user's cache folder, and the last line of the topic and preset is the estimate.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxtheory.lecture.topic import Topic, settings


class Cost(NamedTuple):
    """One run: which topic and preset, on what, its seconds and the peak memory of its process in bytes."""

    topic: str
    preset: str
    device: str
    seconds: float
    memory: int


def cache() -> Path:
    """The user's folder of compiled programs and costs: `$XDG_CACHE_HOME/jaxtheory`, else `~/.cache/jaxtheory`."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxtheory"


def record(topic: Topic, config: Any, device: str, seconds: float, memory: int) -> None:
    """Keep the cost of a run, if it was one of the preset's sizes; a folder that cannot be written keeps nothing."""
    free = ("seed", "x64")
    ours, published = (settings(each) for each in (config, topic.Config.of(config.preset)))
    if any(ours[name] != published[name] for name in ours if name not in free):
        return
    line = json.dumps(Cost(topic.name, config.preset, device, round(seconds, 1), memory)._asdict())
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with (cache() / "costs.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")  # one write: runs at once do not mix their lines
    except OSError:
        return


def last(topic: str, preset: str) -> Cost | None:
    """The last recorded run of a topic's preset, None if there is none."""
    path = cache() / "costs.jsonl"
    if not path.exists():
        return None
    found = [cost for cost in map(_read, path.read_text(encoding="utf-8").splitlines()) if cost is not None]
    return next((cost for cost in reversed(found) if (cost.topic, cost.preset) == (topic, preset)), None)


def _read(line: str) -> Cost | None:
    """A line of the file; None for one that a run left unfinished or another version wrote."""
    try:
        return Cost(**json.loads(line))
    except (ValueError, TypeError):
        return None


def estimate(topic: str, preset: str) -> str:
    """One sentence: what the preset took when it last ran here."""
    cost = last(topic, preset)
    if cost is None:
        return f"{topic}, {preset}: no run recorded on this machine yet, so no estimate of time and memory"
    memory = f"{cost.memory / 2**30:.2f} GiB"
    return f"{topic}, {preset}: about {cost.seconds:.0f} s and up to {memory}, as in its last run here ({cost.device})"


def summary(topics: Sequence[str], preset: str) -> str:
    """The same of several topics, and of the process that held most; those at once take less time in all."""
    known = [cost for name in topics if (cost := last(name, preset)) is not None]
    if not known:
        return f"{preset}: no run recorded on this machine yet, so no estimate of time and memory"
    memory = f"{max(cost.memory for cost in known) / 2**30:.2f} GiB"
    seconds = sum(cost.seconds for cost in known)
    return (
        f"{preset}: about {seconds:.0f} s and up to {memory}, by the last runs of {len(known)} of {len(topics)} topics"
    )


def longest_first(topics: Sequence[str], preset: str) -> list[str]:
    """The order in which topics that run at once end soonest; those without a recorded run come first."""
    known = {name: last(name, preset) for name in topics}
    return sorted(topics, key=lambda name: -float("inf") if (cost := known[name]) is None else -cost.seconds)


def described(measure: Callable[..., Any], topic: str) -> str:
    """The help text of a topic: what it measures, and what both presets cost."""
    return "\n\n".join([measure.__doc__ or topic, *(estimate(topic, preset) for preset in ("quick", "paper"))])
