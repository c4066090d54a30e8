"""Every method on a mesh is itself on one device, with the flops and messages known on paper; over processes too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import meshes
import numpy as np
import optax
import pytest
from collectives import collectives, product_flops
from meshes import BLOCK, DIM, METHODS, OTHER, OUTPUTS, PARTICLES, RANK, WIDTH, N
from tolerances import assert_close, tolerance

from jaxtheory import empirical, infinite, kernels, networks, sweeps
from jaxtheory.empirical.cost import forward_flops
from jaxtheory.networks import runs
from jaxtheory.sweeps import blocks
from scripts import project_costs as costs

DEVICES = [8, pytest.param(3, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
LAYERS = (DIM, WIDTH, OUTPUTS)
PARAMETERS = DIM * WIDTH + WIDTH * OUTPUTS


def over(devices):
    return jax.make_mesh((devices,), ("any",), devices=jax.devices()[:devices])


def traced(name, devices):
    run, inputs = METHODS[name]
    if name == "particles":
        inputs = (inputs[0], jnp.asarray(meshes.normal(5, N, DIM)))  # as many as 3 and 8 devices divide
    inputs = jax.tree.map(jnp.asarray, inputs)
    return jax.jit(lambda *inputs: run(over(devices), *inputs)).trace(*inputs), inputs


def solution(p):
    """All that `fit` sends: the preconditioner, two loops of which one turn each is counted, and the checks.

    The second loop is that of derivatives, which ends at once where there are none; its right-hand side is a product.
    The check of K and Kᵀ is a product with a column more. Units and norms are numbers of each output or column of x.
    """
    loop = [
        costs.Collective("all-reduce", RANK * OUTPUTS),
        costs.Collective("all-reduce", OUTPUTS, 2),
        *costs.iteration(N, DIM, OUTPUTS, RANK, p, BLOCK).collectives,
    ]
    units = [costs.Collective("all-reduce", OUTPUTS, 11), costs.Collective("all-reduce", DIM)]
    check = [costs.Collective("all-gather", N * (OUTPUTS + 1)), *costs.matvec(N, DIM, 1, p, BLOCK).collectives]
    product = costs.matvec(N, DIM, OUTPUTS, p, BLOCK).collectives
    return [*costs.preconditioner(N, DIM, RANK, p).collectives, *loop, *loop, *product, *units, *check]


SENT = {
    "gram": lambda p: costs.gram(N, 2 * DIM, p, BLOCK).collectives,
    "gram of two": lambda p: (),
    "infinite": lambda p: costs.gram(N, 2 * DIM, p, BLOCK).collectives,
    "matvec": lambda p: costs.matvec(N, DIM, OUTPUTS, p, BLOCK).collectives,
    "matvec of two": lambda p: costs.matvec(N, DIM, OUTPUTS, p, BLOCK).collectives[:1],
    "fit": solution,
    "structured": lambda p: costs.tangent_kernel("structured", N, LAYERS, p)[0].collectives,
    "jacobian": lambda p: costs.tangent_kernel("jacobian", N, LAYERS, p)[0].collectives,
    "products": lambda p: costs.tangent_kernel("products", N, LAYERS, p)[0].collectives,
    # the gradient's leaves, one by one
    "operator": lambda p: [costs.Collective("all-reduce", size) for size in (DIM * WIDTH, WIDTH * OUTPUTS)],
    "particles": lambda p: costs.flow_step(N, N, DIM, 1, p).collectives,
}


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "infinite" else ()) for name in METHODS]
)
@pytest.mark.first_case
def test_what_is_sent_is_what_is_known_on_paper(name, devices):
    """Kinds, counts and sizes of all collectives but those of single numbers; one device's result, a p-th on each."""
    program, inputs = traced(name, devices)
    compiled = program.lower().compile()
    found = [(kind, size) for kind, size in collectives(compiled) if size > 1]
    known = [(each.kind, each.numbers) for each in SENT[name](devices) for _ in range(each.times)]
    assert sorted(found) == sorted(each for each in known if each[1] > 1)
    assert_close(compiled(*inputs), METHODS[name][0](None, *inputs))
    if name in ("gram", "infinite"):
        assert compiled.memory_analysis().output_size_in_bytes == costs.gram(N, 2 * DIM, devices, BLOCK).bytes
    if name in ("structured", "jacobian", "products"):
        kernel = costs.tangent_kernel(name, N, LAYERS, devices)[0]
        assert compiled.memory_analysis().output_size_in_bytes == kernel.bytes


def tangent_flops(method, p):
    cost, more = costs.tangent_kernel(method, N, LAYERS, p)
    return cost.flops, more


# name: matrix products of one device at least, and what they may be more
FLOPS = {
    "gram": lambda p: (costs.gram(N, 2 * DIM, p, BLOCK).flops, 0),
    "gram of two": lambda p: (2 * DIM * N * len(OTHER) / p, 0),
    "matvec": lambda p: (costs.matvec(N, DIM, OUTPUTS, p, BLOCK).flops, 0),
    "structured": lambda p: tangent_flops("structured", p),
    "jacobian": lambda p: tangent_flops("jacobian", p),
    "products": lambda p: tangent_flops("products", p),
    "particles": lambda p: (costs.flow_step(N, N, DIM, 1, p, blocks=False).flops, 0),
}


@pytest.mark.parametrize("devices", [8, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 3))])
@pytest.mark.parametrize("name", FLOPS)
def test_products_are_those_known_on_paper(name, devices):
    least, more = FLOPS[name](devices)
    assert least <= product_flops(traced(name, devices)[0].jaxpr.jaxpr) <= least + more


def test_a_product_with_the_operator_is_a_pass_forward_and_one_back():
    """8 P flops an example at most, half of them at least, and 2 P to linearize, over all devices."""
    total = product_flops(traced("operator", 8)[0].jaxpr.jaxpr)
    bound = costs.operator(N, PARAMETERS, 1).flops
    assert bound / 2 <= total - 2 * PARAMETERS * N <= bound


def test_a_preconditioner_is_the_products_known_on_paper():
    """Columns of K, of F Fᵀ and by a small inverse; three passes of Cholesky QR."""
    x, factor, shift = jnp.asarray(meshes.X), jnp.ones((N, RANK)), jnp.float32(1.0)
    pivoted = jax.make_jaxpr(lambda x: kernels.rpcholesky(meshes.KERNEL, x, RANK, jax.random.key(0)))(x)
    inverse = jax.make_jaxpr(kernels.low_rank_inverse)(factor, shift)
    known = costs.preconditioner(N, DIM, RANK, 1).flops
    assert product_flops(pivoted.jaxpr) + product_flops(inverse.jaxpr) == known


@pytest.mark.parametrize("devices", [1, 2])  # a loop of more than one turn counts once
def test_the_compilers_own_count_agrees(devices):
    """`cost_analysis` of a Gram matrix in 64 dimensions: products, less than 20 flops an entry, norms and units."""
    x = jnp.asarray(meshes.normal(0, N, 64))
    compiled = jax.jit(lambda x: kernels.gram(meshes.KERNEL, x, mesh=over(devices))).lower(x).compile()
    known = costs.gram(N, 2 * 64, devices, N)
    spare = 20 * costs.pairs(N, devices) + 6 * 64 * 2 * N * (1 + devices // 2)
    assert known.flops <= compiled.cost_analysis()["flops"] <= known.flops + spare
    assert compiled.memory_analysis().output_size_in_bytes == known.bytes


@pytest.mark.slow
def test_a_layer_of_infinite_width_costs_its_flops():
    """Operations of one hidden layer more, each counted once; what it does for each point alone is few for an entry."""
    n = 4096
    x = jax.ShapeDtypeStruct((n, DIM), jnp.float32)
    shallow, deep = (
        forward_flops(jax.make_jaxpr(infinite.mlp(depth, "relu", 1.2, 0.1).ntk)(x, x)) for depth in (2, 12)
    )
    assert round((deep - shallow) / 10 / n**2) == costs.LAYER


def test_a_sweep_sends_nothing():
    work = blocks.Work(
        jax.jit(lambda values, words, key: {"out": sweeps.named(jax.random.normal(key) * values["a"])}),
        {"a": np.dtype(np.float32)},
        2,
        jax.random.key(0),
        blocks.points_mesh(over(8)),
    )
    assert collectives(blocks.compiled(work, 16).compiled) == []


def on_centres(mesh, x, ridge):
    options = {"centres": x[:RANK], "block": BLOCK, "mesh": mesh}
    return kernels.fit(meshes.KERNEL, x, jnp.asarray(meshes.V, x.dtype), ridge, **options).alpha


@pytest.mark.slow
def test_regression_on_centres_adds_up_numbers_of_centres():
    """The right-hand side, a turn of each loop, corrections, what is left out: no more numbers each."""
    x, ridge = jnp.asarray(meshes.X), jnp.linspace(0.5, 2.0, N, dtype=jnp.float32)
    compiled = jax.jit(lambda ridge: on_centres(over(8), x, ridge)).lower(ridge).compile()
    sent = [found for found in collectives(compiled) if found[1] > OUTPUTS]
    assert {kind for kind, _ in sent} == {"all-reduce"}
    assert max(numbers for _, numbers in sent) == RANK * OUTPUTS
    assert_close(compiled(ridge), on_centres(None, x, ridge), condition=100)


@pytest.mark.slow
def test_regression_on_centres_has_the_derivatives_of_one_device(float64):
    x, ridge = jnp.asarray(meshes.X, float64), jnp.linspace(0.5, 2.0, N)
    gradient = jax.grad(lambda x, ridge, mesh: (on_centres(mesh, x, ridge) ** 2).sum(), (0, 1))
    for one, several in zip(gradient(x, ridge, None), gradient(x, ridge, over(8)), strict=True):
        assert_close(several, one, condition=1e6)


@pytest.mark.slow
def test_trained_networks_send_nothing(monkeypatch):
    """Each device trains its share of the networks from the first step to the last."""
    programs, train = [], runs.train_models

    def listen(*arguments):
        programs.append(train.lower(*arguments).compile())
        return train(*arguments)

    listen.lower = train.lower
    monkeypatch.setattr(runs, "train_models", listen)
    x, y = jnp.asarray(meshes.X), jnp.asarray(meshes.V)
    networks.train_widths(x, y, x, y, widths=[2, 3], seeds=4, optimizer=optax.sgd(0.1), steps=2, mesh=over(8))
    assert programs
    assert all(collectives(program) == [] for program in programs)


@pytest.mark.slow
@pytest.mark.parametrize("preconditioner", ["rpcholesky", "nystrom", "none"])
def test_a_model_of_a_mesh_predicts_on_it_and_off_it(preconditioner, float64):
    x, y = jnp.asarray(meshes.X, float64), jnp.asarray(meshes.V, float64)
    options = {"block": BLOCK, "rank": RANK, "preconditioner": preconditioner}
    model = kernels.fit(meshes.KERNEL, x, y, 1.0, mesh=over(8), **options)
    assert model.alpha.sharding.spec == jax.sharding.PartitionSpec("rows")
    gram = np.asarray(meshes.KERNEL(x, x))
    expected = gram @ np.linalg.solve(gram + np.eye(N), y)
    for mesh in (over(8), None):
        found = np.asarray(kernels.predict(model, x, block=BLOCK, mesh=mesh))
        # ‖K (α − exact)‖ ≤ ‖r‖, since K (K + I)⁻¹ < I, and the residual is at most √ε ‖y‖
        assert np.linalg.norm(found - expected) <= np.finfo(float64).eps ** 0.5 * np.linalg.norm(y)


@pytest.mark.slow
def test_arrays_that_lie_on_one_device_are_taken_to_the_mesh():
    x, v = jax.device_put((jnp.asarray(meshes.X), jnp.asarray(meshes.V)), jax.devices()[3])
    for run in (
        lambda mesh: kernels.gram(meshes.KERNEL, x, mesh=mesh),
        lambda mesh: kernels.matvec(meshes.KERNEL, x, v, BLOCK, mesh=mesh),
    ):
        assert_close(run(over(8)), run(None))


def test_what_no_mesh_divides_is_refused(unchecked):
    x, mesh = jnp.asarray(meshes.X), over(5)
    weights = [jnp.asarray(leaf) for leaf in meshes.WEIGHTS]
    with pytest.raises(ValueError, match=r"x must have a multiple of 5 rows.*got x=24 rows"):
        kernels.matvec(meshes.KERNEL, x, x, mesh=mesh)
    with pytest.raises(ValueError, match=r"x must have a multiple of 5 rows"):
        kernels.fit(meshes.KERNEL, x, x, 1.0, mesh=mesh)
    with pytest.raises(ValueError, match=r"x must have a multiple of 5 rows"):
        empirical.ntk_operator(meshes.network, weights, x, mesh=mesh)
    with pytest.raises(ValueError, match=r"solver must be conjugate gradients on a mesh, got solver=cholesky"):
        kernels.fit(meshes.KERNEL, x, x, 1.0, solver="cholesky", mesh=over(8))
    with pytest.raises(ValueError, match=r"mesh must be a jax.sharding.Mesh, got mesh=8"):
        kernels.fit(meshes.KERNEL, x, x, 1.0, mesh=8)


def over_processes(count, devices, names=()):
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here.parent), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(here / "meshes.py"), str(count), str(devices), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.smoke
def test_two_processes_are_one():
    """Two processes with two devices each hold the rows of one device's results."""
    names = ["gram", "matvec", "particles"]
    errors = over_processes(2, 2, names)
    assert list(errors) == names
    assert max(errors.values()) <= tolerance("float32")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices"), [(2, 2), (4, 2)])
def test_any_number_of_processes_is_one(count, devices):
    errors = over_processes(count, devices)
    assert list(errors) == list(METHODS)
    assert max(errors.values()) <= tolerance("float32")
    assert PARTICLES % (count * devices) == 0
