"""What a function must be to have a tangent kernel, said before anything is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxtheory.checks import require
from jaxtheory.empirical.analysis import Findings

METHODS = ("auto", "jacobian", "products", "structured")


def check_method(method: str, mesh: Mesh | None) -> None:
    """The method has a name, the mesh is one."""
    require(method in METHODS, "method", method, f"be one of {METHODS}", "choose one of these")
    require(mesh is None or isinstance(mesh, Mesh), "mesh", mesh, "be a jax.sharding.Mesh", "make it by jax.make_mesh")


def check_params(params: PyTree) -> None:
    """Every leaf is a floating-point array."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    require(bool(leaves), "params", params, "hold at least one array", "pass the parameters to differentiate in")
    for path, leaf in leaves:
        name = "params" + jax.tree_util.keystr(path)
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        hint = "keep other leaves out by empirical.filter_params"
        require(floating, name, jnp.result_type(leaf).name, "be of a floating-point type", hint)


def check_function(f: Callable[..., Any], params: PyTree, x1: PyTree, x2: PyTree | None) -> None:
    """f maps a batch of examples to one array of floats with the batch first."""
    check_params(params)
    inputs = [("x1", x1)] if x2 is None else [("x1", x1), ("x2", x2)]
    for name, x in inputs:
        counts = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(x)}
        require(
            len(counts) == 1 and 0 not in counts, name, counts, "hold one number of examples >= 1", "put them first"
        )
    for batch in (1, 2):
        out = jax.eval_shape(f, params, _examples(x1, batch))
        hint = "return one array with examples first, for example f(params, x)[None] of a single output"
        single = isinstance(out, jax.ShapeDtypeStruct)
        require(single, "f", jax.tree.structure(out), "return one array", "select or concatenate its outputs")
        require(out.shape[:1] == (batch,), "f", f"{out.shape} for {batch} examples", "have a batch axis first", hint)
        floating = jnp.issubdtype(out.dtype, jnp.floating)
        require(floating, "f", out.dtype.name, "be differentiable in params", "return floating-point outputs")


def check_while(findings: Findings) -> None:
    """No loop of unknown length stands between parameters and outputs."""
    hint = "use lax.scan or lax.fori_loop with static bounds"
    bad = any(event.primitive == "while" for event in findings.events) or findings.unrolled
    require(not bad, "f", "a while loop", "be differentiable in params in reverse mode", hint)


def _examples(x: PyTree, batch: int) -> PyTree:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((batch, *jnp.shape(a)[1:]), jnp.result_type(a)), x)
