"""The empirical neural tangent kernel of any differentiable function, as an array and as a kernel function."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Inexact, PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, require
from jaxtheory.empirical import blocks, cost, jacobian, parts, products, strategies, structured
from jaxtheory.empirical.blocks import Pair, Prepare, Tiles
from jaxtheory.empirical.directions import over_parts
from jaxtheory.empirical.outputs import Numbers, Output, directions, finish, output_spec, read_output
from jaxtheory.empirical.validation import (
    Batch,
    Function,
    check_block,
    check_options,
    parameters,
    prepared,
    require_function,
)
from jaxtheory.programs.flops import forward_flops

Block = int | tuple[int, int] | None
_WHOLE_MEMORY = 2.0**30  # of gradients held at once, unless asked


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def ntk(
    f: Function,
    params: PyTree,
    x1: PyTree,
    x2: PyTree | None = None,
    *,
    output: Output = "full",
    batch: Batch = "each",
    method: str = "auto",
    block: Block = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
) -> Inexact[Array, "n1 n2 *outputs"]:
    r"""The empirical neural tangent kernel of f at params.

        Θ(x, x')_kl = Σ_p ∂f_k(x)/∂θ_p ∂f_l(x')/∂θ_p

    Args:
        f: `f(params, x) -> outputs`, outputs of any shape with the examples first.
        params: any pytree of floating-point or complex arrays.
        x1, x2: n1 and n2 examples, arrays or pytrees of arrays with examples first; x2=None means x1, at half the work
            and symmetric to the bit.
        output: "full" keeps both outputs, [n1, n2, *out, *out]; "trace" is the mean of Θ_kk over outputs, [n1, n2];
            "diagonal" is Θ_kk, [n1, n2, *out]; "sum-of-logits" is the kernel of o^(−1/2) Σ_k f_k, [n1, n2]; a tuple of
            output axes means the mean of the diagonal over these axes, the others kept twice.
        batch: "each" requires that every output depends on its own example alone. "whole" is the kernel of the function
            of the batch, J(x1) J(x2)ᵀ with J(x) = ∂f(params, x)/∂θ, for functions whose examples depend on one another
            (batch statistics, noise drawn for the batch). "unchecked" is the kernel of x ↦ f(params, x[None])[0], for
            operations that the test of "each" does not see through.
        method: "structured", "jacobian", "directions" (the Jacobian of one or a few outputs at a time), "products", or
            "auto", the one with the least work by the cost model. The whole batch is taken by "products". All but
            "structured" and "auto" treat f as a black box, whatever its derivative rules.
        block: examples a block, or (rows, columns); by default so that temporaries stay under `memory`.
        memory: bytes that temporaries may take beside the result. Less means derivatives taken in more sweeps, of
            parameters and of output directions. By default a quarter of the Jacobians, n·o·P·itemsize/4, and with a
            trace or a diagonal at most twice the gradients of one output, 2·n·P·itemsize, but no less than 128 MB and
            no more than 1 GiB.
        mesh: rows of the kernel are spread over all devices of this mesh, which may belong to several processes that
            make the same call. With x2=None its p devices send one another the mirrored blocks, n1²·o²/p numbers each
            in one all-to-all, and otherwise nothing. An n1 that p does not divide brings the whole kernel to every
            device.

    Products of f that name no precision are taken at the highest. Parameters and examples of half precision are
    converted to float32; integers stay integers, as f may read them as tokens. Arrays on a mesh with Explicit axes are
    computed with Auto axes on the same devices, outside jit; an f that names shardings itself is refused.

    Complex outputs have the Hermitian kernel Θ(x, x')_kl = Σ_p ∂f_k(x)/∂θ_p · conj ∂f_l(x')/∂θ_p, at about four times
    the cost. A complex parameter counts as two real ones, its real and its imaginary part: where f is holomorphic in
    it, that is twice the sum with its complex derivatives.

    Raises:
        ValueError: f has no batch axis, mixes the examples of a batch (with the operation and its line), or is not
            differentiable in params; params that are not floating-point; a block or a memory that does not fit.

    Cost: structured n·o·FP plus n²·o²·width a dense layer, jacobian n·o·FP + n²·o²·P, products n²·o·FP; the whole batch
    n1·o passes of n1 + n2 examples. f is traced on batches of one, two and three.
    Memory: the result, a copy of it where blocks are put in order, and temporaries of at most `memory`, as far as the
    model of `explain` goes and one gradient of a pair of examples (with `block`, of that many) fits.
    Differentiable in params and x in forward mode; in reverse mode too.
    Source: Jacot, Gabriel, Hongler (2018); Novak, Sohl-Dickstein, Schoenholz (2022).

    >>> f = lambda w, x: x @ w
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> print(ntk(f, jnp.ones((2, 1)), x, output="trace"))
    [[ 5. 11.]
     [11. 25.]]
    >>> print(ntk(lambda w, x: f(w, x) - f(w, x).mean(0), jnp.ones((2, 1)), x, output="trace", batch="whole"))
    [[ 2. -2.]
     [-2.  2.]]
    """
    block, output = check_options(method, batch, block, memory, mesh), read_output(output)
    f, params, x1, x2 = prepared(f, params, x1, x2, batch, real=False)
    check_block(block, x1, x2)
    outputs = jax.eval_shape(f, params, x1)
    if parts.is_complex(outputs):
        f, block, x1, x2 = real_parts(f, block, x1, x2, batch)
    if mesh is not None:
        mesh = placement.line(mesh, "rows")
        params, x1, x2 = placement.whole((params, x1, x2), mesh)
    if batch == "whole":
        found = _whole(f, params, x1, x2, output, memory=memory, mesh=mesh)
    else:
        found = _ntk(f, params, x1, x2, output, method=method, block=block, memory=memory, mesh=mesh)
    return parts.hermitian(found) if parts.is_complex(outputs) else found


@boundary
def kernel_fn(
    f: Function, params: PyTree, output: Output = "trace", **options: Any
) -> Callable[..., Inexact[Array, "n1 n2 *outputs"]]:
    """The kernel function `kernel(x1, x2=None)` of f at params; `output` and `options` as in `ntk`.

    >>> kernel = kernel_fn(lambda w, x: x @ w, jnp.ones((2, 1)))
    >>> print(kernel(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])))
    [[11.]]
    """
    require_function(f)
    params = parameters(params, real=False)

    def kernel(x1: PyTree, x2: PyTree | None = None) -> Array:
        return ntk(f, params, x1, x2, output=output, **options)

    return kernel


def real_parts(
    f: Function, block: Block, x1: PyTree, x2: PyTree | None, batch: Batch
) -> tuple[Function, Block, PyTree, PyTree | None]:
    """A complex f as a real function on twice the examples, and blocks of as many."""
    block = (2 * block[0], 2 * block[1]) if isinstance(block, tuple) else block
    return parts.EachPart(f, batch == "whole"), block, parts.doubled(x1), None if x2 is None else parts.doubled(x2)


def plan(
    f: Function, params: PyTree, x1: PyTree, x2: PyTree | None, output: Output, method: str
) -> tuple[structured.Structure, strategies.Problem, float]:
    """How each parameter enters f, the sizes of the call, and the flops of one forward pass."""
    read = structured.structure if method in ("auto", "structured") else structured.opaque
    found = read(f, params, x1)
    spec = output_spec(output, found.out_shape)
    n1 = blocks.length(x1)
    itemsize = max(jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(params))
    problem = strategies.Problem(n1, n1 if x2 is None else blocks.length(x2), x2 is None, itemsize, spec)
    return strategies.settled(found, problem), problem, forward_flops(found.findings.plan.jaxpr)


def pick(
    found: structured.Structure,
    problem: strategies.Problem,
    forward: float,
    method: str,
    block: Block,
    memory: float | None,
) -> tuple[str, cost.Schedule]:
    """The method and how it is scheduled."""
    limit, given = cost.working_bound(found, problem, memory), None
    if block is not None:
        rows, columns = (block, block) if isinstance(block, int) else block
        given = Tiles(rows, columns, False)
    names = cost.METHODS if method == "auto" else (method,)
    costs = {m: cost.method_cost(found, forward, problem, m, limit, given) for m in names}
    fitting = {m: c for m, c in costs.items() if c[1].bytes <= limit} or costs
    name = min(fitting, key=lambda m: fitting[m][0].work)
    schedule = costs[name][1]
    needed = schedule.bytes / 0.8
    hint = f"allow {needed:.3g} bytes, or pass blocks of your own"
    known = memory is None or block is not None or needed <= memory
    require(known, "memory", memory, "hold one pair of examples", hint)
    return name, schedule


@partial(jax.jit, static_argnames=("f", "output", "method", "block", "memory", "mesh"))
def _ntk(
    f: Function,
    params: PyTree,
    x1: PyTree,
    x2: PyTree,
    output: Output,
    *,
    method: str,
    block: Block,
    memory: float | None,
    mesh: Mesh | None,
) -> Array:
    found, problem, forward = plan(f, params, x1, x2, output, method)
    name, schedule = pick(found, problem, forward, method, block, memory)
    part = cost.of_part(problem, schedule.part)

    def kernel(first: PyTree, second: PyTree) -> Array:
        # kernels between different directions are not symmetric
        other = x1 if x2 is None and first is not second else x2
        if mesh is None:
            return _portions(_Call(name, f, part, found), params, x1, other, schedule, (first, second))

        # traced anew on each device: a jaxpr remembers the mesh it was traced under
        def make(given: PyTree, x: PyTree) -> tuple[Prepare, Prepare, Pair]:
            return _method(_Call(name, f, part, None), structured.everything(found), 0, given[0], x, given[1:])

        return blocks.sharded(make, (params, first, second), x1, other, schedule.tiles, mesh)

    found_block = over_parts(problem.spec, schedule.part, kernel)
    crossed = part.spec.kept < problem.spec.kept and not problem.spec.paired
    return finish(problem.spec, blocks.symmetrized(found_block) if x2 is None and crossed else found_block)


@partial(jax.jit, static_argnames=("f", "output", "memory", "mesh"))
def _whole(
    f: Function, params: PyTree, x1: PyTree, x2: PyTree, output: Output, *, memory: float | None, mesh: Mesh | None
) -> Array:
    """The kernel of the function of the batch."""
    out = jax.eval_shape(f, params, x1)
    spec, n1 = output_spec(output, out.shape[1:]), blocks.length(x1)
    gradient = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    held = (_WHOLE_MEMORY if memory is None else memory) / gradient
    size = int(min(max(held, 1), directions(spec)))
    symmetric = blocks.symmetrized if x2 is None else lambda block: block
    x2 = x1 if x2 is None else x2
    if mesh is None:
        return finish(spec, symmetric(products.whole_rows(f, params, spec, x1, x2, jnp.arange(n1), size=size)))
    split = PartitionSpec(mesh.axis_names)

    def rows_of(rows: Array, params: PyTree, x1: PyTree, x2: PyTree) -> Array:
        return products.whole_rows(f, params, spec, x1, x2, rows, size=size)

    run = jax.shard_map(rows_of, mesh=mesh, in_specs=(split, *[PartitionSpec()] * 3), out_specs=split, check_vma=False)
    # padded indices repeat the last example and are cut off
    rows = jnp.minimum(jnp.arange(-(-n1 // mesh.size) * mesh.size), n1 - 1)
    return finish(spec, symmetric(run(rows, params, x1, x2)[:n1]))


class _Call(NamedTuple):
    """What is computed and how: a method for a function, the sizes, and how parameters enter (None: not read yet)."""

    method: str
    f: Function
    problem: strategies.Problem
    found: structured.Structure | None


Pairs = tuple[Numbers, Numbers]  # the output directions of x1 and of x2


def _portions(call: _Call, params: PyTree, x1: PyTree, x2: PyTree, schedule: cost.Schedule, numbers: Pairs) -> Array:
    """The kernel along some directions, the sum over portions of the parameters."""

    def sweep(portion: structured.Portion, number: Array | int) -> Array:
        prepare, other, pair = _method(call, portion, number, params, x1, numbers)
        if x2 is None:
            return blocks.symmetric(prepare, pair, x1, schedule.tiles)
        return blocks.rectangle(prepare, pair, x1, x2, schedule.tiles, other)

    first, *rest = schedule.portions
    total = _added(None, partial(sweep, first), first.sweeps)
    for portion in rest:
        total = _added(total, partial(sweep, portion), portion.sweeps)
    return total


def _added(total: Array | None, sweep: Callable[[Array | int], Array], sweeps: int) -> Array:
    """`total` and the sum of all sweeps; in a loop, so that one sweep's factors are gone before the next are made."""
    if sweeps == 1:
        return sweep(0) if total is None else total + sweep(0)
    if total is None:
        one = jax.eval_shape(sweep, jnp.arange(1)[0])
        total = jnp.zeros(one.shape, one.dtype)
    return jax.lax.scan(lambda carry, i: (carry + sweep(i), None), total, jnp.arange(sweeps))[0]


def _method(
    call: _Call, portion: structured.Portion, sweep: Array | int, params: PyTree, x: PyTree, numbers: Pairs
) -> tuple[Prepare, Prepare, Pair]:
    """How the factors of x1 and of x2 are prepared, and contracted."""
    f, problem, (first, second) = call.f, call.problem, numbers
    spec = problem.spec
    if call.method in ("jacobian", "directions"):
        make = partial(jacobian.prepare, f, params, spec)
        return partial(make, first), partial(make, second), partial(jacobian.pair, spec)
    if call.method == "products":
        return lambda x: x, lambda x: x, partial(products.tile, f, params, spec, numbers)
    found = structured.structure(f, params, x) if call.found is None else call.found
    chosen, leaves = strategies.strategies(portion.groups, problem), jax.tree.leaves(params)
    task = structured.Task(found, chosen, spec, portion)
    build = partial(structured.prepare, task, leaves, sweep)
    return partial(build, first), partial(build, second), partial(structured.pair, task)
