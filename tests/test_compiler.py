"""What jaxlib 0.10.2 does wrongly on the CPU is right after `import jaxtheory`, or there is a warning."""

import subprocess
import sys
from importlib.metadata import version

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
jax.config.update("jax_platforms", "cpu")
{before}
import jaxtheory
i = jnp.arange(32_769.0)
rows = jnp.stack([i, 0 * i, 0 * i], axis=1)
f = jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2))
h, w = jax.random.normal(jax.random.key(0), (8, 32, 64)), jax.random.normal(jax.random.key(1), (64, 32))
norm = lambda h: (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-6)
g = jax.vmap(jax.jacrev(lambda h: (norm(h) @ w)[-1]))
print(float(jax.jit(f)(rows)[-1] / 32_768.0**2), float(abs(jax.jit(g)(h) - g(h)).max() / abs(g(h)).max()))
jaxtheory.results.fit_slope(i[1:5], i[1:5])
"""


LASSOS = """
import jax, jax.numpy as jnp
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
from jaxtheory.smoothness import bspline
from jaxtheory.smoothness.lasso import lasso
t = (jnp.arange(256) + 0.5) / 256
y = jnp.sin(12 * t) + jax.random.normal(jax.random.key(0), (6, 256))
print(jax.jit(jax.vmap(lambda y: lasso(bspline.dictionary(t, 1, 7), y, 3.0).gap))(y).max())
"""


def run(before, **environment):
    program = [sys.executable, "-c", PROGRAM.format(before=before)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment or None)
    return [float(number) for number in done.stdout.split()], done.stderr


def test_sums_are_right_after_the_import(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    (total, gap), said = run("")
    assert total == 1
    assert gap < 1e-6  # 2^17 numbers of float32, whose sums round in another order
    assert "RuntimeWarning" not in said


@pytest.mark.parametrize("before", ["jax.devices()", "jnp.ones(3)"])
@pytest.mark.first_case
@pytest.mark.slow
def test_a_late_import_warns_where_sums_are_wrong(monkeypatch, before):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    (total, _), said = run(before)
    assert ("import jaxtheory first" in said) == (total != 1)
    assert (total != 1) == (version("jaxlib") == "0.10.2")


@pytest.mark.slow
def test_a_choice_of_the_user_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    assert run("")[0][0] == 1
    if version("jaxlib") == "0.10.2":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
        (total, _), said = run("")
        assert total == 1
        assert "RuntimeWarning" not in said


@pytest.mark.slow
def test_batches_of_factorizations_do_not_wait_for_each_other(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    done = subprocess.run([sys.executable, "-c", LASSOS], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 1e-7
