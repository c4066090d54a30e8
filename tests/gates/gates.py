"""The gates, one method each. A room's test class inherits `Gates` and sets `entries`."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.harness import (
    FLOATS,
    Entry,
    assert_same,
    call,
    concrete,
    fields,
    float_args,
    floats,
    gate,
    outcome,
    poisoned,
    rng,
    silent,
    statuses,
    values,
)
from tolerances import tolerance

from jaxtheory.results import Status

FAR = 2.0**83  # squares overflow float32 and underflow it


class Gates:
    """What every public function promises."""

    entries: ClassVar[list[Entry]] = []

    @gate("valid")
    def test_valid_arguments_give_ok_and_finite_fields(self, entry):
        found = fields(call(entry, values(entry)))
        for status in statuses(found):
            assert (status == Status.OK).all(), status
        for name, value in floats(found).items():
            assert name in entry.infinite or np.isfinite(value).all(), name

    @gate("jit")
    def test_jit_gives_the_same(self, entry):
        found, expected = (fields(call(entry, values(entry), jit)) for jit in (True, False))
        assert_same(entry, found, expected, tolerance(np.float32, entry.condition), "under jit")

    @gate("poison", needs=lambda entry: any(arg.kind in FLOATS for arg in entry.arguments.values()))
    @pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
    def test_nan_or_infinity_in_is_never_finite_and_ok_out(self, entry, jit):
        for name, arg in float_args(entry):
            for bad in (np.nan, np.inf, -np.inf):
                if name in entry.ignores or (np.isinf(bad) and name in entry.at_infinity):
                    continue
                if jit and "jit" in entry.skip:
                    continue
                found = outcome(entry, values(entry, **{name: poisoned(concrete(arg), bad)}), jit)
                assert found is None or not silent(entry, found), (name, bad, found)
                assert found is None or ok_is_finite(entry, found), (name, bad, found)

    @gate("invalid", needs=lambda entry: entry.invalid)
    def test_forbidden_values_are_refused_outside_jit_and_not_ok_inside(self, entry):
        for name, forbidden in entry.invalid.items():
            for value in forbidden:
                arguments = values(entry, **{name: value})
                eager = outcome(entry, arguments)
                assert eager is None or not silent(entry, eager), (name, value, eager)
                if entry.arguments[name].kind in FLOATS and "jit" not in entry.skip:
                    traced = outcome(entry, arguments, True)
                    assert traced is None or not silent(entry, traced), (name, value, "jit", traced)
                    assert traced is None or ok_is_finite(entry, traced), (name, value, "jit", traced)

    @gate("kinds", needs=lambda entry: any(arg.kind in FLOATS for arg in entry.arguments.values()))
    def test_lists_integers_booleans_and_half_precision_are_their_numbers(self, entry):
        for name, arg in float_args(entry):
            if arg.kind == "tree":
                continue
            whole = np.asarray(entry.integer_values.get(name, np.round(np.asarray(arg.value) + 0.25)))
            forms: list[tuple[str, Any, np.ndarray]] = [("list", np.asarray(arg.value).tolist(), np.asarray(arg.value))]
            forms += [
                (kind, whole.astype(kind), whole.astype(kind)) for kind in ("int32", "uint8") if fits(whole, kind)
            ]
            forms += [("bool", whole > 0, whole > 0)] if fits(whole, "bool") else []
            halves = [jnp.asarray(arg.value, kind) for kind in (jnp.bfloat16, jnp.float16)]
            if arg.kind != "number":
                forms += [(half.dtype.name, half, np.asarray(half, np.float64)) for half in halves]
            for kind, value, same in forms:
                plain = float(same) if arg.kind == "number" else jnp.asarray(np.asarray(same, np.float64), jnp.float32)
                expected = outcome(entry, values(entry, **{name: plain}))
                found = outcome(entry, values(entry, **{name: value}))
                assert (found is None) == (expected is None), (name, kind)
                if found is not None and expected is not None:
                    assert_same(entry, found, expected, tolerance(np.float32), f"{name} as {kind}")

    @gate("axes", needs=lambda entry: any(arg.kind == "points" for arg in entry.arguments.values()))
    def test_numbers_are_points_on_a_line(self, entry):
        line = {name: arg.value[:, :1] for name, arg in entry.arguments.items() if arg.kind == "points"}
        columns = {name: jnp.asarray(value, jnp.float32) for name, value in line.items()}
        flat = {name: value[:, 0] for name, value in columns.items()}
        found, expected = (outcome(entry, values(entry, **changed)) for changed in (flat, columns))
        assert found is not None
        assert expected is not None
        assert_same(entry, found, expected, 0.0, "points of shape [n]")

    @gate("sizes", needs=lambda entry: callable(entry.args), slow=True)
    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_few_examples_give_an_answer_or_a_named_error(self, entry, n):
        small = entry._replace(args=entry.args(n), name=f"{entry.name} n={n}")
        found = outcome(small, values(small))
        assert found is None or ok_is_finite(entry, found), found

    @gate("wrong kinds")
    def test_strings_and_none_are_refused_by_name(self, entry):
        for name, arg in entry.arguments.items():
            if arg.kind in ("quantity", "points", "number", "integers"):
                with pytest.raises((ValueError, TypeError), match=name):
                    call(entry, values(entry, **{name: "abc"}))

    @gate("scale", needs=lambda entry: entry.scale)
    @pytest.mark.parametrize("factor", [FAR, 1 / FAR], ids=["far", "near"])
    def test_units_do_not_matter(self, entry, factor):
        expected = fields(call(entry, values(entry)))
        for name, degrees in entry.scale.items():
            moved = concrete(entry.arguments[name]) * np.float32(factor)
            found = fields(call(entry, values(entry, **{name: moved})))
            for field, degree in degrees.items():
                with np.errstate(over="ignore", under="ignore"):
                    scaled = np.asarray(expected[field]).astype(np.float64) * factor**degree
                near = {field: np.asarray(found[field], np.float64)}
                allowed = entry.scale_condition and tolerance(np.float32, entry.scale_condition)
                assert_same(entry, near, {field: scaled}, allowed, f"{name} times {factor:.1e}")

    @gate("shift", needs=lambda entry: entry.shift)
    @pytest.mark.parametrize("constant", [1e3, -3e4])
    def test_a_common_shift_does_not_matter(self, entry, constant):
        expected = fields(call(entry, values(entry)))
        for names, unchanged in entry.shift.items():
            # numbers on a grid that float32 holds with the shift
            grid = {name: np.round(entry.arguments[name].value * 128) / 128 for name in names}
            at, moved = (
                {name: jnp.asarray(value + c, jnp.float32) for name, value in grid.items()} for c in (0.0, constant)
            )
            expected, found = (fields(call(entry, values(entry, **changed))) for changed in (at, moved))
            for field in unchanged:
                assert_same(
                    entry, {field: found[field]}, {field: expected[field]}, tolerance(np.float32, 10), "shifted"
                )

    @gate("permute", needs=lambda entry: entry.permute)
    def test_order_does_not_matter(self, entry):
        expected = fields(call(entry, values(entry)))
        groups = {name.split("|")[0]: how for name, how in entry.permute.items()}
        for group, how in groups.items():
            names = group.split(",")
            order = rng(entry).permutation(entry.arguments[names[0]].value.shape[0])
            changed = {name: concrete(entry.arguments[name])[order] for name in names}
            found = fields(call(entry, values(entry, **changed)))
            for field, axis in how.items():
                same = np.asarray(expected[field])
                same = same if axis is None else np.take(same, order, axis)
                allowed = tolerance(np.float32, entry.condition)
                assert_same(entry, {field: found[field]}, {field: same}, allowed, f"{group} permuted")

    @gate("precision", slow=True)
    def test_float32_agrees_with_float64_wherever_it_says_ok(self, entry):
        single = {name: concrete(arg) for name, arg in entry.arguments.items()}
        found = fields(call(entry, single))
        with jax.enable_x64(True):
            same = {
                name: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), value)
                if entry.arguments[name].kind in ("quantity", "points", "tree")
                else value
                for name, value in single.items()
            }
            expected = fields(call(entry, same))
            for name, value in floats(expected).items():
                assert value.dtype == np.float64, f"{name} is {value.dtype} for float64 arguments"
        for name, value in floats(found).items():
            assert value.dtype == np.float32, f"{name} is {value.dtype} for float32 arguments"
            allowed = tolerance(np.float32, entry.condition)
            assert_same(entry, {name: value}, {name: expected[name]}, allowed, "float32 against float64")

    @gate("derivatives", needs=lambda entry: entry.derivatives, slow=True)
    def test_first_and_second_derivatives_are_those_of_differences(self, entry, asked):
        with jax.enable_x64(True):
            check_derivative(entry, asked)


def check_derivative(entry: Entry, asked: Any) -> None:
    """jvp, grad and the Hessian along random directions against central differences of fourth order, in float64."""
    base = values(
        entry, np.float64, **{n: jax.tree.map(lambda v: jnp.asarray(v, float), v) for n, v in asked.at.items()}
    )
    start = {name: jax.tree.map(lambda v: jnp.asarray(v, float), base[name]) for name in asked.args}
    draws = rng(entry)
    direction = jax.tree.map(lambda leaf: jnp.asarray(draws.standard_normal(leaf.shape)), start)
    shapes = jax.eval_shape(lambda p: float_leaves(asked.output(entry.function(**base | p))), start)
    weights = [jnp.asarray(draws.standard_normal(shape.shape)) for shape in shapes]

    def value(moved: Any) -> Any:
        leaves = float_leaves(asked.output(entry.function(**base | moved)))
        return sum(jnp.sum(weight * leaf) for weight, leaf in zip(weights, leaves, strict=True))

    def along(t: Any) -> Any:
        return value(jax.tree.map(lambda a, b: a + t * b, start, direction))

    def slope(t: Any) -> Any:
        return jax.jvp(along, (t,), (jnp.ones_like(t),))[1]

    zero, h = jnp.zeros(()), asked.step
    measured = difference(jax.jit(along), h)
    close(entry, "jvp", jax.jit(slope)(zero), measured, asked, h)
    if asked.reverse:
        gradient = jax.jit(jax.grad(value))(start)
        total = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
        close(entry, "grad", total, measured, asked, h)
    if asked.order > 1:
        second = difference(jax.jit(slope), h)
        close(
            entry,
            "second derivative",
            jax.jit(jax.grad(slope) if asked.reverse else lambda t: jax.jvp(slope, (t,), (jnp.ones_like(t),))[1])(zero),
            second,
            asked,
            h,
        )


def difference(function: Any, h: float) -> Any:
    """(8 (f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h: error h⁴ f⁽⁵⁾/30 and rounding ε|f|/h."""
    at = {k: function(jnp.asarray(k * h)) for k in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)


def close(entry: Entry, what: str, found: Any, expected: Any, asked: Any, h: float) -> None:
    """Within the rounding of a difference, ε/h, and its truncation, h⁴ for numbers of order 1, times `condition`."""
    allowed = asked.condition * (1e3 * np.finfo(float).eps / h + 1e2 * h**4) * max(1.0, abs(float(expected)))
    assert abs(float(found) - float(expected)) <= allowed, (entry.name, what, asked.args, float(found), float(expected))


def float_leaves(result: Any) -> list[Any]:
    """The floating arrays of a result."""
    return [leaf for leaf in jax.tree.leaves(result) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]


def ok_is_finite(entry: Entry, found: Any) -> bool:
    """Where every status is OK, every field is finite (but those that may be infinite, which are not NaN)."""
    if not statuses(found) or any((status != Status.OK).any() for status in statuses(found)):
        return True
    return all(
        not np.isnan(value).any() if name in entry.infinite else np.isfinite(value).all()
        for name, value in floats(found).items()
    )


def fits(whole: np.ndarray, kind: str) -> bool:
    """Whether integer numbers can be stored as this type; booleans are tried where 0 and 1 make sense."""
    if kind == "bool":
        return bool(np.isin(whole, (0, 1)).all())
    limits = np.iinfo(kind)
    return bool(((whole >= limits.min) & (whole <= limits.max)).all())
