"""Early stopping against the loop that would have stopped."""

import numpy as np
import pytest
import xarray as xr

from jaxtheory import networks


def loop(losses, patience):
    """The record at which training with this patience ends with its best network."""
    best, place, waited = np.inf, 0, 0
    for index, loss in enumerate(losses):
        if loss < best:
            best, place, waited = loss, index, 0
        else:
            waited += 1
            if waited >= patience:
                break
    return place


@pytest.mark.parametrize("patience", [1, 2, 5, 100])
def test_each_network_stops_as_the_loop_would(patience):
    """Random walks with ties and NaN, over widths and seeds."""
    rng = np.random.default_rng(patience)
    losses = np.round(np.cumsum(rng.standard_normal((4, 50, 30)), axis=-1)) + 30.0
    losses[0, :, 7:] = np.nan
    steps = 10 * np.arange(1, 31)
    data = {"test_loss": (("width", "seed", "step"), losses), "train_loss": (("width", "seed", "step"), losses**2)}
    dataset = xr.Dataset(data | {"status": (("width", "seed"), np.zeros((4, 50), int))}, coords={"step": steps})
    found = networks.stopped_early(dataset, patience)
    assert found.test_loss.dims == ("width", "seed")
    for place in np.ndindex(4, 50):
        index = loop(losses[place], patience)
        assert found.stop.values[place] == steps[index]
        assert found.test_loss.values[place] == losses[place][index]
        assert found.train_loss.values[place] == losses[place][index] ** 2
    assert "status" in found


def test_what_cannot_stop_is_named():
    dataset = xr.Dataset({"test_loss": ("step", [1.0])}, coords={"step": [1]})
    with pytest.raises(ValueError, match="patience must be >= 1"):
        networks.stopped_early(dataset, 0)
    with pytest.raises(ValueError, match=r"by must be a variable with the dimension step, got by=loss; choose among"):
        networks.stopped_early(dataset, 1, by="loss")
