"""The benchmark keeps what it measured, continues where it was stopped, and counts work that the compiler confirms."""

import json
from dataclasses import replace

import jax
import pytest
from conftest import relaxed_promotion

from jaxtheory.benchmark import ROWS, SIZES, Sizes, command, record, rows

TINY = Sizes(
    matrix=64, vector=256, gram=(32, 4), ridge=(64, 4), infinite=(16, 4, 2), images=(2, 2), empirical=(8, 16, 2),
    path=(16, 64), particles=(64, 16, 4, 2), widths=(8,), training=(16, 4, 1, 2), transport=(32, 3, 10),
    signals=(2, 256),
)  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(SIZES, "quick", TINY)


def options(out, **changes):
    return replace(command.Benchmark(rows=("gram", "wavelets"), out=out, repeats=1, peers=False), **changes)


def test_an_interrupted_run_continues(tmp_path, monkeypatch):
    def stopped(sizes):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(ROWS, "wavelets", stopped)
        with pytest.raises(KeyboardInterrupt):
            command.measure(options(tmp_path))
    first = json.loads((tmp_path / "quick.json").read_text())
    assert list(first["rows"]) == ["gram"]
    found = command.measure(options(tmp_path))
    assert found.rows["gram"].warm == first["rows"]["gram"]["warm"]
    assert found.ceilings.highest == first["ceilings"]["highest"]
    assert set(found.rows) == {"gram", "wavelets"}
    assert "wavelets" in (tmp_path / "quick.md").read_text()


def test_a_row_that_fails_is_reported_and_the_others_are_measured(tmp_path, monkeypatch, capsys):
    def failing(sizes):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")

    monkeypatch.setitem(ROWS, "gram", failing)
    assert command.main(["gram", "wavelets", "--out", str(tmp_path), "--repeats", "1", "--no-peers"]) == 1
    printed = capsys.readouterr().out
    assert "RESOURCE_EXHAUSTED: out of memory" in printed
    assert record.load(tmp_path / "quick.json", record.about("quick", TINY)).rows["wavelets"].warm > 0


def test_another_device_or_size_is_refused(tmp_path, monkeypatch, capsys):
    command.measure(options(tmp_path, rows=("gram",)))
    monkeypatch.setitem(SIZES, "quick", replace(TINY, gram=(64, 4)))
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert command.main(["matmul", "--out", str(tmp_path)]) == 2


def test_products_are_those_that_the_compiler_counts():
    """Of the Gram matrix: 2 n² d, and a few operations an entry."""
    n, dim = SIZES["large"].gram
    kernel = jax.jit(rows.kernels.gaussian(dim**0.5))
    x = jax.ShapeDtypeStruct((n // 16, dim), "float32")
    counted = kernel.lower(x, x).compile().cost_analysis()["flops"] * 16**2
    expected = 2 * n**2 * dim
    assert expected <= counted <= expected * (1 + 20 / dim)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:size requires ndarray:DeprecationWarning")  # of neural-tangents
@pytest.mark.parametrize("name", ROWS)
def test_every_row_runs_beside_its_peers(name):
    work = ROWS[name](TINY)
    with relaxed_promotion():
        found = command.timed(work, 1)
    assert found.warm > 0
    assert work.flops > 0
    assert set(found.peers) == set(work.peers)
