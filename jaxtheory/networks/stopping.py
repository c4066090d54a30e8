"""Early stopping, decided afterwards: at which record each network would have stopped, and what it was then."""

from typing import TYPE_CHECKING

import numpy as np

from jaxtheory.checks import boundary, require

if TYPE_CHECKING:
    import xarray


@boundary
def stopped_early(dataset: "xarray.Dataset", patience: int, by: str = "test_loss") -> "xarray.Dataset":
    """Every network at its best record before `patience` records in turn brought no lower `by`.

    Args:
        dataset: of `train_widths`, or several in a sweep; with a dimension `step`, all others are kept.
        patience: records without improvement after which training stops, ≥ 1.
        by: the variable that is watched; a NaN is no improvement.

    Returns:
        The dataset without `step`, each variable at the best record, and `stop` [...], the step of that record.

    Raises:
        ValueError: no dimension `step`, no variable `by` along it, or patience < 1.

    Cost: one pass over the records. Source: Prechelt (1998), Early stopping - but when?

    >>> import xarray
    >>> curve = ("step", [3.0, 2.0, 2.5, 2.5, 1.0])
    >>> losses = xarray.Dataset({"test_loss": curve}, coords={"step": [10, 20, 30, 40, 50]})
    >>> [int(stopped_early(losses, patience).stop) for patience in (2, 3)]
    [20, 50]
    """
    import xarray  # here, so that networks can be imported without it

    require(isinstance(dataset, xarray.Dataset), "dataset", type(dataset), "be an xarray.Dataset", "pass that of run")
    require(patience >= 1, "patience", patience, "be >= 1", "wait for at least one record")
    watched = by in dataset and "step" in dataset[by].dims
    require(watched, "by", by, "be a variable with the dimension step", f"choose among {sorted(map(str, dataset))}")
    losses = dataset[by].fillna(np.inf)
    best = losses.copy(data=np.minimum.accumulate(losses.values, axis=losses.get_axis_num("step")))
    improved = losses < best.shift(step=1, fill_value=np.inf)
    records = xarray.DataArray(np.arange(losses.sizes["step"]), dims="step")
    since = records - xarray.where(improved, records, -1).cumulative("step").max().clip(min=0)
    over = (since >= patience).cumulative("step").max() > 0
    place = losses.where(~over, np.inf).argmin("step")
    chosen = dataset.isel(step=place)
    return chosen.drop_vars("step").assign(stop=dataset.step[place].drop_vars("step"))
