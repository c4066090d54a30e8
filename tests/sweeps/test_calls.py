"""Points that are called as they are, one by one: NumPy inside, trainings with checkpoints, datasets."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray
from sweeps.common import keyed, run

from jaxtheory import networks, sweeps
from jaxtheory.results import Status

GRID = sweeps.grid(width=[2, 3], rate=[0.5, 1.0])


def test_a_called_point_uses_numpy_and_python(tmp_path):
    def point(width, rate, key):
        assert isinstance(width, int)
        assert isinstance(rate, float)
        draw = float(jax.random.uniform(key))
        return {"draw": draw, "path": sweeps.named(np.arange(4.0) * rate, "time"), "even": width % 2 == 0}

    ds = run(point, GRID, vmap=False, out=tmp_path / "a.zarr", key=5)
    assert ds.even.values.tolist() == [[True, True], [False, False]]
    for i, width in enumerate([2, 3]):
        for j, rate in enumerate([0.5, 1.0]):
            key = keyed(jax.random.key(5), width=np.int64(width), rate=np.float64(rate))
            assert float(ds.draw[i, j]) == pytest.approx(float(jax.random.uniform(key)))
            np.testing.assert_array_equal(ds["path"][i, j], np.arange(4.0) * rate)


def test_a_call_that_raises_marks_its_point_and_is_tried_again_on_request(tmp_path):
    broken = [3]

    def point(width, rate, key):
        if width in broken:
            raise ArithmeticError("odd")
        return {"value": width * rate}

    point.version = 1
    ds = run(point, GRID, vmap=False, out=tmp_path / "a.zarr")
    assert ds.status.values.tolist() == [[0, 0], [Status.INVALID_INPUT] * 2]
    broken.clear()
    ds = run(point, GRID, vmap=False, out=tmp_path / "a.zarr", retry="failed")
    assert ds.value.values.tolist() == [[1.0, 2.0], [1.5, 3.0]]
    assert int(abs(ds.status).max()) == 0


def test_a_called_point_goes_on_at_its_checkpoint(tmp_path):
    """Killed in the middle of the second point, twice; nothing is left beside the store in the end."""
    steps, kills = [], [3, 2]

    def point(x, key, checkpoint):
        checkpoint.every = 0.0
        state = checkpoint.load(like={"step": 0, "total": 0.0}) or {"step": np.zeros((), int), "total": np.zeros(())}
        while state["step"] < 5:
            steps.append(x)
            if x == 2 and kills:
                kills[-1] -= 1
                if kills[-1] == 0:
                    kills.pop()
                    raise KeyboardInterrupt
            state = {"step": state["step"] + 1, "total": state["total"] + x}
            if checkpoint.due():
                checkpoint.save(state)
        return {"total": state["total"]}

    point.version = 1
    grid, out = sweeps.grid(x=[1, 2, 3]), tmp_path / "a.zarr"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(point, grid, vmap=False, out=out)
    ds = run(point, grid, vmap=False, out=out)
    assert ds.total.values.tolist() == [5.0, 10.0, 15.0]
    assert steps.count(1) == 5
    assert steps.count(2) == 5 + 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_checkpoint_of_another_point_is_not_found(tmp_path):
    def point(x, key, checkpoint, shift):
        found = checkpoint.load(like={"step": 0})
        checkpoint.save({"step": np.asarray(x)})
        if found is None and not shift:
            raise KeyboardInterrupt
        return {"found": -1 if found is None else int(found["step"])}

    def other(x, key, checkpoint):
        return point(x, key, checkpoint, 1)

    with pytest.raises(KeyboardInterrupt):
        run(lambda x, key, checkpoint: point(x, key, checkpoint, 0), sweeps.grid(x=[1]), vmap=False, out=tmp_path / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(other, sweeps.grid(x=[1]), vmap=False, out=tmp_path / "a").found.values.tolist() == [-1]


def test_a_time_limit_keeps_the_precision_of_the_caller():
    """The call runs in a thread, which does not inherit the settings of its parent."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        point = lambda x, key: {"half": jnp.asarray(x) / 3}  # noqa: E731
        ds = run(point, sweeps.grid(x=[1.0, 2.0]), vmap=False, time_limit=60.0)
    assert ds.half.dtype == np.float64
    assert ds.half.values[0] == 1 / 3


def test_a_dataset_is_returned_with_its_coordinates():
    def point(x, key):
        curve = xarray.DataArray(x * np.arange(3.0), dims="time", coords={"time": [0, 10, 20]})
        return xarray.Dataset({"curve": curve})

    ds = run(point, sweeps.grid(x=[1.0, 2.0]), vmap=False)
    assert ds.curve.sel(time=20, x=2.0) == 4.0


@pytest.mark.slow
def test_train_widths_inside_a_sweep(tmp_path):
    """Noise levels and optimizers as axes, widths and seeds inside; the store holds what direct calls return."""
    x = jax.random.normal(jax.random.key(1), (16, 3))
    y = (x[:, 0] > 0).astype(int)

    def train(noise, optimizer, checkpoint=None):
        return networks.train_widths(
            x[:10], y[:10], x[10:], y[10:], widths=[2, 3], seeds=2, optimizer=optimizer, steps=4, record_every=2,
            label_noise=noise, checkpoint=checkpoint,
        ).dataset  # fmt: skip

    def point(noise, optimizer, key, checkpoint):
        return train(noise, optimizer, checkpoint)

    optimizers = {"sgd": optax.sgd(0.1), "decayed": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))}
    grid = sweeps.grid(noise=[0.0, 0.2], optimizer=optimizers)
    ds = run(point, grid, vmap=False, out=tmp_path / "a.zarr")
    assert ds.test_loss.dims[:2] == ("noise", "optimizer")
    assert ds.optimizer.values.tolist() == ["sgd", "decayed"]
    expected = train(0.2, optimizers["decayed"])
    found = ds.sel(noise=0.2, optimizer="decayed")
    for name in ("train_loss", "test_loss"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    np.testing.assert_array_equal(ds.width, [2, 3])
