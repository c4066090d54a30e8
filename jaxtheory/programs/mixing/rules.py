"""One rule for each family of primitives: the records of an equation's outputs from those of its inputs."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from jaxtheory.programs.calls import Aval, Equation
from jaxtheory.programs.mixing.facts import (
    LARGEST,
    MIXED,
    Axis,
    Fact,
    collapse,
    complete,
    drop,
    forget,
    join,
    mix,
    numbers,
    reshaped,
    shared,
    spread,
    text_token,
)
from jaxtheory.programs.mixing.shapes import SHAPES, shape_of, transposed

Rule = Callable[[Equation, list[Fact]], list[Fact]]


def _names(text: str, *others: str) -> frozenset[str]:
    return frozenset((*text.split(), *others))


ELEMENTWISE = _names(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    convert_element_type copy cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma
    igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi
    name ne neg nextafter not one_minus_square or polygamma polynomial population_count pow pvary random_clone
    random_fold_in random_gamma real reciprocal reduce_precision regularized_incomplete_beta rem reshard round rsqrt
    select_n sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh threefry2x32 xor zeta"""
)
SAME = _names("device_put optimization_barrier layout_constraint")
REDUCE = _names("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor reduce argmax argmin")
REFERENCES = _names("new_ref empty_ref get swap addupdate freeze free_ref run_state run_scoped masked_load masked_swap")
CUMULATIVE = _names("cumsum cumprod cummax cummin cumlogsumexp")
WINDOWS = _names(
    """reduce_window reduce_window_sum reduce_window_max reduce_window_min select_and_scatter select_and_scatter_add
    select_and_gather_add"""
)
# trailing axes of the first operand that a primitive works on; those before are independent of one another
CORE = {
    2: _names("cholesky cholesky_update eigh eig geqp3 geqrf hessenberg householder_product lu ormqr qr schur svd"),
    1: _names("lu_pivots_to_permutation tridiagonal_solve"),
    0: _names("random_bits random_unwrap random_split random_seed"),
}
CORE[2] |= _names("symmetric_product triangular_solve tridiagonal")

_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "neg": np.negative},
    **{"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal},
    **{"ne": np.not_equal, "and": np.bitwise_and, "or": np.bitwise_or, "not": np.invert, "sign": np.sign},
    **{"abs": np.abs, "rem": np.fmod, "copy": np.positive, "stop_gradient": np.positive},
    "select_n": lambda which, *cases: np.select([which == i for i in range(len(cases))], cases),
}


def elementwise(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Entries from corresponding entries; numbers are computed while they are few."""
    name, shape = equation.primitive.name, shape_of(equation.outvars[0])
    # numbers of rank 0, and axes of extent 1, may stand beside whole arrays
    found = join(name, [spread(fact, shape, range(len(shape) - len(fact.shape), len(shape))) for fact in facts])
    known = _evaluate(equation, facts)
    if known is not None:
        computed = numbers(np.ma.MaskedArray(np.broadcast_to(known.data, shape), np.broadcast_to(known.mask, shape)))
        # what is partly known keeps the tokens of what is not
        found = computed if complete(computed) else found._replace(known=computed.known)
    return [
        found if i == 0 else found._replace(token=mix(found.token, np.uint64(i))) for i in range(len(equation.outvars))
    ]


def _evaluate(equation: Equation, facts: list[Fact]) -> np.ma.MaskedArray | None:
    name = equation.primitive.name
    known = [fact.known for fact in facts if fact.known is not None]
    if len(known) < len(facts) or max(values.size for values in known) > LARGEST:
        return None
    data = [np.asarray(values.data) for values in known]
    mask = functools.reduce(np.logical_or, [np.ma.getmaskarray(values) for values in known])
    with np.errstate(all="ignore"):
        if name == "convert_element_type":
            return np.ma.MaskedArray(data[0].astype(equation.params["new_dtype"]), mask)
        try:
            return np.ma.MaskedArray(np.asarray(_NUMPY[name](*data)), mask)
        except (KeyError, TypeError):
            return None


def same(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Every output is its input."""
    return facts


def reduction(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Over the axes that the equation names."""
    params = equation.params
    axes = params["axes"] if "axes" in params else params["dimensions"]
    shape = shape_of(equation.invars[0])
    found = join(equation.primitive.name, [fact for fact in facts if fact.shape == shape])
    return [drop(collapse(found, axes), axes)] * len(equation.outvars)


def along(axes: Callable[[Equation], Sequence[Axis]]) -> Rule:
    """A rule for what works along some axes that stay: sorts, cumulative sums, Fourier transforms."""

    def rule(equation: Equation, facts: list[Fact]) -> list[Fact]:
        found = collapse(join(equation.primitive.name, facts), axes(equation))
        shapes = [shape_of(v) for v in equation.outvars]
        return [found._replace(shape=shape, token=mix(found.token, np.uint64(i))) for i, shape in enumerate(shapes)]

    return rule


def leading(core: int) -> Rule:
    """A rule for what works on the last axes of its operands, for each place along the first ones."""

    def rule(equation: Equation, facts: list[Fact]) -> list[Fact]:
        count = len(facts[0].shape) - core
        kept = [drop(collapse(fact, _after(count, fact)), _after(count, fact)) for fact in facts]
        found = join(equation.primitive.name, kept)
        shapes = [shape_of(v) for v in equation.outvars]
        outs = [spread(found, shape, range(min(count, len(shape))), uniform=False) for shape in shapes]
        return [out._replace(token=mix(out.token, np.uint64(i))) for i, out in enumerate(outs)]

    return rule


def _after(count: int, fact: Fact | Aval) -> range:
    return range(count, len(fact.shape))


def recast(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Entries from several of the last axis, or several from one: keys from their words, numbers from their bytes."""
    count = min(len(shape_of(equation.outvars[0])), len(facts[0].shape))
    return leading(len(facts[0].shape) - count)(equation, facts)


def first_axis(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """What works on each entry of the first axis, as fused attention does on images or sentences."""
    count = facts[0].shape[0]
    kept = [_rows(fact, count) for fact in facts]
    found = join(equation.primitive.name, kept)
    return [
        spread(found if shape[:1] == (count,) else collapse(found, [0])._replace(shape=shape[:1] or (1,)), shape, (0,))
        if shape else drop(collapse(found, [0]), [0])
        for shape in map(shape_of, equation.outvars)
    ]  # fmt: skip


def _rows(fact: Fact, count: int) -> Fact:
    """A record for each entry of the first axis; of all together where it has another extent."""
    rank = len(fact.shape)
    if fact.shape[:1] == (count,):
        return drop(collapse(fact, range(1, rank)), range(1, rank))
    return spread(drop(collapse(fact, range(rank)), range(rank)), (count,), ())


def dot_general(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Sums over the contracted axes of both operands."""
    (contract, batch), shape = equation.params["dimension_numbers"], shape_of(equation.outvars[0])
    sides, offset = [], len(batch[0])
    for fact, summed, paired in zip(facts, contract, batch, strict=True):
        free = [axis for axis in range(len(fact.shape)) if axis not in (*summed, *paired)]
        bare = drop(collapse(fact, summed), summed)
        order = [axis for axis in range(len(fact.shape)) if axis not in summed]
        places = {axis: i for i, axis in enumerate(paired)} | {axis: offset + i for i, axis in enumerate(free)}
        sides.append(spread(bare, shape, [places[axis] for axis in order]))
        offset += len(free)
    return [join("dot_general", sides)]


def convolution(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Sums over windows and channels; groups of channels, or of images, stay apart."""
    params, shape = equation.params, shape_of(equation.outvars[0])
    numbers_of = params["dimension_numbers"]
    (n, c, *space), (_, i, *taps), (out_n, out_c, *_) = numbers_of.lhs_spec, numbers_of.rhs_spec, numbers_of.out_spec
    groups, images = params["feature_group_count"], params["batch_group_count"]
    count = groups * images
    image, kernel = collapse(facts[0], space), collapse(facts[1], [i, *taps])
    image, kernel = drop(image, space), drop(kernel, [i, *taps])
    image = transposed(image, (0, 1) if n < c else (1, 0))  # [images, channels]
    batch, channels = image.shape
    image = reshaped(image, (images, batch // images, groups, channels // groups))
    image = drop(collapse(image, [3]), [3])
    image = reshaped(transposed(image, (1, 0, 2)), (batch // images, count))
    image = spread(image, (batch // images, count, shape[out_c] // count), (0, 1))
    image = reshaped(image, (batch // images, shape[out_c]))
    found = [spread(image, shape, (out_n, out_c), uniform=False), spread(kernel, shape, (out_c,), uniform=True)]
    return [join("conv_general_dilated", found)]


def windows(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Sums and maxima over windows: axes that windows do not cover stay apart."""
    params, shapes = equation.params, [shape_of(v) for v in equation.outvars]
    rank = len(shapes[0])
    sizes = params["window_dimensions"]
    settings = [params.get(name) or (1,) * rank for name in ("window_strides", "base_dilation", "window_dilation")]
    padding = params.get("padding") or ((0, 0),) * rank
    covered = [a for a in range(rank) if any(s[a] != 1 for s in (sizes, *settings)) or tuple(padding[a]) != (0, 0)]
    kept = [_sized(fact, shapes[0], covered) for fact in facts if len(fact.shape) == rank and rank]
    found = join(equation.primitive.name, kept) if kept else join(equation.primitive.name, facts)
    return [found._replace(token=mix(found.token, np.uint64(k))) for k in range(len(shapes))]


def _sized(fact: Fact, shape: Sequence[Axis], covered: Sequence[Axis]) -> Fact:
    return collapse(fact, covered)._replace(shape=tuple(shape))


def opaque(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Anything may depend on everything."""
    flat = [drop(collapse(fact, range(len(fact.shape))), range(len(fact.shape))) for fact in facts]
    name, shapes = equation.primitive.name, [shape_of(v) for v in equation.outvars]
    found = forget(join(name, flat)) if flat else shared((), text_token(name))
    return [
        spread(found._replace(token=mix(found.token, np.uint64(i))), shape, (), uniform=False)
        for i, shape in enumerate(shapes)
    ]


def collective(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Over mapped axes; over those of arrays where `jax.vmap` has named them."""
    axes = equation.params["axes"]
    if not all(isinstance(axis, int) for axis in axes):
        return opaque(equation, facts)
    return [drop(collapse(fact, axes), axes) for fact in facts]


def reference(equation: Equation, facts: list[Fact]) -> list[Fact]:
    """Arrays that are written in place are not followed: they may hold anything."""
    return [fact._replace(owner=np.full_like(fact.owner, MIXED)) for fact in opaque(equation, facts)]


RULES: dict[str, Rule] = {
    **SHAPES,
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(REDUCE, reduction),
    **dict.fromkeys(CUMULATIVE, along(lambda e: [e.params["axis"]])),
    "sort": along(lambda e: [e.params["dimension"]]),
    "top_k": along(lambda e: [e.params.get("axis", -1) % len(shape_of(e.invars[0]))]),
    "approx_top_k": along(lambda e: [e.params["reduction_dimension"] % len(shape_of(e.invars[0]))]),
    "fft": along(lambda e: _after(len(shape_of(e.invars[0])) - len(e.params["fft_lengths"]), e.invars[0].aval)),
    **{name: leading(core) for core, names in CORE.items() for name in names},
    **dict.fromkeys(("random_wrap", "bitcast_convert_type"), recast),
    **dict.fromkeys(("dot_product_attention_fwd", "dot_product_attention_fwd_wrapper"), first_axis),
    "dot_general": dot_general,
    "conv_general_dilated": convolution,
    **dict.fromkeys(WINDOWS, windows),
    **dict.fromkeys(("psum", "pmax", "pmin"), collective),
    **dict.fromkeys(REFERENCES, reference),
}
