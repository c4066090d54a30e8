"""Nothing waits: the next block is dispatched before the last is fetched, and chunks are written beside."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweeps.common import plain, run

from jaxtheory import sweeps
from jaxtheory.sweeps import blocks, pipeline, store

GRID = sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0], seed=range(4))


@pytest.fixture
def events(monkeypatch):
    """What the driver does, in order: blocks sent and fetched, chunks written; the only waits are the fetches."""
    found, dispatch, fetch, commit = [], blocks.dispatch, blocks.fetch, store.commit

    def sent(*arguments):
        start = dispatch(*arguments)
        return lambda: found.append("send") or start()

    def fetched(*arguments):
        found.append("fetch")
        return fetch(*arguments)

    def written(*arguments):
        found.append(("write", arguments[1], threading.current_thread() is threading.main_thread()))
        return commit(*arguments)

    monkeypatch.setattr(blocks, "dispatch", sent)
    monkeypatch.setattr(blocks, "fetch", fetched)
    monkeypatch.setattr(store, "commit", written)
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: pytest.fail("the host waited"))
    return found


def test_the_host_waits_once_a_block_and_the_next_is_on_its_way(events, tmp_path, monkeypatch):
    waits, get = [], jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: waits.append(1) or get(tree))
    run(plain, GRID, out=tmp_path / "a.zarr", block=4)
    order = [event for event in events if isinstance(event, str)]
    assert order == ["send", *["send", "fetch"] * 3, "fetch"]
    assert len(waits) == 4


def test_chunks_are_written_in_order_by_a_thread(events, tmp_path):
    run(plain, GRID, out=tmp_path / "a.zarr", block=4)
    written = [event for event in events if not isinstance(event, str)]
    assert written == [("write", (i, 0), False) for i in range(4)]


def test_the_next_program_is_compiled_while_the_last_block_runs(events, tmp_path, monkeypatch):
    compiled = blocks.compiled

    def noted(*arguments):
        events.append("compile")
        return compiled(*arguments)

    monkeypatch.setattr(blocks, "compiled", noted)
    run(plain, sweeps.grid(ridge=[0.1, 1.0], seed=range(4)), static="ridge", out=tmp_path / "a.zarr", block=4)
    order = [event for event in events if isinstance(event, str)]
    second = [i for i, event in enumerate(order) if event == "compile"][-1]
    assert order[second - 1 :] == ["send", "compile", "send", "fetch", "fetch"]


def test_at_most_two_things_wait_to_be_written():
    """The third is given only when the first is done; each is told of in order."""
    gate, begun, told, given = threading.Event(), [], [], []

    def work(i):
        begun.append(i)
        gate.wait(10)
        return i

    def give():
        with pipeline.Writer(told.append) as writer:
            for i in range(4):
                writer.submit(work, i)
                given.append(i)

    giver = threading.Thread(target=give)
    giver.start()
    deadline = time.monotonic() + 5
    while len(given) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert (given, told, begun) == ([0, 1], [], [0])
    gate.set()
    giver.join(10)
    assert told == begun == given == [0, 1, 2, 3]


def test_an_error_of_the_writer_ends_the_run(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "commit", full)
    with pytest.raises(OSError, match="No space left"):
        run(plain, GRID, out=tmp_path / "a.zarr")
    monkeypatch.undo()
    np.testing.assert_array_equal(run(plain, GRID, out=tmp_path / "a.zarr").status, 0)


def test_a_trace_of_the_profiler_shows_what_runs_beside(tmp_path):
    """Chunks are written while the device computes, and the second program is compiled while a block is on its way."""

    def slow(ridge, seed, key):
        start = jnp.full((200, 200), jnp.float32(seed) + ridge)
        return {"sum": jax.lax.fori_loop(0, 60, lambda _, v: jnp.tanh(v @ v / 200), start).sum()}

    grid = sweeps.grid(ridge=[0.1, 1.0], seed=range(8))
    one = jax.make_mesh((1,), ("points",), devices=jax.devices()[:1])
    with jax.profiler.trace(tmp_path / "trace"):
        sweeps.run(slow, grid, static="ridge", key=jax.random.key(0), out=tmp_path / "a.zarr", block=2, mesh=one)
    spans = _spans(next((tmp_path / "trace").rglob("*.xplane.pb")))
    waits, sent = spans["wait"], spans["dispatch"]
    assert (len(waits), len(sent), len(spans["write"])) == (8, 8, 4)
    together = [min(w.stop, d.stop) - max(w.start, d.start) for w in spans["write"] for d in waits]
    assert max(together) > 1e6  # nanoseconds; where the caller writes there is none
    assert all(sent[i + 1].stop <= waits[i].start for i in range(7))
    second = next(span for span in spans["compile"] if span.start >= sent[3].stop)
    assert second.stop <= waits[3].start


def _spans(path):
    """Begin and end of what the driver names, in nanoseconds."""
    lines = [line for plane in jax.profiler.ProfileData.from_file(str(path)).planes for line in plane.lines]
    found = [event for line in lines for event in line.events if event.name.startswith("sweeps.")]
    spans = {}
    for event in sorted(found, key=lambda event: event.start_ns):
        start = int(event.start_ns)
        spans.setdefault(event.name.removeprefix("sweeps."), []).append(range(start, start + int(event.duration_ns)))
    return spans
