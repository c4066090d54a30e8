r"""Where a parameter enters linearly: one rule a primitive, giving its Jacobian as a sum of outer products.

For the view W of a parameter used in y = e(a, W), an example's Jacobian is, with cotangents g_k = ∂f_k/∂y,

    J_k[b, c, f] = Σ_r a[r, b, c] g_k[r, b, f]

where c runs over the axes of W that the primitive contracts with its input, f over those it hands to its output, b over
those it does both with (batch axes, groups, turns of a scan over stacked layers), and r over the places where W is used
(tokens, pixels, turns of a loop). A rule returns `a` and `g` in that layout; nothing here forms J.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxtheory.empirical.views import View


class Use(NamedTuple):
    """One equation in which a view enters linearly: how to read it, and the sizes of its factored Jacobian."""

    kind: str
    view: View
    operand: int
    loops: tuple[int, ...]
    params: Any
    other: jax.ShapeDtypeStruct
    out: jax.ShapeDtypeStruct

    @property
    def role(self) -> tuple[Any, ...]:
        """Uses of one leaf with equal roles add up row by row."""
        spec = self.params
        names = (spec.batch, spec.contract, spec.free) if self.kind == "dot_general" else ()
        axes = self.view.axes if self.kind != "dot_general" else ()
        groups = spec["feature_group_count"] if self.kind == "conv_general_dilated" else 1
        numbers = _conv_spec(spec) if self.kind == "conv_general_dilated" else ()
        bound = tuple(axis for _, axis in self.view.bound)
        return (self.kind, self.view.chain, names, axes, groups, numbers, bound)


class DotSpec(NamedTuple):
    """Dimension numbers of a dot_general seen from the parameter: base axes, and dimensions of the other operand."""

    batch: tuple[int, ...]
    contract: tuple[int, ...]
    free: tuple[int, ...]
    other_batch: tuple[int, ...]
    other_contract: tuple[int, ...]
    other_free: tuple[int, ...]


class Sizes(NamedTuple):
    """Extents of the factored Jacobian of one use."""

    rows: int
    batch: int
    inputs: int
    outputs: int


class Layout(NamedTuple):
    """The axes of a leaf's base: those that a factor a and a factor g both have, those of a, and those of g.

    `extents` are those of all axes; `looked_up` is the axis that a gather indexes, in place of `inputs`.
    """

    batch: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    extents: tuple[int, ...]
    looked_up: int | None


def layout(use: Use) -> Layout | None:
    """Which axes the factors of a use have; None where groups of a convolution split one."""
    view = use.view
    extents = dict(zip(view.axes, view.shape, strict=True)) | {axis: use.loops[loop] for loop, axis in view.bound}
    shape, bound = tuple(extents[axis] for axis in sorted(extents)), tuple(sorted(axis for _, axis in view.bound))
    if use.kind == "dot_general":
        return Layout(bound + use.params.batch, use.params.contract, use.params.free, shape, None)
    if use.kind == "gather":
        return Layout(bound, view.axes[:1], view.axes[1:], shape, view.axes[0])
    if use.params["feature_group_count"] != 1:
        return None
    out, channels, *taps = (view.axes[d] for d in _conv_spec(use.params))
    return Layout(bound, (*taps, channels), (out,), shape, None)


def dot_spec(params: dict[str, Any], operand: int, view: View, other_rank: int) -> DotSpec:
    """Read a dot_general whose operand number `operand` is the parameter; axes sorted so that roles compare."""
    (lhs_c, rhs_c), (lhs_b, rhs_b) = params["dimension_numbers"]
    mine, yours = ((lhs_c, lhs_b), (rhs_c, rhs_b)) if operand == 0 else ((rhs_c, rhs_b), (lhs_c, lhs_b))
    contract = sorted(zip((view.axes[i] for i in mine[0]), yours[0], strict=True))
    batch = tuple(zip((view.axes[i] for i in mine[1]), yours[1], strict=True))
    free = tuple(axis for i, axis in enumerate(view.axes) if i not in (*mine[0], *mine[1]))
    other_free = tuple(i for i in range(other_rank) if i not in (*yours[0], *yours[1]))
    return DotSpec(
        tuple(a for a, _ in batch),
        tuple(a for a, _ in contract),
        free,
        tuple(int(d) for _, d in batch),
        tuple(int(d) for _, d in contract),
        other_free,
    )


def sizes(use: Use) -> Sizes:
    """Rows, batch, inputs and outputs of a use, loops included."""
    bound = {loop for loop, _ in use.view.bound}
    rows = math.prod(n for i, n in enumerate(use.loops) if i not in bound)
    batch = math.prod(n for i, n in enumerate(use.loops) if i in bound)
    if use.kind == "dot_general":
        shape, spec = use.other.shape, use.params
        own = [math.prod(shape[d] for d in dims) for dims in (spec.other_free, spec.other_batch, spec.other_contract)]
        return Sizes(rows * own[0], batch * own[1], own[2], use.out.size // (own[0] * own[1]))
    if use.kind == "conv_general_dilated":
        groups, out_features = (
            use.params["feature_group_count"],
            use.out.shape[use.params["dimension_numbers"].out_spec[1]],
        )
        inputs = math.prod(use.view.shape) // out_features
        return Sizes(rows * (use.out.size // out_features), batch * groups, inputs, out_features // groups)
    row_count = math.prod(use.other.shape[:-1])
    return Sizes(rows * row_count, batch, use.view.shape[0], use.out.size // row_count)


def bias_shape(use: Use) -> tuple[int, ...]:
    """The shape a bias of this use has: the use's output, with extent one along the rows."""
    shape = use.out.shape
    if use.kind == "conv_general_dilated":
        feature = use.params["dimension_numbers"].out_spec[1]
        return tuple(n if d == feature else 1 for d, n in enumerate(shape))
    batch, rows = len(use.params.batch), len(use.params.other_free)
    first = batch if use.operand == 1 else len(shape) - rows
    return tuple(1 if first <= d < first + rows else n for d, n in enumerate(shape))


def factors(use: Use, other: Array, cotangent: Array) -> tuple[Array, Array]:
    """The factored Jacobian of one use in one example.

    Args:
        use: the equation.
        other: its other operand, with the loops' axes in front.
        cotangent: o cotangents of its output: [o, loops, output shape].

    Returns:
        a [rows, batch, inputs] (for a gather the indices, [rows]) and g [o, rows, batch, outputs].
    """
    depth, size = len(use.loops), sizes(use)
    read = {"dot_general": _read_dot, "conv_general_dilated": _read_conv, "gather": _read_gather}[use.kind]
    a, g = read(use, other.reshape(-1, *other.shape[depth:]), cotangent.reshape(-1, *use.out.shape))
    a = a.reshape(*use.loops, *a.shape[1:])
    g = g.reshape(cotangent.shape[0], *use.loops, *g.shape[1:])
    free, bound = _loops(use)
    if use.kind == "gather":
        return a.reshape(size.rows), g.reshape(-1, size.rows, 1, size.outputs)
    # own axes of a and g now read [rows, batch, inputs or outputs]
    a = a.transpose(*free, depth, *bound, depth + 1, depth + 2)
    g = g.transpose(0, *(1 + i for i in free), depth + 1, *(1 + i for i in bound), depth + 2, depth + 3)
    return a.reshape(size.rows, size.batch, -1), g.reshape(-1, size.rows, size.batch, size.outputs)


def bias_factor(use: Use, scale: Array) -> Array:
    """The input [rows, batch] that a bias after this use is one more weight of: its scalar factor, [loops]."""
    size, (free, bound) = sizes(use), _loops(use)
    turns = [math.prod(use.loops[loop] for loop in loops) for loops in (free, bound)]
    scale = scale.transpose(*free, *bound).reshape(turns[0], 1, turns[1], 1)
    whole = (turns[0], size.rows // turns[0], turns[1], size.batch // turns[1])
    return jnp.broadcast_to(scale, whole).reshape(size.rows, size.batch)


def _loops(use: Use) -> tuple[list[int], list[int]]:
    """Loops whose turns are rows, and those whose turns are slices of a stacked parameter, in its order."""
    bound = bound_loops(use)
    return [loop for loop in range(len(use.loops)) if loop not in bound], bound


def bound_loops(use: Use) -> list[int]:
    """Loops whose turns are slices of a stacked parameter, in the order of its axes."""
    return [loop for loop, _ in sorted(use.view.bound, key=lambda pair: pair[1])]


def _read_dot(use: Use, a: Array, g: Array) -> tuple[Array, Array]:
    spec, own = use.params, sizes(use._replace(loops=(), view=use.view._replace(bound=())))
    a = a.transpose(0, *(1 + d for d in (*spec.other_free, *spec.other_batch, *spec.other_contract)))
    g = g.reshape(-1, own.batch, *((own.outputs, own.rows) if use.operand == 0 else (own.rows, own.outputs)))
    g = g.transpose(0, 3, 1, 2) if use.operand == 0 else g.transpose(0, 2, 1, 3)
    return a.reshape(-1, own.rows, own.batch, own.inputs), g


def _read_conv(use: Use, a: Array, g: Array) -> tuple[Array, Array]:
    params, numbers = use.params, use.params["dimension_numbers"]
    own = sizes(use._replace(loops=(), view=use.view._replace(bound=())))
    spatial = tuple(use.out.shape[d] for d in numbers.out_spec[2:])
    batch, channels, *pixels = (1 + d for d in numbers.lhs_spec)
    images = a.transpose(0, batch, *pixels, channels).reshape(-1, *(a.shape[d] for d in (*pixels, channels)))
    patches = _patches(images, tuple(use.view.shape[d] for d in numbers.rhs_spec[2:]), spatial, params)
    patches = patches.reshape(len(a), own.rows, -1, own.batch, images.shape[-1] // own.batch)
    patches = patches.transpose(0, 1, 3, 2, 4).reshape(len(a), own.rows, own.batch, own.inputs)
    g = g.transpose(0, 1 + numbers.out_spec[0], *(1 + d for d in numbers.out_spec[2:]), 1 + numbers.out_spec[1])
    return patches, g.reshape(-1, own.rows, own.batch, own.outputs)


def _patches(a: Array, taps: tuple[int, ...], spatial: tuple[int, ...], params: dict[str, Any]) -> Array:
    """What each output pixel sees: [images, pixels, taps channels].

    One gather whose indices the program counts out: slices, a program each, take longer to compile than the rest.
    """
    rest = zip(params["padding"], params["lhs_dilation"], strict=True)
    edges = [(0, 0, 0), *((low, high, spread - 1) for (low, high), spread in rest), (0, 0, 0)]
    a = lax.pad(a, jnp.zeros((), a.dtype), edges)
    index: Any = 0
    for axis, (stride, dilation) in enumerate(zip(params["window_strides"], params["rhs_dilation"], strict=True)):
        own, tap = (lax.broadcasted_iota(jnp.uint32, (*spatial, *taps), d) for d in (axis, len(spatial) + axis))
        index = index * a.shape[1 + axis] + own * stride + tap * dilation
    pixels = a.reshape(len(a), -1, a.shape[-1])
    return pixels.at[:, index.ravel()].get(mode="promise_in_bounds").reshape(len(a), math.prod(spatial), -1)


def _read_gather(use: Use, indices: Array, g: Array) -> tuple[Array, Array]:
    rows = math.prod(use.other.shape[:-1])
    which = use.params["dimension_numbers"].start_index_map.index(0)
    indices = indices[..., which].reshape(-1, rows)
    limit = use.view.shape[0] - 1
    if use.params["mode"] == lax.GatherScatterMode.CLIP:
        indices = jnp.clip(indices, 0, limit)
    valid = (indices >= 0) & (indices <= limit)
    g = _rows_first(use, g).reshape(-1, len(indices), rows, use.out.size // rows)
    g = jnp.where(valid[None, :, :, None], g, jnp.zeros_like(g))
    return indices, g.reshape(-1, rows, g.shape[-1])


def _rows_first(use: Use, g: Array) -> Array:
    offset = use.params["dimension_numbers"].offset_dims
    rows = [i for i in range(len(use.out.shape)) if i not in offset]
    return g.transpose(0, *(1 + i for i in rows), *(1 + i for i in offset))


def _conv_spec(params: dict[str, Any]) -> tuple[int, ...]:
    return tuple(params["dimension_numbers"].rhs_spec)


def reads_gather(params: dict[str, Any], view: View) -> bool:
    """Whether a gather is a look-up of whole rows along the first axis, as in an embedding.

    One number indexed under vmap is looked up by an index for each axis; those of whole axes can only be 0, where what
    is out of range is clipped.
    """
    numbers = params["dimension_numbers"]
    plain = not numbers.operand_batching_dims and not numbers.start_indices_batching_dims
    clipped = params["mode"] in (lax.GatherScatterMode.CLIP, lax.GatherScatterMode.PROMISE_IN_BOUNDS)
    first = numbers.start_index_map == (0,) or (clipped and 0 in numbers.start_index_map)
    rows = numbers.collapsed_slice_dims in ((0,), ()) and tuple(params["slice_sizes"]) == (1, *view.shape[1:])
    return bool(plain and first and rows and not view.bound)
