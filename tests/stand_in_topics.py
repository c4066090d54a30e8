"""What stands for the run of a topic, in a module that another process can import."""

import os
import signal
import time
from pathlib import Path

import tqdm

from jaxtheory.lecture import Outcome
from jaxtheory.lecture.claims import ConfigurationError


def compute(name, config):
    """An outcome that says which process it is from, or what the name tells."""
    if name == "broken":
        raise ValueError(f"no {config}")
    if name == "folder":
        raise ConfigurationError("another configuration")
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "endless":
        time.sleep(600)
    list(tqdm.tqdm(range(3), desc="a bar"))
    return Outcome(name, [], Path(str(os.getpid())), Path(str(config)))
