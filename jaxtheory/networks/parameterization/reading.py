"""Which axes of each parameter a program contracts with its data, and which it keeps.

A weight's fan-in is the product of the axes that the program contracts, in whatever order a library stores them. The
reader follows every parameter through rearrangements, products of parameters and calls to the equations where it
meets data, and notes on the way the scale of attention scores and the parameters of residual branches.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import PyTree

from jaxtheory.checks import require_arrays
from jaxtheory.networks.parameterization import norms
from jaxtheory.networks.parameterization import views as axis_views
from jaxtheory.networks.parameterization.data import Activations
from jaxtheory.networks.parameterization.records import Batch, Path, Reading, Use, Value
from jaxtheory.networks.parameterization.views import LAYOUT, View
from jaxtheory.programs.calls import CALLS, Atom, Equation, Program, body_of, opened, scan_sections

_REDUCTIONS = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin", "reduce_and", "reduce_or"}
_KEEPING = {"concatenate", "pad", "dynamic_update_slice", "select_n", "scatter", "scatter-add"}

_PRODUCTS = {"dot_general", "conv_general_dilated", "gather"}


def read(closed: ClosedJaxpr, leaves: int) -> Reading:
    """Follow the first `leaves` inputs of a jaxpr, its parameters; the others are data.

    Cost: one look at each equation, no arithmetic on arrays.
    """
    reader = _Reader()
    inputs = []
    for i, var in enumerate(closed.jaxpr.invars):
        own = Value(views=(axis_views.whole(i, var.aval.shape),))
        inputs.append(own if i < leaves else Value(data=reader.data.fresh()))
    reader.walk(closed, inputs, ())
    sites = {path: tuple(uses) for path, uses in reader.sites.items()}
    uses = tuple(use for found in sites.values() for use in found)
    through, alone = frozenset(reader.through), frozenset(reader.alone)
    data = reader.data
    return Reading(
        uses, sites, through, alone, reader.unread, tuple(data.scores), tuple(data.branches),
        tuple(data.factors.values()), tuple(data.contractions.values()), tuple(data.mixtures), tuple(reader.normalized),
    )  # fmt: skip


def traced(apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, x: PyTree) -> Reading:
    """What a function of parameters and data does with its parameters, by their shapes alone."""
    require_arrays("x", x)
    structs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), (params, x))
    return read(jax.make_jaxpr(apply)(*structs), len(jax.tree.leaves(params)))


class _Reader:
    """One pass over a jaxpr; every equation is named by its path, since calls may share a body."""

    def __init__(self) -> None:
        self.sites: dict[Path, list[Use]] = {}
        self.through: set[Path] = set()
        self.alone: set[Path] = set()
        self.unread: dict[int, set[str]] = {}
        self.normalized: list[tuple[int, float]] = []
        self.data = Activations()
        self.sole = False  # whether nothing else reads the first operand of the equation

    def walk(self, jaxpr: Program, inputs: list[Value], path: Path) -> list[Value]:
        """The values of the outputs."""
        body, consts = opened(jaxpr)
        known = {var: _constant(value) for var, value in zip(body.constvars, consts, strict=False)}
        known |= dict(zip(body.invars, inputs, strict=True))
        atoms = [atom for equation in body.eqns for atom in equation.invars] + list(body.outvars)
        consumers = Counter(atom for atom in atoms if not isinstance(atom, Literal))
        products: dict[Atom, tuple[Path, View]] = {}

        def value(atom: Atom) -> Value:
            return _constant(atom.val) if isinstance(atom, Literal) else known.get(atom, Value())

        for number, equation in enumerate(body.eqns):
            here, values = (*path, number), [value(atom) for atom in equation.invars]
            operand = equation.invars[0] if equation.invars else None
            self.sole = operand is not None and not isinstance(operand, Literal) and consumers[operand] == 1
            if self.sole and operand in products:
                self._summed(equation, *products[operand], here)
            outs = self.equation(equation, values, here)
            known |= dict(zip(equation.outvars, outs, strict=True))
            views = [view for v in values for view in v.views]
            if equation.primitive.name == "mul" and here in self.sites and len(views) == 1:
                products[equation.outvars[0]] = (here, views[0])
        return [value(atom) for atom in body.outvars]

    def equation(self, equation: Equation, values: list[Value], path: Path) -> list[Value]:
        """What one equation makes of its operands."""
        name = equation.primitive.name
        if name in CALLS:
            return self.walk(body_of(equation), values, path)
        if name in ("scan", "while", "cond"):
            return getattr(self, f"_{name}")(equation, values, path)
        sources = [v.data for v in values if v.data is not None]
        if not sources:
            return self._without_data(equation, values, path)
        used = [(i, view) for i, v in enumerate(values) for view in v.views]
        for i, view in used:
            self._use(equation, values, i, view, path)
        leaves = frozenset(view.leaf for _, view in used)
        data = self.data.output(equation, values, sources, leaves)
        data = data._replace(batch=self._batch(equation, values, used, path))
        if name == "reduce_sum" and not used and path not in self.sites:
            data = self.data.summed(equation, sources[0], data)
        if used and name in ("dot_general", "conv_general_dilated"):
            self.data.entered(equation, values, leaves)
        if name in _PRODUCTS:
            data = data._replace(used=leaves)
        elif name == "mul":
            data = data._replace(products=leaves)
        return [Value(data=data)] * len(equation.outvars)

    def _without_data(self, equation: Equation, values: list[Value], path: Path) -> list[Value]:
        self.alone.add(path)
        name = equation.primitive.name
        operands = [(i, view) for i, v in enumerate(values) for view in v.views]
        numbers = [v.number for v in values if v.number]
        if name in ("mul", "div") and numbers and values[0].views:
            self.data.factor((view.leaf for _, view in operands), numbers[0] if name == "mul" else 1 / numbers[0])
        divided = norms.normalized(equation, values)
        if divided is not None:
            self.normalized.append(divided)
        if name in _REDUCTIONS:  # the norm of a parameter is a number of its own, no use of its axes
            return [Value(norm=norms.norm_of(equation, values))]
        number = None if operands else _number(equation, values)
        norm, outs = norms.norm_of(equation, values), []
        for output in range(len(equation.outvars)):
            if name == "dot_general":
                views = [axis_views.product(equation, view, i) for i, view in operands]
            else:
                found = [axis_views.rearranged(equation, view, i, output) for i, view in operands]
                views = [norms.raised(equation, values, view) for view in found if view is not None]
                for (_, view), followed in zip(operands, found, strict=True):
                    if followed is None:
                        self.unread.setdefault(view.leaf, set()).add(name)
            outs.append(Value(tuple(views), None, number, norm))
        return outs

    def _use(self, equation: Equation, values: list[Value], operand: int, view: View, path: Path) -> None:
        """Note the use of a parameter in an equation with data."""
        name, everything = equation.primitive.name, range(len(view.dims))
        inputs: frozenset[int] = frozenset()
        lookup: frozenset[int] = frozenset()
        outputs = axis_views.axes(view, everything)
        if name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][operand]
            inputs = axis_views.axes(view, contracted)
            outputs = axis_views.axes(view, [d for d in everything if d not in contracted])
        elif name == "conv_general_dilated" and operand == 1 and equation.params["batch_group_count"] == 1:
            out = equation.params["dimension_numbers"].rhs_spec[0]
            inputs, outputs = axis_views.axes(view, [d for d in everything if d != out]), axis_views.axes(view, [out])
        elif name in ("gather", "dynamic_slice") and operand == 0:
            lookup, view = axis_views.looked_up(equation, view)
            outputs = axis_views.axes(view, range(len(view.dims)))
        elif name in axis_views.MIXING or not (_is_elementwise(equation, operand) or name in _KEEPING):
            self.unread.setdefault(view.leaf, set()).add(name)
            return
        # in a product A B of parameters, the factor that meets the data is entered from its other side
        inputs, outputs = (inputs, outputs | view.inner) if inputs else (view.inner, outputs)
        self.sites.setdefault(path, []).append(Use(view.leaf, inputs, outputs, lookup))

    def _summed(self, equation: Equation, product: Path, view: View, path: Path) -> None:
        """Σ_i w_i h_i, written as a product and a sum, contracts the axes of the sum."""
        if equation.primitive.name != "reduce_sum" or len(equation.invars[0].aval.shape) != len(view.dims):
            return
        self._contracted(Batch(product, (product,), view), equation.params["axes"], path)

    def _batch(self, equation: Equation, values: list[Value], used: list[tuple[int, View]], path: Path) -> Batch | None:
        """The axes that an output shares with a parameter, and their sum where a product of data contracts them."""
        name, shared = equation.primitive.name, [(i, v.data.batch) for i, v in enumerate(values) if v.data]
        if name == "dot_general" and len(used) == 1:
            (operand, view) = used[0]
            batch = equation.params["dimension_numbers"][1][operand]
            free = [()] * (len(equation.outvars[0].aval.shape) - len(batch))
            dims = (*(view.dims[d] for d in batch), *free)
            return Batch(path, (path,), View(view.leaf, dims)) if any(dims) else None
        if name in ("gather", "dynamic_slice") and len(used) == 1:
            return Batch(path, (path,), axis_views.looked_up(equation, used[0][1])[1])
        for operand, batch in shared:
            if batch is None:
                continue
            if name in LAYOUT or name == "transpose":
                moved = axis_views.rearranged(equation, batch.view, operand)
                return moved and Batch(batch.site, (*batch.trail, path), moved)
            if name == "dot_general" and not used:
                self._contracted(batch, equation.params["dimension_numbers"][0][operand], path)
            elif name == "reduce_sum" and self.sole and not self._is_lookup(batch.site):  # norms of rows are no use
                self._contracted(batch, equation.params["axes"], path)
        return None

    def _is_lookup(self, site: Path) -> bool:
        return any(use.lookup for use in self.sites.get(site, ()))

    def _contracted(self, batch: Batch, dims: Sequence[int], path: Path) -> None:
        """Move the use of a parameter to the equation that sums over its axes."""
        summed = axis_views.axes(batch.view, dims)
        if not summed or batch.site not in self.sites:
            return
        if self._is_lookup(batch.site):
            self.unread.setdefault(batch.view.leaf, set()).add("a product of its rows with data")
            return
        (use,) = self.sites.pop(batch.site)
        self.through |= set(batch.trail)
        self.sites[path] = [use._replace(inputs=use.inputs | summed, outputs=use.outputs - summed)]

    def _scan(self, equation: Equation, values: list[Value], path: Path) -> list[Value]:
        consts, carry = scan_sections(equation.params)
        inside = list(values[:consts])
        for v in values[consts : consts + carry]:
            self._opaque(v, "the carry of a scan")
            inside.append(Value(data=self.data.fresh(*([v.data] if v.data else []))))
        for v in values[consts + carry :]:
            views = tuple(view._replace(dims=view.dims[1:]) for view in v.views)
            inside.append(v._replace(views=views, number=None))
        outs = self.walk(equation.params["jaxpr"], inside, path)
        fresh = self.data.fresh  # an output keeps the scale that the last turn gave it
        return [Value(data=fresh(v.data, scale=v.data.scale) if v.data else fresh()) for v in outs]

    def _while(self, equation: Equation, values: list[Value], path: Path) -> list[Value]:
        skipped, consts = equation.params["cond_nconsts"], equation.params["body_nconsts"]
        for v in (*values[:skipped], *values[skipped + consts :]):
            self._opaque(v, "while_loop")
        carry = [Value(data=self.data.fresh(*([v.data] if v.data else []))) for v in values[skipped + consts :]]
        return self.walk(equation.params["body_jaxpr"], [*values[skipped : skipped + consts], *carry], (*path, 1))

    def _cond(self, equation: Equation, values: list[Value], path: Path) -> list[Value]:
        self._opaque(values[0], "the predicate of cond")
        branches = [self.walk(b, values[1:], (*path, i)) for i, b in enumerate(equation.params["branches"])]
        sources = [[v.data for v in outs if v.data] for outs in zip(*branches, strict=True)]
        for outs in zip(*branches, strict=True):
            for v in outs:
                self._opaque(v, "cond")
        return [Value(data=self.data.fresh(*found)) for found in sources]

    def _opaque(self, value: Value, name: str) -> None:
        for view in value.views:
            self.unread.setdefault(view.leaf, set()).add(name)


def _is_elementwise(equation: Equation, operand: int) -> bool:
    shape, out = equation.invars[operand].aval.shape, equation.outvars[0].aval.shape
    return not shape or (len(shape) == len(out) and all(m in (1, k) for m, k in zip(shape, out, strict=True)))


def _constant(value: Any) -> Value:
    number = np.ndim(value) == 0 and not isinstance(value, jax.core.Tracer) and _kind(value) in "fiub"
    return Value(number=float(value) if number else None)


def _kind(value: Any) -> str:
    """The kind of a value's dtype, as NumPy letters; "V" for bfloat16 and "?" for keys."""
    return getattr(jnp.result_type(value), "kind", "?")


def _number(equation: Equation, values: list[Value]) -> float | None:
    """The one number that an equation of known numbers gives, also where it repeats it."""
    if not values or any(v.number is None for v in values) or equation.primitive.multiple_results:
        return None
    if equation.primitive.name in LAYOUT:
        return values[0].number
    if any(atom.aval.shape for atom in equation.invars):
        return None
    operands = [np.asarray(v.number, atom.aval.dtype) for v, atom in zip(values, equation.invars, strict=True)]
    with jax.ensure_compile_time_eval():
        out = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(equation.params))
    return _constant(out).number
