"""Components of variance from crossed draws: against the classical analysis of variance and known variances."""

import numpy as np
import pytest
import xarray

from jaxtheory import sweeps

DIMS = ("data", "features", "noise")
VARIANCES = {
    "mean": 4.0,
    "data": 1.0,
    "features": 0.25,
    "noise": 0.0,
    "data:features": 2.0,
    "data:noise": 0.5,
    "features:noise": 0.0,
    "data:features:noise": 0.75,
}


def names_within(name, dims):
    return name == "mean" or set(name.split(":")) <= set(dims)


def drawn(rng, sizes):
    """f = 2 + independent normal effects of every set of sources with the variances above."""
    f, dims = np.full(sizes, 2.0), DIMS[: len(sizes)]
    for name, variance in VARIANCES.items():
        if name != "mean" and names_within(name, dims):
            shape = [n if dim in name.split(":") else 1 for dim, n in zip(dims, sizes, strict=True)]
            f = f + np.sqrt(variance) * rng.standard_normal(shape)
    return xarray.Dataset({"f": (dims, f)})


def test_two_sources_are_the_table_of_the_analysis_of_variance():
    """Mean squares of rows, columns and residuals, (MS − MS_residual)/levels (Searle et al., table 4.5)."""
    x = np.random.default_rng(0).standard_normal((4, 3)) + 1e6
    found = sweeps.variance_components(xarray.Dataset({"x": (("a", "b"), x)}), ("a", "b")).x
    rows, columns = x.mean(1) - x.mean(), x.mean(0) - x.mean()
    residual = ((x - x.mean() - rows[:, None] - columns) ** 2).sum() / 6
    between, across = 3 * (rows**2).sum() / 3, 4 * (columns**2).sum() / 2
    expected = [(between - residual) / 3, (across - residual) / 4, residual]
    np.testing.assert_allclose(found.values[1:], expected, rtol=1e-7)
    assert found.component.values.tolist() == ["mean", "a", "b", "a:b"]


@pytest.mark.parametrize(
    ("sizes", "largest"), [((8, 6, 5), [1.3, 1.5, 1.7, 3, 1.5, 1.5, 4, 4]), ((24, 20), [1.2, 1.3, 1.3, 1.6])]
)
def test_components_are_unbiased_and_their_errors_honest(sizes, largest):
    """500 tables: means within 4 standard errors of the truth; stated variances at least 0.75 times those seen, and at
    most a little more, but for shares that are nearly 0 or of the highest order, of which few draws tell little."""
    rng = np.random.default_rng(1)
    tables = [sweeps.variance_components(drawn(rng, sizes), DIMS[: len(sizes)]) for _ in range(500)]
    values, errors = (np.array([table[name].values for table in tables]) for name in ("f", "f_standard_error"))
    spread = values.std(0, ddof=1)
    names = tables[0].component.values.tolist()
    assert names == [name for name in VARIANCES if names_within(name, DIMS[: len(sizes)])]
    assert (np.abs(values.mean(0) - [VARIANCES[name] for name in names]) < 4 * spread / np.sqrt(500)).all()
    ratio = (errors**2).mean(0) / spread**2
    assert (ratio > 0.75).all(), ratio
    assert (ratio < largest).all(), ratio


def test_an_average_over_test_points_and_other_axes_remain():
    """Components of each point, averaged; widths stay; variables without the sources are left out."""
    rng = np.random.default_rng(2)
    x = xarray.Dataset(
        {"x": (("width", "point", "b", "a"), rng.standard_normal((2, 5, 3, 4))), "time": ("width", np.ones(2))},
        {"width": [10, 20]},
    )
    found = sweeps.variance_components(x, ("a", "b"), average="point")
    assert found.x.dims == ("component", "width")
    assert set(found.data_vars) == {"x", "x_standard_error"}
    alone = [sweeps.variance_components(x.isel(width=1, point=i), ("a", "b")).x.values for i in range(5)]
    np.testing.assert_allclose(found.x.sel(width=20), np.mean(alone, axis=0), rtol=1e-12)
    one = sweeps.variance_components(x, "a", average=("point", "b")).sel(component="a")
    np.testing.assert_allclose(one.x, x.x.var("a", ddof=1).mean(("point", "b")), rtol=1e-12)


def test_components_of_a_sweep():
    """Additive draws have no interaction."""
    grid = sweeps.grid(data=range(3), features=range(4))
    table = sweeps.run(lambda data, features, key: {"sum": 2 * data + features}, grid, progress=False)
    found = sweeps.variance_components(table, ("data", "features"))
    np.testing.assert_allclose(found["sum"].values[1:], [4.0, 5 / 3, 0.0], atol=1e-6)


def test_bad_tables_are_named(unchecked):
    x = xarray.Dataset({"x": (("a", "b"), np.ones((2, 3)))})
    for dims, message in (("c", "dims must be among"), ("a", "dims must have >= 3 levels"), (("b", "b"), "once")):
        with pytest.raises(ValueError, match=message):
            sweeps.variance_components(x, dims)
    for junk in (None, 2, [["a"]]):
        with pytest.raises(ValueError, match="dims must be names of dimensions"):
            sweeps.variance_components(x, junk)
    with pytest.raises(ValueError, match="x must be finite"):
        sweeps.variance_components(x.where(x.x > 1), "b")
    with pytest.raises(ValueError, match="dataset must have a numeric variable"):
        sweeps.variance_components(x.rename(x="status"), "b")
