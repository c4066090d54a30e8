"""Tangent kernels inside a sweep, whose points are traced while the sweep's mesh is set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import empirical, sweeps

X = np.linspace(-1.0, 1.0, 6, dtype=np.float32).reshape(2, 3)


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def weights(scale):
    row = scale * jnp.cos(jnp.arange(16.0))
    return {"w": row[:12].reshape(3, 4), "v": row[12:].reshape(4, 1)}


def by_gradients(scale):
    rows = jax.vmap(jax.grad(lambda p, x: network(p, x[None])[0, 0]), (None, 0))(weights(scale), X)
    flat = jnp.concatenate([leaf.reshape(2, -1) for leaf in jax.tree.leaves(rows)], 1)
    return np.asarray(flat @ flat.T)


@pytest.mark.smoke
def test_points_take_kernels_their_means_products_and_linearizations():
    def point(scale, key):
        params, ones = weights(scale), jnp.ones((2, 1))
        mean = empirical.mean_ntk(lambda key: params, network, X, None, key, 2)
        line = empirical.linearize(network, weights(1.0))
        return {
            "kernel": sweeps.named(empirical.ntk(network, params, X, output="trace"), "row", "column"),
            "mean": sweeps.named(mean.kernel, "row", "column"),
            "product": sweeps.named(empirical.ntk_operator(network, params, X)(ones)[:, 0], "row"),
            "line": sweeps.named(line(params, X)[:, 0], "row"),
        }

    found = sweeps.run(point, sweeps.grid(scale=[0.5, 1.0]), key=0, progress=False)
    assert (found.status == 0).all()
    for scale in (0.5, 1.0):
        at, exact = found.sel(scale=scale), by_gradients(scale)
        for name in ("kernel", "mean"):
            np.testing.assert_allclose(at[name].values, exact, rtol=1e-5)
        np.testing.assert_allclose(at["product"].values, exact.sum(1), rtol=1e-5)
    np.testing.assert_allclose(found.line.sel(scale=1.0), np.asarray(network(weights(1.0), X))[:, 0], rtol=1e-5)
