"""Child of test_processes: forks the processes of one sweep under `jax.distributed`, with Gloo on loopback.

Forking after the imports, and before any device is touched, makes a process cost the run itself and not the imports.
"""

import functools
import json
import os
import pathlib
import signal
import socket
import sys
import time

import jax

from scripts.kill_sweeps import started

PATIENCE = 60  # seconds that the others may take to notice a death
HEARTBEAT = 10


def member(out: pathlib.Path, port: int, count: int, index: int, *, kill: list | None, shard: bool) -> None:
    """One process of a sweep; the one that `kill` names dies at its commit of that number."""
    jax.config.update("jax_num_cpu_devices", 2)
    if count > 1 and not shard:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index, heartbeat_timeout_seconds=HEARTBEAT)
    if kill and kill[0] == index:
        arm("between", kill[1])
    if shard:
        sweep(out, shard=f"{index}/{count}")
    else:
        sweep(out)
    if count > 1 and not shard:
        jax.distributed.shutdown()  # waits for the others: a coordinator that leaves first takes them down


def ended(children: list[int]) -> list[int | str]:
    """The exit code of each, negative for a signal; "hung" where it had to be ended from here."""
    deadline, codes = time.monotonic() + PATIENCE, {}
    while len(codes) < len(children):
        for child in children:
            if child not in codes:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    codes[child] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    codes[child] = "hung"
        time.sleep(0.05)
    return [codes[child] for child in children]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(where: str, plans: str) -> None:
    """Each plan is a store's name and its runs in turn: processes, whom to kill, and whether they are shards."""
    report = {}
    for name, runs in json.loads(plans).items():
        out, report[name] = pathlib.Path(where) / name, []
        for run in runs:
            kill, shard, port = run.get("kill"), run.get("shards", False), free_port()
            work = functools.partial(member, out, port, run["processes"], kill=kill, shard=shard)
            children = [started(functools.partial(work, i)) for i in range(run["processes"])]
            report[name].append({"codes": ended(children)} | state(out))
    print(json.dumps(report))


if __name__ == "__main__":
    from killed import arm, state, sweep  # beside this file, where a script finds it and a test collector does not

    main(*sys.argv[1:])
