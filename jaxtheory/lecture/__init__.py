"""The lecture: each topic predicts, then measures, then draws; verdicts are held against the saved predictions.

`run(TOPICS["double-descent"], config)` runs one from Python; the scripts run them from the command line. A topic is
a folder of studies (`lecture.study`): a `Config` with its presets, and a `TOPIC` made of studies that own their claims,
their measurement and their panel; where studies are measured by sweeps, `share(topic, config)` does a part of them.

>>> from jaxtheory import lecture
>>> "double-descent" in lecture.TOPICS
True
"""

from typing import TYPE_CHECKING

from jaxtheory._lazy import lazy

if TYPE_CHECKING:
    from jaxtheory.lecture.claims import Claim, Claims, Verdict, judge, table
    from jaxtheory.lecture.registry import TOPICS
    from jaxtheory.lecture.topic import Outcome, Topic, run, share

__all__ = ["TOPICS", "Claim", "Claims", "Outcome", "Topic", "Verdict", "judge", "run", "share", "table"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "claims": (
            "Claim",
            "Claims",
            "Verdict",
            "judge",
            "table",
        ),
        "registry": ("TOPICS",),
        "topic": (
            "Outcome",
            "Topic",
            "run",
            "share",
        ),
    },
)
