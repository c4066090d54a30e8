"""Topics one after another, or several at once in processes of their own."""

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
import tqdm

from jaxtheory.lecture.claims import ConfigurationError
from jaxtheory.lecture.topic import Outcome

Run = Callable[[str, Any], Outcome]
_MEMORY = 6 * 2**30  # bytes for a process; a topic's quick preset takes up to half of it


def fitting(topics: int) -> int:
    """How many of so many topics run at once: a process for each core and 6 GiB; one on an accelerator.

    A topic compiles for half of its time, on one core. Two processes would each want an accelerator's whole memory.
    """
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else _MEMORY
    return max(1, min(topics, cores, memory // _MEMORY))


def results(run: Run, configs: Mapping[str, Any], jobs: int) -> Iterator[tuple[str, Outcome | Exception]]:
    """What `run(name, config)` returned or raised for each topic, as soon as it is there.

    Args:
        run: with several jobs, a function of a module, called in other processes.
        configs: of each topic, by name.
        jobs: how many processes; with 1 all is done in this one.

    Raises:
        OSError, ConfigurationError: from a topic, at once, as the user can put them right.
        KeyboardInterrupt: after the other processes have ended.
    """
    if jobs == 1:
        for name, config in configs.items():
            yield name, _outcome(functools.partial(run, name, config))
        return
    spawning = multiprocessing.get_context("spawn")  # a copy of a process that computes may wait without end
    with ProcessPoolExecutor(jobs, spawning, initializer=_begin) as executor:
        try:
            begun = {executor.submit(run, name, config): name for name, config in configs.items()}
            executor.submit(
                int
            )  # the executor watches over a process from the first task on that comes after its start
            for future in as_completed(begun):
                yield begun[future], _outcome(future.result)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _outcome(compute: Callable[[], Outcome]) -> Outcome | Exception:
    """The outcome, or what a topic raised: one that breaks does not stop the others."""
    try:
        return compute()
    except BrokenProcessPool:
        return RuntimeError(
            "a process was killed, perhaps for its memory; the same with --jobs 1 keeps what is finished"
        )
    except (OSError, ConfigurationError):
        raise
    except Exception as error:  # whatever it is, it is reported in the terminal and on the page
        return error


def _begin() -> None:
    """In another process: no bars, which would write over each other, and an end without a word at Ctrl-C."""
    bar: Any = tqdm.tqdm
    bar.__init__ = functools.partialmethod(bar.__init__, disable=True)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
